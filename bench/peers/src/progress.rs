// SPDX-License-Identifier: Apache-2.0
//! How long a comparison takes: said when it begins, and corrected by what its runs have taken.

use std::time::{Duration, Instant};

/// Runs that are planned and done.
pub struct Progress {
    planned: u32,
    done: u32,
    began: Instant,
    guess: Duration,
}

impl Progress {
    /// Of so many runs, each of which takes about `guess`.
    #[must_use]
    pub fn new(planned: u32, guess: Duration) -> Self {
        Self { planned, done: 0, began: Instant::now(), guess }
    }

    /// A run is done; how far it is, in words.
    pub fn step(&mut self) -> String {
        self.done += 1;
        // Repeated runs come on top of the plan.
        self.planned = self.planned.max(self.done);
        format!("{} of {}, {}", self.done, self.planned, minutes(self.left()))
    }

    /// So many runs are still to come: what was repeated or left out so far takes nothing from them.
    pub fn to_come(&mut self, runs: u32) {
        self.planned = self.done.saturating_add(runs);
    }

    /// What is left at the pace of the runs so far.
    #[must_use]
    pub fn left(&self) -> Duration {
        let each = self.began.elapsed().checked_div(self.done).unwrap_or(self.guess);
        each * (self.planned - self.done)
    }
}

/// For people.
#[must_use]
pub fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 90 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_run_the_guess_counts_and_nothing_is_ever_left_over() {
        let mut progress = Progress::new(3, Duration::from_secs(60));
        assert_eq!((progress.left(), minutes(progress.left())), (Duration::from_secs(180), "3 min".to_owned()));
        assert!(progress.step().starts_with("1 of 3, "));
        progress.to_come(1);
        assert_eq!(progress.step(), "2 of 2, 0 s");
        progress.step();
        progress.to_come(4);
        assert!(progress.step().starts_with("4 of 7, "));
        assert_eq!(minutes(Duration::from_secs(89)), "89 s");
    }
}

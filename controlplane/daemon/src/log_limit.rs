// SPDX-License-Identifier: Apache-2.0
//! A bound on log lines that peers can cause: ten per second and kind, the rest counted (RELIABILITY S18).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines per kind and second.
const LINES: u32 = 10;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u32,
    suppressed: u64,
}

/// Windows by kind; kinds are literals in this program, so there are few.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    window_by_kind: BTreeMap<&'static str, Window>,
}

impl LogLimit {
    /// Whether a line of this kind may be written; if so, how many were not since the last one that was.
    pub(crate) fn admit(&mut self, now: Instant, kind: &'static str) -> Option<u64> {
        let fresh = || Window { start: now, lines: 0, suppressed: 0 };
        let window = self.window_by_kind.entry(kind).or_insert_with(fresh);
        if now.saturating_duration_since(window.start) >= WINDOW {
            window.start = now;
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_pass_and_the_eleventh_is_counted() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| limit.admit(start, "a").is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.admit(start, "b"), Some(0), "kinds do not share a window");
        assert_eq!(limit.admit(start + Duration::from_millis(999), "a"), None);
        assert_eq!(limit.admit(start + WINDOW, "a"), Some(991), "the next line says how many were left out");
        assert_eq!(limit.admit(start + WINDOW, "a"), Some(0));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the machine was before a run and after it: a run is refused where the two lie apart.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cpu::{self, Spinner, as_f64};
use crate::reference;

/// Until the idle thread has the core again.
const SETTLE: Duration = Duration::from_millis(50);

/// A look at a core that nobody else uses.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Calibration {
    /// Loops per second of the idle thread.
    pub idle_rate: f64,
    /// The longest time that it did not run: what the core loses to interrupts and the hypervisor, ns.
    pub longest_gap_ns: u64,
    /// What the fixed packet of [`reference`] takes, ns.
    pub packet_ns: f64,
}

impl Calibration {
    /// Looks at the spinner's core for so long, and a quarter of a second more.
    ///
    /// # Errors
    /// When the idle thread does not run, or the reference cannot.
    pub fn take(spinner: &Spinner, time: Duration) -> Result<Self> {
        let packet_ns = reference::packet_ns(spinner.cpu())?;
        // The idle thread did not run meanwhile, and says so when it does again.
        std::thread::sleep(SETTLE);
        let _ = spinner.take_gap_ns();
        let idle_rate = spinner.calibrate(time)?;
        Ok(Self { idle_rate, longest_gap_ns: spinner.take_gap_ns(), packet_ns })
    }
}

/// The calibrations before and after one run.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Calibrations {
    /// Before the server was there.
    pub before: Calibration,
    /// When it was gone.
    pub after: Calibration,
}

impl Calibrations {
    /// Loops per second of the idle thread, before and after.
    #[must_use]
    pub const fn idle_rates(&self) -> [f64; 2] {
        [self.before.idle_rate, self.after.idle_rate]
    }

    /// Mean loops per second of the idle thread.
    #[must_use]
    pub const fn idle_rate(&self) -> f64 {
        f64::midpoint(self.before.idle_rate, self.after.idle_rate)
    }

    /// Mean time of the fixed packet, ns.
    #[must_use]
    pub const fn packet_ns(&self) -> f64 {
        f64::midpoint(self.before.packet_ns, self.after.packet_ns)
    }

    /// The longest gap of the idle core, µs.
    #[must_use]
    pub fn longest_gap_us(&self) -> f64 {
        as_f64(self.before.longest_gap_ns.max(self.after.longest_gap_ns)) / 1000.0
    }

    /// How far the idle thread's two rates lie apart, percent of the first.
    #[must_use]
    pub fn drift_percent(&self) -> f64 {
        cpu::drift(self.before.idle_rate, self.after.idle_rate) * 100.0
    }

    /// For a report.
    #[must_use]
    pub fn figures(&self) -> Value {
        let both = [self.before, self.after];
        json!({
            "loops_per_second": self.idle_rates(), "drift_percent": self.drift_percent(),
            "longest_gaps_us": both.map(|one| as_f64(one.longest_gap_ns) / 1000.0),
            "reference_packet_ns": both.map(|one| one.packet_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_no_gap_of_the_idle_thread() {
        let spinner = Spinner::start(0).expect("a spinner");
        let looks = [(); 6].map(|()| Calibration::take(&spinner, Duration::from_millis(20)).expect("a calibration"));
        // A busy machine takes the core away for milliseconds; the reference has it for a quarter of a second.
        let long = looks.iter().filter(|look| look.longest_gap_ns > 200_000_000).count();
        assert!(long < 2, "{looks:?}");
        assert!(looks.iter().all(|look| look.packet_ns > 100.0 && look.idle_rate > 0.0), "{looks:?}");
    }
}

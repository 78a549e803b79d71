// SPDX-License-Identifier: Apache-2.0
//! A run over time: what had left and what had come, and from that how long a server takes until it is its usual self again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bench_trafficgen::mono_ns;
use hdrhistogram::Histogram;

use crate::latency::{self, Timed};
use crate::sink::Sink;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Probes are looked at in parts of the run of this length.
const BIN_NS: u64 = 200_000_000;
/// A latency is usual up to so many times that of before.
const USUAL: u64 = 2;

/// What had left the generator and come to the sink at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Monotonic ns.
    pub at_ns: u64,
    /// Packets that had come, to all receivers.
    pub came: u64,
    /// Packets that had left the generator.
    pub left: u64,
}

/// Looks until `done`.
///
/// # Errors
/// What the kernel says of the sink's maps.
pub fn record(sink: &Sink, left: &AtomicU64, done: &AtomicBool) -> Result<Vec<Sample>> {
    let mut trace = Vec::new();
    while !done.load(Ordering::Relaxed) {
        // In this order what is outstanding is never less than it seems.
        let came = sink.rtp()?;
        trace.push(Sample { at_ns: mono_ns(), came, left: left.load(Ordering::Relaxed) });
        std::thread::sleep(PAUSE);
    }
    Ok(trace)
}

/// When the last packet was lost, as far as a trace shows: the last look at which less was outstanding than is missing at the end.
/// Every receiver gets everything, so that a packet that leaves counts `receivers` times. `None` where nothing is missing.
#[must_use]
pub fn last_loss_ns(trace: &[Sample], receivers: u64) -> Option<u64> {
    let outstanding = |sample: &Sample| (sample.left * receivers).saturating_sub(sample.came);
    let missing = trace.last().map(outstanding)?;
    trace.iter().rev().find(|sample| outstanding(sample) < missing).map(|sample| sample.at_ns)
}

/// How much of what had left until a time was lost: the least that was outstanding from then on. 0 at the end of a trace.
#[must_use]
pub fn lost_until(trace: &[Sample], receivers: u64, at_ns: u64) -> u64 {
    let since = trace.iter().filter(|sample| sample.at_ns >= at_ns);
    since.map(|sample| (sample.left * receivers).saturating_sub(sample.came)).min().unwrap_or(0)
}

/// From when on the latency is usual again after `since_ns`: p99 of the part's probes, video or audio, at most twice that of
/// the probes before `until_ns`. `None` where it is not until the end.
///
/// # Errors
/// Never in practice: the histogram's bounds are constants.
pub fn usual_again_ns(timed: &[Timed], until_ns: u64, since_ns: u64) -> Result<Option<u64>> {
    let mut again_ns = Some(since_ns);
    for is_video in [true, false] {
        let of = || timed.iter().filter(move |one| one.is_video == is_video);
        let usual = p99(&latency::histogram(of().filter(|one| one.sent_ns < until_ns))?) * USUAL;
        let last = of().map(|one| one.sent_ns).max().unwrap_or(0);
        let mut from_ns = since_ns;
        while from_ns < last {
            let bin = latency::histogram(of().filter(|one| (from_ns..from_ns + BIN_NS).contains(&one.sent_ns)))?;
            from_ns += BIN_NS;
            if bin.is_empty() || p99(&bin) <= usual {
                continue;
            }
            again_ns = if from_ns >= last { None } else { again_ns.map(|again| again.max(from_ns)) };
        }
    }
    Ok(again_ns)
}

fn p99(histogram: &Histogram<u64>) -> u64 {
    histogram.value_at_quantile(0.99)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_loss_is_where_what_is_outstanding_was_last_less_than_what_is_missing() {
        // Two receivers. At 20 three packets are under way, at 30 one of them is lost, at 40 all is quiet, then no more loss.
        let sample = |at_ns, left, came| Sample { at_ns, left, came };
        let trace = [
            sample(10, 5, 10),
            sample(20, 8, 13),
            sample(25, 8, 16),
            sample(30, 10, 19),
            sample(40, 10, 19),
            sample(50, 12, 22),
            sample(60, 12, 23),
        ];
        assert_eq!(last_loss_ns(&trace, 2), Some(25));
        assert_eq!(last_loss_ns(&trace[..3], 2), None);
        assert_eq!([20, 26, 50].map(|at_ns| lost_until(&trace, 2, at_ns)), [0, 1, 1]);
    }

    #[test]
    fn a_latency_is_usual_again_behind_the_last_part_in_which_it_was_not() {
        let one = |ms: u64, latency_ns| Timed { sent_ns: ms * 1_000_000, latency_ns, is_video: true };
        let mut timed: Vec<_> = (0..100).map(|ms| one(ms * 10, 100_000)).collect();
        timed.extend((100..150).map(|at| one(at * 10, 400_000)));
        timed.extend((150..400).map(|at| one(at * 10, 190_000)));
        let again = |timed: &[Timed]| usual_again_ns(timed, 1_000_000_000, 1_200_000_000).expect("bounds");
        assert_eq!(again(&timed), Some(1_600_000_000));
        timed.push(one(4001, 900_000));
        assert_eq!(again(&timed), None, "it ends as it should not");
    }
}

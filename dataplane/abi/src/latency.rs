// SPDX-License-Identifier: Apache-2.0
//! The buckets of a latency histogram that lies in shared memory: who reads it twice has the histogram of what was between.
//!
//! ```text
//!  0 … 4 µs          64 buckets of 64 ns
//!  each octave then  64 buckets, each 1.6 % of where it begins or narrower; the last one takes what is longer than 8.6 s
//! ```

use core::ops::Range;

/// Finest step, as a power of two: 64 ns.
const UNIT_BITS: u32 = 6;
/// Buckets of one octave, as a power of two.
const OCTAVE_BITS: u32 = 6;
const OCTAVE: u64 = 1 << OCTAVE_BITS;
/// Buckets: 11 KiB.
pub const LATENCY_BUCKETS: usize = 1408;
const _: () = assert!(LATENCY_BUCKETS.is_multiple_of(1 << OCTAVE_BITS));

/// The bucket of a latency.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
pub const fn bucket(latency_ns: u64) -> usize {
    let units = latency_ns >> UNIT_BITS;
    let octave = (u64::BITS - (units | (OCTAVE - 1)).leading_zeros() - OCTAVE_BITS) as u64;
    // In the first two octaves a bucket is one unit wide.
    let index = match octave.checked_sub(1) {
        None => units,
        Some(shift) => (octave << OCTAVE_BITS) + ((units >> shift) & (OCTAVE - 1)),
    };
    if index < LATENCY_BUCKETS as u64 { index as usize } else { LATENCY_BUCKETS - 1 }
}

/// The latencies that a bucket counts, ns.
#[must_use]
pub const fn bounds(bucket: usize) -> Range<u64> {
    let (octave, step) = (bucket as u64 >> OCTAVE_BITS, bucket as u64 & (OCTAVE - 1));
    let (start, width) = match octave.checked_sub(1) {
        None => (step, 1),
        Some(shift) => ((step + OCTAVE) << shift, 1 << shift),
    };
    Range { start: start << UNIT_BITS, end: (start + width) << UNIT_BITS }
}

/// The latency that so many of a million are not longer than, ns; within a bucket they are taken for evenly spread. 0 where
/// nothing was counted.
#[must_use]
pub fn quantile_ns(counts: impl Iterator<Item = u64> + Clone, of_a_million: u64) -> u64 {
    let total: u64 = counts.clone().fold(0, u64::wrapping_add);
    let rank = u128::from(total) * u128::from(of_a_million);
    let rank = u64::try_from(rank.div_ceil(1_000_000)).unwrap_or(total).clamp(1, total.max(1));
    let mut before = 0_u64;
    for (bucket, count) in counts.enumerate() {
        if before.saturating_add(count) >= rank && count > 0 {
            let Range { start, end } = bounds(bucket);
            let into = u128::from(end - start) * u128::from(rank - before) / u128::from(count);
            return start + u64::try_from(into).unwrap_or(0);
        }
        before = before.saturating_add(count);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket_and_buckets_are_narrow() {
        let mut last = 0..0;
        for at in 0..LATENCY_BUCKETS {
            let own = bounds(at);
            assert_eq!(own.start, last.end, "no gap before {at}");
            assert_eq!((bucket(own.start), bucket(own.end - 1)), (at, at));
            assert!(own.end - own.start <= 64.max(own.start / 64), "{own:?}");
            last = own;
        }
        assert!(last.end > 8_000_000_000, "{last:?}");
        assert_eq!(bucket(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_what_was_between_two_looks_are_those_of_the_latencies_between_them() {
        let mut counts = [[0_u64; LATENCY_BUCKETS]; 2];
        counts[0][bucket(9_000_000)] = 50_000;
        counts[1] = counts[0];
        for latency_us in 1..=1000_u64 {
            counts[1][bucket(latency_us * 1000)] += 1;
        }
        let between = counts[1].iter().zip(&counts[0]).map(|(later, earlier)| later - earlier);
        for (of_a_million, ns) in [(500_000, 500_000), (990_000, 990_000), (1_000_000, 1_000_000)] {
            let found = quantile_ns(between.clone(), of_a_million);
            assert!(found.abs_diff(ns) <= ns / 64, "{found} is not {ns}");
        }
        assert_eq!(quantile_ns([0_u64; 3].into_iter(), 990_000), 0);
    }
}

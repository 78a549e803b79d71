// SPDX-License-Identifier: Apache-2.0
//! The largest number of receivers that somebody carries, by halving.

/// Parts of the wanted number that are told apart.
const STEPS: u32 = 20;

/// The largest number up to `most` that `carries` says yes to, to one part in twenty of `most`; `carried` is known to be one.
pub fn largest(carried: u32, most: u32, mut carries: impl FnMut(u32) -> bool) -> u32 {
    if carries(most) {
        return most;
    }
    let (mut good, mut bad) = (carried.min(most), most);
    while bad - good > (most / STEPS).max(1) {
        let middle = u32::midpoint(good, bad);
        if carries(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

/// How often `carries` is asked at most.
#[must_use]
pub fn probes(carried: u32, most: u32) -> u32 {
    let mut asked = 0;
    largest(carried, most, |_| {
        asked += 1;
        false
    });
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_within_a_twentieth_and_never_beyond_what_is_carried() {
        for limit in [50_u32, 51, 100, 137, 263, 474, 499, 500, 900] {
            let mut asked = 0;
            let found = largest(50, 500, |receivers| {
                asked += 1;
                receivers <= limit
            });
            assert!(found <= limit && (found == 500 || limit - found < 26), "{limit}: {found}");
            assert!(asked <= 6, "{asked}");
        }
        assert_eq!(largest(0, 3, |receivers| receivers <= 2), 2);
        assert_eq!((probes(50, 500), largest(50, 50, |_| false)), (6, 50));
    }
}

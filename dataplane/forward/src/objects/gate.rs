// SPDX-License-Identifier: Apache-2.0
//! When numbers of a stream were sent again: repeats within the round trip are ignored (MEDIA_RULES G11). A stream whose
//! receiver has lost nothing for a while has none.

const GATE: usize = 64;
/// A receiver that asked for nothing this long gets a fresh gate the next time: the packets that this one speaks of are older
/// than what a log is kept for.
const IDLE_MS: u32 = 10_000;

/// A number that was sent again.
#[derive(Clone, Copy, Default)]
struct Again {
    seq: u16,
    tries: u8,
    at_ms: u32,
}

/// The gate of one sent stream: 64 × 8 B.
pub(crate) struct Gate {
    sent: [Again; GATE],
    used_ms: u32,
}

const _: () = assert!(size_of::<Again>() == 8);

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { sent: [Again { seq: 0, tries: 0, at_ms: 0 }; GATE], used_ms: 0 }
    }

    /// Whether `seq` may be sent again: at most `max_tries` times, at least `gap_ms` apart.
    pub(crate) fn may_pass(&mut self, seq: u16, now_ms: u32, gap_ms: u32, max_tries: u8) -> bool {
        self.used_ms = now_ms;
        let Some(entry) = self.sent.get_mut(usize::from(seq) % GATE) else { return false };
        if entry.seq != seq || entry.tries == 0 {
            *entry = Again { seq, tries: 1, at_ms: now_ms };
            return true;
        }
        if entry.tries >= max_tries || now_ms.wrapping_sub(entry.at_ms) < gap_ms {
            return false;
        }
        entry.tries = entry.tries.saturating_add(1);
        entry.at_ms = now_ms;
        true
    }

    /// Whether nobody has asked for long enough that what is known here is of no use.
    pub(crate) const fn is_idle(&self, now_ms: u32) -> bool {
        now_ms.wrapping_sub(self.used_ms) >= IDLE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_passes_so_often_and_not_within_the_round_trip() {
        let mut gate = Gate::new();
        let start = u32::MAX - 40;
        let passed: Vec<u32> = (0..400).filter(|ms| gate.may_pass(7, start.wrapping_add(*ms), 50, 3)).collect();
        assert_eq!(passed, [0, 50, 100]);
        assert!(gate.may_pass(7 + 64, start, 50, 3), "another number in the same place");
        assert!(gate.may_pass(7, start, 50, 3));
    }

    #[test]
    fn it_is_idle_only_when_nobody_asks() {
        let mut gate = Gate::new();
        let start = u32::MAX - 5;
        assert!(gate.may_pass(1, start, 50, 3));
        assert!(!gate.is_idle(start.wrapping_add(IDLE_MS - 1)) && gate.is_idle(start.wrapping_add(IDLE_MS)));
        assert!(!gate.may_pass(1, start.wrapping_add(20), 50, 3), "refused, but asked for");
        assert!(!gate.is_idle(start.wrapping_add(IDLE_MS)));
    }
}

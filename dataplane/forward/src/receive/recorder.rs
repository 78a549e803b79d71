// SPDX-License-Identifier: Apache-2.0
//! Arrival times of a publisher's packets by transport-wide number, for transport-cc feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Arrival is where the packet entered, nothing else.

use dataplane_wire::rtcp::CompoundWriter;
use dataplane_wire::rtcp::TwccFeedback;
use dataplane_wire::seq;

/// Numbers remembered: at 1000 packets/s half a second.
const WINDOW: usize = 512;
const TICK_NS: u64 = 250_000;
/// Ticks of the reference time's unit, 64 ms.
const REFERENCE_BITS: u32 = 8;

/// The recorder of one publisher: 512 × 4 B.
pub(crate) struct Recorder {
    /// Arrival by number mod window, in ticks: as many bits as feedback has. 0 = not arrived.
    arrivals: [u32; WINDOW],
    /// First number not reported.
    begin: u64,
    /// Highest number seen + 1; 0 = none.
    end: u64,
    feedback_count: u8,
}

impl Recorder {
    pub(crate) const fn new() -> Self {
        Self { arrivals: [0; WINDOW], begin: 0, end: 0, feedback_count: 0 }
    }

    fn place(number: u64) -> usize {
        usize::try_from(number % WINDOW as u64).unwrap_or(0)
    }

    fn set(&mut self, number: u64, value: u32) {
        if let Some(place) = self.arrivals.get_mut(Self::place(number)) {
            *place = value;
        }
    }

    /// Notes that number `wire` arrived at `arrival_ns`.
    pub(crate) fn record(&mut self, wire: u16, arrival_ns: u64) {
        let number = if self.end == 0 {
            // Far enough from zero that reordering before the first number unrolls.
            let first = 0x1_0000 | u64::from(wire);
            self.begin = first;
            self.end = first;
            first
        } else {
            seq::unroll(self.end.saturating_sub(1), wire)
        };
        if number < self.begin {
            return;
        }
        if number >= self.end.saturating_add(WINDOW as u64) {
            self.arrivals = [0; WINDOW];
            self.begin = number;
            self.end = number;
        }
        while self.end <= number {
            self.set(self.end, 0);
            self.end = self.end.saturating_add(1);
        }
        self.begin = self.begin.max(self.end.saturating_sub(WINDOW as u64));
        let tick = u32::try_from((arrival_ns / TICK_NS) & u64::from(u32::MAX)).unwrap_or(0);
        // Tick 0 comes every twelve days; what arrives in it is said to arrive in the one after it.
        self.set(number, tick.max(1));
    }

    pub(crate) const fn has_news(&self) -> bool {
        self.end > self.begin
    }

    /// Appends one feedback packet about what is not reported yet; false where nothing was written.
    pub(crate) fn write(&mut self, writer: &mut CompoundWriter<'_>, sender_ssrc: u32, media_ssrc: u32) -> bool {
        let mut list = [(0_u16, None); WINDOW];
        let mut count = 0_usize;
        // Numbers that were lost right behind the last report are reported too: it begins with them.
        let base = self.begin;
        let Some(first) = (base..self.end).find_map(|number| self.arrival(number)) else { return false };
        let reference = first >> REFERENCE_BITS;
        let zero_tick = reference << REFERENCE_BITS;
        for (offset, number) in (0_u16..).zip(base..self.end) {
            let Some(arrival) = self.arrival(number) else { continue };
            if let Some(place) = list.get_mut(count) {
                *place = (offset, Some(arrival.wrapping_sub(zero_tick).cast_signed()));
                count = count.saturating_add(1);
            }
        }
        let feedback = TwccFeedback {
            sender_ssrc,
            media_ssrc,
            base_seq: seq::low16(base),
            reference_time: i32::try_from(reference).unwrap_or(0),
            feedback_count: self.feedback_count,
        };
        let arrivals = list.get(..count).unwrap_or(&[]);
        match writer.twcc(&feedback, arrivals) {
            Ok(written) if written.status_count > 0 => {
                self.feedback_count = self.feedback_count.wrapping_add(1);
                self.begin = base.saturating_add(u64::from(written.status_count));
                true
            }
            _ => {
                self.begin = self.end;
                false
            }
        }
    }

    fn arrival(&self, number: u64) -> Option<u32> {
        self.arrivals.get(Self::place(number)).copied().filter(|tick| *tick != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_wire::rtcp::{Compound, Packet};

    #[test]
    fn every_number_is_reported_once_across_the_wrap_with_its_time() {
        let mut recorder = Recorder::new();
        let mut reported = Vec::new();
        for step in 0..700_u32 {
            let wire = u16::try_from((65_300 + step) % 65_536).unwrap();
            if step % 7 != 3 {
                recorder.record(wire, 1_000_000_000 + u64::from(step) * 1_000_000);
            }
            if step % 50 == 49 {
                let mut out = [0; 1200];
                let mut writer = CompoundWriter::begin(&mut out);
                assert!(recorder.write(&mut writer, 1, 2));
                let len = writer.len();
                let compound = Compound::parse(&out[..len]).unwrap();
                for raw in compound.packets() {
                    let Packet::Twcc(twcc) = raw.unwrap() else { panic!("not transport-cc") };
                    reported.extend(twcc.statuses().map(|status| (status.seq, status.delta_us().is_some())));
                }
            }
        }
        for (step, (seq, is_received)) in reported.iter().enumerate() {
            assert_eq!(usize::from(*seq), (65_300 + step) % 65_536);
            assert_eq!(*is_received, step % 7 != 3, "number {seq}");
        }
        assert!(reported.len() >= 698);
    }
}

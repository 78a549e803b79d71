// SPDX-License-Identifier: Apache-2.0
//! What arrives in one slot: numbers that came, that are missing and that came back. It must never count a packet twice,
//! nor remember without bound.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rtcp::ReportBlock;
use crate::rtp::{Header, low16, unroll};

/// How late a packet may be before it is asked for.
const PATIENCE: Duration = Duration::from_millis(10);
/// Between two requests for the same packet.
const REPEAT: Duration = Duration::from_millis(60);
/// Requests for one packet.
const MAX_TRIES: u8 = 10;
/// A packet that has not come by then is lost.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How long a stream may go on without its first keyframe, and between two requests for one.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
/// Numbers that may be missing at once; a larger gap is a jump.
const MAX_MISSING: usize = 1024;

/// Counts of one slot, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that came, those sent again included.
    pub(crate) received: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Numbers that came by retransmission.
    pub(crate) recovered: u64,
    /// Numbers that came twice under different packets.
    pub(crate) duplicates: u64,
    /// Gaps too large to be losses.
    pub(crate) jumps: u64,
    /// Keyframes of VP8 that began.
    pub(crate) keyframes: u64,
}

impl Counts {
    /// Adds those of another slot.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { received, bytes, lost, recovered, duplicates, jumps, keyframes } = other;
        self.received += received;
        self.bytes += bytes;
        self.lost += lost;
        self.recovered += recovered;
        self.duplicates += duplicates;
        self.jumps += jumps;
        self.keyframes += keyframes;
    }
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    asked: Option<Instant>,
    tries: u8,
}

/// One slot's stream.
#[derive(Debug)]
pub(crate) struct Stream {
    ssrc: u32,
    is_video: bool,
    /// Index of the first packet and of the highest.
    range: Option<(u64, u64)>,
    missing: BTreeMap<u64, Missing>,
    counts: Counts,
    first_at: Option<Instant>,
    /// The last arrival minus its time stamp, in ticks, and the jitter times 16 (RFC 3550 A.8).
    transit: Option<u32>,
    jitter: u32,
    last_sr: Option<(u32, Instant)>,
    keyframe_asked: Option<Instant>,
    /// Expected and lost at the last report.
    reported: (u64, u64),
}

impl Stream {
    /// For a slot that the answer has.
    pub(crate) fn new(ssrc: u32, is_video: bool) -> Self {
        Self {
            ssrc,
            is_video,
            range: None,
            missing: BTreeMap::new(),
            counts: Counts::default(),
            first_at: None,
            transit: None,
            jitter: 0,
            last_sr: None,
            keyframe_asked: None,
            reported: (0, 0),
        }
    }

    /// When the first packet came.
    pub(crate) fn first_at(&self) -> Option<Instant> {
        self.first_at
    }

    /// A packet of the stream itself.
    pub(crate) fn take(&mut self, header: &Header, packet: &[u8], now: Instant) {
        self.first_at.get_or_insert(now);
        self.count(packet.len());
        let payload = packet.get(header.len..).unwrap_or_default();
        if self.is_video && begins_keyframe(payload) {
            self.counts.keyframes += 1;
        }
        self.measure(header.timestamp, now);
        let index =
            self.range.map_or_else(|| (1 << 16) | u64::from(header.seq), |(_, highest)| unroll(highest, header.seq));
        self.arrived(index, false, now);
    }

    /// A packet that brings `number` back.
    pub(crate) fn take_again(&mut self, number: u16, len: usize, now: Instant) {
        self.count(len);
        if let Some((_, highest)) = self.range {
            self.arrived(unroll(highest, number), true, now);
        }
    }

    fn count(&mut self, len: usize) {
        self.counts.received += 1;
        self.counts.bytes += u64::try_from(len).unwrap_or(0);
    }

    fn arrived(&mut self, index: u64, again: bool, now: Instant) {
        let Some((first, highest)) = self.range else {
            self.range = Some((index, index));
            return;
        };
        if index <= highest {
            match self.missing.remove(&index) {
                Some(_) => self.counts.recovered += u64::from(again),
                // Before the first one that came: not ours to judge.
                None if index < first => {}
                None => self.counts.duplicates += 1,
            }
            return;
        }
        self.range = Some((first, index));
        let gap = usize::try_from(index - highest - 1).unwrap_or(usize::MAX);
        if self.missing.len().saturating_add(gap) > MAX_MISSING {
            self.counts.jumps += 1;
            return;
        }
        let missing = || Missing { since: now, asked: None, tries: 0 };
        self.missing.extend((highest + 1..index).map(|number| (number, missing())));
    }

    fn measure(&mut self, timestamp: u32, now: Instant) {
        let ticks_per_ms = if self.is_video { 90 } else { 48 };
        let since = now.duration_since(*self.first_at.get_or_insert(now)).as_millis();
        let Ok(arrival) = u32::try_from(since * ticks_per_ms % (1 << 32)) else { return };
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(before);
            let distance = difference.min(difference.wrapping_neg());
            self.jitter = self.jitter.saturating_sub((self.jitter + 8) >> 4).saturating_add(distance);
        }
    }

    /// The sender told its time.
    pub(crate) fn sender_report(&mut self, ntp_middle: u32, now: Instant) {
        self.last_sr = Some((ntp_middle, now));
    }

    /// Numbers to ask for now; what has been waited for too long is lost.
    pub(crate) fn wanted(&mut self, now: Instant) -> Vec<u16> {
        let before = self.missing.len();
        self.missing.retain(|_, missing| now < missing.since + GIVE_UP);
        self.counts.lost += u64::try_from(before - self.missing.len()).unwrap_or(0);
        if !self.is_video {
            return Vec::new();
        }
        let mut numbers = Vec::new();
        for (index, missing) in &mut self.missing {
            let is_due = missing.asked.map_or(missing.since + PATIENCE, |asked| asked + REPEAT) <= now;
            if is_due && missing.tries < MAX_TRIES {
                missing.asked = Some(now);
                missing.tries += 1;
                numbers.push(low16(*index));
            }
        }
        numbers
    }

    /// True if a keyframe is to be asked for: packets come, and no keyframe was among them.
    pub(crate) fn wants_keyframe(&mut self, now: Instant) -> bool {
        let since = self.keyframe_asked.or(self.first_at);
        let is_due = since.is_some_and(|since| now >= since + KEYFRAME_PATIENCE);
        let wants = self.is_video && self.counts.keyframes == 0 && is_due;
        if wants {
            self.keyframe_asked = Some(now);
        }
        wants
    }

    /// The block of a receiver report; `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let (first, highest) = self.range?;
        let expected = highest - first + 1;
        let lost = self.counts.lost + u64::try_from(self.missing.len()).unwrap_or(0);
        let (expected_since, lost_since) = (expected - self.reported.0, lost.saturating_sub(self.reported.1));
        self.reported = (expected, lost);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255);
        let (last_sr, delay) = self.last_sr.map_or((0, 0), |(middle, at)| {
            let delay = now.duration_since(at).as_micros() * 65_536 / 1_000_000;
            (middle, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: u32::try_from(lost).unwrap_or(u32::MAX),
            highest: u32::try_from(highest % (1 << 32)).unwrap_or(0),
            jitter: self.jitter >> 4,
            last_sr,
            delay,
        })
    }

    /// Counts so far; what is missing now is lost.
    pub(crate) fn counts(&self) -> Counts {
        Counts { lost: self.counts.lost + u64::try_from(self.missing.len()).unwrap_or(0), ..self.counts }
    }
}

/// True for the first packet of a VP8 keyframe (RFC 7741 §4.2, §4.3).
fn begins_keyframe(payload: &[u8]) -> bool {
    let Some((&first, mut rest)) = payload.split_first() else { return false };
    if first & 0x17 != 0x10 {
        return false;
    }
    if first & 0x80 != 0 {
        let Some((&extension, after)) = rest.split_first() else { return false };
        let picture = match (extension & 0x80 != 0, after.first()) {
            (true, Some(byte)) if byte & 0x80 != 0 => 2,
            (true, _) => 1,
            (false, _) => 0,
        };
        let more = picture + usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        rest = after.get(more..).unwrap_or_default();
    }
    rest.first().is_some_and(|tag| tag & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::packet;

    fn take(stream: &mut Stream, seq: u16, now: Instant) {
        let written = packet(96, true, seq, 0, 5, &[&[0; 10]]);
        stream.take(&Header::parse(&written).expect("a header"), &written, now);
    }

    #[test]
    fn what_is_missing_is_asked_for_until_it_comes_or_is_lost() {
        let start = Instant::now();
        let mut stream = Stream::new(5, true);
        for seq in [65_534, 65_535, 2, 3] {
            take(&mut stream, seq, start);
        }
        assert!(stream.wanted(start).is_empty(), "it may just be late");
        let soon = start + Duration::from_millis(20);
        assert_eq!(stream.wanted(soon), [0, 1]);
        assert!(stream.wanted(soon).is_empty(), "once at a time");
        stream.take_again(0, 30, soon);
        assert_eq!(stream.wanted(soon + REPEAT), [1]);
        assert_eq!((stream.counts().recovered, stream.counts().lost), (1, 1));
        assert!(stream.wanted(start + GIVE_UP).is_empty());
        let block = stream.report(start + GIVE_UP).expect("a block");
        assert_eq!((block.lost, block.highest, block.fraction_lost), (1, 0x2_0003, 42));
        let counts = stream.counts();
        assert_eq!((counts.received, counts.lost, counts.duplicates), (5, 1, 0));
    }

    #[test]
    fn late_packets_fill_gaps_and_repeated_ones_are_seen() {
        let now = Instant::now();
        let mut stream = Stream::new(5, false);
        for seq in [10, 12, 11, 11, 9] {
            take(&mut stream, seq, now);
        }
        let counts = stream.counts();
        assert_eq!((counts.received, counts.lost, counts.duplicates, counts.recovered), (5, 0, 1, 0));
        take(&mut stream, 20_000, now);
        assert_eq!((stream.counts().jumps, stream.counts().lost), (1, 0));
        assert!(stream.wanted(now + PATIENCE).is_empty(), "audio is not asked for");
    }

    #[test]
    fn a_stream_without_a_keyframe_asks_for_one() {
        let now = Instant::now();
        let mut stream = Stream::new(5, true);
        assert!(!stream.wants_keyframe(now + KEYFRAME_PATIENCE), "nothing comes");
        take(&mut stream, 1, now);
        assert!(!stream.wants_keyframe(now));
        assert!(stream.wants_keyframe(now + KEYFRAME_PATIENCE) && !stream.wants_keyframe(now + KEYFRAME_PATIENCE));
        let keyframe = packet(96, true, 2, 0, 5, &[&[0x10, 0x10]]);
        stream.take(&Header::parse(&keyframe).expect("a header"), &keyframe, now);
        assert!(!stream.wants_keyframe(now + 4 * KEYFRAME_PATIENCE));
    }

    #[test]
    fn a_keyframe_is_told_by_its_descriptor() {
        assert!(begins_keyframe(&[0x90, 0xF0, 0x80, 1, 1, 0x20, 0x10]));
        assert!(!begins_keyframe(&[0x90, 0xF0, 0x80, 1, 1, 0x20, 0x11]));
        assert!(!begins_keyframe(&[0x80, 0xF0, 0x80, 1, 1, 0x20, 0x10]), "not the first packet");
        assert!(begins_keyframe(&[0x10, 0x10]) && !begins_keyframe(&[0x10]) && !begins_keyframe(&[]));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The bed's media, one packet after the other: what `bench-trafficgen` sends, for publishers that have a transport of their
//! own. It must never send faster than the shapes say: frames that are late by more than a second are left out.

use std::time::{Duration, Instant};

use bench_bots::rtp;
use bench_trafficgen::media::Shape;
use bench_trafficgen::payload::{self, Place};
use bench_trafficgen::sender::Probe;

/// Probes have ids from 1 to this, and then from 1 again.
const PROBE_IDS: u32 = 600;
/// Frames that are later than this are left out.
const MAX_LATE: Duration = Duration::from_secs(1);
const FIRST_SEQ: u16 = 1000;

/// A stream as its publisher numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Picture or sound.
    pub is_video: bool,
    /// SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub pt: u8,
}

/// Where a stream stands.
pub struct Stream {
    source: Source,
    shape: Shape,
    began: Instant,
    frame: u64,
    number: u64,
    timestamp: u32,
    next_probe: u32,
}

impl Stream {
    /// From now on.
    #[must_use]
    pub fn new(source: Source, began: Instant) -> Self {
        let shape = if source.is_video { Shape::VIDEO } else { Shape::AUDIO };
        Self { source, shape, began, frame: 0, number: 0, timestamp: source.ssrc, next_probe: 0 }
    }

    /// What it is.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// When the next frame is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.began + Duration::from_nanos(self.shape.due_ns(self.frame))
    }

    /// The packets of the frame that is due, and its id if it is a probe.
    pub fn frame(&mut self, now: Instant) -> (Vec<Vec<u8>>, Option<u32>) {
        while self.due() + MAX_LATE < now {
            self.frame += 1;
        }
        let Source { is_video, ssrc, pt } = self.source;
        let mut step = self.shape.step(if is_video { 90_000 } else { 48_000 });
        let mut probe = None;
        if self.shape.is_probe(self.frame) {
            self.next_probe = self.next_probe % PROBE_IDS + 1;
            step += self.next_probe;
            probe = Some(self.next_probe);
        }
        self.timestamp = self.timestamp.wrapping_add(if self.frame == 0 { 0 } else { step });
        let count = self.shape.packets(self.frame);
        let mut body = vec![0; self.shape.payload];
        let mut packets = Vec::new();
        for nth in 0..count {
            let is_keyframe = self.frame.is_multiple_of(self.shape.keyframe_every.max(1));
            let place = Place { number: self.number, frame: self.frame, is_first: nth == 0, is_keyframe };
            payload::write(&mut body, is_video, ssrc, place);
            let seq = FIRST_SEQ.wrapping_add(rtp::low16(self.number));
            let marker = is_video && nth + 1 == count;
            packets.push(rtp::packet(pt, marker, seq, self.timestamp, ssrc, &[&body]));
            self.number += 1;
        }
        self.frame += 1;
        (packets, probe)
    }
}

/// What a publisher has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Packets of video, and of audio.
    pub packets: [u64; 2],
    /// Probes, in order.
    pub probes: Vec<Probe>,
}

impl Published {
    /// Counts a packet of a source.
    pub fn count(&mut self, source: Source) {
        let [video, audio] = &mut self.packets;
        *(if source.is_video { video } else { audio }) += 1;
    }

    /// Packets of both.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_sends_at_its_rate_what_can_be_told_apart() {
        let began = Instant::now();
        let mut stream = Stream::new(Source { is_video: true, ssrc: 7, pt: 96 }, began);
        let (mut numbers, mut probes) = (Vec::new(), 0);
        while stream.due() < began + Duration::from_secs(16) {
            let (packets, probe) = stream.frame(stream.due());
            probes += usize::from(probe.is_some());
            for packet in packets {
                let header = rtp::Header::parse(&packet).expect("a header");
                let (ssrc, number) = payload::read(&packet[header.len..], true).expect("what was written");
                assert_eq!((ssrc, header.seq), (7, FIRST_SEQ.wrapping_add(rtp::low16(number))));
                numbers.push(number);
            }
        }
        assert_eq!(numbers, (0..2500).collect::<Vec<_>>(), "156.25 packets per second");
        assert_eq!(probes, 7, "one frame in 64 but the first");
    }

    #[test]
    fn a_stream_that_was_held_up_does_not_send_everything_at_once() {
        let began = Instant::now();
        let mut stream = Stream::new(Source { is_video: false, ssrc: 7, pt: 111 }, began);
        let _ = stream.frame(began + Duration::from_secs(60));
        assert!(stream.due() > began + Duration::from_secs(58));
    }
}

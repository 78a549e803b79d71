// SPDX-License-Identifier: Apache-2.0
//! Synthetic camera and microphone: packets as a call has them, with descriptors that are true and payload that means
//! nothing. It must never spend a number twice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::numbers::Numbers;
use crate::rtcp::SenderInfo;
use crate::rtp;
use crate::sdp::{OPUS, OwnSsrcs, RTX, VP8};

/// Payload bytes of a video packet at most: what browsers send.
const MAX_PAYLOAD: usize = 1150;
/// A keyframe is this many times a usual frame.
const KEYFRAME_FACTOR: usize = 3;
/// Least time between two keyframes that are asked for.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(300);
/// Packets that can be sent again.
const HISTORY: usize = 512;
/// Between two packets of Opus.
const OPUS_PACKET: Duration = Duration::from_millis(20);
/// About 32 kbit/s.
const OPUS_BYTES: usize = 80;
/// What a source that is late leaves out.
const MAX_LATE: Duration = Duration::from_millis(200);
const SCREEN: (u16, u16) = (640, 360);

/// One outgoing RTP stream's numbers.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    packets: u32,
    bytes: u32,
}

impl Stream {
    fn new(ssrc: u32, numbers: &mut Numbers) -> Self {
        Self { ssrc, seq: numbers.half(), timestamp: numbers.word(), packets: 0, bytes: 0 }
    }

    fn packet(&mut self, pt: u8, marker: bool, payload: &[&[u8]]) -> Vec<u8> {
        let packet = rtp::packet(pt, marker, self.seq, self.timestamp, self.ssrc, payload);
        self.count(packet.len());
        packet
    }

    fn count(&mut self, len: usize) {
        self.seq = self.seq.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u32::try_from(len.saturating_sub(rtp::HEADER)).unwrap_or(0));
    }

    fn info(&self, ntp: u64) -> SenderInfo {
        let Self { ssrc, timestamp, packets, bytes, .. } = *self;
        SenderInfo { ssrc, ntp, timestamp, packets, bytes }
    }
}

/// Camera and microphone of a publisher.
#[derive(Debug)]
pub(crate) struct Sources {
    video: Stream,
    rtx: Stream,
    audio: Stream,
    numbers: Numbers,
    picture: u16,
    wants_keyframe: bool,
    last_keyframe: Option<Instant>,
    frame: Duration,
    frame_bytes: usize,
    next_frame: Instant,
    next_audio: Instant,
    history: VecDeque<(u16, Vec<u8>)>,
    filling: Vec<u8>,
    /// Keyframes sent.
    pub(crate) keyframes: u64,
    /// Packets sent again.
    pub(crate) resent: u64,
}

impl Sources {
    /// A camera of so many bits and frames per second.
    pub(crate) fn new(ssrcs: OwnSsrcs, (bps, fps): (u32, u32), mut numbers: Numbers, now: Instant) -> Self {
        let frame = Duration::from_secs(1) / fps.max(1);
        // Publishers that start together do not send together.
        let phase = |numbers: &mut Numbers, period: Duration| period.mul_f64(f64::from(numbers.below(1000)) / 1000.0);
        let next_frame = now + phase(&mut numbers, frame);
        let next_audio = now + phase(&mut numbers, OPUS_PACKET);
        Self {
            video: Stream::new(ssrcs.video, &mut numbers),
            rtx: Stream::new(ssrcs.video_rtx, &mut numbers),
            audio: Stream::new(ssrcs.audio, &mut numbers),
            picture: numbers.half() & 0x7fff,
            filling: (0..MAX_PAYLOAD).map(|_| u8::try_from(numbers.below(256)).unwrap_or(0)).collect(),
            numbers,
            wants_keyframe: true,
            last_keyframe: None,
            frame,
            frame_bytes: usize::try_from(bps / 8 / fps.max(1)).unwrap_or(0).max(64),
            next_frame,
            next_audio,
            history: VecDeque::with_capacity(HISTORY),
            keyframes: 0,
            resent: 0,
        }
    }

    /// When something is to be sent next.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_frame.min(self.next_audio)
    }

    /// What is due now.
    pub(crate) fn due(&mut self, now: Instant, send: &mut Vec<Vec<u8>>) {
        for next in [&mut self.next_frame, &mut self.next_audio] {
            if *next + MAX_LATE < now {
                *next = now;
            }
        }
        while self.next_audio <= now {
            self.next_audio += OPUS_PACKET;
            self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
            // A table of contents byte of one 20 ms CELT frame (RFC 6716 §3.1).
            send.push(self.audio.packet(OPUS, false, &[&[0xFC], &self.filling[..OPUS_BYTES]]));
        }
        while self.next_frame <= now {
            self.next_frame += self.frame;
            self.picture_packets(now, send);
        }
    }

    /// One VP8 frame (RFC 7741 §4.2).
    fn picture_packets(&mut self, now: Instant, send: &mut Vec<Vec<u8>>) {
        let may_keyframe = self.last_keyframe.is_none_or(|last| now >= last + KEYFRAME_PAUSE);
        let is_keyframe = self.wants_keyframe && may_keyframe;
        // From two thirds to four thirds of the mean.
        let varied = self.frame_bytes * 2 / 3
            + self.numbers.below(u32::try_from(self.frame_bytes * 2 / 3).unwrap_or(0)) as usize;
        let mut left = if is_keyframe { self.frame_bytes * KEYFRAME_FACTOR } else { varied };
        if is_keyframe {
            self.wants_keyframe = false;
            self.last_keyframe = Some(now);
            self.keyframes += 1;
        }
        self.picture = (self.picture + 1) & 0x7fff;
        let ticks = u32::try_from(self.frame.as_micros() * 9 / 100).unwrap_or(0);
        self.video.timestamp = self.video.timestamp.wrapping_add(ticks);
        let [high, low] = (0x8000 | self.picture).to_be_bytes();
        let mut is_first = true;
        while left > 0 {
            let len = left.min(MAX_PAYLOAD);
            left -= len;
            // X, then I, L, T and K: the picture's number, TL0PICIDX, TID and KEYIDX.
            let descriptor = [if is_first { 0x90 } else { 0x80 }, 0xF0, high, low, low, 0x20];
            let head = if is_first { frame_head(is_keyframe) } else { Vec::new() };
            let packet = self.video.packet(VP8, left == 0, &[&descriptor, &head, &self.filling[..len]]);
            if self.history.len() >= HISTORY {
                self.history.pop_front();
            }
            self.history.push_back((self.video.seq.wrapping_sub(1), packet.clone()));
            send.push(packet);
            is_first = false;
        }
    }

    /// Somebody needs a keyframe.
    pub(crate) fn keyframe_wanted(&mut self, ssrc: u32) {
        self.wants_keyframe |= ssrc == self.video.ssrc;
    }

    /// Somebody lost packets.
    pub(crate) fn wanted(&mut self, ssrc: u32, numbers: &[u16], send: &mut Vec<Vec<u8>>) {
        if ssrc != self.video.ssrc {
            return;
        }
        for number in numbers {
            let Some((_, original)) = self.history.iter().find(|(seq, _)| seq == number) else { continue };
            if let Some(packet) = rtp::retransmission(original, RTX, self.rtx.seq, self.rtx.ssrc) {
                self.rtx.count(packet.len());
                self.resent += 1;
                send.push(packet);
            }
        }
    }

    /// What sender reports say.
    pub(crate) fn infos(&self, ntp: u64) -> [SenderInfo; 2] {
        [self.audio.info(ntp), self.video.info(ntp)]
    }
}

/// The first bytes of a frame (RFC 6386 §9.1): a tag, and in a keyframe the start code and the size.
fn frame_head(is_keyframe: bool) -> Vec<u8> {
    let mut head = vec![if is_keyframe { 0x10 } else { 0x11 }, 0, 0];
    if is_keyframe {
        head.extend_from_slice(&[0x9d, 0x01, 0x2a]);
        head.extend_from_slice(&SCREEN.0.to_le_bytes());
        head.extend_from_slice(&SCREEN.1.to_le_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Header;

    const SSRCS: OwnSsrcs = OwnSsrcs { audio: 1, video: 2, video_rtx: 3 };

    /// Packets of so many seconds.
    fn sent(sources: &mut Sources, start: Instant, seconds: u64) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for step in 0..seconds * 200 {
            sources.due(start + Duration::from_millis(step * 5), &mut packets);
        }
        packets
    }

    #[test]
    fn a_publisher_sends_what_a_call_sends() {
        let start = Instant::now();
        let mut sources = Sources::new(SSRCS, (400_000, 15), Numbers::new(7), start);
        let packets = sent(&mut sources, start, 10);
        let of = |ssrc: u32| packets.iter().filter(move |packet| Header::parse(packet).expect("a header").ssrc == ssrc);
        assert!((499..=501).contains(&of(1).count()), "{}", of(1).count());
        let video: usize = of(2).map(Vec::len).sum();
        assert!((450_000..550_000).contains(&video), "10 s at 400 kbit/s: {video}");
        let marked = of(2).filter(|packet| packet[1] & 0x80 != 0).count();
        assert!((149..=151).contains(&marked), "{marked}");
        assert!(of(2).all(|packet| packet.len() <= 1200));
        assert_eq!(sources.keyframes, 1);
        let numbers: Vec<u16> = of(2).map(|packet| Header::parse(packet).expect("a header").seq).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    }

    #[test]
    fn keyframes_and_packets_come_again_when_asked_for() {
        let start = Instant::now();
        let mut sources = Sources::new(SSRCS, (400_000, 15), Numbers::new(7), start);
        let packets = sent(&mut sources, start, 1);
        sources.keyframe_wanted(1);
        let later = sent(&mut sources, start + Duration::from_secs(1), 1);
        assert_eq!(sources.keyframes, 1, "asked for on the microphone");
        sources.keyframe_wanted(2);
        let mut more = Vec::new();
        sources.due(start + Duration::from_secs(3), &mut more);
        assert_eq!(sources.keyframes, 2);
        let keyframe = more.iter().find(|packet| Header::parse(packet).expect("a header").ssrc == 2).expect("a packet");
        assert_eq!(keyframe[12..14], [0x90, 0xF0]);
        assert_eq!(keyframe[18] & 1, 0, "P is 0 in a keyframe");
        assert_eq!(keyframe[21..24], [0x9d, 0x01, 0x2a]);

        let video = later.iter().find(|packet| Header::parse(packet).expect("a header").ssrc == 2).expect("a packet");
        let number = Header::parse(video).expect("a header").seq;
        let mut again = Vec::new();
        sources.wanted(2, &[number, number.wrapping_sub(5000)], &mut again);
        let [resent] = again.as_slice() else { panic!("one packet: {}", again.len()) };
        assert_eq!(rtp::original_number(&resent[12..]), Some(number));
        assert_eq!(Header::parse(resent).expect("a header").ssrc, 3);
        assert!(!packets.is_empty());
    }
}

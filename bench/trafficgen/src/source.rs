// SPDX-License-Identifier: Apache-2.0
//! One track as its publisher sends it: which packet is next, when it is due, and what stands in it.

use dataplane_table::Track;

use crate::fragment::Fragment;
use crate::media::Shape;
use crate::options::{Options, Surge};
use crate::payload::{self, Layer, Place};
use crate::recording::Recording;
use crate::svc::Svc;
use crate::{av1, fragment, h264, mono_ns};

/// Probes have ids from 1 to this, and then from 1 again; see `ebpf/sink/src/layout.rs`.
const PROBE_IDS: u32 = 600;
/// Bytes of a fixed RTP header (RFC 3550 §5.1).
pub(crate) const RTP_HEAD: usize = 12;

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Next {
    /// The id of the probe that begins with it.
    pub(crate) probe: Option<u32>,
    /// Its number with the roll-over counter in front (RFC 3711 §3.3.1).
    pub(crate) index: u64,
}

/// A track.
pub(crate) struct Source {
    pub(crate) publisher: usize,
    pub(crate) track: usize,
    pub(crate) entry: Track,
    script: Script,
    /// Packets so far.
    number: u64,
    index: u64,
    timestamp: u32,
}

enum Script {
    Synthetic(Synthetic),
    /// `round_ns`: when its first packet is due after the start.
    Recorded {
        recording: Recording,
        at: usize,
        round_ns: u64,
    },
}

/// Frames of a shape.
struct Synthetic {
    shape: Shape,
    surge: Option<Surge>,
    layers: u8,
    /// VP9's, where it is that.
    svc: Option<Svc>,
    burst: u64,
    /// When frame 0 is due after the start, ns.
    offset_ns: u64,
    frame: u64,
    /// Packets of the frame, and which of them is next.
    packets: u64,
    nth: u64,
    /// The keyframe that the present ones follow, and frames of layer 0 before it.
    key_frame: u64,
    bases: u64,
    /// The next frame is a keyframe, whenever that would be due.
    wants_keyframe: bool,
}

impl Source {
    /// A track that sends as the options say; `nth` is its place among all tracks of the same shape.
    pub(crate) fn new(options: &Options, at: (usize, usize), entry: Track, nth_video: usize) -> Self {
        let mut shape = if entry.is_video() { options.video } else { options.audio };
        if let Some(bitrate) = options.encodings_bps.get(nth_video).filter(|_| entry.is_video()) {
            shape = shape.with_bitrate(*bitrate);
        }
        let recorded = options.recordings.as_ref().and_then(|recordings| recordings.of(&entry, nth_video));
        let script = match recorded {
            Some(recording) => Script::Recorded { recording: recording.clone(), at: 0, round_ns: 0 },
            None => Script::Synthetic(Synthetic::new(shape, options, entry)),
        };
        let (publisher, track) = at;
        Self { publisher, track, entry, script, number: 0, index: options.first_seq.into(), timestamp: entry.ssrc }
    }

    /// Sends its first packet after such a share of its own rhythm: not all cameras take their pictures at once.
    pub(crate) fn begin_after(&mut self, (part, parts): (u64, u64)) {
        match &mut self.script {
            Script::Synthetic(synthetic) => {
                synthetic.offset_ns = synthetic.shape.due_ns(1) * part / parts.max(1);
                synthetic.count_packets();
            }
            Script::Recorded { recording, round_ns, .. } => *round_ns = recording.rhythm_ns() * part / parts.max(1),
        }
    }

    /// When the next packet is due after the start, ns.
    pub(crate) fn due_ns(&self) -> u64 {
        match &self.script {
            Script::Synthetic(synthetic) => synthetic.due_ns(),
            Script::Recorded { recording, at, round_ns } => round_ns + recording.at_ns(*at),
        }
    }

    /// Leaves out what is due before `until_ns` and goes on with a keyframe, and numbers that are `jump` ahead.
    pub(crate) fn pause(&mut self, until_ns: u64, jump: u16) {
        self.index += u64::from(jump);
        match &mut self.script {
            Script::Synthetic(synthetic) => {
                let frames = synthetic.skip(until_ns);
                let ticks = frames * u64::from(synthetic.shape.step(self.entry.clock_rate));
                self.timestamp = self.timestamp.wrapping_add(low32(ticks));
            }
            Script::Recorded { recording, at, round_ns } => {
                let paused_ns = until_ns.saturating_sub(*round_ns + recording.at_ns(*at));
                *round_ns += paused_ns;
                self.timestamp = self.timestamp.wrapping_add(ticks(paused_ns, self.entry.clock_rate));
            }
        }
    }

    /// Somebody wants a keyframe: the next frame that begins is one. A recording cannot give it.
    pub(crate) fn ask_keyframe(&mut self) {
        if let Script::Synthetic(synthetic) = &mut self.script {
            // Before the first packet of a frame has left, that frame itself.
            if synthetic.nth > 0 {
                synthetic.wants_keyframe = true;
            } else if synthetic.frame != synthetic.key_frame {
                synthetic.begin_group();
            }
        }
    }

    /// Writes the next packet and moves on.
    pub(crate) fn next(&mut self, plain: &mut Vec<u8>, last_probe: &mut u32) -> Next {
        let (entry, index) = (self.entry, self.index);
        let seq = u16::try_from(index & 0xffff).unwrap_or(0);
        let probe = match &mut self.script {
            Script::Synthetic(synthetic) => {
                let step = synthetic.step(entry.clock_rate, last_probe);
                self.timestamp = self.timestamp.wrapping_add(step.ticks);
                plain.clear();
                plain.resize(RTP_HEAD + synthetic.shape.payload.max(payload::SHORTEST), 0);
                if let Some(body) = plain.get_mut(RTP_HEAD..) {
                    synthetic.write(body, &entry, self.number);
                }
                let is_last = synthetic.advance();
                head(plain, &entry, seq, self.timestamp, entry.is_video() && is_last);
                step.probe
            }
            Script::Recorded { recording, at, round_ns } => {
                plain.clear();
                plain.resize(RTP_HEAD, 0);
                let marker = recording.write(*at, plain);
                head(plain, &entry, seq, self.timestamp, marker);
                *at += 1;
                if *at == recording.len() {
                    (*at, *round_ns) = (0, *round_ns + recording.round_ns());
                }
                self.timestamp = self.timestamp.wrapping_add(recording.ticks_before(*at, entry.clock_rate));
                None
            }
        };
        self.number += 1;
        self.index += 1;
        Next { probe, index }
    }
}

struct Step {
    ticks: u32,
    probe: Option<u32>,
}

impl Synthetic {
    fn new(shape: Shape, options: &Options, entry: Track) -> Self {
        let mut synthetic = Self {
            shape,
            surge: options.surge.filter(|_| entry.is_video()),
            layers: match entry.codec {
                "vp8" => options.temporal_layers,
                "vp9" => options.svc.temporal,
                _ => 1,
            },
            svc: (entry.codec == "vp9").then_some(options.svc),
            burst: options.burst,
            offset_ns: 0,
            frame: 0,
            packets: 0,
            nth: 0,
            key_frame: 0,
            bases: 0,
            wants_keyframe: false,
        };
        synthetic.count_packets();
        synthetic
    }

    fn frame_ns(&self) -> u64 {
        self.offset_ns + self.shape.due_ns(self.frame)
    }

    fn due_ns(&self) -> u64 {
        if self.burst == 0 || self.nth < self.burst {
            return self.frame_ns();
        }
        let groups = self.packets.div_ceil(self.burst).max(1);
        let time_ns = self.shape.due_ns(self.frame + 1) - self.shape.due_ns(self.frame);
        self.frame_ns() + time_ns * (self.nth / self.burst) / groups
    }

    /// How many packets the present frame has; counted once, because a surge may begin or end within it.
    fn count_packets(&mut self) {
        let surge = self.surge.filter(|surge| surge.is_on(self.frame_ns()));
        let shape = surge.map_or(self.shape, |surge| self.shape.times(surge.factor));
        self.packets = shape.packets(self.frame).max(self.svc.map_or(1, |svc| svc.spatial.into()));
    }

    /// Writes the payload of the next packet, which is number `number` of its stream.
    fn write(&self, body: &mut [u8], entry: &Track, number: u64) {
        let (layer, made_ns) = (self.layer(), mono_ns());
        let is_keyframe = self.frame == self.key_frame;
        let at = Fragment { nth: self.nth, packets: self.packets, is_keyframe };
        let mut head = [0; fragment::LONGEST];
        let len = match (entry.codec, self.svc) {
            ("vp9", Some(svc)) => {
                let part = svc.part(self.nth, self.packets);
                svc.describe(&mut head, self.frame, self.frame - self.key_frame, part, layer)
            }
            ("h264", _) => h264::head(&mut head, at, body.len()),
            ("av1", _) => av1::head(&mut head, at),
            _ => return payload::write_made(body, entry.is_video(), entry.ssrc, (self.place(number), layer), made_ns),
        };
        payload::write_behind(body, head.get(..len).unwrap_or(&[]), entry.ssrc, (number, made_ns));
    }

    /// RTP ticks from the packet before to this one, and the probe that begins here.
    fn step(&self, clock_rate: u32, last_probe: &mut u32) -> Step {
        if self.nth != 0 || self.frame == 0 {
            return Step { ticks: 0, probe: None };
        }
        let ticks = self.shape.step(clock_rate);
        if !self.shape.is_probe(self.frame) {
            return Step { ticks, probe: None };
        }
        *last_probe = *last_probe % PROBE_IDS + 1;
        Step { ticks: ticks + *last_probe, probe: Some(*last_probe) }
    }

    const fn place(&self, number: u64) -> Place {
        Place { number, frame: self.frame, is_first: self.nth == 0, is_keyframe: self.frame == self.key_frame }
    }

    fn layer(&self) -> Layer {
        Layer::of(self.frame - self.key_frame, self.layers, self.bases)
    }

    /// Moves to the next packet; true where the one before was the last of its frame.
    fn advance(&mut self) -> bool {
        self.nth += 1;
        if self.nth < self.packets {
            return false;
        }
        self.begin_frame(self.frame + 1);
        if self.wants_keyframe || self.frame - self.key_frame >= self.shape.keyframe_every.max(1) {
            self.begin_group();
        }
        true
    }

    /// Leaves out what is due before a time after the start, and goes on with a keyframe; how many whole frames are left out.
    fn skip(&mut self, until_ns: u64) -> u64 {
        let first = self.frame + u64::from(self.nth > 0);
        self.begin_frame(first);
        while self.frame_ns() < until_ns {
            self.begin_frame(self.frame + 1);
        }
        self.begin_group();
        self.frame - first
    }

    fn begin_frame(&mut self, frame: u64) {
        (self.frame, self.nth) = (frame, 0);
        self.count_packets();
    }

    /// The present frame can be decoded without others.
    fn begin_group(&mut self) {
        self.bases += Layer::bases(self.frame - self.key_frame, self.layers);
        self.key_frame = self.frame;
        self.wants_keyframe = false;
    }
}

/// A fixed RTP header (RFC 3550 §5.1).
fn head(out: &mut [u8], track: &Track, seq: u16, timestamp: u32, marker: bool) {
    let words = [
        [0x80, track.pt | (u8::from(marker) << 7), seq.to_be_bytes()[0], seq.to_be_bytes()[1]],
        timestamp.to_be_bytes(),
        track.ssrc.to_be_bytes(),
    ];
    out.iter_mut().zip(words.as_flattened()).for_each(|(place, byte)| *place = *byte);
}

/// RTP ticks of a time.
pub(crate) fn ticks(time_ns: u64, clock_rate: u32) -> u32 {
    low32(u64::try_from(u128::from(time_ns) * u128::from(clock_rate) / 1_000_000_000).unwrap_or(u64::MAX))
}

fn low32(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CAMERA: Track = Track { codec: "vp8", pt: 96, ssrc: 7, clock_rate: 90_000 };

    fn source(options: &Options) -> Source {
        Source::new(options, (0, 0), CAMERA, 0)
    }

    /// When each packet was due (ms), its number, timestamp, and whether a keyframe begins.
    fn packets(source: &mut Source, count: usize) -> Vec<(u64, u16, u32, bool)> {
        let mut plain = Vec::new();
        let one = |_| {
            let due = source.due_ns() / 1_000_000;
            source.next(&mut plain, &mut 0);
            let seq = u16::from_be_bytes([plain[2], plain[3]]);
            let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
            (due, seq, timestamp, plain[12] & 0x10 != 0 && plain[18] & 1 == 0)
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_frame_leaves_at_once_or_spread_over_its_time() {
        let video = Shape { frame_rate: 10.0, packet_rate: 40.0, ..Shape::VIDEO };
        let due = |burst| {
            let mut source = source(&Options { video, burst, ..Options::default() });
            packets(&mut source, 5).iter().map(|packet| packet.0).collect::<Vec<_>>()
        };
        assert_eq!(due(0), [0, 0, 0, 0, 100]);
        assert_eq!(due(1), [0, 25, 50, 75, 100]);
        assert_eq!(due(2), [0, 0, 50, 50, 100]);
        assert_eq!(due(3), [0, 0, 0, 50, 100]);
    }

    #[test]
    fn after_a_pause_a_keyframe_comes_with_new_numbers_and_the_time_has_gone_on() {
        let video = Shape { frame_rate: 10.0, packet_rate: 20.0, probe_every: 0, ..Shape::VIDEO };
        let mut source = source(&Options { video, ..Options::default() });
        let before = packets(&mut source, 3);
        assert_eq!(before, [(0, 1000, 7, true), (0, 1001, 7, false), (100, 1002, 9007, false)]);
        source.pause(450_000_000, 5000);
        let after = packets(&mut source, 3);
        let ts = 7 + 5 * 9000;
        assert_eq!(after, [(500, 6003, ts, true), (500, 6004, ts, false), (600, 6005, ts + 9000, false)]);
    }

    #[test]
    fn a_keyframe_that_is_wanted_comes_with_the_next_frame() {
        let video = Shape { frame_rate: 10.0, packet_rate: 20.0, ..Shape::VIDEO };
        let mut source = source(&Options { video, ..Options::default() });
        let keyframes = |packets: Vec<(u64, u16, u32, bool)>| packets.iter().map(|p| p.3).collect::<Vec<_>>();
        assert_eq!(keyframes(packets(&mut source, 3)), [true, false, false]);
        source.ask_keyframe();
        assert_eq!(keyframes(packets(&mut source, 4)), [false, true, false, false], "not within a frame");
        source.ask_keyframe();
        assert_eq!(keyframes(packets(&mut source, 3)), [false, true, false], "the frame that is next has begun");
    }

    #[test]
    fn a_surge_sends_more_packets_in_the_same_frames() {
        let surge = Surge { from: Duration::from_secs(1), until: Duration::from_secs(2), factor: 2.0 };
        let mut source = source(&Options { surge: Some(surge), ..Options::default() });
        let mut seconds = [0; 3];
        let all = packets(&mut source, 156 + 312 + 150);
        all.iter().for_each(|packet| seconds[usize::try_from(packet.0 / 1000).unwrap()] += 1);
        assert!((156..=157).contains(&seconds[0]) && (311..=313).contains(&seconds[1]), "{seconds:?}");
        assert!(all.windows(2).all(|pair| pair[1].1 == pair[0].1.wrapping_add(1)), "no number is left out");
    }
}

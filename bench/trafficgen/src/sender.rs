// SPDX-License-Identifier: Apache-2.0
//! Sends the frames of all tracks when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_table::{Plan, Track};
use webrtc_srtp::context::Context;

use crate::media::Shape;
use crate::mono_ns;
use crate::payload::{self, Place};
use crate::session::{self, End};

/// Probes have ids from 1 to this, and then from 1 again; see `ebpf/sink/src/layout.rs`.
const PROBE_IDS: u32 = 600;
const RTP_HEAD: usize = 12;
/// Below this, waiting is spinning: a sleep may take that much longer.
const SPIN_NS: u64 = 80_000;

/// A packet whose send time is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Of video.
    pub is_video: bool,
    /// From 1 to 600.
    pub id: u32,
    /// When it was given to the kernel, monotonic ns.
    pub sent_ns: u64,
}

/// What was sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Packets of each track of each publisher, that the kernel took.
    pub packets: Vec<Vec<u64>>,
    /// Packets that the kernel refused.
    pub refused: u64,
    /// Frames that left more than 5 ms after they were due: the generator itself was held up.
    pub late: u64,
    /// Probes, in order.
    pub probes: Vec<Probe>,
}

impl Sent {
    /// Packets of all tracks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets.iter().flatten().sum()
    }
}

/// How the senders send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    /// What cameras send.
    pub video: Shape,
    /// What microphones send.
    pub audio: Shape,
    /// Where the sequence numbers begin.
    pub first_seq: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { video: Shape::VIDEO, audio: Shape::AUDIO, first_seq: 1000 }
    }
}

struct Source {
    publisher: usize,
    track: usize,
    entry: Track,
    shape: Shape,
    frame: u64,
    number: u64,
    timestamp: u32,
    /// When its first frame is due after the start, ns: not all cameras take their pictures at once.
    offset_ns: u64,
}

impl Source {
    fn due_ns(&self) -> u64 {
        self.offset_ns + self.shape.due_ns(self.frame)
    }
}

/// The publishers of a plan, ready to send.
pub struct Sender {
    sockets: Vec<UdpSocket>,
    sessions: Vec<Context>,
    sources: Vec<Source>,
    first_seq: u16,
    next_probe: [u32; 2],
}

impl Sender {
    /// Binds the publishers' addresses in this thread's network namespace and makes their sessions.
    ///
    /// # Errors
    /// When an address cannot be bound, or keys do not fit.
    pub fn open(plan: &Plan, options: &Options) -> Result<Self> {
        let mut sender = Self {
            sockets: Vec::new(),
            sessions: Vec::new(),
            sources: Vec::new(),
            first_seq: options.first_seq,
            next_probe: [0; 2],
        };
        let count = plan.tracks().max(1) as u64;
        for (publisher, entry) in plan.publishers.iter().enumerate() {
            let socket = UdpSocket::bind(entry.remote).with_context(|| format!("bind {}", entry.remote))?;
            socket.connect(plan.server).with_context(|| format!("connect {}", plan.server))?;
            socket.set_nonblocking(true)?;
            sender.sockets.push(socket);
            sender.sessions.push(session::open(plan.cipher, &entry.keys, End::ToServer)?);
            for (track, entry) in entry.tracks.iter().enumerate() {
                let shape = if entry.is_video() { options.video } else { options.audio };
                let nth = sender.sources.len() as u64;
                let offset_ns = shape.due_ns(1) * nth / count;
                let (frame, number, timestamp) = (0, 0, entry.ssrc);
                sender.sources.push(Source {
                    publisher,
                    track,
                    entry: *entry,
                    shape,
                    frame,
                    number,
                    timestamp,
                    offset_ns,
                });
            }
        }
        Ok(sender)
    }

    /// Sends until `stop` is set; `count` always says how many packets have left.
    pub fn run(mut self, stop: &AtomicBool, count: &AtomicU64) -> Sent {
        let mut sent = Sent { packets: vec![Vec::new(); self.sockets.len()], ..Sent::default() };
        for source in &self.sources {
            if let Some(tracks) = sent.packets.get_mut(source.publisher) {
                tracks.push(0);
            }
        }
        let began = mono_ns();
        let mut due: BinaryHeap<_> =
            self.sources.iter().enumerate().map(|(at, source)| Reverse((source.due_ns(), at))).collect();
        while let Some(Reverse((due_ns, at))) = due.pop() {
            if !wait_until(began + due_ns, stop) {
                break;
            }
            if mono_ns().saturating_sub(began + due_ns) > 5_000_000 {
                sent.late += 1;
            }
            let before = sent.total_of(self.sources.get(at));
            self.send_frame(at, &mut sent);
            count.fetch_add(sent.total_of(self.sources.get(at)) - before, Ordering::Relaxed);
            if let Some(source) = self.sources.get(at) {
                due.push(Reverse((source.due_ns(), at)));
            }
        }
        sent
    }

    fn send_frame(&mut self, at: usize, sent: &mut Sent) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let (Some(socket), Some(session)) =
            (self.sockets.get(source.publisher), self.sessions.get_mut(source.publisher))
        else {
            return;
        };
        let is_video = source.entry.is_video();
        let frame = source.frame;
        let packets = source.shape.packets(frame);
        let mut step = source.shape.step(source.entry.clock_rate);
        let mut probe = None;
        if source.shape.is_probe(frame)
            && let Some(last) = self.next_probe.get_mut(usize::from(!is_video))
        {
            *last = *last % PROBE_IDS + 1;
            step += *last;
            probe = Some(*last);
        }
        source.timestamp = source.timestamp.wrapping_add(if frame == 0 { 0 } else { step });
        let mut plain = vec![0; RTP_HEAD + source.shape.payload.max(payload::SHORTEST)];
        for nth in 0..packets {
            let is_last = nth + 1 == packets;
            let is_keyframe = frame.is_multiple_of(source.shape.keyframe_every.max(1));
            let place = Place { number: source.number, frame, is_first: nth == 0, is_keyframe };
            let seq = self.first_seq.wrapping_add(u16::try_from(source.number & 0xffff).unwrap_or(0));
            head(&mut plain, &source.entry, seq, source.timestamp, is_video && is_last);
            if let Some(body) = plain.get_mut(RTP_HEAD..) {
                payload::write(body, is_video, source.entry.ssrc, place);
            }
            source.number += 1;
            let Ok(sealed) = session.encrypt_rtp(&plain) else {
                sent.refused += 1;
                continue;
            };
            if let (0, Some(id)) = (nth, probe) {
                sent.probes.push(Probe { is_video, id, sent_ns: mono_ns() });
            }
            match socket.send(&sealed) {
                Ok(_) => {
                    if let Some(packets) = sent.packets.get_mut(source.publisher).and_then(|t| t.get_mut(source.track))
                    {
                        *packets += 1;
                    }
                }
                Err(_) => sent.refused += 1,
            }
        }
        source.frame += 1;
    }
}

impl Sent {
    fn total_of(&self, source: Option<&Source>) -> u64 {
        source.and_then(|source| self.packets.get(source.publisher)?.get(source.track)).copied().unwrap_or(0)
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

/// Waits; false where it was told to stop meanwhile.
fn wait_until(due_ns: u64, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = due_ns.saturating_sub(mono_ns());
        if left == 0 {
            return true;
        }
        if left > SPIN_NS {
            std::thread::sleep(Duration::from_nanos((left - SPIN_NS / 2).min(20_000_000)));
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_table::Table;

    #[test]
    fn what_is_counted_arrives_and_is_what_was_sent() {
        let table = std::env::temp_dir().join(format!("trafficgen-{}.toml", std::process::id()));
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let text = format!(
            "server = \"{}\"\n[[publisher]]\nname = \"a\"\nremote = \"127.0.0.1:0\"\n\
             track = [{{ codec = \"vp8\", pt = 96, ssrc = 7 }}, {{ codec = \"opus\", pt = 111, ssrc = 8 }}]\n",
            receiver.local_addr().expect("an address")
        );
        std::fs::write(&table, text).expect("written");
        let plan = Table::read(&table).expect("read").plan().expect("a plan");
        std::fs::remove_file(&table).expect("removed");
        let sender = Sender::open(&plan, &Options::default()).expect("open");
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let sent = std::thread::scope(|scope| {
            let running = scope.spawn(|| sender.run(&stop, &count));
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            running.join().expect("no panic")
        });
        let mut session = session::open(plan.cipher, &plan.publishers[0].keys, End::ToServer).expect("keys");
        receiver.set_nonblocking(true).expect("set");
        let (mut buffer, mut got) = ([0; 2000], [0_u64; 2]);
        while let Ok(len) = receiver.recv(&mut buffer) {
            let plain = session.decrypt_rtp(&buffer[..len]).expect("authentic");
            let is_video = plain[1] & 0x7f == 96;
            let (ssrc, number) = payload::read(&plain[RTP_HEAD..], is_video).expect("intact");
            let at = usize::from(!is_video);
            assert_eq!((ssrc, number), (7 + u32::from(!is_video), got[at]));
            got[at] += 1;
        }
        assert_eq!(sent.packets, [got.to_vec()]);
        assert!(got[0] > 30 && got[1] > 10 && sent.refused == 0, "{got:?}");
        assert_eq!(count.load(Ordering::Relaxed), sent.total());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Sends the packets of all tracks when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_table::Plan;
use tools_netlab::random::Random;
use webrtc_srtp::context::Context;

use crate::capture::Capture;
use crate::feedback::wanted_keyframes;
use crate::impairment::{Dice, Fate};
use crate::mono_ns;
pub use crate::options::Options;
use crate::session::{self, End};
use crate::source::Source;

/// Below this, waiting is spinning: a sleep may take that much longer.
const SPIN_NS: u64 = 80_000;
/// What leaves later than this after it was due is counted: the generator itself was held up.
const LATE_NS: u64 = 5_000_000;
/// How far ahead the numbers of an encoder begin that has started again: beyond any reordering (RFC 3550 A.1 has 3000), and so
/// little that both ends still agree on the roll-over count (RFC 3711 §3.3.1 has 2^15).
const JUMP: (u64, u64) = (4000, 16_000);

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
    /// Frames, or parts of one, that left more than 5 ms after they were due: the generator itself was held up.
    pub late: u64,
    /// Packets that were numbered and not sent, because a loss was asked for.
    pub lost: u64,
    /// Packets that left behind later ones, because that was asked for.
    pub reordered: u64,
    /// Keyframes that the server has asked for, and that cameras have sent for that.
    pub keyframes_asked: u64,
    /// Times that a track began again after a pause.
    pub restarts: u64,
    /// When the first packets were due, monotonic ns.
    pub began_ns: u64,
    /// Probes, in order.
    pub probes: Vec<Probe>,
    /// Why the pcap file that was asked for is not whole.
    pub capture_error: Option<String>,
}

impl Sent {
    /// Packets of all tracks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets.iter().flatten().sum()
    }

    fn count(&mut self, publisher: usize, track: usize) {
        if let Some(packets) = self.packets.get_mut(publisher).and_then(|tracks| tracks.get_mut(track)) {
            *packets += 1;
        }
    }
}

struct Leg {
    socket: UdpSocket,
    session: Context,
    /// What the server says back.
    back: Context,
    remote: SocketAddr,
}

/// A track and what happens to it on its way.
struct Lane {
    source: Source,
    dice: Dice,
    /// Packets that leave behind so many later ones.
    waiting: Vec<(u32, Parcel)>,
}

/// A packet that is ready to leave.
struct Parcel {
    sealed: Vec<u8>,
    /// Empty where nobody wants to see it.
    plain: Vec<u8>,
    probe: Option<u32>,
}

/// The publishers of a plan, ready to send.
pub struct Sender {
    legs: Vec<Leg>,
    lanes: Vec<Lane>,
    options: Options,
    server: SocketAddr,
    random: Random,
    last_probe: [u32; 2],
    capture: Option<Capture>,
}

impl Sender {
    /// Binds the publishers' addresses in this thread's network namespace and makes their sessions.
    ///
    /// # Errors
    /// When an address cannot be bound, keys do not fit, or the options do not fit the plan.
    pub fn open(plan: &Plan, options: &Options) -> Result<Self> {
        options.check(plan)?;
        if let Some(recordings) = &options.recordings {
            recordings.check(plan)?;
        }
        let mut sender = Self {
            legs: Vec::new(),
            lanes: Vec::new(),
            options: options.clone(),
            server: plan.server,
            random: Random::new(options.seed),
            last_probe: [0; 2],
            capture: None,
        };
        let count = plan.tracks().max(1) as u64;
        for (publisher, entry) in plan.publishers.iter().enumerate() {
            let socket = UdpSocket::bind(entry.remote).with_context(|| format!("bind {}", entry.remote))?;
            socket.connect(plan.server).with_context(|| format!("connect {}", plan.server))?;
            socket.set_nonblocking(true)?;
            let session = session::open(plan.cipher, &entry.keys, End::ToServer)?;
            let back = session::open(plan.cipher, &entry.keys, End::FromServer)?;
            let remote = socket.local_addr()?;
            sender.legs.push(Leg { socket, session, back, remote });
            let (mut of_medium, mut first_picture) = ([0_usize; 2], None);
            for (track, entry) in entry.tracks.iter().enumerate() {
                let Some(nth) = of_medium.get_mut(usize::from(!entry.is_video())) else { continue };
                let mut source = Source::new(options, (publisher, track), *entry, *nth);
                *nth += 1;
                let mut turn = sender.lanes.len() as u64;
                // All encodings of a camera are of the same pictures.
                if entry.is_video() && !options.encodings_bps.is_empty() {
                    turn = *first_picture.get_or_insert(turn);
                }
                source.begin_after((turn, count));
                let dice = Dice::new(options.impairment, sender.random.next_u64());
                sender.lanes.push(Lane { source, dice, waiting: Vec::new() });
            }
        }
        Ok(sender)
    }

    /// Writes what leaves to a pcap file as well, plain.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn capture_to(&mut self, path: &Path) -> Result<()> {
        self.capture = Some(Capture::create(path)?);
        Ok(())
    }

    /// Sends until `stop` is set; `count` always says how many packets have left.
    pub fn run(mut self, stop: &AtomicBool, count: &AtomicU64) -> Sent {
        let mut sent = Sent { packets: vec![Vec::new(); self.legs.len()], ..Sent::default() };
        for lane in &self.lanes {
            if let Some(tracks) = sent.packets.get_mut(lane.source.publisher) {
                tracks.push(0);
            }
        }
        let began = mono_ns();
        sent.began_ns = began;
        let mut due: BinaryHeap<_> =
            self.lanes.iter().enumerate().map(|(at, lane)| Reverse((lane.source.due_ns(), at))).collect();
        while let Some(Reverse((due_ns, at))) = due.pop() {
            if let Some(resumes_ns) = self.pause(at, due_ns, &mut sent) {
                due.push(Reverse((resumes_ns, at)));
                continue;
            }
            if !wait_until(began + due_ns, stop) {
                break;
            }
            self.listen(at, &mut sent);
            sent.late += u64::from(mono_ns().saturating_sub(began + due_ns) > LATE_NS);
            due.push(Reverse((self.send_group(at, due_ns, count, &mut sent), at)));
        }
        for at in 0..self.lanes.len() {
            self.release(at, u32::MAX, count, &mut sent);
        }
        if let Some(Err(error)) = self.capture.map(Capture::finish) {
            sent.capture_error = Some(format!("{error:#}"));
        }
        sent
    }

    /// When a track whose publisher pauses goes on; `None` where it sends.
    fn pause(&mut self, at: usize, due_ns: u64, sent: &mut Sent) -> Option<u64> {
        let lane = self.lanes.get_mut(at)?;
        let until_ns = self.options.churn?.pauses_until(due_ns, lane.source.publisher, self.legs.len())?;
        let jump = JUMP.0 + self.random.below(JUMP.1 - JUMP.0);
        lane.source.pause(until_ns, u16::try_from(jump).unwrap_or(u16::MAX / 4));
        sent.restarts += 1;
        Some(lane.source.due_ns())
    }

    /// Hears what the server says to the publisher of a camera: as one does, it sends a keyframe when it is asked for one.
    fn listen(&mut self, at: usize, sent: &mut Sent) {
        let Some(source) = self.lanes.get(at).map(|lane| &lane.source).filter(|source| source.entry.is_video()) else {
            return;
        };
        let publisher = source.publisher;
        let Some(leg) = self.legs.get_mut(publisher) else { return };
        let mut buffer = [0; 1500];
        while let Ok(len) = leg.socket.recv(&mut buffer) {
            let Ok(plain) = leg.back.decrypt_rtcp(buffer.get(..len).unwrap_or(&[])) else { continue };
            for ssrc in wanted_keyframes(&plain) {
                let of_it = |lane: &&mut Lane| lane.source.publisher == publisher && lane.source.entry.ssrc == ssrc;
                if let Some(lane) = self.lanes.iter_mut().find(of_it) {
                    lane.source.ask_keyframe();
                    sent.keyframes_asked += 1;
                }
            }
        }
    }

    /// Sends the packets of a track that are due at the same time; when the next ones are.
    fn send_group(&mut self, at: usize, due_ns: u64, count: &AtomicU64, sent: &mut Sent) -> u64 {
        loop {
            let (Some(lane), is_seen) = (self.lanes.get_mut(at), self.capture.is_some()) else { return u64::MAX };
            let last_probe = &mut self.last_probe[usize::from(!lane.source.entry.is_video())];
            let mut plain = Vec::new();
            let probe = lane.source.next(&mut plain, last_probe).probe;
            let next_ns = lane.source.due_ns();
            let sealed = self.legs.get_mut(lane.source.publisher).and_then(|leg| leg.session.encrypt_rtp(&plain).ok());
            match (lane.dice.roll(), sealed) {
                (_, None) => sent.refused += 1,
                (Fate::Lost, _) => sent.lost += 1,
                (Fate::Waits(packets), Some(sealed)) => {
                    sent.reordered += 1;
                    let plain = if is_seen { plain } else { Vec::new() };
                    // The packet itself is not behind itself.
                    lane.waiting.push((packets + 1, Parcel { sealed: sealed.into(), plain, probe }));
                }
                (Fate::Leaves, Some(sealed)) => {
                    let plain = if is_seen { plain } else { Vec::new() };
                    self.ship(at, &Parcel { sealed: sealed.into(), plain, probe }, count, sent);
                }
            }
            self.release(at, 1, count, sent);
            if next_ns > due_ns {
                return next_ns;
            }
        }
    }

    /// So many packets have passed those that wait; who has waited enough leaves.
    fn release(&mut self, at: usize, passed: u32, count: &AtomicU64, sent: &mut Sent) {
        let Some(lane) = self.lanes.get_mut(at).filter(|lane| !lane.waiting.is_empty()) else { return };
        lane.waiting.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(passed));
        let (ready, waiting) = std::mem::take(&mut lane.waiting).into_iter().partition(|(left, _)| *left == 0);
        lane.waiting = waiting;
        let ready: Vec<(u32, Parcel)> = ready;
        ready.iter().for_each(|(_, parcel)| self.ship(at, parcel, count, sent));
    }

    /// Gives a packet to the kernel.
    fn ship(&mut self, at: usize, parcel: &Parcel, count: &AtomicU64, sent: &mut Sent) {
        let Some(source) = self.lanes.get(at).map(|lane| &lane.source) else { return };
        let Some(leg) = self.legs.get(source.publisher) else { return };
        if let Some(id) = parcel.probe {
            sent.probes.push(Probe { is_video: source.entry.is_video(), id, sent_ns: mono_ns() });
        }
        if leg.socket.send(&parcel.sealed).is_err() {
            sent.refused += 1;
            return;
        }
        sent.count(source.publisher, source.track);
        count.fetch_add(1, Ordering::Relaxed);
        let written = self.capture.as_mut().map(|capture| capture.write(leg.remote, self.server, &parcel.plain));
        if let Some(Err(error)) = written {
            sent.capture_error = Some(format!("{error:#}"));
            self.capture = None;
        }
    }
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
    use crate::payload;
    use crate::source::RTP_HEAD;
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

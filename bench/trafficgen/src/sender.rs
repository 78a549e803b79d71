// SPDX-License-Identifier: Apache-2.0
//! Sends the packets of all tracks when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_table::Plan;
use tools_netlab::random::Random;
use webrtc_srtp::context::Context;

use crate::capture::Capture;
use crate::cipher::{Cipher, Place};
use crate::feedback::wanted_keyframes;
use crate::impairment::{Dice, Fate};
use crate::link::{self, Link};
use crate::mono_ns;
pub use crate::options::Options;
pub use crate::sent::{Probe, Sent};
use crate::session::{self, End};
use crate::source::{RTP_HEAD, Source};

/// Below this, waiting is spinning: a sleep may take that much longer.
const SPIN_NS: u64 = 80_000;
/// What leaves later than this after it was due is counted: the generator itself was held up.
const LATE_NS: u64 = 5_000_000;
/// How far ahead the numbers of an encoder begin that has started again: beyond any reordering (RFC 3550 A.1 has 3000), and so
/// little that both ends still agree on the roll-over count (RFC 3711 §3.3.1 has 2^15).
const JUMP: (u64, u64) = (4000, 16_000);
/// Places in a track's rhythm at which it may begin.
const PHASES: u64 = 1 << 20;

struct Leg {
    socket: UdpSocket,
    cipher: Cipher,
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
#[derive(Default)]
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
    link: Option<Link>,
    /// What waits at the link: whose it is, and the probe that it begins.
    linked: Vec<(usize, Option<u32>)>,
    /// The packet that is being made.
    parcel: Parcel,
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
            link: None,
            linked: Vec::with_capacity(link::BATCH),
            parcel: Parcel::default(),
        };
        let count = plan.tracks().max(1) as u64;
        for (publisher, entry) in plan.publishers.iter().enumerate() {
            let socket = UdpSocket::bind(entry.remote).with_context(|| format!("bind {}", entry.remote))?;
            socket.connect(plan.server).with_context(|| format!("connect {}", plan.server))?;
            socket.set_nonblocking(true)?;
            let cipher = Cipher::new(plan.cipher, &entry.keys.rx_key, &entry.keys.rx_salt)?;
            let back = session::open(plan.cipher, &entry.keys, End::FromServer)?;
            let remote = socket.local_addr()?;
            sender.legs.push(Leg { socket, cipher, back, remote });
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
                let is_random = options.has_random_phases;
                let phase = if is_random { (sender.random.below(PHASES), PHASES) } else { (turn, count) };
                source.begin_after(phase);
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

    /// Sends by a wire instead of the publishers' sockets, and writes none of it to a pcap file.
    ///
    /// # Errors
    /// When an address is not one of IPv4.
    pub fn through(mut self, link: Link) -> Result<Self> {
        ensure!(
            self.legs.iter().map(|leg| leg.remote).chain([self.server]).all(|address| address.is_ipv4()),
            "a link has no headers of IPv6"
        );
        self.link = Some(link);
        Ok(self)
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
            let is_shared = self.link.is_some();
            if is_shared && began + due_ns > mono_ns() {
                self.flush(count, &mut sent);
            }
            if !wait_until(began + due_ns, is_shared, stop) {
                break;
            }
            self.listen(at, &mut sent);
            sent.late += u64::from(mono_ns().saturating_sub(began + due_ns) > LATE_NS);
            due.push(Reverse((self.send_group(at, due_ns, count, &mut sent), at)));
        }
        for at in 0..self.lanes.len() {
            self.release(at, u32::MAX, count, &mut sent);
        }
        self.flush(count, &mut sent);
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
            let Some(fate) = self.make(at) else { return u64::MAX };
            let next_ns = self.lanes.get(at).map_or(u64::MAX, |lane| lane.source.due_ns());
            match fate {
                None => sent.refused += 1,
                Some(Fate::Lost) => sent.lost += 1,
                Some(Fate::Waits(packets)) => {
                    sent.reordered += 1;
                    // The packet itself is not behind itself.
                    let parcel = (packets + 1, std::mem::take(&mut self.parcel));
                    if let Some(lane) = self.lanes.get_mut(at) {
                        lane.waiting.push(parcel);
                    }
                }
                Some(Fate::Leaves) => {
                    let parcel = std::mem::take(&mut self.parcel);
                    self.ship(at, &parcel, count, sent);
                    self.parcel = parcel;
                }
            }
            self.release(at, 1, count, sent);
            if next_ns > due_ns {
                return next_ns;
            }
        }
    }

    /// Makes the next packet of a track, sealed, and what becomes of it; no fate where it could not be sealed.
    fn make(&mut self, at: usize) -> Option<Option<Fate>> {
        let lane = self.lanes.get_mut(at)?;
        let leg = self.legs.get(lane.source.publisher)?;
        let Parcel { sealed, plain, probe } = &mut self.parcel;
        let next = lane.source.next(sealed, &mut self.last_probe[usize::from(!lane.source.entry.is_video())]);
        *probe = next.probe;
        plain.clear();
        if self.capture.is_some() {
            plain.extend_from_slice(sealed);
        }
        sealed.resize(sealed.len() + leg.cipher.tag_len(), 0);
        let place = Place { ssrc: lane.source.entry.ssrc, index: next.index, header: RTP_HEAD };
        let fate = lane.dice.roll();
        Some(leg.cipher.seal(place, sealed).ok().map(|()| fate))
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
        if let (Some(link), SocketAddr::V4(from), SocketAddr::V4(to)) = (&mut self.link, leg.remote, self.server) {
            let has_room = link.push(from, to, &parcel.sealed);
            if has_room {
                self.linked.push((at, parcel.probe));
            } else {
                sent.refused += 1;
            }
            if self.linked.len() == link::BATCH {
                self.flush(count, sent);
            }
            return;
        }
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

    /// Gives the kernel what waits at the link.
    fn flush(&mut self, count: &AtomicU64, sent: &mut Sent) {
        let Some(link) = self.link.as_mut().filter(|_| !self.linked.is_empty()) else { return };
        let (sent_ns, taken) = (mono_ns(), link.flush());
        for ((at, probe), is_taken) in self.linked.drain(..).zip(taken) {
            let Some(source) = self.lanes.get(at).map(|lane| &lane.source) else { continue };
            if !is_taken {
                sent.refused += 1;
                continue;
            }
            sent.probes.extend(probe.map(|id| Probe { is_video: source.entry.is_video(), id, sent_ns }));
            sent.count(source.publisher, source.track);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits, and lets others have the core where it `is_shared` with those who take the packets up: whose packets are this dense
/// never sleeps. False where it was told to stop meanwhile.
fn wait_until(due_ns: u64, is_shared: bool, stop: &AtomicBool) -> bool {
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
        } else if is_shared {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;
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

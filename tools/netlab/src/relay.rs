// SPDX-License-Identifier: Apache-2.0
//! The seeded impairment relay between two interfaces: loss, delay, jitter, reordering.
//!
//! The kernel has no netem here, so a thread passes whole Ethernet frames between two packet sockets. Only UDP is
//! impaired (signalling over TCP and ARP pass as they are), and only UDP draws from the generator, so the same seed
//! and the same packets give the same losses. It must never be used between interfaces outside a bed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::packet::{Direction, PacketSocket, Tap, UdpFrame};
use crate::random::Random;
use crate::registry;

/// The largest frame that a veth with the default MTU and no segmentation offload carries, with room.
const FRAME_LEN_BYTES: usize = 2048;
/// Frames taken from one side before the other is looked at.
const BURST: usize = 64;
/// Frames held at most on one relay; beyond, frames are dropped as a full queue would.
const HELD_MAX: usize = 20_000;

/// What happens to UDP in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Impairment {
    /// The generator's seed.
    pub seed: u64,
    /// Packets lost, in parts per million.
    pub loss_ppm: u32,
    /// Every packet waits this long.
    pub delay: Duration,
    /// Up to this much more, drawn evenly; order is kept unless `reorder_ppm` says otherwise.
    pub jitter: Duration,
    /// Packets that overtake the delay queue, in parts per million (needs a `delay`).
    pub reorder_ppm: u32,
}

/// Counters of one direction.
#[derive(Debug, Default)]
pub struct Counters {
    /// UDP packets that arrived.
    pub udp_packets: AtomicU64,
    /// UDP packets lost on purpose.
    pub lost_packets: AtomicU64,
    /// UDP packets that overtook others.
    pub reordered_packets: AtomicU64,
    /// Frames that the kernel refused or that found the queue full: losses that nobody asked for.
    pub failed_frames: AtomicU64,
}

/// A running relay; stops when dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    counters: [Arc<Counters>; 2],
}

impl Relay {
    /// Passes frames between two interfaces of the namespace called `namespace`. Each comes with what happens to the UDP that enters there.
    ///
    /// # Errors
    /// When a packet socket cannot be opened.
    pub fn start(namespace: &str, a: (&str, Impairment), b: (&str, Impairment)) -> Result<Self> {
        let sockets = [PacketSocket::open(namespace, a.0, Tap::Both)?, PacketSocket::open(namespace, b.0, Tap::Both)?];
        let stop = Arc::new(AtomicBool::new(false));
        let counters = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        let lanes = [Lane::new(a.1, Arc::clone(&counters[0])), Lane::new(b.1, Arc::clone(&counters[1]))];
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || pass(&sockets, lanes, &flag))?;
        Ok(Self { stop, thread: Some(thread), counters })
    }

    /// Counters of what entered at the first and at the second interface.
    #[must_use]
    pub fn counters(&self) -> [&Counters; 2] {
        [&self.counters[0], &self.counters[1]]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `NAMESPACE INTERFACE_A INTERFACE_B [--seed N] [--loss-ppm N] [--delay-ms N] [--jitter-ms N] [--reorder-ppm N]`: a
/// relay in the foreground, both ways alike, until SIGINT or SIGTERM.
///
/// # Errors
/// On unknown arguments or when the interfaces cannot be opened.
pub fn main(args: &[String]) -> Result<()> {
    let [namespace, a, b, options @ ..] = args else {
        bail!("relay NAMESPACE INTERFACE_A INTERFACE_B [--option N]…")
    };
    let mut impairment = Impairment::default();
    for option in options.chunks(2) {
        let [name, value] = option else { bail!("{option:?} needs a number") };
        let number: u32 = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--seed" => impairment.seed = u64::from(number),
            "--loss-ppm" => impairment.loss_ppm = number,
            "--delay-ms" => impairment.delay = Duration::from_millis(u64::from(number)),
            "--jitter-ms" => impairment.jitter = Duration::from_millis(u64::from(number)),
            "--reorder-ppm" => impairment.reorder_ppm = number,
            _ => bail!("unknown option {name}"),
        }
    }
    registry::clean_up_on_signals()?;
    let back = Impairment { seed: !impairment.seed, ..impairment };
    let _relay = Relay::start(namespace, (a, impairment), (b, back))?;
    loop {
        std::thread::park();
    }
}

/// One direction: what waits, ordered by the time it is due, then by arrival.
struct Lane {
    impairment: Impairment,
    random: Random,
    held: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    arrivals: u64,
    last_due: Option<Instant>,
    counters: Arc<Counters>,
}

/// What a lane decides about a frame that has just arrived.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    SendNow,
    Held,
}

impl Lane {
    fn new(impairment: Impairment, counters: Arc<Counters>) -> Self {
        let random = Random::new(impairment.seed);
        Self { impairment, random, held: BinaryHeap::new(), arrivals: 0, last_due: None, counters }
    }

    fn take(&mut self, frame: &[u8], now: Instant) -> Fate {
        if UdpFrame::parse(frame).is_none() {
            return Fate::SendNow;
        }
        self.counters.udp_packets.fetch_add(1, Ordering::Relaxed);
        let wanted = self.impairment;
        // Both draws are made for every packet, so that one setting does not shift the other's sequence.
        let (is_lost, overtakes) =
            (self.random.chance_ppm(wanted.loss_ppm), self.random.chance_ppm(wanted.reorder_ppm));
        let jitter_us = u64::try_from(wanted.jitter.as_micros()).unwrap_or(0);
        let extra = Duration::from_micros(self.random.below(jitter_us.saturating_add(1)));
        if is_lost {
            self.counters.lost_packets.fetch_add(1, Ordering::Relaxed);
            return Fate::Lost;
        }
        let delay = wanted.delay + extra;
        if delay.is_zero() {
            return Fate::SendNow;
        }
        if overtakes {
            self.counters.reordered_packets.fetch_add(1, Ordering::Relaxed);
            return Fate::SendNow;
        }
        if self.held.len() >= HELD_MAX {
            self.counters.failed_frames.fetch_add(1, Ordering::Relaxed);
            return Fate::Lost;
        }
        let due = self.last_due.map_or(now + delay, |last| last.max(now + delay));
        self.last_due = Some(due);
        self.arrivals += 1;
        self.held.push(Reverse((due, self.arrivals, frame.to_vec())));
        Fate::Held
    }

    fn next_due(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse((due, _, _))| *due)
    }

    fn take_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        self.held.pop().map(|Reverse((_, _, frame))| frame)
    }

    fn send(&self, to: &PacketSocket, frame: &[u8]) {
        if !matches!(to.send(frame), Ok(true)) {
            self.counters.failed_frames.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn pass(sockets: &[PacketSocket; 2], mut lanes: [Lane; 2], stop: &AtomicBool) {
    let mut buffer = vec![0_u8; FRAME_LEN_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let due = lanes.iter().filter_map(Lane::next_due).min();
        let wait = due.map_or(50_000, |due| due.saturating_duration_since(Instant::now()).as_micros().min(50_000));
        // Rounded up, or the loop spins through the last millisecond before a frame is due.
        let timeout = PollTimeout::try_from(wait.div_ceil(1000)).unwrap_or(PollTimeout::ZERO);
        let mut fds = [&sockets[0], &sockets[1]].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut fds, timeout);
        for (side, lane) in lanes.iter_mut().enumerate() {
            let (from, to) = (&sockets[side], &sockets[1 - side]);
            for _ in 0..BURST {
                let Ok(Some((length, direction))) = from.receive(&mut buffer) else { break };
                let frame = &buffer[..length.min(FRAME_LEN_BYTES)];
                if direction == Direction::Incoming && lane.take(frame, Instant::now()) == Fate::SendNow {
                    lane.send(to, frame);
                }
            }
            while let Some(frame) = lane.take_due(Instant::now()) {
                lane.send(to, &frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal Ethernet + IPv4 + UDP frame with one payload byte.
    fn frame(number: u8) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8 + 1];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        frame[39] = 9;
        frame[42] = number;
        frame
    }

    fn fates(impairment: Impairment) -> Vec<Fate> {
        let mut lane = Lane::new(impairment, Arc::default());
        let now = Instant::now();
        (0..=255).map(|number| lane.take(&frame(number), now)).collect()
    }

    #[test]
    fn the_same_seed_loses_the_same_packets_and_another_seed_loses_others() {
        let impairment = Impairment { seed: 7, loss_ppm: 200_000, ..Impairment::default() };
        assert_eq!(fates(impairment), fates(impairment));
        assert_ne!(fates(impairment), fates(Impairment { seed: 8, ..impairment }));
        let lost = fates(impairment).iter().filter(|fate| **fate == Fate::Lost).count();
        assert!((25..80).contains(&lost), "{lost} of 256 lost at 20 %");
    }

    #[test]
    fn jitter_alone_keeps_the_order() {
        let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(50));
        let mut lane = Lane::new(Impairment { seed: 1, delay, jitter, ..Impairment::default() }, Arc::default());
        let now = Instant::now();
        for number in 0..100 {
            assert_eq!(lane.take(&frame(number), now), Fate::Held);
        }
        let later = now + Duration::from_secs(1);
        let order: Vec<u8> = std::iter::from_fn(|| lane.take_due(later)).map(|frame| frame[42]).collect();
        assert_eq!(order, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn nothing_is_sent_before_its_delay_is_over() {
        let delay = Duration::from_millis(20);
        let mut lane = Lane::new(Impairment { delay, ..Impairment::default() }, Arc::default());
        let now = Instant::now();
        lane.take(&frame(1), now);
        assert!(lane.take_due(now + Duration::from_millis(19)).is_none());
        assert!(lane.take_due(now + delay).is_some());
    }

    #[test]
    fn arp_and_tcp_are_never_lost() {
        let mut lane = Lane::new(Impairment { loss_ppm: 1_000_000, ..Impairment::default() }, Arc::default());
        let mut tcp = frame(0);
        tcp[23] = 6;
        assert_eq!(lane.take(&tcp, Instant::now()), Fate::SendNow);
        assert_eq!(lane.take(&frame(0), Instant::now()), Fate::Lost);
    }
}

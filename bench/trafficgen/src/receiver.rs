// SPDX-License-Identifier: Apache-2.0
//! Receives what a server sends to the receivers of a table: opens it by `webrtc-srtp`, counts it by stream, and takes the
//! latency of every packet that says when it was made. It must never call a packet right that it has not opened.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_table::Plan;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use webrtc_srtp::context::Context;

use crate::capture::Capture;
use crate::session::{self, End};
use crate::{mono_ns, payload};

/// What takes longer was made by another clock.
const LONGEST_NS: u64 = 60_000_000_000;
/// What the kernel keeps for a receiver, if it may.
const RECEIVE_BYTES: usize = 16 << 20;
/// Between two looks at the time.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Numbers behind the highest that are told apart.
const WINDOW: u16 = 4096;

/// What came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Receivers that were listened to.
    pub receivers: usize,
    /// Streams of which something came.
    pub streams: usize,
    /// RTP packets that were opened, each once.
    pub packets: u64,
    /// Their bytes, sealed.
    pub bytes: u64,
    /// Numbers that did not come, between the first and the last that did.
    pub gaps: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets behind later ones.
    pub reordered: u64,
    /// Packets that do not open.
    pub unopened: u64,
    /// Packets of a stream that the table does not have for this receiver.
    pub strange: u64,
    /// Packets that were opened and are not what a generator sends.
    pub garbled: u64,
    /// RTCP packets that were opened.
    pub rtcp: u64,
    /// From when a packet was made to when it was read here, ns.
    pub latency: Histogram<u64>,
    /// From the first packet to the last.
    pub time: Duration,
}

/// The numbers of a stream.
#[derive(Clone, Debug)]
struct Numbers {
    first: u64,
    highest: u64,
    packets: u64,
    /// One bit for each number of the window, at its place modulo the window.
    seen: Vec<u64>,
}

/// How a packet stands to those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Next,
    Behind,
    Again,
}

impl Numbers {
    fn new(seq: u16) -> Self {
        // Far from 0, so that what comes behind the first has a number too.
        let first = (1 << 32) | u64::from(seq);
        Self { first, highest: first, packets: 0, seen: vec![0; usize::from(WINDOW / 64)] }
    }

    fn take(&mut self, seq: u16) -> Order {
        let low = self.highest.to_le_bytes();
        let ahead = seq.wrapping_sub(u16::from_le_bytes([low[0], low[1]])).cast_signed();
        let number = self.highest.saturating_add_signed(ahead.into());
        let is_behind = number < self.highest;
        for left_out in (self.highest + 1..=number).rev().take(WINDOW.into()) {
            self.mark(left_out, false);
        }
        // What is further behind than the window cannot be told from a repetition.
        if self.packets > 0 && (self.highest.saturating_sub(number) >= WINDOW.into() || self.is_marked(number)) {
            return Order::Again;
        }
        self.mark(number, true);
        self.highest = self.highest.max(number);
        self.first = self.first.min(number);
        self.packets += 1;
        if is_behind { Order::Behind } else { Order::Next }
    }

    fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }

    fn mark(&mut self, number: u64, is_seen: bool) {
        let (word, bit) = place(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word = if is_seen { *word | bit } else { *word & !bit };
        }
    }

    fn gaps(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.packets)
    }
}

/// Word and bit of a number in the window.
fn place(number: u64) -> (usize, u64) {
    let at = number % u64::from(WINDOW);
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

struct Leg {
    socket: UdpSocket,
    address: SocketAddr,
    session: Context,
    /// Codec and numbers of each stream, by its SSRC.
    streams: BTreeMap<u32, (&'static str, Option<Numbers>)>,
}

/// The receivers of a plan that are this host's.
pub struct Receivers {
    legs: Vec<Leg>,
    server: SocketAddr,
    capture: Option<Capture>,
    received: Received,
    /// When the first and the last packet came.
    times: Option<(u64, u64)>,
}

impl Receivers {
    /// Binds the receivers' addresses in this thread's network namespace and makes their sessions.
    ///
    /// # Errors
    /// When an address cannot be bound, or keys do not fit.
    pub fn open(plan: &Plan) -> Result<Self> {
        ensure!(!plan.receivers.is_empty(), "the table has no receivers");
        let mut legs = Vec::new();
        for receiver in &plan.receivers {
            let socket = UdpSocket::bind(receiver.remote).with_context(|| format!("bind {}", receiver.remote))?;
            socket.set_nonblocking(true)?;
            // Without the right to force it, the default has to do.
            let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES);
            let streams = receiver.streams.iter().map(|stream| {
                let publisher = plan.publishers.get(stream.publisher);
                let track = publisher.and_then(|publisher| publisher.tracks.get(stream.track));
                (stream.ssrc, (track.map_or("", |track| track.codec), None))
            });
            legs.push(Leg {
                address: socket.local_addr()?,
                session: session::open(plan.cipher, &receiver.keys, End::FromServer)?,
                streams: streams.collect(),
                socket,
            });
        }
        let received = Received {
            receivers: legs.len(),
            streams: 0,
            packets: 0,
            bytes: 0,
            gaps: 0,
            duplicates: 0,
            reordered: 0,
            unopened: 0,
            strange: 0,
            garbled: 0,
            rtcp: 0,
            latency: Histogram::new_with_bounds(1, LONGEST_NS, 3)?,
            time: Duration::ZERO,
        };
        Ok(Self { legs, server: plan.server, capture: None, received, times: None })
    }

    /// Writes what comes to a pcap file as well, opened.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn capture_to(&mut self, path: &Path) -> Result<()> {
        self.capture = Some(Capture::create(path)?);
        Ok(())
    }

    /// Receives for a time, or until nothing has come for `silence` after something had.
    ///
    /// # Errors
    /// What the kernel or the pcap file says.
    pub fn run(mut self, time: Duration, silence: Duration) -> Result<Received> {
        let (end_ns, silence_ns) = (mono_ns() + nanoseconds(time), nanoseconds(silence));
        let ends = |times: Option<(u64, u64)>| {
            let silent_ns = times.map_or(u64::MAX, |(_, last_ns)| last_ns.saturating_add(silence_ns));
            end_ns.min(silent_ns)
        };
        while mono_ns() < ends(self.times) {
            let mut fds: Vec<PollFd<'_>> =
                self.legs.iter().map(|leg| PollFd::new(&leg.socket, PollFlags::IN)).collect();
            match poll(&mut fds, Some(&LOOK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for packets"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
            for (at, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                self.take(at)?;
            }
        }
        if let Some(capture) = self.capture {
            capture.finish()?;
        }
        let numbers =
            || self.legs.iter().flat_map(|leg| leg.streams.values()).filter_map(|(_, numbers)| numbers.as_ref());
        self.received.streams = numbers().count();
        self.received.gaps = numbers().map(Numbers::gaps).sum();
        let (first_ns, last_ns) = self.times.unwrap_or((0, 0));
        self.received.time = Duration::from_nanos(last_ns - first_ns);
        Ok(self.received)
    }

    /// Reads what a socket has.
    fn take(&mut self, at: usize) -> Result<()> {
        let Some(leg) = self.legs.get_mut(at) else { return Ok(()) };
        let mut buffer = [0; 2048];
        while let Ok(len) = leg.socket.recv(&mut buffer) {
            let now_ns = mono_ns();
            let Some(sealed) = buffer.get(..len) else { continue };
            let opened = self.received.packet(leg, sealed, now_ns);
            self.times = Some((self.times.map_or(now_ns, |(first_ns, _)| first_ns), now_ns));
            if let Some((capture, plain)) = self.capture.as_mut().zip(opened) {
                capture.write(self.server, leg.address, &plain)?;
            }
        }
        Ok(())
    }
}

impl Received {
    /// Opens and counts a packet.
    fn packet(&mut self, leg: &mut Leg, sealed: &[u8], now_ns: u64) -> Option<Vec<u8>> {
        // RFC 5761 §4.
        if sealed.get(1).is_some_and(|kind| (192..224).contains(kind)) {
            let opened = leg.session.decrypt_rtcp(sealed);
            *(if opened.is_ok() { &mut self.rtcp } else { &mut self.unopened }) += 1;
            return None;
        }
        let Ok(plain) = leg.session.decrypt_rtp(sealed) else {
            self.unopened += 1;
            return None;
        };
        let Some((seq, ssrc, body)) = parse(&plain) else {
            self.garbled += 1;
            return None;
        };
        let Some((codec, numbers)) = leg.streams.get_mut(&ssrc) else {
            self.strange += 1;
            return Some(plain.into());
        };
        match numbers.get_or_insert_with(|| Numbers::new(seq)).take(seq) {
            Order::Next => self.packets += 1,
            Order::Behind => {
                self.packets += 1;
                self.reordered += 1;
            }
            Order::Again => {
                self.duplicates += 1;
                return Some(plain.into());
            }
        }
        self.bytes += sealed.len() as u64;
        match payload::read_of(codec, body) {
            None => self.garbled += 1,
            Some(said) if said.made_ns != 0 && said.made_ns <= now_ns => {
                self.latency.saturating_record((now_ns - said.made_ns).max(1));
            }
            Some(_) => {}
        }
        Some(plain.into())
    }

    /// Whether everything that came was authentic, known, and what a generator had sent, and something came.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.packets > 0 && self.unopened + self.strange + self.garbled == 0
    }
}

/// Number, SSRC and payload of an RTP packet (RFC 3550 §5.1, §5.3.1).
fn parse(plain: &[u8]) -> Option<(u16, u32, &[u8])> {
    let (head, rest) = plain.split_first_chunk::<12>()?;
    let mut rest = rest.get(usize::from(head[0] & 0x0f) * 4..)?;
    if head[0] & 0x10 != 0 {
        let (extension, behind) = rest.split_first_chunk::<4>()?;
        rest = behind.get(usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4..)?;
    }
    let padding = if head[0] & 0x20 != 0 { usize::from(*rest.last().filter(|count| **count > 0)?) } else { 0 };
    let body = rest.get(..rest.len().checked_sub(padding)?)?;
    Some((u16::from_be_bytes([head[2], head[3]]), u32::from_be_bytes([head[8], head[9], head[10], head[11]]), body))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_repetitions_and_disorder_are_told_apart_across_the_wrap() {
        let mut numbers = Numbers::new(65_534);
        let orders: Vec<Order> = [65_534, 65_535, 2, 1, 2, 65_533, 5].map(|seq| numbers.take(seq)).into();
        assert_eq!(
            orders,
            [Order::Next, Order::Next, Order::Next, Order::Behind, Order::Again, Order::Behind, Order::Next]
        );
        // Of 65533 to 5 are missing 0, 3 and 4.
        assert_eq!((numbers.packets, numbers.gaps()), (6, 3));
        assert_eq!(numbers.take(5000), Order::Next);
        assert_eq!(numbers.take(5), Order::Again, "too far behind to be told from a repetition");
        assert_eq!(numbers.take(4999), Order::Behind, "what a jump has left out was not seen");
    }

    #[test]
    fn headers_are_read_with_what_they_may_hold() {
        let mut packet = vec![0xB1, 96, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend([1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0, 0, 0, 0, 42, 43, 0, 0, 3]);
        assert_eq!(parse(&packet), Some((7, 9, &[42, 43][..])));
        for len in 0..packet.len() - 1 {
            assert!(parse(&packet[..len]).is_none_or(|(.., body)| body.len() < 2), "{len}");
        }
    }
}

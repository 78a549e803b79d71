// SPDX-License-Identifier: Apache-2.0
//! What a floor program does with a packet: open once; for each receiver copy, rewrite, seal; send in batches. It must never
//! seal two packets under one number: what comes late or twice is dropped.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bench_bots::rtp::{Header, low16, unroll};
use dataplane_table::Plan;
use nix::sys::socket::SockaddrIn;

use super::cipher::{Cipher, Place};
use super::wire::{BATCH, Wire};

/// Bytes of a packet at most.
const FRAME: usize = 2048;
/// Packets that are taken in before they are fanned out.
const TURN: usize = 64;
/// Packets in one datagram at most: 64 KiB hold 40 of 1.5 KB; the kernel takes 64 (UDP_MAX_SEGMENTS).
const RUN: usize = 40;
/// Receivers in one call with segmentation: what they share a cache with is `RUN * FRAME` each.
const SEGMENTED_BATCH: usize = 16;

/// How packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Path {
    /// One datagram for each packet, 64 in one `sendmmsg`; each packet goes to everybody before the next one.
    Sendmmsg,
    /// The packets of a burst in one datagram for each receiver, cut by the kernel (`UDP_SEGMENT`).
    Gso,
}

/// A track that comes in and everybody who gets it. The three lists run side by side.
struct Track {
    ssrc: u32,
    pt: u8,
    /// Index of its publisher.
    publisher: usize,
    /// Number of the first packet, and the highest so far.
    first: u64,
    highest: Option<u64>,
    /// Indices of receivers.
    receivers: Vec<usize>,
    /// The SSRCs under which they get it.
    ssrcs: Vec<u32>,
    addresses: Vec<Option<SockaddrIn>>,
}

/// A packet that was opened.
struct Opened {
    bytes: Box<[u8]>,
    len: usize,
    header: usize,
    track: usize,
    /// Packets of its track before it.
    offset: u64,
}

/// Counts, for whoever looks at the log; no figure is made of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of the source that were fanned out.
    pub taken: u64,
    /// Packets that were not of the table, late, or did not open.
    pub dropped: u64,
}

/// The program's state.
pub struct Fan {
    path: Path,
    gather: Duration,
    wire: Wire,
    publishers: Vec<Cipher>,
    receivers: Vec<Cipher>,
    tracks: Vec<Track>,
    turn: Vec<Opened>,
    arena: Vec<u8>,
    counts: Counts,
}

impl Fan {
    /// Binds the socket and expands every key. `gather` is how long the rest of a burst is waited for.
    ///
    /// # Errors
    /// When the address is taken or the plan cannot be served (IPv4 only).
    pub fn new(plan: &Plan, path: Path, gather: Duration) -> Result<Self> {
        let opening = plan.publishers.iter().map(|one| Cipher::new(plan.cipher, &one.keys.rx_key, &one.keys.rx_salt));
        let sealing = plan.receivers.iter().map(|one| Cipher::new(plan.cipher, &one.keys.tx_key, &one.keys.tx_salt));
        let empty = || Opened { bytes: vec![0; FRAME].into(), len: 0, header: 0, track: 0, offset: 0 };
        let SocketAddr::V4(server) = plan.server else { bail!("IPv4 only") };
        Ok(Self {
            path,
            gather,
            wire: Wire::bind(server)?,
            publishers: opening.collect::<Result<_>>()?,
            receivers: sealing.collect::<Result<_>>()?,
            tracks: tracks(plan)?,
            turn: (0..TURN).map(|_| empty()).collect(),
            arena: vec![0; (BATCH * FRAME).max(SEGMENTED_BATCH * RUN * FRAME)],
            counts: Counts::default(),
        })
    }

    /// Counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes what has come, waits at most 200 ms for the first packet, and fans it out.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn serve(&mut self) -> Result<()> {
        let mut taken = 0;
        let mut may_wait = true;
        for at in 0..TURN {
            let Some(opened) = self.turn.get_mut(taken) else { break };
            let Some(len) = self.wire.receive(&mut opened.bytes, may_wait) else { break };
            if at == 0 && !self.gather.is_zero() {
                std::thread::sleep(self.gather);
            }
            may_wait = false;
            match open(&self.publishers, &mut self.tracks, opened, len) {
                Some(()) => taken += 1,
                None => self.counts.dropped += 1,
            }
        }
        self.counts.taken += u64::try_from(taken).unwrap_or(0);
        match self.path {
            Path::Sendmmsg => (0..taken).try_for_each(|at| self.send(at, at + 1, BATCH)),
            Path::Gso => {
                // Packets of one track side by side, in order.
                self.turn[..taken].sort_by_key(|opened| opened.track);
                let mut from = 0;
                while from < taken {
                    let to = from + run_len(&self.turn[from..taken]);
                    self.send(from, to, SEGMENTED_BATCH)?;
                    from = to;
                }
                Ok(())
            }
        }
    }

    /// Sends packets `from..to` of the turn, all of one track, to everybody; `batch` receivers in one call.
    fn send(&mut self, from: usize, to: usize, batch: usize) -> Result<()> {
        let Self { wire, receivers, tracks, turn, arena, .. } = self;
        let packets = &turn[from..to];
        let Some(track) = packets.first().and_then(|packet| tracks.get(packet.track)) else { return Ok(()) };
        let room = packets.len() * FRAME;
        let mut segment = None;
        for at in (0..track.receivers.len()).step_by(batch) {
            let end = track.receivers.len().min(at + batch);
            let mut lens = [0; BATCH];
            for ((member, slot), total) in (at..end).zip(arena.chunks_mut(room)).zip(&mut lens) {
                let cipher = &receivers[track.receivers[member]];
                for packet in packets {
                    let rest = slot.get_mut(*total..).unwrap_or_default();
                    let len = write(cipher, track.ssrcs[member], packet, rest);
                    let len = len.ok_or_else(|| anyhow!("a packet was not sealed"))?;
                    if packets.len() > 1 {
                        segment.get_or_insert(u16::try_from(len)?);
                    }
                    *total += len;
                }
            }
            let mut data = [[IoSlice::new(&[])]; BATCH];
            for (data, (slot, len)) in data.iter_mut().zip(arena.chunks(room).zip(lens)).take(end - at) {
                *data = [IoSlice::new(&slot[..len])];
            }
            wire.send(&data[..end - at], &track.addresses[at..end], segment)?;
        }
        Ok(())
    }
}

/// Every track of the plan with those who get it.
fn tracks(plan: &Plan) -> Result<Vec<Track>> {
    let mut tracks = Vec::new();
    let mut firsts = Vec::new();
    for (publisher, one) in plan.publishers.iter().enumerate() {
        firsts.push(tracks.len());
        tracks.extend(one.tracks.iter().map(|track| Track {
            ssrc: track.ssrc,
            pt: track.pt,
            publisher,
            first: 0,
            highest: None,
            receivers: Vec::new(),
            ssrcs: Vec::new(),
            addresses: Vec::new(),
        }));
    }
    for (number, receiver) in plan.receivers.iter().enumerate() {
        let SocketAddr::V4(address) = receiver.remote else { bail!("IPv4 only") };
        for stream in &receiver.streams {
            let at = firsts.get(stream.publisher).map(|first| first + stream.track);
            let Some(track) = at.and_then(|at| tracks.get_mut(at)) else { bail!("a stream of no track") };
            track.receivers.push(number);
            track.ssrcs.push(stream.ssrc);
            track.addresses.push(Some(SockaddrIn::from(address)));
        }
    }
    Ok(tracks)
}

/// Opens the datagram of `len` bytes in `opened`.
fn open(publishers: &[Cipher], tracks: &mut [Track], opened: &mut Opened, len: usize) -> Option<()> {
    let packet = opened.bytes.get_mut(..len)?;
    let header = Header::parse(packet)?;
    let number = tracks.iter().position(|track| (track.ssrc, track.pt) == (header.ssrc, header.pt))?;
    let track = tracks.get_mut(number)?;
    let index = track.highest.map_or_else(|| header.seq.into(), |highest| unroll(highest, header.seq));
    if track.highest.is_some_and(|highest| index <= highest) {
        return None;
    }
    let cipher = publishers.get(track.publisher)?;
    opened.len = cipher.open(Place { ssrc: header.ssrc, index, header: header.len }, packet).ok()?;
    if track.highest.replace(index).is_none() {
        track.first = index;
    }
    opened.offset = index - track.first;
    (opened.track, opened.header) = (number, header.len);
    Some(())
}

/// The first number of a stream: in the lower half, so that its roll-over counter is 0 for whoever opens it.
fn first_number(ssrc: u32) -> u64 {
    u64::from(ssrc.wrapping_mul(7919) & 0x7fff)
}

/// Writes `packet` as the receiver with `cipher` gets it; its length.
fn write(cipher: &Cipher, ssrc: u32, packet: &Opened, slot: &mut [u8]) -> Option<usize> {
    let len = packet.len + cipher.tag_len();
    let out = slot.get_mut(..len)?;
    out.get_mut(..packet.len)?.copy_from_slice(packet.bytes.get(..packet.len)?);
    let index = first_number(ssrc) + packet.offset;
    out.get_mut(2..4)?.copy_from_slice(&low16(index).to_be_bytes());
    out.get_mut(8..12)?.copy_from_slice(&ssrc.to_be_bytes());
    cipher.seal(Place { ssrc, index, header: packet.header }, out).ok()?;
    Some(len)
}

/// Packets that one datagram can hold: of one track, equal lengths, and a last one that is not longer.
fn run_len(packets: &[Opened]) -> usize {
    let Some((first, rest)) = packets.split_first() else { return 0 };
    let of_track = || rest.iter().take(RUN - 1).take_while(|packet| packet.track == first.track);
    let equal = of_track().take_while(|packet| packet.len == first.len).count();
    let is_shorter = of_track().nth(equal).is_some_and(|packet| packet.len < first.len);
    1 + equal + usize::from(is_shorter)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use dataplane_table::Table;

    use super::*;

    fn opened(len: usize, track: usize) -> Opened {
        Opened { bytes: [].into(), len, header: 12, track, offset: 0 }
    }

    fn lens(lens: &[usize]) -> usize {
        run_len(&lens.iter().map(|len| opened(*len, 0)).collect::<Vec<_>>())
    }

    #[test]
    fn a_datagram_holds_equal_packets_and_a_shorter_one_last() {
        assert_eq!([lens(&[9, 9, 9, 5, 9]), lens(&[5, 9]), lens(&[9]), lens(&[])], [4, 1, 1, 0]);
        assert_eq!(lens(&[7; 60]), RUN);
    }

    #[test]
    fn a_datagram_holds_packets_of_one_track() {
        assert_eq!(run_len(&[opened(9, 0), opened(9, 0), opened(5, 1)]), 2);
        assert_eq!(run_len(&[opened(9, 0), opened(9, 1)]), 1);
    }

    fn plan(cipher: &str) -> Plan {
        let free = || UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let text = serde_json::json!({
            "server": format!("127.0.0.1:{}", free()), "cipher": cipher, "seed": 3,
            "publisher": [{"name": "one", "remote": "127.0.0.1:9",
                "track": [{"codec": "vp8", "pt": 96, "ssrc": 5}, {"codec": "opus", "pt": 111, "ssrc": 6}]}],
            "receiver": [{"remote": format!("127.0.0.1:{}", free()), "count": 2, "from": "one", "ssrc": 70}],
        });
        serde_json::from_value::<Table>(text).expect("a table").plan().expect("a plan")
    }

    /// What the source sends: video across the wrap of its numbers with sound in between, each packet twice.
    fn publish(plan: &Plan, socket: &UdpSocket) {
        let keys = &plan.publishers[0].keys;
        let cipher = Cipher::new(plan.cipher, &keys.rx_key, &keys.rx_salt).expect("keys");
        for (ssrc, index, len) in [(5, 65_534, 200), (5, 65_535, 200), (6, 9, 160), (5, 65_536, 200), (5, 65_537, 80)] {
            let pt = if ssrc == 5 { 96 } else { 111 };
            let mut packet = bench_bots::rtp::packet(pt, true, low16(index), 7, ssrc, &[&vec![1; len]]);
            packet.resize(packet.len() + cipher.tag_len(), 0);
            cipher.seal(Place { ssrc, index, header: 12 }, &mut packet).expect("sealed");
            for _ in 0..2 {
                socket.send_to(&packet, plan.server).expect("sent");
            }
        }
    }

    #[test]
    fn everybody_gets_every_packet_once_under_keys_and_numbers_of_their_own() {
        for (path, cipher) in [
            (Path::Sendmmsg, "AEAD_AES_128_GCM"),
            (Path::Gso, "AEAD_AES_256_GCM"),
            (Path::Gso, "AES_CM_128_HMAC_SHA1_80"),
        ] {
            let plan = plan(cipher);
            let sockets = [0, 1].map(|at| UdpSocket::bind(plan.receivers[at].remote).expect("a socket"));
            let mut fan = Fan::new(&plan, path, Duration::ZERO).expect("a fan");
            publish(&plan, &sockets[0]);
            fan.serve().expect("served");
            // The second copy of each must not be fanned out.
            assert_eq!(fan.counts(), Counts { taken: 5, dropped: 5 });
            for (receiver, socket) in plan.receivers.iter().zip(&sockets) {
                let cipher = Cipher::new(plan.cipher, &receiver.keys.tx_key, &receiver.keys.tx_salt).expect("keys");
                let mut seen = Vec::new();
                for _ in 0..5 {
                    let mut packet = vec![0; 1500];
                    let (len, from) = socket.recv_from(&mut packet).expect("a packet");
                    assert_eq!(from, plan.server);
                    packet.truncate(len);
                    let header = Header::parse(&packet).expect("a header");
                    let place = Place { ssrc: header.ssrc, index: header.seq.into(), header: 12 };
                    let len = cipher.open(place, &mut packet).expect("opened");
                    assert!(packet[12..len].iter().all(|byte| *byte == 1));
                    let at = u64::from(header.seq) - first_number(header.ssrc);
                    seen.push((header.ssrc, header.pt, at, len - 12));
                }
                seen.sort_unstable();
                let (video, audio) = (receiver.streams[0].ssrc, receiver.streams[1].ssrc);
                let expected = [(0, 200), (1, 200), (2, 200), (3, 80)].map(|(at, len)| (video, 96, at, len));
                assert_eq!(seen, [&expected[..], &[(audio, 111, 0, 160)]].concat(), "{path:?}");
            }
        }
    }
}

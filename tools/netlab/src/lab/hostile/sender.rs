// SPDX-License-Identifier: Apache-2.0
//! Puts hostile datagrams on a cable at a steady rate, from a stranger's address or from a participant's own 5-tuple,
//! and counts what comes back. Writes whole Ethernet frames, so it needs no socket of the participant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::attack::{Loot, SORTS, Sort, datagram};
use crate::lab::server::MEDIA_PORT;
use crate::netns::Endpoint;
use crate::packet::{Direction, PacketSocket, Tap, UdpFrame};
use crate::random::Random;

/// Ethernet + IPv4 + UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Datagrams sent in a row.
const BURST: u64 = 64;
/// Datagrams kept for replay.
const REPLAYS: usize = 4000;
/// A stranger asks for known ufrags from these ports, and sends all else from those below: answers can be told apart.
const PORTS_WITH_UFRAG: std::ops::Range<u16> = 50_000..51_000;
const PORTS: std::ops::Range<u16> = 40_000..50_000;

/// Where a sender's datagrams seem to come from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// Ethernet, IP and UDP headers of flows that a participant really uses.
    Participant(Vec<[u8; HEADERS]>),
    /// Headers with the stranger's own address; the source port is drawn for each datagram.
    Stranger([u8; HEADERS]),
}

/// What one sender did and saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Datagrams put on the cable, by sort.
    pub(crate) sent: BTreeMap<Sort, u64>,
    /// Bytes of UDP that came back to ports from which no known ufrag was named.
    pub(crate) answered_bytes: u64,
    /// Bytes of UDP that came back to requests with a known ufrag and a wrong integrity.
    pub(crate) answered_bytes_known_ufrag: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

impl Tally {
    /// Datagrams of all sorts.
    pub(crate) fn total(&self) -> u64 {
        self.sent.values().sum()
    }
}

/// How much to send, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Datagrams per second.
    pub(crate) rate: u64,
    /// Datagrams in all.
    pub(crate) packets: u64,
    /// The generator's seed.
    pub(crate) seed: u64,
}

/// Listens on a participant's cable: its flows to the server and what can be used against it.
pub(crate) fn eavesdrop(endpoint: &Endpoint, server: &Endpoint, length: Duration) -> Result<(Origin, Loot)> {
    let socket = PacketSocket::open(endpoint.namespace.name(), endpoint.interface, Tap::Both)?;
    let server = server.address.parse::<std::net::Ipv4Addr>().context("an address")?.octets();
    let mut flows: BTreeMap<u16, [u8; HEADERS]> = BTreeMap::new();
    let mut loot = Loot::default();
    let until = Instant::now() + length;
    let mut buffer = [0; 2048];
    while Instant::now() < until {
        let Some((length, direction)) = socket.receive(&mut buffer)? else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let frame = &buffer[..length.min(buffer.len())];
        let Some(udp) = UdpFrame::parse(frame) else { continue };
        if direction != Direction::Outgoing || udp.udp_at != HEADERS - 8 || frame[30..34] != server {
            continue;
        }
        if let Ok(headers) = <[u8; HEADERS]>::try_from(&frame[..HEADERS]) {
            flows.insert(udp.from_port, headers);
        }
        match udp.payload.first() {
            Some(0..=3) => loot.usernames.extend(username(udp.payload)),
            Some(20..=63 | 128..=191) if loot.datagrams.len() < REPLAYS => loot.datagrams.push(udp.payload.to_vec()),
            _ => {}
        }
    }
    loot.usernames.sort();
    loot.usernames.dedup();
    ensure!(!flows.is_empty() && !loot.datagrams.is_empty(), "no media was seen on the participant's cable");
    ensure!(!loot.usernames.is_empty(), "no binding request was seen on the participant's cable");
    Ok((Origin::Participant(flows.into_values().collect()), loot))
}

/// The USERNAME attribute of a STUN message.
fn username(message: &[u8]) -> Option<Vec<u8>> {
    let mut rest = message.get(20..)?;
    while let [kind_high, kind_low, length_high, length_low, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        if (*kind_high, *kind_low) == (0, 6) {
            return value.get(..length).map(<[u8]>::to_vec);
        }
        rest = value.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Headers from `stranger` to the server.
pub(crate) fn stranger(stranger: &Endpoint, server: &Endpoint) -> Result<Origin> {
    let mut headers = [0; HEADERS];
    headers[..6].copy_from_slice(&hardware_address(server)?);
    headers[6..12].copy_from_slice(&hardware_address(stranger)?);
    headers[12..14].copy_from_slice(&[0x08, 0x00]);
    headers[14] = 0x45;
    // Time to live, protocol UDP.
    headers[22..24].copy_from_slice(&[64, 17]);
    let address = |endpoint: &Endpoint| -> Result<[u8; 4]> {
        Ok(endpoint.address.parse::<std::net::Ipv4Addr>().context("an address")?.octets())
    };
    headers[26..30].copy_from_slice(&address(stranger)?);
    headers[30..34].copy_from_slice(&address(server)?);
    headers[36..38].copy_from_slice(&MEDIA_PORT.to_be_bytes());
    Ok(Origin::Stranger(headers))
}

fn hardware_address(endpoint: &Endpoint) -> Result<[u8; 6]> {
    endpoint.namespace.inside(|| {
        nix::ifaddrs::getifaddrs()?
            .filter(|entry| entry.interface_name == endpoint.interface)
            .find_map(|entry| entry.address?.as_link_addr()?.addr())
            .context("the interface has no hardware address")
    })
}

/// A frame with the origin's headers around `payload`; lengths and the IP checksum are made right, UDP's is left out.
fn frame(headers: &[u8; HEADERS], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&headers[..], payload].concat();
    let udp_length = u16::try_from(payload.len() + 8).unwrap_or(8);
    frame[16..18].copy_from_slice(&(udp_length + 20).to_be_bytes());
    frame[38..40].copy_from_slice(&udp_length.to_be_bytes());
    // RFC 768: an all-zero checksum means that the sender made none.
    frame[40..42].fill(0);
    frame[24..26].fill(0);
    let words = frame[14..34].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or(0);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Sends until `pace` is used up or `stop` is set.
pub(crate) fn send_all(
    endpoint: &Endpoint,
    origin: &Origin,
    loot: &Loot,
    pace: Pace,
    stop: &Arc<AtomicBool>,
) -> Result<Tally> {
    let open = |tap| PacketSocket::open(endpoint.namespace.name(), endpoint.interface, tap);
    let socket = open(Tap::Nothing)?;
    let ear = matches!(origin, Origin::Stranger(_)).then(|| open(Tap::IncomingIpv4)).transpose()?;
    let mut random = Random::new(pace.seed);
    let mut tally = Tally::default();
    let started = Instant::now();
    while tally.total() < pace.packets && !stop.load(Ordering::Relaxed) {
        let passed_us = u64::try_from(started.elapsed().as_micros())?;
        let due = (passed_us * pace.rate / 1_000_000).min(pace.packets);
        // What was missed while the machine was busy is caught up, but in bursts that a queue of the kernel takes.
        let now = due.min(tally.total() + BURST);
        for _ in tally.total()..now {
            let sort = SORTS[usize::from(random.byte()) % SORTS.len()];
            let payload = datagram(sort, &mut random, loot);
            let headers = choose(origin, sort, &mut random);
            if !socket.send(&frame(&headers, &payload))? {
                break;
            }
            *tally.sent.entry(sort).or_default() += 1;
        }
        if let Some(ear) = &ear {
            hear(ear, &mut tally)?;
        }
        if due < tally.total() + BURST {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    tally.elapsed = started.elapsed();
    if let Some(ear) = &ear {
        // A late answer counts as well.
        std::thread::sleep(Duration::from_millis(500));
        hear(ear, &mut tally)?;
    }
    Ok(tally)
}

fn choose(origin: &Origin, sort: Sort, random: &mut Random) -> [u8; HEADERS] {
    match origin {
        Origin::Participant(flows) => flows[usize::from(random.byte()) % flows.len()],
        Origin::Stranger(headers) => {
            let ports = if sort == Sort::BadIntegrity { PORTS_WITH_UFRAG } else { PORTS };
            let offset = random.below(u64::from(ports.end - ports.start));
            let port = ports.start + u16::try_from(offset).unwrap_or(0);
            let mut headers = *headers;
            headers[34..36].copy_from_slice(&port.to_be_bytes());
            headers
        }
    }
}

/// Counts the UDP that has come back.
fn hear(socket: &PacketSocket, tally: &mut Tally) -> Result<()> {
    let mut buffer = [0; 2048];
    while let Some((length, direction)) = socket.receive(&mut buffer)? {
        let Some(udp) = UdpFrame::parse(&buffer[..length.min(buffer.len())]) else { continue };
        if direction != Direction::Incoming || udp.from_port != MEDIA_PORT {
            continue;
        }
        let bytes = u64::try_from(udp.payload.len())?;
        if PORTS_WITH_UFRAG.contains(&udp.to_port) {
            tally.answered_bytes_known_ufrag += bytes;
        } else {
            tally.answered_bytes += bytes;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_parses_back_to_its_payload_with_a_right_ip_checksum() {
        let mut headers = [0; HEADERS];
        headers[12] = 8;
        headers[14] = 0x45;
        headers[23] = 17;
        headers[34..38].copy_from_slice(&[0x9c, 0x40, 0x27, 0x10]);
        let bytes = frame(&headers, b"payload");
        let udp = UdpFrame::parse(&bytes).expect("udp");
        assert_eq!((udp.from_port, udp.to_port, udp.payload), (40_000, 10_000, &b"payload"[..]));
        // RFC 1071: summed with its checksum, a header gives all ones.
        let words = bytes[14..34].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn the_username_is_found_behind_other_attributes() {
        let mut message = vec![0; 20];
        message.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        message.extend([0, 6, 0, 5, b'u', b':', b'v', b'w', b'x', 0, 0, 0]);
        assert_eq!(username(&message), Some(b"u:vwx".to_vec()));
        assert_eq!(username(&[0; 12]), None);
    }
}

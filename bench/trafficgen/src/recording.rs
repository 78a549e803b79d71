// SPDX-License-Identifier: Apache-2.0
//! Recorded RTP as a source: pcap and pcapng files, Ethernet, Linux cooked or bare IP, UDP. Payloads, markers and times are the
//! recording's; SSRC, payload type, numbers and keys are the table's. What is left out: header extensions, CSRCs, padding.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use dataplane_table::{Plan, Track};
use etherparse::{SlicedPacket, TransportSlice};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::source::ticks;

/// First word of a pcapng file, in either byte order.
const PCAPNG: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
/// Between two rounds of a recording of one packet.
const LONE_PACKET_NS: u64 = 20_000_000;
/// Longest payload that still fits a datagram of the data plane.
const LONGEST: usize = 1400;

/// A packet of a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    /// Since the first.
    at_ns: u64,
    seq: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// One RTP stream of a recording, sent over and over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recording {
    ssrc: u32,
    pt: u8,
    packets: Arc<[Packet]>,
}

impl Recording {
    /// Packets of one round.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Never true: a stream begins with its first packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Payload of a packet.
    #[must_use]
    pub fn payload(&self, at: usize) -> &[u8] {
        self.packets.get(at).map_or(&[], |packet| &packet.payload)
    }

    pub(crate) fn at_ns(&self, at: usize) -> u64 {
        self.packets.get(at).map_or(0, |packet| packet.at_ns)
    }

    /// Mean time between two packets.
    pub(crate) fn rhythm_ns(&self) -> u64 {
        let gaps = self.packets.len().saturating_sub(1) as u64;
        self.at_ns(self.packets.len().saturating_sub(1)).checked_div(gaps).unwrap_or(LONE_PACKET_NS)
    }

    /// From the first packet to the first one of the next round.
    pub(crate) fn round_ns(&self) -> u64 {
        self.at_ns(self.packets.len().saturating_sub(1)) + self.rhythm_ns().max(1)
    }

    /// RTP ticks from the packet before; before the first one, from the last one of the round before.
    pub(crate) fn ticks_before(&self, at: usize, clock_rate: u32) -> u32 {
        let before = at.checked_sub(1).and_then(|before| self.packets.get(before)).zip(self.packets.get(at));
        before.map_or_else(
            || ticks(self.rhythm_ns(), clock_rate).max(1),
            |(before, packet)| packet.timestamp.wrapping_sub(before.timestamp),
        )
    }

    /// Appends a packet's payload; its marker.
    pub(crate) fn write(&self, at: usize, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.payload(at));
        self.packets.get(at).is_some_and(|packet| packet.marker)
    }
}

/// The RTP streams of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recordings {
    streams: Vec<Recording>,
}

impl Recordings {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is neither pcap nor pcapng, or holds no RTP.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let mut file = BufReader::new(File::open(path).with_context(name)?);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).with_context(name)?;
        file.rewind()?;
        let mut found = Found::default();
        if magic == PCAPNG {
            read_pcapng(file, &mut found).with_context(name)?;
        } else {
            read_pcap(file, &mut found).with_context(name)?;
        }
        found.into_recordings().with_context(name)
    }

    /// Refuses a plan with a track that no stream of the file is for.
    ///
    /// # Errors
    /// Names the track and what the file has.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        for track in plan.publishers.iter().flat_map(|publisher| &publisher.tracks) {
            if self.of(track, 0).is_none() {
                let there: Vec<_> = self.streams.iter().map(|s| format!("SSRC {} with pt {}", s.ssrc, s.pt)).collect();
                bail!(
                    "no recorded stream has the payload type {} of the table's track {}; recorded: {}",
                    track.pt,
                    track.ssrc,
                    there.join(", ")
                );
            }
        }
        Ok(())
    }

    /// The stream for a publisher's `nth` track of its medium: by payload type, in the order of the file; the last one serves
    /// for all that are left.
    #[must_use]
    pub fn of(&self, track: &Track, nth: usize) -> Option<&Recording> {
        let mut fit = self.streams.iter().filter(|stream| stream.pt == track.pt);
        fit.clone().nth(nth).or_else(|| fit.next_back())
    }
}

/// What a file turned out to hold.
#[derive(Default)]
struct Found {
    /// By address of the sender and SSRC.
    by_ssrc: BTreeMap<u32, (u8, Vec<Packet>)>,
    order: Vec<u32>,
}

impl Found {
    /// Takes a frame from the wire, where it is RTP.
    fn take(&mut self, link: DataLink, time: Duration, frame: &[u8]) {
        let Some(packet) = datagram(link, frame).and_then(|datagram| rtp(datagram, time)) else { return };
        let (ssrc, pt, packet) = packet;
        let stream = self.by_ssrc.entry(ssrc).or_insert_with(|| {
            self.order.push(ssrc);
            (pt, Vec::new())
        });
        // Another payload type on the same SSRC is another codec (comfort noise, RED): a track has one.
        if stream.0 == pt {
            stream.1.push(packet);
        }
    }

    fn into_recordings(mut self) -> Result<Recordings> {
        let mut streams = Vec::new();
        for ssrc in std::mem::take(&mut self.order) {
            let Some((pt, mut packets)) = self.by_ssrc.remove(&ssrc) else { continue };
            let first = packets.iter().map(|packet| packet.at_ns).min().unwrap_or(0);
            // A recorded disorder stays one of arrival: order on the wire is the impairment's affair.
            packets.sort_by_key(|packet| packet.at_ns);
            packets.dedup_by_key(|packet| packet.seq);
            packets.iter_mut().for_each(|packet| packet.at_ns -= first);
            streams.push(Recording { ssrc, pt, packets: packets.into() });
        }
        if streams.is_empty() {
            bail!(
                "there is no RTP over UDP in this file (plain RTP of version 2 over Ethernet, Linux cooked or IP is read)"
            );
        }
        Ok(Recordings { streams })
    }
}

fn read_pcap(file: impl Read, found: &mut Found) -> Result<()> {
    let mut reader = PcapReader::new(file).map_err(|error| anyhow!("neither pcap nor pcapng: {error}"))?;
    let link = reader.header().datalink;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| anyhow!("damaged: {error}"))?;
        found.take(link, packet.timestamp, &packet.data);
    }
    Ok(())
}

fn read_pcapng(file: impl Read, found: &mut Found) -> Result<()> {
    let mut reader = PcapNgReader::new(file).map_err(|error| anyhow!("not pcapng: {error}"))?;
    // The reader's own list of interfaces cannot be asked while a block is borrowed from it.
    let mut interfaces: Vec<(DataLink, u64)> = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.map_err(|error| anyhow!("damaged: {error}"))?;
        if let Block::SectionHeader(_) = block {
            interfaces.clear();
        } else if let Block::InterfaceDescription(interface) = block {
            interfaces.push((interface.linktype, units(&interface)?));
        } else if let Block::EnhancedPacket(packet) = block {
            let interface = usize::try_from(packet.interface_id)?;
            let (link, units) = interfaces.get(interface).context("a packet of an interface that is not described")?;
            // The reader takes every time for nanoseconds; it is in the interface's units.
            let time = packet.timestamp.as_nanos() * 1_000_000_000 / u128::from(*units);
            found.take(*link, Duration::from_nanos(u64::try_from(time)?), &packet.data);
        }
    }
    Ok(())
}

/// Units of time per second (pcapng, `if_tsresol`).
fn units(interface: &InterfaceDescriptionBlock<'_>) -> Result<u64> {
    let given = interface.options.iter().find_map(|option| {
        if let InterfaceDescriptionOption::IfTsResol(resolution) = option { Some(*resolution) } else { None }
    });
    let Some(resolution) = given else { return Ok(1_000_000) };
    let (base, power) = if resolution & 0x80 == 0 { (10_u64, resolution) } else { (2, resolution & 0x7f) };
    base.checked_pow(u32::from(power)).context("the file's clock is finer than this reader's")
}

/// The UDP payload of a frame. What was cut off while it was recorded is none.
fn datagram(link: DataLink, frame: &[u8]) -> Option<&[u8]> {
    let sliced = if link == DataLink::ETHERNET {
        SlicedPacket::from_ethernet(frame)
    } else if link == DataLink::LINUX_SLL {
        SlicedPacket::from_linux_sll(frame)
    } else if [DataLink::RAW, DataLink::IPV4, DataLink::IPV6].contains(&link) {
        SlicedPacket::from_ip(frame)
    } else if [DataLink::NULL, DataLink::LOOP].contains(&link) {
        SlicedPacket::from_ip(frame.get(4..)?)
    } else if link == DataLink::LINUX_SLL2 {
        SlicedPacket::from_ip(frame.get(20..)?)
    } else {
        return None;
    };
    match sliced.ok()?.transport? {
        TransportSlice::Udp(udp) => Some(udp.payload()),
        TransportSlice::Tcp(_) | TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => {
            None
        }
    }
}

/// SSRC, payload type and the rest of an RTP packet (RFC 3550 §5.1; RTCP is told apart by RFC 5761 §4).
fn rtp(datagram: &[u8], time: Duration) -> Option<(u32, u8, Packet)> {
    let (head, rest) = datagram.split_first_chunk::<12>()?;
    let [first, second, seq0, seq1, t0, t1, t2, t3, s0, s1, s2, s3] = *head;
    if first >> 6 != 2 || (192..=223).contains(&second) {
        return None;
    }
    let mut body = rest.get(usize::from(first & 0x0f) * 4..)?;
    if first & 0x10 != 0 {
        let (_, words) = body.split_first_chunk::<2>()?;
        let words = usize::from(u16::from_be_bytes(*words.first_chunk::<2>()?));
        body = body.get(4 + words * 4..)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        body = body.get(..body.len().checked_sub(padding)?)?;
    }
    let packet = Packet {
        at_ns: u64::try_from(time.as_nanos()).ok()?,
        seq: u16::from_be_bytes([seq0, seq1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        marker: second & 0x80 != 0,
        payload: body.to_vec(),
    };
    // Padding alone (bandwidth probes) is nothing to send again.
    let fits = (1..=LONGEST).contains(&packet.payload.len());
    fits.then_some((u32::from_be_bytes([s0, s1, s2, s3]), second & 0x7f, packet))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::PathBuf;

    use etherparse::PacketBuilder;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;

    use super::*;

    /// An RTP packet with a CSRC, a header extension of one word, and two bytes of padding (RFC 3550 §5.1).
    fn laden(seq: u8, timestamp: u8) -> Vec<u8> {
        let head = [0xB1, 0xE0, 0, seq, 0, 0, 0, timestamp, 0, 0, 0, 7, 1, 1, 1, 1, 0xBE, 0xDE, 0, 1, 2, 2, 2, 2];
        [&head[..], &[5, seq, 5], &[0, 2]].concat()
    }

    fn ethernet(datagram: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(5000, 6000);
        builder.write(&mut frame, datagram).expect("written");
        frame
    }

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("recording-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn read(path: &Path) -> Recording {
        let recordings = Recordings::read(path).expect("read");
        std::fs::remove_file(path).expect("removed");
        assert_eq!(recordings.streams.len(), 1);
        recordings.streams[0].clone()
    }

    fn assert_is_what_was_recorded(recording: &Recording) {
        assert_eq!((recording.ssrc, recording.pt, recording.len()), (7, 96, 2));
        assert_eq!((recording.payload(0), recording.payload(1)), (&[5, 1, 5][..], &[5, 2, 5][..]));
        assert_eq!((recording.at_ns(0), recording.at_ns(1), recording.round_ns()), (0, 20_000_000, 40_000_000));
        assert_eq!((recording.ticks_before(1, 90_000), recording.ticks_before(0, 90_000)), (180, 1800));
    }

    #[test]
    fn a_classic_file_of_ethernet_frames_gives_bare_payloads() {
        let mut writer =
            PcapWriter::with_header(Vec::new(), PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() })
                .expect("a header");
        let rtcp = [0x80, 200, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0];
        // The second one twice, as a capture on all interfaces has it.
        for (ms, datagram) in [(1000, laden(1, 0)), (1010, rtcp.to_vec()), (1020, laden(2, 180)), (1020, laden(2, 180))]
        {
            let frame = ethernet(&datagram);
            let len = u32::try_from(frame.len()).expect("short");
            writer.write_packet(&PcapPacket::new(Duration::from_millis(ms), len, &frame)).expect("written");
        }
        assert_is_what_was_recorded(&read(&file("classic.pcap", &writer.into_writer())));
    }

    #[test]
    fn times_of_a_pcapng_file_are_in_its_interfaces_units() {
        for (resolution, unit_ns) in [(None, 1000), (Some(9), 1), (Some(3), 1_000_000)] {
            let mut writer = PcapNgWriter::new(Vec::new()).expect("a section");
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0xffff);
            interface.options.extend(resolution.map(InterfaceDescriptionOption::IfTsResol));
            writer.write_block(&Block::InterfaceDescription(interface)).expect("written");
            for (ms, datagram) in [(1000, laden(1, 0)), (1020, laden(2, 180))] {
                let frame = ethernet(&datagram);
                let packet = EnhancedPacketBlock {
                    interface_id: 0,
                    // The writer writes what it takes for nanoseconds as it is.
                    timestamp: Duration::from_nanos(ms * 1_000_000 / unit_ns),
                    original_len: u32::try_from(frame.len()).expect("short"),
                    data: Cow::Borrowed(&frame),
                    options: Vec::new(),
                };
                writer.write_block(&Block::EnhancedPacket(packet)).expect("written");
            }
            assert_is_what_was_recorded(&read(&file("next.pcapng", &writer.into_inner())));
        }
    }

    #[test]
    fn what_is_cut_off_or_no_rtp_is_left_out() {
        let whole = ethernet(&laden(1, 0));
        assert!(datagram(DataLink::ETHERNET, &whole).and_then(|it| rtp(it, Duration::ZERO)).is_some());
        for len in 0..whole.len() {
            let cut = datagram(DataLink::ETHERNET, &whole[..len]).and_then(|it| rtp(it, Duration::ZERO));
            assert_eq!(cut, None, "{len} bytes");
        }
        for len in 0..laden(1, 0).len() {
            let _ = rtp(&laden(1, 0)[..len], Duration::ZERO);
        }
        assert_eq!(rtp(&[0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Duration::ZERO), None, "DTLS");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What was sent, as a pcap file of plain RTP over UDP over IP, for Wireshark and for [`crate::recording`]. It is written by
//! the thread that sends: for looking at a stream, not for line rate.

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use crate::mono_ns;

const TTL: u8 = 64;

/// A file that is being written.
pub(crate) struct Capture {
    writer: PcapWriter<BufWriter<File>>,
    /// Wall time less monotonic time: packets are stamped by the clock that they are sent by.
    epoch: Duration,
    frame: Vec<u8>,
}

impl Capture {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let header =
            PcapHeader { datalink: DataLink::RAW, ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(BufWriter::new(file), header).map_err(|error| anyhow!("pcap: {error}"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { writer, epoch: now.saturating_sub(Duration::from_nanos(mono_ns())), frame: Vec::new() })
    }

    /// Writes a packet that left just now.
    pub(crate) fn write(&mut self, from: SocketAddr, to: SocketAddr, plain: &[u8]) -> Result<()> {
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), TTL),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), TTL),
            _ => bail!("{from} and {to} are not of the same family"),
        };
        self.frame.clear();
        builder.udp(from.port(), to.port()).write(&mut self.frame, plain)?;
        let time = self.epoch + Duration::from_nanos(mono_ns());
        let packet = PcapPacket::new(time, u32::try_from(self.frame.len())?, &self.frame);
        self.writer.write_packet(&packet).map_err(|error| anyhow!("pcap: {error}"))?;
        Ok(())
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<()> {
        self.writer.into_writer().into_inner().context("the rest of the pcap file")?.sync_all()?;
        Ok(())
    }
}

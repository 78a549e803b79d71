// SPDX-License-Identifier: Apache-2.0
//! A participant: ICE checks, SRTP with real keys, RTCP, and what it publishes and receives.

use std::collections::{BTreeMap, BTreeSet};

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_abi::ids::TransportRef;
use dataplane_srtp::{RxContext, TxContext};
use dataplane_wire::demux::{self, Class};
use dataplane_wire::rtcp::{Compound, CompoundWriter, Packet, ReportBlock, SenderReport};
use dataplane_wire::rtp::RtpHeader;
use dataplane_wire::seq;
use dataplane_wire::stun::{self, BindingRequest, Message, Role};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::dice::Dice;
use super::incoming::{Incoming, Windowed};
use super::outgoing::{Outgoing, World};

pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER_PORT: u16 = 3478;

/// The 5-tuple of a client's address, seen from the server.
pub(crate) fn flow(host: u8, port: u16) -> FlowKey {
    FlowKey {
        local: map_v4(SERVER),
        remote: map_v4([10, 1, 0, host]),
        local_port: SERVER_PORT,
        remote_port: port,
        reserve: 0,
    }
}

/// HMAC-SHA1 over parts.
pub(crate) fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A Binding request with MESSAGE-INTEGRITY under `pwd`.
pub(crate) fn check(username: &str, pwd: &[u8], transaction: [u8; 12], nominates: bool, role: Role) -> Vec<u8> {
    let request = BindingRequest {
        transaction_id: transaction,
        username: username.as_bytes(),
        priority: 0x6E00_01FF,
        use_candidate: nominates,
        role,
    };
    let mut out = vec![0; 512];
    let len = request.emit(&mut out, |parts| hmac_sha1(pwd, parts)).unwrap();
    out.truncate(len);
    out
}

/// One browser.
pub(crate) struct Client {
    pub(crate) transport: TransportRef,
    pub(crate) flow: FlowKey,
    pub(crate) server_ufrag: String,
    pub(crate) server_pwd: Vec<u8>,
    pub(crate) ufrag: String,
    pub(crate) tx: TxContext,
    pub(crate) rx: RxContext,
    pub(crate) rtcp_ssrc: u32,
    rtcp_next: BTreeMap<u32, u32>,
    server_rtcp: BTreeMap<u32, Windowed>,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) incoming: Vec<Incoming>,
    pub(crate) transport_seq: u16,
    /// Transport-wide numbers that the server reported as received.
    pub(crate) reported: BTreeSet<u16>,
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) dtls: Vec<(FlowKey, Vec<u8>)>,
    pub(crate) is_connected: bool,
    /// It has left without a word.
    pub(crate) is_dead: bool,
    /// It sends checks.
    pub(crate) keeps_consent: bool,
    pub(crate) next_check_ns: u64,
    pub(crate) next_report_ns: u64,
    pub(crate) next_feedback_ns: u64,
    /// Packets per thousand of its media that never leave.
    pub(crate) loss: u64,
    /// Packets that are held back, to arrive after later ones.
    pub(crate) reorder: usize,
    held: Vec<Vec<u8>>,
    pub(crate) asks_keyframes: bool,
    pub(crate) nacks: bool,
    /// Report blocks of the server's receiver reports, newest by SSRC.
    pub(crate) reports: BTreeMap<u32, ReportBlock>,
    pub(crate) server_rtcp_packets: u64,
    /// Datagrams it got, in bytes.
    pub(crate) datagrams: u64,
    pub(crate) repairs: bool,
    /// SSRCs of the server that said goodbye.
    pub(crate) byes: Vec<u32>,
}

impl Client {
    pub(crate) fn new(transport: TransportRef, flow: FlowKey, keys: (TxContext, RxContext), names: [&str; 3]) -> Self {
        Self {
            transport,
            flow,
            server_ufrag: names[0].to_owned(),
            server_pwd: names[1].as_bytes().to_vec(),
            ufrag: names[2].to_owned(),
            tx: keys.0,
            rx: keys.1,
            rtcp_ssrc: 0x7000_0000 | u32::from(flow.remote_port),
            rtcp_next: BTreeMap::new(),
            server_rtcp: BTreeMap::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            transport_seq: 65_500,
            reported: BTreeSet::new(),
            answers: Vec::new(),
            dtls: Vec::new(),
            is_connected: false,
            is_dead: false,
            keeps_consent: true,
            next_check_ns: 0,
            next_report_ns: 0,
            next_feedback_ns: 0,
            loss: 0,
            reorder: 0,
            held: Vec::new(),
            asks_keyframes: true,
            nacks: true,
            reports: BTreeMap::new(),
            server_rtcp_packets: 0,
            datagrams: 0,
            repairs: true,
            byes: Vec::new(),
        }
    }

    pub(crate) fn username(&self) -> String {
        format!("{}:{}", self.server_ufrag, self.ufrag)
    }

    /// What it sends in this millisecond.
    pub(crate) fn tick(&mut self, world: &World, dice: &mut Dice, now_ns: u64, ntp: u64) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.is_dead {
            return out;
        }
        if self.keeps_consent && now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns + if self.is_connected { 2_500_000_000 } else { 50_000_000 };
            let transaction = dice.bytes(12).try_into().unwrap();
            out.push(check(&self.username(), &self.server_pwd, transaction, true, Role::Controlling(7)));
        }
        if !self.is_connected {
            return out;
        }
        out.extend(self.media(world, dice, now_ns));
        if now_ns >= self.next_feedback_ns {
            self.next_feedback_ns = now_ns + 10_000_000;
            out.extend(self.feedback(now_ns));
        }
        if now_ns >= self.next_report_ns {
            self.next_report_ns = now_ns + 1_000_000_000;
            out.extend(self.sender_reports(ntp));
            out.extend(self.receiver_report(now_ns));
        }
        out
    }

    fn media(&mut self, world: &World, dice: &mut Dice, now_ns: u64) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for stream in &mut self.outgoing {
            if stream.is_paused || now_ns < stream.next_frame_ns {
                continue;
            }
            stream.next_frame_ns = now_ns + stream.frame_ns;
            packets.extend(stream.frame(&self.tx, &mut self.transport_seq, world, dice, now_ns));
        }
        let mut out = Vec::new();
        for packet in packets {
            if dice.hits(self.loss) {
                continue;
            }
            if self.reorder > 0 && dice.hits(100) {
                self.held.push(packet);
            } else {
                out.push(packet);
            }
        }
        // Those held back arrive after up to `reorder` later packets.
        while !self.held.is_empty() && (self.held.len() > self.reorder / 10 || dice.hits(150)) {
            let at = dice.below(self.held.len());
            out.push(self.held.swap_remove(at));
        }
        out
    }

    /// One SRTCP packet.
    pub(crate) fn protect_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let sender = dataplane_wire::rtcp::sender_ssrc(plain).unwrap();
        let next = self.rtcp_next.entry(sender).or_insert(1);
        let mut out = vec![0; plain.len() + 32];
        let len = self.tx.protect_rtcp(*next, plain, &mut out).unwrap();
        *next += 1;
        out.truncate(len);
        out
    }

    pub(crate) fn rtcp(&mut self, write: impl FnOnce(&mut CompoundWriter<'_>)) -> Vec<u8> {
        let mut plain = [0; 1200];
        let mut writer = CompoundWriter::begin(&mut plain);
        write(&mut writer);
        let len = writer.len();
        self.protect_rtcp(&plain[..len])
    }

    fn sender_reports(&mut self, ntp: u64) -> Vec<Vec<u8>> {
        // The client's clock is not ours.
        let ntp = ntp.wrapping_add(0x1234_5678_9ABC);
        let reports: Vec<SenderReport> = self
            .outgoing
            .iter()
            .filter(|stream| stream.packets > 0 && !stream.is_paused)
            .map(|stream| SenderReport {
                ssrc: stream.ssrc,
                ntp,
                rtp_ts: stream.rtp_ts,
                packets: stream.packets,
                octets: stream.octets,
            })
            .collect();
        reports
            .iter()
            .map(|report| {
                self.rtcp(|writer| {
                    writer.sr(report, &[]).unwrap();
                    writer.sdes_cname(report.ssrc, b"browser").unwrap();
                })
            })
            .collect()
    }

    fn receiver_report(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let blocks: Vec<ReportBlock> = self
            .incoming
            .iter()
            .filter_map(|stream| {
                let highest = stream.highest()?;
                let (ntp, _, at_ns) = stream.report.unwrap_or((0, 0, now_ns));
                let delay = u64::try_from((u128::from(now_ns - at_ns) << 16) / 1_000_000_000).unwrap();
                Some(ReportBlock {
                    ssrc: stream.expected.ssrc,
                    fraction_lost: 0,
                    cumulative_lost: 0,
                    highest_seq: u32::try_from(highest & 0xFFFF_FFFF).unwrap(),
                    jitter: 0,
                    last_sr: u32::try_from((ntp >> 16) & 0xFFFF_FFFF).unwrap(),
                    delay_since_last_sr: u32::try_from(delay).unwrap(),
                })
            })
            .take(31)
            .collect();
        let sender = self.rtcp_ssrc;
        (!blocks.is_empty()).then(|| self.rtcp(|writer| writer.rr(sender, &blocks).unwrap()))
    }

    /// NACKs of what is missing, PLI where no keyframe came yet or a number was given up.
    fn feedback(&mut self, now_ns: u64) -> Vec<Vec<u8>> {
        let mut wishes: Vec<(u32, Vec<u16>, bool)> = Vec::new();
        let (nacks, asks) = (self.nacks, self.asks_keyframes);
        for stream in &mut self.incoming {
            let mut lost = Vec::new();
            let mut wants_keyframe = stream.expected.is_video && !stream.has_keyframe;
            if nacks && stream.expected.rtx_ssrc != 0 {
                for index in stream.missing() {
                    // What lies before a decoded keyframe is not needed any more.
                    if stream.got.get(&(index + 1)).is_some_and(|got| got.is_keyframe_start) {
                        continue;
                    }
                    let (tries, due) = *stream.nack_tries.entry(index).or_insert((0, now_ns));
                    if now_ns < due || tries > 5 {
                        continue;
                    }
                    stream.nack_tries.insert(index, (tries + 1, now_ns + 50_000_000));
                    // A real receiver gives up as well, and asks for a keyframe.
                    wants_keyframe |= tries == 5;
                    lost.push(seq::low16(index));
                }
            }
            wants_keyframe &= asks && now_ns >= stream.last_pli_ns + 200_000_000;
            if wants_keyframe {
                stream.last_pli_ns = now_ns;
            }
            if !lost.is_empty() || wants_keyframe {
                wishes.push((stream.expected.ssrc, lost, wants_keyframe));
            }
        }
        let sender = self.rtcp_ssrc;
        wishes
            .into_iter()
            .map(|(ssrc, lost, wants_keyframe)| {
                self.rtcp(|writer| {
                    writer.rr(sender, &[]).unwrap();
                    writer.nack(sender, ssrc, lost).unwrap();
                    if wants_keyframe {
                        writer.pli(sender, ssrc).unwrap();
                    }
                })
            })
            .collect()
    }

    /// A datagram for it; what it answers at once.
    pub(crate) fn take(&mut self, to: FlowKey, bytes: &[u8], world: &World, now_ns: u64) -> Vec<Vec<u8>> {
        if self.is_dead {
            return Vec::new();
        }
        self.datagrams += 1;
        match demux::classify(bytes) {
            Class::Stun => {
                let message = Message::parse(bytes).unwrap();
                assert_eq!(message.fingerprint_matches(), Some(true));
                let (header, body) = message.integrity_input().unwrap();
                let key = self.server_pwd.clone();
                assert_eq!(hmac_sha1(&key, &[&header, body]), message.integrity.unwrap().value);
                if message.class == stun::Class::Success {
                    let mapped = message.xor_mapped_address.unwrap();
                    assert_eq!((mapped.ip, mapped.port), (to.remote, to.remote_port));
                    self.is_connected |= to == self.flow;
                }
                self.answers.push(bytes.to_vec());
            }
            Class::Dtls => self.dtls.push((to, bytes.to_vec())),
            Class::RtpOrRtcp if demux::is_rtcp(bytes) => return self.take_rtcp(bytes, world, now_ns),
            Class::RtpOrRtcp => {
                let ssrc = RtpHeader::parse(bytes).unwrap().ssrc();
                let stream = self
                    .incoming
                    .iter_mut()
                    .find(|stream| stream.expected.ssrc == ssrc || (ssrc != 0 && stream.expected.rtx_ssrc == ssrc));
                stream.unwrap_or_else(|| panic!("nobody asked for SSRC {ssrc}")).take(&self.rx, bytes, world, now_ns);
            }
            Class::Zrtp | Class::TurnChannel | Class::Unknown => panic!("no protocol of ours: {bytes:02x?}"),
        }
        Vec::new()
    }

    fn take_rtcp(&mut self, bytes: &[u8], world: &World, now_ns: u64) -> Vec<Vec<u8>> {
        let mut plain = vec![0; 2048];
        let sender = dataplane_wire::rtcp::sender_ssrc(bytes).unwrap();
        let window = self.server_rtcp.entry(sender).or_insert_with(Windowed::new).window();
        let opened = self.rx.receive_rtcp(bytes, window, &dataplane_srtp::Direct, &mut plain).unwrap();
        self.server_rtcp_packets += 1;
        let compound = Compound::parse(&plain[..opened.len]).unwrap();
        let mut out = Vec::new();
        for packet in compound.packets() {
            match packet.unwrap() {
                Packet::Pli(pli) => self.keyframe_request(pli.media_ssrc, now_ns),
                Packet::Fir(fir) => fir.entries().for_each(|entry| self.keyframe_request(entry.ssrc, now_ns)),
                Packet::Nack(nack) => {
                    let Some(at) = self.outgoing.iter().position(|stream| stream.ssrc == nack.media_ssrc) else {
                        panic!("a NACK about SSRC {}", nack.media_ssrc)
                    };
                    for number in nack.lost() {
                        let stream = &mut self.outgoing[at];
                        stream.nacked.push(number);
                        if self.repairs && stream.rtx_ssrc != 0 {
                            out.extend(stream.retransmission(&self.tx, number, &mut self.transport_seq, world));
                        }
                    }
                }
                Packet::Rr(rr) => {
                    for block in rr.reports() {
                        self.reports.insert(block.ssrc, block);
                    }
                }
                Packet::Sr(sr) => {
                    let stream = self.incoming.iter_mut().find(|stream| stream.expected.ssrc == sr.ssrc).unwrap();
                    stream.report = Some((sr.ntp, sr.rtp_ts, now_ns));
                }
                Packet::Sdes(sdes) => {
                    for (ssrc, cname) in sdes.cnames() {
                        let stream = self.incoming.iter_mut().find(|stream| stream.expected.ssrc == ssrc).unwrap();
                        stream.cname = cname.to_vec();
                    }
                }
                Packet::Twcc(twcc) => {
                    for status in twcc.statuses().filter(|status| status.delta_us().is_some()) {
                        self.reported.insert(status.seq);
                    }
                }
                // G10: on slot close only.
                Packet::Bye(bye) => self.byes.extend(bye.ssrcs()),
                other @ (Packet::App(_) | Packet::Remb(_) | Packet::Ccfb(_) | Packet::Xr(_) | Packet::Unknown(_)) => {
                    panic!("{other:?} from the server")
                }
            }
        }
        out
    }

    fn keyframe_request(&mut self, ssrc: u32, now_ns: u64) {
        let stream = self.outgoing.iter_mut().find(|stream| stream.ssrc == ssrc);
        let stream = stream.unwrap_or_else(|| panic!("a keyframe request about SSRC {ssrc}"));
        stream.requests.push(now_ns);
        stream.wants_keyframe = true;
    }
}

// SPDX-License-Identifier: Apache-2.0
//! No bytes make a parser panic: random ones, and valid packets with random damage.

use crate::hex;
use dataplane_wire::codec::{self, Codec};
use dataplane_wire::ext::{AbsSendTime, AudioLevel, SdesText, parse_transport_seq};
use dataplane_wire::rtcp::{Compound, CompoundWriter, Packet, ReportBlock, SenderReport, TwccFeedback, XrBlock};
use dataplane_wire::rtp::{HeaderWriter, RtpHeader, RtpPacket};
use dataplane_wire::stun::{BindingRequest, Message, Role};
use dataplane_wire::{demux, parse_frame};
use proptest::prelude::*;

/// Statuses looked at per feedback packet; the full walk has its own test.
const STATUSES: usize = 500;

fn exercise(bytes: &[u8]) {
    let class = demux::classify(bytes);
    let _ = (class, demux::is_rtcp(bytes));
    if let Ok(frame) = parse_frame(bytes) {
        assert_eq!(&bytes[frame.payload_offset..][..frame.payload.len()], frame.payload);
    }
    exercise_stun(bytes);
    exercise_rtp(bytes);
    exercise_rtcp(bytes);
    for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        for descriptor in [None, Some(bytes)] {
            if let Ok(info) = codec::parse(codec, bytes, descriptor) {
                let mut copy = bytes.to_vec();
                let _ = codec::vp8::patch(&mut copy, &info, 0x7FFF, 255, 31);
            }
        }
    }
}

fn exercise_stun(bytes: &[u8]) {
    if let Ok(message) = Message::parse(bytes) {
        let _ = (message.ufrags(), message.fingerprint_matches(), message.unknown.kinds());
        if let Some((_, body)) = message.integrity_input() {
            assert!(body.len() < bytes.len());
        }
    }
}

fn exercise_rtp(bytes: &[u8]) {
    let _ = RtpPacket::parse(bytes).map(|packet| (packet.payload().len(), packet.padding_len()));
    if let Ok(header) = RtpHeader::parse(bytes) {
        assert!(header.header_len() <= bytes.len());
        for element in header.extensions() {
            assert_eq!(&bytes[element.offset..][..element.data.len()], element.data);
            let _ = (AudioLevel::parse(element.data), AbsSendTime::parse(element.data));
            let _ = (SdesText::parse(element.data), parse_transport_seq(element.data));
        }
        let _ = header.csrcs().count();
    }
}

fn exercise_rtcp(bytes: &[u8]) {
    let Ok(compound) = Compound::parse(bytes) else { return };
    for packet in compound.packets().flatten() {
        match packet {
            Packet::Sr(sr) => assert!(sr.reports().count() <= 31),
            Packet::Rr(rr) => assert!(rr.reports().count() <= 31),
            Packet::Sdes(sdes) => assert!(sdes.items().count() <= bytes.len()),
            Packet::Bye(bye) => assert!(bye.ssrcs().count() <= 31),
            Packet::Nack(nack) => assert!(nack.lost().count() <= bytes.len() * 5),
            Packet::Fir(fir) => assert!(fir.entries().count() <= bytes.len()),
            Packet::Remb(remb) => assert!(remb.ssrcs().count() <= 255),
            Packet::Twcc(twcc) => {
                let wanted = usize::from(twcc.status_count).min(STATUSES);
                assert_eq!(twcc.statuses().take(STATUSES).filter(|s| s.delta_us() != Some(i32::MAX)).count(), wanted);
            }
            Packet::Ccfb(ccfb) => {
                assert!(ccfb.blocks().map(|block| block.reports().count()).sum::<usize>() <= bytes.len())
            }
            Packet::Xr(xr) => {
                for block in xr.blocks() {
                    if let XrBlock::DelaySince(entries) = block {
                        assert!(entries.iter().count() <= bytes.len());
                    }
                }
            }
            Packet::App(_) | Packet::Pli(_) | Packet::Unknown(_) => {}
        }
    }
}

/// One valid packet of every kind.
fn seeds() -> Vec<Vec<u8>> {
    let macs = "020000000001020000000002";
    let mut seeds: Vec<Vec<u8>> = [
        format!("{macs}0800 4502 0021 0000 4000 4011 0000 c0000201 c6336402 1f902710000d0000 68656c6c6f"),
        format!(
            "{macs}88a800c881000064 86dd 60000000 0015 2c40 {} 1100000000000000 1f902710000d0000 68656c6c6f",
            "20".repeat(32)
        ),
        "b0f0923456b1500100 9d012a8002e001".into(),
        "ae8123304438014000f0028001e0010401ff".into(),
        "f1054303 04ff".into(),
        "786700 0b 6742001fda014016ec0440 000468ce3c80".into(),
        "6764001facd9405005bb016a02020280".into(),
        "7c8588".into(),
        "280b 0a0b00000042abbfc370 3000".into(),
        "80000180".into(),
        "8bcd0009000000010000000affff0003a0050000ffff00000000000b0007000280010000 0000000c".into(),
        "80cf000b000000010400000201020304050607080100000005000003000000020000000300000004 0400000100000000".into(),
        "85cc0003000000016e616d65deadbeef".into(),
        "b2ef123489abcdef010203041111111122222222abcd0001cafebabe5555000003".into(),
    ]
    .iter()
    .map(|text| hex(text))
    .collect();
    let mut out = [0; 600];
    let request = BindingRequest {
        transaction_id: [3; 12],
        username: b"abcd:efgh",
        priority: 1,
        use_candidate: true,
        role: Role::Controlling(7),
    };
    let len = request.emit(&mut out, |_| [0; 20]).unwrap();
    seeds.push(out[..len].to_vec());
    for ids in [[1, 2, 3], [1, 2, 30]] {
        let elements = [(ids[0], b"0".as_slice()), (ids[1], b"abc"), (ids[2], b"0123456789")];
        let len = HeaderWriter::default().emit(&mut out, elements).unwrap().header_len + 9;
        seeds.push(out[..len].to_vec());
    }
    let mut writer = CompoundWriter::begin(&mut out);
    writer.sr(&SenderReport::default(), &[ReportBlock::default(); 2]).unwrap();
    writer.sdes_cname(1, b"name").unwrap();
    writer.nack(1, 2, [1, 5, 9, 200]).unwrap();
    writer.remb(1, 1_000_000, &[1, 2]).unwrap();
    seeds.push(writer.as_bytes().to_vec());
    let mut writer = CompoundWriter::begin(&mut out);
    let arrivals: Vec<_> = (0..40).map(|n| (n * 3, Some(i32::from(n) * 90))).collect();
    writer.twcc(&TwccFeedback::default(), &arrivals).unwrap();
    writer.bye(&[1, 2]).unwrap();
    seeds.push(writer.as_bytes().to_vec());
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packets_never_panic(
        which: prop::sample::Index,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut: Option<prop::sample::Index>,
        tail in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        std::thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|seeds| which.get(seeds).clone());
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(tail);
        exercise(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(
        first in prop::sample::select(vec![0_u8, 0x80, 0x81, 0x8F, 0x90, 0xA0, 0xB1, 0x67, 0x78, 0x18, 0xFF]),
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let bytes: Vec<u8> = std::iter::once(first).chain(rest).collect();
        exercise(&bytes);
    }
}

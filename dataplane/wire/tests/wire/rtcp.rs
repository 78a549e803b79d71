// SPDX-License-Identifier: Apache-2.0
//! RTCP compounds, reports and feedback.

use crate::hex;
use dataplane_wire::EmitError;
use dataplane_wire::rtcp::{
    Compound, CompoundWriter, DlrrEntry, FirEntry, Packet, ReportBlock, RtcpError, SenderReport, XrBlock, sender_ssrc,
};
use proptest::prelude::*;

fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    Compound::parse(bytes).unwrap().packets().map(|packet| packet.unwrap()).collect()
}

fn only(bytes: &[u8]) -> Packet<'_> {
    let list = packets(bytes);
    assert_eq!(list.len(), 1);
    list[0]
}

// RFC 3550 §6.4.1 and §6.5
#[test]
fn a_sender_report_and_a_description_are_read() {
    let bytes = hex("81c8000c 00000001 83aa7e80 40000000 00015f90 00000064 0000c350
         00000002 40 fffffe 00010005 00000007 7e804000 00010000
         81ca0003 00000001 0105 6162634064 00");
    let list = packets(&bytes);
    let Packet::Sr(sr) = list[0] else { panic!("{list:?}") };
    assert_eq!((sr.ssrc, sr.ntp, sr.rtp_ts), (1, 0x83AA_7E80_4000_0000, 90_000));
    assert_eq!((sr.packets, sr.octets), (100, 50_000));
    let wanted = ReportBlock {
        ssrc: 2,
        fraction_lost: 64,
        cumulative_lost: -2,
        highest_seq: 0x1_0005,
        jitter: 7,
        last_sr: 0x7E80_4000,
        delay_since_last_sr: 0x1_0000,
    };
    assert_eq!(sr.reports().collect::<Vec<_>>(), [wanted]);
    let Packet::Sdes(sdes) = list[1] else { panic!("{list:?}") };
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(1, b"abc@d".as_slice())]);
    assert_eq!(sender_ssrc(&bytes), Some(1));
}

// RFC 3550 §6.5
#[test]
fn several_chunks_with_several_items_are_walked() {
    // Chunk 1: CNAME "a", NAME "bc", one terminator; chunk 2: CNAME "" with its terminator and padding.
    let bytes = hex("82ca0005 0000000a 010161 02026263 00 0000000b 0100 0000");
    let Packet::Sdes(sdes) = only(&bytes) else { panic!() };
    let items: Vec<_> = sdes.items().map(|item| (item.ssrc, item.kind, item.text)).collect();
    assert_eq!(items, [(10, 1, b"a".as_slice()), (10, 2, b"bc"), (11, 1, b"")]);
}

#[test]
fn counts_beyond_the_bytes_are_refused_and_do_not_hide_neighbours() {
    let bytes = hex("9fc90001 00000001 81ce0002 00000001 00000002");
    let results: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
    assert_eq!(results[0], Err(RtcpError::Truncated), "31 blocks in one word");
    assert!(matches!(results[1], Ok(Packet::Pli(pli)) if pli.media_ssrc == 2));
    let bytes = hex("9fca0001 00000001");
    let Packet::Sdes(sdes) = only(&bytes) else { panic!() };
    assert_eq!(sdes.items().count(), 0);
    let cut = hex("82cb0001 00000001");
    assert_eq!(Compound::parse(&cut).unwrap().packets().next(), Some(Err(RtcpError::Truncated)));
}

#[test]
fn the_chain_of_lengths_is_proven() {
    let good = hex("80c90001 00000001 81ce0002 00000001 00000002");
    assert!(Compound::parse(&good).is_ok());
    for len in (0..good.len()).filter(|len| *len != 8) {
        assert_eq!(Compound::parse(&good[..len]), Err(RtcpError::Truncated), "{len} bytes");
    }
    assert_eq!(Compound::parse(&hex("40c90001 00000001")), Err(RtcpError::Version));
}

// RFC 3550 §6.4.1
#[test]
fn padding_is_taken_off_and_checked() {
    let bytes = hex("a1cb0002 00000009 00000004");
    let Packet::Bye(bye) = only(&bytes) else { panic!() };
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [9]);
    assert!(bye.reason.is_empty());
    assert_eq!(Compound::parse(&hex("a1cb0001 00000000")), Err(RtcpError::Padding));
    assert_eq!(Compound::parse(&hex("a1cb0001 00000005")), Err(RtcpError::Padding));
    assert_eq!(Compound::parse(&hex("a0cb0000")), Err(RtcpError::Padding));
}

#[test]
fn bye_may_give_a_reason() {
    let bytes = hex("82cb0004 00000009 0000000a 04676f6e 65000000");
    let Packet::Bye(bye) = only(&bytes) else { panic!() };
    assert_eq!((bye.ssrcs().collect::<Vec<_>>(), bye.reason), (vec![9, 10], b"gone".as_slice()));
    let lying = hex("81cb0002 00000009 04676f6e");
    assert_eq!(Compound::parse(&lying).unwrap().packets().next(), Some(Err(RtcpError::Truncated)));
}

// RFC 4585 §6.2.1
#[test]
fn nack_pairs_give_every_lost_number() {
    let bytes = hex("81cd0004 00000001 00000002 ffff 8001 0100 0000");
    let Packet::Nack(nack) = only(&bytes) else { panic!() };
    assert_eq!((nack.sender_ssrc, nack.media_ssrc), (1, 2));
    assert_eq!(nack.lost().collect::<Vec<_>>(), [65535, 0, 15, 256]);
}

// RFC 5104 §4.3.1
#[test]
fn fir_entries_are_read() {
    let bytes = hex("84ce0004 00000001 00000000 00000007 05000000");
    let Packet::Fir(fir) = only(&bytes) else { panic!() };
    assert_eq!(fir.entries().collect::<Vec<_>>(), [FirEntry { ssrc: 7, command_seq: 5 }]);
}

#[test]
fn remb_is_read_and_other_application_feedback_is_not_taken_for_it() {
    let bytes = hex("8fce0005 00000001 00000000 52454d42 01 0a 1234 00000007");
    let Packet::Remb(remb) = only(&bytes) else { panic!() };
    assert_eq!((remb.sender_ssrc, remb.bitrate_bps), (1, 0x2_1234 << 2));
    assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [7]);
    assert!(matches!(only(&hex("8fce0003 00000001 00000000 41424344")), Packet::Unknown(raw) if raw.count == 15));
    for bad in
        ["8fce0005 00000001 00000000 52454d42 02 0a 1234 00000007", "8fce0004 00000001 00000000 52454d42 00ffffff"]
    {
        assert!(Compound::parse(&hex(bad)).unwrap().packets().next().unwrap().is_err(), "{bad}");
    }
}

// RFC 8888 §3.1
#[test]
fn congestion_control_feedback_is_read() {
    let bytes = hex("8bcd0009 00000001
         0000000a ffff 0003 a005 0000 ffff 0000
         0000000b 0007 0002 8001 0000
         0000000c");
    let Packet::Ccfb(ccfb) = only(&bytes) else { panic!() };
    assert_eq!((ccfb.sender_ssrc, ccfb.report_timestamp), (1, 12));
    let blocks: Vec<_> = ccfb.blocks().collect();
    assert_eq!((blocks[0].ssrc, blocks[0].begin_seq, blocks[1].ssrc), (10, 65535, 11));
    let reports: Vec<_> =
        blocks[0].reports().map(|report| (report.seq, report.received, report.ecn, report.arrival_offset)).collect();
    assert_eq!(reports, [(65535, true, 1, 5), (0, false, 0, 0), (1, true, 3, 0x1FFF)]);
    assert_eq!(blocks[1].reports().count(), 2);
    let mut bytes = bytes;
    bytes[15] = 200;
    assert_eq!(Compound::parse(&bytes).unwrap().packets().next(), Some(Err(RtcpError::Truncated)));
}

// RFC 3611 §4.4 and §4.5
#[test]
fn extended_reports_give_reference_time_and_delay() {
    let bytes = hex(
        "80cf000b 00000001 04000002 0102030405060708 01000000 05000003 00000002 00000003 00000004 04000001 00000000",
    );
    let Packet::Xr(xr) = only(&bytes) else { panic!() };
    let blocks: Vec<_> = xr.blocks().collect();
    assert_eq!(blocks[0], XrBlock::ReferenceTime(0x0102_0304_0506_0708));
    assert_eq!(blocks[1], XrBlock::Other { kind: 1, body: &[] });
    let XrBlock::DelaySince(entries) = blocks[2] else { panic!() };
    assert_eq!(entries.iter().collect::<Vec<_>>(), [DlrrEntry { ssrc: 2, last_rr: 3, delay: 4 }]);
    assert!(matches!(blocks[3], XrBlock::Other { kind: 4, .. }), "too short for a time");
}

#[test]
fn application_packets_and_unknown_types_are_passed_on() {
    let bytes = hex("85cc0003 00000001 6e616d65 deadbeef");
    let Packet::App(app) = only(&bytes) else { panic!() };
    assert_eq!((app.subtype, app.ssrc, app.name, app.data.len()), (5, 1, *b"name", 4));
    assert!(matches!(only(&hex("80d00000")), Packet::Unknown(raw) if raw.pt == 208));
    assert!(matches!(only(&hex("82cd0002 00000001 00000002")), Packet::Unknown(raw) if raw.count == 2));
}

#[test]
fn a_packet_that_does_not_fit_leaves_the_compound_as_it_was() {
    let mut out = [0; 22];
    let mut writer = CompoundWriter::begin(&mut out);
    writer.pli(1, 2).unwrap();
    assert_eq!(writer.fir(1, &[FirEntry { ssrc: 2, command_seq: 3 }]), Err(EmitError::NoSpace));
    assert_eq!(writer.bye(&[0; 32]), Err(EmitError::TooMany));
    assert_eq!((writer.len(), writer.room()), (12, 10));
    writer.rr(1, &[]).unwrap();
    assert_eq!(packets(writer.as_bytes()).len(), 2);
    assert_eq!(writer.nack(1, 2, [1]), Err(EmitError::NoSpace));
    assert_eq!(writer.nack(1, 2, []), Ok(0));
    assert_eq!(writer.len(), 20);
}

#[test]
fn a_nack_takes_what_fits() {
    let mut out = [0; 20];
    let mut writer = CompoundWriter::begin(&mut out);
    assert_eq!(writer.nack(1, 2, [10, 26, 27, 43, 44, 200]), Ok(4));
    let Packet::Nack(nack) = only(writer.as_bytes()) else { panic!() };
    assert_eq!(nack.lost().collect::<Vec<_>>(), [10, 26, 27, 43]);
}

fn report_block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -0x80_0000..0x80_0000).prop_map(|(numbers, fraction_lost, cumulative_lost)| {
        let [ssrc, highest_seq, jitter, last_sr, delay_since_last_sr] = numbers;
        ReportBlock { ssrc, fraction_lost, cumulative_lost, highest_seq, jitter, last_sr, delay_since_last_sr }
    })
}

proptest! {
    #[test]
    fn a_compound_that_is_emitted_is_parsed(
        numbers: [u32; 6], ntp: u64, blocks in proptest::collection::vec(report_block(), 0..32),
        cname in proptest::collection::vec(any::<u8>(), 0..256), ssrcs in proptest::collection::vec(any::<u32>(), 0..32),
        first: u16, steps in proptest::collection::vec(1_u16..40, 1..60), bitrate: u64, entry: (u32, u8),
    ) {
        let [ssrc, rtp_ts, sent, octets, sender_ssrc, media_ssrc] = numbers;
        let lost: Vec<u16> = steps.iter().scan(first, |at, step| { *at = at.wrapping_add(*step); Some(*at) }).collect();
        let sender = SenderReport { ssrc, ntp, rtp_ts, packets: sent, octets };
        let mut out = vec![0; 4000];
        let mut writer = CompoundWriter::begin(&mut out);
        writer.sr(&sender, &blocks).unwrap();
        writer.rr(ssrc, &blocks).unwrap();
        writer.sdes_cname(ssrc, &cname).unwrap();
        prop_assert_eq!(writer.nack(sender_ssrc, media_ssrc, lost.iter().copied()), Ok(lost.len()));
        writer.pli(sender_ssrc, media_ssrc).unwrap();
        writer.fir(sender_ssrc, &[FirEntry { ssrc: entry.0, command_seq: entry.1 }]).unwrap();
        writer.remb(sender_ssrc, bitrate, &ssrcs).unwrap();
        writer.bye(&ssrcs).unwrap();
        let len = writer.len();
        let list = packets(&out[..len]);
        prop_assert_eq!(list.len(), 8);
        for packet in list {
            match packet {
                Packet::Sr(sr) => {
                    prop_assert_eq!((sr.ssrc, sr.ntp, sr.rtp_ts, sr.packets, sr.octets), (ssrc, ntp, rtp_ts, sent, octets));
                    prop_assert_eq!(sr.reports().collect::<Vec<_>>(), blocks.clone());
                }
                Packet::Rr(rr) => prop_assert_eq!(rr.reports().collect::<Vec<_>>(), blocks.clone()),
                Packet::Sdes(sdes) => prop_assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(ssrc, cname.as_slice())]),
                Packet::Nack(nack) => prop_assert_eq!(nack.lost().collect::<Vec<_>>(), lost.clone()),
                Packet::Pli(pli) => prop_assert_eq!((pli.sender_ssrc, pli.media_ssrc), (sender_ssrc, media_ssrc)),
                Packet::Fir(fir) => {
                    let wanted = FirEntry { ssrc: entry.0, command_seq: entry.1 };
                    prop_assert_eq!(fir.entries().collect::<Vec<_>>(), [wanted]);
                }
                Packet::Remb(remb) => {
                    prop_assert!(remb.bitrate_bps <= bitrate && bitrate - remb.bitrate_bps <= bitrate >> 17);
                    prop_assert_eq!(remb.ssrcs().collect::<Vec<_>>(), ssrcs.clone());
                }
                Packet::Bye(bye) => prop_assert_eq!(bye.ssrcs().collect::<Vec<_>>(), ssrcs.clone()),
                Packet::App(_) | Packet::Twcc(_) | Packet::Ccfb(_) | Packet::Xr(_) | Packet::Unknown(_) => {
                    prop_assert!(false, "{:?}", packet);
                }
            }
        }
    }
}

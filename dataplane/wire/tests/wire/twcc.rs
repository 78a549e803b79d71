// SPDX-License-Identifier: Apache-2.0
//! Transport-wide feedback: the chunk forms and the way there and back.

use crate::hex;
use dataplane_wire::EmitError;
use dataplane_wire::rtcp::{Arrival, Compound, CompoundWriter, Packet, RtcpError, Twcc, TwccFeedback};
use proptest::prelude::*;

fn parse(bytes: &[u8]) -> Twcc<'_> {
    let packet = Compound::parse(bytes).unwrap().packets().next().unwrap().unwrap();
    let Packet::Twcc(twcc) = packet else { panic!("{packet:?}") };
    twcc
}

/// A feedback packet of these chunks and deltas, padded.
fn packet(status_count: u16, tail: &str) -> Vec<u8> {
    let mut tail = hex(tail);
    while !tail.len().is_multiple_of(4) {
        tail.push(0);
    }
    let words = u16::try_from(4 + tail.len() / 4).unwrap();
    let fixed = hex("00000001 00000002 fffe");
    let time = hex("fffffe 09");
    [hex("8fcd"), words.to_be_bytes().to_vec(), fixed, status_count.to_be_bytes().to_vec(), time, tail].concat()
}

// draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1
#[test]
fn the_three_chunk_forms_are_read() {
    // A run of 2 small; fourteen one-bit symbols 1,0,1,0,…; two-bit symbols large, lost, reserved and padding.
    let bytes = packet(19, "2002 a800 e300 01 02 03 04 ff00");
    let twcc = parse(&bytes);
    assert_eq!((twcc.sender_ssrc, twcc.media_ssrc, twcc.base_seq, twcc.status_count), (1, 2, 0xFFFE, 19));
    assert_eq!((twcc.reference_time, twcc.feedback_count), (-2, 9));
    let statuses: Vec<_> = twcc.statuses().collect();
    assert_eq!((statuses[0].seq, statuses[2].seq), (0xFFFE, 0), "numbers wrap");
    let arrivals: Vec<_> = statuses.iter().map(|status| status.arrival).collect();
    let delta = Arrival::Delta;
    assert_eq!(arrivals[..5], [delta(1), delta(2), delta(3), Arrival::Lost, delta(4)]);
    assert!(arrivals[5..16].iter().all(|arrival| *arrival == Arrival::Lost));
    assert_eq!(arrivals[16..], [delta(-256), Arrival::Lost, Arrival::NoTime]);
}

#[test]
fn a_delta_that_is_missing_is_refused() {
    let good = packet(3, "2003 010203");
    assert_eq!(parse(&good).statuses().filter_map(|status| status.delta_us()).collect::<Vec<_>>(), [250, 500, 750]);
    for bad in [packet(9, "2009 01 02"), packet(2, "4002"), packet(3, "2002 0000"), packet(1, "")] {
        assert_eq!(Compound::parse(&bad).unwrap().packets().next(), Some(Err(RtcpError::Truncated)), "{bad:02x?}");
    }
}

#[test]
fn symbols_beyond_the_count_need_no_delta() {
    for chunk in ["2003", "b000", "d500"] {
        let bytes = packet(2, &format!("{chunk} 0102"));
        assert_eq!(parse(&bytes).statuses().count(), 2, "{chunk}");
    }
}

#[test]
fn runs_of_zero_do_not_stop_the_walk() {
    let twcc_bytes = packet(1, "0000 0000 2001 07");
    let twcc = parse(&twcc_bytes);
    assert_eq!(twcc.statuses().map(|status| status.arrival).collect::<Vec<_>>(), [Arrival::Delta(7)]);
}

#[test]
fn one_small_packet_gives_no_more_than_its_count() {
    let bytes = packet(u16::MAX, &"1fff".repeat(9));
    assert_eq!(parse(&bytes).statuses().count(), 65_535);
}

#[test]
fn a_delta_beyond_sixteen_bits_begins_another_packet() {
    let feedback = TwccFeedback { base_seq: 10, ..TwccFeedback::default() };
    let mut out = [0; 200];
    let mut writer = CompoundWriter::begin(&mut out);
    let written = writer.twcc(&feedback, &[(0, Some(0)), (1, Some(32_767)), (2, Some(65_535))]).unwrap();
    assert_eq!((written.consumed, written.status_count), (2, 2));
    assert_eq!(writer.twcc(&feedback, &[(0, Some(32_768))]), Err(EmitError::InvalidValue));
    assert_eq!(writer.twcc(&feedback, &[(0, Some(-32_769))]), Err(EmitError::InvalidValue));
    let written = writer.twcc(&feedback, &[(0, Some(-32_768)), (1, Some(i32::MAX))]).unwrap();
    assert_eq!(written.consumed, 1);
    assert_eq!(writer.twcc(&feedback, &[]).unwrap().consumed, 0);
    assert_eq!(writer.twcc(&feedback, &[(5, None), (5, None)]).unwrap().consumed, 1, "offsets ascend");
}

#[test]
fn a_large_gap_is_a_few_runs() {
    let mut out = [0; 64];
    let mut writer = CompoundWriter::begin(&mut out);
    let arrivals = [(0, Some(1)), (65_534, Some(2)), (65_535, Some(3))];
    let written = writer.twcc(&TwccFeedback::default(), &arrivals).unwrap();
    assert_eq!((written.consumed, written.status_count), (2, 65_535));
    let len = writer.len();
    let received: Vec<_> = parse(&out[..len])
        .statuses()
        .filter(|status| status.arrival != Arrival::Lost)
        .map(|status| status.seq)
        .collect();
    assert_eq!(received, [0, 65_534]);
    assert!(len <= 48, "{len} bytes");
}

#[test]
fn a_steady_stream_is_one_run() {
    let arrivals: Vec<_> = (0..200).map(|offset| (offset, Some(i32::from(offset) * 4))).collect();
    let mut out = [0; 400];
    let mut writer = CompoundWriter::begin(&mut out);
    assert_eq!(writer.twcc(&TwccFeedback::default(), &arrivals).unwrap().consumed, 200);
    assert_eq!(writer.len(), (20_usize + 2 + 200).next_multiple_of(4));
}

/// Arrivals with loss, reordering and gaps: ascending offsets, any order of times.
fn arrivals() -> impl Strategy<Value = Vec<(u16, Option<i32>)>> {
    let step = prop_oneof![8 => Just(1_u16), 2 => 1_u16..20, 1 => 1_u16..9000];
    let delta = prop_oneof![8 => 0_i32..256, 3 => -400_i32..2000, 1 => -40_000_i32..40_000];
    let entry = (step, proptest::option::weighted(0.85, delta));
    proptest::collection::vec(entry, 1..150).prop_map(|entries| {
        let (mut offset, mut time) = (0_u16, 0_i32);
        let mut list = Vec::new();
        for (at, (step, delta)) in entries.into_iter().enumerate() {
            let Some(next) = offset.checked_add(if at == 0 { step - 1 } else { step }) else { break };
            offset = next;
            list.push((
                offset,
                delta.map(|delta| {
                    time += delta;
                    time
                }),
            ));
        }
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_arrival_comes_back_over_as_many_packets_as_it_takes(
        all in arrivals(), base_seq: u16, reference in -0x80_0000..0x80_0000, room in 28_usize..600,
    ) {
        let mut rest = all.as_slice();
        let mut base_offset = 0_u16;
        let mut base_time = 0_i32;
        let mut found: Vec<(u16, Option<i32>)> = Vec::new();
        let mut packets = 0_usize;
        while !rest.is_empty() {
            packets += 1;
            prop_assert!(packets <= all.len());
            let relative: Vec<_> = rest.iter().map(|(offset, time)| (offset - base_offset, time.map(|time| time - base_time))).collect();
            let feedback = TwccFeedback { base_seq: base_seq.wrapping_add(base_offset), reference_time: reference, ..TwccFeedback::default() };
            let mut out = vec![0xEE; room];
            let mut writer = CompoundWriter::begin(&mut out);
            let written = match writer.twcc(&feedback, &relative) {
                Ok(written) => written,
                Err(EmitError::InvalidValue) => {
                    // The first delta is too far from the reference: move the reference to it.
                    let first = rest.iter().find_map(|(_, time)| *time).unwrap();
                    prop_assert!(first != base_time);
                    prop_assert_eq!(writer.len(), 0);
                    base_time = first;
                    packets -= 1;
                    continue;
                }
                Err(error) => {
                    prop_assert!(false, "{:?} in {} bytes for {:?}", error, room, relative.first());
                    return Ok(());
                }
            };
            let len = writer.len();
            prop_assert!(len <= room && len.is_multiple_of(4) && written.consumed >= 1);
            let twcc = parse(&out[..len]);
            prop_assert_eq!((twcc.base_seq, twcc.reference_time), (feedback.base_seq, reference));
            prop_assert_eq!(twcc.status_count, written.status_count);
            let mut time = base_time;
            for status in twcc.statuses() {
                let arrival = match status.arrival {
                    Arrival::Delta(delta) => { time += i32::from(delta); Some(time) }
                    Arrival::Lost => None,
                    Arrival::NoTime => { prop_assert!(false); None }
                };
                found.push((status.seq.wrapping_sub(base_seq), arrival));
            }
            rest = &rest[written.consumed..];
            base_offset = base_offset.wrapping_add(written.status_count);
        }
        let wanted: Vec<_> = all.iter().filter(|(_, time)| time.is_some()).copied().collect();
        let received: Vec<_> = found.iter().filter(|(_, time)| time.is_some()).copied().collect();
        prop_assert_eq!(received, wanted);
        for (at, (offset, _)) in found.iter().enumerate() {
            prop_assert_eq!(usize::from(*offset), at, "statuses are contiguous");
        }
        prop_assert_eq!(found.last().map(|(offset, _)| *offset), all.last().map(|(offset, _)| *offset));
    }
}

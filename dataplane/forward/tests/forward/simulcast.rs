// SPDX-License-Identifier: Apache-2.0
//! Streams that are learned, and switches between them that a receiver must not see (MEDIA_RULES G1, G4, G5, V3, V4).

use std::sync::atomic::Ordering;

use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::ids::IngressId;
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;

use crate::support::call::{Call, MS, SECOND, Track, Who};
use crate::support::incoming::Incoming;
use crate::support::outgoing::{ids, seal};

fn simulcast(call: &mut Call, places: (usize, usize)) -> (Track, Who, Who) {
    let publisher = call.join(places.0);
    let track = call.publish_as(publisher, true, &["q", "h", "f"], false);
    let receiver = call.join(places.1);
    call.subscribe(receiver, &track);
    (track, publisher, receiver)
}

/// What a decoder asks of the stream: numbers, pictures and time go on; another source begins with a keyframe.
fn assert_continues(stream: &Incoming) -> Vec<u32> {
    let mut tags = Vec::new();
    let all: Vec<_> = stream.got.values().collect();
    for two in all.windows(2) {
        let (before, after) = (two[0], two[1]);
        assert!(!seq::newer32(before.rtp_ts, after.rtp_ts), "G5: time goes back");
        let is_same_picture = before.rtp_ts == after.rtp_ts;
        let step = after.picture_id.wrapping_sub(before.picture_id) & 0x7FFF;
        assert_eq!(step, u16::from(!is_same_picture), "V3: picture ids are contiguous");
        let step = after.tl0.wrapping_sub(before.tl0);
        assert_eq!(step, u8::from(!is_same_picture), "V4: TL0PICIDX goes on");
        if before.tag != after.tag {
            assert!(after.is_keyframe_start, "G4: another source begins with a keyframe");
            assert!(before.marker, "the frame before is complete");
            let passed = seq::diff32(after.rtp_ts, before.rtp_ts).unsigned_abs() / 90;
            assert!((1..2500).contains(&passed), "G5: {passed} ms between two sources");
            assert_eq!(after.keyidx, (before.keyidx + 1) & 31, "V4: KEYIDX goes on");
            let wall = (after.sent_ns.cast_signed() - before.sent_ns.cast_signed()) / 1_000_000;
            assert!((i64::from(passed) - wall).abs() < 60, "G5: {passed} ms of media in {wall} ms");
        }
        if tags.last() != Some(&after.tag) {
            tags.push(after.tag);
        }
    }
    tags
}

// V8, G4, G5
#[test]
fn the_best_living_encoding_is_forwarded_and_nobody_sees_the_switch() {
    for (seed, places) in [(1, (0, 0)), (2, (0, 1)), (3, (1, 0)), (4, (1, 1))] {
        let mut call = Call::new(seed, 2);
        let (track, publisher, receiver) = simulcast(&mut call, places);
        call.run(4 * SECOND);
        call.clients[publisher].outgoing[2].is_paused = true;
        call.run(4 * SECOND);
        call.clients[publisher].outgoing[1].is_paused = true;
        call.run(4 * SECOND);
        call.clients[publisher].outgoing[2].is_paused = false;
        call.clients[publisher].outgoing[1].is_paused = false;
        call.run(4 * SECOND);
        call.drain();
        let stream = call.incoming(receiver, 0);
        assert_eq!(stream.missing(), Vec::<u64>::new());
        let tags = assert_continues(stream);
        let mut wanted = vec![track.tags[2], track.tags[1], track.tags[0]];
        wanted.extend([track.tags[2]]);
        let tail: Vec<u32> = tags.iter().copied().skip_while(|tag| *tag != track.tags[2]).collect();
        let without_middle: Vec<u32> = tail
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, tag)| *at < 3 || *tag != track.tags[1])
            .map(|two| two.1)
            .collect();
        assert_eq!(without_middle, wanted, "{tags:?}");
        let gaps: Vec<u64> = stream.got.values().map(|got| got.at_ns).collect();
        let longest = gaps.windows(2).map(|two| two[1].saturating_sub(two[0])).max().unwrap();
        assert!(longest < 2200 * MS, "{} ms without a picture", longest / MS);
    }
}

// RFC 8852: SSRCs are learned from MID and RID, and a successor knows them
#[test]
fn ssrcs_are_learned_from_rids() {
    let mut call = Call::new(5, 1);
    let (track, publisher, _) = simulcast(&mut call, (0, 0));
    call.clients[publisher].loss = 30;
    call.run(3 * SECOND);
    for (encoding, stream) in (0_u8..).zip(&call.clients[publisher].outgoing) {
        let durable = call.bed.segment.ingress(IngressId::of(track.track.slot, encoding)).unwrap();
        assert_eq!(durable.ssrc.load(Ordering::Relaxed), stream.ssrc);
        assert_eq!(durable.rtx_ssrc.load(Ordering::Relaxed), stream.rtx_ssrc);
    }
}

// S6: an unauthenticated packet moves nothing; S2: it costs no memory
#[test]
fn forged_ssrcs_silence_nobody_and_cost_nothing() {
    let mut call = Call::new(6, 1);
    let publisher = call.join(0);
    let track = call.publish_as(publisher, true, &[""], false);
    let receiver = call.join(0);
    call.subscribe(receiver, &track);
    call.clients[publisher].outgoing[0].is_paused = true;
    call.run(100 * MS);
    let from = call.clients[publisher].flow;
    let forged = |ssrc: u32, dice: &mut crate::support::dice::Dice| {
        let mut bytes = vec![0x80, 96, dice.byte(), dice.byte(), 0, 0, 0, 1];
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        let len = 20 + dice.below(100);
        bytes.extend(dice.bytes(len));
        bytes
    };
    // The first packet of the publisher's own SSRC is forged.
    let ssrc = call.clients[publisher].outgoing[0].ssrc;
    for _ in 0..100 {
        let bytes = forged(ssrc, &mut call.bed.dice);
        call.deliver(from, &bytes);
    }
    let durable: Vec<u8> = image(&call, &track);
    for at in 0..100_000_u32 {
        let bytes = forged(at.wrapping_mul(2_654_435_761), &mut call.bed.dice);
        call.deliver(from, &bytes);
        if at % 64 == 63 {
            call.bed.turn();
        }
    }
    call.bed.turn();
    call.bed.turn();
    assert_eq!(image(&call, &track), durable, "S6: byte by byte as before");
    assert!(call.bed.dropped(DropReason::SrtpAuth) >= 100_000);
    call.clients[publisher].outgoing[0].is_paused = false;
    call.run(2 * SECOND);
    call.drain();
    call.assert_complete(receiver, 0, track.tags[0]);
}

/// The durable record of a track's first encoding, in bytes.
fn image(call: &Call, track: &Track) -> Vec<u8> {
    let durable = call.bed.segment.ingress(IngressId::of(track.track.slot, 0)).unwrap();
    let cells =
        durable.bits.iter().chain(&durable.rtx_bits).chain([&durable.top, &durable.rtx_top, &durable.stored_top]);
    let mut bytes: Vec<u8> = cells.flat_map(|cell| cell.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.extend(durable.ssrc.load(Ordering::Relaxed).to_le_bytes());
    bytes.extend(durable.log.load(Ordering::Relaxed).to_le_bytes());
    bytes
}

// S7: the first packets were lost right at the wrap
#[test]
fn a_stream_whose_first_packets_were_lost_at_the_wrap_is_learned() {
    let mut call = Call::new(7, 1);
    let publisher = call.join(0);
    let track = call.publish_as(publisher, true, &[""], false);
    let receiver = call.join(0);
    call.subscribe(receiver, &track);
    call.clients[publisher].outgoing[0].next = 65_536 + 3;
    call.run(2 * SECOND);
    call.drain();
    call.assert_complete(receiver, 0, track.tags[0]);
}

// G5: a publisher that begins anew with another SSRC
#[test]
fn another_ssrc_of_the_same_track_goes_on_where_the_first_one_ended() {
    for places in [(0, 0), (0, 1)] {
        let mut call = Call::new(8, 2);
        let publisher = call.join(places.0);
        let track = call.publish_as(publisher, true, &[""], false);
        let receiver = call.join(places.1);
        call.subscribe(receiver, &track);
        call.run(2 * SECOND);
        let (ssrc, rtx_ssrc) = (call.fresh_ssrc(), call.fresh_ssrc());
        let stream = &mut call.clients[publisher].outgoing[0];
        let old = (stream.ssrc, stream.next);
        stream.is_paused = true;
        call.run(600 * MS);
        let stream = &mut call.clients[publisher].outgoing[0];
        (stream.ssrc, stream.rtx_ssrc, stream.is_paused) = (ssrc, rtx_ssrc, false);
        stream.tag += 1000;
        (stream.next, stream.rtp_ts, stream.picture_id, stream.tl0) = (77, 12_345, 5, 200);
        stream.wants_keyframe = true;
        call.run(2 * SECOND);
        let continued = call.incoming(receiver, 0).got.values().filter(|got| got.tag > 1000).count();
        assert!(continued > 40, "{continued} packets of the fresh SSRC");
        // S6: a replay of the SSRC that was left does not take the stream back.
        let replay = {
            let header = HeaderWriter { pt: 96, seq: seq::low16(old.1), ssrc: old.0, ..HeaderWriter::default() };
            seal(&call.clients[publisher].tx, old.1 & 0xFFFF, header, &[(ids::MID, b"0")], &[0x90; 40])
        };
        let from = call.clients[publisher].flow;
        call.deliver(from, &replay);
        call.step();
        assert_eq!(call.bed.dropped(DropReason::UnknownSsrc), 1);
        call.run(SECOND);
        call.drain();
        assert_continues(call.incoming(receiver, 0));
        assert_eq!(call.incoming(receiver, 0).missing(), Vec::<u64>::new());
    }
}

// S9
#[test]
fn two_publishers_with_the_same_ssrc_never_reach_each_others_receivers() {
    let mut call = Call::new(9, 2);
    let (left, right) = (call.join(0), call.join(1));
    let tracks = [call.publish(left, true), call.publish(right, true)];
    let (ssrc, rtx_ssrc) = (call.clients[left].outgoing[0].ssrc, call.clients[left].outgoing[0].rtx_ssrc);
    let mut record = call.bed.segment.intent_track(tracks[1].track.slot).unwrap();
    (record.encodings[0].ssrc, record.encodings[0].rtx_ssrc) = (ssrc, rtx_ssrc);
    call.bed.intent.publish_track(tracks[1].track.slot, &record).unwrap();
    (call.clients[right].outgoing[0].ssrc, call.clients[right].outgoing[0].rtx_ssrc) = (ssrc, rtx_ssrc);
    let receivers = [call.join(0), call.join(1)];
    for (who, track) in receivers.iter().zip(&tracks) {
        call.subscribe(*who, track);
    }
    call.clients[left].loss = 20;
    call.run(3 * SECOND);
    call.clients[left].loss = 0;
    call.run(SECOND);
    call.clients[receivers[0]].incoming[0].duplicates = 0;
    call.drain();
    for (who, track) in receivers.iter().zip(&tracks) {
        call.assert_complete(*who, 0, track.tags[0]);
    }
}

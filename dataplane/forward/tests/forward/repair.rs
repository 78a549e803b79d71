// SPDX-License-Identifier: Apache-2.0
//! Loss on either side: NACK and retransmission upstream, NACK answered from the store downstream, keyframes merged.

use std::sync::atomic::Ordering;

use dataplane_abi::drop_reason::SkipReason;
use dataplane_wire::seq;

use crate::support::call::{Call, MS, SECOND, Track, Who};

fn pair(call: &mut Call, places: (usize, usize)) -> (Track, Who, Who) {
    let publisher = call.join(places.0);
    let track = call.publish(publisher, true);
    let receiver = call.join(places.1);
    call.subscribe(receiver, &track);
    (track, publisher, receiver)
}

// RFC 4585 §6.2.1, RFC 4588, G11
#[test]
fn what_the_publisher_lost_is_asked_for_and_reaches_receivers_late() {
    for (seed, places) in [(1, (0, 0)), (2, (0, 1)), (3, (1, 0)), (4, (0, 0)), (5, (0, 1))] {
        let mut call = Call::new(seed, 2);
        let (track, publisher, receiver) = pair(&mut call, places);
        call.run(SECOND);
        // Odd seeds: the receiver asks for nothing, all repair is the publisher's.
        call.clients[receiver].nacks = seed % 2 == 0;
        call.clients[publisher].loss = 50;
        call.run(5 * SECOND);
        call.clients[publisher].loss = 0;
        call.run(SECOND);
        // A receiver that asks while the publisher repairs may get the packet both ways.
        let twice = std::mem::take(&mut call.clients[receiver].incoming[0].duplicates);
        assert!(twice < 10, "{twice} packets came twice");
        assert!(!call.clients[publisher].outgoing[0].nacked.is_empty());
        let id = dataplane_abi::ids::IngressId::of(track.track.slot, 0);
        assert!(call.bed.segment.ingress(id).unwrap().repaired.load(Ordering::Relaxed) > 3);
        call.drain();
        call.assert_complete(receiver, 0, track.tags[0]);
    }
}

// G2: reordering is no loss
#[test]
fn packets_that_change_places_on_the_way_in_all_arrive() {
    for seed in 0..4 {
        let mut call = Call::new(seed, 2);
        let (track, publisher, receiver) = pair(&mut call, (0, 1));
        call.clients[publisher].reorder = 40;
        call.run(4 * SECOND);
        call.drain();
        let stream = call.incoming(receiver, 0);
        assert!(stream.got.values().any(|got| !got.is_rtx), "{}", stream.got.len());
        call.assert_complete(receiver, 0, track.tags[0]);
    }
}

// RFC 4588 §4, G11, G12: the payload is that of the first transmission, the SSRC and index are the retransmissions' own
#[test]
fn what_a_receiver_lost_is_sent_again_from_the_store() {
    for places in [(0, 0), (0, 1)] {
        let mut call = Call::new(11, 2);
        let (track, _, receiver) = pair(&mut call, places);
        call.run(SECOND);
        for round in 0..20 {
            let next = seq::low16(call.incoming(receiver, 0).highest().unwrap());
            // Two lost packets, and a burst now and then.
            let lost = if round % 5 == 4 { 2..18 } else { 2..4 };
            call.clients[receiver].incoming[0].lose.extend(lost.map(|ahead: u16| next.wrapping_add(ahead)));
            call.run(400 * MS);
        }
        call.run(SECOND);
        call.drain();
        call.assert_complete(receiver, 0, track.tags[0]);
        let stream = call.incoming(receiver, 0);
        let repaired = stream.got.values().filter(|got| got.is_rtx).count();
        assert!(repaired >= 60, "{repaired} repaired");
        assert_eq!(stream.duplicates, 0);
        let first = *stream.rtx_indices.first().unwrap();
        let wanted: Vec<u64> = (first..).take(stream.rtx_indices.len()).collect();
        assert_eq!(stream.rtx_indices.iter().copied().collect::<Vec<_>>(), wanted, "no index is left out or repeated");
    }
}

// G11: repeats within the round trip are ignored, and a number is sent again a few times at most
#[test]
fn a_number_that_is_asked_for_again_and_again_is_sent_a_few_times() {
    let mut call = Call::new(12, 1);
    let (_, _, receiver) = pair(&mut call, (0, 0));
    call.run(SECOND);
    call.clients[receiver].nacks = false;
    let wanted = seq::low16(call.incoming(receiver, 0).highest().unwrap());
    let (ssrc, sent) = (call.incoming(receiver, 0).expected.ssrc, |call: &Call| {
        call.bed.total(|counters| counters.rtx_sent.load(Ordering::Relaxed))
    });
    let before = sent(&call);
    for _ in 0..1000 {
        let nack = call.clients[receiver].rtcp(|writer| {
            writer.rr(1, &[]).unwrap();
            writer.nack(1, ssrc, [wanted]).unwrap();
        });
        let from = call.clients[receiver].flow;
        call.deliver(from, &nack);
        call.step();
    }
    let count = sent(&call) - before;
    assert!((2..=6).contains(&count), "{count} times");
}

#[test]
fn numbers_that_were_never_sent_are_not_sent_again() {
    let mut call = Call::new(13, 1);
    let (_, _, receiver) = pair(&mut call, (0, 0));
    call.run(SECOND);
    call.clients[receiver].nacks = false;
    let before = call.bed.total(|counters| counters.rtx_sent.load(Ordering::Relaxed));
    let stream = call.incoming(receiver, 0);
    let (first, last, ssrc) = (*stream.got.keys().next().unwrap(), stream.highest().unwrap(), stream.expected.ssrc);
    for at in (1..200).chain(20_000..20_100) {
        for number in [seq::low16(last + 50 + at), seq::low16(first.wrapping_sub(at))] {
            let nack = call.clients[receiver].rtcp(|writer| {
                writer.nack(1, ssrc, [number]).unwrap();
            });
            let from = call.clients[receiver].flow;
            call.deliver(from, &nack);
        }
    }
    for _ in 0..10 {
        call.step();
    }
    assert_eq!(call.bed.total(|counters| counters.rtx_sent.load(Ordering::Relaxed)), before);
}

// CONTRACTS 16, S15
#[test]
fn a_hundred_receivers_wishes_are_one_request_in_half_a_second() {
    let capacities =
        dataplane_abi::limits::Capacities { workers: 4, transports: 128, ..dataplane_abi::limits::Capacities::SMALL };
    let mut call = Call::over(crate::support::bed::Bed::sized(14, capacities));
    let publisher = call.join(0);
    let track = call.publish(publisher, true);
    let receivers: Vec<Who> = (0..100).map(|at| call.join(at % 4)).collect();
    for who in &receivers {
        call.subscribe(*who, &track);
    }
    call.run(2 * SECOND);
    let end = call.bed.now.mono_ns + 10 * SECOND;
    while call.bed.now.mono_ns < end {
        for who in receivers.iter().copied() {
            let ssrc = call.incoming(who, 0).expected.ssrc;
            let pli = call.clients[who].rtcp(|writer| writer.pli(1, ssrc).unwrap());
            let from = call.clients[who].flow;
            call.deliver(from, &pli);
        }
        call.run(20 * MS);
    }
    let requests = &call.clients[publisher].outgoing[0].requests;
    assert!(requests.len() >= 15, "{} requests", requests.len());
    for two in requests.windows(2) {
        assert!(two[1] - two[0] >= 500 * MS, "{} ms apart", (two[1] - two[0]) / MS);
    }
}

// CONTRACTS 10: a joiner is served from a keyframe of the last two seconds
#[test]
fn a_joiner_gets_the_cached_keyframe_and_merges_without_gap_or_duplicate() {
    for seed in 0..10 {
        let mut call = Call::new(seed, 2);
        let (track, publisher, first) = pair(&mut call, (0, 0));
        call.run(SECOND);
        call.clients[publisher].outgoing[0].wants_keyframe = true;
        call.run(700 * MS);
        let asked = call.clients[publisher].outgoing[0].requests.len();
        let joiner = call.join(usize::from(seed % 2 == 1));
        call.subscribe(joiner, &track);
        call.clients[joiner].asks_keyframes = false;
        let joined = call.bed.now.mono_ns;
        call.run(200 * MS);
        let stream = call.incoming(joiner, 0);
        let begin = stream.got.values().next().expect("served at once");
        assert!(begin.is_keyframe_start && begin.at_ns < joined + 60 * MS, "{} ms", (begin.at_ns - joined) / MS);
        assert!(begin.sent_ns < joined, "from the store");
        assert_eq!(call.clients[publisher].outgoing[0].requests.len(), asked, "nobody was asked");
        call.run(SECOND);
        call.drain();
        call.assert_complete(joiner, 0, track.tags[0]);
        call.assert_complete(first, 0, track.tags[0]);
        let in_order: Vec<usize> = call.incoming(joiner, 0).got.values().map(|got| got.order).collect();
        assert!(in_order.is_sorted(), "nothing overtook the catch-up");
    }
}

// A joiner that has had what it may get is nothing to do: the worker may rest.
#[test]
fn a_joiner_that_is_paced_keeps_no_worker_awake() {
    let mut call = Call::new(17, 1);
    let (track, publisher, _) = pair(&mut call, (0, 0));
    call.run(SECOND);
    {
        let stream = &mut call.clients[publisher].outgoing[0];
        (stream.keyframe_packets, stream.packet_bytes, stream.wants_keyframe) = (300, 900, true);
    }
    call.run(300 * MS);
    call.clients[publisher].outgoing[0].is_paused = true;
    call.run(300 * MS);
    let joiner = call.join(0);
    call.subscribe(joiner, &track);
    call.clients[joiner].asks_keyframes = false;
    call.run(60 * MS);
    let (mut rests, mut sent) = (0, 0);
    for _ in 0..100 {
        call.bed.advance(MS);
        call.send_clients();
        let now = call.bed.now;
        let (worker, port) = (&mut call.bed.workers[0], &mut call.bed.ports[0]);
        for _ in 0..16 {
            let tile = worker.transmit(port, now);
            sent += tile.frames;
            if !tile.is_more {
                rests += 1;
                break;
            }
        }
        call.bed.turn();
        call.take_sent();
    }
    assert_eq!(rests, 100, "each millisecond is soon done");
    assert!((50..150).contains(&sent), "{sent} frames in 100 ms: a megabyte per second");
    call.run(2 * SECOND);
    call.drain();
    call.assert_complete(joiner, 0, track.tags[0]);
}

#[test]
fn a_joiner_without_a_young_keyframe_costs_one_request() {
    for seed in 0..4 {
        let mut call = Call::new(seed, 2);
        let (track, publisher, _) = pair(&mut call, (0, 0));
        call.run(5 * SECOND);
        let asked = call.clients[publisher].outgoing[0].requests.len();
        let joiners: Vec<Who> = (0..4).map(|at| call.join(at % 2)).collect();
        for who in &joiners {
            call.subscribe(*who, &track);
        }
        call.run(400 * MS);
        assert_eq!(call.clients[publisher].outgoing[0].requests.len(), asked + 1);
        call.run(SECOND);
        call.drain();
        for who in joiners {
            let stream = call.incoming(who, 0);
            assert!(stream.got.values().next().unwrap().is_keyframe_start);
            call.assert_complete(who, 0, track.tags[0]);
        }
    }
}

#[test]
fn an_audio_joiner_hears_the_next_packet() {
    let mut call = Call::new(15, 2);
    let publisher = call.join(0);
    let track = call.publish(publisher, false);
    let first = call.join(0);
    call.subscribe(first, &track);
    call.run(SECOND);
    for at in 0..4 {
        let joiner = call.join(at % 2);
        call.subscribe(joiner, &track);
        let joined = call.bed.now.mono_ns;
        call.run(200 * MS);
        let begin = call.incoming(joiner, 0).got.values().next().expect("heard at once").at_ns;
        assert!(begin - joined < 40 * MS, "{} ms", (begin - joined) / MS);
        call.run(100 * MS);
    }
    call.drain();
    for who in 1..call.clients.len() {
        call.assert_complete(who, 0, track.tags[0]);
    }
    assert_eq!(call.bed.skipped(SkipReason::NumberSpent), 0);
}

// S7, S6
#[test]
fn five_wraps_with_loss_and_reordering_lose_nothing_for_good() {
    let mut call = Call::new(16, 1);
    let (track, publisher, receiver) = pair(&mut call, (0, 0));
    {
        let stream = &mut call.clients[publisher].outgoing[0];
        stream.next = 65_500;
        stream.frame_packets = 40;
        stream.frame_ns = 2 * MS;
        stream.packet_bytes = 20;
    }
    call.run(500 * MS);
    call.clients[publisher].loss = 50;
    call.clients[publisher].reorder = 60;
    let target = 5 * 65_536 + 1000;
    while call.clients[publisher].outgoing[0].next < target {
        call.run(100 * MS);
        // The test's memory, not the server's.
        let keep = call.clients[publisher].outgoing[0].next.saturating_sub(8000);
        call.world.borrow_mut().retain(|(_, index), _| *index >= keep);
    }
    call.clients[publisher].loss = 0;
    call.drain();
    let stream = call.incoming(receiver, 0);
    let share = stream.got.len() as f64 / stream.highest().unwrap().abs_diff(*stream.got.keys().next().unwrap()) as f64;
    assert!(share > 0.995, "{share} of the packets arrived");
    for (index, got) in stream.got.iter().take(5) {
        assert!(got.source_index >= 65_500, "{index}");
    }
    let _ = track;
}

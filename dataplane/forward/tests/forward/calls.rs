// SPDX-License-Identifier: Apache-2.0
//! A publisher and its receivers: every packet reaches each of them once, as it was agreed.

use dataplane_wire::codec::Codec;

use crate::support::call::{Call, MS, SECOND, Track, Who};

/// One publisher with microphone and camera, `receivers` receivers; each client at the worker that `place` names.
fn conference(call: &mut Call, receivers: usize, place: impl Fn(usize) -> usize) -> (Vec<Track>, Vec<Who>) {
    let publisher = call.join(place(0));
    let tracks = vec![call.publish(publisher, false), call.publish(publisher, true)];
    let receivers: Vec<Who> = (1..=receivers).map(|at| call.join(place(at))).collect();
    for who in &receivers {
        for track in &tracks {
            call.subscribe(*who, track);
        }
    }
    (tracks, receivers)
}

fn assert_call(call: &mut Call, tracks: &[Track], receivers: &[Who], at_least: usize) {
    call.drain();
    for who in receivers {
        for (at, track) in tracks.iter().enumerate() {
            call.assert_complete(*who, at, track.tags[0]);
            let count = call.incoming(*who, at).got.len();
            assert!(count >= at_least, "client {who} stream {at} got {count}");
        }
    }
}

#[test]
fn one_receiver_gets_every_packet_of_one_publisher() {
    let mut call = Call::new(1, 1);
    let (tracks, receivers) = conference(&mut call, 1, |_| 0);
    call.run(3 * SECOND);
    assert_call(&mut call, &tracks, &receivers, 80);
    assert!(call.bed.now.mono_ns > MS);
}

// CONTRACTS 15
#[test]
fn three_receivers_over_two_workers_get_every_packet() {
    for seed in 0..8 {
        let mut call = Call::new(seed, 2);
        let (tracks, receivers) = conference(&mut call, 3, |at| at % 2);
        call.run(3 * SECOND);
        assert_call(&mut call, &tracks, &receivers, 60);
    }
}

// CONTRACTS 7
#[test]
fn a_publisher_at_another_worker_than_all_receivers_is_heard() {
    for seed in 0..8 {
        let mut call = Call::new(seed, 2);
        let (tracks, receivers) = conference(&mut call, 3, |at| usize::from(at == 0));
        call.run(3 * SECOND);
        assert_call(&mut call, &tracks, &receivers, 60);
    }
}

// CONTRACTS 7: a check that arrives elsewhere goes to the owner, and so does everything of its flow
#[test]
fn packets_that_arrive_at_another_worker_than_the_owner_are_handed_over() {
    for seed in 0..8 {
        let mut call = Call::new(seed, 2);
        let (tracks, receivers) = conference(&mut call, 2, |_| 0);
        call.run(SECOND);
        let flows: Vec<_> = call.clients.iter().map(|client| client.flow).collect();
        for flow in flows {
            call.steer.insert(flow, 1);
        }
        for client in &mut call.clients {
            client.next_check_ns = 0;
        }
        call.run(3 * SECOND);
        assert!(call.bed.total(|counters| counters.handed.load(std::sync::atomic::Ordering::Relaxed)) > 200);
        assert_call(&mut call, &tracks, &receivers, 80);
    }
}

// RFC 7714, RFC 3711
#[test]
fn every_profile_carries_a_call() {
    for profile in dataplane_srtp::Profile::ALL {
        let mut call = Call::new(3, 2);
        call.profile = profile;
        let (tracks, receivers) = conference(&mut call, 2, |at| at % 2);
        call.run(2 * SECOND);
        assert_call(&mut call, &tracks, &receivers, 40);
    }
}

// N7, A1, H1: each codec from end to end, with loss on both sides and a joiner that comes later
#[test]
fn every_codec_carries_a_call() {
    for (seed, codec) in (7..).zip([Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1]) {
        for rids in [&[""][..], &["q", "f"]] {
            let mut call = Call::new(seed, 2);
            let publisher = call.join(0);
            let track = call.publish_codec(publisher, codec, rids, rids.len() == 1);
            let receivers = [call.join(0), call.join(1)];
            for who in receivers {
                call.subscribe(who, &track);
            }
            call.run(SECOND);
            call.clients[publisher].loss = 20;
            for _ in 0..10 {
                for who in receivers {
                    let next = dataplane_wire::seq::low16(call.incoming(who, 0).highest().unwrap());
                    call.clients[who].incoming[0].lose.insert(next.wrapping_add(3));
                }
                call.run(200 * MS);
            }
            call.clients[publisher].loss = 0;
            let joiner = call.join(1);
            call.subscribe(joiner, &track);
            call.run(2 * SECOND);
            call.drain();
            let wanted = *track.tags.last().unwrap();
            for who in [receivers[0], receivers[1], joiner] {
                let stream = call.incoming(who, 0);
                assert_eq!(stream.missing(), Vec::<u64>::new(), "{codec:?}");
                assert!(stream.got.values().next().unwrap().is_keyframe_start, "{codec:?}");
                assert_eq!(stream.got.values().next_back().unwrap().tag, wanted, "{codec:?}: the better encoding");
                assert!(stream.got.len() > 60);
            }
            let lost_and_repaired = |who: Who| call.incoming(who, 0).got.values().filter(|got| got.is_rtx).count();
            assert!(lost_and_repaired(receivers[0]) > 5 && lost_and_repaired(receivers[1]) > 5);
        }
    }
}

// G10, CONTRACTS 13
#[test]
fn reports_flow_on_both_legs() {
    let mut call = Call::new(5, 2);
    let (tracks, receivers) = conference(&mut call, 2, |at| at % 2);
    call.run(5 * SECOND);
    let publisher = &call.clients[0];
    for stream in &publisher.outgoing {
        let block = publisher.reports.get(&stream.ssrc).expect("a report block for each stream");
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
        assert_ne!(block.last_sr, 0, "the publisher can measure its round trip");
    }
    let sent = usize::from(publisher.transport_seq.wrapping_sub(65_500));
    assert!(publisher.reported.len() + 20 > sent, "transport-cc: {} of {sent}", publisher.reported.len());
    for who in &receivers {
        for (at, track) in tracks.iter().enumerate() {
            let stream = call.incoming(*who, at);
            assert_eq!(stream.cname, b"cname0");
            let (ntp, rtp, at_ns) = stream.report.expect("a sender report");
            assert_eq!(ntp >> 32 << 32 & 0xFFF0_0000_0000_0000, 0xE000_0000_0000_0000, "our clock");
            // The report's line passes through what was sent: RTP time of the newest packet, carried on.
            let newest = stream.got.values().next_back().unwrap();
            let rate = if track.is_video { 90_000.0 } else { 48_000.0 };
            let passed = (newest.sent_ns.cast_signed() - at_ns.cast_signed()) as f64 / 1e9 * rate;
            let error = f64::from(dataplane_wire::seq::diff32(newest.rtp_ts, rtp)) - passed;
            assert!(error.abs() < rate * 0.05, "stream {at}: off by {error} ticks");
        }
    }
    assert_call(&mut call, &tracks, &receivers, 100);
}

// G10
#[test]
fn a_slot_that_closes_says_goodbye_and_no_other_one_does() {
    let mut call = Call::new(11, 2);
    let publisher = call.join(0);
    let tracks = [call.publish(publisher, false), call.publish(publisher, true)];
    let receiver = call.join(1);
    let subscriptions = [call.subscribe(receiver, &tracks[0]), call.subscribe(receiver, &tracks[1])];
    call.run(SECOND);
    assert!(call.clients[receiver].byes.is_empty());
    let closed = call.incoming(receiver, 1).expected.ssrc;
    call.bed.intent.retract_subscription(subscriptions[1].slot).unwrap();
    call.run(SECOND / 2);
    assert_eq!(call.clients[receiver].byes, vec![closed]);
}

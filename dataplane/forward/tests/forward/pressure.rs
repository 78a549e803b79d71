// SPDX-License-Identifier: Apache-2.0
//! A port that is slower than its senders: cursors stop, nothing is lost within the lag caps, audio goes first.

use std::sync::atomic::Ordering;

use dataplane_abi::drop_reason::SkipReason;

use crate::support::call::{Call, MS, SECOND, Track, Who};

fn conference(call: &mut Call, receivers: usize) -> (Vec<Track>, Vec<Who>) {
    let publisher = call.join(0);
    let tracks = vec![call.publish(publisher, false), call.publish(publisher, true)];
    let receivers: Vec<Who> = (0..receivers).map(|_| call.join(0)).collect();
    for who in &receivers {
        for track in &tracks {
            call.subscribe(*who, track);
        }
    }
    (tracks, receivers)
}

// CONTRACTS 1: a full tx ring stops a cursor, never the worker
#[test]
fn a_tiny_ring_loses_nothing() {
    let mut call = Call::new(1, 1);
    let (tracks, receivers) = conference(&mut call, 10);
    call.run(SECOND);
    call.bed.network.set_tx_frames(3);
    call.run(3 * SECOND);
    call.bed.network.set_tx_frames(1024);
    call.drain();
    assert_eq!(call.bed.total(|counters| counters.lag_skips.load(Ordering::Relaxed)), 0);
    for who in receivers {
        call.clients[who].incoming[1].duplicates = 0;
        call.assert_complete(who, 0, tracks[0].tags[0]);
        call.assert_complete(who, 1, tracks[1].tags[0]);
    }
}

// CONTRACTS 1: order of tiles, and lag caps
#[test]
fn with_too_little_room_for_video_audio_still_comes_in_time() {
    let mut call = Call::new(2, 1);
    let (tracks, receivers) = conference(&mut call, 10);
    for who in &receivers {
        call.clients[*who].nacks = false;
        call.clients[*who].asks_keyframes = false;
    }
    call.clients[0].outgoing[1].frame_packets = 20;
    call.run(2 * SECOND);
    // 500 audio packets a second, and room for 1000 packets in all: six times too little for video.
    call.bed.network.set_tx_frames(1);
    call.run(4 * SECOND);
    call.bed.network.set_tx_frames(1024);
    call.clients[0].outgoing[1].wants_keyframe = true;
    call.run(2 * SECOND);
    call.drain();
    assert!(call.bed.total(|counters| counters.lag_skips.load(Ordering::Relaxed)) > 0);
    assert!(call.bed.skipped(SkipReason::LagCap) > 0);
    for who in receivers {
        call.assert_complete(who, 0, tracks[0].tags[0]);
        let audio = call.incoming(who, 0);
        let latest = audio.got.values().map(|got| got.at_ns - got.sent_ns).max().unwrap();
        assert!(latest <= 60 * MS, "audio came after {} ms", latest / MS);
        let video = call.incoming(who, 1);
        // The newest packets are there, after a keyframe.
        let newest = video.got.values().next_back().unwrap();
        assert!(call.bed.now.mono_ns - newest.sent_ns < 1200 * MS);
        let world = call.world.borrow();
        let last_keyframe = world
            .range((tracks[1].tags[0], 0)..(tracks[1].tags[0] + 1, 0))
            .rfind(|(_, truth)| truth.is_keyframe_start)
            .unwrap()
            .0
            .1;
        let since: Vec<u64> =
            video.got.values().map(|got| got.source_index).filter(|index| *index >= last_keyframe).collect();
        let wanted: Vec<u64> = (last_keyframe..).take(since.len()).collect();
        assert_eq!(since, wanted, "from the newest keyframe on nothing is missing");
    }
}

// Frames that complete late are waited for.
#[test]
fn a_port_that_completes_nothing_for_a_while_only_delays() {
    let mut call = Call::new(3, 1);
    let (tracks, receivers) = conference(&mut call, 5);
    call.run(SECOND);
    for _ in 0..50 {
        call.bed.network.hold_completions(true);
        call.run(30 * MS);
        call.bed.network.complete(0, u64::MAX);
        call.bed.network.hold_completions(false);
        call.run(10 * MS);
    }
    call.drain();
    for who in receivers {
        call.assert_complete(who, 0, tracks[0].tags[0]);
        call.clients[who].incoming[1].duplicates = 0;
        call.assert_complete(who, 1, tracks[1].tags[0]);
    }
}

// A port does not say when it has room again: who waits for it looks.
#[test]
fn a_worker_that_waits_for_room_does_not_rest() {
    let mut call = Call::new(6, 1);
    let (tracks, receivers) = conference(&mut call, 5);
    call.run(SECOND);
    let rests = |call: &mut Call| {
        (0..40).any(|_| {
            call.step();
            call.bed.workers[0].rest_ns(call.bed.now, SECOND) > 0
        })
    };
    assert!(rests(&mut call), "between packets and timers");
    call.bed.network.set_tx_frames(8);
    call.bed.network.hold_completions(true);
    call.run(50 * MS);
    assert!(!rests(&mut call));
    call.bed.network.complete(0, u64::MAX);
    call.bed.network.hold_completions(false);
    call.bed.network.set_tx_frames(1024);
    call.drain();
    assert!(rests(&mut call));
    for who in receivers {
        call.assert_complete(who, 0, tracks[0].tags[0]);
    }
}

// CONTRACTS 1: a port that keeps less room than a burst needs delays it no longer than the lag cap
#[test]
fn a_ring_that_shrinks_under_a_burst_stops_nobody_for_good() {
    let mut call = Call::new(4, 1);
    let (tracks, receivers) = conference(&mut call, 10);
    call.run(SECOND);
    call.clients[0].outgoing[1].frame_packets = 20;
    let pending = |call: &Call| call.bed.cohort_ledgers().iter().map(|ledger| ledger.pending).sum::<u64>();
    call.bed.network.set_tx_frames(6);
    let is_mid_burst = (0..2000).any(|_| {
        call.step();
        pending(&call) % 4 == 0 && pending(&call) > 0
    });
    assert!(is_mid_burst);
    call.bed.network.set_tx_frames(2);
    call.run(2 * SECOND);
    let newest = |call: &Call| call.incoming(receivers[0], 1).got.values().map(|got| got.sent_ns).max().unwrap();
    let stuck_at = newest(&call);
    call.clients[0].outgoing[1].frame_packets = 1;
    call.clients[0].outgoing[1].keyframe_packets = 1;
    call.run(2 * SECOND);
    assert!(newest(&call) > stuck_at + SECOND, "the cohort goes on");
    call.bed.network.set_tx_frames(1024);
    call.clients[0].outgoing[1].wants_keyframe = true;
    call.drain();
    for who in receivers {
        call.assert_complete(who, 0, tracks[0].tags[0]);
    }
}

// CONTRACTS 1, 8: who is served by a port that is full alone waits alone
#[test]
fn a_receiver_whose_own_port_is_full_holds_up_nobody_else() {
    let mut call = Call::new(5, 1);
    let (tracks, receivers) = conference(&mut call, 6);
    call.run(SECOND);
    let stuck = receivers[2];
    call.clients[stuck].nacks = false;
    let seen = |call: &Call| call.incoming(stuck, 1).got.len();
    call.bed.network.stick(Some(call.clients[stuck].flow.remote_port));
    let before = seen(&call);
    call.run(2 * SECOND);
    assert_eq!(seen(&call), before);
    assert!(call.bed.skipped(SkipReason::TxFull) > 50, "{}", call.bed.skipped(SkipReason::TxFull));
    call.bed.network.stick(None);
    call.run(2 * SECOND);
    assert!(seen(&call) > before + 20, "it is served again");
    call.drain();
    for who in receivers.into_iter().filter(|who| *who != stuck) {
        for (at, track) in tracks.iter().enumerate() {
            call.assert_complete(who, at, track.tags[0]);
        }
    }
}

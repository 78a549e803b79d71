// SPDX-License-Identifier: Apache-2.0
//! Receivers whose packets are sealed together get what they would get one by one. Every packet is opened by its receiver, so
//! that equal numbers and plaintext under a tag that holds are equal bytes. Where the processor has no lanes, the two are one.

use std::sync::atomic::Ordering;

use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::ids::SubscriptionRef;
use dataplane_srtp::Profile;

use crate::support::call::{Call, MS, SECOND, Track, Who};
use crate::support::dice::Dice;

const GCM: Profile = Profile::AeadAes128Gcm;
const CM: Profile = Profile::AesCm128HmacSha1_80;

type Member = (Who, Vec<SubscriptionRef>);

/// A publisher with microphone and camera and receivers with these ciphers; whatever the ciphers are, all else is the same.
fn conference(seed: u64, profiles: &[Profile]) -> (Call, Vec<Track>, Vec<Member>) {
    let mut call = Call::new(seed, 1);
    let publisher = call.join(0);
    let receivers: Vec<Who> = profiles
        .iter()
        .map(|profile| {
            call.profile = *profile;
            call.join(0)
        })
        .collect();
    // Keys have other lengths.
    call.bed.dice = Dice(seed);
    let tracks = vec![call.publish(publisher, false), call.publish(publisher, true)];
    let members = receivers
        .into_iter()
        .map(|who| (who, tracks.iter().map(|track| call.subscribe(who, track)).collect()))
        .collect();
    (call, tracks, members)
}

/// A MID so long that the header is.
fn rename(call: &mut Call, (who, subscriptions): &Member, mid: &str) {
    for (subscription, incoming) in subscriptions.iter().zip(&mut call.clients[*who].incoming) {
        let mut record = call.bed.segment.intent_subscription(subscription.slot).unwrap();
        record.mid[..mid.len()].copy_from_slice(mid.as_bytes());
        record.mid_len = u8::try_from(mid.len()).unwrap();
        call.bed.intent.publish_subscription(subscription.slot, &record).unwrap();
        incoming.expected.mid = mid.to_owned();
    }
}

/// Everything that a call with these ciphers shows: what each receiver got, when and in which order, and every fate.
fn history(seed: u64, profiles: &[Profile]) -> Vec<String> {
    let (mut call, _, members) = conference(seed, profiles);
    for member in members.iter().skip(2).step_by(5) {
        rename(&mut call, member, "a-longer-mid");
    }
    call.clients[0].outgoing[1].frame_packets = 6;
    call.run(SECOND);
    // No room at the seventh packet of sixteen, then for less than a burst.
    for frames in [6, 13, 3, 1024] {
        call.bed.network.set_tx_frames(frames);
        call.run(400 * MS);
    }
    // One leaves while packets are under way to everybody.
    call.bed.network.set_tx_frames(6);
    let pending = |call: &Call| call.bed.cohort_ledgers().iter().map(|ledger| ledger.pending).sum::<u64>();
    assert!((0..500).any(|_| {
        call.step();
        pending(&call) > 0
    }));
    let (who, subscriptions) = &members[3];
    call.leave(*who, subscriptions);
    call.run(100 * MS);
    call.bed.network.set_tx_frames(1024);
    let stuck = call.clients[members[4].0].flow.remote_port;
    call.bed.network.stick(Some(stuck));
    call.run(300 * MS);
    call.bed.network.stick(None);
    call.clients[0].reorder = 4;
    call.run(SECOND);
    call.drain();
    let mut shown = Vec::new();
    for (who, _) in &members {
        for incoming in &call.clients[*who].incoming {
            assert!(incoming.got.len() > 20, "client {who} got {}", incoming.got.len());
            shown.push(format!("{who}: {:?} {:?} {}", incoming.got, incoming.rtx_indices, incoming.duplicates));
        }
    }
    assert!(call.bed.skipped(SkipReason::TxFull) > 0);
    let sent = call.bed.total(|counters| counters.tx_packets.load(Ordering::Relaxed));
    shown.push(format!("{sent} {:?}", call.bed.cohort_ledgers()));
    shown
}

fn assert_same(seed: u64, profiles: &[Profile]) {
    let one_by_one = history(seed, &vec![GCM; profiles.len()]);
    for (together, alone) in history(seed, profiles).iter().zip(&one_by_one) {
        assert!(together == alone, "seed {seed}\n{together}\n{alone}");
    }
}

// CONTRACTS 1: sealed together or one by one, everybody gets the same
#[test]
fn lanes_change_nothing_that_a_receiver_or_a_ledger_sees() {
    for seed in 0..3 {
        assert_same(seed, &[CM; 21]);
    }
}

#[test]
fn lanes_and_other_ciphers_share_a_cohort() {
    for seed in 0..3 {
        let mut profiles = vec![CM; 24];
        profiles.iter_mut().skip(1).step_by(3).for_each(|profile| *profile = GCM);
        profiles[6] = Profile::AeadAes256Gcm;
        assert_same(seed, &profiles);
        assert_same(seed, &profiles[..5]);
    }
}

// CONTRACTS 3: a port that refuses some of the frames of a batch costs numbers, each of which is used once
#[test]
fn frames_that_a_port_refuses_cost_their_numbers_and_nothing_else() {
    for profile in [CM, GCM] {
        let (mut call, tracks, members) = conference(7, &[profile; 18]);
        call.run(SECOND);
        // Nobody lets what lies before a new keyframe go.
        call.clients.iter_mut().for_each(|client| client.asks_keyframes = false);
        call.bed.network.refuse_every(7);
        call.run(500 * MS);
        call.bed.network.refuse_every(0);
        assert!(call.bed.skipped(SkipReason::NoPath) > 50, "{}", call.bed.skipped(SkipReason::NoPath));
        call.run(2 * SECOND);
        call.drain();
        for (who, _) in &members {
            let video = call.incoming(*who, 1);
            // What was refused was asked for again, under numbers of its own.
            assert!(video.got.values().any(|got| got.is_rtx));
            call.clients[*who].incoming[1].duplicates = 0;
            call.assert_complete(*who, 1, tracks[1].tags[0]);
        }
    }
}

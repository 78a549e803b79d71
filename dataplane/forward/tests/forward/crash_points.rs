// SPDX-License-Identifier: Apache-2.0
//! Death at durable stores: the process model stops at the n-th one, a successor takes over, and nothing that a receiver or
//! an attacker could use has happened twice (CONTRACTS 3, 5, 15; RELIABILITY S8).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{IngressId, SubscriptionRef};
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::ENCODINGS;
use dataplane_srtp::Profile;
use dataplane_wire::codec::Codec;

use crate::support::call::{Call, MS, SECOND, Track, Who};
use crate::support::incoming::Incoming;

/// Subscriptions of the receivers, by client; the last one is a slot whose track changes.
type Members = Vec<(Who, Vec<SubscriptionRef>)>;

fn add(call: &mut Call, tracks: &[Track], members: &mut Members, worker: usize) {
    let who = call.join(worker);
    let mut subscriptions: Vec<_> = tracks.iter().map(|track| call.subscribe(who, track)).collect();
    subscriptions.push(call.subscribe(who, &tracks[1]));
    members.push((who, subscriptions));
}

/// Somebody else is shown to somebody, or nobody.
fn switch(call: &mut Call, shown: &[Track], members: &Members) {
    let (_, subscriptions) = &members[call.bed.dice.below(members.len())];
    let at = call.bed.dice.below(shown.len() + 1);
    call.show(*subscriptions.last().unwrap(), shown.get(at));
}

/// Everyone is shown somebody.
fn show_all(call: &mut Call, shown: &[Track], members: &Members) {
    for (_, subscriptions) in members {
        let at = call.bed.dice.below(shown.len());
        call.show(*subscriptions.last().unwrap(), Some(&shown[at]));
    }
}

/// No record of a generation is torn.
fn assert_records(call: &Call) {
    let segment = &call.bed.segment;
    let capacities = *segment.capacities();
    let flows: BTreeSet<FlowKey> = call.clients.iter().map(|client| client.flow).collect();
    for slot in 0..capacities.transports {
        let durable = segment.transport(slot).unwrap();
        if durable.generation.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let stamp = (durable.version.load(Ordering::Relaxed), usize::from(durable.size.load(Ordering::Relaxed)));
        assert_eq!(stamp, (1, dataplane_abi::durable::TransportDurable::SIZE));
        assert!(durable.active_path.load(Ordering::Relaxed) <= 4 && durable.state.load(Ordering::Relaxed) <= 2);
        for path in &durable.paths {
            let words = [0, 1, 2, 3, 4].map(|at: usize| path.flow[at].load(Ordering::Relaxed));
            // S3: never an address that no check came from.
            assert!(words[4] == 0 || flows.contains(&FlowKey::from_words(words)));
        }
    }
    for slot in 0..capacities.subscriptions {
        let durable = segment.egress(slot).unwrap();
        let (Some(intent), generation) =
            (segment.intent_subscription(slot), durable.generation.load(Ordering::Relaxed))
        else {
            continue;
        };
        if generation == intent.generation {
            assert_eq!(durable.ssrc.load(Ordering::Relaxed), intent.ssrc);
            assert_eq!(durable.rtx_ssrc.load(Ordering::Relaxed), intent.rtx_ssrc);
            assert!((1..1 << 48).contains(&durable.next_index.load(Ordering::Relaxed)));
            for stretch in &durable.segments {
                let first = stretch.first.load(Ordering::Relaxed);
                assert!(first <= durable.next_index.load(Ordering::Relaxed) + 1);
            }
        }
    }
    for id in 0..capacities.tracks * u32::try_from(ENCODINGS).unwrap() {
        let durable = segment.ingress(IngressId(id)).unwrap();
        if durable.generation.load(Ordering::Relaxed) != 0 {
            assert_eq!(durable.version.load(Ordering::Relaxed), 1);
            let ssrc = durable.ssrc.load(Ordering::Relaxed);
            let mut known = call.clients.iter().flat_map(|client| &client.outgoing).map(|stream| stream.ssrc);
            assert!(ssrc == 0 || known.any(|known| known == ssrc));
        }
    }
}

/// Frames are where they were, or back.
fn assert_frames(call: &Call) {
    for worker in 0..call.bed.ids().count() {
        let ledger = call.bed.network.frames(worker);
        assert_eq!(ledger.rx_lent, ledger.rx_returned, "worker {worker}: {ledger:?}");
        assert_eq!(
            ledger.tx_lent,
            ledger.tx_returned + ledger.tx_in_flight + ledger.tx_completed,
            "worker {worker}: {ledger:?}"
        );
    }
}

/// Everyone got everything within the last second, video from a keyframe on.
fn assert_nobody_is_stuck(call: &Call, members: &Members, seed: u64) {
    let now = call.bed.now.mono_ns;
    for (who, _) in members {
        for (stream, incoming) in call.clients[*who].incoming.iter().enumerate() {
            assert!(now - incoming.last_at_ns < 150 * MS, "seed {seed}: client {who} stream {stream} is stuck");
        }
        let video = call.incoming(*who, 1);
        let after = video.got.values().filter(|got| got.at_ns > now - SECOND).find(|got| got.is_keyframe_start);
        assert!(after.is_some(), "seed {seed}: client {who} has no keyframe after the stop");
    }
}

/// No stream's clock went back or jumped, whoever served it.
fn assert_time_goes_on(call: &Call, members: &Members, seed: u64) {
    for (who, _) in members {
        for stream in &call.clients[*who].incoming {
            let stamps: Vec<u32> = stream.got.values().map(|got| got.rtp_ts).collect();
            for two in stamps.windows(2) {
                assert!(!dataplane_wire::seq::newer32(two[0], two[1]), "seed {seed}: RTP time goes back");
                assert!(dataplane_wire::seq::diff32(two[1], two[0]) < 90_000 * 5, "seed {seed}: RTP time jumps");
            }
        }
    }
}

/// Receivers of a call: enough for lanes, where the cipher works in them.
fn receivers(profile: Profile) -> usize {
    if profile == Profile::AesCm128HmacSha1_80 { 7 } else { 3 }
}

/// A call with `stops` deaths; how many there were.
fn run(seed: u64, workers: u32, stops: usize, profile: Profile) -> usize {
    let mut call = Call::new(seed, workers);
    call.profile = profile;
    call.tick_ns = 2 * MS;
    let place = |at: usize| at % workers as usize;
    let publisher = call.join(place(0));
    let tracks = vec![
        call.publish(publisher, false),
        call.publish(publisher, true),
        call.publish_as(publisher, true, &["q", "f"], false),
    ];
    let other = call.join(place(1));
    let shown = [tracks[1].clone(), call.publish(other, true), call.publish_codec(other, Codec::H264, &[""], true)];
    let mut members = Members::new();
    for at in 1..=receivers(profile) {
        add(&mut call, &tracks, &mut members, place(at));
    }
    let mut deaths = 0;
    // Some deaths come before the first packet.
    call.run(if seed.is_multiple_of(3) { 10 * MS } else { 500 * MS });
    while deaths < stops {
        // Somebody leaves, somebody joins: their records are begun while the process dies.
        let at = call.bed.dice.below(members.len());
        let (who, subscriptions) = members.swap_remove(at);
        call.leave(who, &subscriptions);
        add(&mut call, &tracks, &mut members, place(deaths));
        // The better encoding comes and goes, so that receivers have changed their source before the process dies.
        let (q, f) = (2, 3);
        assert!(!call.clients[publisher].outgoing[q].is_paused);
        let is_paused = !deaths.is_multiple_of(3);
        if call.clients[publisher].outgoing[f].is_paused != is_paused {
            call.clients[publisher].outgoing[f].is_paused = is_paused;
            call.run(2 * SECOND);
        }
        call.clients[publisher].loss = 20;
        // Within the next hundred turns.
        for _ in 0..100 {
            call.bed.advance(call.tick_ns);
            call.send_clients();
            if call.bed.dice.hits(150) {
                switch(&mut call, &shown, &members);
            }
            let store = 1 + call.bed.dice.next() % 400;
            let is_after = call.bed.dice.hits(500);
            let is_dead = call.bed.dice.hits(100) && call.bed.turn_until(store, is_after);
            if is_dead {
                break;
            }
            if call.bed.workers.len() == workers as usize {
                call.bed.turn();
            }
            call.take_sent();
        }
        if !call.bed.workers.is_empty() {
            continue;
        }
        deaths += 1;
        call.take_sent();
        assert_records(&call);
        assert_frames(&call);
        // Slots change while nobody serves them, too.
        show_all(&mut call, &shown, &members);
        // The successor may die while it starts.
        let early = 1 + call.bed.dice.next() % 30;
        if call.bed.dice.hits(300) && call.bed.start_until(early) {
            deaths += 1;
        }
        if call.bed.workers.is_empty() {
            call.bed.start();
        }
        call.clients[publisher].loss = 0;
        call.run(SECOND);
        assert_nobody_is_stuck(&call, &members, seed);
    }
    call.drain();
    assert_time_goes_on(&call, &members, seed);
    deaths
}

// CONTRACTS 12: the first checks, keys and packets, stopped at each of their stores; two successors in a row
#[test]
fn crash_points_every_store_of_the_first_turns() {
    let mut deaths = 0;
    for store in 1..400 {
        let mut call = Call::new(store, 1);
        let publisher = call.join(0);
        let tracks = [call.publish(publisher, false), call.publish_as(publisher, true, &["q", "f"], false)];
        let receiver = call.join(0);
        for track in &tracks {
            call.subscribe(receiver, track);
        }
        call.run(store % 7 * 10 * MS);
        let mut is_dead = false;
        // The stores of up to 300 turns count as one row.
        let mut left = store;
        for _ in 0..300 {
            call.bed.advance(MS);
            call.send_clients();
            is_dead = call.bed.turn_until(left, store % 2 == 0);
            call.take_sent();
            if is_dead {
                break;
            }
            left = left.saturating_sub(call.bed.stores).max(1);
        }
        if !is_dead {
            continue;
        }
        deaths += 1;
        assert_records(&call);
        assert_frames(&call);
        call.bed.start();
        call.run(SECOND);
        call.bed.kill();
        assert_records(&call);
        // No check helps the second successor: it has the durable record only.
        call.clients.iter_mut().for_each(|client| client.keeps_consent = false);
        call.bed.start();
        call.run(300 * MS);
        for stream in 0..2 {
            let last = call.incoming(receiver, stream).last_at_ns;
            assert!(call.bed.now.mono_ns - last < 100 * MS, "stopped at store {store}: stream {stream} is stuck");
        }
    }
    assert!(deaths > 200, "{deaths} deaths");
}

/// Two pictures in a row, in the order of the receiver's numbers.
fn assert_goes_on(stream: &Incoming, store: u64) {
    let all: Vec<_> = stream.got.iter().collect();
    for two in all.windows(2) {
        let ((left, before), (right, after)) = (two[0], two[1]);
        assert!(right - left < 100, "stopped at store {store}: the numbers jump");
        assert!(!dataplane_wire::seq::newer32(before.rtp_ts, after.rtp_ts), "stopped at store {store}: time goes back");
        if before.tag != after.tag {
            assert!(after.is_keyframe_start, "stopped at store {store}: G4");
            let media = i64::from(dataplane_wire::seq::diff32(after.rtp_ts, before.rtp_ts)) / 90;
            let wall = i64::try_from(after.sent_ns / MS).unwrap() - i64::try_from(before.sent_ns / MS).unwrap();
            assert!((media - wall).abs() < 150, "stopped at store {store}: {media} ms of media in {wall} ms");
        }
    }
}

// G1: a slot's track changes, and the process dies at each store from there on; what was last is not forgotten
#[test]
fn crash_points_every_store_of_a_switch() {
    let mut deaths = 0;
    for store in 1..240 {
        let mut call = Call::new(store, 1 + u32::try_from(store % 2).unwrap());
        let publishers = [call.join(0), call.join(call.bed.workers.len() - 1)];
        let tracks = publishers.map(|who| call.publish(who, true));
        let receiver = call.join(0);
        let slot = call.subscribe(receiver, &tracks[0]);
        call.run(300 * MS);
        call.show(slot, Some(&tracks[1]));
        // The stores until a few frames of the second track were seen count as one row.
        let mut left = store;
        let mut is_dead = false;
        for _ in 0..300 {
            call.bed.advance(MS);
            call.send_clients();
            is_dead = call.bed.turn_until(left, store % 3 == 0);
            call.take_sent();
            let seen = call.incoming(receiver, 0).got.values().filter(|got| got.tag == tracks[1].tags[0]);
            if is_dead || seen.count() > 8 {
                break;
            }
            left = left.saturating_sub(call.bed.stores).max(1);
        }
        if !is_dead {
            continue;
        }
        deaths += 1;
        assert_records(&call);
        assert_frames(&call);
        // Every other time the slot shows the first one again before anybody serves it.
        let wanted = usize::from(store % 2 == 0);
        if wanted == 0 {
            call.show(slot, Some(&tracks[0]));
        }
        call.bed.start();
        call.run(SECOND);
        let stream = call.incoming(receiver, 0);
        let newest = stream.got.values().next_back().unwrap();
        assert!(call.bed.now.mono_ns - newest.at_ns < 100 * MS, "stopped at store {store}: the slot is stuck");
        assert_eq!(newest.tag, tracks[wanted].tags[0], "stopped at store {store}");
        assert_goes_on(stream, store);
    }
    assert!(deaths > 100, "{deaths} deaths");
}

// S3: a path is overwritten by another one, stopped at each store
#[test]
fn crash_points_no_mixture_of_two_addresses_is_ever_a_path() {
    let mut deaths = 0;
    for store in 1..60 {
        let mut call = Call::new(store, 1);
        let who = call.join(0);
        call.clients[who].keeps_consent = false;
        let mut known = BTreeSet::new();
        for at in 0..6_u16 {
            let from = FlowKey {
                remote: dataplane_abi::flow::map_v4([10, u8::try_from(at).unwrap(), u8::try_from(at).unwrap(), 1]),
                remote_port: 40_000 + at,
                ..call.clients[who].flow
            };
            known.insert(from);
            let (name, pwd) = (call.clients[who].username(), call.clients[who].server_pwd.clone());
            let role = dataplane_wire::stun::Role::Controlling(1);
            let check = crate::support::client::check(&name, &pwd, [7; 12], at % 2 == 0, role);
            call.deliver(from, &check);
            if at >= 4 && call.bed.turn_until(store, at % 2 == 0) {
                deaths += 1;
                break;
            } else if at < 4 {
                call.bed.turn();
            }
        }
        let durable = call.bed.segment.transport(call.clients[who].transport.slot).unwrap();
        for path in &durable.paths {
            let words = [0, 1, 2, 3, 4].map(|at: usize| path.flow[at].load(Ordering::Relaxed));
            assert!(words[4] == 0 || known.contains(&FlowKey::from_words(words)), "stopped at store {store}");
        }
    }
    assert!(deaths > 8, "{deaths} deaths");
}

// CONTRACTS 15
#[test]
fn crash_points_two_hundred_stops_at_durable_stores() {
    let mut deaths = 0;
    for seed in 0..20 {
        deaths += run(seed, 1 + u32::try_from(seed % 3).unwrap(), 10, Profile::AeadAes128Gcm);
    }
    assert!(deaths >= 200, "{deaths} deaths");
}

// CONTRACTS 3, 15: packets whose numbers are spent and which are held, to be sealed together, die with the process
#[test]
fn crash_points_between_a_spent_number_and_its_sealing() {
    let deaths: usize = (0..6).map(|seed| run(seed, 1, 10, Profile::AesCm128HmacSha1_80)).sum();
    assert!(deaths >= 60, "{deaths} deaths");
}

// SPDX-License-Identifier: Apache-2.0
//! A successor finds what is known where it is, ends what nobody knows, and may die at any store on the way.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use controlplane_room::{FoundSubscription, KnownTransport};
use dataplane_abi::ids::WorkerId;
use dataplane_abi::ring::{Change, change_kind};
use dataplane_shm::publish;

use super::*;

/// A track of a transport by one byte.
fn track_of(byte: u8, transport: u64) -> Command {
    let Command::AddTrack { room, spec } = track(transport) else { unreachable!() };
    Command::AddTrack { room, spec: TrackSpec { id: TrackId([byte; 16]), ..spec } }
}

/// What a transport receives, by SSRC.
fn subscription_of(id: u64, transport: u64, byte: u8, ssrc: u32) -> Command {
    let Command::AddSubscription { room, id, spec } = subscription(id, transport) else { unreachable!() };
    let spec = SubscriptionSpec { track: TrackId([byte; 16]), ssrc, max_encoding: Some(1), ..spec };
    Command::AddSubscription { room, id, spec }
}

fn in_room(command: Command, key: u64) -> Command {
    let Command::AddTransport { name, spec, .. } = command else { unreachable!() };
    let local = IceCredentials { ufrag: format!("frag{:04}", spec.id.0), pwd: spec.local.pwd.clone() };
    Command::AddTransport { room: RoomKey(key), name, spec: TransportSpec { local, ..spec } }
}

fn spec_of(id: u64) -> TransportSpec {
    let Command::AddTransport { spec, .. } = in_room(transport(id), 1) else { unreachable!() };
    spec
}

const KEYS: KeyMaterial<'static> =
    KeyMaterial { profile: 8, local: (&[1; 32], &[2; 12]), remote: (&[3; 32], &[4; 12]) };

/// Transports 1 and 2 are known, 3 (with a track, a subscription and keys, in a room of its own) is not; nor is a track of 1
/// that 2 is shown.
fn scene(programmer: &mut Programmer) -> Known {
    let commands = [
        in_room(transport(1), 1),
        in_room(transport(2), 1),
        in_room(transport(3), 2),
        track_of(7, 1),
        track_of(8, 1),
        track_of(9, 3),
        subscription_of(5, 2, 7, 50),
        subscription_of(6, 2, 8, 60),
        subscription_of(7, 2, 7, 70),
        subscription_of(8, 3, 7, 50),
    ];
    for command in commands {
        programmer.apply(command).unwrap();
    }
    programmer
        .apply(Command::SetSubscription { id: SubscriptionId(7), transport: TransportId(2), shown: None })
        .unwrap();
    for id in [1, 3] {
        programmer.install_keys(TransportId(id), &KEYS).unwrap();
    }
    let known = |id| KnownTransport { room: RoomKey(1), spec: spec_of(id) };
    let subscriptions = [(50, 105), (60, 106), (70, 107), (80, 108)];
    Known {
        // 4 is known and not there.
        transports: vec![known(1), known(2), known(4)],
        tracks: [(TrackId([7; 16]), TransportId(1)), (TrackId([4; 16]), TransportId(4))].into(),
        subscriptions: subscriptions.map(|(ssrc, id)| ((TransportId(2), ssrc), SubscriptionId(id))).into(),
    }
}

fn found() -> Found {
    let delivers = |track| FoundSubscription { track, max_encoding: Some(1) };
    Found {
        transports: [(TransportId(1), true), (TransportId(2), false)].into(),
        tracks: [TrackId([7; 16])].into(),
        subscriptions: [
            (SubscriptionId(105), delivers(Some(TrackId([7; 16])))),
            (SubscriptionId(106), delivers(None)),
            (SubscriptionId(107), delivers(None)),
        ]
        .into(),
    }
}

/// Slots of a kind that are published.
fn published(segment: &Segment) -> [usize; 4] {
    let capacities = *segment.capacities();
    let count = |capacity, is_there: &dyn Fn(u32) -> bool| (0..capacity).filter(|slot| is_there(*slot)).count();
    [
        count(capacities.transports, &|slot| segment.intent_transport(slot).is_some()),
        count(capacities.tracks, &|slot| segment.intent_track(slot).is_some()),
        count(capacities.subscriptions, &|slot| segment.intent_subscription(slot).is_some()),
        count(capacities.rooms, &|slot| segment.intent_room(slot).is_some()),
    ]
}

#[test]
fn what_is_known_stays_where_it_is_and_the_rest_goes() {
    let (mut first, segment) = programmer();
    let known = scene(&mut first);
    let (before, key) = (first.reference_of(TransportId(1)).unwrap(), first.transports[&TransportId(1)].key.unwrap());
    let (track, kept) = (first.tracks[&TrackId([7; 16])], first.subscriptions[&SubscriptionId(5)]);
    let emptied = first.subscriptions[&SubscriptionId(6)];
    let lost = first.transports[&TransportId(3)].key.unwrap();
    drop(first);
    let mut changes = segment.change_consumer(WorkerId(0)).unwrap();
    while changes.pop().is_some() {}
    let (mut second, is_found) = Programmer::adopt(&segment, &known).unwrap();
    assert_eq!(is_found, found());
    assert_eq!(second.reference_of(TransportId(1)), Some(before));
    assert_eq!(second.transport_of(before), Some(TransportId(1)));
    assert_eq!(published(&segment), [2, 1, 3, 1]);
    assert_eq!(segment.key(key).unwrap().tx_key, [1; 32], "keys stay");
    assert!(segment.key(lost).is_none_or(|key| key.tx_key == [0; 32]), "and go with their transport");
    let told: BTreeSet<_> =
        std::iter::from_fn(|| changes.pop()).map(|Change { kind, slot, .. }| (kind, slot)).collect();
    let stays = [
        (change_kind::TRANSPORT, before.slot),
        (change_kind::TRACK, track.slot),
        (change_kind::SUBSCRIPTION, kept.slot),
    ];
    assert!(stays.iter().all(|change| !told.contains(change)), "workers see no change of what stays: {told:?}");
    assert!(told.contains(&(change_kind::SUBSCRIPTION, emptied.slot)), "but that a slot is empty");
    // It goes on from there: another track in the same slot, a new transport in a free one, and everything's end.
    second.apply(track_of(8, 1)).unwrap();
    let shown = Shown { track: TrackId([8; 16]), codec: CodecMap { pt: 111, ..codec() }, max_encoding: None };
    let transport_id = TransportId(2);
    second
        .apply(Command::SetSubscription { id: SubscriptionId(106), transport: transport_id, shown: Some(shown) })
        .unwrap();
    let record = segment.intent_subscription(emptied.slot).unwrap();
    assert_eq!((record.generation, record.ssrc, record.pt), (emptied.generation, 60, 111));
    second.apply(in_room(transport(5), 1)).unwrap();
    for id in [105, 106, 107] {
        second.apply(Command::RemoveSubscription { id: SubscriptionId(id), transport: transport_id }).unwrap();
    }
    for byte in [7, 8] {
        second.apply(Command::RemoveTrack { track: TrackId([byte; 16]), transport: TransportId(1) }).unwrap();
    }
    for id in [1, 2, 5] {
        second.apply(Command::RemoveTransport { transport: TransportId(id) }).unwrap();
    }
    assert_eq!(published(&segment), [0; 4]);
    assert!(segment.key(key).is_none_or(|key| key.tx_key == [0; 32]));
}

#[test]
fn other_credentials_are_another_transport() {
    let (mut first, segment) = programmer();
    let mut known = scene(&mut first);
    drop(first);
    known.transports[0].spec.local.pwd = "c".repeat(24);
    let (_, is_found) = Programmer::adopt(&segment, &known).unwrap();
    assert!(!is_found.transports.contains_key(&TransportId(1)), "the same fragment by chance");
    assert!(is_found.tracks.is_empty(), "and its tracks with it");
}

// CONTRACTS 15: whoever takes over may be killed at each of its stores; the next one finds the same.
#[test]
fn crash_points_every_store_of_an_adoption() {
    for is_after in [false, true] {
        let mut ran = 0;
        for store in 1.. {
            let (mut first, segment) = programmer();
            let known = scene(&mut first);
            let kept = first.subscriptions[&SubscriptionId(5)];
            drop(first);
            if is_after {
                publish::arm_after(store)
            } else {
                publish::arm(store)
            }
            let died = catch_unwind(AssertUnwindSafe(|| drop(Programmer::adopt(&segment, &known).unwrap()))).is_err();
            publish::disarm();
            let (second, is_found) = Programmer::adopt(&segment, &known).unwrap();
            assert_eq!(is_found, found(), "killed at store {store}");
            assert_eq!(published(&segment), [2, 1, 3, 1], "killed at store {store}");
            assert_eq!(second.subscriptions[&SubscriptionId(105)], kept, "killed at store {store}");
            let used: BTreeSet<_> = second.transports.values().filter_map(|held| held.key).collect();
            for slot in 0..u32::try_from(dataplane_abi::segment::key_records(&Capacities::SMALL)).unwrap() {
                let remains = (0..9).filter_map(|generation| segment.key(KeyRef::at(slot, generation)));
                let remains = remains.filter(|key| key.tx_key != [0; 32]).count();
                let is_used = used.iter().any(|key| key.slot == slot);
                assert_eq!(remains, usize::from(is_used), "keys of slot {slot}, killed at store {store}");
            }
            if !died {
                break;
            }
            ran += 1;
        }
        assert!(ran > 50, "only {ran} stores: is the feature on?");
    }
}

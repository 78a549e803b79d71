// SPDX-License-Identifier: Apache-2.0
//! A restarted control plane, where records and data plane do not agree: what ended last was not written any more.

use std::time::Duration;

use controlplane_room::{
    Command, Conference, Direction, EventKind, Found, FoundSubscription, Input, LeaveReason, Member, Outcome, Record,
    RecordKey, SlotWish, TransportId,
};

use crate::model::{self, Bed, publish, watch};
use crate::participants::{join, slot, track};

/// Ann shows Ben's camera in slot 10; Cam publishes by WHIP and somebody watches it. All records.
fn scene() -> (Bed, Vec<Record>) {
    let mut bed = Bed::new(controlplane_room::Limits::default());
    for (name, id) in [("Ann", 1), ("Ben", 2)] {
        let member = join(&mut bed, "demo", name);
        let input = Input::Transport {
            member,
            spec: model::transport(id, Direction::Both),
            tracks: vec![track(id, 0), track(id, 1)],
            slots: vec![slot(10, controlplane_room::MediaKind::Video)],
        };
        bed.feed(input).expect("answered");
    }
    bed.feed(publish("demo", "Cam", 3, 2)).expect("published");
    let input = watch(&bed.conference, "demo", Some("cam"), 4).expect("is published");
    bed.feed(input).expect("watches");
    let wish = SlotWish { mid: "10".into(), track: Some(model::track(2, 1).id), max_height: None };
    bed.feed(Input::Subscribe { member: member("ann"), wishes: vec![wish] }).expect("subscribed");
    let names = ["ann", "ben", "cam"].map(|name| RecordKey::Participant(member(name)));
    let keys = names.into_iter().chain([RecordKey::Viewer(TransportId(4))]);
    let records = keys.map(|key| bed.conference.record(&key).expect("is there")).collect();
    (bed, records)
}

fn member(name: &str) -> Member {
    Member { room: "demo".parse().expect("a room"), participant: name.parse().expect("an id") }
}

/// What the data plane has of the scene: everything.
fn everything(bed: &Bed, restored: &Conference) -> Found {
    let known = restored.known();
    let found = bed.books.subscriptions.values().map(|(transport, track, ssrc)| {
        (known.subscriptions[&(*transport, *ssrc)], FoundSubscription { track: *track, max_encoding: None })
    });
    Found {
        transports: bed.books.transports.keys().map(|id| (*id, true)).collect(),
        tracks: bed.books.tracks.keys().copied().collect(),
        subscriptions: found.collect(),
    }
}

fn settle(bed: &Bed, records: Vec<Record>, change: impl FnOnce(&mut Found)) -> (Conference, Outcome) {
    let mut restored = Conference::restore(bed.now, bed.limits, records);
    let mut found = everything(bed, &restored);
    change(&mut found);
    let outcome = restored.settle(&found);
    (restored, outcome)
}

fn ended(outcome: &Outcome) -> Vec<(u64, LeaveReason)> {
    let left = |event: &controlplane_room::Event| {
        let EventKind::Left(reason) = event.kind else { return None };
        Some((event.transport.0, reason))
    };
    outcome.events.iter().filter_map(left).collect()
}

#[test]
fn a_handshake_that_was_under_way_is_over_and_its_participant_stays() {
    let (bed, records) = scene();
    let (restored, outcome) = settle(&bed, records, |found| {
        found.transports.insert(TransportId(2), false);
        found.transports.insert(TransportId(3), false);
    });
    assert_eq!(ended(&outcome), [(2, LeaveReason::NotResumed), (3, LeaveReason::NotResumed)]);
    assert!(restored.snapshot(&member("ben")).is_some() && restored.transport_of(&member("ben")).is_none());
    assert!(restored.snapshot(&member("cam")).is_none(), "a WHIP publisher goes with its transport");
    assert_eq!(restored.slots(&member("ann"))[0].track, None, "what it showed is gone");
    let empties = |command: &Command| matches!(command, Command::SetSubscription { shown: None, .. });
    assert!(outcome.commands.iter().any(empties), "and the data plane is told");
    assert!(outcome.changed.contains(&RecordKey::Participant(member("ben"))));
}

#[test]
fn what_the_data_plane_does_not_have_is_over() {
    let (bed, records) = scene();
    let gone = model::track(2, 1).id;
    let (restored, outcome) = settle(&bed, records, |found| {
        found.transports.remove(&TransportId(4));
        found.tracks.remove(&gone);
        let showed = found.subscriptions.values_mut().find(|found| found.track == Some(gone)).expect("was shown");
        showed.track = None;
    });
    assert_eq!(ended(&outcome), [(4, LeaveReason::NotResumed)]);
    assert_eq!(restored.own_tracks(&member("ben")).len(), 1);
    assert_eq!(restored.slots(&member("ann"))[0].track, None);
    assert_eq!(restored.rooms()[0].viewers, 0);
}

#[test]
fn the_segment_says_what_a_slot_shows() {
    let (bed, records) = scene();
    let other = model::track(3, 1).id;
    let (mut restored, outcome) = settle(&bed, records, |found| {
        let shown = found.subscriptions.values_mut().find(|found| found.track == Some(model::track(2, 1).id));
        *shown.expect("is shown") = FoundSubscription { track: Some(other), max_encoding: None };
    });
    assert_eq!(outcome.commands, [], "nothing is programmed for it");
    assert_eq!(restored.slots(&member("ann"))[0].track, Some(other));
    let wish = SlotWish { mid: "10".into(), track: None, max_height: None };
    let outcome = restored.handle(bed.now, Input::Subscribe { member: member("ann"), wishes: vec![wish] });
    let commands = outcome.expect("emptied").commands;
    assert!(matches!(&commands[..], [Command::SetSubscription { shown: None, .. }]), "{commands:?}");
}

#[test]
fn records_that_contradict_each_other_are_left_out() {
    let (bed, mut records) = scene();
    let Record::Participant(mut ghost) = records[1].clone() else { panic!() };
    ghost.room = controlplane_room::RoomKey(0);
    ghost.member.participant = "ghost".parse().expect("an id");
    records.push(Record::Participant(ghost));
    let (restored, outcome) = settle(&bed, records, |_| {});
    assert_eq!(outcome.commands, []);
    assert!(restored.snapshot(&member("ghost")).is_none(), "a room of that name is there that is younger");
    assert_eq!(restored.transports(), 4);
}

#[test]
fn deadlines_begin_anew() {
    let (bed, records) = scene();
    let (mut restored, _) = settle(&bed, records, |_| {});
    let tick = |restored: &mut Conference, after| restored.handle(bed.now + after, Input::Tick).expect("tick");
    assert_eq!(tick(&mut restored, Duration::from_millis(4999)), Outcome::default());
    let told = tick(&mut restored, Duration::from_secs(5));
    assert_eq!((told.notices.len(), told.commands.len()), (2, 0), "two WebSockets are away");
    assert!(restored.handle(bed.now, Input::Connected { member: member("ann") }).is_ok());
    let gone = tick(&mut restored, Duration::from_secs(60));
    assert_eq!(ended(&gone), [(2, LeaveReason::ParticipantGone)]);
    assert_eq!(restored.transports(), 3);
}

// SPDX-License-Identifier: Apache-2.0
//! The conference as a table of situations, and as a property: whatever happens, nothing leaks and nothing is
//! delivered where it does not belong.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

#[expect(unreachable_pub, reason = "a module of this test")]
mod model;
mod participants;
mod random;
mod replay;
mod restart;

use std::time::Duration;

use controlplane_room::{
    Command, EventKind, Input, LeaveReason, Limits, Outcome, RoomError, RoomName, SubscriptionId, TransportId,
};
use model::{Bed, publish, watch};
use proptest::prelude::*;

fn bed() -> Bed {
    Bed::new(Limits::default())
}

fn leave(id: u64) -> Input {
    Input::Leave { transport: TransportId(id), reason: LeaveReason::Asked }
}

fn validated(id: u64) -> Input {
    Input::Validated { transport: TransportId(id) }
}

fn room(text: &str) -> RoomName {
    text.parse().expect("a room")
}

fn kinds(outcome: &Outcome) -> Vec<(u64, EventKind)> {
    outcome.events.iter().map(|event| (event.transport.0, event.kind)).collect()
}

#[test]
fn a_viewer_receives_every_track_of_the_publisher_it_asked_for() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 2)).expect("published");
    bed.feed(publish("demo", "Ben", 2, 1)).expect("published");
    let input = watch(&bed.conference, "demo", Some("ann"), 3).expect("is published");
    let outcome = bed.feed(input).expect("watches");
    assert_eq!(outcome.commands.len(), 3, "one transport, two subscriptions");
    assert!(bed.books.subscriptions.values().all(|(viewer, track, _)| {
        *viewer == TransportId(3) && track.and_then(|id| bed.books.tracks.get(&id)) == Some(&TransportId(1))
    }));
}

#[test]
fn without_a_name_the_latest_publisher_is_watched() {
    let mut bed = bed();
    for (name, id) in [("Zoe", 1), ("Ann", 2)] {
        bed.feed(publish("demo", name, id, 1)).expect("published");
    }
    let latest = |bed: &Bed| bed.conference.publication(&room("demo"), None).map(|found| found.transport.0);
    assert_eq!(latest(&bed), Ok(2));
    bed.feed(leave(2)).expect("leaves");
    assert_eq!(latest(&bed), Ok(1));
}

#[test]
fn who_has_not_published_cannot_be_watched() {
    let mut bed = bed();
    let absent = bed.conference.publication(&room("demo"), None).expect_err("nobody");
    assert_eq!(absent, RoomError::RoomNotPublished { room: room("demo") });
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    let absent = watch(&bed.conference, "demo", Some("ben"), 2).expect_err("not there");
    assert!(matches!(absent, RoomError::ParticipantNotPublished { .. }));
    assert_eq!(absent.to_string(), "participant ben has not published in room demo; try again");
    assert!(watch(&bed.conference, "other", Some("ann"), 2).is_err(), "rooms are apart");
}

#[test]
fn when_a_publisher_leaves_its_viewers_keep_their_transports_only() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 2)).expect("published");
    for viewer in [2, 3] {
        let input = watch(&bed.conference, "demo", None, viewer).expect("is published");
        bed.feed(input).expect("watches");
    }
    let outcome = bed.feed(leave(1)).expect("leaves");
    let expected =
        [(2, EventKind::PublisherLeft), (3, EventKind::PublisherLeft), (1, EventKind::Left(LeaveReason::Asked))];
    assert_eq!(kinds(&outcome), expected);
    assert!(bed.books.subscriptions.is_empty() && bed.books.tracks.is_empty());
    assert_eq!(bed.books.transports.keys().map(|id| id.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(bed.conference.rooms().len(), 1, "the viewers are still in the room");
    bed.feed(leave(2)).expect("leaves");
    bed.feed(leave(3)).expect("leaves");
    assert!(bed.books.is_empty() && bed.conference.rooms().is_empty());
}

#[test]
fn a_live_name_is_taken_and_a_lost_one_is_replaced() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    assert!(matches!(bed.feed(publish("demo", "ANN", 2, 1)), Err(RoomError::NameTaken { .. })), "same slug");
    bed.feed(publish("other", "Ann", 3, 1)).expect("another room");
    bed.feed(validated(1)).expect("validated");
    assert!(matches!(bed.feed(publish("demo", "Ann", 2, 1)), Err(RoomError::NameTaken { .. })));
    bed.feed(Input::ConsentLost { transport: TransportId(1) }).expect("lost");
    assert!(watch(&bed.conference, "demo", Some("ann"), 9).is_err(), "a lost publisher is not watched");
    assert!(bed.conference.rooms()[0].publishers.is_empty(), "nor is it shown");
    let outcome = bed.feed(publish("demo", "Ann", 4, 1)).expect("takes the place");
    assert_eq!(kinds(&outcome)[0], (1, EventKind::Left(LeaveReason::Replaced)));
    assert!(matches!(bed.feed(leave(1)), Err(RoomError::UnknownTransport { .. })));
}

#[test]
fn a_transport_that_is_never_validated_goes_after_30_s() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    assert_eq!(bed.conference.next_deadline(), Some(bed.now + Duration::from_secs(30)));
    bed.feed(Input::ConsentLost { transport: TransportId(1) }).expect("no consent to lose");
    bed.now += Duration::from_millis(29_999);
    assert_eq!(bed.feed(Input::Tick).expect("tick"), Outcome::default());
    bed.now += Duration::from_millis(1);
    let outcome = bed.feed(Input::Tick).expect("tick");
    assert_eq!(kinds(&outcome), [(1, EventKind::Left(LeaveReason::NeverValidated))]);
    assert!(bed.books.is_empty());
    assert_eq!(bed.conference.next_deadline(), None);
}

// RFC 7675 and CONTRACTS 12: 30 s without a check (the data plane's), then 60 s more here.
#[test]
fn a_transport_without_consent_goes_after_60_s_unless_it_comes_back() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    bed.feed(validated(1)).expect("validated");
    assert_eq!(bed.conference.next_deadline(), None, "a live transport has no deadline");
    let lost = Input::ConsentLost { transport: TransportId(1) };
    bed.feed(lost.clone()).expect("lost");
    bed.now += Duration::from_secs(59);
    let again = bed.feed(lost.clone()).expect("said twice");
    assert_eq!(again, Outcome::default(), "the deadline does not move");
    let back = bed.feed(Input::ConsentBack { transport: TransportId(1) }).expect("back");
    assert_eq!(kinds(&back), [(1, EventKind::ConsentBack)]);
    bed.now += Duration::from_secs(3600);
    assert_eq!(bed.feed(Input::Tick).expect("tick"), Outcome::default());
    bed.feed(lost).expect("lost again");
    bed.now += Duration::from_secs(60);
    let outcome = bed.feed(Input::Tick).expect("tick");
    assert_eq!(kinds(&outcome), [(1, EventKind::Left(LeaveReason::ConsentLost))]);
    assert!(bed.books.is_empty());
}

#[test]
fn joining_is_told_once() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    assert_eq!(kinds(&bed.feed(validated(1)).expect("validated")), [(1, EventKind::Joined)]);
    assert_eq!(bed.feed(validated(1)).expect("again"), Outcome::default());
}

#[test]
fn limits_refuse_and_change_nothing() {
    let limits = Limits {
        rooms: 2,
        participants_per_room: 2,
        viewers_per_room: 1,
        tracks_per_participant: 3,
        ..Limits::default()
    };
    let mut bed = Bed::new(limits);
    assert!(matches!(bed.feed(publish("a", "Ann", 1, 4)), Err(RoomError::TooManyTracks { limit: 3 })));
    bed.feed(publish("a", "Ann", 1, 3)).expect("fits");
    bed.feed(publish("a", "Ben", 2, 1)).expect("fits");
    assert!(matches!(bed.feed(publish("a", "Cid", 3, 1)), Err(RoomError::TooManyParticipants { limit: 2, .. })));
    bed.feed(publish("b", "Ann", 3, 1)).expect("fits");
    assert!(matches!(bed.feed(publish("c", "Ann", 4, 1)), Err(RoomError::TooManyRooms { limit: 2 })));
    let input = watch(&bed.conference, "a", None, 5).expect("is published");
    bed.feed(input).expect("fits");
    let input = watch(&bed.conference, "a", None, 6).expect("is published");
    assert!(matches!(bed.feed(input), Err(RoomError::TooManyViewers { limit: 1, .. })));
    assert_eq!(bed.conference.transports(), bed.books.transports.len());
}

#[test]
fn a_callers_defect_is_refused_instead_of_believed() {
    let mut bed = bed();
    bed.feed(publish("demo", "Ann", 1, 1)).expect("published");
    assert!(matches!(bed.feed(publish("demo", "Ben", 1, 1)), Err(RoomError::TransportExists { .. })));
    bed.feed(publish("other", "Ben", 2, 1)).expect("published");
    let Input::Watch(mut foreign) = watch(&bed.conference, "demo", None, 3).expect("is published") else { panic!() };
    foreign.room = room("other");
    assert!(bed.feed(Input::Watch(foreign.clone())).is_err(), "the publisher is in another room");
    foreign.publisher = TransportId(2);
    assert_eq!(bed.feed(Input::Watch(foreign)), Err(RoomError::ForeignTrack), "the track is another publisher's");
    assert_eq!(bed.feed(validated(99)), Err(RoomError::UnknownTransport { transport: TransportId(99) }));
    assert_eq!(bed.conference.transports(), 2);
}

#[test]
fn ids_are_never_given_twice() {
    let mut bed = bed();
    let mut seen = std::collections::BTreeSet::<SubscriptionId>::new();
    let mut rooms = std::collections::BTreeSet::new();
    for turn in 0..50 {
        bed.feed(publish("demo", "Ann", turn * 2 + 1, 1)).expect("published");
        let input = watch(&bed.conference, "demo", None, turn * 2 + 2).expect("is published");
        let outcome = bed.feed(input).expect("watches");
        for command in &outcome.commands {
            if let Command::AddSubscription { id, room, .. } = command {
                assert!(seen.insert(*id));
                assert!(rooms.insert(*room), "the room was empty in between, so this is another");
            }
        }
        bed.feed(leave(turn * 2 + 1)).expect("leaves");
        bed.feed(leave(turn * 2 + 2)).expect("leaves");
    }
    assert_eq!(seen.len(), 50);
}

#[test]
fn names_become_ids_and_bad_names_are_refused() {
    use controlplane_room::{DisplayName, NameError, ParticipantId};
    let id = |text: &str| text.parse::<DisplayName>().map(|name| name.participant_id().to_string());
    for (name, expected) in
        [("Ann", "ann"), ("  Ann B. O'Neil ", "ann-b-o-neil"), ("--a--", "a"), ("Zoë", "zo"), ("x_1", "x-1")]
    {
        assert_eq!(id(name).as_deref(), Ok(expected), "{name}");
    }
    let (one, two) = (id("名前").expect("valid"), id("別名").expect("valid"));
    assert!(one != two && one == id("名前").expect("valid"), "equal names have equal ids: {one} {two}");
    assert!(
        one.parse::<ParticipantId>().is_ok() && id(&"a ".repeat(32)).expect("valid").parse::<ParticipantId>().is_ok()
    );
    for bad in ["", "   ", "a\nb", "a\u{202e}b", &"x".repeat(65)] {
        assert_eq!(id(bad), Err(NameError::Display), "{bad:?}");
    }
    for bad in ["", "Demo", "a b", "a/b", "ä", &"x".repeat(65)] {
        assert_eq!(bad.parse::<RoomName>(), Err(NameError::Room), "{bad:?}");
    }
    assert!("x".repeat(64).parse::<RoomName>().is_ok());
}

#[test]
fn credentials_do_not_print() {
    let spec = model::transport(1, controlplane_room::Direction::Viewer);
    let text = format!("{spec:?}");
    assert!(!text.contains("uuuu") && !text.contains("pppp"), "{text}");
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Publish { room: u8, name: u8, tracks: u8 },
    Watch { room: u8, name: Option<u8> },
    Leave { nth: usize },
    Validated { nth: usize },
    Lost { nth: usize },
    Back { nth: usize },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let nth = 0_usize..64;
    prop_oneof![
        4 => (0_u8..3, 0_u8..4, 0_u8..4).prop_map(|(room, name, tracks)| Step::Publish { room, name, tracks }),
        6 => (0_u8..3, proptest::option::of(0_u8..4)).prop_map(|(room, name)| Step::Watch { room, name }),
        4 => nth.clone().prop_map(|nth| Step::Leave { nth }),
        4 => nth.clone().prop_map(|nth| Step::Validated { nth }),
        2 => nth.clone().prop_map(|nth| Step::Lost { nth }),
        1 => nth.prop_map(|nth| Step::Back { nth }),
        2 => (0_u64..70).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn apply(bed: &mut Bed, given: u64, step: &Step) {
    let some = |nth: usize| {
        let known: Vec<_> = bed.books.transports.keys().copied().collect();
        known.get(nth % known.len().max(1)).copied().unwrap_or(TransportId(0))
    };
    let room = |nth: u8| format!("room-{nth}");
    let input = match step {
        Step::Publish { room: at, name, tracks } => Ok(publish(&room(*at), &format!("p{name}"), given, *tracks)),
        Step::Watch { room: at, name } => {
            watch(&bed.conference, &room(*at), name.map(|name| format!("p{name}")).as_deref(), given)
        }
        Step::Leave { nth } => Ok(Input::Leave { transport: some(*nth), reason: LeaveReason::Asked }),
        Step::Validated { nth } => Ok(Input::Validated { transport: some(*nth) }),
        Step::Lost { nth } => Ok(Input::ConsentLost { transport: some(*nth) }),
        Step::Back { nth } => Ok(Input::ConsentBack { transport: some(*nth) }),
        Step::Wait { seconds } => {
            bed.now += Duration::from_secs(*seconds);
            Ok(Input::Tick)
        }
    };
    // What is refused changes nothing; the books below prove it.
    if let Ok(input) = input {
        let _ = bed.feed(input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The books refuse a leak, a dangling reference or a delivery across rooms at once; at the end all is gone.
    #[test]
    fn whatever_happens_nothing_leaks_and_nothing_crosses_rooms(steps in proptest::collection::vec(step(), 1..120)) {
        let limits = Limits { participants_per_room: 3, viewers_per_room: 8, tracks_per_participant: 3, rooms: 2, ..Limits::default() };
        let mut bed = Bed::new(limits);
        for (step, given) in steps.iter().zip(1_u64..) {
            apply(&mut bed, given, step);
            prop_assert_eq!(bed.conference.transports(), bed.books.transports.len());
            let rooms: std::collections::BTreeSet<_> = bed.books.transports.values().collect();
            prop_assert_eq!(bed.conference.rooms().len(), rooms.len(), "a room lives as long as somebody is in it");
        }
        // Everybody falls silent: the deadlines alone must clear the house.
        for transport in bed.books.transports.keys().copied().collect::<Vec<_>>() {
            let _ = bed.feed(Input::ConsentLost { transport });
        }
        bed.now += Duration::from_secs(60);
        bed.feed(Input::Tick).expect("tick");
        prop_assert!(bed.books.is_empty(), "{:?}", bed.books);
        prop_assert!(bed.conference.rooms().is_empty());
        prop_assert_eq!(bed.conference.next_deadline(), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Participants with a WebSocket, their transports and their slots, situation by situation.

use std::time::Duration;

use controlplane_room::{
    Codec, CodecMap, Command, Departure, Direction, Extensions, Input, LeaveReason, Limits, MediaKind, Member,
    NewTrack, Notice, ParticipantState, Renegotiation, RoomError, Slot, SlotWish, Source, TrackId, TransportId,
    TransportState,
};

use crate::model::{self, Bed, publish};
use crate::replay::Client;

/// Comes to a room.
pub(crate) fn join(bed: &mut Bed, room: &str, name: &str) -> Member {
    let input = Input::Join { room: room.parse().expect("a room"), name: name.parse().expect("a name") };
    bed.feed(input).expect("joins").member.expect("is somebody")
}

/// A slot whose SSRCs follow from its mid.
pub(crate) fn slot(mid: u32, kind: MediaKind) -> Slot {
    let codecs = model::codecs(kind).into_iter().map(|codec| CodecMap { pt: 120, ..codec }).collect();
    Slot {
        mid: mid.to_string(),
        kind,
        ssrc: mid * 2 + 1000,
        rtx_ssrc: Some(mid * 2 + 1001),
        codecs,
        extensions: Extensions::default(),
        nack: true,
        pli: true,
    }
}

/// The nth track of a transport, with the source of its kind.
pub(crate) fn track(transport: u64, nth: u8) -> NewTrack {
    let spec = model::track(transport, nth);
    let source = if spec.kind == MediaKind::Audio { Source::Microphone } else { Source::Camera };
    NewTrack { spec, source, muted: false }
}

/// An answered offer with `restart`: `tracks` tracks, and slots 10 and 11 for video, 12 for audio.
fn offer(member: &Member, id: u64, tracks: u8) -> Input {
    Input::Transport {
        member: member.clone(),
        spec: model::transport(id, Direction::Both),
        tracks: (0..tracks).map(|nth| track(id, nth)).collect(),
        slots: vec![slot(10, MediaKind::Video), slot(11, MediaKind::Video), slot(12, MediaKind::Audio)],
    }
}

fn wish(mid: u32, track: Option<TrackId>) -> SlotWish {
    SlotWish { mid: mid.to_string(), track, max_height: None }
}

fn subscribe(member: &Member, wishes: &[SlotWish]) -> Input {
    Input::Subscribe { member: member.clone(), wishes: wishes.to_vec() }
}

fn video_of(id: u64) -> TrackId {
    model::track(id, 1).id
}

/// Ann (transport 1) and Ben (transport 2), each with microphone and camera.
fn pair() -> (Bed, Member, Member) {
    let mut bed = Bed::new(Limits::default());
    let (ann, ben) = (join(&mut bed, "demo", "Ann"), join(&mut bed, "demo", "Ben"));
    bed.feed(offer(&ann, 1, 2)).expect("answered");
    bed.feed(offer(&ben, 2, 2)).expect("answered");
    (bed, ann, ben)
}

fn shown(bed: &Bed, member: &Member) -> Vec<(String, Option<TrackId>)> {
    bed.conference.slots(member).into_iter().map(|slot| (slot.mid, slot.track)).collect()
}

#[test]
fn people_of_one_name_get_numbers() {
    let mut bed = Bed::new(Limits::default());
    let ids: Vec<_> = (0..3).map(|_| join(&mut bed, "demo", "Ada").participant.to_string()).collect();
    assert_eq!(ids, ["ada", "ada-2", "ada-3"]);
    let second = Member { room: "demo".parse().expect("a room"), participant: "ada-2".parse().expect("an id") };
    bed.feed(Input::LeaveParticipant { member: second, reason: Departure::Left }).expect("leaves");
    assert_eq!(join(&mut bed, "demo", "Ada").participant.as_str(), "ada-2");
    let long = "x".repeat(64);
    join(&mut bed, "demo", &long);
    let numbered = join(&mut bed, "demo", &long).participant.to_string();
    assert_eq!((numbered.len(), numbered.ends_with("x-2")), (64, true));
    assert!(matches!(bed.feed(publish("demo", "Ada", 1, 1)), Err(RoomError::NameTaken { .. })), "WHIP keeps its name");
}

#[test]
fn a_slot_keeps_its_ssrc_whatever_it_shows() {
    let (mut bed, ann, _) = pair();
    bed.feed(publish("demo", "Cam", 3, 2)).expect("published by WHIP");
    let first = bed.feed(subscribe(&ann, &[wish(10, Some(video_of(2)))])).expect("subscribed");
    let Command::AddSubscription { id, spec, .. } = &first.commands[0] else { panic!("{:?}", first.commands) };
    assert_eq!((spec.ssrc, spec.rtx_ssrc, spec.codecs[0].pt, first.commands.len()), (1020, Some(1021), 120, 1));
    let next = bed.feed(subscribe(&ann, &[wish(10, Some(video_of(3)))])).expect("subscribed");
    let Command::SetSubscription { id: same, shown: Some(shown), .. } = &next.commands[0] else { panic!() };
    assert_eq!((same, shown.track, shown.codec.pt), (id, video_of(3), 120));
    let none = bed.feed(subscribe(&ann, &[wish(10, None)])).expect("emptied");
    assert!(matches!(&none.commands[..], [Command::SetSubscription { id: same, shown: None, .. }] if same == id));
    let again = bed.feed(subscribe(&ann, &[wish(10, None)])).expect("empty already");
    assert_eq!(again.commands, []);
    assert_eq!(again.slots[0].shown, Ok(None));
}

#[test]
fn a_track_named_in_another_slot_moves_there() {
    let (mut bed, ann, _) = pair();
    bed.feed(subscribe(&ann, &[wish(10, Some(video_of(2)))])).expect("subscribed");
    bed.feed(subscribe(&ann, &[wish(11, Some(video_of(2)))])).expect("moved");
    let expected = [("10".into(), None), ("11".into(), Some(video_of(2))), ("12".into(), None)];
    assert_eq!(shown(&bed, &ann), expected);
}

#[test]
fn one_wish_that_cannot_be_granted_does_not_undo_the_others() {
    let (mut bed, ann, ben) = pair();
    let vp9 = CodecMap { codec: Codec::Vp9, ..model::codecs(MediaKind::Video).remove(0) };
    let mut screen = track(2, 3);
    (screen.spec.codecs, screen.source) = (vec![vp9], Source::Screen);
    let change = Renegotiation { new_tracks: vec![screen], ..Renegotiation::default() };
    bed.feed(Input::Renegotiate { member: ben, change }).expect("shares");
    let wishes = [
        wish(99, None),
        wish(10, Some(TrackId([9; 16]))),
        wish(10, Some(video_of(1))),
        wish(12, Some(video_of(2))),
        wish(10, Some(model::track(2, 3).id)),
        wish(11, Some(video_of(2))),
    ];
    let outcome = bed.feed(subscribe(&ann, &wishes)).expect("answered one by one");
    let refused: Vec<_> = outcome.slots.iter().map(|slot| slot.shown.as_ref().err()).collect();
    assert!(matches!(refused[0], Some(RoomError::UnknownMid { .. })));
    assert!(matches!(refused[1], Some(RoomError::UnknownTrack { .. })), "nobody's");
    assert!(matches!(refused[2], Some(RoomError::UnknownTrack { .. })), "one's own");
    assert!(matches!(refused[3], Some(RoomError::NotCompatible { .. })), "video in an audio slot");
    assert!(matches!(refused[4], Some(RoomError::NotCompatible { .. })), "a codec that the slot does not have");
    assert_eq!(outcome.slots[5].shown, Ok(Some(video_of(2))));
    assert_eq!(outcome.commands.len(), 1);
}

#[test]
fn the_height_on_screen_chooses_the_encoding() {
    let (mut bed, ann, ben) = pair();
    let mut screen = track(2, 3);
    screen.spec.encodings = vec![controlplane_room::Encoding::default(); 3];
    let change = Renegotiation { new_tracks: vec![screen], ..Renegotiation::default() };
    bed.feed(Input::Renegotiate { member: ben, change }).expect("shares");
    let at = |max_height| SlotWish { max_height, ..wish(10, Some(model::track(2, 3).id)) };
    let first = bed.feed(subscribe(&ann, &[at(Some(180))])).expect("subscribed");
    let Command::AddSubscription { spec, .. } = &first.commands[0] else { panic!() };
    assert_eq!(spec.max_encoding, Some(0));
    let larger = bed.feed(subscribe(&ann, &[at(Some(360))])).expect("subscribed");
    let Command::SetSubscription { shown: Some(shown), .. } = &larger.commands[0] else { panic!() };
    assert_eq!(shown.max_encoding, Some(1));
    assert_eq!(bed.feed(subscribe(&ann, &[at(Some(300))])).expect("subscribed").commands, [], "the same encoding");
}

#[test]
fn what_a_new_transport_replaces_is_gone_and_told() {
    let (mut bed, ann, ben) = pair();
    let mut client = Client::new(&bed.conference, &ann);
    bed.feed(subscribe(&ann, &[wish(10, Some(video_of(2)))])).expect("subscribed");
    let outcome = bed.feed(offer(&ben, 3, 1)).expect("a page was loaded again");
    client.take(&outcome);
    client.assert_knows(&bed.conference);
    assert_eq!(shown(&bed, &ann)[0], ("10".into(), None));
    let lefts: Vec<_> = outcome.events.iter().map(|event| (event.transport.0, event.kind)).collect();
    assert_eq!(lefts[0], (2, controlplane_room::EventKind::Left(LeaveReason::Renewed)));
    assert_eq!(bed.conference.own_tracks(&ben), [("0".into(), model::track(3, 0).id)]);
}

#[test]
fn a_screen_comes_and_goes_and_slots_open_again_as_they_were() {
    let (mut bed, ann, ben) = pair();
    let mut client = Client::new(&bed.conference, &ann);
    let new_tracks = vec![NewTrack { source: Source::Screen, ..track(2, 3) }];
    let new_slots = vec![slot(13, MediaKind::Video)];
    let change = Renegotiation { new_tracks, new_slots, closed_slots: vec!["10".into()], ..Renegotiation::default() };
    client.take(&bed.feed(Input::Renegotiate { member: ben.clone(), change }).expect("another offer"));
    client.assert_knows(&bed.conference);
    let mids: Vec<_> = shown(&bed, &ben).into_iter().map(|(mid, _)| mid).collect();
    assert_eq!(mids, ["11", "12", "13"]);
    let refused = bed.feed(subscribe(&ben, &[wish(10, Some(video_of(1)))])).expect("answered");
    assert!(refused.slots[0].shown.is_err(), "a closed slot shows nothing");
    let ended_tracks = vec![model::track(2, 3).id];
    let back = Renegotiation { ended_tracks, new_slots: vec![slot(10, MediaKind::Video)], ..Renegotiation::default() };
    client.take(&bed.feed(Input::Renegotiate { member: ben.clone(), change: back }).expect("another offer"));
    client.assert_knows(&bed.conference);
    assert_eq!(shown(&bed, &ben).len(), 4);
}

#[test]
fn another_slot_under_an_old_mid_is_another_subscription() {
    let (mut bed, ann, _) = pair();
    bed.feed(subscribe(&ann, &[wish(10, Some(video_of(2))), wish(11, None)])).expect("subscribed");
    let with = |ssrc| Slot { ssrc, ..slot(10, MediaKind::Video) };
    let change = |ssrc| Renegotiation { new_slots: vec![with(ssrc)], ..Renegotiation::default() };
    let taken = Input::Renegotiate { member: ann.clone(), change: change(slot(11, MediaKind::Video).ssrc) };
    assert_eq!(bed.feed(taken), Err(RoomError::GivenTwice), "an SSRC is one slot's");
    let other = Slot { rtx_ssrc: Some(8), ..with(7) };
    let change = Renegotiation { new_slots: vec![other], ..Renegotiation::default() };
    let outcome = bed.feed(Input::Renegotiate { member: ann.clone(), change }).expect("another offer");
    assert!(matches!(&outcome.commands[..], [Command::RemoveSubscription { .. }]), "{:?}", outcome.commands);
    let outcome = bed.feed(subscribe(&ann, &[wish(10, Some(video_of(2)))])).expect("subscribed");
    assert!(matches!(&outcome.commands[..], [Command::AddSubscription { spec, .. }] if spec.ssrc == 7));
}

#[test]
fn who_is_away_is_told_after_5_s_and_gone_after_60() {
    let (mut bed, ann, ben) = pair();
    bed.feed(Input::Validated { transport: TransportId(1) }).expect("validated");
    bed.feed(Input::Validated { transport: TransportId(2) }).expect("validated");
    let away = Input::Away { member: ben.clone() };
    assert_eq!(bed.feed(away.clone()).expect("away").notices, [], "the room is not told at once");
    bed.now += Duration::from_secs(4);
    assert_eq!(bed.feed(Input::Connected { member: ben.clone() }).expect("back").notices, []);
    bed.feed(away).expect("away");
    let mut client = Client::new(&bed.conference, &ann);
    bed.now += Duration::from_millis(4999);
    assert_eq!(bed.feed(Input::Tick).expect("tick").notices, []);
    bed.now += Duration::from_millis(1);
    let told = bed.feed(Input::Tick).expect("tick");
    let state = ParticipantState::Lost;
    assert_eq!(told.notices[0].1, Notice::ParticipantState { participant: ben.participant.clone(), state });
    assert_eq!(told.commands, [], "media goes on");
    client.take(&told);
    bed.now += Duration::from_secs(55);
    let gone = bed.feed(Input::Tick).expect("tick");
    let reason = Departure::Lost;
    assert_eq!(gone.notices[0].1, Notice::ParticipantLeft { participant: ben.participant.clone(), reason });
    client.take(&gone);
    client.assert_knows(&bed.conference);
    assert!(!bed.books.transports.contains_key(&TransportId(2)));
    assert!(matches!(bed.feed(Input::Connected { member: ben }), Err(RoomError::UnknownParticipant { .. })));
    assert_eq!(bed.conference.next_deadline(), None);
}

#[test]
fn a_participant_outlives_its_transport_and_is_told_to_offer_again() {
    let (mut bed, ann, ben) = pair();
    let (mut own, mut other) = (Client::new(&bed.conference, &ben), Client::new(&bed.conference, &ann));
    let transport = TransportId(2);
    let inputs = [
        Input::Validated { transport },
        Input::Secured { transport },
        Input::ConsentLost { transport },
        Input::ConsentBack { transport },
        Input::Leave { transport, reason: LeaveReason::HandshakeFailed },
    ];
    for input in inputs {
        let outcome = bed.feed(input).expect("taken");
        own.take(&outcome);
        other.take(&outcome);
        other.assert_knows(&bed.conference);
    }
    let failed = TransportState::Failed { message: "the DTLS handshake failed" };
    assert_eq!(own.transport, [TransportState::Secured, TransportState::Lost, TransportState::Back, failed]);
    assert_eq!(bed.conference.transport_of(&ben), None);
    let change = Renegotiation::default();
    assert_eq!(bed.feed(Input::Renegotiate { member: ben.clone(), change }), Err(RoomError::NoTransport));
    bed.feed(offer(&ben, 3, 2)).expect("offers again");
}

#[test]
fn a_viewer_may_watch_a_participant_and_a_participant_a_whip_publisher() {
    let (mut bed, ann, ben) = pair();
    let input = model::watch(&bed.conference, "demo", Some("ben"), 3).expect("is published");
    bed.feed(input).expect("watches");
    assert_eq!(bed.books.subscriptions.len(), 2);
    let change = Renegotiation { ended_tracks: vec![video_of(2)], ..Renegotiation::default() };
    bed.feed(Input::Renegotiate { member: ben, change }).expect("ends its camera");
    assert_eq!(bed.books.subscriptions.len(), 1, "the viewer keeps the microphone");
    bed.feed(publish("demo", "Cam", 4, 2)).expect("published by WHIP");
    let client = Client::new(&bed.conference, &ann);
    client.assert_knows(&bed.conference);
    let outcome = bed.feed(subscribe(&ann, &[wish(10, Some(video_of(4)))])).expect("subscribed");
    assert_eq!(outcome.slots[0].shown, Ok(Some(video_of(4))));
    let watcher = join(&mut bed, "demo", "Eve");
    bed.feed(offer(&watcher, 5, 0)).expect("only watches");
    let latest = bed.conference.publication(&ann.room, None).map(|found| found.transport);
    assert_eq!(latest, Ok(TransportId(4)), "who publishes nothing is not watched");
}

#[test]
fn limits_of_participants_refuse_and_change_nothing() {
    let limits = Limits { participants_per_room: 2, tracks_per_participant: 2, slots_per_kind: 2, ..Limits::default() };
    let mut bed = Bed::new(limits);
    let (ann, _) = (join(&mut bed, "demo", "Ann"), join(&mut bed, "demo", "Ben"));
    let third = Input::Join { room: ann.room.clone(), name: "Cid".parse().expect("a name") };
    assert!(matches!(bed.feed(third), Err(RoomError::TooManyParticipants { limit: 2, .. })));
    assert!(matches!(bed.feed(offer(&ann, 1, 3)), Err(RoomError::TooManyTracks { limit: 2 })));
    bed.feed(offer(&ann, 1, 2)).expect("fits");
    let member = || ann.clone();
    let change = Renegotiation { new_slots: vec![slot(13, MediaKind::Video)], ..Renegotiation::default() };
    let refused = bed.feed(Input::Renegotiate { member: member(), change });
    assert_eq!(refused, Err(RoomError::TooManySlots { kind: MediaKind::Video, limit: 2 }));
    let change = Renegotiation {
        new_slots: vec![slot(13, MediaKind::Video)],
        closed_slots: vec!["10".into()],
        ..Renegotiation::default()
    };
    bed.feed(Input::Renegotiate { member: member(), change }).expect("one for another");
    assert_eq!(bed.books.transports.len(), 1);
}

#[test]
fn a_slot_that_the_data_plane_had_no_room_for_is_empty_and_may_be_tried_again() {
    let (mut bed, ann, _) = pair();
    let input = subscribe(&ann, &[wish(10, Some(video_of(2)))]);
    let outcome = bed.conference.handle(bed.now, input.clone()).expect("subscribed");
    let [Command::AddSubscription { id, .. }] = &outcome.commands[..] else { panic!("{:?}", outcome.commands) };
    bed.feed(Input::NotProgrammed { id: *id }).expect("noted");
    assert_eq!(shown(&bed, &ann)[0].1, None);
    let again = bed.feed(input).expect("subscribed");
    assert!(matches!(&again.commands[..], [Command::AddSubscription { id: same, .. }] if same == id));
}

// SPDX-License-Identifier: Apache-2.0
//! Participants over WebSockets, with offers that two browsers made: what they are told, what the data plane is told.

use controlplane_signaling::{
    Ask, CloseCode, ConnectionId, Entry, Inbox, Offer, Outbox, ResumeToken, Rights, SendingSection, SlotWish, Source,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;

mod restart;

const CHROMIUM_START: &str = include_str!("../../../../sdp/testdata/participants/chromium156-1-start.sdp");
const CHROMIUM_SCREEN: &str = include_str!("../../../../sdp/testdata/participants/chromium156-2-screen.sdp");
const CHROMIUM_SLOTS: &str = include_str!("../../../../sdp/testdata/participants/chromium156-3-slots.sdp");
const CHROMIUM_ENDED: &str = include_str!("../../../../sdp/testdata/participants/chromium156-4-screen-ended.sdp");
const FIREFOX_START: &str = include_str!("../../../../sdp/testdata/participants/firefox153esr-1-start.sdp");

/// A client of the core, without a socket.
struct Person {
    connection: ConnectionId,
    outbox: Outbox,
    inbox: Inbox,
    next: u64,
    id: String,
    resume: String,
}

impl Person {
    fn new(connection: u64) -> Self {
        let (outbox, inbox) = Outbox::channel();
        let connection = ConnectionId(connection);
        Self { connection, outbox, inbox, next: 0, id: String::new(), resume: String::new() }
    }

    /// Asks and gives what came, the reply last or among it.
    fn ask(&mut self, bed: &mut Bed, ask: Ask) -> Vec<Value> {
        self.next += 1;
        let (connection, id, outbox) = (self.connection, self.next, self.outbox.clone());
        let peer = IpAddr::from([192, 0, 2, 9]);
        bed.core.answer(bed.now, Request::Participant { connection, id, ask, peer, outbox });
        self.told()
    }

    /// Asks and gives the one reply.
    fn reply(&mut self, bed: &mut Bed, ask: Ask) -> Value {
        let came = self.ask(bed, ask);
        let mut replies = came.into_iter().filter(|message| message["id"] == self.next);
        let reply = replies.next().expect("one reply");
        assert!(replies.next().is_none(), "one reply per id");
        reply
    }

    /// What waits for it.
    fn told(&mut self) -> Vec<Value> {
        let texts = std::iter::from_fn(|| self.inbox.try_text());
        texts.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))).collect()
    }

    fn join_with(&mut self, bed: &mut Bed, name: &str, rights: Rights) -> Value {
        let entry = Entry { room: room(), name: name.parse().expect("a name"), rights };
        let joined = self.reply(bed, Ask::Join(entry));
        self.take(&joined);
        joined
    }

    fn take(&mut self, joined: &Value) {
        self.id = joined["self"].as_str().unwrap_or_default().to_owned();
        self.resume = joined["resume"].as_str().unwrap_or_default().to_owned();
    }

    fn join(&mut self, bed: &mut Bed, name: &str) -> Value {
        self.join_with(bed, name, Rights::ALL)
    }

    fn resume(&mut self, bed: &mut Bed, token: &str) -> Value {
        let bytes = u128::from_str_radix(token, 16).expect("hex").to_be_bytes();
        let joined = self.reply(bed, Ask::Resume(ResumeToken(Zeroizing::new(bytes))));
        self.take(&joined);
        joined
    }

    fn offer(&mut self, bed: &mut Bed, sdp: &str, restart: bool, tracks: &[(&str, Source)]) -> Value {
        let section = |(mid, source): &(&str, Source)| SendingSection {
            mid: (*mid).to_owned(),
            source: *source,
            muted: *mid == "0",
        };
        let tracks = tracks.iter().map(section).collect();
        self.reply(bed, Ask::Offer(Offer { sdp: SdpText(sdp.to_owned()), restart, tracks }))
    }

    fn subscribe(&mut self, bed: &mut Bed, slots: &[(&str, Option<&str>, Option<u16>)]) -> Value {
        let wish = |(mid, track, max_height): &(&str, Option<&str>, Option<u16>)| SlotWish {
            mid: (*mid).to_owned(),
            track: track.map(track_id),
            max_height: *max_height,
        };
        self.reply(bed, Ask::Subscribe(slots.iter().map(wish).collect()))
    }

    fn transport(&self, bed: &Bed) -> TransportId {
        let member = Member { room: room(), participant: self.id.parse().expect("an id") };
        bed.core.conference.transport_of(&member).expect("has one")
    }
}

const OWN: [(&str, Source); 2] = [("0", Source::Microphone), ("1", Source::Camera)];

fn track_id(hex: &str) -> TrackId {
    TrackId(u128::from_str_radix(hex, 16).expect("hex").to_be_bytes())
}

/// The id under which an answer publishes a section.
fn track_of<'a>(answer: &'a Value, mid: &str) -> &'a str {
    let tracks = answer["tracks"].as_array().expect("a list");
    tracks.iter().find(|track| track["mid"] == mid).and_then(|track| track["track"].as_str()).expect("published")
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["type"].as_str()).collect()
}

/// Two people in a room, each with a transport.
fn two(bed: &mut Bed) -> ((Person, Value), (Person, Value)) {
    let (mut ada, mut bob) = (Person::new(1), Person::new(2));
    ada.join(bed, "Ada");
    bob.join(bed, "Bob");
    let of_ada = ada.offer(bed, CHROMIUM_START, true, &OWN);
    let of_bob = bob.offer(bed, FIREFOX_START, true, &OWN);
    ada.told();
    bob.told();
    ((ada, of_ada), (bob, of_bob))
}

#[test]
fn two_people_see_each_other_and_the_data_plane_is_told_of_it() {
    let mut bed = Bed::new("two-people");
    let (mut ada, mut bob) = (Person::new(1), Person::new(2));
    let joined = ada.join(&mut bed, "Ada");
    assert_eq!(
        (&joined["self"], &joined["transport"], &joined["resumed"]),
        (&json!("ada"), &json!("none"), &json!(false))
    );
    assert_eq!(joined["participants"], json!([]));
    let joined = bob.join(&mut bed, "Bob");
    assert_eq!(joined["participants"], json!([{"id": "ada", "name": "Ada", "state": "joining", "tracks": []}]));
    let told = ada.told();
    assert_eq!(told[0]["participant"], json!({"id": "bob", "name": "Bob", "state": "joining", "tracks": []}));
    let answer = ada.offer(&mut bed, CHROMIUM_START, true, &OWN);
    assert_eq!(
        (answer["type"].as_str(), answer["slots"].as_array().map(Vec::len)),
        (Some("answer"), Some(18)),
        "{answer}"
    );
    let told = bob.told();
    assert_eq!(kinds(&told), ["track_published", "track_published"]);
    assert_eq!(told[0]["track"]["source"], "microphone");
    assert_eq!((&told[0]["track"]["muted"], &told[1]["track"]["muted"]), (&json!(true), &json!(false)));
    assert_eq!(told[1]["track"]["id"], track_of(&answer, "1"));
    let camera = track_of(&answer, "1").to_owned();
    bob.offer(&mut bed, FIREFOX_START, true, &OWN);
    let slots = bed.core.conference.slots(&Member { room: room(), participant: "bob".parse().expect("an id") });
    let slot = |kind| slots.iter().find(|slot| slot.kind == kind).map(|slot| slot.mid.clone()).expect("a slot");
    let (audio, video) = (slot(controlplane_room::MediaKind::Audio), slot(controlplane_room::MediaKind::Video));
    let microphone = track_of(&answer, "0");
    let subscribed = bob.subscribe(
        &mut bed,
        &[
            (&video, Some(&camera), Some(180)),
            (&audio, Some(microphone), None),
            ("99", Some(&camera), None),
            (&audio, Some(&camera), None),
        ],
    );
    assert_eq!(subscribed["slots"], json!([{"mid": video, "track": camera}, {"mid": audio, "track": microphone}]));
    let codes: Vec<_> = subscribed["refused"].as_array().expect("a list").iter().map(|slot| &slot["code"]).collect();
    assert_eq!(codes, ["unknown_mid", "not_compatible"]);
    let books = bed.plane.books();
    assert_eq!((books.transports.len(), books.tracks.len(), books.subscriptions.len()), (2, 4, 2));
    let seen = books.subscriptions.iter().find(|(_, held)| held.track == track_id(&camera)).expect("programmed");
    assert_eq!(seen.1.transport, bob.transport(&bed));
    assert_eq!(seen.1.codecs[0].codec, books.tracks[&track_id(&camera)].codecs[0].codec);
    assert_eq!(books.shown[seen.0], Some((track_id(&camera), Some(0))), "a small picture gets a small encoding");
    let ssrc = format!("a=ssrc:{} ", seen.1.ssrc);
    drop(books);
    let again = bob.offer(&mut bed, FIREFOX_START, false, &OWN);
    assert!(again["sdp"].as_str().expect("text").contains(&ssrc), "the SSRC of the answer is the one that is sent");
}

#[test]
fn what_a_slot_shows_changes_without_another_ssrc() {
    let mut bed = Bed::new("slot-changes");
    let ((mut ada, of_ada), (_, of_bob)) = two(&mut bed);
    let mut eve = Person::new(3);
    eve.join(&mut bed, "Eve");
    let of_eve = eve.offer(&mut bed, CHROMIUM_START, true, &OWN);
    let (bob, eve_camera) = (track_of(&of_bob, "1"), track_of(&of_eve, "1"));
    let slot = "11";
    ada.subscribe(&mut bed, &[(slot, Some(bob), None)]);
    let spec = |bed: &Bed| {
        let books = bed.plane.books();
        assert_eq!(books.subscriptions.len(), 1);
        let (id, spec) = books.subscriptions.iter().next().map(|(id, spec)| (*id, spec.clone())).expect("one");
        (id, spec.ssrc, books.shown[&id].map(|(track, _)| track))
    };
    let (id, ssrc, shown) = spec(&bed);
    assert_eq!(shown, Some(track_id(bob)));
    ada.subscribe(&mut bed, &[(slot, Some(eve_camera), None)]);
    assert_eq!(spec(&bed), (id, ssrc, Some(track_id(eve_camera))));
    ada.subscribe(&mut bed, &[(slot, None, None)]);
    assert_eq!(spec(&bed), (id, ssrc, None));
    ada.subscribe(&mut bed, &[(slot, Some(bob), None)]);
    let moved = ada.subscribe(&mut bed, &[("12", Some(bob), None)]);
    assert_eq!(moved["slots"], json!([{"mid": "12", "track": bob}]));
    let refused = ada.subscribe(&mut bed, &[("12", Some(track_of(&of_ada, "1")), None)]);
    assert_eq!(refused["refused"][0]["code"], "unknown_track", "one's own");
}

#[test]
fn a_further_offer_adds_and_ends_what_it_says_and_keeps_the_rest() {
    let mut bed = Bed::new("further");
    let (mut ada, mut bob) = (Person::new(1), Person::new(2));
    ada.join(&mut bed, "Ada");
    bob.join(&mut bed, "Bob");
    let first = ada.offer(&mut bed, CHROMIUM_START, true, &OWN);
    let transport = ada.transport(&bed);
    bob.told();
    let screen = sending_mid(CHROMIUM_SCREEN, &["0", "1"]);
    let named = [OWN[0], OWN[1], (screen.as_str(), Source::Screen)];
    let second = ada.offer(&mut bed, CHROMIUM_SCREEN, false, &named);
    assert_eq!(second["type"], "answer", "{second}");
    assert_eq!(track_of(&second, "1"), track_of(&first, "1"), "what stays keeps its id");
    let told = bob.told();
    assert_eq!(kinds(&told), ["track_published"]);
    assert_eq!(told[0]["track"]["source"], "screen");
    let third = ada.offer(&mut bed, CHROMIUM_SLOTS, false, &named);
    assert!(third["slots"].as_array().map(Vec::len) > first["slots"].as_array().map(Vec::len), "{third}");
    assert_eq!(bob.told(), [] as [Value; 0]);
    let fourth = ada.offer(&mut bed, CHROMIUM_ENDED, false, &OWN);
    assert_eq!(fourth["tracks"].as_array().map(Vec::len), Some(2));
    let told = bob.told();
    assert_eq!((kinds(&told), &told[0]["track"]), (vec!["track_unpublished"], &json!(track_of(&second, &screen))));
    assert_eq!(ada.transport(&bed), transport);
    let version = |answer: &Value| answer["sdp"].as_str().and_then(|sdp| sdp.split(' ').nth(2)).map(str::to_owned);
    assert_eq!((version(&first), version(&fourth)), (Some("1".into()), Some("4".into())));
    assert_eq!(bed.plane.books().tracks.len(), 2);
}

/// The section that sends and is none of these.
fn sending_mid(sdp: &str, known: &[&str]) -> String {
    let sections = sdp.split("\nm=").skip(1).filter(|text| text.contains("a=sendonly") || text.contains("a=sendrecv"));
    let mids = sections.filter_map(|text| text.split("a=mid:").nth(1)?.lines().next());
    mids.map(|mid| mid.trim().to_owned()).find(|mid| !known.contains(&mid.as_str())).expect("one more")
}

#[test]
fn a_restart_ends_the_old_transport_and_other_credentials_need_one() {
    let mut bed = Bed::new("renewed");
    let ((mut ada, first), (mut bob, _)) = two(&mut bed);
    let refused = ada.offer(&mut bed, FIREFOX_START, false, &OWN);
    assert_eq!((&refused["code"], &refused["field"]), (&json!("restart_needed"), &json!("restart")), "{refused}");
    let before = ada.transport(&bed);
    let second = ada.offer(&mut bed, CHROMIUM_START, true, &OWN);
    assert_ne!(ada.transport(&bed), before);
    assert_ne!(track_of(&first, "1"), track_of(&second, "1"));
    let told = bob.told();
    assert_eq!(kinds(&told).iter().filter(|kind| **kind == "track_unpublished").count(), 2, "{told:?}");
    assert!(!bed.plane.books().transports.contains_key(&before));
    assert_eq!(bed.core.sessions.len(), 2);
    let mut eve = Person::new(3);
    eve.join(&mut bed, "Eve");
    assert_eq!(eve.offer(&mut bed, CHROMIUM_START, false, &OWN)["code"], "restart_needed", "no transport yet");
}

#[test]
fn requests_come_in_order_and_errors_name_the_member() {
    let mut bed = Bed::new("order");
    let mut ada = Person::new(1);
    assert_eq!(ada.subscribe(&mut bed, &[])["code"], "not_joined");
    assert_eq!(ada.reply(&mut bed, Ask::Leave)["code"], "not_joined");
    ada.join(&mut bed, "Ada");
    assert_eq!(ada.join(&mut bed, "Ada")["code"], "already_joined");
    let mute = |track| Ask::Mute { track, muted: true };
    assert_eq!(ada.reply(&mut bed, mute(TrackId([1; 16])))["field"], "track");
    let bad = ada.offer(&mut bed, "hello", true, &[]);
    assert_eq!((&bad["code"], &bad["field"]), (&json!("bad_offer"), &json!("sdp")));
    let bad = ada.offer(&mut bed, CHROMIUM_START, true, &[("77", Source::Camera)]);
    assert_eq!((&bad["code"], &bad["field"]), (&json!("unknown_mid"), &json!("tracks[0].mid")));
    assert!(bed.plane.books().transports.is_empty(), "nothing has changed");
    let mut same = Person::new(2);
    assert_eq!(same.join(&mut bed, "ADA")["self"], "ada-2", "a name that is taken gets a number");
}

#[test]
fn a_token_decides_who_may_publish_and_who_may_watch() {
    let mut bed = Bed::new("rights");
    let (mut listener, mut source) = (Person::new(1), Person::new(2));
    listener.join_with(&mut bed, "Lea", Rights { publish: false, subscribe: true });
    source.join_with(&mut bed, "Sam", Rights { publish: true, subscribe: false });
    let refused = listener.offer(&mut bed, CHROMIUM_START, true, &OWN);
    assert_eq!((&refused["code"], &refused["field"]), (&json!("forbidden"), &json!("tracks")));
    assert_eq!(source.offer(&mut bed, CHROMIUM_START, true, &OWN)["type"], "answer");
    assert_eq!(source.subscribe(&mut bed, &[("11", None, None)])["code"], "forbidden");
}

#[test]
fn mute_is_told_to_the_others_and_leaving_ends_everything() {
    let mut bed = Bed::new("leaves-room");
    let ((mut ada, of_ada), (mut bob, _)) = two(&mut bed);
    let camera = track_id(track_of(&of_ada, "1"));
    let came = ada.ask(&mut bed, Ask::Mute { track: camera, muted: true });
    assert_eq!(came, [json!({"type": "ok", "id": ada.next})], "who did it is not told of it as well");
    let told = bob.told();
    assert_eq!((kinds(&told), &told[0]["muted"]), (vec!["track_muted"], &json!(true)));
    let refused = bob.reply(&mut bed, Ask::Mute { track: camera, muted: false });
    assert_eq!(refused["code"], "unknown_track", "only one's own");
    let came = ada.ask(&mut bed, Ask::Leave);
    assert_eq!(came, [json!({"type": "left", "id": ada.next}), json!("close 1000")]);
    assert_eq!(bob.told(), [json!({"type": "participant_left", "participant": "ada", "reason": "left"})]);
    let mut back = Person::new(3);
    assert_eq!(back.resume(&mut bed, &ada.resume)["code"], "resume_unknown", "the token is spent");
    bob.ask(&mut bed, Ask::Leave);
    assert!(bed.is_empty());
}

#[test]
fn the_transport_is_told_of_its_handshake_and_of_consent() {
    let mut bed = Bed::new("transport-events");
    let client = Identity::generate().expect("made");
    let (mut ada, mut bob) = (Person::new(1), Person::new(2));
    ada.join(&mut bed, "Ada");
    bob.join(&mut bed, "Bob");
    ada.offer(&mut bed, &offer_of(CHROMIUM_START, &client), true, &OWN);
    let transport = ada.transport(&bed);
    bob.told();
    bed.tell(PlaneEvent::Validated { transport });
    let live = json!({"type": "participant_state", "participant": "ada", "state": "live"});
    assert_eq!(bob.told(), std::slice::from_ref(&live));
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&client, Role::Client, vec![expected], bed.now);
    shake(&mut bed, transport, &mut peer).expect("connected");
    let told = |state: &str| json!({"type": "transport", "state": state});
    ada.told().last().map(|last| assert_eq!(*last, told("secured"))).expect("told");
    bed.tell(PlaneEvent::ConsentLost { transport });
    assert_eq!(ada.told(), [told("lost")]);
    assert_eq!(bob.told(), [json!({"type": "participant_state", "participant": "ada", "state": "lost"})]);
    bed.tell(PlaneEvent::ConsentBack { transport });
    assert_eq!((ada.told(), bob.told()), (vec![told("back")], vec![live]));
}

#[test]
fn a_failed_handshake_is_told_and_a_new_offer_helps() {
    let mut bed = Bed::new("handshake-failed");
    let (client, thief) = (Identity::generate().expect("made"), Identity::generate().expect("made"));
    let mut ada = Person::new(1);
    ada.join(&mut bed, "Ada");
    ada.offer(&mut bed, &offer_of(CHROMIUM_START, &client), true, &OWN);
    let transport = ada.transport(&bed);
    bed.tell(PlaneEvent::Validated { transport });
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&thief, Role::Client, vec![expected], bed.now);
    shake(&mut bed, transport, &mut peer);
    let told = ada.told();
    let failed = told.last().expect("told");
    assert_eq!((&failed["state"], failed["message"].is_string()), (&json!("failed"), true), "{failed}");
    assert!(bed.plane.books().transports.is_empty() && bed.core.sessions.is_empty());
    assert_eq!(ada.offer(&mut bed, CHROMIUM_START, true, &OWN)["type"], "answer");
}

#[test]
fn who_comes_back_in_time_finds_everything_as_it_was() {
    let mut bed = Bed::new("resumes");
    let ((ada, of_ada), (mut bob, of_bob)) = two(&mut bed);
    let mut ada = ada;
    let (camera, seen) = (track_of(&of_ada, "1"), track_of(&of_bob, "1"));
    ada.subscribe(&mut bed, &[("11", Some(seen), None)]);
    let commands = bed.plane.books().subscriptions.len();
    bed.core.answer(bed.now, Request::Disconnected { connection: ada.connection });
    bed.now += Duration::from_secs(4);
    bed.core.expire(bed.now);
    assert_eq!(bob.told(), [] as [Value; 0], "nobody is told within 5 s");
    bed.now += Duration::from_secs(2);
    bed.core.expire(bed.now);
    assert_eq!(bob.told()[0]["state"], "lost");
    let mut back = Person::new(9);
    let joined = back.resume(&mut bed, &ada.resume);
    assert_eq!(
        (&joined["resumed"], &joined["transport"], &joined["self"]),
        (&json!(true), &json!("kept"), &json!("ada"))
    );
    let shown: Vec<_> =
        joined["slots"].as_array().expect("a list").iter().filter(|slot| !slot["track"].is_null()).collect();
    assert_eq!(shown, [&json!({"mid": "11", "track": seen})]);
    assert_eq!(track_of(&joined, "1"), camera);
    assert_ne!(back.resume, ada.resume, "a token is good once");
    assert_eq!(bob.told()[0]["state"], "joining", "no check has come yet");
    assert_eq!(bed.plane.books().subscriptions.len(), commands, "media has not noticed");
    let mut thief = Person::new(10);
    assert_eq!(thief.resume(&mut bed, &ada.resume)["code"], "resume_unknown");
    let mut second = Person::new(11);
    second.resume(&mut bed, &back.resume);
    assert_eq!(back.told(), [json!(format!("close {}", CloseCode::Replaced.number()))]);
    bed.core.answer(bed.now, Request::Disconnected { connection: back.connection });
    assert_eq!(
        second.subscribe(&mut bed, &[("11", None, None)])["type"],
        "subscribed",
        "the late news is of the old one"
    );
}

#[test]
fn who_does_not_come_back_is_gone_with_everything() {
    let mut bed = Bed::new("stays-away");
    let ((ada, of_ada), (mut bob, _)) = two(&mut bed);
    let slot = bob_slot(&bed);
    bob.subscribe(&mut bed, &[(&slot, Some(track_of(&of_ada, "1")), None)]);
    bed.core.answer(bed.now, Request::Disconnected { connection: ada.connection });
    for _ in 0..3 {
        bed.now += Duration::from_secs(29);
        bed.core.expire(bed.now);
    }
    let told = bob.told();
    let left = told.iter().find(|message| message["type"] == "participant_left").expect("told");
    assert_eq!((&left["participant"], &left["reason"]), (&json!("ada"), &json!("lost")));
    let mut back = Person::new(9);
    assert_eq!(back.resume(&mut bed, &ada.resume)["code"], "resume_unknown");
    let books = bed.plane.books();
    assert!(books.shown.values().all(Option::is_none) && !books.tracks.contains_key(&track_id(track_of(&of_ada, "1"))));
}

/// A video slot of Bob's.
fn bob_slot(bed: &Bed) -> String {
    let slots = bed.core.conference.slots(&Member { room: room(), participant: "bob".parse().expect("an id") });
    slots.into_iter().find(|slot| slot.kind == controlplane_room::MediaKind::Video).expect("a slot").mid
}

#[test]
fn a_full_room_and_a_full_table_are_told_apart() {
    let mut bed = Bed::with("full-room", |config| config.limits.participants_per_room = 1);
    let (mut ada, mut bob) = (Person::new(1), Person::new(2));
    ada.join(&mut bed, "Ada");
    let refused = bob.join(&mut bed, "Bob");
    assert_eq!((&refused["code"], &refused["field"]), (&json!("room_full"), &json!("room")));
    bed.plane.books().room_for = Some(1);
    let refused = ada.offer(&mut bed, CHROMIUM_START, true, &OWN);
    assert_eq!(refused["code"], "server_full", "{refused}");
    assert!(bed.plane.books().transports.is_empty() && bed.core.sessions.is_empty(), "half of it helps nobody");
}

#[test]
fn a_slot_that_does_not_fit_is_refused_and_the_others_are_not() {
    let mut bed = Bed::new("full-slots");
    let ((mut ada, _), (_, of_bob)) = two(&mut bed);
    bed.plane.books().room_for = Some(1);
    let (camera, microphone) = (track_of(&of_bob, "1"), track_of(&of_bob, "0"));
    let wishes = [("11", Some(camera), None), ("2", Some(microphone), None)];
    let subscribed = ada.subscribe(&mut bed, &wishes);
    assert_eq!(subscribed["slots"], json!([{"mid": "11", "track": camera}]));
    assert_eq!(subscribed["refused"][0]["code"], "server_full");
    bed.plane.books().room_for = None;
    assert_eq!(ada.subscribe(&mut bed, &wishes[1..])["slots"], json!([{"mid": "2", "track": microphone}]));
    assert_eq!(bed.plane.books().subscriptions.len(), 2, "it is programmed the second time");
}

#[test]
fn whip_and_whep_meet_participants_in_their_rooms() {
    let mut bed = Bed::new("mixed");
    let mut ada = Person::new(1);
    ada.join(&mut bed, "Ada");
    let published = bed.publish("Cam", CHROMIUM).expect("accepted");
    let told = ada.told();
    assert_eq!((kinds(&told), &told[0]["participant"]["id"]), (vec!["participant_joined"], &json!("cam")));
    let track = told[0]["participant"]["tracks"][1]["id"].as_str().expect("a track").to_owned();
    ada.offer(&mut bed, CHROMIUM_START, true, &OWN);
    assert_eq!(ada.subscribe(&mut bed, &[("11", Some(&track), None)])["slots"], json!([{"mid": "11", "track": track}]));
    let viewer = bed.watch("ada", RECVONLY).expect("accepted");
    assert_eq!(viewer.participant.as_str(), "ada");
    bed.leave(&room(), published.resource).expect("leaves");
    let told = ada.told();
    assert_eq!(kinds(&told).last(), Some(&"participant_left"), "{told:?}");
}

#[test]
fn a_hundred_people_come_back_at_once() {
    let mut bed = Bed::new("storm");
    let mut people: Vec<Person> = (1..=100).map(Person::new).collect();
    for person in &mut people {
        person.join(&mut bed, "Ada");
    }
    for person in &people {
        bed.core.answer(bed.now, Request::Disconnected { connection: person.connection });
    }
    let mut back: Vec<Person> = (101..=200).map(Person::new).collect();
    for (new, old) in back.iter_mut().zip(&people) {
        let joined = new.resume(&mut bed, &old.resume);
        assert_eq!((&joined["resumed"], &joined["self"]), (&json!(true), &json!(old.id)));
        assert_eq!(joined["participants"].as_array().map(Vec::len), Some(99));
    }
    assert_eq!(bed.core.member_by_connection.len(), 100);
    for person in &mut back {
        person.ask(&mut bed, Ask::Leave);
    }
    assert!(bed.is_empty());
}

#[test]
fn a_client_that_does_not_read_slows_nobody() {
    let mut bed = Bed::new("slow");
    let ((mut ada, of_ada), (mut bob, _)) = two(&mut bed);
    let camera = track_id(track_of(&of_ada, "1"));
    let mut silent = Person::new(3);
    silent.join(&mut bed, "Sly");
    bob.told();
    for muted in [true, false].into_iter().cycle().take(400) {
        assert_eq!(ada.reply(&mut bed, Ask::Mute { track: camera, muted })["type"], "ok");
        assert_eq!(bob.told().len(), 1);
    }
    assert_eq!(silent.told().len(), 256, "what waits is bounded");
}

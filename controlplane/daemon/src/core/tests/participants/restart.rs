// SPDX-License-Identifier: Apache-2.0
//! A control plane that dies and comes back: the data plane goes on with its books, and nobody has to begin anew.

use controlplane_room::{Found, FoundSubscription};
use controlplane_store::Sessions;

use super::*;
use crate::core::Predecessor;

const BOOT: [u8; 16] = [9; 16];

/// A bed whose sessions are kept.
fn kept(name: &str) -> Bed {
    let mut bed = Bed::new(name);
    let (keep, stored) = Sessions::load(&bed.dir.0, &BOOT).expect("opens");
    let predecessor = Predecessor::read(bed.now, bed.core.limits, stored);
    bed.core.succeed(bed.now, predecessor, &Found::default(), keep);
    bed
}

/// Another process with the same folder and the same data plane; keys are installed where `is_secured`.
fn restarted(bed: Bed, is_secured: impl Fn(TransportId) -> bool) -> Bed {
    let Bed { core, plane, now, server, dir, journal } = bed;
    let (id, member) = (core.ids.clone(), core.member_by_connection.len());
    drop(core);
    journal.expect("runs").join().expect("ends");
    let config = Config { media_address: vec![IpAddr::from([192, 0, 2, 1])], ..Config::default() };
    let rotation = Rotation { dir: dir.0.join("journal"), max_len: 1 << 20, files: 2 };
    let (journal, thread) = Journal::start(rotation).expect("starts");
    let store = Store::open(&dir.0).expect("opens");
    let (keep, stored) = Sessions::load(&dir.0, &BOOT).expect("opens");
    let predecessor = Predecessor::read(now, config.limits.room_limits(), stored);
    let known = predecessor.known();
    let found = adopt(&plane, &known, is_secured);
    let mut core = Core::new(&config, plane.clone(), store, server.clone(), journal);
    core.succeed(now, predecessor, &found, keep);
    assert!(core.member_by_connection.is_empty() && member > 0, "no WebSocket outlives its process");
    assert!(core.ids.is_empty() && id.end > 0, "ids go on in another block");
    Bed { core, plane, now, server, dir, journal: Some(thread) }
}

/// What the programmer finds in the segment, and calls by other numbers from here on.
fn adopt(plane: &Fake, known: &controlplane_room::Known, is_secured: impl Fn(TransportId) -> bool) -> Found {
    let mut books = plane.books();
    let mut found = Found::default();
    for held in &known.transports {
        let there = books.transports.get(&held.spec.id).filter(|spec| spec.local == held.spec.local);
        found.transports.extend(there.map(|spec| (spec.id, is_secured(spec.id))));
    }
    found.tracks = known.tracks.keys().copied().filter(|track| books.tracks.contains_key(track)).collect();
    let (subscriptions, shown) = (std::mem::take(&mut books.subscriptions), std::mem::take(&mut books.shown));
    for (old, spec) in subscriptions {
        let Some(id) = known.subscriptions.get(&(spec.transport, spec.ssrc)).copied() else { continue };
        let delivers = shown.get(&old).copied().flatten();
        let track = delivers.map(|(track, _)| track);
        let max_encoding = delivers.and_then(|(_, encoding)| encoding);
        found.subscriptions.insert(id, FoundSubscription { track, max_encoding });
        books.shown.insert(id, delivers);
        books.subscriptions.insert(id, spec);
    }
    found
}

/// Everything that the data plane has, without numbers of one process.
fn programmed(bed: &Bed) -> String {
    let books = bed.plane.books();
    let subscriptions: Vec<_> =
        books.subscriptions.iter().map(|(id, spec)| (spec.ssrc, spec, books.shown.get(id))).collect();
    let by_ssrc: BTreeMap<_, _> = subscriptions.into_iter().map(|(ssrc, spec, shown)| (ssrc, (spec, shown))).collect();
    format!("{:?} {:?} {by_ssrc:?}", books.transports, books.tracks)
}

#[test]
fn a_killed_control_plane_comes_back_with_everybody_in_it() {
    let mut bed = kept("restart");
    let ((mut ada, of_ada), (mut bob, of_bob)) = two(&mut bed);
    let (mic, camera) = (track_of(&of_bob, "0").to_owned(), track_of(&of_bob, "1").to_owned());
    let slots = |kind: &str| -> Vec<String> {
        let slots = of_ada["slots"].as_array().expect("a list").iter().filter(|slot| slot["kind"] == kind);
        slots.map(|slot| slot["mid"].as_str().expect("a mid").to_owned()).collect()
    };
    let (audio, video) = (slots("audio"), slots("video"));
    ada.subscribe(&mut bed, &[(&video[0], Some(&camera), Some(180)), (&audio[0], Some(&mic), None)]);
    ada.subscribe(&mut bed, &[(&audio[0], None, None)]);
    bob.reply(&mut bed, Ask::Mute { track: track_id(&mic), muted: true });
    let published = bed.publish("Cam", CHROMIUM).expect("accepted");
    let watched = bed.watch("cam", RECVONLY).expect("accepted");
    let (before, transport) = (programmed(&bed), ada.transport(&bed));
    let mut bed = restarted(bed, |_| true);
    assert_eq!(programmed(&bed), before, "the data plane was told nothing");
    assert_eq!(bed.core.sessions.len(), 4);
    // A page that was open resumes and keeps its PeerConnection.
    let mut again = Person::new(3);
    let joined = again.resume(&mut bed, &ada.resume);
    assert_eq!(
        (&joined["self"], &joined["resumed"], &joined["transport"]),
        (&json!("ada"), &json!(true), &json!("kept"))
    );
    let shown = joined["slots"].as_array().expect("a list").iter().filter(|slot| !slot["track"].is_null());
    assert_eq!(shown.collect::<Vec<_>>(), [&json!({"mid": video[0], "track": camera})]);
    assert_eq!(joined["tracks"], of_ada["tracks"]);
    let others: Vec<_> = joined["participants"].as_array().expect("a list").iter().map(|who| &who["id"]).collect();
    assert_eq!(others, [&json!("bob"), &json!("cam")]);
    let muted = &joined["participants"][0]["tracks"];
    assert!(muted.as_array().expect("a list").iter().any(|track| track["id"] == mic && track["muted"] == true));
    let spent = Person::new(4).resume(&mut bed, &ada.resume);
    assert_eq!(spent["code"], "resume_unknown", "its token is spent");
    // The same PeerConnection goes on with another offer.
    let screen = again.offer(&mut bed, CHROMIUM_SCREEN, false, &OWN);
    assert_eq!(screen["type"], "answer", "{screen}");
    let ufrag = |answer: &Value| {
        let text = answer["sdp"].as_str().expect("text").to_owned();
        text.lines().find(|line| line.starts_with("a=ice-ufrag:")).expect("has one").to_owned()
    };
    assert_eq!((ufrag(&screen), again.transport(&bed)), (ufrag(&of_ada), transport));
    again.told();
    // What came by HTTP ends by HTTP.
    assert!(bed.leave(&room(), ResourceId([0; 16])).is_err());
    bed.leave(&room(), watched.resource).expect("the viewer leaves");
    bed.leave(&room(), published.resource).expect("the publisher leaves");
    assert_eq!(kinds(&again.told()), ["participant_left"]);
    // Whoever does not come back goes.
    bed.now += Duration::from_secs(60);
    bed.core.expire(bed.now);
    assert_eq!(kinds(&again.told()), ["participant_state", "participant_left"]);
    again.reply(&mut bed, Ask::Leave);
    assert!(bed.is_empty());
}

#[test]
fn a_handshake_that_was_under_way_is_begun_anew_by_the_client() {
    let mut bed = kept("restart-handshake");
    let ((ada, _), (bob, _)) = two(&mut bed);
    let published = bed.publish("Cam", CHROMIUM).expect("accepted");
    let (secured, not) = (ada.transport(&bed), bob.transport(&bed));
    let mut bed = restarted(bed, |id| id == secured);
    assert_eq!(bed.plane.books().transports.keys().collect::<Vec<_>>(), [&secured]);
    assert!(!bed.core.sessions.contains_key(&not));
    assert!(bed.leave(&room(), published.resource).is_err(), "it is gone");
    let mut again = Person::new(3);
    let joined = again.resume(&mut bed, &bob.resume);
    assert_eq!((&joined["resumed"], &joined["transport"]), (&json!(true), &json!("none")));
    assert_eq!(again.offer(&mut bed, FIREFOX_START, false, &OWN)["code"], "restart_needed");
    assert_eq!(again.offer(&mut bed, FIREFOX_START, true, &OWN)["type"], "answer");
}

#[test]
fn who_left_before_the_restart_stays_away() {
    let mut bed = kept("restart-left");
    let ((mut ada, _), (bob, _)) = two(&mut bed);
    ada.reply(&mut bed, Ask::Leave);
    let mut bed = restarted(bed, |_| true);
    assert_eq!(bed.core.sessions.len(), 1);
    assert_eq!(Person::new(3).resume(&mut bed, &ada.resume)["code"], "resume_unknown");
    let joined = Person::new(4).resume(&mut bed, &bob.resume);
    assert_eq!(joined["participants"], json!([]));
    // Records of another version, or of nobody, are taken away.
    let Bed { core, dir, .. } = bed;
    drop(core);
    let (keep, _) = Sessions::load(&dir.0, &BOOT).expect("opens");
    keep.put("p/demo/ghost".into(), Zeroizing::new(b"{}".to_vec()));
    assert!(keep.flush(Duration::from_secs(60)));
    drop(keep);
    let (_keep, stored) = Sessions::load(&dir.0, &BOOT).expect("opens");
    assert!(stored.contains_key("p/demo/ghost") && stored.contains_key("p/demo/bob"));
    assert_eq!(stored.len(), 2, "nothing is kept of who left");
    let predecessor = Predecessor::read(Instant::now(), controlplane_room::Limits::default(), stored);
    assert_eq!(predecessor.known().transports.len(), 1);
}

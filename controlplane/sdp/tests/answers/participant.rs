// SPDX-License-Identifier: Apache-2.0
//! Offers that two browsers made one after another over one PeerConnection, each after our answer to the one before:
//! microphone, camera (three encodings) and nine slots of each kind; a screen; eight slots more; the screen ended, and
//! again; the first section stopped; its place taken by a new section. They must never be edited: later offers repeat
//! what our answers said.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use controlplane_sdp::{
    CodecKind, DtlsRole, MediaKind, Mid, Negotiated, Offer, ParticipantAnswer, ParticipantError, Policy, Pt,
    SectionUse, Slot, SlotIdentity, Ssrc, Standing, answer_participant,
};
use proptest::prelude::*;

use crate::lines::{Text, check_participant};
use crate::mutations::{apply, damage};
use crate::server::with_server;

const STEPS: [&str; 7] =
    ["1-start", "2-screen", "3-slots", "4-screen-ended", "5-screen-again", "6-first-stopped", "7-recycled"];

fn offer_of(browser: &str, step: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/participants");
    fs::read_to_string(folder.join(format!("{browser}-{step}.sdp"))).expect("a recorded offer")
}

/// The SSRCs that a slot gets in these tests: by its mid, so that a slot asked for twice would show.
fn answer(
    text: &str,
    previous: Option<&Negotiated>,
    asked: &mut Vec<String>,
) -> Result<ParticipantAnswer, ParticipantError> {
    let new_slot = |slot: controlplane_sdp::NewSlot<'_>| {
        asked.push(slot.mid.as_str().to_owned());
        let number = slot.mid.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
        SlotIdentity { ssrc: Ssrc(number), rtx_ssrc: Ssrc(!number), cname: "room".to_owned() }
    };
    with_server(|server| answer_participant(&Offer::parse(text)?, server, &Policy::default(), new_slot, previous))
}

fn first(browser: &str) -> ParticipantAnswer {
    answer(&offer_of(browser, STEPS[0]), None, &mut Vec::new()).expect("an answer")
}

fn mid(text: &str) -> Mid {
    Mid::parse(text).expect("a mid")
}

/// Answers the offers of `steps` in turn and returns what each came to.
fn play(browser: &str, steps: &[&str]) -> Vec<ParticipantAnswer> {
    let mut asked = Vec::new();
    let mut answers: Vec<ParticipantAnswer> = Vec::new();
    for (version, step) in (1..).zip(steps) {
        let offer = offer_of(browser, step);
        let previous = answers.last().map(|answer| &answer.negotiated);
        let answer = answer(&offer, previous, &mut asked).unwrap_or_else(|error| panic!("{browser} {step}: {error}"));
        check_participant(&offer, &answer.sdp, version);
        check_slots(&answer);
        answers.push(answer);
    }
    let mut once = asked.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), asked.len(), "a slot is asked for once: {asked:?}");
    answers
}

/// Each slot is in the text as its facts say.
fn check_slots(answer: &ParticipantAnswer) {
    let text = Text::split(&answer.sdp);
    for (slot, _) in &answer.slots {
        let part = &text.media[slot.index];
        assert_eq!(part.only("mid"), slot.mid.as_str());
        assert!(part.has("sendonly"));
        assert_eq!(part.only("msid"), format!("slot-{0} slot-{0}", slot.mid));
        match slot.rtx_ssrc {
            Some(rtx_ssrc) => assert_eq!(part.only("ssrc-group"), format!("FID {} {rtx_ssrc}", slot.ssrc)),
            None => assert!(!part.has("ssrc-group")),
        }
        assert_eq!(slot.rtx_ssrc.is_some(), slot.kind == MediaKind::Video);
        assert!(part.values("ssrc").contains(&format!("{} cname:room", slot.ssrc).as_str()));
        let pts = slot.codecs.iter().flat_map(|codec| std::iter::once(codec.pt).chain(codec.rtx_pt));
        assert_eq!(part.formats, pts.map(|pt| pt.to_string()).collect::<Vec<_>>());
        assert_eq!(part.values("extmap").len(), slot.extensions.len());
    }
    for (track, _) in &answer.tracks {
        assert!(text.media[track.index].has("recvonly"));
    }
}

fn standings<T>(of: &[(T, Standing)], standing: Standing) -> usize {
    of.iter().filter(|(_, held)| *held == standing).count()
}

fn slot_names(answer: &ParticipantAnswer) -> BTreeMap<String, (Ssrc, Option<Ssrc>)> {
    answer.slots.iter().map(|(slot, _)| (slot.mid.as_str().to_owned(), (slot.ssrc, slot.rtx_ssrc))).collect()
}

#[test]
fn a_participant_sends_two_tracks_and_gets_eighteen_slots() {
    for (browser, vp8) in [("chromium156", 96), ("firefox153esr", 120)] {
        let answer = first(browser);
        assert_eq!(answer.dtls.we_are, DtlsRole::Server);
        assert!(answer.rejected.is_empty() && answer.ended_tracks.is_empty() && answer.ended_slots.is_empty());
        let [(audio, Standing::New), (video, Standing::New)] = answer.tracks.as_slice() else { panic!("two tracks") };
        assert_eq!((audio.codec, video.codec, video.pt), (CodecKind::Opus, CodecKind::Vp8, Pt(vp8)));
        assert_eq!(video.rids.iter().map(|rid| rid.as_str()).collect::<Vec<_>>(), ["l", "m", "h"]);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(answer.slots.iter().filter(|(slot, _)| slot.kind == kind).count(), 9);
        }
        let (slot, _) = answer.slots.last().expect("a video slot");
        let shown = |codec| slot.codecs.iter().any(|held| held.codec == codec && held.rtx_pt.is_some());
        assert!(shown(CodecKind::Vp8) && shown(CodecKind::Vp9) && shown(CodecKind::Av1), "{browser}");
        assert!(slot.feedback.nack && slot.feedback.pli && !slot.feedback.transport_cc);
        assert!(slot.extensions.iter().any(|extension| extension.kind == controlplane_sdp::ExtKind::Mid));
    }
}

#[test]
fn a_slot_knows_which_of_its_formats_decodes_a_track() {
    let answer = first("chromium156");
    let (slot, _) = answer.slots.last().expect("a video slot");
    let pt = |codec, fmtp: &str| slot.codec_for(codec, &controlplane_sdp::Fmtp::parse(fmtp)).map(|held| held.pt);
    assert_eq!(pt(CodecKind::Vp8, ""), Some(Pt(96)));
    assert_eq!(pt(CodecKind::Vp9, "profile-id=0"), Some(Pt(98)));
    let baseline = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    assert_eq!(pt(CodecKind::H264, baseline), Some(Pt(108)));
    assert_eq!(pt(CodecKind::Opus, ""), None);
    assert!(slot.codecs[0].decodes(CodecKind::Vp8, &controlplane_sdp::Fmtp::default()));
    assert!(!slot.codecs[0].decodes(CodecKind::Vp9, &controlplane_sdp::Fmtp::default()));
}

#[test]
fn what_is_there_stays_while_sections_come_and_go() {
    for browser in ["chromium156", "firefox153esr"] {
        let answers = play(browser, &STEPS[..5]);
        let [start, screen, slots, ended, again] = answers.as_slice() else { panic!("five answers") };

        assert_eq!(standings(&screen.tracks, Standing::Kept), 2, "{browser}: {:?}", screen.tracks);
        assert_eq!((standings(&screen.tracks, Standing::New), screen.tracks.len()), (1, 3));
        assert_eq!(screen.tracks[2].0.mid, mid("20"));
        assert_eq!(standings(&screen.slots, Standing::Kept), 18, "{browser}");

        assert_eq!(standings(&slots.slots, Standing::Kept), 18);
        assert_eq!((standings(&slots.slots, Standing::New), slots.slots.len()), (8, 26));
        assert_eq!(standings(&slots.tracks, Standing::Kept), 3);

        assert_eq!(ended.ended_tracks, [mid("20")]);
        assert_eq!((ended.tracks.len(), standings(&ended.tracks, Standing::Kept)), (2, 2));
        assert!(ended.ended_slots.is_empty() && ended.rejected.is_empty());
        assert!(Text::split(&ended.sdp).media[20].has("inactive"));
        assert_ne!(Text::split(&ended.sdp).media[20].port, 0, "a stopped section may be used again");
        assert_eq!(standings(&ended.slots, Standing::Kept), 26);

        assert_eq!((again.tracks.len(), standings(&again.tracks, Standing::New)), (3, 1));
        assert!(again.ended_tracks.is_empty());

        let names = slot_names(again);
        for (earlier, later) in answers.iter().zip(answers.iter().skip(1)) {
            assert!(slot_names(earlier).iter().all(|(mid, held)| slot_names(later).get(mid) == Some(held)));
            assert_eq!((&earlier.ice, &earlier.dtls), (&later.ice, &later.dtls));
        }
        assert_eq!(names.len(), 26);
        assert_eq!(start.negotiated.session_version, 1);
        assert_eq!(again.negotiated.session_version, 5);
    }
}

#[test]
fn a_stopped_first_section_hands_the_transport_to_the_next() {
    for browser in ["chromium156", "firefox153esr"] {
        let answers = play(browser, &STEPS[..6]);
        let stopped = answers.last().expect("six answers");
        assert_eq!(stopped.ended_tracks, [mid("0")]);
        assert_eq!(stopped.ended_slots, [mid("5")]);
        assert_eq!(stopped.rejected.iter().map(|held| held.index).collect::<Vec<_>>(), [0, 5]);
        let text = Text::split(&stopped.sdp);
        assert_eq!((text.media[0].port, text.media[5].port), (0, 0));
        assert!(text.values("group")[0].starts_with("BUNDLE 1 2 3 4 6 "));
        assert!(text.media[1].has("candidate"));
        assert_eq!(standings(&stopped.tracks, Standing::Kept), 2);
        assert_eq!((stopped.slots.len(), standings(&stopped.slots, Standing::Kept)), (25, 25));
    }
}

#[test]
fn a_section_may_take_a_place_that_is_free() {
    let answers = play("firefox153esr", &STEPS);
    let last = answers.last().expect("seven answers");
    assert_eq!(standings(&last.slots, Standing::New), 1);
    assert!(slot_names(last).contains_key("29"));
}

#[test]
fn chromium_changes_its_credentials_when_the_first_place_is_taken_again() {
    let answers = play("chromium156", &STEPS[..6]);
    let previous = answers.last().map(|answer| &answer.negotiated);
    let error = answer(&offer_of("chromium156", STEPS[6]), previous, &mut Vec::new()).expect_err("another transport");
    assert!(matches!(error, ParticipantError::RestartNeeded(_)), "{error}");
    assert_eq!(error.to_string(), "the ICE credentials are other ones: the offer needs `restart`");
}

#[test]
fn another_certificate_or_role_needs_a_restart() {
    let browser = "chromium156";
    let start = first(browser);
    let offer = offer_of(browser, STEPS[1]);
    let hash = offer.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).expect("a hash").to_owned();
    let other_hash = format!("{}{}", if hash.starts_with("00") { "11" } else { "00" }, &hash[2..]);
    for (changed, why) in [
        (offer.replace(&hash, &other_hash), "certificate"),
        (offer.replace("a=setup:actpass", "a=setup:passive"), "role"),
        (offer.replace("a=ice-pwd:", "a=ice-pwd:x"), "ICE"),
    ] {
        let error = answer(&changed, Some(&start.negotiated), &mut Vec::new()).expect_err("another transport");
        assert!(matches!(error, ParticipantError::RestartNeeded(text) if text.contains(why)), "{why}: {error}");
    }
    let active = offer.replace("a=setup:actpass", "a=setup:active");
    assert!(answer(&active, Some(&start.negotiated), &mut Vec::new()).is_ok(), "the role that was agreed");
}

#[test]
fn sections_do_not_change_places_or_go_missing() {
    let browser = "firefox153esr";
    let answers = play(browser, &STEPS[..2]);
    let previous = answers.last().map(|answer| &answer.negotiated);
    let refused = |text: &str| match answer(text, previous, &mut Vec::new()) {
        Err(ParticipantError::Offer(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let renamed = offer_of(browser, STEPS[1]).replace("a=mid:3\r\n", "a=mid:z\r\n");
    let renamed = renamed.replace("BUNDLE 0 1 2 3 ", "BUNDLE 0 1 2 z ");
    assert_eq!(
        refused(&renamed),
        "a=mid contradicts itself in m-line 4 (mid z): mid 3 was in this m-line in the offer before"
    );
    let fewer = refused(&offer_of(browser, STEPS[0]));
    assert_eq!(fewer, "m= contradicts itself in the session part: 20 m-lines, the offer before had 21");
}

/// The offer with `more` copies of its last slot of a kind.
fn with_more_slots(kind: &str, more: usize) -> String {
    let text = offer_of("firefox153esr", STEPS[0]);
    let start = text.rfind(&format!("m={kind} ")).expect("a slot");
    let end = text[start + 2..].find("m=").map_or(text.len(), |at| start + 2 + at);
    let lines = text[start..end].split_inclusive('\n');
    let section: String = lines.filter(|line| !line.starts_with("a=ssrc:")).collect();
    let old_mid = section.lines().find(|line| line.starts_with("a=mid:")).expect("a mid").to_owned();
    let mut changed = text.clone();
    for number in 0..more {
        changed.push_str(&section.replace(&old_mid, &format!("a=mid:more{number}")));
    }
    let mids: Vec<String> = (0..more).map(|number| format!("more{number}")).collect();
    changed.replacen(" 18 19\r\n", &format!(" 18 19 {}\r\n", mids.join(" ")), 1)
}

#[test]
fn slots_of_a_kind_are_at_most_forty_nine() {
    for (kind, named) in [("audio", MediaKind::Audio), ("video", MediaKind::Video)] {
        let full = answer(&with_more_slots(kind, 40), None, &mut Vec::new()).expect("49 slots");
        assert_eq!(full.slots.iter().filter(|(slot, _)| slot.kind == named).count(), 49);
        let error = answer(&with_more_slots(kind, 41), None, &mut Vec::new()).expect_err("one too many");
        assert_eq!(error, ParticipantError::TooManySlots { kind: named, limit: 49 });
    }
}

#[test]
fn tracks_of_a_kind_are_at_most_those_of_the_policy() {
    let text = offer_of("firefox153esr", STEPS[0]);
    let sending = text.replace("a=recvonly", "a=sendrecv");
    let error = answer(&sending, None, &mut Vec::new()).expect_err("ten microphones");
    assert_eq!(error, ParticipantError::TooManyTracks { kind: MediaKind::Audio, limit: 4 });
}

/// One section's direction changed.
fn with_direction(text: &str, mid: &str, direction: &str) -> String {
    let at = text.find(&format!("a=mid:{mid}\r\n")).expect("the section");
    let start = text[..at].rfind("m=").expect("its m-line");
    let end = text[start + 2..].find("\r\nm=").map_or(text.len(), |found| start + 2 + found);
    let mut section = text[start..end].to_owned();
    for old in ["sendrecv", "sendonly", "recvonly", "inactive"] {
        section = section.replace(&format!("\r\na={old}\r\n"), &format!("\r\na={direction}\r\n"));
    }
    format!("{}{section}{}", &text[..start], &text[end..])
}

#[test]
fn a_slot_that_pauses_comes_back_as_itself() {
    let text = offer_of("firefox153esr", STEPS[0]);
    let mut asked = Vec::new();
    let start = answer(&text, None, &mut asked).expect("answer");
    let paused = answer(&with_direction(&text, "11", "inactive"), Some(&start.negotiated), &mut asked).expect("answer");
    assert_eq!(paused.ended_slots, [mid("11")]);
    assert!(Text::split(&paused.sdp).media[11].has("inactive"));
    assert_eq!(paused.negotiated.section(&mid("11")).expect("there").used_as, SectionUse::Idle);
    let back = answer(&text, Some(&paused.negotiated), &mut asked).expect("answer");
    assert_eq!(slot_names(&back), slot_names(&start));
    assert_eq!(asked.len(), 18, "no second SSRC");
    assert_eq!((standings(&back.slots, Standing::New), back.ended_slots.len()), (1, 0));
}

#[test]
fn a_slot_may_send_for_a_while_and_a_track_never_becomes_a_slot() {
    let text = offer_of("firefox153esr", STEPS[0]);
    let mut asked = Vec::new();
    let start = answer(&text, None, &mut asked).expect("answer");
    // What addTrack makes of a receiving section: it sends and receives.
    let both = answer(&with_direction(&text, "11", "sendrecv"), Some(&start.negotiated), &mut asked).expect("answer");
    assert_eq!((both.tracks.len(), &both.ended_slots[..]), (3, &[mid("11")][..]));
    let back = answer(&text, Some(&both.negotiated), &mut asked).expect("answer");
    assert_eq!((slot_names(&back), &back.ended_tracks[..]), (slot_names(&start), &[mid("11")][..]));
    // What removeTrack makes of a sending section.
    let removed = answer(&with_direction(&text, "1", "recvonly"), Some(&start.negotiated), &mut asked).expect("answer");
    assert_eq!((&removed.ended_tracks[..], removed.slots.len()), (&[mid("1")][..], 18));
    assert!(Text::split(&removed.sdp).media[1].has("inactive"));
    assert_eq!(asked.len(), 18);
}

#[test]
fn a_section_with_other_payload_types_begins_anew() {
    let text = offer_of("firefox153esr", STEPS[0]);
    let start = first("firefox153esr");
    let at = text.find("a=mid:19\r\n").expect("the last slot");
    let section = text[..at].rfind("m=video").expect("its m-line");
    let moved = text[section..].replace("120", "105");
    let changed =
        answer(&format!("{}{moved}", &text[..section]), Some(&start.negotiated), &mut Vec::new()).expect("answer");
    assert_eq!((standings(&changed.slots, Standing::Changed), standings(&changed.slots, Standing::Kept)), (1, 17));
    assert_eq!(slot_names(&changed), slot_names(&start), "the SSRC is the slot's");
}

#[test]
fn a_track_keeps_its_codec_and_vp8_is_preferred() {
    let text = offer_of("chromium156", STEPS[0]);
    let camera = text.find("a=mid:1\r\n").expect("the camera");
    let m_line = text[..camera].rfind("m=video 9 UDP/TLS/RTP/SAVPF ").or_else(|| text[..camera].rfind("m=video "));
    let m_line = m_line.expect("its m-line");
    let end = m_line + text[m_line..].find("\r\n").expect("a line");
    let reordered = text[m_line..end].replacen(" 98 99", "", 1).replacen(" 96 97", " 98 99 96 97", 1);
    assert_ne!(reordered, text[m_line..end]);
    let vp9_first = format!("{}{reordered}{}", &text[..m_line], &text[end..]);
    let preferred = answer(&vp9_first, None, &mut Vec::new()).expect("answer");
    assert_eq!(preferred.tracks[1].0.codec, CodecKind::Vp8);

    let policy = Policy { participant_video: None, ..Policy::default() };
    let nobody =
        |_: controlplane_sdp::NewSlot<'_>| SlotIdentity { ssrc: Ssrc(1), rtx_ssrc: Ssrc(2), cname: String::new() };
    let chosen = with_server(|server| {
        answer_participant(&Offer::parse(&vp9_first).expect("an offer"), server, &policy, nobody, None)
    });
    let chosen = chosen.expect("answer");
    assert_eq!(chosen.tracks[1].0.codec, CodecKind::Vp9, "without a preference it is the client's first");
    let kept = answer(&text, Some(&chosen.negotiated), &mut Vec::new()).expect("answer");
    assert_eq!((kept.tracks[1].0.codec, kept.tracks[1].1), (CodecKind::Vp9, Standing::Kept));
}

#[test]
fn a_section_without_a_codec_of_ours_is_rejected_alone() {
    let text = offer_of("firefox153esr", STEPS[0]);
    let at = text.find("a=mid:2\r\n").expect("the first audio slot");
    let start = text[..at].rfind("m=audio").expect("its m-line");
    let end = start + 2 + text[start + 2..].find("m=").expect("the next");
    let without = text[start..end].replace("opus/48000/2", "speex/48000/2");
    let answer =
        answer(&format!("{}{without}{}", &text[..start], &text[end..]), None, &mut Vec::new()).expect("answer");
    assert_eq!((answer.slots.len(), answer.rejected.len()), (17, 1));
    assert!(answer.rejected[0].reason.starts_with("no codec in common (speex"), "{}", answer.rejected[0].reason);
}

#[test]
fn what_is_negotiated_survives_being_written_down() {
    for browser in ["chromium156", "firefox153esr"] {
        let start = first(browser);
        let written = serde_json::to_string(&start.negotiated).expect("written");
        let read: Negotiated = serde_json::from_str(&written).expect("read");
        assert_eq!(read, start.negotiated);
        let shown = format!("{start:?} {:?}", start.negotiated);
        assert!(!shown.contains(&start.ice.pwd) && !shown.contains(crate::server::PWD));
        let again = answer(&offer_of(browser, STEPS[1]), Some(&read), &mut Vec::new()).expect("answer");
        assert_eq!(standings(&again.slots, Standing::Kept), 18);
    }
}

static RECORDED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let of = |browser: &str| STEPS.map(|step| (format!("{browser}-{step}"), offer_of(browser, step)));
    // Small first offers keep the cases many; the large ones are there too.
    [of("firefox153esr"), of("chromium156")].concat()
});

static STARTS: LazyLock<[(Negotiated, Vec<Slot>); 2]> = LazyLock::new(|| {
    ["firefox153esr", "chromium156"].map(|browser| {
        let start = first(browser);
        (start.negotiated, start.slots.into_iter().map(|(slot, _)| slot).collect())
    })
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_offers_are_refused_or_keep_every_slot(
        start in 0..14_usize,
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut text = RECORDED[start].1.clone();
        for damage in &damages {
            text = apply(&text, damage, &RECORDED);
        }
        let (previous, slots) = &STARTS[start / 7];
        for before in [None, Some(previous)] {
            let Ok(answer) = answer(&text, before, &mut Vec::new()) else { continue };
            let parsed = Offer::parse(&answer.sdp);
            prop_assert!(parsed.is_ok(), "our answer: {parsed:?}");
            prop_assert_eq!(parsed.expect("checked").media.len(), Offer::parse(&text).expect("answered").media.len());
            prop_assert!(answer.slots.iter().all(|(slot, _)| !slot.codecs.is_empty()));
            if before.is_some() {
                prop_assert_eq!(&answer.ice, &previous.ice);
                for old in slots {
                    let now = answer.slots.iter().find(|(slot, _)| slot.mid == old.mid);
                    prop_assert!(now.is_none_or(|(slot, _)| slot.ssrc == old.ssrc && slot.index == old.index));
                    prop_assert_eq!(now.is_none(), answer.ended_slots.contains(&old.mid));
                }
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! docs/PROTOCOL.md is the fixture: each of its examples is read or made here, so page and code cannot drift apart.

use std::collections::BTreeSet;

use controlplane_room::TrackId;
use serde_json::{Value, json};

use crate::code::{CloseCode, ErrorCode, Refused};
use crate::event::{
    Joined, Kind, LeftReason, LimitsView, OwnTrack, ParticipantState, ParticipantView, RefusedSlot, RejectedSection,
    ServerMessage, SlotState, SlotView, TrackView, TransportHeld, TransportState,
};
use crate::message::{Join, Message, Offer, ResumeToken, SendingSection, SlotWish, Source, parse};
use crate::request::SdpText;
use crate::socket::MAX_MESSAGE_LEN;

const PAGE: &str = include_str!("../../../docs/PROTOCOL.md");
const NINE_F: TrackId = TrackId([0x9f; 16]);
const THREE_ONE: TrackId = TrackId([0x31; 16]);
const RESUME: &str = "0b8e0b8e0b8e0b8e0b8e0b8e0b8e0b8e";

/// The page writes `…` for what would be long; here is what it stands for.
fn complete(example: &str) -> String {
    let ada = r#"{"id":"ada","name":"Ada","state":"joining","tracks":[]}"#;
    let text = example
        .replace("\"9f…\"", &format!("\"{}\"", "9f".repeat(16)))
        .replace("\"31…\"", &format!("\"{}\"", "31".repeat(16)))
        .replace("\"0b8e…32 hex…\"", &format!("\"{RESUME}\""))
        .replace("\"0b8e…\"", &format!("\"{RESUME}\""))
        .replace("{…as in joined…}", ada)
        .replace("\"eyJ…\"", "\"eyJ\"")
        .replace("v=0\\r\\n…", "v=0\\r\\n")
        .replace("\"code\":\"…\"", "\"code\":\"unknown_mid\"")
        .replace("\"message\":\"…\"", "\"message\":\"m\"")
        .replace("\"id\":\"…\"", &format!("\"id\":\"{}\"", "31".repeat(16)))
        .replace("\"track\":\"…\"", &format!("\"track\":\"{}\"", "31".repeat(16)));
    assert!(!text.contains('…'), "the page has an example that this test does not know: {text}");
    text
}

/// Every example: the fenced blocks, and what stands in backticks and is an object.
fn examples() -> Vec<(String, Value)> {
    let fenced = PAGE.split("```").skip(1).step_by(2).map(|block| block.trim_start_matches("json").to_owned());
    let prose: String = PAGE.split("```").step_by(2).collect();
    let inline = prose.split('`').skip(1).step_by(2).filter(|part| part.starts_with('{')).map(str::to_owned);
    let complete = |text: String| {
        let text = complete(&text);
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (text, value)
    };
    fenced.chain(inline.collect::<Vec<_>>()).map(complete).collect()
}

fn requests() -> Vec<(u64, Message)> {
    let section = |mid: &str, source| SendingSection { mid: mid.into(), source, muted: false };
    let offer = Offer {
        sdp: SdpText("v=0\r\n".into()),
        restart: true,
        tracks: vec![section("0", Source::Microphone), section("1", Source::Camera)],
    };
    let token = Some(zeroize::Zeroizing::new("eyJ".to_owned()));
    let join = Join { room: "standup".parse().expect("a room"), name: Some("Ada".parse().expect("a name")), token };
    let wish = |mid: &str, track, max_height| SlotWish { mid: mid.into(), track, max_height };
    let resume = u128::from_str_radix(RESUME, 16).expect("hex").to_be_bytes();
    vec![
        (1, Message::Join(join)),
        (2, Message::Offer(offer)),
        (3, Message::Subscribe(vec![wish("3", Some(NINE_F), Some(360)), wish("4", None, None)])),
        (4, Message::Mute { track: THREE_ONE, muted: true }),
        (5, Message::Leave),
        (6, Message::Ping),
        (1, Message::Resume(ResumeToken(zeroize::Zeroizing::new(resume)))),
    ]
}

fn joined() -> Joined {
    let track = |id, kind, source, muted| TrackView { id, kind, source, muted };
    Joined {
        id: 1,
        room: "standup".into(),
        own: "ada".into(),
        resume: RESUME.into(),
        resume_ttl_s: 60,
        resumed: false,
        transport: TransportHeld::None,
        slots: None,
        tracks: None,
        participants: vec![ParticipantView {
            id: "bob".into(),
            name: "Bob".into(),
            state: ParticipantState::Live,
            tracks: vec![
                track(NINE_F, Kind::Video, Source::Camera, false),
                track(THREE_ONE, Kind::Audio, Source::Microphone, true),
            ],
        }],
        limits: LimitsView { message_bytes: MAX_MESSAGE_LEN, slots_per_kind: 49, tracks: 8, name_bytes: 64 },
        server: "millrace 0.1.0".into(),
    }
}

fn replies() -> Vec<ServerMessage> {
    let own = |mid: &str, track| OwnTrack { mid: mid.into(), track };
    let slot = |mid: &str, kind| SlotView { mid: mid.into(), kind };
    let state = |mid: &str, track| SlotState { mid: mid.into(), track };
    let refused = RefusedSlot { mid: "5".into(), code: ErrorCode::UnknownTrack, message: "m".into() };
    vec![
        ServerMessage::Joined(Box::new(joined())),
        ServerMessage::Answer {
            id: 2,
            sdp: "v=0\r\n".into(),
            tracks: vec![own("0", THREE_ONE), own("1", NINE_F)],
            slots: vec![slot("2", Kind::Audio), slot("3", Kind::Video)],
            rejected: vec![RejectedSection { mid: "9".into(), reason: "no codec in common".into() }],
        },
        ServerMessage::Subscribed {
            id: 3,
            slots: vec![state("3", Some(NINE_F)), state("4", None)],
            refused: vec![refused],
        },
        ServerMessage::Pong { id: 6 },
        ServerMessage::Ok { id: 4 },
        ServerMessage::Left { id: 5 },
        ServerMessage::error(Some(3), Refused::new(ErrorCode::UnknownMid, "m").at("slots[0].mid")),
    ]
}

fn events() -> Vec<ServerMessage> {
    let ada =
        ParticipantView { id: "ada".into(), name: "Ada".into(), state: ParticipantState::Joining, tracks: Vec::new() };
    let bob = || "bob".to_owned();
    vec![
        ServerMessage::ParticipantJoined { participant: ada },
        ServerMessage::ParticipantLeft { participant: bob(), reason: LeftReason::Left },
        ServerMessage::ParticipantState { participant: bob(), state: ParticipantState::Lost },
        ServerMessage::TrackPublished {
            participant: bob(),
            track: TrackView { id: THREE_ONE, kind: Kind::Video, source: Source::Screen, muted: false },
        },
        ServerMessage::TrackUnpublished { participant: bob(), track: THREE_ONE },
        ServerMessage::TrackMuted { participant: bob(), track: THREE_ONE, muted: true },
        ServerMessage::Transport { state: TransportState::Secured, message: None },
        ServerMessage::Closing { reason: "restarting", retry_after_s: 1 },
    ]
}

#[test]
fn every_example_of_the_page_is_read_or_made() {
    let (requests, messages) = (requests(), [replies(), events()].concat());
    let made: Vec<Value> =
        messages.iter().map(|message| serde_json::from_str(message.encode().as_str()).expect("JSON")).collect();
    let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
    for (text, value) in examples() {
        if let Some(at) = made.iter().position(|message| *message == value) {
            written.insert(at);
            continue;
        }
        let parsed = parse(&text);
        let request = parsed.message.unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
        let expected = (parsed.id.expect("an id"), request);
        let at = requests.iter().position(|known| *known == expected);
        read.insert(at.unwrap_or_else(|| panic!("{text} is read as {expected:?}, which this test does not know")));
    }
    assert_eq!((read.len(), written.len()), (requests.len(), made.len()), "the page lacks an example");
}

/// The words in backticks of a table's first cells, from the table whose head begins with `head`.
fn first_cells(head: &str) -> Vec<String> {
    let table = PAGE.split(head).nth(1).expect("the table").lines().skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_start_matches('|').split('|').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_page_lists_every_error_code_and_every_close_code() {
    let cells = first_cells("| code | means | field |").join(" ");
    let listed: BTreeSet<&str> = cells.split('`').skip(1).step_by(2).collect();
    let codes = [
        ErrorCode::BadMessage,
        ErrorCode::UnknownType,
        ErrorCode::NotJoined,
        ErrorCode::AlreadyJoined,
        ErrorCode::BadRoom,
        ErrorCode::BadName,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::RoomFull,
        ErrorCode::ServerFull,
        ErrorCode::BadOffer,
        ErrorCode::RestartNeeded,
        ErrorCode::UnknownMid,
        ErrorCode::UnknownTrack,
        ErrorCode::NotCompatible,
        ErrorCode::TooManySlots,
        ErrorCode::TooManyTracks,
        ErrorCode::ResumeUnknown,
        ErrorCode::RateLimited,
    ];
    let known: Vec<Value> = codes.iter().map(|code| json!(code)).collect();
    let known: BTreeSet<&str> = known.iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, known);
    let cells = first_cells("| close code | means | the client |").join(",");
    let listed: BTreeSet<u16> = cells.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    for code in [
        CloseCode::Left,
        CloseCode::Binary,
        CloseCode::TooLong,
        CloseCode::Restarting,
        CloseCode::Replaced,
        CloseCode::NoJoin,
        CloseCode::TooSlow,
        CloseCode::Removed,
        CloseCode::TooFast,
    ] {
        assert!(listed.contains(&code.number()), "{}", code.number());
    }
}

#[test]
fn the_limits_of_the_page_are_those_of_the_code() {
    for limit in [
        format!("≤ {} KiB", MAX_MESSAGE_LEN / 1024),
        "50 messages/s on average, 200 at once".to_owned(),
        "`join`, within 10 s".to_owned(),
        "256 messages or 1 MiB".to_owned(),
    ] {
        assert!(PAGE.contains(&limit), "{limit}");
    }
}

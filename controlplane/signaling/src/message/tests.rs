// SPDX-License-Identifier: Apache-2.0
//! What clients may get wrong, and that nothing they send makes a panic.

use proptest::prelude::*;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn refused(text: &str) -> (Option<u64>, ErrorCode, String) {
    let parsed = parse(text);
    let refused = parsed.message.expect_err(text);
    (parsed.id, refused.code, refused.field.unwrap_or_default())
}

#[test]
fn the_member_at_fault_is_named() {
    use ErrorCode::{BadMessage, BadName, BadRoom, ResumeUnknown, Unauthorized, UnknownType};
    let long = "x".repeat(5000);
    for (text, code, field) in [
        (r#"{"id":1}"#.to_owned(), BadMessage, "type"),
        (r#"{"id":1,"type":7}"#.into(), BadMessage, "type"),
        (r#"{"id":1,"type":"fly"}"#.into(), UnknownType, "type"),
        (r#"{"id":1,"type":"join"}"#.into(), BadMessage, "room"),
        (r#"{"id":1,"type":"join","room":"A b"}"#.into(), BadRoom, "room"),
        (r#"{"id":1,"type":"join","room":"a","name":""}"#.into(), BadName, "name"),
        (r#"{"id":1,"type":"join","room":"a","name":["x"]}"#.into(), BadMessage, "name"),
        (r#"{"id":1,"type":"join","room":"a","name":"x","token":{}}"#.into(), BadMessage, "token"),
        (format!(r#"{{"id":1,"type":"join","room":"a","token":"{long}"}}"#), Unauthorized, "token"),
        (r#"{"id":1,"type":"join","resume":"short"}"#.into(), ResumeUnknown, "resume"),
        (r#"{"id":1,"type":"offer"}"#.into(), BadMessage, "sdp"),
        (r#"{"id":1,"type":"offer","sdp":"","restart":1}"#.into(), BadMessage, "restart"),
        (r#"{"id":1,"type":"offer","sdp":"","tracks":{}}"#.into(), BadMessage, "tracks"),
        (
            r#"{"id":1,"type":"offer","sdp":"","tracks":[{"mid":"0","source":"camera"},3]}"#.into(),
            BadMessage,
            "tracks[1]",
        ),
        (
            r#"{"id":1,"type":"offer","sdp":"","tracks":[{"mid":"0","source":"x"}]}"#.into(),
            BadMessage,
            "tracks[0].source",
        ),
        (
            r#"{"id":1,"type":"offer","sdp":"","tracks":[{"mid":"","source":"camera"}]}"#.into(),
            BadMessage,
            "tracks[0].mid",
        ),
        (r#"{"id":1,"type":"subscribe"}"#.into(), BadMessage, "slots"),
        (r#"{"id":1,"type":"subscribe","slots":[{"mid":"0"}]}"#.into(), BadMessage, "slots[0].track"),
        (r#"{"id":1,"type":"subscribe","slots":[{"mid":"0","track":"9F"}]}"#.into(), BadMessage, "slots[0].track"),
        (
            format!(r#"{{"id":1,"type":"subscribe","slots":[{{"mid":"0","track":"{HEX}","max_height":0}}]}}"#),
            BadMessage,
            "slots[0].max_height",
        ),
        (format!(r#"{{"id":1,"type":"mute","track":"{HEX}"}}"#), BadMessage, "muted"),
        (r#"{"id":1,"type":"mute","muted":true}"#.into(), BadMessage, "track"),
    ] {
        assert_eq!(refused(&text), (Some(1), code, field.to_owned()), "{text}");
    }
    let many = format!(r#"{{"id":1,"type":"subscribe","slots":[{}]}}"#, vec!["{}"; MAX_LIST + 1].join(","));
    assert_eq!(refused(&many), (Some(1), ErrorCode::BadMessage, "slots".into()));
}

#[test]
fn without_an_id_there_is_nothing_to_answer_to() {
    for text in [
        "",
        "hello",
        "[]",
        "null",
        r#"{"type":"ping"}"#,
        r#"{"type":"ping","id":0}"#,
        r#"{"type":"ping","id":-1}"#,
        r#"{"type":"ping","id":1.5}"#,
        r#"{"type":"ping","id":"1"}"#,
        r#"{"type":"ping","id":9007199254740992}"#,
    ] {
        let (id, code, _) = refused(text);
        assert_eq!((id, code), (None, ErrorCode::BadMessage), "{text}");
    }
    assert_eq!(parse(r#"{"type":"ping","id":9007199254740991}"#).id, Some((1 << 53) - 1));
}

#[test]
fn members_that_are_not_known_are_passed_over() {
    let text = format!(r#"{{"id":1,"x":[{{}}],"type":"mute","track":"{HEX}","muted":false,"y":null}}"#);
    let Ok(Message::Mute { muted: false, .. }) = parse(&text).message else { panic!("{text}") };
    let offer = r#"{"id":1,"type":"offer","sdp":"v=0","tracks":null,"restart":null}"#;
    let Ok(Message::Offer(offer)) = parse(offer).message else { panic!("{offer}") };
    assert!(!offer.restart && offer.tracks.is_empty());
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&deep).1, ErrorCode::BadMessage);
}

#[test]
fn nothing_secret_prints() {
    let join = format!(r#"{{"id":1,"type":"join","room":"a","name":"Ada","token":"{HEX}"}}"#);
    let resume = format!(r#"{{"id":1,"type":"join","resume":"{HEX}"}}"#);
    let offer = r#"{"id":1,"type":"offer","sdp":"a=ice-pwd:secret"}"#;
    let shown = format!("{:?} {:?} {:?}", parse(&join), parse(&resume), parse(offer));
    assert!(!shown.contains(&HEX[..8]) && !shown.contains("secret"), "{shown}");
}

/// A valid message, as text.
fn valid() -> impl Strategy<Value = String> {
    let members = [
        r#"{"id":1,"type":"join","room":"a","name":"Ada","token":"eyJ"}"#.to_owned(),
        format!(r#"{{"id":2,"type":"join","resume":"{HEX}"}}"#),
        r#"{"id":3,"type":"offer","sdp":"v=0\r\n","restart":true,"tracks":[{"mid":"0","source":"camera","muted":true}]}"#
            .to_owned(),
        format!(
            r#"{{"id":4,"type":"subscribe","slots":[{{"mid":"0","track":"{HEX}","max_height":3}},{{"mid":"1","track":null}}]}}"#
        ),
    ];
    prop::sample::select(members.to_vec())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec!["id", "type", "room", "slots", "tracks", "mid", "track", "muted", "x"]);
    leaf.prop_recursive(3, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_is_a_request_or_a_refusal(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_object_is_a_request_or_a_refusal(value in any_json(), kind in prop::sample::select(vec!["join", "offer", "subscribe", "mute"])) {
        let mut value = value;
        if let Value::Object(members) = &mut value {
            members.insert("type".into(), kind.into());
            members.insert("id".into(), 7.into());
        }
        let _ = parse(&value.to_string());
    }

    #[test]
    fn a_damaged_message_is_a_request_or_a_refusal(text in valid(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }
}

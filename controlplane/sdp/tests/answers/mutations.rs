// SPDX-License-Identifier: Apache-2.0
//! Damaged offers: whatever a stranger sends, the answer is an error or holds against its offer, never a panic.

use controlplane_sdp::{CodecKind, Offer};
use proptest::prelude::*;

use crate::lines::check_answer;
use crate::server::{all_recorded, publish, track, view};

/// One way to damage a text.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// Deletes a line.
    DeleteLine(usize),
    /// Repeats a line somewhere else.
    CopyLine(usize, usize),
    /// Puts a line of another recorded text there.
    ForeignLine(usize, usize, usize),
    /// Swaps a word of a line for a word of another.
    CopyWord(usize, usize, usize),
    /// Overwrites a character.
    Character(usize, char),
    /// Cuts the text off.
    Cut(usize),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let number = || any::<usize>();
    let character = prop_oneof![
        any::<char>(),
        prop::sample::select(vec![' ', ':', ';', '/', '0', '9', '-', '\0', '\n', '=', '~', ','])
    ];
    prop_oneof![
        number().prop_map(Damage::DeleteLine),
        (number(), number()).prop_map(|(from, to)| Damage::CopyLine(from, to)),
        (number(), number(), number()).prop_map(|(text, from, to)| Damage::ForeignLine(text, from, to)),
        (number(), number(), number()).prop_map(|(from, to, word)| Damage::CopyWord(from, to, word)),
        (number(), character).prop_map(|(at, character)| Damage::Character(at, character)),
        number().prop_map(Damage::Cut),
    ]
}

pub(crate) fn apply(text: &str, damage: &Damage, corpus: &[(String, String)]) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        return String::new();
    }
    let count = lines.len();
    match *damage {
        Damage::DeleteLine(at) => {
            lines.remove(at % count);
        }
        Damage::CopyLine(from, to) => lines.insert(to % count, lines[from % count].clone()),
        Damage::ForeignLine(text, from, to) => {
            let foreign: Vec<&str> = corpus[text % corpus.len()].1.split_inclusive('\n').collect();
            lines.insert(to % count, foreign[from % foreign.len()].to_owned());
        }
        Damage::CopyWord(from, to, word) => {
            let words: Vec<String> = lines[from % count].split([' ', ':']).map(str::to_owned).collect();
            let new_word = words[word % words.len()].trim_end().to_owned();
            let line = &mut lines[to % count];
            let old: Vec<String> = line.split([' ', ':']).map(str::to_owned).collect();
            *line = line.replacen(&old[word % old.len()], &new_word, 1);
        }
        Damage::Character(at, character) => {
            let mut characters: Vec<char> = text.chars().collect();
            let length = characters.len();
            characters[at % length] = character;
            return characters.into_iter().collect();
        }
        Damage::Cut(at) => return text.chars().take(at % text.len()).collect(),
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_offers_are_refused_or_answered_soundly(
        start in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let corpus = all_recorded();
        let mut text = corpus[start.index(corpus.len())].1.clone();
        for damage in &damages {
            text = apply(&text, damage, &corpus);
        }
        let send = [track(CodecKind::Opus, "", 10), track(CodecKind::Vp8, "", 20), track(CodecKind::H264, "", 30)];
        let published = publish(&text).map(|answer| answer.sdp);
        let viewed = view(&text, &send).map(|answer| answer.sdp);
        for answer in [published, viewed].into_iter().flatten() {
            let parsed = Offer::parse(&answer);
            prop_assert!(parsed.is_ok(), "our answer: {parsed:?}\n{answer}");
            let parsed = parsed.expect("checked");
            prop_assert_eq!(parsed.media.len(), Offer::parse(&text).expect("answered").media.len());
            prop_assert_eq!(answer.matches("a=ice-pwd:").count(), answer.matches("a=rtcp-mux\r\n").count());
            prop_assert!(answer.len() <= text.len() + 64 * 1024);
        }
    }

    #[test]
    fn offers_with_lines_missing_are_refused_or_answered_in_every_detail(
        start in any::<prop::sample::Index>(),
        missing in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        let corpus = all_recorded();
        let mut lines: Vec<&str> = corpus[start.index(corpus.len())].1.split_inclusive('\n').collect();
        for at in missing {
            let at = at % lines.len();
            if !lines[at].starts_with("m=") {
                lines.remove(at);
            }
        }
        let text = lines.concat();
        let send = [track(CodecKind::Opus, "", 10), track(CodecKind::Vp8, "", 20), track(CodecKind::H264, "", 30)];
        if let Ok(answer) = publish(&text) {
            check_answer(&text, &answer.sdp);
        }
        if let Ok(answer) = view(&text, &send) {
            check_answer(&text, &answer.sdp);
        }
    }

    #[test]
    fn noise_is_refused(text in "\\PC{0,400}") {
        prop_assert!(Offer::parse(&text).is_err());
    }

    #[test]
    fn attribute_values_of_any_text_never_panic(
        name in prop::sample::select(vec![
            "rtpmap", "fmtp", "rtcp-fb", "extmap", "ssrc", "ssrc-group", "rid", "simulcast", "msid", "candidate",
            "fingerprint", "setup", "mid", "ice-ufrag", "ice-pwd", "ice-options", "group",
        ]),
        value in "[ -~]{0,80}|[0-9 :;/=,~a-f-]{0,60}|\\PC{0,40}",
    ) {
        let line = format!("a={name}:{value}\r\n");
        let media = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\n";
        let _ = Offer::parse(&format!("v=0\r\ns=-\r\nt=0 0\r\n{line}{media}"));
        let _ = Offer::parse(&format!("v=0\r\ns=-\r\nt=0 0\r\n{media}{line}"));
    }
}

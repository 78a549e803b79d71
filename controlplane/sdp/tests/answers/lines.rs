// SPDX-License-Identifier: Apache-2.0
//! A reader of SDP for tests: splits lines, knows nothing of the crate, and holds an answer against its offer. It must
//! never be lenient.

use std::collections::BTreeSet;

use crate::server::{FINGERPRINT, PWD, UFRAG, candidates};

/// Attributes that an accepted m-line of an answer may have.
const KNOWN_MEDIA: [&str; 21] = [
    "mid",
    "sendonly",
    "recvonly",
    "inactive",
    "ice-ufrag",
    "ice-pwd",
    "fingerprint",
    "setup",
    "rtcp-mux",
    "rtcp-rsize",
    "extmap-allow-mixed",
    "extmap",
    "rtpmap",
    "rtcp-fb",
    "fmtp",
    "rid",
    "simulcast",
    "msid",
    "ssrc",
    "ssrc-group",
    "candidate",
];

/// One m-line and what follows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) kind: String,
    pub(crate) port: u16,
    pub(crate) proto: String,
    pub(crate) formats: Vec<String>,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) connections: usize,
}

/// A session description, split.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) media: Vec<Part>,
}

impl Part {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.attributes.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    pub(crate) fn only(&self, name: &str) -> &str {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name} in {self:?}");
        values[0]
    }

    /// Values of `name` that speak about the format `pt`.
    pub(crate) fn of_format(&self, name: &str, pt: &str) -> Vec<&str> {
        let prefix = format!("{pt} ");
        self.values(name).into_iter().filter_map(|value| value.strip_prefix(prefix.as_str())).collect()
    }
}

impl Text {
    pub(crate) fn split(text: &str) -> Self {
        let mut session = Self { attributes: Vec::new(), media: Vec::new() };
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("line without =: {line:?}"));
            match key {
                "m" => {
                    let words: Vec<&str> = value.split(' ').collect();
                    session.media.push(Part {
                        kind: words[0].to_owned(),
                        port: words[1].parse().expect("port"),
                        proto: words[2].to_owned(),
                        formats: words[3..].iter().map(|word| (*word).to_owned()).collect(),
                        ..Part::default()
                    });
                }
                "a" => {
                    let (name, rest) = value.split_once(':').unwrap_or((value, ""));
                    let attribute = (name.to_owned(), rest.to_owned());
                    match session.media.last_mut() {
                        Some(part) => part.attributes.push(attribute),
                        None => session.attributes.push(attribute),
                    }
                }
                "c" => {
                    if let Some(part) = session.media.last_mut() {
                        part.connections += 1;
                    }
                }
                "v" | "o" | "s" | "t" | "b" | "i" => {}
                other => panic!("line key {other:?}"),
            }
        }
        session
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.attributes.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    fn bundle(&self) -> Option<Vec<&str>> {
        let groups = self.values("group");
        let group = groups.into_iter().find_map(|value| value.strip_prefix("BUNDLE"))?;
        Some(group.split_ascii_whitespace().collect())
    }
}

/// Holds a first answer with one codec in each m-line against its offer, line by line.
pub(crate) fn check_answer(offer_text: &str, answer_text: &str) {
    for part in Text::split(answer_text).media.iter().filter(|part| part.port != 0) {
        assert!(part.formats.len() <= 2, "a codec and its retransmissions: {:?}", part.formats);
    }
    check_participant(offer_text, answer_text, 1);
}

/// Holds the answer with number `version` of a session against its offer, line by line.
pub(crate) fn check_participant(offer_text: &str, answer_text: &str, version: u64) {
    let start = format!("v=0\r\no=- 77 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    assert!(answer_text.starts_with(&start), "{answer_text}");
    assert!(answer_text.ends_with("\r\n"));
    let bare = answer_text.replace("\r\n", "");
    assert!(!bare.contains(['\r', '\n', '\0']), "line ends are CRLF only");
    let (offer, answer) = (Text::split(offer_text), Text::split(answer_text));
    check_session(&offer, &answer);
    assert_eq!(offer.media.len(), answer.media.len(), "m-lines");
    for (offered, answered) in offer.media.iter().zip(&answer.media) {
        assert_eq!(offered.kind, answered.kind, "order of m-lines");
        assert_eq!(offered.proto, answered.proto);
        assert_eq!(offered.values("mid"), answered.values("mid"));
        assert_eq!(answered.connections, 1);
        if answered.port == 0 {
            assert_eq!(answered.attributes.len(), 1 + offered.values("mid").len(), "{answered:?}");
            assert!(answered.has("inactive"));
            assert_eq!(answered.formats, offered.formats);
        } else {
            check_accepted(&offer, offered, answered);
        }
    }
    let with_candidates: Vec<&Part> = answer.media.iter().filter(|part| part.has("candidate")).collect();
    assert_eq!(with_candidates.len(), 1, "candidates stand in the tagged m-line only");
    assert_eq!(with_candidates[0].values("candidate").len(), candidates().len());
    assert!(with_candidates[0].has("end-of-candidates"));
    if let Some(bundle) = answer.bundle() {
        assert_eq!(bundle[0], with_candidates[0].only("mid"), "the tagged m-line is the first of the group");
    }
}

fn check_session(offer: &Text, answer: &Text) {
    let known = ["group", "extmap-allow-mixed", "ice-lite", "ice-options"];
    for (name, _) in &answer.attributes {
        assert!(known.contains(&name.as_str()), "session attribute {name}");
    }
    assert_eq!(answer.values("ice-lite").len(), 1);
    assert_eq!(answer.values("ice-options"), ["trickle ice2"]);
    assert_eq!(offer.values("extmap-allow-mixed").len(), answer.values("extmap-allow-mixed").len());
    let accepted: BTreeSet<&str> =
        answer.media.iter().filter(|part| part.port != 0).map(|part| part.only("mid")).collect();
    match offer.bundle() {
        Some(offered) => {
            let answered = answer.bundle().expect("BUNDLE is answered");
            assert_eq!(answered.iter().copied().collect::<BTreeSet<_>>(), accepted);
            assert_eq!(answered.len(), accepted.len());
            assert!(answered.iter().all(|mid| offered.contains(mid)));
        }
        None => {
            assert!(answer.bundle().is_none());
            assert_eq!(accepted.len(), 1, "one transport without BUNDLE is one m-line");
        }
    }
}

fn check_accepted(offer: &Text, offered: &Part, answered: &Part) {
    for (name, _) in &answered.attributes {
        let is_known = KNOWN_MEDIA.contains(&name.as_str()) || name == "end-of-candidates";
        assert!(is_known, "attribute {name}");
    }
    assert_eq!(answered.port, candidates()[0].port);
    assert_eq!(answered.only("ice-ufrag"), UFRAG);
    assert_eq!(answered.only("ice-pwd"), PWD);
    let hash = FINGERPRINT.map(|byte| format!("{byte:02X}")).join(":");
    assert_eq!(answered.only("fingerprint"), format!("sha-256 {hash}"));
    // RFC 9143 §7.1.3: a bundled m-line may leave its transport lines to the tagged one.
    let everywhere = offer.media.iter().flat_map(|part| part.values("setup")).chain(offer.values("setup"));
    let offered_setup = offered.values("setup").into_iter().chain(everywhere).next().expect("setup");
    match (offered_setup, answered.only("setup")) {
        ("actpass" | "active", "passive") | ("passive", "active") => {}
        pair => panic!("setup {pair:?}"),
    }
    assert!(offered.has("rtcp-mux") && answered.has("rtcp-mux"));
    assert_eq!(offered.has("rtcp-rsize"), answered.has("rtcp-rsize"));
    check_direction(offer, offered, answered);
    check_formats(offered, answered);
    check_extensions(offer, offered, answered);
    check_simulcast(offered, answered);
}

fn check_direction(offer: &Text, offered: &Part, answered: &Part) {
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let of = |part: &Part| directions.into_iter().find(|name| part.has(name));
    let of_session = directions.into_iter().find(|name| !offer.values(name).is_empty());
    let offered = of(offered).or(of_session).unwrap_or("sendrecv");
    match (offered, of(answered).expect("direction")) {
        ("sendrecv", "sendonly" | "recvonly")
        | ("sendonly", "recvonly")
        | ("recvonly", "sendonly")
        | (_, "inactive") => {}
        pair => panic!("direction {pair:?}"),
    }
}

fn check_formats(offered: &Part, answered: &Part) {
    for format in &answered.formats {
        assert!(offered.formats.contains(format), "payload type {format} is not the offerer's");
        assert_eq!(answered.of_format("rtpmap", format), offered.of_format("rtpmap", format));
    }
    for name in ["rtpmap", "fmtp", "rtcp-fb"] {
        for value in answered.values(name) {
            let format = value.split(' ').next().expect("format").to_owned();
            assert!(answered.formats.contains(&format), "{name} {value} is about a format that is not there");
        }
    }
    let name_of = |pt: &str| answered.of_format("rtpmap", pt)[0].split('/').next().expect("name").to_owned();
    let mut primaries: Vec<&String> = Vec::new();
    for format in &answered.formats {
        if name_of(format) != "rtx" {
            primaries.push(format);
            continue;
        }
        let primary = primaries.last().expect("retransmissions stand behind what they repair");
        assert_eq!(answered.of_format("fmtp", format), [format!("apt={primary}")]);
        assert_eq!(offered.of_format("fmtp", format), [format!("apt={primary}")]);
    }
    assert!(!primaries.is_empty());
    for pt in primaries {
        check_format(offered, answered, pt, &name_of(pt));
    }
}

fn check_format(offered: &Part, answered: &Part, pt: &str, name: &str) {
    assert!(["opus", "VP8", "VP9", "H264", "AV1"].contains(&name), "{name}");
    for message in answered.of_format("rtcp-fb", pt) {
        assert!(offered.of_format("rtcp-fb", pt).contains(&message), "feedback {message}");
    }
    assert!(answered.of_format("fmtp", pt).len() <= 1);
    if name == "H264" {
        let profile = |part: &Part| {
            let fmtp = part.of_format("fmtp", pt).concat();
            fmtp.split(';').find_map(|part| part.strip_prefix("profile-level-id=").map(str::to_owned))
        };
        assert_eq!(profile(offered), profile(answered), "RFC 6184 §8.2.2");
    }
}

fn check_extensions(offer: &Text, offered: &Part, answered: &Part) {
    let split = |value: &str| {
        let (name, uri) = value.split_once(' ').expect("extmap");
        let (id, direction) = name.split_once('/').unwrap_or((name, ""));
        (id.to_owned(), direction.to_owned(), uri.to_owned())
    };
    let theirs: Vec<_> = offered.values("extmap").into_iter().map(split).collect();
    let mut ids = BTreeSet::new();
    let mut uris = BTreeSet::new();
    let allows_mixed = offered.has("extmap-allow-mixed") || !offer.values("extmap-allow-mixed").is_empty();
    for (id, direction, uri) in answered.values("extmap").into_iter().map(split) {
        let found = theirs.iter().find(|(their_id, _, their_uri)| *their_id == id && *their_uri == uri);
        let (_, their_direction, _) = found.unwrap_or_else(|| panic!("extmap {id} {uri} is not offered"));
        let matches = match their_direction.as_str() {
            "" => direction.is_empty(),
            "sendonly" => direction == "recvonly" && answered.has("recvonly"),
            "recvonly" => direction == "sendonly" && answered.has("sendonly"),
            _ => true,
        };
        assert!(matches, "extmap {id}/{direction} for {their_direction}");
        assert!(allows_mixed || id.parse::<u8>().expect("id") <= 14, "RFC 8285 §4.2");
        assert!(ids.insert(id) && uris.insert(uri), "extmap twice");
    }
}

fn check_simulcast(offered: &Part, answered: &Part) {
    let rids: Vec<&str> =
        answered.values("rid").into_iter().map(|value| value.split(' ').next().expect("rid")).collect();
    if rids.is_empty() {
        assert!(!answered.has("simulcast"));
        return;
    }
    assert_eq!(answered.only("simulcast"), format!("recv {}", rids.join(";")));
    for value in answered.values("rid") {
        let rid = value.split(' ').next().expect("rid");
        assert!(value.starts_with(&format!("{rid} recv")));
        assert!(offered.values("rid").iter().any(|line| line.starts_with(&format!("{rid} send"))));
    }
}

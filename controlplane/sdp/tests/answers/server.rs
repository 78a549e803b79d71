// SPDX-License-Identifier: Apache-2.0
//! The server that all tests answer for, and the recorded offers. It must never read outside `testdata/`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use controlplane_sdp::{
    Candidate, CodecKind, Fmtp, Offer, Policy, PublisherAnswer, SdpError, SendTrack, ServerParams, Ssrc, ViewerAnswer,
    answer_publisher, answer_viewer,
};

pub(crate) const UFRAG: &str = "srvU";
pub(crate) const PWD: &str = "serverPasswordOf24Charss";
pub(crate) const FINGERPRINT: [u8; 32] = [0xA5; 32];

/// The text of one recorded offer.
pub(crate) fn recorded(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All recorded texts with their file names, sorted.
pub(crate) fn all_recorded() -> Vec<(String, String)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = fs::read_dir(directory).expect("testdata");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
    names.retain(|name| name.ends_with(".sdp"));
    names.sort();
    assert!(names.len() >= 27, "recorded offers are missing");
    names.into_iter().map(|name| (recorded(&name), name)).map(|(text, name)| (name, text)).collect()
}

pub(crate) fn candidates() -> Vec<Candidate> {
    vec![
        Candidate::host(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 10_000, 0),
        Candidate::host("2001:db8::7".parse().expect("address"), 10_000, 1),
    ]
}

pub(crate) fn with_server<T>(call: impl FnOnce(&ServerParams<'_>) -> T) -> T {
    let candidates = candidates();
    call(&ServerParams {
        ice_ufrag: UFRAG,
        ice_pwd: PWD,
        fingerprint_sha256: FINGERPRINT,
        candidates: &candidates,
        session_id: 77,
        session_version: 1,
        takes_trickle: true,
    })
}

pub(crate) fn publish_with(text: &str, policy: &Policy) -> Result<PublisherAnswer, SdpError> {
    with_server(|server| answer_publisher(&Offer::parse(text)?, server, policy))
}

pub(crate) fn publish(text: &str) -> Result<PublisherAnswer, SdpError> {
    publish_with(text, &Policy::default())
}

pub(crate) fn view_with(text: &str, policy: &Policy, send: &[SendTrack]) -> Result<ViewerAnswer, SdpError> {
    with_server(|server| answer_viewer(&Offer::parse(text)?, server, policy, send))
}

pub(crate) fn view(text: &str, send: &[SendTrack]) -> Result<ViewerAnswer, SdpError> {
    view_with(text, &Policy::default(), send)
}

/// A track with SSRCs that tests can tell apart: `number` and, for video, `number + 1`.
pub(crate) fn track(codec: CodecKind, fmtp: &str, number: u32) -> SendTrack {
    SendTrack {
        codec,
        fmtp: Fmtp::parse(fmtp),
        ssrc: Ssrc(number),
        rtx_ssrc: (codec != CodecKind::Opus).then_some(Ssrc(number + 1)),
        cname: "participant-1".to_owned(),
        msid_stream: "stream-1".to_owned(),
        msid_track: format!("track-{number}"),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Every recorded text is read, answered in every way that fits, and pinned in one line. It must never skip a file.

use controlplane_sdp::{CodecKind, Offer, PublisherAnswer, SdpErrorKind, ViewerAnswer};
use sdp_types::Session;

use crate::lines::check_answer;
use crate::server::{all_recorded, publish, recorded, track, view};

/// What a publisher's answer comes to, in one line.
fn publisher_summary(answer: &PublisherAnswer) -> String {
    let mut parts = vec![format!("{:?}", answer.dtls.we_are)];
    for track in &answer.tracks {
        let rtx = track.rtx_pt.map(|pt| format!("+{pt}")).unwrap_or_default();
        let rids: Vec<&str> = track.rids.iter().map(|rid| rid.as_str()).collect();
        let counts = format!("ssrcs={} ext={}", track.ssrcs.len(), track.extensions.len());
        parts.push(format!("{}:{}/{}{rtx} {counts} [{}]", track.mid, track.codec, track.pt, rids.join(";")));
    }
    parts.push(format!("rejected={}", answer.rejected.len()));
    parts.join(" | ")
}

/// What a viewer's answer comes to, in one line.
fn viewer_summary(answer: &ViewerAnswer) -> String {
    let mut parts = vec![format!("{:?}", answer.dtls.we_are)];
    for leg in &answer.legs {
        let rtx = leg.rtx_pt.map(|pt| format!("+{pt}")).unwrap_or_default();
        parts.push(format!("{}:{}/{}{rtx} ext={}", leg.mid, leg.codec, leg.pt, leg.extensions.len()));
    }
    parts.push(format!("unmatched={} rejected={}", answer.unmatched.len(), answer.rejected.len()));
    parts.join(" | ")
}

#[test]
fn every_recorded_text_goes_through_the_line_layer_without_losing_a_line() {
    for (name, text) in all_recorded() {
        let session = Session::parse(text.as_bytes()).expect("parses");
        let mut written = Vec::new();
        session.write(&mut written).expect("writes");
        let written = String::from_utf8(written).expect("UTF-8");
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(&written), "{name}");
    }
}

#[test]
fn every_recorded_text_is_answered_as_publisher_exactly_if_it_sends() {
    let mut seen = String::new();
    for (name, text) in all_recorded() {
        let summary = match publish(&text) {
            Ok(answer) => {
                check_answer(&text, &answer.sdp);
                Offer::parse(&answer.sdp).expect("our answer is SDP");
                publisher_summary(&answer)
            }
            Err(error) => {
                assert_eq!(error.kind, SdpErrorKind::NothingAccepted, "{name}: {error}");
                "nothing".to_owned()
            }
        };
        seen.push_str(&format!("{name}: {summary}\n"));
    }
    assert_eq!(seen, include_str!("publishers.txt"), "\n{seen}");
}

#[test]
fn every_recorded_text_is_answered_as_viewer_exactly_if_it_receives() {
    let mut seen = String::new();
    for (name, text) in all_recorded() {
        // A room with everything: each video codec once, so that each client finds something it decodes.
        let send = [
            track(CodecKind::Opus, "minptime=10;useinbandfec=1", 1000),
            track(CodecKind::Vp8, "", 2000),
            track(CodecKind::Vp9, "profile-id=0", 3000),
            track(CodecKind::Av1, "level-idx=5;profile=0;tier=0", 4000),
            track(CodecKind::H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 5000),
        ];
        let summary = match view(&text, &send) {
            Ok(answer) => {
                check_answer(&text, &answer.sdp);
                Offer::parse(&answer.sdp).expect("our answer is SDP");
                viewer_summary(&answer)
            }
            Err(error) => {
                assert_eq!(error.kind, SdpErrorKind::NothingAccepted, "{name}: {error}");
                "nothing".to_owned()
            }
        };
        seen.push_str(&format!("{name}: {summary}\n"));
    }
    assert_eq!(seen, include_str!("viewers.txt"), "\n{seen}");
}

#[test]
fn nothing_that_can_be_printed_for_a_log_holds_a_password() {
    for (name, text) in all_recorded() {
        let pwd_lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("a=ice-pwd:")).collect();
        assert!(!pwd_lines.is_empty(), "{name}");
        let mut shown = format!("{:?}", Offer::parse(&text));
        shown.push_str(&format!("{:?}", publish(&text)));
        shown.push_str(&format!("{:?}", view(&text, &[track(CodecKind::Opus, "", 1)])));
        crate::server::with_server(|server| shown.push_str(&format!("{server:?}")));
        assert!(!shown.contains(crate::server::PWD), "{name}");
        assert!(pwd_lines.iter().all(|pwd| !shown.contains(pwd)), "{name}");
    }
}

#[test]
fn line_feeds_without_carriage_returns_are_read_too() {
    let text = recorded("chromium156-audio-video-default.sdp");
    assert_eq!(Offer::parse(&text), Offer::parse(&text.replace("\r\n", "\n")));
}

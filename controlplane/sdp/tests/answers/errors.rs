// SPDX-License-Identifier: Apache-2.0
//! Offers that are refused say which field of which line is at fault.

use controlplane_sdp::{CodecKind, Offer, Place, SdpErrorKind};

use crate::server::{publish, recorded, track, view};

const PLAIN: &str = "chromium156-audio-video-default.sdp";

/// The offer without the lines that start with `prefix`.
fn without(text: &str, prefix: &str) -> String {
    text.split_inclusive("\r\n").filter(|line| !line.starts_with(prefix)).collect()
}

fn error(text: &str) -> String {
    publish(text).expect_err("refused").to_string()
}

#[test]
fn a_field_that_webrtc_needs_is_named_with_its_m_line() {
    let offer = recorded(PLAIN);
    let cases = [
        ("a=fingerprint", "a=fingerprint missing in m-line 1 (mid 0)"),
        ("a=setup", "a=setup missing in m-line 1 (mid 0)"),
        ("a=ice-ufrag", "a=ice-ufrag missing in m-line 1 (mid 0)"),
        ("a=ice-pwd", "a=ice-pwd missing in m-line 1 (mid 0)"),
        ("a=rtcp-mux", "a=rtcp-mux missing in m-line 1 (mid 0)"), // C21
    ];
    for (prefix, wanted) in cases {
        assert_eq!(error(&without(&offer, prefix)), wanted);
    }
    let without_ice = without(&without(&offer, "a=ice-ufrag"), "a=ice-pwd");
    assert_eq!(error(&without_ice), "a=ice-ufrag missing in m-line 1 (mid 0)");
    let (head, video) = offer.split_once("m=video").expect("video");
    let second = format!("{head}m=video{}", without(video, "a=rtcp-mux"));
    assert_eq!(error(&second), "a=rtcp-mux missing in m-line 2 (mid 1)");
    let no_mid = format!("{head}m=video{}", without(video, "a=mid")).replace("BUNDLE 0 1", "BUNDLE 0");
    assert_eq!(error(&no_mid), "a=mid missing in m-line 2");
}

#[test]
fn a_viewer_is_held_to_the_same() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let send = [track(CodecKind::Opus, "", 1)];
    let error = view(&without(&offer, "a=fingerprint"), &send).expect_err("refused");
    assert_eq!(error.to_string(), "a=fingerprint missing in m-line 1 (mid 0)");
    let error = view(&offer, &[]).expect_err("nothing to send");
    assert_eq!(error.kind, SdpErrorKind::NothingAccepted);
    assert!(error.to_string().contains("m-line 2 (mid 1): there is no track for it"), "{error}");
}

#[test]
fn hashes_that_are_broken_are_refused() {
    let weak = |line: &str| if line.starts_with("a=fingerprint") { "a=fingerprint:sha-1 AA:BB\r\n" } else { "" };
    let offer: String = recorded(PLAIN)
        .split_inclusive("\r\n")
        .map(|line| if weak(line).is_empty() { line.to_owned() } else { weak(line).to_owned() })
        .collect();
    let wanted = "a=fingerprint not supported in m-line 1 (mid 0): none is sha-256, sha-384 or sha-512";
    assert_eq!(error(&offer), wanted);
    // A weak one beside a good one does no harm.
    let both = recorded(PLAIN).replace("a=fingerprint:sha-256", "a=fingerprint:md5 00\r\na=fingerprint:sha-256");
    assert!(publish(&both).is_ok());
    let cut = recorded(PLAIN).replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 AA:");
    assert!(error(&cut).starts_with("a=fingerprint malformed in m-line 1 (mid 0)"));
}

#[test]
fn malformed_values_are_named_and_quoted() {
    let offer = recorded(PLAIN);
    let cases = [
        ("a=setup:actpass", "a=setup:holdconn", "a=setup malformed in m-line 1 (mid 0): \"holdconn\""),
        ("a=mid:0", "a=mid:0 0", "a=mid malformed in m-line 1: \"0 0\""),
        ("a=extmap:1 ", "a=extmap:0 ", "a=extmap malformed in m-line 1 (mid 0): \"0 urn:ietf"),
        ("a=extmap:2 ", "a=extmap:1 ", "a=extmap contradicts itself in m-line 1 (mid 0): id 1 is used twice"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus", "a=rtpmap malformed in m-line 1 (mid 0): \"111 opus\""),
        ("111 63 9", "111 111 9", "m= payload type contradicts itself in m-line 1 (mid 0): payload type 111 is listed"),
        ("111 63 9", "111 128 9", "m= payload type malformed in m-line 1 (mid 0): \"128\""),
        ("a=ice-ufrag:", "a=ice-ufrag:\u{e9}", "a=ice-ufrag malformed in m-line 1 (mid 0)"),
        (
            "a=group:BUNDLE 0 1",
            "a=group:BUNDLE 0 9",
            "a=group:BUNDLE contradicts itself in the session part: no m-line",
        ),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 0", "a=group:BUNDLE contradicts itself in the session part: a mid is"),
        ("a=mid:1", "a=mid:0", "a=group:BUNDLE contradicts itself"),
        ("a=ssrc-group:FID ", "a=ssrc-group:FID 1 ", "a=ssrc-group malformed in m-line 2 (mid 1)"),
        ("a=extmap-allow-mixed", "a=ice-lite", "a=ice-lite not supported in the session part: this server is ICE-lite"),
        ("v=0", "v=1", "SDP line malformed in the session part"),
    ];
    for (from, to, wanted) in cases {
        assert!(offer.contains(from), "{from}");
        let error = match from {
            "a=mid:1" => error(&offer.replace(from, to).replace("BUNDLE 0 1", "BUNDLE 0")),
            _ => error(&offer.replacen(from, to, 1)),
        };
        let wanted =
            if from == "a=mid:1" { "a=mid contradicts itself in m-line 2 (mid 0): already used" } else { wanted };
        assert!(error.starts_with(wanted), "{from} -> {to}: {error}");
    }
}

#[test]
fn an_identifier_that_means_two_things_on_one_transport_is_refused() {
    // RFC 9143 §12: identifier 1 is the audio level in the first m-line.
    let offer = recorded(PLAIN);
    let line = "urn:ietf:params:rtp-hdrext:sdes:mid";
    let (head, video) = offer.split_once("m=video").expect("video");
    let own: String =
        video
            .split_inclusive("\r\n")
            .map(|text| {
                if text.ends_with(&format!("{line}\r\n")) { format!("a=extmap:1 {line}\r\n") } else { text.to_owned() }
            })
            .collect();
    let error = error(&format!("{head}m=video{own}"));
    assert_eq!(
        error,
        "a=extmap contradicts itself in m-line 2 (mid 1): id 1 is urn:ietf:params:rtp-hdrext:ssrc-audio-level in m-line 1"
    );
}

#[test]
fn an_ssrc_that_stands_in_two_m_lines_is_refused() {
    let offer = recorded("ffmpeg9-whip-offer.sdp").replace("2126959836", "2126959837");
    assert!(error(&offer).starts_with("a=ssrc contradicts itself in m-line 2 (mid 1): 2126959837 is already"));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let offer = recorded(PLAIN);
    let long = format!("{offer}a=x:{}\r\n", "y".repeat(530_000));
    assert!(error(&long).starts_with("SDP text too large in the session part: "));
    assert!(error(&"a\n".repeat(17_000)).starts_with("SDP text too large in the session part: 17000 lines"));
    let many = format!("v=0\r\ns=-\r\nt=0 0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(129));
    assert_eq!(error(&many), "m= too large in the session part: 129 m-lines, at most 128");
    let candidates = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(65);
    let error_of = |more: &str| error(&format!("{offer}{more}"));
    assert_eq!(error_of(&candidates), "a=candidate too large in m-line 2 (mid 1): more than 64 lines");
    let ssrcs: String = (0..70).map(|number| format!("a=ssrc:{number} cname:x\r\n")).collect();
    assert_eq!(error_of(&ssrcs), "a=ssrc too large in m-line 2 (mid 1): more than 64 lines");
    let fmtp = format!("a=fmtp:96 x={}\r\n", "y".repeat(2_000));
    assert_eq!(error_of(&fmtp), "a=fmtp too large in m-line 2 (mid 1)");
    let cname = format!("a=ssrc:1 cname:{}\r\n", "y".repeat(300));
    assert_eq!(error_of(&cname), "a=ssrc cname too large in m-line 2 (mid 1): longer than 256 bytes");
    let mid = offer.replace("a=mid:0", &format!("a=mid:{}", "0".repeat(17)));
    assert!(error(&mid).starts_with("a=mid malformed in m-line 1: "));
}

#[test]
fn an_offer_of_data_only_is_refused_with_the_reason() {
    let error = error(&recorded("chromium156-datachannel.sdp"));
    assert_eq!(error, "no m-line of the offer can be accepted: m-line 1 (mid 0): data channels are not served");
}

#[test]
fn a_viewer_at_the_door_of_publishers_is_told_that_nothing_is_sent() {
    let error = error(&recorded("chromium156-recvonly-av.sdp"));
    assert!(error.contains("m-line 1 (mid 0): no direction in which media could flow"), "{error}");
}

#[test]
fn passwords_are_never_quoted() {
    let offer = recorded(PLAIN).replace("a=ice-pwd:", "a=ice-pwd:secret-");
    let error = Offer::parse(&offer).expect_err("refused");
    assert_eq!(error.place, Place::Media { index: 1, mid: controlplane_sdp::Mid::parse("0") });
    assert_eq!(error.to_string(), "a=ice-pwd malformed in m-line 1 (mid 0)");
}

#[test]
fn quotes_are_short_and_escaped() {
    let offer = recorded(PLAIN).replacen("a=setup:actpass", &format!("a=setup:\u{1b}[31m{}", "z".repeat(500)), 1);
    let error = error(&offer);
    assert!(error.len() < 140 && !error.contains('\u{1b}'), "{error}");
}

// SPDX-License-Identifier: Apache-2.0
//! What viewers are answered: their payload types, our SSRCs, and a plain reason for what they cannot be sent.

use controlplane_sdp::{CodecKind, DtlsRole, ExtKind, Policy, Pt, Ssrc, ViewerAnswer};

use crate::lines::{Text, check_answer};
use crate::server::{publish, recorded, track, view, view_with};

const CONSTRAINED_BASELINE: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

fn pt_of(answer: &ViewerAnswer, send_index: usize) -> Option<Pt> {
    answer.legs.iter().find(|leg| leg.send_index == send_index).map(|leg| leg.pt)
}

#[test]
fn a_chromium_viewer_gets_our_streams_under_its_own_payload_types() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let send = [track(CodecKind::Opus, "useinbandfec=1", 1000), track(CodecKind::Vp8, "", 2000)];
    let answer = view(&offer, &send).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.dtls.we_are, DtlsRole::Server);
    assert!(answer.unmatched.is_empty() && answer.rejected.is_empty());
    let [audio, video] = answer.legs.as_slice() else { panic!("two legs") };
    assert_eq!((audio.pt, audio.rtx_pt, audio.ssrc, audio.rtx_ssrc), (Pt(111), None, Ssrc(1000), None));
    assert_eq!((video.pt, video.rtx_pt), (Pt(96), Some(Pt(97))));
    assert_eq!((video.ssrc, video.rtx_ssrc), (Ssrc(2000), Some(Ssrc(2001))));
    assert!(video.feedback.nack && video.feedback.pli && video.feedback.fir && !video.feedback.transport_cc);
    let kinds: Vec<(u8, ExtKind)> = video.extensions.iter().map(|extension| (extension.id, extension.kind)).collect();
    assert_eq!(
        kinds,
        [(13, ExtKind::VideoOrientation), (5, ExtKind::PlayoutDelay), (8, ExtKind::ColorSpace), (4, ExtKind::Mid)]
    );

    let text = Text::split(&answer.sdp);
    let part = &text.media[1];
    assert!(part.has("sendonly"));
    assert_eq!(part.only("msid"), "stream-1 track-2000");
    assert_eq!(part.only("ssrc-group"), "FID 2000 2001");
    assert_eq!(
        part.values("ssrc"),
        [
            "2000 cname:participant-1",
            "2000 msid:stream-1 track-2000",
            "2001 cname:participant-1",
            "2001 msid:stream-1 track-2000",
        ]
    );
    assert!(!answer.sdp.contains("transport-cc") && !answer.sdp.contains("transport-wide-cc"));
}

#[test]
fn transport_cc_reaches_viewers_by_policy() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let mut policy = Policy::default();
    policy.viewer_feedback.transport_cc = true;
    let answer = view_with(&offer, &policy, &[track(CodecKind::Vp8, "", 1)]).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert!(answer.sdp.contains("a=rtcp-fb:96 transport-cc\r\n"));
    assert!(answer.legs[0].extensions.iter().any(|extension| extension.kind == ExtKind::TransportCc));
}

#[test]
fn every_codec_that_a_publisher_got_finds_its_payload_type_at_a_chromium_viewer() {
    let viewer = recorded("chromium156-recvonly-av.sdp");
    let cases = [
        ("chromium156-vp8-simulcast.sdp", 96),
        ("chromium156-vp9-svc-L3T3_KEY.sdp", 98),
        ("chromium156-av1-svc-L3T3.sdp", 45),
        ("chromium156-h264-simulcast.sdp", 108),
        ("ffmpeg9-whip-offer.sdp", 102),
    ];
    for (publisher, pt) in cases {
        let published = publish(&recorded(publisher)).expect("publisher");
        let video = published.tracks.last().expect("video");
        let mut send = track(video.codec, "", 7000);
        send.fmtp = video.fmtp.clone();
        let answer = view(&viewer, &[send]).expect("viewer");
        check_answer(&viewer, &answer.sdp);
        assert_eq!(pt_of(&answer, 0), Some(Pt(pt)), "{publisher}");
    }
}

#[test]
fn h264_goes_only_to_decoders_that_take_its_profile_and_mode() {
    // H3
    let offer = recorded("chromium156-recvonly-av.sdp");
    let pt = |fmtp: &str| pt_of(&view(&offer, &[track(CodecKind::H264, fmtp, 1)]).ok()?, 0).map(|pt| pt.0);
    assert_eq!(pt(CONSTRAINED_BASELINE), Some(108));
    assert_eq!(pt("packetization-mode=0;profile-level-id=42e01f"), Some(114), "the same mode is preferred");
    assert_eq!(pt("packetization-mode=1;profile-level-id=42001f"), Some(102));
    assert_eq!(pt("packetization-mode=1;profile-level-id=4d0028"), Some(116), "levels differ with asymmetry allowed");
    assert_eq!(pt(""), Some(104), "RFC 6184 §8.1: baseline, mode 0");
    assert_eq!(pt("packetization-mode=1;profile-level-id=64001f"), None, "high is not offered");
    assert_eq!(pt("packetization-mode=1;profile-level-id=f4001f"), None, "4:4:4 is never sent");
    assert_eq!(pt("packetization-mode=2;profile-level-id=42e01f"), None, "interleaved is never sent");

    let symmetric = offer.replace("level-asymmetry-allowed=1;", "");
    let pt = |fmtp: &str| pt_of(&view(&symmetric, &[track(CodecKind::H264, fmtp, 1)]).ok()?, 0).map(|pt| pt.0);
    assert_eq!(pt("packetization-mode=1;profile-level-id=4d001f"), Some(116));
    assert_eq!(pt("packetization-mode=1;profile-level-id=4d0028"), None, "RFC 6184 §8.2.2: level 4.0 to a 3.1 decoder");
}

#[test]
fn vp9_and_av1_go_only_to_decoders_of_their_profile() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let pt = |codec, fmtp: &str| pt_of(&view(&offer, &[track(codec, fmtp, 1)]).ok()?, 0).map(|pt| pt.0);
    assert_eq!(pt(CodecKind::Vp9, ""), Some(98));
    assert_eq!(pt(CodecKind::Vp9, "profile-id=2"), Some(100));
    assert_eq!(pt(CodecKind::Vp9, "profile-id=7"), None);
    assert_eq!(pt(CodecKind::Av1, ""), Some(45));
    assert_eq!(pt(CodecKind::Av1, "profile=1"), Some(47));
    assert_eq!(pt(CodecKind::Av1, "profile=2"), None);
}

#[test]
fn a_track_that_the_viewer_cannot_decode_is_named_and_its_m_line_gets_port_0() {
    let offer = recorded("aiortc-recvonly.sdp");
    let send = [track(CodecKind::Opus, "", 1), track(CodecKind::Av1, "profile=0", 2)];
    let answer = view(&offer, &send).expect("audio still flows");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.legs.len(), 1);
    assert_eq!(answer.unmatched.len(), 1);
    assert_eq!(answer.unmatched[0].send_index, 1);
    let reason = &answer.unmatched[0].reason;
    assert_eq!(reason, "m-line 2 (mid 1) does not take AV1 profile=0 (offers VP8, H264)");
    assert_eq!(Text::split(&answer.sdp).media[1].port, 0);
    assert_eq!(answer.rejected[0].reason, "it takes none of the tracks (AV1 profile=0)");
}

#[test]
fn the_second_track_of_a_kind_waits_for_an_m_line_and_an_m_line_for_a_track() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let send = [track(CodecKind::Vp8, "", 10), track(CodecKind::Vp8, "", 20)];
    let answer = view(&offer, &send).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.legs.len(), 1);
    assert_eq!((answer.legs[0].index, answer.legs[0].ssrc), (1, Ssrc(10)));
    assert_eq!(answer.unmatched[0].reason, "the offer has no m-line left that receives its kind");
    assert_eq!(answer.rejected[0].reason, "there is no track for it");
    assert_eq!(Text::split(&answer.sdp).values("group"), ["BUNDLE 1"]);
}

#[test]
fn a_later_m_line_takes_the_track_that_an_earlier_one_could_not() {
    let offer = recorded("chromium156-answer-to-janus-AV1-plain.sdp");
    let vp9 = recorded("chromium156-answer-to-janus-VP9-svc.sdp");
    let section = vp9.split_once("m=video").expect("video").1.replace("a=mid:1", "a=mid:2");
    let offer = format!("{offer}m=video{section}").replace("BUNDLE 0 1", "BUNDLE 0 1 2");
    let send = [track(CodecKind::Vp9, "profile-id=0", 10), track(CodecKind::Av1, "", 20)];
    let answer = view(&offer, &send).expect("answer");
    let placed: Vec<(usize, &str)> = answer.legs.iter().map(|leg| (leg.send_index, leg.mid.as_str())).collect();
    assert_eq!(placed, [(1, "1"), (0, "2")]);
    assert!(answer.unmatched.is_empty());
}

#[test]
fn a_viewer_without_rtx_gets_no_rtx_ssrc() {
    let offer = recorded("chromium156-recvonly-av.sdp").replace("a=fmtp:97 apt=96\r\n", "");
    let answer = view(&offer, &[track(CodecKind::Vp8, "", 10)]).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!((answer.legs[0].rtx_pt, answer.legs[0].rtx_ssrc), (None, None));
    assert!(!answer.sdp.contains("FID") && !answer.sdp.contains("ssrc:11 "));
}

#[test]
fn names_of_strangers_cannot_add_words_or_lines_to_an_answer() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let mut send = track(CodecKind::Vp8, "", 10);
    send.cname = "a b\r\na=ice-pwd:evil".to_owned();
    send.msid_stream = "x y\nz".to_owned();
    send.msid_track = String::new();
    let answer = view(&offer, &[send]).expect("answer");
    check_answer(&offer, &answer.sdp);
    let text = Text::split(&answer.sdp);
    assert_eq!(text.media[1].only("msid"), "x_y_z -");
    assert_eq!(text.media[1].values("ssrc")[0], "10 cname:a_b__a_ice-pwd_evil");
}

#[test]
fn identifiers_to_viewers_stay_in_the_one_byte_form() {
    let offer = recorded("chromium156-recvonly-av.sdp").replace("a=extmap:13 ", "a=extmap:20 ");
    let answer = view(&offer, &[track(CodecKind::Vp8, "", 10)]).expect("answer");
    assert!(answer.legs[0].extensions.iter().all(|extension| extension.id <= 14));
    assert!(answer.legs[0].extensions.iter().all(|extension| extension.kind != ExtKind::VideoOrientation));
}

#[test]
fn stereo_music_is_told_to_the_viewer() {
    let offer = recorded("chromium156-recvonly-av.sdp");
    let answer = view(&offer, &[track(CodecKind::Opus, "sprop-stereo=1", 10)]).expect("answer");
    assert!(answer.sdp.contains("a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1\r\n"));
}

#[test]
fn extensions_that_the_viewer_only_sends_are_not_sent_to_it() {
    // M6
    let offer = recorded("chromium156-recvonly-av.sdp")
        .replace("a=extmap:5 ", "a=extmap:5/sendonly ")
        .replace("a=extmap:13 ", "a=extmap:13/recvonly ")
        .replace("a=extmap:8 ", "a=extmap:8/inactive ");
    let answer = view(&offer, &[track(CodecKind::Vp8, "", 10)]).expect("answer");
    check_answer(&offer, &answer.sdp);
    let kinds: Vec<ExtKind> = answer.legs[0].extensions.iter().map(|extension| extension.kind).collect();
    assert_eq!(kinds, [ExtKind::VideoOrientation, ExtKind::Mid]);
    assert!(answer.sdp.contains("a=extmap:13/sendonly urn:3gpp:video-orientation\r\n"));
}

#[test]
fn a_decoder_of_packetization_mode_1_takes_mode_0_and_not_the_reverse() {
    // H3, RFC 6184 §6.3
    let mode_1_only = recorded("aiortc-recvonly.sdp");
    let mode_0_only = mode_1_only.replace("packetization-mode=1", "packetization-mode=0");
    let pt = |offer: &str, mode: u8| {
        let fmtp = format!("packetization-mode={mode};profile-level-id=42e01f");
        pt_of(&view(offer, &[track(CodecKind::H264, &fmtp, 1)]).ok()?, 0).map(|pt| pt.0)
    };
    assert_eq!(pt(&mode_1_only, 1), Some(101));
    assert_eq!(pt(&mode_1_only, 0), Some(101));
    assert_eq!(pt(&mode_0_only, 0), Some(101));
    assert_eq!(pt(&mode_0_only, 1), None);
}

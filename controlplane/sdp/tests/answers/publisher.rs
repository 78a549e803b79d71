// SPDX-License-Identifier: Apache-2.0
//! What publishers are answered, line by line where it matters. It must never look at the crate's types alone: the
//! text is what the browser sees.

use controlplane_sdp::{
    CodecKind, DtlsRole, ExtKind, Extension, Feedback, H264Format, H264Profile, HashAlgorithm, MediaKind, Policy, Pt,
    Ssrc,
};

use crate::lines::{Text, check_answer};
use crate::server::{publish, publish_with, recorded};

fn extension(id: u8, kind: ExtKind) -> Extension {
    Extension { id, kind }
}

#[test]
fn a_plain_chromium_call_is_answered_with_opus_and_vp8_as_dtls_server() {
    let offer = recorded("chromium156-audio-video-default.sdp");
    let answer = publish(&offer).expect("answer");
    assert_eq!(answer.dtls.we_are, DtlsRole::Server);
    assert_eq!(answer.dtls.remote_fingerprints[0].algorithm, HashAlgorithm::Sha256);
    assert_eq!(answer.dtls.remote_fingerprints[0].bytes.len(), 32);
    let theirs = Text::split(&offer);
    assert_eq!(answer.ice.ufrag, theirs.media[0].only("ice-ufrag"));
    assert_eq!(answer.ice.pwd, theirs.media[0].only("ice-pwd"));

    let [audio, video] = answer.tracks.as_slice() else { panic!("two tracks") };
    assert_eq!((audio.kind, audio.codec, audio.pt, audio.rtx_pt), (MediaKind::Audio, CodecKind::Opus, Pt(111), None));
    assert_eq!(audio.clock_rate, 48_000);
    assert_eq!(audio.feedback, Feedback { transport_cc: true, ..Feedback::default() });
    assert_eq!((video.codec, video.pt, video.rtx_pt), (CodecKind::Vp8, Pt(96), Some(Pt(97))));
    let feedback = Feedback { nack: true, pli: true, fir: true, transport_cc: true, remb: false };
    assert_eq!(video.feedback, feedback);
    let fid: Vec<u32> =
        theirs.media[1].only("ssrc-group").split(' ').skip(1).map(|word| word.parse().expect("ssrc")).collect();
    assert_eq!(video.ssrcs, [(Ssrc(fid[0]), Some(Ssrc(fid[1])))]);
    assert!(audio.cname.is_some() && audio.cname == video.cname);
    assert!(video.msid.is_some());

    let text = Text::split(&answer.sdp);
    assert_eq!(text.media[0].formats, ["111"]);
    assert_eq!(text.media[0].only("fmtp"), "111 minptime=10;useinbandfec=1");
    assert_eq!(text.media[1].formats, ["96", "97"]);
    assert!(text.media[1].has("recvonly"));
    assert_eq!(
        text.media[1].values("rtcp-fb"),
        ["96 nack", "96 nack pli", "96 ccm fir", "96 transport-cc"],
        "goog-remb is off by policy"
    );
    assert!(!text.media[1].has("ssrc") && !text.media[1].has("msid"), "we send nothing");
    assert_eq!(text.media[0].values("candidate")[0], "1 1 udp 2130706431 192.0.2.7 10000 typ host");
}

#[test]
fn chromium_simulcast_is_mirrored_and_its_streams_are_told_by_rid_only() {
    // M7: no a=ssrc lines.
    let answer = publish(&recorded("chromium156-vp8-simulcast.sdp")).expect("answer");
    let text = Text::split(&answer.sdp);
    assert_eq!(text.media[0].values("rid"), ["q recv", "h recv", "f recv"]);
    assert_eq!(text.media[0].only("simulcast"), "recv q;h;f");
    let track = &answer.tracks[0];
    assert!(track.ssrcs.is_empty());
    assert_eq!(track.rids.iter().map(|rid| rid.as_str()).collect::<Vec<_>>(), ["q", "h", "f"]);
    for wanted in [
        extension(9, ExtKind::Mid),
        extension(10, ExtKind::Rid),
        extension(11, ExtKind::RepairedRid),
        extension(13, ExtKind::DependencyDescriptor),
        extension(14, ExtKind::VideoLayersAllocation),
    ] {
        assert!(track.extensions.contains(&wanted), "{wanted:?}");
    }
    assert!(!text.media[0].values("extmap").iter().any(|line| line.contains("abs-send-time")));
}

#[test]
fn firefox_simulcast_takes_its_fingerprint_from_the_session_and_its_streams_from_fid_groups() {
    let offer = recorded("firefox153esr-audio-video-simulcast-dc.sdp");
    let answer = publish(&offer).expect("answer");
    assert_eq!(answer.dtls.remote_fingerprints[0].bytes[..3], [0x84, 0x9B, 0x11]);
    let video = &answer.tracks[1];
    assert_eq!(
        video.ssrcs,
        [
            (Ssrc(693_097_033), Some(Ssrc(3_180_897_130))),
            (Ssrc(3_065_733_414), Some(Ssrc(544_552_838))),
            (Ssrc(3_313_744_542), Some(Ssrc(3_855_915_414))),
        ]
    );
    assert_eq!(video.cname.as_deref(), Some("{2f6614b7-1255-42fe-90d2-4eb11fe9f0c4}"));
    assert_eq!(video.msid.as_ref().expect("msid").stream, "-");
    // M6: what Firefox only receives is not taken from it, what it only sends is.
    let extmaps = Text::split(&answer.sdp).media[1].values("extmap").join("\n");
    assert!(extmaps.contains("8/recvonly https://aomediacodec.github.io"), "{extmaps}");
    assert!(extmaps.contains("9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"), "{extmaps}");
    assert!(!extmaps.contains("playout-delay"), "{extmaps}");
    let text = Text::split(&answer.sdp);
    assert_eq!(text.media[0].only("fmtp"), "109 stereo=1;useinbandfec=1");
    assert!(text.media[1].of_format("fmtp", "120").is_empty(), "max-fs is Firefox's limit as a receiver, not ours");
    assert!(text.media[1].has("extmap-allow-mixed"), "in the m-line, as in the offer");
    assert_eq!((text.media[2].kind.as_str(), text.media[2].port), ("application", 0));
    assert_eq!(text.values("group"), ["BUNDLE 0 1"]);
    assert!(answer.rejected[0].reason.contains("data channels"));
}

#[test]
fn ffmpeg_is_the_dtls_server_so_we_are_the_client() {
    let answer = publish(&recorded("ffmpeg9-whip-offer.sdp")).expect("answer");
    assert_eq!(answer.dtls.we_are, DtlsRole::Client);
    let text = Text::split(&answer.sdp);
    assert!(text.media.iter().all(|part| part.only("setup") == "active"));
    let video = &answer.tracks[1];
    assert_eq!(video.codec, CodecKind::H264);
    assert_eq!(video.ssrcs, [(Ssrc(2_126_959_837), Some(Ssrc(2_126_959_838)))]);
    assert_eq!(
        text.media[1].of_format("fmtp", "106"),
        ["level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001e"]
    );
    assert_eq!(text.media[1].values("rtcp-fb"), ["106 nack"], "ffmpeg offers no pli");
    assert!(!text.media[0].has("rtcp-rsize") && text.media[1].has("rtcp-rsize"));
}

#[test]
fn aiortc_sends_and_receives_and_is_answered_recvonly_with_its_strongest_hash() {
    let answer = publish(&recorded("aiortc-publish-sendrecv.sdp")).expect("answer");
    let text = Text::split(&answer.sdp);
    assert!(text.media.iter().all(|part| part.has("recvonly")));
    let algorithms: Vec<_> = answer.dtls.remote_fingerprints.iter().map(|hash| hash.algorithm).collect();
    assert_eq!(algorithms, [HashAlgorithm::Sha512]);
    assert_eq!(answer.dtls.remote_fingerprints[0].bytes.len(), 64);
    let video = &answer.tracks[1];
    assert!(!video.feedback.transport_cc && video.feedback.nack && !video.feedback.fir);
    assert!(video.ssrcs[0].1.is_some());
}

#[test]
fn red_in_front_of_opus_is_passed_over() {
    let answer = publish(&recorded("chromium156-audio-red-pref.sdp")).expect("answer");
    assert_eq!((answer.tracks[0].codec, answer.tracks[0].pt), (CodecKind::Opus, Pt(111)));
}

#[test]
fn of_h264_formats_the_one_that_everyone_decodes_is_taken_or_the_first_by_policy() {
    // H3
    let offer = recorded("chromium156-h264-simulcast.sdp");
    let format = |policy: &Policy| {
        let answer = publish_with(&offer, policy).expect("answer");
        check_answer(&offer, &answer.sdp);
        (answer.tracks[0].pt, H264Format::parse(&answer.tracks[0].fmtp).expect("format"))
    };
    let (pt, widest) = format(&Policy::default());
    assert_eq!(pt, Pt(108));
    assert_eq!((widest.profile, widest.packetization_mode), (Some(H264Profile::ConstrainedBaseline), 1));
    let (pt, first) = format(&Policy { prefers_constrained_baseline: false, ..Policy::default() });
    assert_eq!((pt, first.profile), (Pt(102), Some(H264Profile::Baseline)));
}

#[test]
fn what_the_policy_switches_off_is_not_in_the_answer() {
    let offer = recorded("chromium156-vp8-simulcast.sdp");
    let mut policy = Policy::default();
    policy.publisher_feedback.transport_cc = false;
    policy.publisher_feedback.remb = true;
    policy.max_encodings = 2;
    let answer = publish_with(&offer, &policy).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert!(!answer.sdp.contains("transport-cc") && !answer.sdp.contains("transport-wide-cc"));
    assert!(answer.sdp.contains("a=rtcp-fb:96 goog-remb\r\n"));
    assert!(answer.sdp.contains("a=simulcast:recv q;h\r\n"));
    policy.publisher_extensions.video.retain(|kind| *kind != ExtKind::Rid);
    let answer = publish_with(&offer, &policy).expect("answer");
    assert!(!answer.sdp.contains("simulcast"), "encodings could not be told apart");
    assert!(answer.tracks[0].rids.is_empty());
    policy.video_codecs = vec![CodecKind::Av1];
    let error = publish_with(&offer, &policy).expect_err("VP8 is off");
    assert!(error.to_string().contains("m-line 1 (mid 0): none of its codecs is accepted (VP8)"), "{error}");
}

#[test]
fn an_m_line_that_only_receives_is_inactive_and_carries_no_track() {
    let offer = recorded("chromium156-audio-video-default.sdp").replacen("a=sendonly", "a=recvonly", 1);
    let answer = publish(&offer).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.tracks.len(), 1);
    assert!(Text::split(&answer.sdp).media[0].has("inactive"));
}

#[test]
fn m_lines_beyond_the_number_of_tracks_get_port_0() {
    let offer = recorded("chromium156-audio-video-default.sdp");
    let answer = publish_with(&offer, &Policy { max_audio_tracks: 0, ..Policy::default() }).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.tracks.len(), 1);
    assert_eq!(Text::split(&answer.sdp).values("group"), ["BUNDLE 1"], "the second m-line's transport is used");
}

#[test]
fn without_a_bundle_group_one_m_line_is_accepted() {
    let offer = recorded("chromium156-audio-video-default.sdp").replace("a=group:BUNDLE 0 1\r\n", "");
    let answer = publish(&offer).expect("answer");
    check_answer(&offer, &answer.sdp);
    assert_eq!(answer.tracks.len(), 1);
    assert!(answer.rejected[0].reason.contains("BUNDLE"));
}

#[test]
fn a_bundle_only_m_line_lives_on_the_transport_of_the_first() {
    let offer = recorded("chromium156-audio-video-default.sdp");
    let (head, video) = offer.split_once("m=video ").expect("video");
    let kept: Vec<&str> = video
        .split_inclusive("\r\n")
        .filter(|line| !["a=ice-", "a=fingerprint", "a=setup", "a=candidate"].iter().any(|key| line.starts_with(key)))
        .collect();
    let (_, rest) = kept.split_first().expect("m-line");
    let formats = video.split("\r\n").next().expect("m-line").split_once(' ').expect("port").1;
    let offer = format!("{head}m=video 0 {formats}\r\na=bundle-only\r\n{}", rest.concat());
    let answer = publish(&offer).expect("answer");
    assert_eq!(answer.tracks.len(), 2, "RFC 9143 §6");
    assert_ne!(Text::split(&answer.sdp).media[1].port, 0);
    // Even as the first of the group it has no transport to lend.
    let answer = publish(&offer.replace("BUNDLE 0 1", "BUNDLE 1 0")).expect("answer");
    assert_eq!(Text::split(&answer.sdp).values("group"), ["BUNDLE 0 1"]);
    // Port 0 without bundle-only is an m-line that is switched off.
    let answer = publish(&offer.replace("a=bundle-only\r\n", "")).expect("answer");
    assert_eq!(answer.tracks.len(), 1);
}

#[test]
fn rid_restrictions_are_mirrored_and_those_of_other_formats_leave() {
    let offer = recorded("chromium156-vp8-simulcast.sdp")
        .replace("a=rid:q send", "a=rid:q send pt=96,97;max-width=320")
        .replace("a=rid:h send", "a=rid:h send pt=97")
        .replace("send q;h;f", "send q,x;~h;~f");
    let answer = publish(&offer).expect("answer");
    let text = Text::split(&answer.sdp);
    assert_eq!(text.media[0].values("rid"), ["q recv pt=96;max-width=320", "f recv"]);
    assert_eq!(text.media[0].only("simulcast"), "recv q;f");
}

#[test]
fn identifiers_beyond_14_need_extmap_allow_mixed() {
    let offer = recorded("chromium156-all-hdrext.sdp");
    let with = publish(&offer).expect("answer");
    let video = |answer: &controlplane_sdp::PublisherAnswer| answer.tracks[1].extensions.clone();
    assert!(video(&with).contains(&extension(17, ExtKind::DependencyDescriptor)));
    let offer = offer.replace("a=extmap-allow-mixed\r\n", "");
    let without = publish(&offer).expect("answer");
    check_answer(&offer, &without.sdp);
    assert!(video(&without).iter().all(|extension| extension.id <= 14), "RFC 8285 §4.2");
    assert!(!with.sdp.contains("rtp-hdrext:encrypt"), "RFC 6904 is not spoken");
}

#[test]
fn transport_lines_of_the_session_hold_for_m_lines_without_their_own() {
    let offer = recorded("chromium156-audio-video-default.sdp");
    let keys = ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup"];
    let is_transport = |line: &str| keys.iter().any(|key| line.starts_with(key));
    let mut moved: Vec<&str> = offer.split_inclusive("\r\n").filter(|line| is_transport(line)).collect();
    moved.sort_unstable();
    moved.dedup();
    let kept: String = offer.split_inclusive("\r\n").filter(|line| !is_transport(line)).collect();
    let at_session = kept.replacen("t=0 0\r\n", &format!("t=0 0\r\n{}", moved.concat()), 1);
    let (own, session) = (publish(&offer).expect("own"), publish(&at_session).expect("session"));
    assert_eq!((own.dtls, own.ice), (session.dtls, session.ice));
}

#[test]
fn a_client_that_is_active_leaves_us_passive() {
    let offer = recorded("chromium156-audio.sdp").replace("a=setup:actpass", "a=setup:active");
    let answer = publish(&offer).expect("answer");
    assert_eq!(answer.dtls.we_are, DtlsRole::Server);
    check_answer(&offer, &answer.sdp);
}

#[test]
fn opus_answers_ask_for_what_the_offer_can_do() {
    let fmtp = |offered: &str| {
        let offer = recorded("chromium156-audio.sdp").replace("a=fmtp:111 minptime=10;useinbandfec=1", offered);
        let answer = publish(&offer).expect("answer");
        Text::split(&answer.sdp).media[0].only("fmtp").to_owned()
    };
    // RFC 7587 §7.1
    assert_eq!(fmtp("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1"), "111 minptime=10;useinbandfec=1;usedtx=1");
    assert_eq!(fmtp("a=fmtp:111 sprop-stereo=1;maxaveragebitrate=20000"), "111 useinbandfec=1;stereo=1");
    assert_eq!(fmtp("a=x:1"), "111 useinbandfec=1");
}

// SPDX-License-Identifier: Apache-2.0
//! The offer of a bot and what it needs of the answer. It must never be reused for anything but bots: it reads just
//! enough.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

/// Payload types of every offer.
pub(crate) const OPUS: u8 = 111;
/// VP8.
pub(crate) const VP8: u8 = 96;
/// Retransmissions of VP8.
pub(crate) const RTX: u8 = 97;

/// SSRCs of what a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnSsrcs {
    pub(crate) audio: u32,
    pub(crate) video: u32,
    pub(crate) video_rtx: u32,
}

/// Mids of the sections that a publisher sends in.
pub(crate) const MICROPHONE_MID: &str = "0";
/// The camera's.
pub(crate) const CAMERA_MID: &str = "1";

/// Everything that differs between the offers of bots.
pub(crate) struct OfferParts<'a> {
    pub(crate) credentials: (&'a str, &'a str),
    pub(crate) fingerprint: &'a str,
    pub(crate) cname: &'a str,
    /// What is sent, if anything is.
    pub(crate) sends: Option<OwnSsrcs>,
    /// Slots of each kind.
    pub(crate) slots: u8,
}

/// The offer: microphone and camera if the bot publishes, then its slots.
pub(crate) fn offer(parts: &OfferParts<'_>) -> String {
    let mut sections = String::new();
    let mut mids: Vec<String> = Vec::new();
    let mut section = |kind: &str, direction: &str, lines: &str| {
        let mid = mids.len().to_string();
        let formats = if kind == "audio" { OPUS.to_string() } else { format!("{VP8} {RTX}") };
        let codec = match kind {
            "audio" => format!("a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"),
            _ => format!(
                "a=rtpmap:{VP8} VP8/90000\r\na=rtcp-fb:{VP8} nack\r\na=rtcp-fb:{VP8} nack pli\r\n\
                 a=rtcp-fb:{VP8} ccm fir\r\na=rtpmap:{RTX} rtx/90000\r\na=fmtp:{RTX} apt={VP8}\r\n"
            ),
        };
        let (ufrag, pwd) = parts.credentials;
        let _ = write!(
            sections,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
             a=fingerprint:{}\r\na=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n{codec}{lines}",
            parts.fingerprint
        );
        mids.push(mid);
    };
    if let Some(OwnSsrcs { audio, video, video_rtx }) = parts.sends {
        let cname = parts.cname;
        section("audio", "sendonly", &format!("a=ssrc:{audio} cname:{cname}\r\n"));
        let lines = format!(
            "a=ssrc-group:FID {video} {video_rtx}\r\na=ssrc:{video} cname:{cname}\r\na=ssrc:{video_rtx} cname:{cname}\r\n"
        );
        section("video", "sendonly", &lines);
    }
    for kind in ["audio", "video"] {
        for _ in 0..parts.slots {
            section(kind, "recvonly", "");
        }
    }
    let group = mids.join(" ");
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {group}\r\n{sections}")
}

/// A slot as the answer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnsweredSlot {
    pub(crate) mid: String,
    pub(crate) is_video: bool,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
}

/// What a description says of the other side's transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// ICE username fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// `sha-256 AA:BB…`.
    pub fingerprint: String,
    /// `candidate:…`, as written.
    pub candidates: Vec<String>,
}

impl Remote {
    /// Reads an offer or an answer.
    ///
    /// # Errors
    /// When an attribute is missing.
    pub fn parse(sdp: &str) -> Result<Self> {
        let of =
            |name: &str| sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'));
        let needed =
            |name: &'static str| of(name).map(str::to_owned).with_context(|| format!("a description without a={name}"));
        let candidates =
            sdp.lines().filter_map(|line| line.strip_prefix("a=")).filter(|line| line.starts_with("candidate:"));
        Ok(Self {
            ufrag: needed("ice-ufrag")?,
            pwd: needed("ice-pwd")?,
            fingerprint: needed("fingerprint")?,
            candidates: candidates.map(str::to_owned).collect(),
        })
    }
}

/// What a bot needs of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) remote: Remote,
    pub(crate) slots: Vec<AnsweredSlot>,
}

impl Answer {
    /// Reads the answer to [`offer`].
    pub(crate) fn parse(sdp: &str) -> Result<Self> {
        Ok(Self { remote: Remote::parse(sdp)?, slots: sdp.split("\r\nm=").skip(1).filter_map(slot).collect() })
    }
}

/// A section in which the server sends.
fn slot(section: &str) -> Option<AnsweredSlot> {
    let lines: Vec<&str> = section.lines().collect();
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
    lines.iter().find(|line| **line == "a=sendonly")?;
    let mid = value("a=mid:")?.to_owned();
    let (ssrc, rtx_ssrc) = match value("a=ssrc-group:FID ") {
        Some(pair) => {
            let (ssrc, rtx_ssrc) = pair.split_once(' ')?;
            (ssrc.parse().ok()?, rtx_ssrc.parse().ok())
        }
        None => (value("a=ssrc:")?.split(' ').next()?.parse().ok()?, None),
    };
    Some(AnsweredSlot { mid, is_video: section.starts_with("video"), ssrc, rtx_ssrc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_has_what_is_sent_first_and_then_the_slots() {
        let parts = OfferParts {
            credentials: ("ufrag", "pwd"),
            fingerprint: "sha-256 AA",
            cname: "bot",
            sends: Some(OwnSsrcs { audio: 1, video: 2, video_rtx: 3 }),
            slots: 2,
        };
        let text = offer(&parts);
        assert!(text.contains("a=group:BUNDLE 0 1 2 3 4 5\r\n"), "{text}");
        assert_eq!((text.matches("a=sendonly").count(), text.matches("a=recvonly").count()), (2, 4));
        assert!(text.contains("a=ssrc-group:FID 2 3\r\n"));
        let viewer = offer(&OfferParts { sends: None, ..parts });
        assert_eq!((viewer.matches("a=sendonly").count(), viewer.matches("m=video").count()), (0, 2));
    }

    #[test]
    fn an_answer_tells_transport_and_slots() {
        let text = "v=0\r\nt=0 0\r\nm=audio 9 X 111\r\na=mid:0\r\na=recvonly\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
                    a=fingerprint:sha-256 AA\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n\
                    m=video 9 X 96 97\r\na=mid:1\r\na=sendonly\r\na=ssrc-group:FID 7 8\r\na=ssrc:7 cname:x\r\n\
                    m=audio 9 X 111\r\na=mid:2\r\na=sendonly\r\na=ssrc:9 cname:x\r\n";
        let answer = Answer::parse(text).expect("an answer");
        assert_eq!(answer.remote.candidates, ["candidate:1 1 udp 1 127.0.0.1 9 typ host"]);
        let slot = |mid: &str, is_video, ssrc, rtx_ssrc| AnsweredSlot { mid: mid.to_owned(), is_video, ssrc, rtx_ssrc };
        assert_eq!(answer.slots, [slot("1", true, 7, Some(8)), slot("2", false, 9, None)]);
        assert!(Answer::parse("v=0\r\n").is_err());
    }
}

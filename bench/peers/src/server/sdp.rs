// SPDX-License-Identifier: Apache-2.0
//! Descriptions as the servers here read and write them: just enough of RFC 8866 and RFC 9429 for two streams.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::client::media::Source;

/// A section of a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `audio` or `video`.
    pub kind: String,
    /// Port of the m-line.
    pub port: u16,
    /// `a=mid`, if there is one.
    pub mid: Option<String>,
    /// The first payload type.
    pub pt: u8,
    /// What its `a=rtpmap` says.
    pub codec: String,
    /// `a=crypto` lines: what is behind the colon.
    pub crypto: Vec<String>,
}

/// The sections of a description, in order.
///
/// # Errors
/// When an m-line or its codec cannot be read.
pub fn sections(description: &str) -> Result<Vec<Section>> {
    let unified = description.replace("\r\n", "\n");
    unified.split("\nm=").skip(1).map(section).collect()
}

fn section(text: &str) -> Result<Section> {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let kind = words.next().context("an m-line without a kind")?.to_owned();
    let port = words.next().and_then(|word| word.parse().ok()).context("an m-line without a port")?;
    let pt = words.nth(1).and_then(|word| word.parse().ok()).context("an m-line without a payload type")?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name));
    let codec = value(&format!("rtpmap:{pt} ")).unwrap_or_default().to_owned();
    let crypto = text.lines().filter_map(|line| line.strip_prefix("a=crypto:")).map(str::to_owned).collect();
    Ok(Section { kind, port, mid: value("mid:").map(str::to_owned), pt, codec, crypto })
}

/// What a publisher offers: sound, then picture, in one bundle.
#[must_use]
pub fn offer(sources: &[Source], attributes: &str) -> String {
    bundle(sources, |source, kind| {
        format!("a=sendonly\r\n{attributes}a=ssrc:{} cname:bench\r\na=msid:bench {kind}\r\n", source.ssrc)
    })
}

/// What a receiver offers to take: the same, the other way.
#[must_use]
pub fn wish(sources: &[Source], attributes: &str) -> String {
    bundle(sources, |_, _| format!("a=recvonly\r\n{attributes}"))
}

fn bundle(sources: &[Source], lines: impl Fn(&Source, &str) -> String) -> String {
    let mut text = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let mids: Vec<String> = (0..sources.len()).map(|mid| mid.to_string()).collect();
    let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
    for (source, mid) in sources.iter().zip(&mids) {
        let Source { is_video, pt, .. } = source;
        let kind = if *is_video { "video" } else { "audio" };
        let codec = if *is_video { "VP8/90000" } else { "opus/48000/2" };
        let _ = write!(
            text,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
             a=rtpmap:{pt} {codec}\r\n{}",
            lines(source, kind)
        );
    }
    text
}

/// A receiver's answer: takes the first codec of each section.
///
/// # Errors
/// When the offer cannot be read.
pub fn answer(offer: &str, attributes: &str) -> Result<String> {
    let sections = sections(offer)?;
    let mids: Vec<&str> = sections.iter().filter_map(|section| section.mid.as_deref()).collect();
    let mut text = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
    for Section { kind, mid, pt, codec, .. } in &sections {
        let mid = mid.as_deref().context("a section without a=mid")?;
        let _ = write!(
            text,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=recvonly\r\n\
             a=rtpmap:{pt} {codec}\r\n{attributes}"
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [Source; 2] =
        [Source { is_video: false, ssrc: 2, pt: 111 }, Source { is_video: true, ssrc: 1, pt: 96 }];

    #[test]
    fn an_offer_reads_as_it_was_written_and_is_answered_section_by_section() {
        let text = offer(&SOURCES, "a=setup:active\r\n");
        let read = sections(&text).expect("sections");
        let kinds: Vec<_> = read.iter().map(|one| (one.kind.as_str(), one.pt, one.mid.as_deref())).collect();
        assert_eq!(kinds, [("audio", 111, Some("0")), ("video", 96, Some("1"))]);
        assert_eq!(read[1].codec, "VP8/90000");
        let wish = wish(&SOURCES, "a=x\r\n");
        assert_eq!((wish.matches("a=recvonly").count(), wish.matches("a=ssrc").count()), (2, 0));
        let answer = answer(&text, "a=x\r\n").expect("an answer");
        assert_eq!((answer.matches("a=recvonly").count(), answer.matches("a=x").count()), (2, 2));
        assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
        assert!(sections("v=0\r\nm=audio x\r\n").is_err());
    }
}

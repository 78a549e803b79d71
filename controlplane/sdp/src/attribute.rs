// SPDX-License-Identifier: Apache-2.0
//! The grammar of single attribute values. Each function takes what follows the colon and returns `None` if it breaks
//! its grammar; none of them may panic, allocate beyond its input, or know about other lines.

use crate::extension::{ExtKind, ExtMap};
use crate::ids::{Pt, Rid, Ssrc, is_token_byte};
use crate::offer::{Direction, Fingerprint, HashAlgorithm, Msid, OfferedCandidate, OfferedEncoding, OfferedRid, Setup};

/// Identifiers that an offerer may give to an extension (RFC 8285 §5): usable ones and ones left to the answerer.
const EXTMAP_IDS: [std::ops::RangeInclusive<u16>; 2] = [1..=255, 4096..=4351];

/// What `a=fingerprint` says.
pub(crate) enum FingerprintLine {
    /// A hash function that is good enough.
    Usable(Fingerprint),
    /// Another hash function: MD5, SHA-1, SHA-224 or one not known.
    Weak,
}

/// One `a=rtcp-fb` that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedbackLine {
    Nack,
    Pli,
    Fir,
    TransportCc,
    Remb,
}

/// A property of one SSRC.
pub(crate) enum SsrcProperty {
    Cname(String),
    Msid(Msid),
    Other,
}

/// `a=rtpmap` (RFC 8866 §6.6).
pub(crate) struct RtpMap<'a> {
    pub(crate) pt: Pt,
    pub(crate) name: &'a str,
    pub(crate) clock_rate: u32,
    pub(crate) channels: u8,
}

/// `ice-char` of RFC 8839 §5.1.
pub(crate) fn is_ice_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// A payload type, 0..=127.
pub(crate) fn payload_type(text: &str) -> Option<Pt> {
    let number: u8 = text.parse().ok()?;
    (number <= 127).then_some(Pt(number))
}

/// A value that starts with a payload type, such as `96 apt=95`; the rest is trimmed.
pub(crate) fn after_payload_type(value: &str) -> Option<(Pt, &str)> {
    let (pt, rest) = value.trim().split_once(' ')?;
    Some((payload_type(pt)?, rest.trim()))
}

/// RFC 8122 §5.
pub(crate) fn fingerprint(value: &str) -> Option<FingerprintLine> {
    let (function, hex) = value.trim().split_once(' ')?;
    let algorithms =
        [("sha-256", HashAlgorithm::Sha256), ("sha-384", HashAlgorithm::Sha384), ("sha-512", HashAlgorithm::Sha512)];
    let Some((_, algorithm)) = algorithms.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(function)) else {
        return Some(FingerprintLine::Weak);
    };
    let is_hex_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes: Vec<u8> = hex
        .trim()
        .split(':')
        .map(|pair| is_hex_pair(pair).then(|| u8::from_str_radix(pair, 16).ok()).flatten())
        .collect::<Option<_>>()?;
    (bytes.len() == algorithm.bytes()).then_some(FingerprintLine::Usable(Fingerprint { algorithm, bytes }))
}

/// RFC 4145 §4; `holdconn` has no place in WebRTC.
pub(crate) fn setup(value: &str) -> Option<Setup> {
    match value.trim() {
        "actpass" => Some(Setup::ActPass),
        "active" => Some(Setup::Active),
        "passive" => Some(Setup::Passive),
        _ => None,
    }
}

/// RFC 8866 §6.7, by the name of the attribute.
pub(crate) fn direction(name: &str) -> Option<Direction> {
    match name {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    }
}

/// RFC 8866 §6.6.
pub(crate) fn rtpmap(value: &str) -> Option<RtpMap<'_>> {
    let (pt, encoding) = after_payload_type(value)?;
    let mut parts = encoding.split('/');
    let name = parts.next().filter(|name| !name.is_empty() && name.bytes().all(is_token_byte))?;
    let clock_rate = parts.next()?.parse().ok()?;
    let channels = match parts.next() {
        Some(text) => text.parse().ok()?,
        None => 1,
    };
    parts.next().is_none().then_some(RtpMap { pt, name, clock_rate, channels })
}

/// RFC 4585 §4.2: the payload type, `None` for all (`*`), and the message, `None` if it does not matter here.
pub(crate) fn rtcp_fb(value: &str) -> Option<(Option<Pt>, Option<FeedbackLine>)> {
    let (pt, message) = value.trim().split_once(' ')?;
    let pt = if pt == "*" { None } else { Some(payload_type(pt)?) };
    let mut words = message.split_ascii_whitespace();
    let line = match (words.next(), words.next()) {
        (Some("nack"), None) => Some(FeedbackLine::Nack),
        (Some("nack"), Some("pli")) => Some(FeedbackLine::Pli),
        (Some("ccm"), Some("fir")) => Some(FeedbackLine::Fir),
        (Some("transport-cc"), None) => Some(FeedbackLine::TransportCc),
        (Some("goog-remb"), None) => Some(FeedbackLine::Remb),
        _ => None,
    };
    Some((pt, line))
}

/// RFC 8285 §5.
pub(crate) fn extmap(value: &str) -> Option<ExtMap> {
    let (name, rest) = value.trim().split_once(' ')?;
    let (id, written_direction) = match name.split_once('/') {
        Some((id, word)) => (id, Some(direction(word)?)),
        None => (name, None),
    };
    let id: u16 = id.parse().ok()?;
    if !EXTMAP_IDS.iter().any(|range| range.contains(&id)) {
        return None;
    }
    let (uri, attributes) = match rest.trim().split_once(' ') {
        Some((uri, attributes)) => (uri, attributes.trim()),
        None => (rest.trim(), ""),
    };
    (!uri.is_empty()).then(|| ExtMap {
        id,
        direction: written_direction.unwrap_or(Direction::SendRecv),
        has_direction: written_direction.is_some(),
        uri: uri.to_owned(),
        kind: ExtKind::from_uri(uri),
        attributes: attributes.to_owned(),
    })
}

/// RFC 8830 §2: stream and track; some clients leave the track out.
pub(crate) fn msid(value: &str) -> Option<Msid> {
    let mut words = value.split_ascii_whitespace();
    let stream = words.next()?.to_owned();
    Some(Msid { stream, track: words.next().unwrap_or_default().to_owned() })
}

/// RFC 5576 §4.1.
pub(crate) fn ssrc(value: &str) -> Option<(Ssrc, SsrcProperty)> {
    let (number, property) = value.trim().split_once(' ').unwrap_or_else(|| (value.trim(), ""));
    let ssrc = Ssrc(number.parse().ok()?);
    let property = match property.trim().split_once(':') {
        Some(("cname", cname)) => SsrcProperty::Cname(cname.trim().to_owned()),
        Some(("msid", ids)) => SsrcProperty::Msid(msid(ids)?),
        _ => SsrcProperty::Other,
    };
    Some((ssrc, property))
}

/// RFC 5576 §4.2: the semantics and the SSRCs.
pub(crate) fn ssrc_group(value: &str) -> Option<(&str, Vec<Ssrc>)> {
    let mut words = value.split_ascii_whitespace();
    let semantics = words.next()?;
    let ssrcs = words.map(|word| word.parse().ok().map(Ssrc)).collect::<Option<_>>()?;
    Some((semantics, ssrcs))
}

/// RFC 8851 §10.
pub(crate) fn rid(value: &str) -> Option<OfferedRid> {
    let mut words = value.split_ascii_whitespace();
    let rid = Rid::parse(words.next()?)?;
    let is_send = match words.next()? {
        "send" => true,
        "recv" => false,
        _ => return None,
    };
    let mut pts = Vec::new();
    let mut restrictions = Vec::new();
    for part in words.next().unwrap_or_default().split(';').filter(|part| !part.is_empty()) {
        match part.strip_prefix("pt=") {
            Some(list) => pts.extend(list.split(',').map(payload_type).collect::<Option<Vec<_>>>()?),
            None => restrictions.push(part),
        }
    }
    words.next().is_none().then(|| OfferedRid { rid, is_send, pts, restrictions: restrictions.join(";") })
}

/// RFC 8853 §5.1: the streams that the offerer sends, the first alternative of each.
pub(crate) fn simulcast_send(value: &str) -> Option<Vec<OfferedEncoding>> {
    let mut words = value.split_ascii_whitespace();
    let mut encodings = Vec::new();
    while let Some(word) = words.next() {
        let streams = words.next()?;
        match word {
            "send" => {
                for stream in streams.split(';') {
                    let first = stream.split(',').next()?;
                    let (is_paused, name) = match first.strip_prefix('~') {
                        Some(name) => (true, name),
                        None => (false, first),
                    };
                    encodings.push(OfferedEncoding { rid: Rid::parse(name)?, is_paused });
                }
            }
            "recv" => {}
            _ => return None,
        }
    }
    Some(encodings)
}

/// RFC 8839 §5.1. A line of an unknown form is `None` and left out: RFC 8839 §5.1 wants it ignored.
pub(crate) fn candidate(value: &str) -> Option<OfferedCandidate> {
    let mut words = value.split_ascii_whitespace();
    let foundation = words.next().filter(|text| is_ice_text(text))?.to_owned();
    let component = words.next()?.parse().ok()?;
    let transport = words.next()?.to_ascii_lowercase();
    let priority = words.next()?.parse().ok()?;
    let ip = words.next()?.parse().ok();
    let port = words.next()?.parse().ok()?;
    let kind = words.next().filter(|word| *word == "typ").and_then(|_| words.next())?.to_owned();
    Some(OfferedCandidate { foundation, component, transport, priority, ip, port, kind })
}

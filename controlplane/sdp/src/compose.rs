// SPDX-License-Identifier: Apache-2.0
//! From decisions to the text of an answer (RFC 8829 §5.3). Line ends and NULs in values are stripped by the writer
//! of `sdp-types`, so that nothing of an offer can become a line of its own.

use std::net::{IpAddr, Ipv4Addr};

use sdp_types::{Attribute, Connection, Media, Origin, Session};

use crate::answer::{AnsweredCodec, AnsweredExtension, Decision, DtlsRole, Section, accepted, tagged};
use crate::codec::Feedback;
use crate::offer::{HashAlgorithm, Offer, OfferedMedia};
use crate::server::{Candidate, ServerParams};

/// RFC 8840: the port of an m-line that has no candidate yet.
const DISCARD_PORT: u16 = 9;
/// RFC 8829 §5.2.1: session numbers stay below 2^63.
const SESSION_ID_MASK: u64 = u64::MAX >> 1;

/// Writes the answer.
pub(crate) fn compose(offer: &Offer, server: &ServerParams, role: DtlsRole, decisions: &[Decision<'_>]) -> String {
    let origin_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let origin = Origin::with_ip_addr(server.session_id & SESSION_ID_MASK, server.session_version, origin_ip);
    let mut session = Session::new(origin, "-");
    let tagged_index = tagged(offer, decisions).map(|section| section.media.index);
    if let Some(group) = bundle_group(offer, decisions) {
        session.attributes.push(Attribute::with_value("group", group));
    }
    if offer.extmap_allow_mixed {
        session.attributes.push(Attribute::new("extmap-allow-mixed"));
    }
    session.attributes.push(Attribute::new("ice-lite"));
    // RFC 8839 §5.6: ice2 is RFC 8445; trickle (RFC 8840) only says that later candidates are taken.
    let options = if server.takes_trickle { "trickle ice2" } else { "ice2" };
    session.attributes.push(Attribute::with_value("ice-options", options));
    for (media, decision) in offer.media.iter().zip(decisions) {
        session.medias.push(match decision {
            Decision::Reject(_) => rejected_media(media),
            Decision::Accept(section) => {
                let is_tagged = tagged_index == Some(media.index);
                accepted_media(section, server, role, MixedAtMedia(!offer.extmap_allow_mixed), is_tagged)
            }
        });
    }
    let mut bytes = Vec::new();
    match session.write(&mut bytes) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        // A Vec takes every write.
        Err(_) => String::new(),
    }
}

/// True if `extmap-allow-mixed` is a matter of m-lines in this offer, not of the session.
struct MixedAtMedia(bool);

/// `BUNDLE` with the accepted mids, the one whose transport is used first (RFC 9143 §7.3).
fn bundle_group(offer: &Offer, decisions: &[Decision<'_>]) -> Option<String> {
    let first = tagged(offer, decisions)?;
    if offer.bundle.is_empty() {
        return None;
    }
    let is_accepted = |mid: &&_| accepted(decisions).any(|section| section.mid == *mid);
    let others = offer.bundle.iter().filter(|mid| *mid != first.mid).filter(is_accepted);
    let mids: Vec<&str> = std::iter::once(first.mid).chain(others).map(|mid| mid.as_str()).collect();
    Some(format!("BUNDLE {}", mids.join(" ")))
}

/// RFC 3264 §6: a rejected m-line has port 0; its formats do not matter and are echoed.
fn rejected_media(offered: &OfferedMedia) -> Media {
    let mut media = media_of(offered, 0, IpAddr::V4(Ipv4Addr::UNSPECIFIED), offered.formats.clone());
    if let Some(mid) = &offered.mid {
        media.attributes.push(Attribute::with_value("mid", mid));
    }
    media.attributes.push(Attribute::new("inactive"));
    media
}

fn media_of(offered: &OfferedMedia, port: u16, ip: IpAddr, formats: String) -> Media {
    Media {
        media: offered.kind_name.clone(),
        port,
        num_ports: None,
        proto: offered.proto.clone(),
        fmt: formats,
        media_title: None,
        connections: vec![Connection::from_ip_addr(ip)],
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

fn accepted_media(
    section: &Section<'_>,
    server: &ServerParams,
    role: DtlsRole,
    mixed: MixedAtMedia,
    is_tagged: bool,
) -> Media {
    let default = server.candidates.first();
    let ip = default.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |candidate| candidate.ip);
    let port = default.map_or(DISCARD_PORT, |candidate| candidate.port);
    let pts = section.codecs().flat_map(|answered| std::iter::once(answered.codec.pt).chain(answered.rtx_pt));
    let formats: Vec<String> = pts.map(|pt| pt.to_string()).collect();
    let mut media = media_of(section.media, port, ip, formats.join(" "));
    let lines = &mut media.attributes;
    lines.push(Attribute::with_value("mid", section.mid));
    lines.push(Attribute::new(section.flow.attribute()));
    push_transport(lines, server, role);
    lines.push(Attribute::new("rtcp-mux"));
    if section.media.rtcp_rsize {
        lines.push(Attribute::new("rtcp-rsize"));
    }
    if mixed.0 && section.media.extmap_allow_mixed {
        lines.push(Attribute::new("extmap-allow-mixed"));
    }
    for AnsweredExtension { line, .. } in &section.extensions {
        lines.push(Attribute::with_value("extmap", line));
    }
    for answered in section.codecs() {
        push_codec(lines, answered);
    }
    for (name, value) in &section.more {
        lines.push(Attribute::with_value(name, value));
    }
    if is_tagged {
        for candidate in server.candidates {
            lines.push(Attribute::with_value("candidate", candidate_line(candidate)));
        }
        lines.push(Attribute::new("end-of-candidates"));
    }
    media
}

/// ICE and DTLS lines. RFC 9143 §7.3 wants them in the tagged m-line only, and all clients read that one; they are
/// repeated in each because clients that look at one m-line at a time (ffmpeg, libdatachannel) need them there.
fn push_transport(lines: &mut Vec<Attribute>, server: &ServerParams, role: DtlsRole) {
    let setup = match role {
        DtlsRole::Server => "passive",
        DtlsRole::Client => "active",
    };
    let hash: Vec<String> = server.fingerprint_sha256.iter().map(|byte| format!("{byte:02X}")).collect();
    lines.push(Attribute::with_value("ice-ufrag", server.ice_ufrag));
    lines.push(Attribute::with_value("ice-pwd", server.ice_pwd));
    let fingerprint = format!("{} {}", HashAlgorithm::Sha256.name(), hash.join(":"));
    lines.push(Attribute::with_value("fingerprint", fingerprint));
    lines.push(Attribute::with_value("setup", setup));
}

fn push_codec(lines: &mut Vec<Attribute>, answered: &AnsweredCodec<'_>) {
    let codec = answered.codec;
    let channels = if codec.channels > 1 { format!("/{}", codec.channels) } else { String::new() };
    let rtpmap = format!("{} {}/{}{channels}", codec.pt, codec.name, codec.clock_rate);
    lines.push(Attribute::with_value("rtpmap", rtpmap));
    let Feedback { nack, pli, fir, transport_cc, remb } = answered.feedback;
    let messages =
        [(nack, "nack"), (pli, "nack pli"), (fir, "ccm fir"), (transport_cc, "transport-cc"), (remb, "goog-remb")];
    for (_, message) in messages.into_iter().filter(|(is_on, _)| *is_on) {
        lines.push(Attribute::with_value("rtcp-fb", format!("{} {message}", codec.pt)));
    }
    if !answered.fmtp.is_empty() {
        lines.push(Attribute::with_value("fmtp", format!("{} {}", codec.pt, answered.fmtp)));
    }
    if let Some(rtx_pt) = answered.rtx_pt {
        lines.push(Attribute::with_value("rtpmap", format!("{rtx_pt} rtx/{}", codec.clock_rate)));
        lines.push(Attribute::with_value("fmtp", format!("{rtx_pt} apt={}", codec.pt)));
    }
}

/// RFC 8839 §5.1.
fn candidate_line(candidate: &Candidate) -> String {
    let Candidate { foundation, priority, ip, port } = candidate;
    format!("{foundation} 1 udp {priority} {ip} {port} typ host")
}

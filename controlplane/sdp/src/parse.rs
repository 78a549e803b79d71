// SPDX-License-Identifier: Apache-2.0
//! From text to [`Offer`]: bounds first, then lines (`sdp-types`), then meaning. It must refuse what is ambiguous
//! (two mids that are equal, one identifier for two extensions) and never guess.

use std::collections::BTreeSet;

use sdp_types::{Attribute, Media, Session};

use crate::attribute;
use crate::attribute::{FeedbackLine, FingerprintLine, SsrcProperty};
use crate::codec::{Codec, CodecKind, Feedback, Fmtp};
use crate::error::{Place, SdpError, SdpErrorKind, quote};
use crate::extension::ExtMap;
use crate::ids::{Mid, Pt, Ssrc};
use crate::limits;
use crate::offer::{Direction, IceParams, MediaKind, Offer, OfferedMedia, Setup, SsrcInfo, Transport};

/// Payload types that need no `a=rtpmap` (RFC 3551 §6), those that clients still offer.
const STATIC_CODECS: [(u8, &str, u32); 4] =
    [(0, "PCMU", 8_000), (8, "PCMA", 8_000), (9, "G722", 8_000), (13, "CN", 8_000)];

/// The lines that may stand in the session part or in an m-line.
#[derive(Default)]
struct SharedLines {
    ufrag: Option<String>,
    pwd: Option<String>,
    ice_options: Vec<String>,
    fingerprints: Vec<crate::offer::Fingerprint>,
    fingerprint_lines: usize,
    setup: Option<Setup>,
    direction: Option<Direction>,
    extmaps: Vec<ExtMap>,
    extmap_allow_mixed: bool,
}

/// What the rest of the parser needs to say where it is.
struct Scope {
    place: Place,
}

impl Scope {
    fn error(&self, kind: SdpErrorKind, field: &'static str) -> SdpError {
        SdpError::new(kind, field, self.place.clone())
    }

    fn malformed(&self, field: &'static str, value: &str) -> SdpError {
        self.error(SdpErrorKind::Malformed, field).with_detail(quote(value))
    }

    fn parsed<T>(&self, field: &'static str, value: &str, parsed: Option<T>) -> Result<T, SdpError> {
        parsed.ok_or_else(|| self.malformed(field, value))
    }

    /// Sets what may be said once; saying the same twice is harmless.
    fn set_once<T: PartialEq>(&self, field: &'static str, slot: &mut Option<T>, value: T) -> Result<(), SdpError> {
        if slot.as_ref().is_some_and(|old| *old != value) {
            return Err(self.error(SdpErrorKind::Conflict, field));
        }
        *slot = Some(value);
        Ok(())
    }

    /// Appends to a list that has a bound.
    fn push<T>(&self, field: &'static str, list: &mut Vec<T>, limit: usize, item: T) -> Result<(), SdpError> {
        if list.len() >= limit {
            return Err(self.error(SdpErrorKind::TooLarge, field).with_detail(format!("more than {limit} lines")));
        }
        list.push(item);
        Ok(())
    }

    fn name(&self, field: &'static str, text: String) -> Result<String, SdpError> {
        if text.len() > limits::MAX_NAME_BYTES {
            let detail = format!("longer than {} bytes", limits::MAX_NAME_BYTES);
            return Err(self.error(SdpErrorKind::TooLarge, field).with_detail(detail));
        }
        Ok(text)
    }
}

/// Reads a whole offer.
pub(crate) fn parse_offer(text: &str) -> Result<Offer, SdpError> {
    check_size(text)?;
    let session = Session::parse(text.as_bytes()).map_err(|error| {
        SdpError::new(SdpErrorKind::Malformed, "SDP line", Place::Session).with_detail(error.to_string())
    })?;
    let scope = Scope { place: Place::Session };
    if session.medias.is_empty() {
        return Err(scope.error(SdpErrorKind::Missing, "m="));
    }
    if session.medias.len() > limits::MAX_MEDIA {
        let detail = format!("{} m-lines, at most {}", session.medias.len(), limits::MAX_MEDIA);
        return Err(scope.error(SdpErrorKind::TooLarge, "m=").with_detail(detail));
    }

    let mut shared = SharedLines::default();
    let mut bundle = None;
    let mut is_ice_lite = false;
    for line in &session.attributes {
        let value = line.value.as_deref().unwrap_or_default();
        match line.attribute.as_str() {
            "group" => read_group(&scope, value, &mut bundle)?,
            "ice-lite" => is_ice_lite = true,
            _ => {
                shared.read(&scope, line, value)?;
            }
        }
    }

    let mut media = Vec::with_capacity(session.medias.len());
    for (index, lines) in session.medias.iter().enumerate() {
        media.push(parse_media(index, lines, &shared)?);
    }
    let offer =
        Offer { bundle: bundle.unwrap_or_default(), is_ice_lite, extmap_allow_mixed: shared.extmap_allow_mixed, media };
    check_references(&offer)?;
    Ok(offer)
}

fn check_size(text: &str) -> Result<(), SdpError> {
    let too_large =
        |detail: String| SdpError::new(SdpErrorKind::TooLarge, "SDP text", Place::Session).with_detail(detail);
    if text.len() > limits::MAX_TEXT_BYTES {
        return Err(too_large(format!("{} bytes, at most {}", text.len(), limits::MAX_TEXT_BYTES)));
    }
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    if lines > limits::MAX_LINES {
        return Err(too_large(format!("{lines} lines, at most {}", limits::MAX_LINES)));
    }
    Ok(())
}

/// `a=group:BUNDLE` (RFC 9143 §5); only the first such group is used, other semantics do not matter here.
fn read_group(scope: &Scope, value: &str, bundle: &mut Option<Vec<Mid>>) -> Result<(), SdpError> {
    let mut words = value.split_ascii_whitespace();
    if words.next() != Some("BUNDLE") || bundle.is_some() {
        return Ok(());
    }
    let mids: Option<Vec<Mid>> = words.map(Mid::parse).collect();
    let mids = scope.parsed("a=group:BUNDLE", value, mids)?;
    let different: BTreeSet<&Mid> = mids.iter().collect();
    if different.len() != mids.len() {
        return Err(scope.error(SdpErrorKind::Conflict, "a=group:BUNDLE").with_detail("a mid is in it twice"));
    }
    *bundle = Some(mids);
    Ok(())
}

/// What must hold between m-lines: unique mids and SSRCs, a BUNDLE group of mids that exist.
fn check_references(offer: &Offer) -> Result<(), SdpError> {
    let mut mids = BTreeSet::new();
    let mut ssrcs = BTreeSet::new();
    for media in &offer.media {
        if let Some(mid) = &media.mid
            && !mids.insert(mid)
        {
            return Err(SdpError::new(SdpErrorKind::Conflict, "a=mid", media.place()).with_detail("already used"));
        }
        for info in &media.ssrcs {
            if !ssrcs.insert(info.ssrc) {
                let detail = format!("{} is already in an earlier m-line", info.ssrc);
                return Err(SdpError::new(SdpErrorKind::Conflict, "a=ssrc", media.place()).with_detail(detail));
            }
        }
    }
    match offer.bundle.iter().find(|mid| !mids.contains(mid)) {
        Some(mid) => Err(SdpError::new(SdpErrorKind::Conflict, "a=group:BUNDLE", Place::Session)
            .with_detail(format!("no m-line has mid {mid}"))),
        None => Ok(()),
    }
}

impl SharedLines {
    /// True if the line is one of these.
    fn read(&mut self, scope: &Scope, line: &Attribute, value: &str) -> Result<bool, SdpError> {
        match line.attribute.as_str() {
            "ice-ufrag" => {
                let range = limits::MIN_ICE_UFRAG_BYTES..=limits::MAX_ICE_BYTES;
                let valid = range.contains(&value.len()) && attribute::is_ice_text(value);
                let ufrag = scope.parsed("a=ice-ufrag", value, valid.then(|| value.to_owned()))?;
                scope.set_once("a=ice-ufrag", &mut self.ufrag, ufrag)?;
            }
            "ice-pwd" => {
                let range = limits::MIN_ICE_PWD_BYTES..=limits::MAX_ICE_BYTES;
                if !range.contains(&value.len()) || !attribute::is_ice_text(value) {
                    // Not quoted: it is a password.
                    return Err(scope.error(SdpErrorKind::Malformed, "a=ice-pwd"));
                }
                scope.set_once("a=ice-pwd", &mut self.pwd, value.to_owned())?;
            }
            "ice-options" => {
                for option in value.split_ascii_whitespace().take(limits::MAX_RIDS) {
                    if !self.ice_options.iter().any(|known| known == option) {
                        self.ice_options.push(option.to_owned());
                    }
                }
            }
            "fingerprint" => {
                let parsed = scope.parsed("a=fingerprint", value, attribute::fingerprint(value))?;
                self.fingerprint_lines += 1;
                if let FingerprintLine::Usable(fingerprint) = parsed {
                    let limit = limits::MAX_FINGERPRINTS;
                    scope.push("a=fingerprint", &mut self.fingerprints, limit, fingerprint)?;
                }
            }
            "setup" => {
                let setup = scope.parsed("a=setup", value, attribute::setup(value))?;
                scope.set_once("a=setup", &mut self.setup, setup)?;
            }
            "extmap" => {
                let extmap = scope.parsed("a=extmap", value, attribute::extmap(value))?;
                scope.push("a=extmap", &mut self.extmaps, limits::MAX_EXTENSIONS, extmap)?;
            }
            "extmap-allow-mixed" => self.extmap_allow_mixed = true,
            name => match attribute::direction(name) {
                Some(direction) => scope.set_once("direction", &mut self.direction, direction)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// The transport lines that hold in an m-line: its own, for what it does not say those of the session.
    fn transport_within(self, session: &Self, scope: &Scope) -> Result<Transport, SdpError> {
        let ice = match (self.ufrag.or_else(|| session.ufrag.clone()), self.pwd.or_else(|| session.pwd.clone())) {
            (Some(ufrag), Some(pwd)) => Some(IceParams { ufrag, pwd }),
            (None, None) => None,
            (Some(_), None) => return Err(scope.error(SdpErrorKind::Missing, "a=ice-pwd")),
            (None, Some(_)) => return Err(scope.error(SdpErrorKind::Missing, "a=ice-ufrag")),
        };
        // RFC 8122 §5: fingerprints of the m-line replace those of the session.
        let (lines, fingerprints) = match self.fingerprint_lines {
            0 => (session.fingerprint_lines, session.fingerprints.clone()),
            lines => (lines, self.fingerprints),
        };
        let ice_options = if self.ice_options.is_empty() { session.ice_options.clone() } else { self.ice_options };
        Ok(Transport {
            ice,
            ice_options,
            has_only_weak_fingerprints: lines > 0 && fingerprints.is_empty(),
            fingerprints,
            setup: self.setup.or(session.setup),
        })
    }
}

/// An m-line and its attributes.
fn parse_media(index: usize, lines: &Media, session: &SharedLines) -> Result<OfferedMedia, SdpError> {
    let mid_text = lines.attributes.iter().find(|line| line.attribute == "mid").and_then(|line| line.value.as_deref());
    let mid = mid_text.and_then(Mid::parse);
    let scope = Scope { place: Place::Media { index: index + 1, mid: mid.clone() } };
    if let (Some(text), None) = (mid_text, &mid) {
        return Err(scope.malformed("a=mid", text));
    }
    let kind = match lines.media.as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "application" => MediaKind::Application,
        _ => MediaKind::Other,
    };
    let mut media = OfferedMedia {
        index,
        mid,
        kind,
        kind_name: lines.media.clone(),
        port: lines.port,
        is_bundle_only: false,
        proto: lines.proto.clone(),
        formats: lines.fmt.clone(),
        direction: Direction::SendRecv,
        transport: Transport::default(),
        rtcp_mux: false,
        rtcp_rsize: false,
        extmap_allow_mixed: false,
        codecs: Vec::new(),
        extmaps: Vec::new(),
        ssrcs: Vec::new(),
        fid_groups: Vec::new(),
        repair_ssrcs: Vec::new(),
        rids: Vec::new(),
        simulcast_send: Vec::new(),
        msid: None,
        candidates: Vec::new(),
    };
    if matches!(kind, MediaKind::Audio | MediaKind::Video) {
        media.codecs = read_codecs(&scope, lines)?;
    }
    let mut shared = SharedLines::default();
    for line in &lines.attributes {
        let value = line.value.as_deref().unwrap_or_default();
        if !shared.read(&scope, line, value)? {
            read_media_line(&scope, &mut media, line, value)?;
        }
    }
    media.direction = shared.direction.or(session.direction).unwrap_or(Direction::SendRecv);
    media.extmap_allow_mixed = shared.extmap_allow_mixed || session.extmap_allow_mixed;
    media.extmaps = merge_extmaps(&scope, session.extmaps.clone(), std::mem::take(&mut shared.extmaps))?;
    media.transport = shared.transport_within(session, &scope)?;
    Ok(media)
}

/// Extensions of the session and of the m-line; an identifier means one thing only (RFC 8285 §5).
fn merge_extmaps(scope: &Scope, session: Vec<ExtMap>, own: Vec<ExtMap>) -> Result<Vec<ExtMap>, SdpError> {
    let mut ids = BTreeSet::new();
    let all: Vec<ExtMap> = session.into_iter().chain(own).collect();
    match all.iter().find(|extmap| !ids.insert(extmap.id)) {
        Some(twice) => {
            Err(scope.error(SdpErrorKind::Conflict, "a=extmap").with_detail(format!("id {} is used twice", twice.id)))
        }
        None => Ok(all),
    }
}

/// Attributes that stand in m-lines only.
fn read_media_line(scope: &Scope, media: &mut OfferedMedia, line: &Attribute, value: &str) -> Result<(), SdpError> {
    match line.attribute.as_str() {
        "rtcp-mux" | "rtcp-mux-only" => media.rtcp_mux = true,
        "rtcp-rsize" => media.rtcp_rsize = true,
        "bundle-only" => media.is_bundle_only = true,
        "msid" if media.msid.is_none() => {
            let mut msid = scope.parsed("a=msid", value, attribute::msid(value))?;
            msid.stream = scope.name("a=msid", msid.stream)?;
            msid.track = scope.name("a=msid", msid.track)?;
            media.msid = Some(msid);
        }
        "ssrc" => read_ssrc(scope, media, value)?,
        "ssrc-group" => read_ssrc_group(scope, media, value)?,
        "rid" => {
            let rid = scope.parsed("a=rid", value, attribute::rid(value))?;
            if media.rids.iter().any(|known| known.rid == rid.rid) {
                return Err(scope.error(SdpErrorKind::Conflict, "a=rid").with_detail(format!("{} twice", rid.rid)));
            }
            scope.push("a=rid", &mut media.rids, limits::MAX_RIDS, rid)?;
        }
        "simulcast" => {
            media.simulcast_send = scope.parsed("a=simulcast", value, attribute::simulcast_send(value))?;
            if media.simulcast_send.len() > limits::MAX_RIDS {
                return Err(scope.error(SdpErrorKind::TooLarge, "a=simulcast"));
            }
        }
        "candidate" => {
            if let Some(candidate) = attribute::candidate(value) {
                scope.push("a=candidate", &mut media.candidates, limits::MAX_CANDIDATES, candidate)?;
            }
        }
        // The rest is either read with the codecs or means nothing to this server; RFC 8866 §5.13: ignored.
        _ => {}
    }
    Ok(())
}

fn read_ssrc(scope: &Scope, media: &mut OfferedMedia, value: &str) -> Result<(), SdpError> {
    let (ssrc, property) = scope.parsed("a=ssrc", value, attribute::ssrc(value))?;
    let position = match media.ssrcs.iter().position(|info| info.ssrc == ssrc) {
        Some(position) => position,
        None => {
            let info = SsrcInfo { ssrc, cname: None, msid: None };
            scope.push("a=ssrc", &mut media.ssrcs, limits::MAX_SSRCS, info)?;
            media.ssrcs.len() - 1
        }
    };
    let Some(info) = media.ssrcs.get_mut(position) else { return Ok(()) };
    match property {
        SsrcProperty::Cname(cname) => info.cname = Some(scope.name("a=ssrc cname", cname)?),
        SsrcProperty::Msid(msid) => info.msid = Some(msid),
        SsrcProperty::Other => {}
    }
    Ok(())
}

fn read_ssrc_group(scope: &Scope, media: &mut OfferedMedia, value: &str) -> Result<(), SdpError> {
    let (semantics, ssrcs) = scope.parsed("a=ssrc-group", value, attribute::ssrc_group(value))?;
    let repairs: Vec<Ssrc> = ssrcs.iter().skip(1).copied().collect();
    match (semantics, ssrcs.as_slice()) {
        // RFC 5576 §4.2.
        ("FID", [primary, rtx]) if primary != rtx => {
            scope.push("a=ssrc-group", &mut media.fid_groups, limits::MAX_SSRCS, (*primary, *rtx))?;
        }
        ("FID", _) => return Err(scope.malformed("a=ssrc-group", value)),
        ("FEC-FR", _) => {}
        _ => return Ok(()),
    }
    for ssrc in repairs {
        scope.push("a=ssrc-group", &mut media.repair_ssrcs, limits::MAX_SSRCS, ssrc)?;
    }
    Ok(())
}

/// The formats of the m-line with `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`, which may come in any order (Firefox sorts
/// them by name).
fn read_codecs(scope: &Scope, lines: &Media) -> Result<Vec<Codec>, SdpError> {
    let mut codecs: Vec<Codec> = Vec::new();
    for format in lines.fmt.split_ascii_whitespace() {
        let pt = scope.parsed("m= payload type", format, attribute::payload_type(format))?;
        if codecs.iter().any(|codec| codec.pt == pt) {
            let detail = format!("payload type {pt} is listed twice");
            return Err(scope.error(SdpErrorKind::Conflict, "m= payload type").with_detail(detail));
        }
        scope.push("m= payload type", &mut codecs, limits::MAX_CODECS, codec_of(pt))?;
    }
    let mut feedback_lines = 0_usize;
    for line in &lines.attributes {
        let value = line.value.as_deref().unwrap_or_default();
        match line.attribute.as_str() {
            "rtpmap" => {
                let rtpmap = scope.parsed("a=rtpmap", value, attribute::rtpmap(value))?;
                for codec in codecs.iter_mut().filter(|codec| codec.pt == rtpmap.pt) {
                    rtpmap.name.clone_into(&mut codec.name);
                    codec.clock_rate = rtpmap.clock_rate;
                    codec.channels = rtpmap.channels;
                    codec.kind = CodecKind::from_rtpmap(rtpmap.name, rtpmap.clock_rate, rtpmap.channels);
                }
            }
            "fmtp" => {
                if value.len() > limits::MAX_FMTP_BYTES {
                    return Err(scope.error(SdpErrorKind::TooLarge, "a=fmtp"));
                }
                let (pt, parameters) = scope.parsed("a=fmtp", value, attribute::after_payload_type(value))?;
                for codec in codecs.iter_mut().filter(|codec| codec.pt == pt) {
                    codec.fmtp = Fmtp::parse(parameters);
                }
            }
            "rtcp-fb" => {
                feedback_lines += 1;
                if feedback_lines > limits::MAX_FEEDBACK_LINES {
                    return Err(scope.error(SdpErrorKind::TooLarge, "a=rtcp-fb"));
                }
                let (pt, message) = scope.parsed("a=rtcp-fb", value, attribute::rtcp_fb(value))?;
                for codec in codecs.iter_mut().filter(|codec| pt.is_none_or(|pt| codec.pt == pt)) {
                    add_feedback(&mut codec.feedback, message);
                }
            }
            _ => {}
        }
    }
    link_rtx(&mut codecs);
    Ok(codecs)
}

fn codec_of(pt: Pt) -> Codec {
    let (name, clock_rate) = STATIC_CODECS
        .iter()
        .find(|(number, _, _)| *number == pt.0)
        .map_or(("", 0), |(_, name, clock_rate)| (*name, *clock_rate));
    Codec {
        pt,
        name: name.to_owned(),
        clock_rate,
        channels: 1,
        kind: None,
        fmtp: Fmtp::default(),
        feedback: Feedback::default(),
        rtx_pt: None,
    }
}

fn add_feedback(feedback: &mut Feedback, message: Option<FeedbackLine>) {
    match message {
        Some(FeedbackLine::Nack) => feedback.nack = true,
        Some(FeedbackLine::Pli) => feedback.pli = true,
        Some(FeedbackLine::Fir) => feedback.fir = true,
        Some(FeedbackLine::TransportCc) => feedback.transport_cc = true,
        Some(FeedbackLine::Remb) => feedback.remb = true,
        None => {}
    }
}

/// RFC 4588 §8.6: an rtx format repairs the one that its `apt` names, at the same clock rate.
fn link_rtx(codecs: &mut [Codec]) {
    let repairs: Vec<(Pt, Pt, u32)> = codecs
        .iter()
        .filter(|codec| codec.name.eq_ignore_ascii_case("rtx"))
        .filter_map(|rtx| Some((attribute::payload_type(rtx.fmtp.get("apt")?)?, rtx.pt, rtx.clock_rate)))
        .collect();
    for (apt, rtx_pt, clock_rate) in repairs {
        let repaired = codecs.iter_mut().find(|codec| codec.pt == apt && codec.clock_rate == clock_rate);
        if let Some(codec) = repaired {
            codec.rtx_pt.get_or_insert(rtx_pt);
        }
    }
}

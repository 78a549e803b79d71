// SPDX-License-Identifier: Apache-2.0
//! A participant's offers: the first makes a transport, further ones of the same PeerConnection change it.

use std::net::IpAddr;
use std::time::Instant;

use controlplane_room::{
    Direction, IceCredentials, Input, LeaveReason, Member, NewTrack, Outcome, RecordKey, Renegotiation, Slot, Source,
    TrackId, TransportId, TransportSpec,
};
use controlplane_sdp as sdp;
use controlplane_signaling::{
    ErrorCode, Offer, Problem, ProblemKind, Refused, RejectedSection, SendingSection, ServerMessage, SlotView,
    prefix_of,
};

use super::lease::no_entropy;
use super::{Core, Progress, Session, wire};
use crate::entropy::{self, NoEntropy, SsrcSource};
use crate::negotiation;
use crate::plane::DataPlane;

/// What one answer leaves for the next of the same PeerConnection.
#[derive(Debug)]
pub(super) struct Negotiation {
    pub(super) local: IceCredentials,
    pub(super) ssrcs: SsrcSource,
    pub(super) negotiated: sdp::Negotiated,
}

/// Gives a new slot its SSRCs. What went wrong stands here after: an answer is made without a way to fail.
struct SlotNames<'a> {
    ssrcs: &'a mut SsrcSource,
    cname: &'a str,
    failed: Option<NoEntropy>,
}

impl SlotNames<'_> {
    fn next(&mut self) -> sdp::SlotIdentity {
        let mut ssrc = || match self.ssrcs.next() {
            Ok(ssrc) => sdp::Ssrc(ssrc),
            Err(error) => {
                self.failed = Some(error);
                sdp::Ssrc(0)
            }
        };
        sdp::SlotIdentity { ssrc: ssrc(), rtx_ssrc: ssrc(), cname: self.cname.to_owned() }
    }

    fn check(&self) -> Result<(), Refused> {
        self.failed.map_or(Ok(()), |error| Err(no_entropy(error).into()))
    }
}

impl<P: DataPlane> Core<P> {
    /// Answers an offer.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        member: &Member,
        peer: IpAddr,
        id: u64,
        offer: &Offer,
    ) -> Result<(), Refused> {
        let parsed =
            sdp::Offer::parse(&offer.sdp.0).map_err(|error| Refused::from(negotiation::sdp_problem(&error)))?;
        check_sections(&parsed, &offer.tracks)?;
        let answer = if offer.restart {
            self.begin(now, member, peer, &parsed, &offer.tracks)?
        } else {
            self.renegotiate(now, member, &parsed, &offer.tracks)?
        };
        let slots = self.conference.slots(member).into_iter();
        let rejected = answer.rejected.into_iter().map(|section| RejectedSection {
            mid: section.mid.map_or_else(String::new, |mid| mid.as_str().to_owned()),
            reason: section.reason,
        });
        let message = ServerMessage::Answer {
            id,
            sdp: answer.sdp,
            tracks: self.own_tracks(member),
            slots: slots.map(|slot| SlotView { mid: slot.mid, kind: wire::kind(slot.kind) }).collect(),
            rejected: rejected.collect(),
        };
        self.reply(member, &message);
        Ok(())
    }

    /// A new transport; one that the participant had ends.
    fn begin(
        &mut self,
        now: Instant,
        member: &Member,
        peer: IpAddr,
        offer: &sdp::Offer,
        sections: &[SendingSection],
    ) -> Result<sdp::ParticipantAnswer, Refused> {
        self.admit_address(peer)?;
        let mut lease = self.lease()?;
        let candidates = negotiation::candidates(self.candidates.current(now));
        let mut ssrcs = std::mem::take(&mut lease.ssrcs);
        let mut names = SlotNames { ssrcs: &mut ssrcs, cname: &lease.cname, failed: None };
        let server = lease.server(self.handshakes.fingerprint(), &candidates);
        let answer = sdp::answer_participant(offer, &server, &self.policy, |_| names.next(), None);
        let answer = answer.map_err(|error| wire::offer_refusal(&error))?;
        names.check()?;
        self.check_rights(member, &answer)?;
        let expected = negotiation::fingerprints(&answer.dtls);
        if expected.is_empty() {
            let detail = "the offer has no sha-256, sha-384 or sha-512 fingerprint";
            return Err(Refused::new(ErrorCode::BadOffer, detail).at("sdp"));
        }
        let tracks = new_tracks(lease.id, answer.tracks.iter().map(|(track, _)| track), sections)?;
        let slots: Vec<Slot> = answer.slots.iter().filter_map(|(slot, _)| negotiation::slot(slot)).collect();
        let feedback = || answer.tracks.iter().map(|(track, _)| track.feedback);
        let rsize = answer.tracks.iter().map(|(track, _)| track.rtcp_rsize);
        let spec = TransportSpec {
            transport_cc: feedback()
                .chain(answer.slots.iter().map(|(slot, _)| slot.feedback))
                .any(|held| held.transport_cc),
            rtcp_rsize: rsize.chain(answer.slots.iter().map(|(slot, _)| slot.rtcp_rsize)).all(|held| held),
            participant: member.participant.as_str().to_owned(),
            ..lease.transport(Direction::Both, negotiation::credentials(&answer.ice))
        };
        let local = spec.local.clone();
        let input = Input::Transport { member: member.clone(), spec, tracks, slots };
        let outcome = self.conference.handle(now, input).map_err(|error| wire::room_refusal(&error))?;
        let session = Session {
            resource: None,
            room: member.room.clone(),
            ufrag: local.ufrag.clone(),
            cname: lease.cname.clone(),
            pending: Some(prefix_of(peer)),
            progress: Progress::Waiting { role: negotiation::dtls_role(&answer.dtls), expected },
            negotiation: Some(Negotiation { local, ssrcs, negotiated: answer.negotiated.clone() }),
        };
        self.hold(lease.id, session);
        self.program(now, lease.id, outcome)?;
        Ok(answer)
    }

    /// Another offer of the same PeerConnection: what it does not name stays.
    fn renegotiate(
        &mut self,
        now: Instant,
        member: &Member,
        offer: &sdp::Offer,
        sections: &[SendingSection],
    ) -> Result<sdp::ParticipantAnswer, Refused> {
        let none = || Refused::new(ErrorCode::RestartNeeded, "there is no transport to change").at("restart");
        let transport = self.conference.transport_of(member).ok_or_else(none)?;
        let candidates = negotiation::candidates(self.candidates.current(now));
        let fingerprint_sha256 = self.handshakes.fingerprint();
        let session = self.sessions.get_mut(&transport).ok_or_else(none)?;
        let cname = session.cname.clone();
        let held = session.negotiation.as_mut().ok_or_else(none)?;
        let server = sdp::ServerParams {
            ice_ufrag: &held.local.ufrag,
            ice_pwd: &held.local.pwd,
            fingerprint_sha256,
            candidates: &candidates,
            session_id: held.negotiated.session_id,
            session_version: held.negotiated.session_version,
            takes_trickle: false,
        };
        let mut names = SlotNames { ssrcs: &mut held.ssrcs, cname: &cname, failed: None };
        let answer = sdp::answer_participant(offer, &server, &self.policy, |_| names.next(), Some(&held.negotiated));
        let answer = answer.map_err(|error| wire::offer_refusal(&error))?;
        names.check()?;
        self.check_rights(member, &answer)?;
        let change = self.change(member, transport, &answer, sections)?;
        let outcome = self.conference.handle(now, Input::Renegotiate { member: member.clone(), change });
        let mut outcome = outcome.map_err(|error| wire::room_refusal(&error))?;
        if let Some(held) = self.sessions.get_mut(&transport).and_then(|session| session.negotiation.as_mut()) {
            held.negotiated = answer.negotiated.clone();
        }
        // What the next offer is measured by is another, even if nothing else is.
        outcome.changed.insert(RecordKey::Participant(member.clone()));
        self.program(now, transport, outcome)?;
        Ok(answer)
    }

    /// What an answer changes of what the conference has.
    fn change(
        &self,
        member: &Member,
        transport: TransportId,
        answer: &sdp::ParticipantAnswer,
        sections: &[SendingSection],
    ) -> Result<Renegotiation, Refused> {
        let own = self.conference.own_tracks(member);
        let is_new = |standing: sdp::Standing| standing != sdp::Standing::Kept;
        let is_changed = |standing: sdp::Standing| standing == sdp::Standing::Changed;
        let tracks = answer.tracks.iter();
        let new = tracks.clone().filter(|(_, standing)| is_new(*standing)).map(|(track, _)| track);
        let changed = tracks.filter(|(_, standing)| is_changed(*standing)).map(|(track, _)| &track.mid);
        let ended = answer.ended_tracks.iter().chain(changed);
        let ended = ended.filter_map(|mid| own.iter().find(|(held, _)| held == mid.as_str()).map(|(_, track)| *track));
        let slots = answer.slots.iter();
        let opened = slots.clone().filter(|(_, standing)| is_new(*standing));
        let reopened = slots.filter(|(_, standing)| is_changed(*standing)).map(|(slot, _)| &slot.mid);
        let closed = answer.ended_slots.iter().chain(reopened).map(|mid| mid.as_str().to_owned());
        Ok(Renegotiation {
            ended_tracks: ended.collect(),
            new_tracks: new_tracks(transport, new, sections)?,
            closed_slots: closed.collect(),
            new_slots: opened.filter_map(|(slot, _)| negotiation::slot(slot)).collect(),
        })
    }

    fn check_rights(&self, member: &Member, answer: &sdp::ParticipantAnswer) -> Result<(), Refused> {
        if answer.tracks.is_empty() || self.rights(member).is_some_and(|rights| rights.publish) {
            return Ok(());
        }
        Err(Refused::new(ErrorCode::Forbidden, "the token does not grant \"publish\"").at("tracks"))
    }

    /// Programs what an offer led to, or ends its transport: half of one helps nobody.
    fn program(&mut self, now: Instant, transport: TransportId, outcome: Outcome) -> Result<(), Refused> {
        let programmed = self.carry_out(now, outcome);
        programmed.map_err(|full| {
            self.feed(now, Input::Leave { transport, reason: LeaveReason::TableFull });
            Problem::new(ProblemKind::Full, full.to_string()).into()
        })
    }
}

/// Every section that is named has to be there.
fn check_sections(offer: &sdp::Offer, sections: &[SendingSection]) -> Result<(), Refused> {
    let is_there =
        |mid: &str| offer.media.iter().any(|media| media.mid.as_ref().is_some_and(|held| held.as_str() == mid));
    match sections.iter().position(|section| !is_there(&section.mid)) {
        None => Ok(()),
        Some(at) => {
            let refused = Refused::new(ErrorCode::UnknownMid, "the offer has no section with this mid");
            Err(refused.at(format!("tracks[{at}].mid")))
        }
    }
}

/// Tracks with new ids. One that the client does not name is what most of its kind are.
fn new_tracks<'a>(
    transport: TransportId,
    tracks: impl Iterator<Item = &'a sdp::PublishedTrack>,
    sections: &[SendingSection],
) -> Result<Vec<NewTrack>, Refused> {
    let mut made = Vec::new();
    for track in tracks {
        let id = TrackId(entropy::bytes().map_err(|error| Refused::from(no_entropy(error)))?);
        let Some(spec) = negotiation::track(id, transport, track) else { continue };
        let named = sections.iter().find(|section| section.mid == track.mid.as_str());
        let source = match (named, track.kind) {
            (Some(section), _) => wire::source(section.source),
            (None, sdp::MediaKind::Audio) => Source::Microphone,
            (None, _) => Source::Camera,
        };
        made.push(NewTrack { spec, source, muted: named.is_some_and(|section| section.muted) });
    }
    Ok(made)
}

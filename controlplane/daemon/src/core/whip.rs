// SPDX-License-Identifier: Apache-2.0
//! WHIP and WHEP: one HTTP request makes a session, another ends it.

use std::net::IpAddr;
use std::time::Instant;

use controlplane_room::{
    Direction, DisplayName, Input, LeaveReason, ParticipantId, Publish, RoomError, RoomName, TrackId, TransportSpec,
    Watch,
};
use controlplane_sdp as sdp;
use controlplane_signaling::{Accepted, Problem, ProblemKind, ResourceId, SdpText, prefix_of};

use super::lease::{Lease, no_entropy};
use super::{Core, Progress, Session};
use crate::plane::DataPlane;
use crate::{entropy, negotiation};

/// Tries to find a free name for a guest.
const GUEST_TRIES: usize = 8;

/// What an answer says about the transport.
struct Answered {
    sdp: String,
    dtls: sdp::DtlsFacts,
    participant: ParticipantId,
}

impl<P: DataPlane> Core<P> {
    /// Sends the answer; a session whose asker has gone in the meantime is ended instead of left to time out.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        answer: Result<Accepted, Problem>,
        send: impl FnOnce(Result<Accepted, Problem>) -> Result<(), Result<Accepted, Problem>>,
    ) {
        if let Err(problem) = &answer
            && let Some(suppressed) = self.log.admit(now, "refused")
        {
            tracing::info!(kind = ?problem.kind, field = problem.field.as_deref(), suppressed, "request refused");
        }
        if let Err(Ok(accepted)) = send(answer)
            && let Some(transport) = self.transport_by_resource.get(&accepted.resource).copied()
        {
            self.feed(now, Input::Leave { transport, reason: LeaveReason::Asked });
        }
    }

    pub(super) fn publish(
        &mut self,
        now: Instant,
        room: &RoomName,
        name: Option<DisplayName>,
        offer: &SdpText,
        peer: IpAddr,
    ) -> Result<Accepted, Problem> {
        self.admit_address(peer)?;
        let (name, participant) = self.publisher_name(room, name)?;
        let offer = sdp::Offer::parse(&offer.0).map_err(|error| negotiation::sdp_problem(&error))?;
        let lease = self.lease()?;
        let candidates = negotiation::candidates(self.candidates.current(now));
        let server = lease.server(self.handshakes.fingerprint(), &candidates);
        let answer = sdp::answer_publisher(&offer, &server, &self.policy);
        let answer = answer.map_err(|error| negotiation::sdp_problem(&error))?;
        let mut tracks = Vec::with_capacity(answer.tracks.len());
        for track in &answer.tracks {
            let id = TrackId(entropy::bytes().map_err(no_entropy)?);
            tracks.extend(negotiation::track(id, lease.id, track));
        }
        let transport = TransportSpec {
            transport_cc: answer.tracks.iter().any(|track| track.feedback.transport_cc),
            rtcp_rsize: answer.tracks.iter().all(|track| track.rtcp_rsize),
            participant: participant.as_str().to_owned(),
            ..lease.transport(Direction::Publisher, negotiation::credentials(&answer.ice))
        };
        let publish = Publish { room: room.clone(), participant: participant.clone(), name, transport, tracks };
        let answered = Answered { sdp: answer.sdp, dtls: answer.dtls, participant };
        self.open(now, Input::Publish(publish), lease, answered, (room, peer))
    }

    pub(super) fn watch(
        &mut self,
        now: Instant,
        room: &RoomName,
        participant: Option<&ParticipantId>,
        offer: &SdpText,
        peer: IpAddr,
    ) -> Result<Accepted, Problem> {
        self.admit_address(peer)?;
        self.conference.publication(room, participant).map_err(|error| room_problem(&error))?;
        let offer = sdp::Offer::parse(&offer.0).map_err(|error| negotiation::sdp_problem(&error))?;
        let mut lease = self.lease()?;
        let publication = self.conference.publication(room, participant).map_err(|error| room_problem(&error))?;
        let (publisher, participant) = (publication.transport, publication.participant.clone());
        // What the data plane writes into RTCP for the publisher's streams (RFC 3550 §6.5.1).
        let cname = self.sessions.get(&publisher).map_or_else(String::new, |session| session.cname.clone());
        let mut send = Vec::with_capacity(publication.tracks.len());
        let mut sent = Vec::with_capacity(publication.tracks.len());
        for track in publication.tracks {
            let ssrcs = (lease.ssrcs.next().map_err(no_entropy)?, lease.ssrcs.next().map_err(no_entropy)?);
            let offered = negotiation::send_track(track, participant.as_str(), &cname, ssrcs);
            send.extend(offered);
            sent.push(track.id);
        }
        let candidates = negotiation::candidates(self.candidates.current(now));
        let server = lease.server(self.handshakes.fingerprint(), &candidates);
        let answer = sdp::answer_viewer(&offer, &server, &self.policy, &send);
        let answer = answer.map_err(|error| negotiation::sdp_problem(&error))?;
        let legs = answer.legs.iter();
        let legs = legs.filter_map(|leg| negotiation::subscription(sent.get(leg.send_index).copied()?, lease.id, leg));
        let subscriptions = legs.collect();
        let transport = TransportSpec {
            transport_cc: answer.legs.iter().any(|leg| leg.feedback.transport_cc),
            rtcp_rsize: answer.legs.iter().all(|leg| leg.rtcp_rsize),
            ..lease.transport(Direction::Viewer, negotiation::credentials(&answer.ice))
        };
        let watch = Watch { room: room.clone(), publisher, transport, subscriptions };
        let answered = Answered { sdp: answer.sdp, dtls: answer.dtls, participant };
        self.open(now, Input::Watch(watch), lease, answered, (room, peer))
    }

    /// Makes a session of an answered offer, or takes everything back.
    fn open(
        &mut self,
        now: Instant,
        input: Input,
        lease: Lease,
        answered: Answered,
        (room, peer): (&RoomName, IpAddr),
    ) -> Result<Accepted, Problem> {
        let etag = entropy::number().map_err(no_entropy)?;
        let expected = negotiation::fingerprints(&answered.dtls);
        if expected.is_empty() {
            let detail = "the offer has no sha-256, sha-384 or sha-512 fingerprint";
            return Err(Problem::new(ProblemKind::UnsupportedOffer, detail).at("a=fingerprint"));
        }
        let outcome = self.conference.handle(now, input).map_err(|error| room_problem(&error))?;
        let session = Session {
            resource: Some(lease.resource),
            room: room.clone(),
            ufrag: lease.credentials.ufrag().to_owned(),
            cname: lease.cname.clone(),
            pending: Some(prefix_of(peer)),
            progress: Progress::Waiting { role: negotiation::dtls_role(&answered.dtls), expected },
            negotiation: None,
        };
        self.transport_by_resource.insert(lease.resource, lease.id);
        self.hold(lease.id, session);
        if let Err(full) = self.carry_out(now, outcome) {
            self.feed(now, Input::Leave { transport: lease.id, reason: LeaveReason::TableFull });
            return Err(Problem::new(ProblemKind::Full, full.to_string()));
        }
        Ok(Accepted {
            resource: lease.resource,
            etag: format!("{etag:016x}"),
            participant: answered.participant,
            answer: SdpText(answered.sdp),
        })
    }

    pub(super) fn leave(&mut self, now: Instant, room: &RoomName, resource: ResourceId) -> Result<(), Problem> {
        let transport = self.transport_by_resource.get(&resource).copied();
        let transport = transport.filter(|id| self.sessions.get(id).is_some_and(|session| session.room == *room));
        let unknown = || Problem::new(ProblemKind::ResourceUnknown, "there is no such session");
        let transport = transport.ok_or_else(unknown)?;
        self.feed(now, Input::Leave { transport, reason: LeaveReason::Asked });
        Ok(())
    }

    /// The name asked for, if it is free, or a free guest's name.
    fn publisher_name(
        &self,
        room: &RoomName,
        asked: Option<DisplayName>,
    ) -> Result<(DisplayName, ParticipantId), Problem> {
        if let Some(name) = asked {
            let id = name.participant_id();
            self.conference.admit_publisher(room, &id, 0).map_err(|error| room_problem(&error))?;
            return Ok((name, id));
        }
        let mut refused = Problem::new(ProblemKind::NameTaken, "no guest name is free; give one").at("name");
        for _ in 0..GUEST_TRIES {
            let text = format!("guest-{:04x}", entropy::number().map_err(no_entropy)? & 0xffff);
            let Ok(name) = text.parse::<DisplayName>() else { break };
            let id = name.participant_id();
            match self.conference.admit_publisher(room, &id, 0) {
                Ok(()) => return Ok((name, id)),
                Err(error) => refused = room_problem(&error),
            }
        }
        Err(refused)
    }
}

fn room_problem(error: &RoomError) -> Problem {
    let (kind, field) = match error {
        RoomError::NameTaken { .. } => (ProblemKind::NameTaken, Some("name")),
        RoomError::ParticipantNotPublished { .. } => (ProblemKind::NotPublished, Some("participant")),
        RoomError::RoomNotPublished { .. } => (ProblemKind::NotPublished, Some("room")),
        RoomError::TooManyTracks { .. } => (ProblemKind::UnsupportedOffer, Some("m=")),
        RoomError::TooManyRooms { .. } => (ProblemKind::Full, Some("room")),
        RoomError::TooManyParticipants { .. } | RoomError::TooManyViewers { .. } => (ProblemKind::Full, Some("room")),
        // What WHIP and WHEP cannot meet, and defects.
        RoomError::TooManySlots { .. }
        | RoomError::UnknownParticipant { .. }
        | RoomError::NoTransport
        | RoomError::UnknownMid { .. }
        | RoomError::UnknownTrack { .. }
        | RoomError::NotCompatible { .. }
        | RoomError::UnknownTransport { .. }
        | RoomError::TransportExists { .. }
        | RoomError::ForeignTrack
        | RoomError::GivenTwice => (ProblemKind::Full, None),
    };
    let problem = Problem::new(kind, error.to_string());
    match field {
        Some(field) => problem.at(field),
        None => problem,
    }
}

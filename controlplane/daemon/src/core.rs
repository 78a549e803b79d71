// SPDX-License-Identifier: Apache-2.0
//! The session core: the one owner of rooms, sessions and handshakes.
//!
//! It answers requests, follows the data plane's events, and programs what the conference says. It takes `now` and
//! inputs and never waits; `reactor` gives it both. It must never log an SDP body, a credential, a resource id or, above
//! debug, an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::time::Instant;

use controlplane_dtls::{Fingerprint, Identity, Role};
use controlplane_ice::Credentials;
use controlplane_room::{
    Command, Conference, Direction, DisplayName, Event, EventKind, IceCredentials, Input, LeaveReason, Outcome,
    ParticipantId, Publish, RoomError, RoomName, TrackId, TransportId, TransportSpec, Watch,
};
use controlplane_sdp as sdp;
use controlplane_signaling::{Accepted, Problem, ProblemKind, Request, ResourceId, SdpText};
use controlplane_store::Store;

use crate::addresses::CandidateSource;
use crate::config::Config;
use crate::entropy::{self, NoEntropy, SsrcSource};
use crate::handshake::{Handshakes, Step};
use crate::journal::{Entry, Journal, leave_reason};
use crate::log_limit::LogLimit;
use crate::negotiation;
use crate::plane::{DataPlane, PlaneEvent};

/// Transport ids taken from the store at once: one durable write per so many sessions.
const ID_BLOCK: u64 = 4096;
/// Tries to find a free name for a guest.
const GUEST_TRIES: usize = 8;

/// How far a session's handshake is.
#[derive(Debug)]
enum Progress {
    /// No valid check yet: nobody to speak DTLS with.
    Waiting { role: Role, expected: Vec<Fingerprint> },
    /// An association is under way.
    Shaking,
    /// Keys are installed.
    Secured,
}

/// One WHIP or WHEP session.
#[derive(Debug)]
struct Session {
    resource: ResourceId,
    room: RoomName,
    ufrag: String,
    /// RTCP's name of what it publishes.
    cname: String,
    /// Whom it counts against until its first check; `None` afterwards.
    pending: Option<IpAddr>,
    progress: Progress,
}

/// What a session needs before its offer is answered.
struct Lease {
    id: TransportId,
    resource: ResourceId,
    credentials: Credentials,
    cname: String,
    ssrcs: SsrcSource,
    rtcp_ssrc: u32,
    session_id: u64,
}

/// What an answer says about the transport.
struct Answered {
    sdp: String,
    dtls: sdp::DtlsFacts,
    participant: ParticipantId,
}

/// The session core.
#[derive(Debug)]
pub(crate) struct Core<P> {
    plane: P,
    store: Store,
    journal: Journal,
    candidates: CandidateSource,
    policy: sdp::Policy,
    pending_per_address: usize,
    conference: Conference,
    handshakes: Handshakes,
    sessions: BTreeMap<TransportId, Session>,
    transport_by_resource: BTreeMap<ResourceId, TransportId>,
    ufrags: BTreeSet<String>,
    pending_by_address: BTreeMap<IpAddr, usize>,
    ids: Range<u64>,
    log: LogLimit,
}

impl<P: DataPlane> Core<P> {
    /// A core without sessions.
    pub(crate) fn new(config: &Config, plane: P, store: Store, identity: Identity, journal: Journal) -> Self {
        Self {
            plane,
            store,
            journal,
            candidates: CandidateSource::new(config),
            policy: sdp::Policy::default(),
            pending_per_address: config.limits.pending_per_address,
            conference: Conference::new(config.limits.room_limits()),
            handshakes: Handshakes::new(identity),
            sessions: BTreeMap::new(),
            transport_by_resource: BTreeMap::new(),
            ufrags: BTreeSet::new(),
            pending_by_address: BTreeMap::new(),
            ids: 0..0,
            log: LogLimit::default(),
        }
    }

    /// The data plane, for its wake-ups.
    pub(crate) fn plane(&self) -> &P {
        &self.plane
    }

    /// When [`Self::expire`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.conference.next_deadline(), self.handshakes.next_deadline()].into_iter().flatten().min()
    }

    /// Answers one request.
    pub(crate) fn answer(&mut self, now: Instant, request: Request) {
        match request {
            Request::Publish { room, name, offer, peer, reply } => {
                let answer = self.publish(now, &room, name, &offer, peer);
                self.deliver(now, answer, |answer| reply.send(answer));
            }
            Request::Watch { room, participant, offer, peer, reply } => {
                let answer = self.watch(now, &room, participant.as_ref(), &offer, peer);
                self.deliver(now, answer, |answer| reply.send(answer));
            }
            Request::Leave { room, resource, reply } => {
                // Whoever asked may have gone: the session ends all the same.
                let _ = reply.send(self.leave(now, &room, resource));
            }
            Request::Rooms { reply } => {
                let _ = reply.send(self.conference.rooms());
            }
        }
    }

    /// Follows up to `max` events of the data plane; whether more may wait.
    pub(crate) fn follow(&mut self, now: Instant, max: usize) -> bool {
        for _ in 0..max {
            let Some(event) = self.plane.poll() else { return false };
            self.on_plane(now, event);
        }
        true
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        for (transport, step) in self.handshakes.expire(now) {
            self.step(now, transport, step);
        }
        if self.conference.next_deadline().is_some_and(|at| at <= now) {
            self.feed(now, Input::Tick);
        }
    }

    /// Sends the answer; a session whose asker has gone in the meantime is ended instead of left to time out.
    fn deliver(
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

    fn publish(
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

    fn watch(
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
        let address = prefix_of(peer);
        let session = Session {
            resource: lease.resource,
            room: room.clone(),
            ufrag: lease.credentials.ufrag().to_owned(),
            cname: lease.cname.clone(),
            pending: Some(address),
            progress: Progress::Waiting { role: negotiation::dtls_role(&answered.dtls), expected },
        };
        self.ufrags.insert(session.ufrag.clone());
        self.transport_by_resource.insert(session.resource, lease.id);
        *self.pending_by_address.entry(address).or_default() += 1;
        self.sessions.insert(lease.id, session);
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

    fn leave(&mut self, now: Instant, room: &RoomName, resource: ResourceId) -> Result<(), Problem> {
        let transport = self.transport_by_resource.get(&resource).copied();
        let transport = transport.filter(|id| self.sessions.get(id).is_some_and(|session| session.room == *room));
        let unknown = || Problem::new(ProblemKind::ResourceUnknown, "there is no such session");
        let transport = transport.ok_or_else(unknown)?;
        self.feed(now, Input::Leave { transport, reason: LeaveReason::Asked });
        Ok(())
    }

    /// Refuses an address that has too many sessions without a first check.
    fn admit_address(&self, peer: IpAddr) -> Result<(), Problem> {
        let pending = self.pending_by_address.get(&prefix_of(peer)).copied().unwrap_or(0);
        if pending < self.pending_per_address {
            return Ok(());
        }
        let detail = format!("{pending} sessions from this address wait for their first connectivity check");
        Err(Problem::new(ProblemKind::TooManyPending, detail))
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

    /// Takes an id and makes the secrets of one session.
    fn lease(&mut self) -> Result<Lease, Problem> {
        if self.ids.is_empty() {
            self.ids = self.store.reserve_transport_ids(ID_BLOCK).map_err(|error| {
                tracing::error!("no transport ids: {error}");
                Problem::new(ProblemKind::Full, "the server cannot write its state; its log says why")
            })?;
        }
        let id = self.ids.next().ok_or_else(|| Problem::new(ProblemKind::Full, "no transport ids are left"))?;
        let credentials = Credentials::generate_unique(|ufrag| self.ufrags.contains(ufrag));
        let credentials = credentials.map_err(|error| Problem::new(ProblemKind::Full, error.to_string()))?;
        let mut ssrcs = SsrcSource::default();
        let rtcp_ssrc = ssrcs.next().map_err(no_entropy)?;
        Ok(Lease {
            id: TransportId(id),
            resource: ResourceId(entropy::bytes().map_err(no_entropy)?),
            credentials,
            cname: format!("{:016x}", entropy::number().map_err(no_entropy)?),
            ssrcs,
            rtcp_ssrc,
            // RFC 8829 §5.2.1: below 2^63.
            session_id: entropy::number().map_err(no_entropy)? >> 1,
        })
    }

    fn on_plane(&mut self, now: Instant, event: PlaneEvent) {
        match event {
            PlaneEvent::Validated { transport } => {
                self.feed(now, Input::Validated { transport });
                self.begin_handshake(now, transport);
            }
            PlaneEvent::Punted { transport, bytes, .. } => {
                // A punt comes from a validated 5-tuple only, so it may stand in for a lost `Validated`.
                self.begin_handshake(now, transport);
                for step in self.handshakes.receive(now, transport, &bytes) {
                    self.step(now, transport, step);
                }
            }
            PlaneEvent::ConsentLost { transport } => self.feed(now, Input::ConsentLost { transport }),
            PlaneEvent::ConsentBack { transport } => self.feed(now, Input::ConsentBack { transport }),
            PlaneEvent::FirstMedia { transport } => self.note(now, transport, "first_media", None),
            PlaneEvent::DataPlaneRestarted => {
                tracing::warn!(handshakes = self.handshakes.len(), "the data plane has restarted; media goes on");
                self.journal.record(&Entry { event: "data_plane_restarted", ..Entry::default() });
            }
        }
    }

    fn begin_handshake(&mut self, now: Instant, transport: TransportId) {
        let Some(session) = self.sessions.get_mut(&transport) else { return };
        if !matches!(session.progress, Progress::Waiting { .. }) {
            return;
        }
        let Progress::Waiting { role, expected } = std::mem::replace(&mut session.progress, Progress::Shaking) else {
            return;
        };
        for step in self.handshakes.start(now, transport, role, expected) {
            self.step(now, transport, step);
        }
    }

    fn step(&mut self, now: Instant, transport: TransportId, step: Step) {
        match step {
            Step::Transmit(datagram) => self.plane.inject(transport, &datagram),
            Step::Connected(keys) => {
                let Some(session) = self.sessions.get_mut(&transport) else { return };
                session.progress = Progress::Secured;
                let profile = format!("srtp profile 0x{:04x}", keys.profile.0);
                self.plane.install_keys(transport, keys);
                self.note(now, transport, "secured", Some(profile));
            }
            Step::Failed(reason) => {
                if let Some(suppressed) = self.log.admit(now, "handshake_failed") {
                    let reason = reason.to_string();
                    tracing::warn!(transport = transport.0, ?reason, suppressed, "DTLS handshake failed");
                }
                if self.sessions.contains_key(&transport) {
                    self.feed(now, Input::Leave { transport, reason: LeaveReason::HandshakeFailed });
                }
            }
        }
    }

    /// Gives the conference an input whose commands only remove; a transport that has gone meanwhile is no news.
    fn feed(&mut self, now: Instant, input: Input) {
        if let Ok(outcome) = self.conference.handle(now, input)
            && let Err(full) = self.carry_out(now, outcome)
        {
            tracing::error!("the data plane refused a removal: {full}");
        }
    }

    /// Programs the commands in order; on a full table the rest is not tried. Events are told in any case.
    fn carry_out(&mut self, now: Instant, outcome: Outcome) -> Result<(), crate::plane::TableFull> {
        let Outcome { commands, events, .. } = outcome;
        let programmed = commands.into_iter().try_for_each(|command: Command| self.plane.apply(command));
        for event in &events {
            self.tell(now, event);
        }
        programmed
    }

    /// Journals and logs an event, and forgets what it ends.
    fn tell(&mut self, now: Instant, event: &Event) {
        self.journal.record(&Entry::from(event));
        let (room, transport) = (&event.room, event.transport.0);
        let participant = event.participant.as_ref().map(ParticipantId::as_str);
        match event.kind {
            EventKind::Published { tracks } => {
                if let Some(suppressed) = self.log.admit(now, "published") {
                    tracing::info!(%room, participant, transport, tracks, suppressed, "published");
                }
            }
            EventKind::Watching => {
                if let Some(suppressed) = self.log.admit(now, "watching") {
                    tracing::info!(%room, transport, suppressed, "watching");
                }
            }
            EventKind::Left(reason) => {
                if let Some(suppressed) = self.log.admit(now, "left") {
                    tracing::info!(%room, participant, transport, reason = leave_reason(reason), suppressed, "left");
                }
                self.forget(event.transport);
            }
            EventKind::Joined => self.unpend(event.transport),
            EventKind::ConsentLost | EventKind::ConsentBack | EventKind::PublisherLeft => {
                if let Some(suppressed) = self.log.admit(now, "transport") {
                    tracing::debug!(%room, transport, kind = ?event.kind, suppressed, "transport");
                }
            }
        }
    }

    /// Journals something that is no event of the conference.
    fn note(&mut self, now: Instant, transport: TransportId, event: &'static str, detail: Option<String>) {
        let Some(session) = self.sessions.get(&transport) else { return };
        let room = Some(session.room.to_string());
        if let Some(suppressed) = self.log.admit(now, event) {
            tracing::debug!(transport = transport.0, detail, suppressed, "{event}");
        }
        self.journal.record(&Entry { event, room, participant: None, transport: Some(transport.0), detail });
    }

    /// The session no longer counts against its address.
    fn unpend(&mut self, transport: TransportId) {
        let Some(address) = self.sessions.get_mut(&transport).and_then(|session| session.pending.take()) else {
            return;
        };
        if let Some(count) = self.pending_by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.pending_by_address.remove(&address);
            }
        }
    }

    fn forget(&mut self, transport: TransportId) {
        self.unpend(transport);
        self.handshakes.remove(transport);
        if let Some(session) = self.sessions.remove(&transport) {
            self.transport_by_resource.remove(&session.resource);
            self.ufrags.remove(&session.ufrag);
        }
    }
}

impl Lease {
    fn server<'a>(&'a self, fingerprint_sha256: [u8; 32], candidates: &'a [sdp::Candidate]) -> sdp::ServerParams<'a> {
        sdp::ServerParams {
            ice_ufrag: self.credentials.ufrag(),
            ice_pwd: self.credentials.pwd(),
            fingerprint_sha256,
            candidates,
            session_id: self.session_id,
            session_version: 1,
            takes_trickle: false,
        }
    }

    fn transport(&self, direction: Direction, remote: IceCredentials) -> TransportSpec {
        let local = IceCredentials { ufrag: self.credentials.ufrag().into(), pwd: self.credentials.pwd().into() };
        TransportSpec {
            id: self.id,
            direction,
            local,
            remote,
            participant: String::new(),
            rtcp_ssrc: self.rtcp_ssrc,
            cname: self.cname.clone(),
            transport_cc: false,
            rtcp_rsize: false,
        }
    }
}

/// What one holder of addresses cannot multiply: an IPv4 address, an IPv6 /64.
fn prefix_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

fn no_entropy(error: NoEntropy) -> Problem {
    Problem::new(ProblemKind::Full, error.to_string())
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

#[cfg(test)]
mod tests;

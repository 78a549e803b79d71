// SPDX-License-Identifier: Apache-2.0
//! The session core: the one owner of rooms, sessions and handshakes.
//!
//! It answers requests, follows the data plane's events, and programs what the conference says. It takes `now` and
//! inputs and never waits; `reactor` gives it both. It must never log an SDP body, a credential, a resource id or, above
//! debug, an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use controlplane_dtls::{Fingerprint, Identity, Role};
use controlplane_room::{
    Command, Conference, Event, EventKind, Input, LeaveReason, Member, Outcome, ParticipantId, RoomName, TransportId,
};
use controlplane_sdp as sdp;
use controlplane_signaling::{ConnectionId, Request, ResourceId};
use controlplane_store::{Sessions, Store};

use self::offer::Negotiation;
use self::presence::Presences;
use crate::addresses::CandidateSource;
use crate::config::Config;
use crate::handshake::{Handshakes, Step};
use crate::journal::{Entry, Journal, leave_reason};
use crate::log_limit::LogLimit;
use crate::plane::{DataPlane, PlaneEvent};

pub(crate) use self::restore::Predecessor;

mod lease;
mod offer;
mod participants;
mod presence;
mod restore;
mod whip;
mod wire;

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

/// What belongs to one transport.
#[derive(Debug)]
struct Session {
    /// What ends it over HTTP, if it came that way.
    resource: Option<ResourceId>,
    room: RoomName,
    ufrag: String,
    /// RTCP's name of what it publishes.
    cname: String,
    /// Whom it counts against until its first check; `None` afterwards.
    pending: Option<IpAddr>,
    progress: Progress,
    /// What the next offer of the same PeerConnection is measured by; a participant's only.
    negotiation: Option<Negotiation>,
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
    limits: controlplane_room::Limits,
    conference: Conference,
    handshakes: Handshakes,
    sessions: BTreeMap<TransportId, Session>,
    transport_by_resource: BTreeMap<ResourceId, TransportId>,
    ufrags: BTreeSet<String>,
    presences: Presences,
    member_by_connection: BTreeMap<ConnectionId, Member>,
    pending_by_address: BTreeMap<IpAddr, usize>,
    ids: Range<u64>,
    /// Where sessions are kept for a successor; none before there is a segment that they belong to.
    keep: Option<Sessions>,
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
            limits: config.limits.room_limits(),
            conference: Conference::new(config.limits.room_limits()),
            handshakes: Handshakes::new(identity),
            sessions: BTreeMap::new(),
            transport_by_resource: BTreeMap::new(),
            ufrags: BTreeSet::new(),
            presences: Presences::default(),
            member_by_connection: BTreeMap::new(),
            pending_by_address: BTreeMap::new(),
            ids: 0..0,
            keep: None,
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
            Request::Participant { connection, id, ask, peer, outbox } => {
                self.on_ask(now, participants::Asker { connection, peer, outbox }, id, ask);
            }
            Request::Disconnected { connection } => self.on_disconnected(now, connection),
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
                self.feed(now, Input::Secured { transport });
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
        let Outcome { commands, events, notices, changed, .. } = outcome;
        let programmed = commands.into_iter().try_for_each(|command: Command| self.plane.apply(command));
        for event in &events {
            self.tell(now, event);
        }
        for (audience, notice) in notices {
            self.announce(&audience, notice);
        }
        self.settle(&changed);
        self.persist(now, &changed);
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

    /// Takes a session in; until its first check it counts against its address.
    fn hold(&mut self, transport: TransportId, session: Session) {
        self.ufrags.insert(session.ufrag.clone());
        if let Some(address) = session.pending {
            *self.pending_by_address.entry(address).or_default() += 1;
        }
        self.sessions.insert(transport, session);
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
            if let Some(resource) = session.resource {
                self.transport_by_resource.remove(&resource);
            }
            self.ufrags.remove(&session.ufrag);
        }
    }
}

#[cfg(test)]
mod tests;

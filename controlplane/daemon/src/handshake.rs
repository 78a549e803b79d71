// SPDX-License-Identifier: Apache-2.0
//! The DTLS associations that are under way, and their deadlines.
//!
//! An association lives from the first valid check until it is disposable (CONTRACTS 11); nothing here outlives its
//! transport, and nothing here sees media.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use controlplane_dtls::{Association, Event, Fingerprint, Identity, Reason, Role};
use controlplane_room::TransportId;

use crate::plane::SrtpKeys;

/// Shortest time between two timer calls of one association, so that a deadline in the past cannot spin.
const MIN_TIMER: Duration = Duration::from_millis(1);
/// Most events taken from an association at once; a handshake makes about ten.
const MAX_EVENTS: usize = 64;

/// What an association wants done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this datagram.
    Transmit(Vec<u8>),
    /// Install these keys.
    Connected(SrtpKeys),
    /// The transport can never carry media.
    Failed(Reason),
}

#[derive(Debug)]
struct Held {
    association: Association,
    deadline: Instant,
}

/// All associations under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    identity: Identity,
    held: BTreeMap<TransportId, Held>,
    deadlines: BTreeSet<(Instant, TransportId)>,
}

impl Handshakes {
    /// None yet; all present `identity`.
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, held: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// The certificate's fingerprint, for answers.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.identity.fingerprint_sha256()
    }

    /// Begins one. A client sends at once, a server waits.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        transport: TransportId,
        role: Role,
        expected: Vec<Fingerprint>,
    ) -> Vec<Step> {
        self.remove(transport);
        let association = Association::new(&self.identity, role, expected, now);
        self.held.insert(transport, Held { association, deadline: now });
        self.deadlines.insert((now, transport));
        self.drive(now, transport)
    }

    /// Takes a datagram of the transport's peer; without an association it goes nowhere.
    pub(crate) fn receive(&mut self, now: Instant, transport: TransportId, datagram: &[u8]) -> Vec<Step> {
        let Some(held) = self.held.get_mut(&transport) else { return Vec::new() };
        held.association.receive(datagram, now);
        self.drive(now, transport)
    }

    /// Runs every association whose deadline has come.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(TransportId, Step)> {
        let mut steps = Vec::new();
        while let Some((at, transport)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            steps.extend(self.drive(now, transport).into_iter().map(|step| (transport, step)));
        }
        steps
    }

    /// Lets go of the transport's association.
    pub(crate) fn remove(&mut self, transport: TransportId) {
        if let Some(held) = self.held.remove(&transport) {
            self.deadlines.remove(&(held.deadline, transport));
        }
    }

    /// When [`Self::expire`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes what the association has to say, then gives it its next deadline or lets it go.
    fn drive(&mut self, now: Instant, transport: TransportId) -> Vec<Step> {
        let Some(held) = self.held.get_mut(&transport) else { return Vec::new() };
        let events = std::iter::from_fn(|| held.association.poll(now)).take(MAX_EVENTS);
        let steps = events.map(|event| match event {
            Event::Transmit(datagram) => Step::Transmit(datagram),
            Event::Connected { profile, local, remote } => Step::Connected(SrtpKeys { profile, local, remote }),
            Event::Failed(reason) => Step::Failed(reason),
        });
        let steps: Vec<Step> = steps.collect();
        self.deadlines.remove(&(held.deadline, transport));
        if held.association.is_disposable(now) {
            self.held.remove(&transport);
            return steps;
        }
        held.deadline = held.association.deadline().max(now + MIN_TIMER);
        self.deadlines.insert((held.deadline, transport));
        steps
    }
}

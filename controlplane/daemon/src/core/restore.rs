// SPDX-License-Identifier: Apache-2.0
//! Sessions that outlive this process: written behind every change, read back by a successor.
//!
//! ```text
//!  carry_out ─► persist ─► store::Sessions           Sessions::load ─► Predecessor::read ─► known ─► Bridge (adopts) ─► found
//!                                                                          Core::succeed ◄──────────────────────────────┘
//! ```
//!
//! Secured transports go on with their ids, keys, slots and resources; handshakes under way are over, and so is what the
//! segment does not have. A record holds passwords: it must never be logged, and its bytes are wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use controlplane_room::{Conference, Found, Known, Limits, Record, RecordKey, TransportId};
use controlplane_sdp::Negotiated;
use controlplane_signaling::{ResourceId, Rights};
use controlplane_store::{RecordBytes, Sessions};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::offer::Negotiation;
use super::presence::{Presence, ResumeHash};
use super::{Core, Progress, Session};
use crate::entropy::SsrcSource;
use crate::journal::Entry;
use crate::plane::DataPlane;

/// What this version writes and reads; a record of another one is a session that joins anew.
const VERSION: u32 = 1;
/// First room for a record; most fit.
const FIRST_LEN: usize = 16 * 1024;

/// What is kept of one participant or viewer, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    record: &'a Record,
    transport: Option<WrittenTransport<'a>>,
    presence: Option<KeptPresence>,
}

/// What the core knows of a transport and the conference does not.
#[derive(Serialize)]
struct WrittenTransport<'a> {
    resource: Option<[u8; 16]>,
    negotiation: Option<(&'a SsrcSource, &'a Negotiated)>,
}

/// What is kept, as it is read.
#[derive(Deserialize)]
struct Kept {
    version: u32,
    record: Record,
    transport: Option<KeptTransport>,
    presence: Option<KeptPresence>,
}

#[derive(Deserialize)]
struct KeptTransport {
    resource: Option<[u8; 16]>,
    negotiation: Option<(SsrcSource, Negotiated)>,
}

#[derive(Serialize, Deserialize)]
struct KeptPresence {
    publish: bool,
    subscribe: bool,
    resume: ResumeHash,
}

/// What the core needs of a session beside its record.
struct Facts {
    key: RecordKey,
    id: Option<TransportId>,
    transport: Option<KeptTransport>,
    presence: Option<KeptPresence>,
}

/// What a predecessor left, before it is compared with the segment.
pub(crate) struct Predecessor {
    conference: Conference,
    kept: Vec<Facts>,
    /// All keys that the store has, readable or not.
    keys: BTreeSet<String>,
}

impl Predecessor {
    /// Reads what the store has; deadlines begin at `now`.
    pub(crate) fn read(now: Instant, limits: Limits, stored: BTreeMap<String, RecordBytes>) -> Self {
        let mut records = Vec::with_capacity(stored.len());
        let mut kept = Vec::with_capacity(stored.len());
        let mut keys = BTreeSet::new();
        let mut unreadable = 0_usize;
        for (key, bytes) in stored {
            keys.insert(key);
            let read = serde_json::from_slice::<Kept>(&bytes).ok().filter(|held| held.version == VERSION);
            let Some(Kept { record, transport, presence, .. }) = read else {
                unreadable += 1;
                continue;
            };
            kept.push(Facts { key: record.key(), id: record.transport(), transport, presence });
            records.push(record);
        }
        if unreadable > 0 {
            tracing::warn!(unreadable, "sessions of another version are not resumed");
        }
        Self { conference: Conference::restore(now, limits, records), kept, keys }
    }

    /// What of it should be in the segment.
    pub(crate) fn known(&self) -> Known {
        self.conference.known()
    }
}

/// A buffer for secrets: what it grows out of is wiped.
struct Wiped(Zeroizing<Vec<u8>>);

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.capacity() - self.0.len() < bytes.len() {
            let mut grown = Zeroizing::new(Vec::with_capacity((self.0.len() + bytes.len()) * 2));
            grown.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a record is called in the store. Names of rooms and participants have no `/`.
fn store_key(key: &RecordKey) -> String {
    match key {
        RecordKey::Participant(member) => format!("p/{}/{}", member.room, member.participant),
        RecordKey::Viewer(transport) => format!("v/{}", transport.0),
    }
}

impl<P: DataPlane> Core<P> {
    /// Goes on with what a predecessor left and the segment has, and writes to `keep` from here on.
    pub(crate) fn succeed(&mut self, now: Instant, predecessor: Predecessor, found: &Found, keep: Sessions) {
        let Predecessor { conference, kept, keys } = predecessor;
        self.conference = conference;
        self.keep = Some(keep);
        for Facts { key, id, transport, presence } in kept {
            let Some(record) = self.conference.record(&key) else { continue };
            if let (RecordKey::Participant(member), Some(KeptPresence { publish, subscribe, resume })) =
                (&key, presence)
            {
                let rights = Rights { publish, subscribe };
                self.presences.insert(member, Presence { rights, resume, link: None });
            }
            // The conference may have left out a transport that another record has, too.
            if let (Some(id), Some(facts)) = (id.filter(|id| record.transport() == Some(*id)), transport) {
                self.restore_session(id, &record, facts);
            }
        }
        let outcome = self.conference.settle(found);
        if let Err(full) = self.carry_out(now, outcome) {
            tracing::error!("the data plane refused a removal: {full}");
        }
        self.forget_stale(keys);
        let (transports, participants) = (self.sessions.len(), self.presences.len());
        if transports + participants > 0 {
            tracing::info!(transports, participants, "sessions of before go on");
            let detail = Some(format!("{transports} transports, {participants} participants with a WebSocket"));
            self.journal.record(&Entry { event: "resumed", detail, ..Entry::default() });
        }
    }

    fn restore_session(&mut self, id: TransportId, record: &Record, facts: KeptTransport) {
        let (room, spec) = match record {
            Record::Participant(record) => match &record.transport {
                Some(transport) => (record.member.room.clone(), &transport.spec),
                None => return,
            },
            Record::Viewer(record) => (record.room.clone(), &record.transport),
        };
        let resource = facts.resource.map(ResourceId);
        if let Some(resource) = resource {
            self.transport_by_resource.insert(resource, id);
        }
        let negotiation = |(ssrcs, negotiated)| Negotiation { local: spec.local.clone(), ssrcs, negotiated };
        let session = Session {
            resource,
            room,
            ufrag: spec.local.ufrag.clone(),
            cname: spec.cname.clone(),
            pending: None,
            // What is not secured ends when the segment's word is taken.
            progress: Progress::Secured,
            negotiation: facts.negotiation.map(negotiation),
        };
        self.hold(id, session);
    }

    /// Takes away the records of what was not restored.
    fn forget_stale(&self, mut keys: BTreeSet<String>) {
        let Some(keep) = &self.keep else { return };
        for key in self.conference.record_keys() {
            keys.remove(&store_key(&key));
        }
        for key in keys {
            keep.remove(key);
        }
    }

    /// Writes the records of what has changed, behind this thread.
    pub(super) fn persist(&mut self, now: Instant, changed: &BTreeSet<RecordKey>) {
        let Some(keep) = &self.keep else { return };
        for key in changed {
            match self.conference.record(key).and_then(|record| self.written(key, &record)) {
                Some(bytes) => keep.put(store_key(key), bytes),
                None => keep.remove(store_key(key)),
            }
        }
        if let Some(trouble) = keep.trouble()
            && let Some(suppressed) = self.log.admit(now, "sessions")
        {
            tracing::error!(suppressed, "sessions would not outlive a restart: {trouble}");
        }
    }

    fn written(&self, key: &RecordKey, record: &Record) -> Option<RecordBytes> {
        let session = record.transport().and_then(|id| self.sessions.get(&id));
        let transport = session.map(|session| WrittenTransport {
            resource: session.resource.map(|resource| resource.0),
            negotiation: session.negotiation.as_ref().map(|held| (&held.ssrcs, &held.negotiated)),
        });
        let presence = match key {
            RecordKey::Participant(member) => self.presences.get(member),
            RecordKey::Viewer(_) => None,
        };
        let presence = presence.map(|held| KeptPresence {
            publish: held.rights.publish,
            subscribe: held.rights.subscribe,
            resume: held.resume,
        });
        let mut bytes = Wiped(Zeroizing::new(Vec::with_capacity(FIRST_LEN)));
        let written = Written { version: VERSION, record, transport, presence };
        // Fails for maps with keys that are no text only, and there are none; the session would join anew.
        serde_json::to_writer(&mut bytes, &written).ok()?;
        Some(bytes.0)
    }
}

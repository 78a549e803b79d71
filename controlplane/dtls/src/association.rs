// SPDX-License-Identifier: Apache-2.0
//! One association: datagrams and time in, datagrams and SRTP keys out.
//!
//! ```text
//!              acceptable hello          flight signed by the             protected Finished
//!              (server; a client         signalled certificate            verified
//!              starts one stage later)
//!   Hello ───────────────────▶ Flight ───────────────────▶ Finished ───────────────────▶ Done ── 30 s ──▶ disposable
//!     └────────────┴───────────────┴── deadline, mismatch, authenticated alert ──▶ Failed
//! ```
//!
//! The library sees only messages that are whole, and, but for the hello, authentic. An unauthenticated datagram must
//! never end a handshake: plaintext alerts are hints, forged messages wait beside the genuine ones, records that do
//! not decrypt are dropped. There is one exception that DTLS 1.2 leaves: an acceptable hello forged *before* the
//! genuine one is answered; ICE keeps strangers from sending it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::hello::{self, Defect};
use crate::keys;
use crate::library::{Library, LibraryError, Output};
use crate::peer_flight::{Outcome, PeerFlight, Proof};
use crate::reassembly::{Progress, Slot};
use crate::record::{self, Fragment, Message, Record, content, message};
use crate::{Fingerprint, Identity, KeyHalf, SrtpProfileId};

/// A handshake completes within this time of its first hello, or fails.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A server's association without any hello fails after this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(60);
/// The last flight can be asked for again for this long after completion; then the object is disposable.
pub const LINGER: Duration = Duration::from_secs(30);

/// First repetition of an unanswered flight; the interval doubles up to [`REPEAT_MAX`]. RFC 6347 §4.2.4.1 proposes 1 s
/// and 60 s; browsers start at 50 ms. A join must not wait visibly for a lost datagram, and a spurious repetition costs
/// one or two.
const REPEAT_FIRST: Duration = Duration::from_millis(100);
/// Longest interval: a handshake of four flights survives 20 % loss within 5 s.
const REPEAT_MAX: Duration = Duration::from_millis(400);
/// Least time between two repetitions that the peer asked for.
const COOL_DOWN: Duration = Duration::from_millis(100);
/// A repetition of the peer's message must show this much of it: a hello's random lies in the first 34 bytes.
const REPEAT_PROOF: usize = 34;

/// Protected records that may wait for the plaintext flight they overtook; the oldest goes first.
const MAX_EARLY: usize = 4;
/// Hellos that may start a key exchange in vain; the library refuses only what this crate misjudged.
const MAX_HELLO_TRIES: u32 = 8;
/// Fingerprints considered; SDP signals one to three.
const MAX_FINGERPRINTS: usize = 8;

/// Which side of the handshake we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We answer hellos (`a=setup:passive`).
    Server,
    /// We send the first hello (`a=setup:active`).
    Client,
}

/// Why an association is dead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The peer completed its part of the handshake with a certificate that has none of the signalled fingerprints.
    #[error("the peer's certificate does not match the signalled fingerprint")]
    FingerprintMismatch,
    /// No common SRTP profile; there is no media without one.
    #[error("no SRTP protection profile was negotiated")]
    NoSrtpProfile,
    /// The handshake did not complete in time.
    #[error("the handshake did not complete in time")]
    Timeout {
        /// Last unauthenticated fatal alert seen (RFC 5246 §7.2); a hint for the operator, anyone could have sent it.
        alert: Option<u8>,
    },
    /// The peer refused in an authenticated alert (RFC 5246 §7.2).
    #[error("the peer sent the fatal alert {0}")]
    Alert(u8),
    /// The handshake cannot succeed: the peer speaks nothing we do, or the library gave up.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// What the association wants done.
#[derive(Debug)]
pub enum Event {
    /// Send this datagram to the peer.
    Transmit(Vec<u8>),
    /// The handshake completed and the peer is who the signalling said. Comes once, before our last flight.
    Connected {
        /// Negotiated SRTP profile.
        profile: SrtpProfileId,
        /// What we protect with.
        local: KeyHalf,
        /// What the peer protects with.
        remote: KeyHalf,
    },
    /// The association is dead. Comes once, nothing comes after it, and `Connected` never came before it.
    Failed(Reason),
}

enum Stage {
    /// Server: no acceptable hello yet.
    Hello {
        slot: Slot,
        defect: Option<Defect>,
        tries: u32,
    },
    /// The peer's plaintext flight is being collected.
    Flight(Box<PeerFlight>),
    /// The flight was authentic; its protected Finished is missing.
    Finished {
        certificate: Vec<u8>,
        has_ccs: bool,
    },
    /// Keys were handed out.
    Done {
        since: Instant,
    },
    Failed {
        since: Instant,
    },
}

/// Our last flight, kept until it is answered.
struct OwnFlight {
    packets: Vec<Vec<u8>>,
    /// When it is sent again without being asked for.
    repeat_at: Option<Instant>,
    interval: Duration,
    sent_at: Instant,
    /// Number of the next plaintext record.
    next_record: u64,
}

/// One DTLS 1.2 association with one peer.
///
/// It is `Send`, holds no clock and no socket, and is meant to be dropped when [`Self::is_disposable`]; no
/// `close_notify` is ever sent.
pub struct Association {
    role: Role,
    identity: Identity,
    expected: Vec<Fingerprint>,
    stage: Stage,
    library: Option<Library>,
    events: VecDeque<Event>,
    /// End of the handshake's time.
    give_up_at: Instant,
    has_started: bool,
    flight: OwnFlight,
    /// The peer's message whose repetition asks for our last flight again (RFC 6347 §4.2.4).
    repeat: Option<Message>,
    early: VecDeque<Vec<u8>>,
    alert: Option<u8>,
    /// Datagrams received.
    datagrams: u64,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Hello { .. } => "hello",
            Stage::Flight(_) => "flight",
            Stage::Finished { .. } => "finished",
            Stage::Done { .. } => "done",
            Stage::Failed { .. } => "failed",
        };
        f.debug_struct("Association").field("role", &self.role).field("stage", &stage).finish_non_exhaustive()
    }
}

impl Association {
    /// Prepares an association; a client's first hello is available from [`Self::poll`] at once.
    ///
    /// `expected` are the fingerprints the peer's description signalled; of several hashes the strongest counts
    /// (RFC 8122 §5). Without any, every handshake fails.
    #[must_use]
    pub fn new(identity: &Identity, role: Role, expected: Vec<Fingerprint>, now: Instant) -> Self {
        let strongest = expected.iter().map(|print| print.algorithm().digest_len()).max();
        let is_strongest = |print: &Fingerprint| Some(print.algorithm().digest_len()) == strongest;
        let mut association = Self {
            role,
            identity: identity.clone(),
            expected: expected.into_iter().filter(is_strongest).take(MAX_FINGERPRINTS).collect(),
            stage: Stage::Hello { slot: Slot::default(), defect: None, tries: 0 },
            library: None,
            events: VecDeque::new(),
            give_up_at: now + HELLO_TIMEOUT,
            has_started: false,
            flight: OwnFlight {
                packets: Vec::new(),
                repeat_at: None,
                interval: REPEAT_FIRST,
                sent_at: now,
                next_record: 0,
            },
            repeat: None,
            early: VecDeque::new(),
            alert: None,
            datagrams: 0,
        };
        if role == Role::Client {
            association.start_client(now);
        }
        association
    }

    /// Our side of the handshake.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Takes one datagram from the peer's validated address. Whatever it holds, this cannot fail; poll afterwards.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) {
        self.advance(now);
        let Some(records) = record::split(datagram) else { return };
        self.datagrams += 1;
        for part in records {
            match (part.content_type, part.epoch) {
                (content::HANDSHAKE, 0) => self.receive_plaintext(part.body, now),
                (content::ALERT, 0) => {
                    if let &[2, description] = part.body {
                        self.alert = Some(description);
                    }
                }
                (content::HANDSHAKE | content::ALERT, 1) => self.receive_protected(part, now),
                _ => {}
            }
        }
        if let Stage::Flight(flight) = &mut self.stage {
            match flight.judge(now) {
                Outcome::Pending => {}
                Outcome::Genuine { messages, certificate } => self.accept_flight(messages, certificate, now),
                Outcome::Mismatch => self.fail(Reason::FingerprintMismatch, now),
            }
        }
    }

    /// The next event; call until `None` after `new`, after each `receive` and at each [`Self::deadline`].
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        self.advance(now);
        self.events.pop_front()
    }

    /// When `poll` must be called next even if nothing arrives. Of no meaning once [`Self::is_disposable`].
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let end = match self.stage {
            Stage::Hello { .. } | Stage::Flight(_) | Stage::Finished { .. } => self.give_up_at,
            Stage::Done { since } => since + LINGER,
            Stage::Failed { since } => since,
        };
        self.flight.repeat_at.map_or(end, |at| at.min(end))
    }

    /// Whether the object can be dropped: all events polled, and failed or [`LINGER`] past completion.
    #[must_use]
    pub fn is_disposable(&self, now: Instant) -> bool {
        let is_over = match self.stage {
            Stage::Hello { .. } | Stage::Flight(_) | Stage::Finished { .. } => false,
            Stage::Done { since } => now >= since + LINGER,
            Stage::Failed { .. } => true,
        };
        is_over && self.events.is_empty()
    }

    fn advance(&mut self, now: Instant) {
        match &self.stage {
            Stage::Failed { .. } => return,
            Stage::Done { since } if now >= *since + LINGER => {
                self.repeat = None;
                self.flight.packets.clear();
            }
            Stage::Done { .. } => {}
            Stage::Hello { .. } | Stage::Flight(_) | Stage::Finished { .. } => {
                if now >= self.give_up_at {
                    return self.fail(self.timeout_reason(), now);
                }
            }
        }
        if self.flight.repeat_at.is_some_and(|at| now >= at) {
            self.flight.interval = (self.flight.interval * 2).min(REPEAT_MAX);
            self.flight.repeat_at = Some(now + self.flight.interval);
            self.send_flight(now);
        }
    }

    fn timeout_reason(&self) -> Reason {
        match &self.stage {
            Stage::Hello { defect: Some(Defect::SrtpProfile), .. } => Reason::NoSrtpProfile,
            Stage::Hello { defect: Some(defect), .. } => Reason::Handshake(defect.text().to_owned()),
            Stage::Flight(flight) if flight.has_empty_certificate() => {
                Reason::Handshake("the peer presented no certificate".to_owned())
            }
            Stage::Hello { .. }
            | Stage::Flight(_)
            | Stage::Finished { .. }
            | Stage::Done { .. }
            | Stage::Failed { .. } => Reason::Timeout { alert: self.alert },
        }
    }

    /// The handshake's time runs from its first hello, acceptable or not.
    fn start_clock(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_started, true) {
            self.give_up_at = now + HANDSHAKE_TIMEOUT;
        }
    }

    fn start_client(&mut self, now: Instant) {
        self.start_clock(now);
        let started = Library::new(&self.identity, Role::Client, now).and_then(|mut library| {
            let output = library.start(now).ok()?;
            let hello = own_messages(&output.packets).into_values().find(|m| m.kind == message::CLIENT_HELLO)?;
            let random = hello.body.get(2..34)?.to_vec();
            Some((library, output, random))
        });
        let Some((library, output, random)) = started else {
            return self.fail(Reason::Handshake("the library does not start".to_owned()), now);
        };
        self.library = Some(library);
        self.stage = Stage::Flight(Box::new(PeerFlight::new(0, Proof::ClientRandom(random), now)));
        self.transmit(output.packets, now);
    }

    fn receive_plaintext(&mut self, body: &[u8], now: Instant) {
        let Some(parts) = record::fragments(body) else { return };
        for part in parts {
            if self.is_repetition(part) {
                self.repeat_flight(now);
                continue;
            }
            match &mut self.stage {
                Stage::Hello { slot, .. } => {
                    let is_hello = part.kind == message::CLIENT_HELLO && part.seq == 0;
                    if is_hello && slot.insert(part, self.datagrams) == Progress::Completed {
                        self.judge_hellos(now);
                    }
                }
                Stage::Flight(flight) => {
                    flight.insert(part, self.datagrams, &self.expected);
                    self.receive_verify_request(part, now);
                }
                Stage::Finished { .. } | Stage::Done { .. } | Stage::Failed { .. } => {}
            }
        }
    }

    /// Whether the fragment repeats the beginning of the message that asks for our flight again.
    fn is_repetition(&self, part: Fragment<'_>) -> bool {
        self.repeat.as_ref().is_some_and(|known| {
            let is_same = (part.kind, part.seq, part.total) == (known.kind, known.seq, known.body.len());
            let is_proof = part.data.len() >= part.total.min(REPEAT_PROOF);
            is_same && is_proof && part.offset == 0 && known.body.starts_with(part.data)
        })
    }

    fn repeat_flight(&mut self, now: Instant) {
        if now >= self.flight.sent_at + COOL_DOWN {
            self.send_flight(now);
        }
    }

    fn judge_hellos(&mut self, now: Instant) {
        self.start_clock(now);
        let Stage::Hello { slot, defect, tries } = &mut self.stage else { return };
        let mut acceptable = Vec::new();
        slot.drop_complete(|body| {
            match hello::check(body) {
                Ok(()) => acceptable.push(body.to_vec()),
                Err(found) => *defect = Some(found),
            }
            true
        });
        for body in acceptable {
            if *tries >= MAX_HELLO_TRIES {
                return;
            }
            *tries += 1;
            let hello = Message { kind: message::CLIENT_HELLO, seq: 0, body };
            let Some((library, packets)) = answer(&self.identity, &hello, now) else { continue };
            let mut transcript = Vec::new();
            hello.emit(&mut transcript);
            for own in own_messages(&packets).into_values() {
                own.emit(&mut transcript);
            }
            self.library = Some(library);
            self.repeat = Some(hello);
            self.stage = Stage::Flight(Box::new(PeerFlight::new(1, Proof::Transcript(transcript), now)));
            return self.transmit(packets, now);
        }
    }

    /// Client: a server may ask once for our hello to be repeated with a cookie (RFC 6347 §4.2.1).
    fn receive_verify_request(&mut self, part: Fragment<'_>, now: Instant) {
        let is_request = part.kind == message::HELLO_VERIFY_REQUEST && part.seq == 0 && part.data.len() == part.total;
        let is_shaped = part.data.get(2).is_some_and(|len| part.total == 3 + usize::from(*len));
        let Stage::Flight(flight) = &mut self.stage else { return };
        if !(is_request && is_shaped && flight.shift_behind_cookie()) {
            return;
        }
        let request = Message { kind: part.kind, seq: 0, body: part.data.to_vec() };
        if let Some(library) = &mut self.library {
            let result = library.feed(&request.to_record(), now);
            self.settle(result, now);
        }
    }

    /// Hands the authentic flight to the library, then the protected records that overtook it.
    fn accept_flight(&mut self, messages: Vec<Message>, certificate: Vec<u8>, now: Instant) {
        self.stage = Stage::Finished { certificate, has_ccs: false };
        let asks_again = match self.role {
            Role::Server => message::CLIENT_KEY_EXCHANGE,
            Role::Client => message::SERVER_HELLO_DONE,
        };
        // What the peer sent answers our flight. A client's next one is repeated until the server has finished, a
        // server's only when it is asked for again.
        self.flight.repeat_at = None;
        self.flight.packets.clear();
        for part in &messages {
            self.feed(&part.to_record(), now);
        }
        self.repeat = messages.into_iter().find(|m| m.kind == asks_again);
        for bytes in std::mem::take(&mut self.early) {
            self.feed_protected(&bytes, now);
        }
    }

    fn receive_protected(&mut self, part: Record<'_>, now: Instant) {
        match self.stage {
            Stage::Flight(_) => {
                if self.early.len() == MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back(part.bytes.to_vec());
            }
            Stage::Finished { .. } => self.feed_protected(part.bytes, now),
            Stage::Hello { .. } | Stage::Done { .. } | Stage::Failed { .. } => {}
        }
    }

    /// One protected record at a time: one that does not decrypt leaves the library as it was.
    fn feed_protected(&mut self, bytes: &[u8], now: Instant) {
        let Stage::Finished { has_ccs, .. } = &mut self.stage else { return };
        if !std::mem::replace(has_ccs, true) {
            // ChangeCipherSpec carries nothing but its place, which is known: after the flight, before this record.
            self.feed(&record::plaintext_record(content::CHANGE_CIPHER_SPEC, &[1]), now);
        }
        let is_waiting = matches!(self.stage, Stage::Finished { .. });
        let Some(library) = self.library.as_mut().filter(|_| is_waiting) else { return };
        match library.feed(bytes, now) {
            Err(LibraryError::Refused(dimpl::Error::CryptoError(_))) => {}
            result => self.settle(result, now),
        }
    }

    fn feed(&mut self, datagram: &[u8], now: Instant) {
        if let Some(library) = &mut self.library {
            let result = library.feed(datagram, now);
            self.settle(result, now);
        }
    }

    /// Turns what the library did into events and stages.
    fn settle(&mut self, result: Result<Output, LibraryError>, now: Instant) {
        let output = match result {
            Ok(output) => output,
            Err(error) => return self.lose_library(&error, now),
        };
        if let (Stage::Finished { certificate, .. }, Some(seen)) = (&self.stage, &output.peer_certificate)
            && certificate != seen
        {
            return self.fail(Reason::FingerprintMismatch, now);
        }
        if output.is_connected {
            self.connect(output.material, now);
        }
        if !matches!(self.stage, Stage::Failed { .. }) {
            self.transmit(output.packets, now);
        }
    }

    fn connect(&mut self, material: Option<(SrtpProfileId, zeroize::Zeroizing<Vec<u8>>)>, now: Instant) {
        if !matches!(self.stage, Stage::Finished { .. }) {
            return self.fail(Reason::Handshake("keys came before the peer was authenticated".to_owned()), now);
        }
        let halves = material.and_then(|(profile, bytes)| Some((profile, keys::split(profile, &bytes)?)));
        let Some((profile, (client, server))) = halves else { return self.fail(Reason::NoSrtpProfile, now) };
        let (local, remote) = match self.role {
            Role::Server => (server, client),
            Role::Client => (client, server),
        };
        self.stage = Stage::Done { since: now };
        self.library = None;
        self.flight.repeat_at = None;
        if self.role == Role::Client {
            self.repeat = None;
            self.flight.packets.clear();
        }
        self.events.push_back(Event::Connected { profile, local, remote });
    }

    fn lose_library(&mut self, error: &LibraryError, now: Instant) {
        let reason = match error {
            LibraryError::Refused(dimpl::Error::SecurityError(dimpl::SecurityError::FatalAlert { description })) => {
                Reason::Alert(*description)
            }
            LibraryError::Refused(error) => Reason::Handshake(error.to_string()),
            LibraryError::Panicked => Reason::Handshake("the library panicked".to_owned()),
        };
        self.fail(reason, now);
    }

    fn fail(&mut self, reason: Reason, now: Instant) {
        if matches!(self.stage, Stage::Failed { .. } | Stage::Done { .. }) {
            return;
        }
        self.stage = Stage::Failed { since: now };
        self.library = None;
        self.repeat = None;
        self.flight.repeat_at = None;
        self.flight.packets.clear();
        self.early.clear();
        self.events.clear();
        self.events.push_back(Event::Failed(reason));
    }

    /// Sends what the library queued, which is always a whole flight, and keeps it.
    fn transmit(&mut self, packets: Vec<Vec<u8>>, now: Instant) {
        if packets.is_empty() {
            return;
        }
        self.flight.packets = packets;
        self.flight.interval = REPEAT_FIRST;
        let is_last = matches!(self.stage, Stage::Done { .. });
        self.flight.repeat_at = (!is_last).then(|| now + REPEAT_FIRST);
        self.send_flight(now);
    }

    fn send_flight(&mut self, now: Instant) {
        self.flight.sent_at = now;
        for packet in &self.flight.packets {
            let mut bytes = packet.clone();
            record::renumber(&mut bytes, &mut self.flight.next_record);
            self.events.push_back(Event::Transmit(bytes));
        }
    }
}

/// A library object that answered this hello; `None` if it refused, which costs the association nothing.
fn answer(identity: &Identity, hello: &Message, now: Instant) -> Option<(Library, Vec<Vec<u8>>)> {
    let mut library = Library::new(identity, Role::Server, now)?;
    let output = library.feed(&hello.to_record(), now).ok()?;
    (!output.packets.is_empty()).then_some((library, output.packets))
}

/// The plaintext messages of our own datagrams, by sequence number.
fn own_messages(packets: &[Vec<u8>]) -> BTreeMap<u16, Message> {
    let mut slots: BTreeMap<u16, Slot> = BTreeMap::new();
    let records = packets.iter().filter_map(|bytes| record::split(bytes)).flatten();
    for part in records.filter(|r| r.content_type == content::HANDSHAKE && r.epoch == 0) {
        for fragment in record::fragments(part.body).into_iter().flatten() {
            slots.entry(fragment.seq).or_default().insert(fragment, 0);
        }
    }
    let whole = |(seq, slot): (u16, Slot)| {
        let found = slot.complete().next()?;
        Some((seq, Message { kind: found.kind, seq, body: found.body.to_vec() }))
    };
    slots.into_iter().filter_map(whole).collect()
}

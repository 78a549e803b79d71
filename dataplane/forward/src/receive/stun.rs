// SPDX-License-Identifier: Apache-2.0
//! ICE-lite (RFC 8445 §2.5): checks are answered here, consent is counted here (RFC 7675), admission happens here.
//!
//! Nothing is answered to strangers: an unknown user fragment or a wrong MESSAGE-INTEGRITY gets silence. The order of
//! admission is durable record, flow map, answer (CONTRACTS 12 of the design).

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::durable::{PathDurable, TransportDurable, transport_state};
use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::TransportRef;
use dataplane_abi::intent::Credential;
use dataplane_abi::ring::event_kind;
use dataplane_io::port::RxMeta;
use dataplane_shm::publish;
use dataplane_wire::stun::{Address, BindingError, BindingSuccess, Class, METHOD_BINDING, Message, Role};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::doors::{Door, local_ufrag};
use crate::objects::leg::{flow_at, path_of};
use crate::receive::classify::{Fate, Received};
use crate::worker::{Now, Worker};

/// Longest answer: header, XOR-MAPPED-ADDRESS v6, ERROR-CODE with its phrase, UNKNOWN-ATTRIBUTES, MESSAGE-INTEGRITY,
/// FINGERPRINT.
const REPLY_BYTES: usize = 160;

/// An answer that waits for the send half.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) transport: TransportRef,
    pub(crate) flow: FlowKey,
    pub(crate) len: usize,
    pub(crate) bytes: [u8; REPLY_BYTES],
}

/// The key of MESSAGE-INTEGRITY of a credential.
fn password(credential: &Credential) -> &[u8] {
    credential.local_pwd.get(..usize::from(credential.local_pwd_len)).unwrap_or(&[])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac)
}

fn is_authentic(message: &Message<'_>, credential: &Credential) -> bool {
    let (Some(integrity), Some((header, body))) = (message.integrity, message.integrity_input()) else { return false };
    let key = password(credential);
    // Compared in constant time by the library.
    !key.is_empty() && mac(key, &[&header, body]).is_some_and(|mac| mac.verify_slice(&integrity.value).is_ok())
}

fn names_peer(credential: &Credential, remote: &[u8]) -> bool {
    let known = credential.remote_ufrag.get(..usize::from(credential.remote_ufrag_len)).unwrap_or(&[]);
    known.is_empty() || known == remote
}

impl Worker {
    pub(crate) fn stun(&mut self, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let Ok(message) = Message::parse(bytes) else { return Fate::Dropped(DropReason::StunMalformed) };
        if message.fingerprint_matches() != Some(true) {
            return Fate::Dropped(DropReason::StunMalformed);
        }
        if message.class != Class::Request || message.method != METHOD_BINDING {
            return Fate::Dropped(DropReason::StunNotRequest);
        }
        let known = message.ufrags().and_then(|(local, remote)| {
            let transport = self.doors.lookup(local)?;
            let (credential, which) = self.credential_of(transport, local)?;
            names_peer(&credential, remote).then_some((transport, credential, which))
        });
        let Some((transport, credential, which)) = known else {
            self.noted.failure(meta.flow.remote);
            return Fate::Dropped(DropReason::StunUnknownUfrag);
        };
        if !is_authentic(&message, &credential) {
            self.noted.failure(meta.flow.remote);
            return Fate::Dropped(DropReason::StunBadIntegrity);
        }
        self.verified(&message, Received { bytes, meta, now }, transport, (&credential, which))
    }

    /// The credential with our user fragment as it is published, and which of the transport's it is.
    fn credential_of(&self, transport: TransportRef, local: &[u8]) -> Option<(Credential, u8)> {
        let intent = self.segment.intent_transport(transport.slot)?;
        if intent.generation != transport.generation {
            return None;
        }
        intent.credentials.into_iter().zip(0_u8..).find(|(credential, _)| local_ufrag(credential) == local)
    }

    fn verified(
        &mut self,
        message: &Message<'_>,
        Received { bytes, meta, now }: Received<'_>,
        transport: TransportRef,
        (credential, which): (&Credential, u8),
    ) -> Fate {
        let Some(leg) = self.leg_for_check(transport, now) else {
            // Another worker owns it. Its packets of this flow will arrive here: the flow is admitted before the check goes on.
            if !self.admit(meta.flow, None, transport, now) {
                return Fate::Dropped(DropReason::StunNoRoom);
            }
            return self.hand_to_owner(transport, bytes, meta);
        };
        if !message.unknown.is_empty() {
            let answer = BindingError {
                transaction_id: message.transaction_id,
                code: 420,
                reason: "Unknown Attribute",
                unknown: message.unknown.kinds(),
            };
            return self.queue_reply(transport, meta.flow, |out| {
                answer.emit(out, |parts| tag(password(credential), parts)).ok()
            });
        }
        // RFC 8445 §7.3.1.1: we are lite and controlled for good, so a peer that says it is controlled has to switch.
        if matches!(message.role, Some(Role::Controlled(_))) {
            let answer = BindingError {
                transaction_id: message.transaction_id,
                code: 487,
                reason: "Role Conflict",
                unknown: &[],
            };
            return self.queue_reply(transport, meta.flow, |out| {
                answer.emit(out, |parts| tag(password(credential), parts)).ok()
            });
        }
        if !self.admit_path(leg, &meta.flow, message.use_candidate, now) {
            return Fate::Dropped(DropReason::StunNoRoom);
        }
        if which == 0 && message.use_candidate {
            self.retire_previous_credentials(transport, now);
        }
        let mapped = Address { ip: meta.flow.remote, port: meta.flow.remote_port };
        let answer = BindingSuccess { transaction_id: message.transaction_id, mapped };
        self.queue_reply(transport, meta.flow, |out| answer.emit(out, |parts| tag(password(credential), parts)).ok())
    }

    /// The leg of a transport with a verified check: ours already, or claimed now by compare-and-swap.
    fn leg_for_check(&mut self, transport: TransportRef, now: Now) -> Option<u32> {
        if let Some(leg) = self.leg_of(transport) {
            return Some(leg);
        }
        let segment = Arc::clone(&self.segment);
        let durable = segment.transport(transport.slot)?;
        let seen = durable.owner.load(Ordering::Acquire);
        if u32::try_from(seen >> 32).ok() == Some(transport.generation) {
            // Owned: by this worker only where its leg could not be made.
            return None;
        }
        // Pairs with the Acquire load in `owner_of`: whoever sees the owner sees the record that is begun in `create_leg` only
        // through `generation`, which is stored last.
        if !publish::claim_u64(&durable.owner, seen, self.owner_word(transport)) {
            return None;
        }
        self.create_leg(transport, now)
    }

    /// Durable record, then flow map. The path in use follows a nominated check at once.
    fn admit_path(&mut self, leg_slot: u32, flow: &FlowKey, is_nominated: bool, now: Now) -> bool {
        let segment = Arc::clone(&self.segment);
        let Some(leg) = self.legs.get_mut(leg_slot) else { return false };
        let transport = leg.transport;
        let Some(durable) = segment.transport(transport.slot) else { return false };
        let known = path_of(durable, flow);
        let index = known.unwrap_or_else(|| leg.path_place(durable));
        let Some(path) = leg.paths.get_mut(index) else { return false };
        let (closed, replaced) = if known.is_none() { (path.take(), flow_at(durable, index)) } else { (None, None) };
        if let Some(kept) = durable.paths.get(index) {
            if known.is_none() {
                store_flow(kept, flow);
            }
            publish::store_u64(&kept.checked_ns, now.mono_ns);
        }
        let before = leg.active();
        let active = if is_nominated { Some(index) } else { before.or(Some(index)) };
        // Said also where it stays: its place may have another flow.
        leg.set_active(active);
        if active != before {
            publish::store_u32(&durable.active_path, u32::try_from(index.saturating_add(1)).unwrap_or(0));
        }
        leg.consent_ns = now.mono_ns;
        publish::store_u64(&durable.consent_ns, now.mono_ns);
        leg.set_silent(false);
        if let Some(slot) = closed {
            self.closed_paths.push(slot);
        }
        self.note_validated(durable, transport, now);
        self.admit(*flow, replaced, transport, now)
    }

    /// The first verified check, or the first one after consent was lost: stored, then told.
    fn note_validated(&mut self, durable: &TransportDurable, transport: TransportRef, now: Now) {
        let told = match durable.state.load(Ordering::Relaxed) {
            transport_state::VALIDATED => return,
            transport_state::SILENT => event_kind::CONSENT_BACK,
            _ => {
                publish::store_u64(&durable.validated_ns, now.mono_ns);
                event_kind::VALIDATED
            }
        };
        publish::store_u32(&durable.state, transport_state::VALIDATED);
        self.tell(told, transport, now, 0);
    }

    fn retire_previous_credentials(&mut self, transport: TransportRef, now: Now) {
        if self.doors.get(transport.slot).is_some_and(Door::has_previous) {
            self.tell(event_kind::CREDENTIALS_USED, transport, now, 0);
        }
    }

    fn queue_reply(
        &mut self,
        transport: TransportRef,
        flow: FlowKey,
        emit: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Fate {
        let mut reply = Reply { transport, flow, len: 0, bytes: [0; REPLY_BYTES] };
        let Some(len) = emit(&mut reply.bytes) else { return Fate::Dropped(DropReason::StunMalformed) };
        reply.len = len;
        if self.replies.push(reply) { Fate::Answered } else { Fate::Dropped(DropReason::StunNoRoom) }
    }
}

/// Overwrites a validated 5-tuple. Its last word is what makes it one: gone first, stored last, so that a successor never
/// sends to a mixture of two addresses.
fn store_flow(kept: &PathDurable, flow: &FlowKey) {
    let [a, b, c, d, ports] = &kept.flow;
    let [a_word, b_word, c_word, d_word, ports_word] = flow.to_words();
    publish::store_u64(ports, 0);
    for (cell, word) in [(a, a_word), (b, b_word), (c, c_word), (d, d_word), (ports, ports_word)] {
        publish::store_u64(cell, word);
    }
}

/// HMAC-SHA1 of an answer. A key of any length is fine for HMAC, so the zero tag is never sent.
fn tag(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    mac(key, parts).map_or([0; 20], |mac| mac.finalize().into_bytes().into())
}

// SPDX-License-Identifier: Apache-2.0
//! The peer's plaintext flight, collected and authenticated before the library sees a byte of it.
//!
//! DTLS 1.2 processes plaintext handshake messages one by one, so the first forged one would poison the transcript and
//! end the handshake. Here forged and genuine versions stand side by side until a signature tells them apart: a client
//! signs the transcript with our random in it (CertificateVerify), a server signs both randoms (ServerKeyExchange).
//! Nobody who merely guesses the address can do either. Only a flight that is signed by a certificate with a signalled
//! fingerprint may leave this file as [`Outcome::Genuine`].

use std::time::{Duration, Instant};

use dimpl::crypto::{HashAlgorithm, SignatureAlgorithm};

use crate::library;
use crate::reassembly::{Complete, MAX_CANDIDATES, Progress, Slot};
use crate::record::{Fragment, Message, Reader, message};
use crate::{Fingerprint, Role};

/// Messages of the longest flight: hello, certificate, key exchange, request, done.
const SLOTS: usize = 5;
/// Signatures verified per second at most (≈ 100 µs each): what a flood of forgeries can cost.
const VERIFICATIONS_PER_SECOND: u32 = 256;
/// Of those, for certificates that match no fingerprint; a verified one only tells us to give up early.
const MISMATCHES_PER_SECOND: u32 = 8;

/// What the collected flight proves.
pub(crate) enum Outcome {
    /// Incomplete, or nothing in it is authentic yet.
    Pending,
    /// The peer itself, holding the signalled certificate, sent these messages.
    Genuine { messages: Vec<Message>, certificate: Vec<u8> },
    /// Whoever completed the handshake with us holds another certificate.
    Mismatch,
}

/// What the signatures of the flight cover.
pub(crate) enum Proof {
    /// We are the server: hello and our flight as they enter the transcript.
    Transcript(Vec<u8>),
    /// We are the client: the random of our hello.
    ClientRandom(Vec<u8>),
}

/// The flight that is being collected.
pub(crate) struct PeerFlight {
    /// Sequence number of the flight's first message.
    base: u16,
    slots: [Slot; SLOTS],
    proof: Proof,
    /// Body of the Certificate message whose leaf matches; forged ones have no say after it.
    certificate: Option<Vec<u8>>,
    budget: Budget,
    mismatch_budget: Budget,
    has_empty_certificate: bool,
    /// Whether a message became complete since the last judgement.
    is_changed: bool,
}

impl PeerFlight {
    pub(crate) fn new(base: u16, proof: Proof, now: Instant) -> Self {
        Self {
            base,
            slots: Default::default(),
            proof,
            certificate: None,
            budget: Budget::new(VERIFICATIONS_PER_SECOND, now),
            mismatch_budget: Budget::new(MISMATCHES_PER_SECOND, now),
            has_empty_certificate: false,
            is_changed: false,
        }
    }

    /// Whether someone claimed to have no certificate: a hint for the reason of a timeout.
    pub(crate) const fn has_empty_certificate(&self) -> bool {
        self.has_empty_certificate
    }

    /// Client: makes room for the cookie exchange, which takes one sequence number; once, and only while nothing of
    /// the flight arrived.
    pub(crate) fn shift_behind_cookie(&mut self) -> bool {
        let is_possible = self.role() == Role::Client && self.base == 0 && self.slots.iter().all(Slot::is_empty);
        if is_possible {
            self.base = 1;
        }
        is_possible
    }

    const fn role(&self) -> Role {
        match self.proof {
            Proof::Transcript(_) => Role::Server,
            Proof::ClientRandom(_) => Role::Client,
        }
    }

    /// Adds a fragment; fragments of other flights or types are ignored.
    pub(crate) fn insert(&mut self, part: Fragment<'_>, datagram: u64, expected: &[Fingerprint]) {
        let index = usize::from(part.seq.wrapping_sub(self.base));
        let is_certificate = part.kind == message::CERTIFICATE;
        if !is_expected(self.role(), index, part) || (is_certificate && self.certificate.is_some()) {
            return;
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        self.is_changed |= slot.insert(part, datagram) == Progress::Completed;
        if self.is_changed && is_certificate {
            self.pick_certificate(index, expected);
        }
    }

    fn pick_certificate(&mut self, index: usize, expected: &[Fingerprint]) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        self.has_empty_certificate |= slot.complete().any(|c| c.body == [0, 0, 0]);
        let matching = |body: &[u8]| leaf(body).is_some_and(|der| expected.iter().any(|print| print.matches(der)));
        self.certificate = slot.complete().map(|c| c.body).find(|body| matching(body)).map(<[u8]>::to_vec);
        slot.drop_complete(|body| leaf(body).is_none());
    }

    /// Judges what is complete, once per datagram: its end must have the same say as its beginning.
    ///
    /// At most 16 signatures are verified, and only as many as the budget gives.
    pub(crate) fn judge(&mut self, now: Instant) -> Outcome {
        if !std::mem::replace(&mut self.is_changed, false) {
            return Outcome::Pending;
        }
        let (certificate, is_match) = match (&self.certificate, self.latest(self.certificate_slot())) {
            (Some(body), _) => (body.clone(), true),
            (None, Some(body)) => (body.to_vec(), false),
            (None, None) => return Outcome::Pending,
        };
        let Some(der) = leaf(&certificate) else { return Outcome::Pending };
        let (limit, budget) = match is_match {
            true => (MAX_CANDIDATES, &mut self.budget),
            false => (1, &mut self.mismatch_budget),
        };
        let first = match self.proof {
            Proof::Transcript(_) => 1,
            Proof::ClientRandom(_) => 0,
        };
        let candidates = |index: usize| self.slots.get(index).into_iter().flat_map(Slot::complete).take(limit);
        let mut pairs = candidates(first).flat_map(|one| candidates(2).map(move |two| (one, two)));
        let is_genuine = |(one, two): &(Complete<'_>, Complete<'_>)| {
            budget.spend(now) && is_signed(&self.proof, self.base, &certificate, der, [one.body, two.body])
        };
        let Some((one, two)) = pairs.find(is_genuine) else { return Outcome::Pending };
        if !is_match {
            return Outcome::Mismatch;
        }
        // Unsigned messages are missing: the next datagram asks again.
        self.is_changed = true;
        self.finish(&certificate, one, two)
            .map_or(Outcome::Pending, |messages| Outcome::Genuine { messages, certificate: der.to_vec() })
    }

    const fn certificate_slot(&self) -> usize {
        match self.role() {
            Role::Server => 0,
            Role::Client => 1,
        }
    }

    fn latest(&self, index: usize) -> Option<&[u8]> {
        self.slots.get(index)?.complete().next().map(|c| c.body)
    }

    /// The authentic messages in order; a server's flight also needs its unsigned end.
    fn finish(&self, certificate: &[u8], one: Complete<'_>, two: Complete<'_>) -> Option<Vec<Message>> {
        use message::{CERTIFICATE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE};
        let owned = |part: Complete<'_>| (part.kind, part.body.to_vec());
        let certificate = (CERTIFICATE, certificate.to_vec());
        if self.role() == Role::Server {
            return Some(self.number([certificate, owned(one), owned(two)]));
        }
        // Nothing signs these two. What came with the signed key exchange, or soonest after it, is taken.
        let beside = |index: usize, kind: u8| {
            let all = self.slots.get(index)?.complete().filter(|c| c.kind == kind && c.datagram >= two.datagram);
            all.min_by_key(|c| c.datagram)
        };
        let mut parts = vec![owned(one), certificate, owned(two)];
        match (beside(3, CERTIFICATE_REQUEST), beside(3, SERVER_HELLO_DONE)) {
            (Some(request), done) if done.is_none_or(|done| request.datagram <= done.datagram) => {
                parts.extend([owned(request), owned(beside(4, SERVER_HELLO_DONE)?)]);
            }
            (_, done) => parts.push(owned(done?)),
        }
        Some(self.number(parts))
    }

    fn number(&self, parts: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Vec<Message> {
        let numbered = parts.into_iter().zip(0u16..);
        numbered.map(|((kind, body), index)| Message { kind, seq: self.base.wrapping_add(index), body }).collect()
    }
}

fn is_expected(role: Role, index: usize, part: Fragment<'_>) -> bool {
    let kinds: &[u8] = match (role, index) {
        (Role::Server, 0) | (Role::Client, 1) => &[message::CERTIFICATE],
        (Role::Server, 1) => &[message::CLIENT_KEY_EXCHANGE],
        (Role::Server, 2) => &[message::CERTIFICATE_VERIFY],
        (Role::Client, 0) => &[message::SERVER_HELLO],
        (Role::Client, 2) => &[message::SERVER_KEY_EXCHANGE],
        (Role::Client, 3) => &[message::CERTIFICATE_REQUEST, message::SERVER_HELLO_DONE],
        (Role::Client, 4) => &[message::SERVER_HELLO_DONE],
        _ => &[],
    };
    let is_shaped = part.kind != message::SERVER_HELLO_DONE || part.total == 0;
    is_shaped && kinds.contains(&part.kind)
}

/// The leaf of a Certificate message (RFC 5246 §7.4.2).
fn leaf(body: &[u8]) -> Option<&[u8]> {
    let mut list = Reader(Reader(body).vec24()?);
    list.vec24().filter(|der| !der.is_empty())
}

fn is_signed(proof: &Proof, base: u16, certificate: &[u8], der: &[u8], [one, two]: [&[u8]; 2]) -> bool {
    match proof {
        // RFC 5246 §7.4.8: all handshake messages up to, not including, CertificateVerify
        Proof::Transcript(ours) => {
            let mut data = ours.clone();
            let number = |kind, seq, body: &[u8]| Message { kind, seq, body: body.to_vec() };
            number(message::CERTIFICATE, base, certificate).emit(&mut data);
            number(message::CLIENT_KEY_EXCHANGE, base.wrapping_add(1), one).emit(&mut data);
            verify(der, &data, two)
        }
        // RFC 8422 §5.4: client random, server random, parameters
        Proof::ClientRandom(random) => {
            let mut reader = Reader(two);
            let is_parsed = reader.take(3).and_then(|_| reader.vec8()).is_some();
            let (Some(server_random), true) = (one.get(2..34), is_parsed) else { return false };
            let params = two.get(..two.len() - reader.0.len()).unwrap_or_default();
            verify(der, &[random, server_random, params].concat(), reader.0)
        }
    }
}

/// Verifies a digitally-signed struct (RFC 5246 §4.7): hash, algorithm, signature.
fn verify(der: &[u8], data: &[u8], signed: &[u8]) -> bool {
    let mut reader = Reader(signed);
    let (Some(hash), Some(algorithm), Some(signature)) = (reader.u8(), reader.u8(), reader.vec16()) else {
        return false;
    };
    let hash = match hash {
        4 => HashAlgorithm::SHA256,
        5 => HashAlgorithm::SHA384,
        _ => return false,
    };
    let is_ecdsa = algorithm == 3 && reader.0.is_empty();
    is_ecdsa && library::verifier().verify_signature(der, data, signature, hash, SignatureAlgorithm::ECDSA).is_ok()
}

/// A token bucket: `per_second` at once, refilled evenly.
#[derive(Debug)]
struct Budget {
    per_second: u32,
    left: u32,
    refilled_at: Instant,
}

impl Budget {
    const fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, refilled_at: now }
    }

    fn spend(&mut self, now: Instant) -> bool {
        let step = Duration::from_secs(1) / self.per_second;
        let steps = now.saturating_duration_since(self.refilled_at).as_nanos() / step.as_nanos().max(1);
        if steps > 0 {
            self.left = self.left.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX)).min(self.per_second);
            self.refilled_at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Budget;

    #[test]
    fn a_budget_is_spent_and_refilled() {
        let start = Instant::now();
        let mut budget = Budget::new(8, start);
        assert_eq!((0..20).filter(|_| budget.spend(start)).count(), 8);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..20).filter(|_| budget.spend(later)).count(), 2);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| budget.spend(much_later)).count(), 8, "never more than one second's worth");
    }
}

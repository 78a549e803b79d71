// SPDX-License-Identifier: Apache-2.0
//! One association: datagrams and time in, datagrams and SRTP keys out.

use std::time::Instant;

use crate::{Fingerprint, Identity, KeyHalf, SrtpProfileId};

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
    /// The peer's certificate has none of the signalled fingerprints.
    #[error("the peer's certificate does not match the signalled fingerprint")]
    FingerprintMismatch,
    /// The handshake completed without a common SRTP profile; there is no media without one.
    #[error("no SRTP protection profile was negotiated")]
    NoSrtpProfile,
    /// The handshake did not complete in time.
    #[error("the handshake did not complete in time")]
    Timeout {
        /// Last unauthenticated fatal alert seen, a hint for the operator only.
        alert: Option<u8>,
    },
    /// The peer refused in an authenticated alert (RFC 5246 §7.2).
    #[error("the peer sent the fatal alert {0}")]
    Alert(u8),
    /// The handshake cannot succeed, or the library gave up.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// What the association wants done.
#[derive(Debug)]
pub enum Event {
    /// Send this datagram to the peer.
    Transmit(Vec<u8>),
    /// The handshake completed and the peer is who the signalling said.
    Connected {
        /// Negotiated SRTP profile.
        profile: SrtpProfileId,
        /// What we protect with.
        local: KeyHalf,
        /// What the peer protects with.
        remote: KeyHalf,
    },
    /// The association is dead; it yields nothing more.
    Failed(Reason),
}

/// One DTLS 1.2 association with one peer.
#[derive(Debug)]
pub struct Association {
    role: Role,
    deadline: Instant,
}

impl Association {
    /// Prepares an association; a client's first hello is available from [`Self::poll`] at once.
    #[must_use]
    pub fn new(identity: &Identity, role: Role, expected: Vec<Fingerprint>, now: Instant) -> Self {
        let _ = (identity, expected);
        Self { role, deadline: now }
    }

    /// Our side of the handshake.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Takes one datagram from the peer's validated address; whatever it holds, this cannot fail.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) {
        let _ = (datagram, now);
    }

    /// The next event; call until `None` after `new`, after each `receive` and at each deadline.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        let _ = now;
        None
    }

    /// When `poll` must be called next even if nothing arrives.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the object can be dropped: failed and drained, or 30 s past completion.
    #[must_use]
    pub fn is_disposable(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

// SPDX-License-Identifier: Apache-2.0
//! DTLS associations: a sans-IO wrapper over `dimpl` with deadlines and bounds.
//!
//! One [`Association`] carries one DTLS 1.2 handshake (RFC 6347) and yields the SRTP keys of RFC 5764. The caller feeds
//! datagrams that came from a *validated* 5-tuple, polls events, and drops the object when [`Association::is_disposable`].
//!
//! It must never hand out a key before the peer's certificate matched a signalled fingerprint and the peer proved that
//! it holds the certificate's key; never fall back to plaintext when no SRTP profile is agreed; never send
//! `close_notify`; never let an unauthenticated datagram end or reset a handshake; never print a secret.
#![forbid(unsafe_code)]

mod association;
mod fingerprint;
mod hello;
mod identity;
mod keys;
mod library;
mod peer_flight;
mod reassembly;
mod record;

pub use association::{Association, Event, HANDSHAKE_TIMEOUT, HELLO_TIMEOUT, LINGER, Reason, Role};
pub use fingerprint::{Fingerprint, FingerprintAlgorithm, FingerprintError};
pub use identity::{Identity, IdentityError};
pub use keys::{KeyHalf, SrtpProfileId};

// SPDX-License-Identifier: Apache-2.0
//! What publisher and viewer answers share.
use crate::ids::Mid;
use crate::offer::{Fingerprint, MediaKind};

/// Our side of the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// We wait for the client's hello (`a=setup:passive`).
    Server,
    /// We send the first hello (`a=setup:active`).
    Client,
}

/// What the DTLS handshake needs from the offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsFacts {
    /// Our role.
    pub we_are: DtlsRole,
    /// Fingerprints of the strongest hash function offered; the certificate of the client must match one of them.
    pub remote_fingerprints: Vec<Fingerprint>,
}

/// An m-line that the answer rejects (port 0), and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the offer, the first is 0.
    pub index: usize,
    /// Its mid, if it has one.
    pub mid: Option<Mid>,
    /// What it is for.
    pub kind: MediaKind,
    /// Why, for logs and for the person who wrote the client.
    pub reason: String,
}

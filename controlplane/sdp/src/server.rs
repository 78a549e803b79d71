// SPDX-License-Identifier: Apache-2.0
//! What the server puts of its own into an answer. It must never show the ICE password in a log.

use std::fmt;
use std::net::IpAddr;

/// Preference of host candidates (RFC 8445 §5.1.2.2).
const HOST_TYPE_PREFERENCE: u32 = 126;

/// A host candidate of the server, component 1, UDP (RFC 8839 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Equal for candidates with the same base address (RFC 8445 §5.1.1.3); ice-chars, at most 32.
    pub foundation: String,
    /// Priority, higher is preferred (RFC 8445 §5.1.2).
    pub priority: u32,
    /// Address that media arrives at.
    pub ip: IpAddr,
    /// UDP port that media arrives at.
    pub port: u16,
}

impl Candidate {
    /// The host candidate `rank` of a server (0 is the most preferred), with the priority of RFC 8445 §5.1.2.1.
    pub fn host(ip: IpAddr, port: u16, rank: u16) -> Self {
        let local_preference = u32::from(u16::MAX - rank);
        let priority = (HOST_TYPE_PREFERENCE << 24) + (local_preference << 8) + 255;
        Self { foundation: (u32::from(rank) + 1).to_string(), priority, ip, port }
    }
}

/// Everything in an answer that is the server's own.
#[derive(Clone)]
pub struct ServerParams<'a> {
    /// ICE username fragment, 4 to 256 ice-chars.
    pub ice_ufrag: &'a str,
    /// ICE password, 22 to 256 ice-chars. Not shown by `Debug`.
    pub ice_pwd: &'a str,
    /// SHA-256 of the DER of the certificate that DTLS presents.
    pub fingerprint_sha256: [u8; 32],
    /// Host candidates; the first one also fills the `c=` and `m=` lines.
    pub candidates: &'a [Candidate],
    /// Number of the session in `o=`, equal in all answers of one session; below 2^63 (RFC 8829 §5.2.1).
    pub session_id: u64,
    /// Version in `o=`: 1 in the first answer, one more with each further answer of the session (RFC 3264 §8).
    pub session_version: u64,
    /// True if candidates of the client are taken after the answer (RFC 9725 §4.3), told with `trickle`.
    pub takes_trickle: bool,
}

impl fmt::Debug for ServerParams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerParams")
            .field("ice_ufrag", &self.ice_ufrag)
            .field("candidates", &self.candidates)
            .field("session_id", &self.session_id)
            .field("session_version", &self.session_version)
            .field("takes_trickle", &self.takes_trickle)
            .finish_non_exhaustive()
    }
}

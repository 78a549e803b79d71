// SPDX-License-Identifier: Apache-2.0
//! ICE policy: credentials, candidates, restarts.
//!
//! The data plane answers connectivity checks itself (ICE-lite, RFC 8445 §2.5). Here is what it is programmed with:
//! which credentials are valid, which candidates are signalled, and when an ICE restart's old credentials end. This
//! crate must never open a socket, read a clock, or print a password.
#![forbid(unsafe_code)]

mod candidate;
mod credentials;
mod restart;

pub use candidate::{Candidate, ExternalAddress, HostCandidates, MAX_CANDIDATES};
pub use credentials::{CredentialError, Credentials, RemoteCredentials};
pub use restart::CredentialSlots;

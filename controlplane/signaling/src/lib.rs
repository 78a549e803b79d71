// SPDX-License-Identifier: Apache-2.0
//! WHIP (RFC 9725), WHEP and the REST surface: HTTP in, [`Request`]s out, answers and problems back.
//!
//! It must never decide anything about rooms, parse SDP, block, or log what a peer sent. Requests go to the session
//! core over a bounded queue; a full queue is an answer (503), not a wait.
#![forbid(unsafe_code)]

mod access;
mod page;
mod problem;
mod request;
mod router;
mod token;

pub use access::Access;
pub use problem::{Problem, ProblemKind};
pub use request::{Accepted, Client, Refusal, Request, ResourceId, SdpText};
pub use router::{Signaling, router};
pub use token::{Claims, Grant, TokenError, TokenKey};

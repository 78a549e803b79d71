// SPDX-License-Identifier: Apache-2.0
//! How the planes and the tools reach the descriptors that the keeper holds.
//!
//! The keeper listens on a Unix socket; a client says who it is, the keeper looks at its credentials and answers with one
//! message of names and descriptors (SCM_RIGHTS). What a role gets is least: the control plane never sees the packet
//! store, a reader sees counters and intent read-only and never the keys.
#![forbid(unsafe_code)]

pub mod handover;

pub use handover::{Handed, HandoverError, Role, SOCKET_NAME, request};

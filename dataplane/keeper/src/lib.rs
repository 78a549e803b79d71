// SPDX-License-Identifier: Apache-2.0
//! How the planes and the tools reach the descriptors that the keeper holds.
//!
//! The keeper listens on a Unix socket; a client says who it is, the keeper looks at its credentials and answers with one
//! message of names and descriptors (SCM_RIGHTS). What a role gets is least: the control plane never sees the packet
//! store, a reader sees counters and intent read-only and never the keys.
#![forbid(unsafe_code)]

pub mod handover;

pub use handover::{Handed, HandoverError, Role, SOCKET_NAME, request};

/// Where the keeper's socket and the pid files lie unless something else is said: the XDG runtime directory of a person,
/// `/run/millrace` for root.
#[must_use]
pub fn default_runtime_dir() -> std::path::PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() && !rustix::process::geteuid().is_root() => {
            std::path::PathBuf::from(dir).join("millrace")
        }
        _ => std::path::PathBuf::from("/run/millrace"),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! How the planes and the tools reach the descriptors that the keeper holds.
//!
//! The keeper listens on a Unix socket; a client says who it is, the keeper looks at its credentials and answers with one
//! message of names and descriptors (SCM_RIGHTS). What a role gets is least: the control plane never sees the packet
//! store, a reader sees counters and intent read-only and never the keys.
//!
//! What is held ([`hold`], [`fast_path`]) is here too: a data plane that serves a table holds its descriptors itself.
#![forbid(unsafe_code)]

pub mod fast_path;
pub mod handover;
pub mod hold;
pub mod powers;

/// What the keeper asks for per UDP socket and direction, bytes.
pub use dataplane_io::socket::BUFFER_BYTES as SOCKET_BUFFER_BYTES;
pub use handover::{Handed, HandoverError, Role, SOCKET_NAME, ready, request};

use std::io::Write;
use std::path::PathBuf;

/// Exit status of a data plane that has lost its interface: started again, it gets fresh sockets, or none.
pub const REOPEN: u8 = 75;

/// A line on standard error, where lifecycle belongs, behind the program's name.
pub fn say(text: &str) {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(std::path::Path::file_name).unwrap_or_else(|| "millrace".as_ref());
    let _ = writeln!(std::io::stderr(), "{}: {text}", name.display());
}

/// Where the keeper's socket and the pid files lie unless something else is said: `/run/millrace` for root, the XDG runtime
/// directory of a person, or where there is none (no login session) `run` in the folder of their state.
#[must_use]
pub fn default_runtime_dir() -> PathBuf {
    runtime_dir(|name| std::env::var_os(name).map(PathBuf::from), rustix::process::geteuid().is_root())
}

/// The XDG base directory specification ignores relative paths.
fn runtime_dir(env: impl Fn(&str) -> Option<PathBuf>, is_root: bool) -> PathBuf {
    let folder = |name: &str| env(name).filter(|dir| dir.is_absolute());
    if is_root {
        return PathBuf::from("/run/millrace");
    }
    if let Some(dir) = folder("XDG_RUNTIME_DIR") {
        return dir.join("millrace");
    }
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.map_or_else(|| PathBuf::from("/run/millrace"), |state| state.join("millrace/run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_person_has_a_folder_of_their_own() {
        let dir = |env: &[(&str, &str)], is_root| {
            let look = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
            runtime_dir(look, is_root).display().to_string()
        };
        let all = [("XDG_RUNTIME_DIR", "/run/user/7"), ("XDG_STATE_HOME", "/st"), ("HOME", "/home/a")];
        assert_eq!(dir(&all, true), "/run/millrace");
        assert_eq!(dir(&all, false), "/run/user/7/millrace");
        assert_eq!(dir(&all[1..], false), "/st/millrace/run");
        assert_eq!(dir(&all[2..], false), "/home/a/.local/state/millrace/run");
        assert_eq!(dir(&[("XDG_RUNTIME_DIR", "relative")], false), "/run/millrace");
    }
}

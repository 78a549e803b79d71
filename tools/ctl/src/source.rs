// SPDX-License-Identifier: Apache-2.0
//! The way to the counters: keeper → read-only descriptors → a mapping of them. Needs the keeper, and neither plane.

use std::io::ErrorKind;
use std::path::Path;

use dataplane_keeper::{HandoverError, Role, SOCKET_NAME};
use dataplane_shm::{Access, AttachError, AttachFds, Segment};

/// Why the counters cannot be read, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// No socket there.
    #[error(
        "no keeper runs with the runtime directory {0} (there is no {SOCKET_NAME} in it); start Millrace with `cargo xtask run` or millrace-keeper, or name its --runtime-dir"
    )]
    NotRunning(String),
    /// A socket that nobody serves.
    #[error("the keeper that made {0}/{SOCKET_NAME} has ended; start Millrace again, or name another --runtime-dir")]
    Ended(String),
    /// Another person's.
    #[error("{0}/{SOCKET_NAME} belongs to another user; ask as that user, or with sudo")]
    Permission(String),
    /// The keeper's own words.
    #[error("{0}")]
    Handover(HandoverError),
    /// Nothing forwards.
    #[error("the data plane is {0}, so nothing can be measured; `millrace status` says what is wrong")]
    NoDataPlane(&'static str),
    /// A receiver of nothing.
    #[error("a receiver with --kbps 0 and --pps 0 gets no packets: name one of them")]
    NoPackets,
    /// Another build.
    #[error(
        "cannot read the server's counters: {0}; use the `millrace` that was built together with the running server"
    )]
    Attach(#[from] AttachError),
}

/// Maps the counters of the server whose keeper listens in `runtime_dir`.
pub(crate) fn attach(runtime_dir: &Path) -> Result<Segment, SourceError> {
    let handed = dataplane_keeper::request(runtime_dir, Role::Reader).map_err(|error| explain(error, runtime_dir))?;
    let intent = handed.borrow("intent").map_err(SourceError::Handover)?;
    let durable = handed.borrow("durable").map_err(SourceError::Handover)?;
    let fds = AttachFds { intent: Some(intent), durable: Some(durable), ..AttachFds::default() };
    Ok(Segment::attach(fds, Access::Reader)?)
}

fn explain(error: HandoverError, runtime_dir: &Path) -> SourceError {
    let dir = runtime_dir.display().to_string();
    let HandoverError::Connect { source, .. } = &error else {
        return if matches!(error, HandoverError::Refused(_)) {
            SourceError::Permission(dir)
        } else {
            SourceError::Handover(error)
        };
    };
    let kind = source.kind();
    if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
        SourceError::NotRunning(dir)
    } else if kind == ErrorKind::ConnectionRefused {
        SourceError::Ended(dir)
    } else if kind == ErrorKind::PermissionDenied {
        SourceError::Permission(dir)
    } else {
        SourceError::Handover(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(kind: ErrorKind) -> String {
        let error = HandoverError::Connect { path: "/x/keeper.sock".into(), source: kind.into() };
        explain(error, Path::new("/x")).to_string()
    }

    #[test]
    fn what_hinders_is_said_with_its_remedy() {
        assert!(connect(ErrorKind::NotFound).contains("start Millrace"));
        assert!(connect(ErrorKind::ConnectionRefused).contains("has ended"));
        assert!(connect(ErrorKind::PermissionDenied).contains("sudo"));
        assert!(attach(Path::new("/nonexistent")).unwrap_err().to_string().contains("--runtime-dir"));
    }
}

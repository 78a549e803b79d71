// SPDX-License-Identifier: Apache-2.0
//! The Unix socket: who asks, and whether it is who it says.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dataplane_keeper::{Role, SOCKET_NAME, handover};

use crate::supervise::Planes;
use dataplane_keeper::hold::Held;
use dataplane_keeper::say;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Before the next try where a client cannot be accepted (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on a thread of its own. The runtime directory is this keeper's: a socket that lies there is a dead one's.
pub(crate) fn start(runtime_dir: &Path, held: Arc<Held>, planes: Arc<Planes>) -> anyhow::Result<()> {
    let path = runtime_dir.join(SOCKET_NAME);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    std::thread::Builder::new().name("handover".into()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // One after the other: a client that says nothing costs two seconds, and only our own user can connect.
            if let Err(error) = answer(&stream, &held, &planes) {
                say(&format!("handing over failed: {error:#}"));
            }
        }
    })?;
    Ok(())
}

fn answer(stream: &UnixStream, held: &Held, planes: &Planes) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let peer = rustix::net::sockopt::socket_peercred(stream).context("cannot learn who asks")?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
    let mut word = String::new();
    BufReader::with_capacity(64, std::io::Read::take(stream, 64)).read_line(&mut word)?;
    let word = word.trim_end();
    if word == handover::READY {
        let told = if planes.note_ready(pid) {
            handover::note(stream)
        } else {
            handover::refuse(stream, "this process was not started by the keeper")
        };
        return Ok(told?);
    }
    let Some(role) = Role::from_word(word) else {
        return Ok(handover::refuse(stream, "say dataplane, controlplane, reader or ready")?);
    };
    let is_ours = peer.uid == rustix::process::geteuid() || peer.uid.is_root();
    let is_allowed = match role {
        Role::DataPlane | Role::ControlPlane => {
            planes.is_current(role.word(), pid) || (is_ours && planes.adopt(role.word(), pid))
        }
        Role::Reader => is_ours,
    };
    if !is_allowed {
        return Ok(handover::refuse(stream, planes.why_not())?);
    }
    let lent = held.lend(role);
    let mut descriptors = held.of(role);
    if let Some(lent) = &lent {
        descriptors.extend(lent.descriptors());
    }
    handover::send(stream, &descriptors)?;
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! What the keeper holds, and what each role may see of it.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataplane_abi::limits::Capacities;
use dataplane_io::socket::{BUFFER_BYTES, SocketBuffers};
use dataplane_shm::{Segment, SegmentFds};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

use crate::fast_path::{FastPath, Lent, Wish};
use crate::{Handed, Role};

/// How long a port may stay taken after its last owner has ended.
const PORT_RELEASE: Duration = Duration::from_secs(2);

/// Descriptors that outlive both planes.
pub struct Held {
    segment: SegmentFds,
    mapped: Segment,
    fast_path: Option<FastPath>,
    durable_read_only: OwnedFd,
    intent_read_only: OwnedFd,
    keys_read_only: OwnedFd,
    sockets: Vec<OwnedFd>,
    wake_workers: Vec<OwnedFd>,
    wake_control: OwnedFd,
}

impl Held {
    /// Makes the segment, binds one socket per worker, makes the wake-ups.
    ///
    /// # Errors
    /// What the system refuses, with the remedy where there is one.
    pub fn make(media_port: u16, capacities: &Capacities) -> anyhow::Result<Self> {
        let (segment, mapped) = Segment::create(capacities).context("cannot make the shared segment")?;
        let workers = capacities.workers;
        let sockets = bind(media_port, workers as usize)?;
        let wake = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("cannot make an eventfd");
        Ok(Self {
            durable_read_only: read_only(&segment.durable)?,
            intent_read_only: read_only(&segment.intent)?,
            keys_read_only: read_only(&segment.keys)?,
            segment,
            mapped,
            fast_path: None,
            sockets,
            wake_workers: (0..workers).map(|_| wake()).collect::<Result<_, _>>()?,
            wake_control: wake()?,
        })
    }

    /// Opens the way past the kernel's stack. Where it is not to be had and is not `required`, the sockets serve.
    ///
    /// # Errors
    /// Why there is no AF_XDP port, where it is required.
    pub fn open_fast_path(&mut self, wish: Wish, required: bool) -> anyhow::Result<()> {
        let (path, result) = FastPath::open(wish, self.mapped.clone());
        match result {
            Err(why) if required => anyhow::bail!("no AF_XDP port: {why}"),
            Err(why) => path.complain(&why),
            Ok(()) => {}
        }
        self.fast_path = Some(path);
        Ok(())
    }

    /// The segment, all of it writable.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.mapped
    }

    /// All that a data plane gets, for one in this process.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn hand_over(&self) -> std::io::Result<Handed> {
        let lent = self.lend(Role::DataPlane);
        let mut descriptors = self.of(Role::DataPlane);
        descriptors.extend(lent.iter().flat_map(Lent::descriptors));
        Handed::duplicates(&descriptors)
    }

    /// Whether a data plane that starts now would get an AF_XDP port which the running one has not.
    #[must_use]
    pub fn is_interface_back(&self) -> bool {
        self.fast_path.as_ref().is_some_and(FastPath::is_back)
    }

    /// What a role gets that is made for it alone, and for this once.
    #[must_use]
    pub fn lend(&self, role: Role) -> Option<Lent<'_>> {
        self.fast_path.as_ref().filter(|_| role == Role::DataPlane).map(FastPath::lend)
    }

    /// One line about the sockets' buffers, with the remedy where the system's limits keep them small.
    #[must_use]
    pub fn buffers(&self) -> Option<String> {
        let buffers = dataplane_io::socket::buffers(self.sockets.first()?).ok()?;
        Some(buffer_line(buffers))
    }

    /// The descriptors of a role, by name.
    #[must_use]
    pub fn of(&self, role: Role) -> Vec<(String, BorrowedFd<'_>)> {
        let mut list: Vec<(String, BorrowedFd<'_>)> = Vec::new();
        let wakes = self.wake_workers.iter().enumerate().map(|(index, fd)| (format!("wake{index}"), fd.as_fd()));
        match role {
            Role::DataPlane => {
                list.push(("intent".into(), self.segment.intent.as_fd()));
                list.push(("keys".into(), self.keys_read_only.as_fd()));
                list.push(("durable".into(), self.segment.durable.as_fd()));
                list.push(("store".into(), self.segment.store.as_fd()));
                list.extend(self.sockets.iter().enumerate().map(|(index, fd)| (format!("udp{index}"), fd.as_fd())));
                list.extend(wakes);
                list.push(("control".into(), self.wake_control.as_fd()));
            }
            Role::ControlPlane => {
                list.push(("intent".into(), self.segment.intent.as_fd()));
                list.push(("keys".into(), self.segment.keys.as_fd()));
                list.push(("durable".into(), self.durable_read_only.as_fd()));
                list.extend(wakes);
                list.push(("control".into(), self.wake_control.as_fd()));
            }
            Role::Reader => {
                list.push(("intent".into(), self.intent_read_only.as_fd()));
                list.push(("durable".into(), self.durable_read_only.as_fd()));
            }
        }
        list
    }
}

/// Binds the group. The kernel lets go of a ring's socket a moment after the process that had it has ended, so a port that
/// is taken is tried again for as long.
fn bind(port: u16, workers: usize) -> anyhow::Result<Vec<OwnedFd>> {
    let until = Instant::now() + PORT_RELEASE;
    loop {
        match dataplane_io::socket::bind_group(port, workers) {
            Ok(sockets) => return Ok(sockets),
            Err(error) if error.source.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) if error.source.kind() == ErrorKind::AddrInUse => {
                anyhow::bail!("UDP port {port} is taken; is another Millrace running? name another --media-port")
            }
            Err(error) => anyhow::bail!("cannot bind UDP port {port}: {error}"),
        }
    }
}

/// The kernel counts its own bookkeeping, so that it names twice of what was asked for.
fn buffer_line(buffers: SocketBuffers) -> String {
    let (receive, send) = (buffers.receive_bytes / 2, buffers.send_bytes / 2);
    let sizes = format!("UDP buffers: {} KiB to receive, {} KiB to send", receive >> 10, send >> 10);
    if receive.min(send) >= BUFFER_BYTES / 2 {
        return sizes;
    }
    format!(
        "{sizes}; bursts are lost. As root: sysctl -w net.core.rmem_max={BUFFER_BYTES} net.core.wmem_max={BUFFER_BYTES}, \
         then start again"
    )
}

/// The same memory through a descriptor that cannot be mapped writable.
fn read_only(memfd: &OwnedFd) -> anyhow::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open a memfd read-only; is /proc mounted?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_told_with_their_remedy() {
        let of = |bytes| buffer_line(SocketBuffers { receive_bytes: bytes, send_bytes: 2 * BUFFER_BYTES });
        assert_eq!(of(2 * BUFFER_BYTES), "UDP buffers: 8192 KiB to receive, 8192 KiB to send");
        assert!(of(425_984).contains("208 KiB to receive") && of(425_984).contains("net.core.rmem_max=8388608"));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the keeper holds, and what each role may see of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use dataplane_abi::limits::Capacities;
use dataplane_keeper::Role;
use dataplane_shm::{Segment, SegmentFds};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

/// Descriptors that outlive both planes.
pub(crate) struct Held {
    segment: SegmentFds,
    durable_read_only: OwnedFd,
    intent_read_only: OwnedFd,
    keys_read_only: OwnedFd,
    sockets: Vec<OwnedFd>,
    wake_workers: Vec<OwnedFd>,
    wake_control: OwnedFd,
}

impl Held {
    /// Makes the segment, binds one socket per worker, makes the wake-ups.
    pub(crate) fn make(media_port: u16, workers: u16) -> anyhow::Result<Self> {
        let capacities = Capacities { workers: u32::from(workers), ..Capacities::DEFAULT };
        let (segment, _) = Segment::create(&capacities).context("cannot make the shared segment")?;
        let sockets = dataplane_io::socket::bind_group(media_port, usize::from(workers)).with_context(|| {
            format!("cannot bind UDP port {media_port}; is another Millrace running? name another --media-port")
        })?;
        let wake = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("cannot make an eventfd");
        Ok(Self {
            durable_read_only: read_only(&segment.durable)?,
            intent_read_only: read_only(&segment.intent)?,
            keys_read_only: read_only(&segment.keys)?,
            segment,
            sockets,
            wake_workers: (0..workers).map(|_| wake()).collect::<Result<_, _>>()?,
            wake_control: wake()?,
        })
    }

    /// The descriptors of a role, by name.
    pub(crate) fn of(&self, role: Role) -> Vec<(String, BorrowedFd<'_>)> {
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

/// The same memory through a descriptor that cannot be mapped writable.
fn read_only(memfd: &OwnedFd) -> anyhow::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open a memfd read-only; is /proc mounted?")
}

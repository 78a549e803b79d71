// SPDX-License-Identifier: Apache-2.0
//! The AF_XDP port: frames straight from and to the queues of an interface.
//!
//! ```text
//!  keeper       setup::PortMemory ── umem, frames, xsk0 … ──▶ data plane: open ── one XdpPort per worker
//!  queue        fill ring ─▶ kernel ─▶ rx rings ─▶ XdpPort::receive … release ─▶ fill ring
//!  worker       free list ─▶ reserve, commit, flush ─▶ tx ring ─▶ kernel ─▶ completion ring ─▶ reap ─▶ free list
//!  shared queue a frame that comes out at another worker goes home over an SPSC ring (`returns`)
//! ```
//!
//! Who holds a frame is in the frame table before any ring's index says so (`dataplane_shm::frames`). A worker transmits
//! on its own queue only; a path whose next hop is not known here is not served: the socket port has it. It must never
//! wait for room, and never touch a frame that the kernel has.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use dataplane_shm::frames::FrameTableError;

use crate::socket::SetupError;

pub mod geometry;
pub mod setup;

mod frames;
mod head;
mod nap;
mod open;
mod port;
mod returns;
mod ring;

pub use geometry::{Geometry, Interface, Mode, Pair};
pub use head::{HEAD_BYTES, Head};
pub use open::{CopyMode, Opened, PortParts, SocketStatistics, Statistics, XdpConfig, XdpStatus, open};
pub use port::XdpPort;
pub use setup::PortMemory;

/// Why an AF_XDP port cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A number that this build does not serve.
    #[error("AF_XDP geometry: {what} is {found}, must be {least} to {most} (rings: a power of two)")]
    Geometry {
        /// Which number.
        what: &'static str,
        /// Found.
        found: u32,
        /// Least.
        least: u32,
        /// Most.
        most: u32,
    },
    /// The memory has no geometry.
    #[error("AF_XDP geometry: the memory does not begin with one")]
    NoGeometry,
    /// The geometry is another version's.
    #[error("AF_XDP geometry: version {found}, ours is {ours}")]
    Version {
        /// Found.
        found: u16,
        /// Ours.
        ours: u16,
    },
    /// The sockets are not those of the geometry.
    #[error("AF_XDP: {found} sockets were handed over, the geometry has {expected}")]
    Sockets {
        /// Handed over.
        found: usize,
        /// Expected.
        expected: usize,
    },
    /// The frame table is not usable.
    #[error(transparent)]
    Table(#[from] FrameTableError),
}

impl XdpError {
    fn os(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

impl From<SetupError> for XdpError {
    fn from(error: SetupError) -> Self {
        Self::System { what: error.what, source: error.source }
    }
}

/// Sets an option of an AF_XDP socket.
fn socket_option<T: Copy>(socket: BorrowedFd<'_>, name: i32, what: &'static str, value: &T) -> Result<(), XdpError> {
    let (fd, bytes) = (socket.as_raw_fd(), u32::try_from(size_of::<T>()).unwrap_or(0));
    // SAFETY: because `value` outlives the call and its length is given; the socket is open as long as it is borrowed.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_XDP, name, core::ptr::from_ref(value).cast(), bytes) };
    if result == 0 { Ok(()) } else { Err(XdpError::System { what, source: io::Error::last_os_error() }) }
}

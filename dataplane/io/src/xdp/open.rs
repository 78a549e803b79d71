// SPDX-License-Identifier: Apache-2.0
//! The unprivileged half of an AF_XDP port, done by the data plane: rings mapped, sockets bound, frames dealt out.
//!
//! Rings are mapped before the sockets are bound, which Linux 6.1 wants. Zero-copy is tried first where the classifier is
//! native; what was obtained and why is returned, never hidden. A queue is busy until the last socket of a predecessor is
//! gone, which the kernel does some time after the process: that is waited for, for a second.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane_abi::frames::{GEOMETRY_BYTES, frame_layout};
use dataplane_shm::Mapping;
use dataplane_shm::frames::FrameTable;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::fstat;

use super::frames::{Frames, Keep, Lane, Nudges, Socket};
use super::geometry::{Geometry, Mode, Pair};
use super::port::XdpPort;
use super::ring::{self, Ring};
use super::{XdpError, returns};
use crate::memory::Region;
use crate::nexthop::NextHops;
use crate::socket::SetupError;

/// How long a busy queue is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// What the keeper has handed over.
#[derive(Debug)]
pub struct PortParts {
    /// The frames (`umem`).
    pub umem: OwnedFd,
    /// Geometry and frame table (`frames`).
    pub frames: OwnedFd,
    /// Fresh sockets in the order of [`Geometry::pairs`] (`xsk0`, `xsk1`, …).
    pub sockets: Vec<OwnedFd>,
}

/// How the ports are to behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpConfig {
    /// Paths that may be open at a time, per worker; as many as the socket port's.
    pub paths: u32,
    /// Whether datagrams over IPv4 carry a checksum. Without one NAT64 and some carriers' NATs drop them.
    pub has_v4_checksum: bool,
}

impl Default for XdpConfig {
    /// 32,768 paths × 160 B = 5 MiB per worker, touched as used.
    fn default() -> Self {
        Self { paths: 32_768, has_v4_checksum: true }
    }
}

/// How frames get into and out of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyMode {
    /// The device reads and writes the UMEM itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// What was obtained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpStatus {
    /// The geometry.
    pub geometry: Geometry,
    /// Zero-copy or copy.
    pub copy_mode: CopyMode,
    /// Why not zero-copy.
    pub why_copy: Option<String>,
    /// How long a queue was busy with a predecessor's sockets.
    pub waited: Duration,
}

/// The ports of all workers, and what they are.
#[derive(Debug)]
pub struct Opened {
    /// One port per worker, in their order; each belongs to its worker's thread from here on.
    pub ports: Vec<XdpPort>,
    /// What was obtained.
    pub status: XdpStatus,
    /// The sockets' counters, for a thread that is no worker.
    pub statistics: Statistics,
}

/// Opens the ports of all workers on fresh sockets. Every frame is freed: no earlier port may be alive.
///
/// # Errors
/// What the kernel says, naming the step; parts that do not fit each other.
pub fn open(parts: PortParts, next_hops: &Arc<NextHops>, config: XdpConfig) -> Result<Opened, XdpError> {
    let PortParts { umem, frames, sockets } = parts;
    let geometry = Geometry::read(frames.as_fd())?;
    let pairs: Vec<Pair> = geometry.pairs().collect();
    if sockets.len() != pairs.len() {
        return Err(XdpError::Sockets { found: sockets.len(), expected: pairs.len() });
    }
    let table = attach(&geometry, umem.as_fd(), frames.as_fd())?;
    let mut mapped = Vec::new();
    for (pair, fd) in pairs.iter().zip(sockets) {
        mapped.push(map(&geometry, *pair, fd)?);
    }
    let status = bind_all(&geometry, &mapped)?;
    // Every queue is ours: nobody else has a frame.
    table.free_all().map_err(|_| XdpError::NoGeometry)?;
    let statistics = Statistics::of(&mapped)?;
    let ports = deal(&geometry, &table, mapped, &umem, (next_hops, config))?;
    Ok(Opened { ports, status, statistics })
}

fn attach(geometry: &Geometry, umem: BorrowedFd<'_>, frames: BorrowedFd<'_>) -> Result<FrameTable, XdpError> {
    let bytes = GEOMETRY_BYTES + frame_layout(&geometry.shape()).bytes;
    for (fd, needed) in [(umem, geometry.umem_bytes()), (frames, bytes)] {
        let stat = fstat(fd).map_err(XdpError::os("fstat"))?;
        if usize::try_from(stat.st_size).unwrap_or(0) < needed {
            return Err(XdpError::NoGeometry);
        }
    }
    let mapping = Mapping::of_memfd(frames, bytes, true).map_err(XdpError::os("mmap of the frame table"))?;
    let table = FrameTable::attach_in(Arc::new(mapping), GEOMETRY_BYTES)?;
    if *table.shape() == geometry.shape() { Ok(table) } else { Err(XdpError::NoGeometry) }
}

fn map(geometry: &Geometry, pair: Pair, fd: OwnedFd) -> Result<Socket, XdpError> {
    let (socket, at) = (fd.as_fd(), ring::offsets(fd.as_fd())?);
    let (rx_page, tx_page) = (libc::XDP_PGOFF_RX_RING.unsigned_abs(), libc::XDP_PGOFF_TX_RING.unsigned_abs());
    let descriptor = size_of::<libc::xdp_desc>();
    let rx = Ring::map(socket, &at.rx, rx_page, geometry.rx_ring, descriptor)?;
    let tx = Ring::map(socket, &at.tx, tx_page, geometry.tx_ring, descriptor)?;
    let mut keep = None;
    if geometry.first_worker(pair.queue) == pair.worker {
        let (fill, completion) = (libc::XDP_UMEM_PGOFF_FILL_RING, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        keep = Some(Keep::new(
            Ring::map(socket, &at.fr, fill, geometry.fill_ring, size_of::<u64>())?,
            Ring::map(socket, &at.cr, completion, geometry.completion_ring, size_of::<u64>())?,
            geometry.rx_frames,
        ));
    }
    Ok(Socket::new(fd, pair, rx, tx, keep))
}

/// Binds all sockets: the first one brings the UMEM, the first of each other queue shares it, the others join their queue.
fn bind_all(geometry: &Geometry, sockets: &[Socket]) -> Result<XdpStatus, XdpError> {
    let started = Instant::now();
    let deadline = started + PATIENCE;
    let (mut copy_mode, mut why_copy) = (CopyMode::Copy, None);
    for (index, socket) in sockets.iter().enumerate() {
        let queue = u32::from(socket.pair().queue);
        let bound = |flags, shared: Option<&Socket>| {
            let (interface, fd) = (geometry.interface.index, socket.fd());
            bind(
                fd,
                libc::sockaddr_xdp {
                    sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or(0),
                    sxdp_flags: flags,
                    sxdp_ifindex: interface,
                    sxdp_queue_id: queue,
                    sxdp_shared_umem_fd: shared.map_or(0, |shared| shared.fd().as_raw_fd().unsigned_abs()),
                },
                deadline,
            )
        };
        if index != 0 {
            // A socket that keeps no rings joins the one that does, which has its queue; else the first one.
            let of_queue = sockets.iter().find(|other| other.keeps() && other.pair().queue == socket.pair().queue);
            let shared = if socket.keeps() { sockets.first() } else { of_queue };
            bound(libc::XDP_SHARED_UMEM, shared).map_err(refused("bind(AF_XDP, XDP_SHARED_UMEM)"))?;
            continue;
        }
        let copy = libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP;
        match geometry.mode {
            Mode::Generic => {
                why_copy = Some("the classifier is attached in generic mode".to_owned());
                bound(copy, None).map_err(refused("bind(AF_XDP, XDP_COPY)"))?;
            }
            Mode::Native => match bound(libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, None) {
                Ok(()) => copy_mode = CopyMode::ZeroCopy,
                Err(error) => {
                    why_copy = Some(format!("the driver refused zero-copy: {error}"));
                    bound(copy, None).map_err(refused("bind(AF_XDP, XDP_COPY)"))?;
                }
            },
        }
    }
    Ok(XdpStatus { geometry: *geometry, copy_mode, why_copy, waited: started.elapsed() })
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> XdpError {
    move |source| XdpError::System { what, source }
}

/// Binds a socket, waiting for a busy queue until the deadline.
fn bind(socket: BorrowedFd<'_>, address: libc::sockaddr_xdp, deadline: Instant) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_xdp>()).unwrap_or(0);
    loop {
        // SAFETY: because the address outlives the call and `len` is its length; the socket is open as long as it is borrowed.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Deals sockets, frames and the ways between workers out to the ports.
fn deal(
    geometry: &Geometry,
    table: &FrameTable,
    sockets: Vec<Socket>,
    umem: &OwnedFd,
    (next_hops, config): (&Arc<NextHops>, XdpConfig),
) -> Result<Vec<XdpPort>, XdpError> {
    let nudge = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let nudges: Result<Nudges, _> = (0..geometry.workers).map(nudge).collect();
    let nudges = Arc::new(nudges.map_err(SetupError::errno("eventfd"))?);
    let workers = 0..geometry.workers;
    let mut dealt: Vec<Frames> =
        workers.map(|worker| Frames::new(*geometry, worker, table.clone(), Arc::clone(&nudges))).collect();
    for socket in sockets {
        let pair = socket.pair();
        let first = geometry.first_worker(pair.queue);
        if first != pair.worker {
            // Received frames go to the keeper of the queue's rings, sent ones come back from it.
            let (received, from_sharer) = returns::channel(geometry.rx_frames);
            let (completed, from_keeper) = returns::channel(geometry.tx_frames);
            if let Some(frames) = dealt.get_mut(usize::from(pair.worker)) {
                frames.add_lane(first, Lane::new(received, from_keeper));
            }
            if let Some(frames) = dealt.get_mut(usize::from(first)) {
                frames.add_lane(pair.worker, Lane::new(completed, from_sharer));
            }
        }
        if let Some(frames) = dealt.get_mut(usize::from(pair.worker)) {
            frames.add_socket(socket);
        }
    }
    let port = |frames| {
        let region = Region::of_memfd("mmap of the UMEM", umem.as_fd(), geometry.umem_bytes())?;
        Ok(XdpPort::new(frames, region, Arc::clone(next_hops), config))
    };
    dealt.into_iter().map(port).collect()
}

/// What the kernel has counted for one socket since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketStatistics {
    /// Which socket.
    pub pair: Pair,
    /// Frames dropped because they are longer than a UMEM frame, or for another reason that is none below.
    pub rx_dropped: u64,
    /// Frames dropped because the rx ring was full: the worker is slow.
    pub rx_ring_full: u64,
    /// Times that the kernel found no frame in the fill ring.
    pub fill_ring_empty: u64,
    /// Descriptors in the fill ring that name no frame.
    pub rx_invalid: u64,
    /// Descriptors in the tx ring that name no frame.
    pub tx_invalid: u64,
    /// Times that the kernel found the tx ring empty.
    pub tx_ring_empty: u64,
}

/// The sockets' counters.
#[derive(Debug)]
pub struct Statistics(Vec<(Pair, OwnedFd)>);

impl Statistics {
    fn of(sockets: &[Socket]) -> Result<Self, XdpError> {
        let dup = |socket: &Socket| {
            let fd = rustix::io::fcntl_dupfd_cloexec(socket.fd(), 0).map_err(XdpError::os("fcntl(F_DUPFD_CLOEXEC)"))?;
            Ok((socket.pair(), fd))
        };
        sockets.iter().map(dup).collect::<Result<_, XdpError>>().map(Self)
    }

    /// Reads them; a socket that does not answer is left out.
    pub fn read(&self) -> impl Iterator<Item = SocketStatistics> + '_ {
        self.0.iter().filter_map(|(pair, fd)| {
            // SAFETY: because all of its fields are integers, for which zero is a value.
            let mut found: libc::xdp_statistics = unsafe { core::mem::zeroed() };
            let mut len = libc::socklen_t::try_from(size_of::<libc::xdp_statistics>()).ok()?;
            let (fd, out) = (fd.as_raw_fd(), (&raw mut found).cast());
            // SAFETY: because `found` outlives the call and `len` is its length; the socket is open as long as self lives.
            let result = unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_STATISTICS, out, &raw mut len) };
            (result == 0).then_some(SocketStatistics {
                pair: *pair,
                rx_dropped: found.rx_dropped,
                rx_ring_full: found.rx_ring_full,
                fill_ring_empty: found.rx_fill_ring_empty_descs,
                rx_invalid: found.rx_invalid_descs,
                tx_invalid: found.tx_invalid_descs,
                tx_ring_empty: found.tx_ring_empty_descs,
            })
        })
    }
}

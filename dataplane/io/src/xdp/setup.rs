// SPDX-License-Identifier: Apache-2.0
//! The privileged half of an AF_XDP port, done by the keeper: memory, frame table, sockets with their rings' sizes.
//!
//! Memory lives as long as the keeper; sockets are made anew for each start of a data plane. The keeper must close its
//! copies of them as soon as they are handed over: a queue can be bound again only when its last socket is gone.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use dataplane_abi::frames::{GEOMETRY_BYTES, frame_layout};
use dataplane_shm::Mapping;
use dataplane_shm::frames::FrameTable;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::geometry::{FRAME_BYTES, Geometry, Interface};
use super::{Pair, XdpError, socket_option};
use crate::memory::Region;
use crate::socket::BUFFER_BYTES;

/// Frames that one `sendto` takes from a tx ring in copy mode, where the kernel lets us say (Linux ≥ 6.17; else 32).
const TX_BUDGET: u32 = 256;
/// `XDP_MAX_TX_SKB_BUDGET` (Linux include/uapi/linux/if_xdp.h).
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// The memory of a port: two sealed memfds, to be handed over as `umem` and `frames`.
#[derive(Debug)]
pub struct PortMemory {
    /// What it was made for.
    pub geometry: Geometry,
    /// The frames.
    pub umem: OwnedFd,
    /// Geometry and frame table.
    pub frames: OwnedFd,
}

impl PortMemory {
    /// Makes the memory: every frame free, every byte zero.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(geometry: Geometry) -> Result<Self, XdpError> {
        let umem = sealed("millrace-umem", geometry.umem_bytes())?;
        let shape = geometry.shape();
        let bytes = GEOMETRY_BYTES + frame_layout(&shape).bytes;
        let frames = sealed("millrace-frames", bytes)?;
        let mapping =
            Mapping::of_memfd(frames.as_fd(), bytes, true).map_err(XdpError::os("mmap of the frame table"))?;
        let mapping = Arc::new(mapping);
        FrameTable::create_in(Arc::clone(&mapping), GEOMETRY_BYTES, &shape)?;
        geometry.write(&mapping)?;
        Ok(Self { geometry, umem, frames })
    }

    /// Makes fresh sockets in the order of [`Geometry::pairs`], to be handed over as `xsk0`, `xsk1`, … . Needs CAP_NET_RAW,
    /// and CAP_IPC_LOCK where the UMEM is larger than RLIMIT_MEMLOCK. They have to be made in the network namespace of the
    /// interface.
    ///
    /// # Errors
    /// What the kernel says, naming the step.
    pub fn sockets(&self) -> Result<Vec<OwnedFd>, XdpError> {
        let geometry = &self.geometry;
        let bytes = geometry.umem_bytes();
        // The kernel pins the pages, so that this mapping is needed during the registration only.
        let umem = Region::of_memfd("mmap of the UMEM", self.umem.as_fd(), bytes)?;
        let mut sockets = Vec::new();
        for pair in geometry.pairs() {
            let socket = open()?;
            if sockets.is_empty() {
                register(socket.as_fd(), &umem, bytes)?;
            }
            prepare(socket.as_fd(), geometry, pair)?;
            sockets.push(socket);
        }
        Ok(sockets)
    }
}

fn sealed(name: &'static str, bytes: usize) -> Result<OwnedFd, XdpError> {
    let fd =
        memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(XdpError::os("memfd_create"))?;
    ftruncate(&fd, bytes as u64).map_err(XdpError::os("ftruncate"))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&fd, seals).map_err(XdpError::os("fcntl(F_ADD_SEALS)"))?;
    Ok(fd)
}

fn open() -> Result<OwnedFd, XdpError> {
    // SAFETY: because the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(XdpError::System { what: "socket(AF_XDP)", source: io::Error::last_os_error() });
    }
    // SAFETY: because the kernel just gave us the descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn register(socket: BorrowedFd<'_>, umem: &Region, bytes: usize) -> Result<(), XdpError> {
    let start = umem.address(0, bytes).ok_or(XdpError::NoGeometry)?;
    let registration = libc::xdp_umem_reg {
        addr: start.as_ptr().addr() as u64,
        len: bytes as u64,
        chunk_size: FRAME_BYTES,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    socket_option(socket, libc::XDP_UMEM_REG, "setsockopt(XDP_UMEM_REG)", &registration)
}

/// Rings and buffers of one socket. Fill and completion ring go to the first worker of a queue alone: with rings of its
/// own a socket cannot join the queue (Linux net/xdp/xsk.c xsk_bind).
fn prepare(socket: BorrowedFd<'_>, geometry: &Geometry, pair: Pair) -> Result<(), XdpError> {
    socket_option(socket, libc::XDP_RX_RING, "setsockopt(XDP_RX_RING)", &geometry.rx_ring)?;
    socket_option(socket, libc::XDP_TX_RING, "setsockopt(XDP_TX_RING)", &geometry.tx_ring)?;
    if geometry.first_worker(pair.queue) == pair.worker {
        let (fill, completion) = (libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING);
        socket_option(socket, fill, "setsockopt(XDP_UMEM_FILL_RING)", &geometry.fill_ring)?;
        socket_option(socket, completion, "setsockopt(XDP_UMEM_COMPLETION_RING)", &geometry.completion_ring)?;
    }
    // Both are wishes: an older kernel has no budget to set, and in copy mode a small send buffer costs kicks, not packets.
    let _ = socket_option(socket, XDP_MAX_TX_SKB_BUDGET, "setsockopt(XDP_MAX_TX_SKB_BUDGET)", &TX_BUDGET);
    enlarge(socket);
    Ok(())
}

/// In copy mode frames on their way are charged to the send buffer.
fn enlarge(socket: BorrowedFd<'_>) {
    let bytes = i32::try_from(BUFFER_BYTES).unwrap_or(i32::MAX);
    for name in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
        let (fd, len) = (socket.as_raw_fd(), u32::try_from(size_of::<i32>()).unwrap_or(0));
        // SAFETY: because `bytes` outlives the call and its length is given; the socket is open as long as it is borrowed.
        let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const bytes).cast(), len) };
        if result == 0 {
            return;
        }
    }
}

/// Finds an interface of the calling thread's network namespace by name.
///
/// # Errors
/// No such interface, or one that is no Ethernet.
pub fn interface(name: &str) -> Result<Interface, XdpError> {
    let c_name =
        CString::new(name).map_err(|error| XdpError::System { what: "interface name", source: error.into() })?;
    // SAFETY: because the name is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    if index == 0 {
        return Err(XdpError::System { what: "if_nametoindex", source: io::Error::last_os_error() });
    }
    let (family, _, [a, b, c, d, e, f, ..]) = ask(name, libc::SIOCGIFHWADDR, "ioctl(SIOCGIFHWADDR)")?;
    if family != libc::ARPHRD_ETHER {
        let source = io::Error::new(io::ErrorKind::Unsupported, "not an Ethernet interface");
        return Err(XdpError::System { what: "ioctl(SIOCGIFHWADDR)", source });
    }
    let (_, mtu, _) = ask(name, libc::SIOCGIFMTU, "ioctl(SIOCGIFMTU)")?;
    Ok(Interface { index, mac: [a, b, c, d, e, f], mtu })
}

/// Asks for one property of an interface: family and first word of the answer, and its bytes behind the family.
fn ask(name: &str, request: libc::Ioctl, what: &'static str) -> Result<(u16, u32, [u8; 14]), XdpError> {
    let family = (libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    // SAFETY: because the call takes no pointers.
    let fd = unsafe { libc::socket(family.0, family.1, 0) };
    if fd < 0 {
        return Err(XdpError::System { what: "socket", source: io::Error::last_os_error() });
    }
    // SAFETY: because the kernel just gave us the descriptor and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // `struct ifreq`: the name, then a union of 24 bytes.
    let mut record = [0_u8; 40];
    for (to, from) in record.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from;
    }
    // SAFETY: because the record has the 40 bytes of `struct ifreq` and outlives the call; the requests only fill it in.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, record.as_mut_ptr()) };
    if result < 0 {
        return Err(XdpError::System { what, source: io::Error::last_os_error() });
    }
    let union = record.get(16..).unwrap_or_default();
    let family = union.first_chunk::<2>().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
    let word = union.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let bytes = union.get(2..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or_default();
    Ok((family, word, bytes))
}

// SPDX-License-Identifier: Apache-2.0
//! UDP sockets: bound as a group by the keeper, prepared for what the ports want to know of each datagram.
//!
//! Never called while packets flow. Sockets stay blocking: the ports say per call that they do not wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

use crate::paths::Binding;
use crate::transmit::TxFrames;

/// What is asked for as receive and send buffer of a socket. At ~2.3 KiB of kernel memory per packet the receive buffer
/// holds 300 ms of 12,000 packets/s, the time of a takeover.
pub const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Why a socket or a port cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SetupError {
    /// What was tried.
    pub what: &'static str,
    /// What the kernel answered.
    pub source: io::Error,
}

impl SetupError {
    pub(crate) fn errno(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self { what, source: source.into() }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// Sizes of a socket port; all of its memory is taken when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketConfig {
    /// Frames for received datagrams (io_uring; plain sockets need no more than a batch); rounded up to a power of two, at
    /// most 32,768.
    pub rx_frames: u16,
    /// Frames for datagrams to send; at most 16,384.
    pub tx_frames: u16,
    /// Paths that may be open at a time; at most 2^20.
    pub paths: u32,
}

impl Default for SocketConfig {
    /// 256 × 2304 B = 576 KiB of rx frames, 1024 × 2240 B = 2.2 MiB of tx frames, 32,768 × 128 B = 4 MiB of paths, touched
    /// as used. Four batches of rx frames: the kernel fills them in turn, and 1024 of them no longer fit into the cache
    /// (+33 % per packet received, `examples/loopback_cost.rs`); it is the socket's buffer that bridges bursts.
    fn default() -> Self {
        Self { rx_frames: 256, tx_frames: 1024, paths: 32_768 }
    }
}

/// Sizes of a socket's buffers as the kernel counts them (twice what was asked for: its own bookkeeping is included).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketBuffers {
    /// Receive buffer, bytes.
    pub receive_bytes: usize,
    /// Send buffer, bytes.
    pub send_bytes: usize,
}

/// The buffers that a socket has; less than twice [`BUFFER_BYTES`] where neither the privilege nor `net.core.rmem_max` and
/// `wmem_max` allow it.
///
/// # Errors
/// What the kernel answered.
pub fn buffers(socket: impl AsFd) -> Result<SocketBuffers, SetupError> {
    let socket = socket.as_fd();
    Ok(SocketBuffers {
        receive_bytes: sockopt::socket_recv_buffer_size(socket).map_err(SetupError::errno("getsockopt(SO_RCVBUF)"))?,
        send_bytes: sockopt::socket_send_buffer_size(socket).map_err(SetupError::errno("getsockopt(SO_SNDBUF)"))?,
    })
}

/// Binds one SO_REUSEPORT socket per worker to `port` on all addresses (0 = the kernel chooses one for the whole group).
/// Dual-stack IPv6 where the system has it, else IPv4. The group must not change while packets flow: the kernel steers by
/// the position in it.
///
/// # Errors
/// What the kernel answered; `EADDRINUSE` also where another group is bound to the port, since the kernel would share the
/// packets between the two without a word.
pub fn bind_group(port: u16, workers: usize) -> Result<Vec<OwnedFd>, SetupError> {
    let mut tries = if port == 0 { 8 } else { 1 };
    loop {
        // Found free by a socket that does not share: sharing ones are also given ports that another group has.
        let free = binding(&bind_one(port, false)?)?.port;
        let group: Result<Vec<OwnedFd>, SetupError> = (0..workers).map(|_| bind_one(free, true)).collect();
        tries -= 1;
        if group.is_ok() || tries == 0 {
            return group;
        }
    }
}

fn bind_one(port: u16, shares: bool) -> Result<OwnedFd, SetupError> {
    let open = |family| socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let (socket, address) = match open(AddressFamily::INET6) {
        Ok(socket) => {
            sockopt::set_ipv6_v6only(&socket, false).map_err(SetupError::errno("setsockopt(IPV6_V6ONLY)"))?;
            (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        Err(_) => (
            open(AddressFamily::INET).map_err(SetupError::errno("socket(AF_INET)"))?,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ),
    };
    sockopt::set_socket_reuseport(&socket, shares).map_err(SetupError::errno("setsockopt(SO_REUSEPORT)"))?;
    bind(&socket, &SocketAddr::new(address, port)).map_err(SetupError::errno("bind"))?;
    if shares {
        enlarge(&socket);
        prepare(&socket)?;
    }
    Ok(socket)
}

/// Asks for large buffers: by privilege, else as far as the system's limits go.
fn enlarge(socket: &OwnedFd) {
    let bytes = i32::try_from(BUFFER_BYTES).unwrap_or(i32::MAX);
    for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set(socket, libc::SOL_SOCKET, forced, bytes).is_err() {
            // What was obtained is read by `buffers`; a small one is a matter of degree, not an error.
            let _ = set(socket, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

/// Lets the kernel say with each datagram where it was sent to, when it came, its ECN bits, and what was lost before.
pub(crate) fn prepare(socket: &OwnedFd) -> Result<Binding, SetupError> {
    let binding = binding(socket)?;
    let wanted = |level, name, what| set(socket, level, name, 1).map_err(SetupError::io(what));
    wanted(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "setsockopt(SO_TIMESTAMPNS)")?;
    wanted(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, "setsockopt(SO_RXQ_OVFL)")?;
    // On an IPv6 socket too: for the IPv4 datagrams that it receives.
    wanted(libc::IPPROTO_IP, libc::IP_RECVTOS, "setsockopt(IP_RECVTOS)")?;
    if binding.is_v6 {
        wanted(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, "setsockopt(IPV6_RECVPKTINFO)")?;
        wanted(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, "setsockopt(IPV6_RECVTCLASS)")?;
    } else {
        wanted(libc::IPPROTO_IP, libc::IP_PKTINFO, "setsockopt(IP_PKTINFO)")?;
    }
    Ok(binding)
}

/// The frames that a socket port sends from; they are joined to trains where the kernel knows them (Linux 4.18).
pub(crate) fn tx_frames(socket: &OwnedFd, config: SocketConfig) -> Result<TxFrames, SetupError> {
    let mut frames = TxFrames::new(config.tx_frames)?;
    // Zero leaves the socket as it is: each message says its own.
    frames.join_frames(set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok());
    Ok(frames)
}

/// Family and port of a bound UDP socket.
fn binding(socket: &OwnedFd) -> Result<Binding, SetupError> {
    let name = getsockname(socket).map_err(SetupError::errno("getsockname"))?;
    let address = SocketAddr::try_from(name).map_err(SetupError::errno("getsockname"))?;
    Ok(Binding { is_v6: address.is_ipv6(), port: address.port() })
}

fn set(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let bytes = u32::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: because `value` outlives the call and its length is given; the socket is open as long as it is borrowed.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// SPDX-License-Identifier: Apache-2.0
//! Raw Ethernet sockets inside a namespace: what the relay, the captures and the hostile senders use.
//!
//! A socket is bound to one interface of one namespace of this crate; it cannot reach the machine's own interfaces.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};

use crate::netns;

/// Socket buffers, in bytes: 200 ms of 20,000 packets per second.
const SOCKET_BUFFER: usize = 8 << 20;

/// Which way a received frame goes, seen from the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It comes from the other end of the cable.
    Incoming,
    /// This namespace sends it.
    Outgoing,
}

/// What a packet socket is given to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tap {
    /// Every frame, in both directions.
    Both,
    /// IPv4 that comes in.
    IncomingIpv4,
    /// Nothing: it only sends, and costs other senders nothing.
    Nothing,
}

impl Tap {
    const fn protocol(self) -> Option<SockProtocol> {
        match self {
            Self::Both => Some(SockProtocol::EthAll),
            Self::IncomingIpv4 => Some(SockProtocol::EthIp),
            Self::Nothing => None,
        }
    }
}

/// A non-blocking packet socket bound to one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    hardware_address: [u8; 6],
}

impl PacketSocket {
    /// Opens a socket on `interface` of the namespace `namespace`.
    ///
    /// # Errors
    /// When not root or there is no such interface.
    pub fn open(namespace: &str, interface: &str, tap: Tap) -> Result<Self> {
        netns::inside(namespace, || {
            // The kernel lists each interface with its link-layer address, which is all that bind needs.
            let address = nix::ifaddrs::getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {interface} in {namespace}"))?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, flags, tap.protocol()).context("open a packet socket")?;
            setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
            setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER)?;
            bind(fd.as_raw_fd(), &address).with_context(|| format!("bind to {interface}"))?;
            let hardware_address = address.addr().with_context(|| format!("{interface} has no hardware address"))?;
            let socket = Self { fd, hardware_address };
            // Frames of other interfaces may have come in between socket() and bind().
            let mut buffer = [0_u8; 64];
            while socket.receive(&mut buffer)?.is_some() {}
            Ok(socket)
        })
    }

    /// The interface's own address.
    #[must_use]
    pub const fn hardware_address(&self) -> [u8; 6] {
        self.hardware_address
    }

    /// Takes one waiting frame into `buffer`: its length and direction, or `None` when none waits.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<(usize, Direction)>> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => {
                // The packet type in the sender's address would tell as well, but its length differs between kernels.
                let is_own = buffer.get(6..12) == Some(&self.hardware_address[..]);
                Ok(Some((length, if is_own { Direction::Outgoing } else { Direction::Incoming })))
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(error) => Err(error).context("receive from a packet socket"),
        }
    }

    /// Sends one whole Ethernet frame; false when the queue is full or the interface is down.
    ///
    /// # Errors
    /// When the kernel refuses the frame (too long, interface gone).
    pub fn send(&self, frame: &[u8]) -> Result<bool> {
        match send(self.fd.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("send a frame of {} bytes", frame.len())),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A UDP datagram inside an Ethernet frame (IPv4 without fragments, or IPv6 without extension headers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// Offset of the IP header in the frame.
    pub ip_at: usize,
    /// Offset of the UDP header in the frame.
    pub udp_at: usize,
    /// The datagram's payload.
    pub payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Parses a frame; `None` when it is not UDP.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let ip_at = 14;
        let udp_at = match frame.get(12..14)? {
            [0x08, 0x00] => {
                let first = *frame.get(ip_at)?;
                // RFC 791 §3.1: protocol 17, fragment offset 0.
                let fragment = u16::from_be_bytes([*frame.get(ip_at + 6)?, *frame.get(ip_at + 7)?]) & 0x1fff;
                (first >> 4 == 4 && *frame.get(ip_at + 9)? == 17 && fragment == 0)
                    .then(|| ip_at + usize::from(first & 15) * 4)?
            }
            [0x86, 0xdd] => (*frame.get(ip_at + 6)? == 17).then_some(ip_at + 40)?,
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let length = usize::from(port(udp_at + 4)?);
        let payload = frame.get(udp_at + 8..udp_at + length.max(8))?;
        Some(Self { from_port: port(udp_at)?, to_port: port(udp_at + 2)?, ip_at, udp_at, payload })
    }
}

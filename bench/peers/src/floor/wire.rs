// SPDX-License-Identifier: Apache-2.0
//! One UDP socket: datagrams in, batches of datagrams out by `sendmmsg(2)`, each of them one packet or, with
//! `UDP_SEGMENT` (udp(7)), several packets of one length. It must never wait for more than the kernel's own queue.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};
use rustix::net::{RecvFlags, recv};

/// Datagrams of one call at most.
pub const BATCH: usize = 64;
/// Bytes that may wait in the kernel, if it allows.
const SEND_BUFFER: usize = 32 << 20;
/// How long the source may be silent before the caller looks at the clock.
const SILENCE: Duration = Duration::from_millis(200);

/// The socket and the room for its calls.
pub struct Wire {
    socket: UdpSocket,
    plain: MultiHeaders<SockaddrIn>,
    segmented: MultiHeaders<SockaddrIn>,
    /// Datagrams that the kernel refused.
    pub refused: u64,
}

impl Wire {
    /// Binds the socket.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(listen: SocketAddrV4) -> Result<Self> {
        let socket = UdpSocket::bind(listen).with_context(|| format!("bind {listen}"))?;
        socket.set_read_timeout(Some(SILENCE))?;
        // Both need CAP_NET_ADMIN; without it the kernel's defaults serve.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &SEND_BUFFER);
        let plain = MultiHeaders::preallocate(BATCH, None);
        let segmented = MultiHeaders::preallocate(BATCH, Some(cmsg_space!(u16)));
        Ok(Self { socket, plain, segmented, refused: 0 })
    }

    /// The next datagram; `None` when there is none: at once unless `may_wait`.
    pub fn receive(&self, buffer: &mut [u8], may_wait: bool) -> Option<usize> {
        let flags = if may_wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        recv(&self.socket, buffer, flags).ok().map(|(_, len)| len)
    }

    /// Sends one datagram to each address; with `segment`, the kernel cuts each into packets of so many bytes.
    ///
    /// # Errors
    /// When the socket is of no use.
    pub fn send(&mut self, data: &[[IoSlice<'_>; 1]], to: &[Option<SockaddrIn>], segment: Option<u16>) -> Result<()> {
        let (mut data, mut to) = (data, to);
        while !data.is_empty() {
            let control = segment.as_ref().map(ControlMessage::UdpGsoSegments);
            let headers = if segment.is_some() { &mut self.segmented } else { &mut self.plain };
            let sent = sendmmsg(self.socket.as_raw_fd(), headers, data, to, control.as_slice(), MsgFlags::empty());
            let done = match sent.map(Iterator::count) {
                Ok(done) => done,
                Err(Errno::EINTR | Errno::EAGAIN) => 0,
                Err(Errno::ENOBUFS | Errno::EPERM | Errno::ECONNREFUSED) => {
                    self.refused += 1;
                    1
                }
                Err(errno) => return Err(errno).context("sendmmsg"),
            };
            (data, to) = (data.get(done..).unwrap_or_default(), to.get(done..).unwrap_or_default());
        }
        Ok(())
    }
}

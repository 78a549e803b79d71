// SPDX-License-Identifier: Apache-2.0
//! The socket port that the machine allows: io_uring, or plain batched sockets where it is denied.
//!
//! The choice is made once, when the port is opened; it never changes afterwards and is never silent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use dataplane_abi::flow::FlowKey;

use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::socket::{SetupError, SocketConfig};
use crate::sockets::SocketsPort;
use crate::uring::UringPort;
use crate::wait::Wait;

/// Which socket port is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backend {
    /// io_uring, else plain sockets.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Plain sockets.
    Sockets,
}

/// Why [`Backend::Auto`] did not give io_uring; the daemon says it once.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is not available ({0}): plain batched sockets are used")]
pub struct Fallback(pub SetupError);

/// One of the two socket ports.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a worker has one; a box would put a pointer in front of each packet")]
pub enum SocketPort {
    /// io_uring.
    Uring(UringPort),
    /// Plain batched sockets.
    Sockets(SocketsPort),
}

/// Opens a socket port on the calling thread, which has to be the worker's.
///
/// # Errors
/// What the kernel answered; with [`Backend::Auto`] a refusal of io_uring is no error but a [`Fallback`].
pub fn open_socket_port(
    socket: OwnedFd,
    backend: Backend,
    config: SocketConfig,
) -> Result<(SocketPort, Option<Fallback>), SetupError> {
    match backend {
        Backend::Uring => Ok((SocketPort::Uring(UringPort::new(socket, config)?), None)),
        Backend::Sockets => Ok((SocketPort::Sockets(SocketsPort::new(socket, config)?), None)),
        Backend::Auto => {
            let spare = rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), 0)
                .map_err(|error| SetupError { what: "fcntl(F_DUPFD_CLOEXEC)", source: error.into() })?;
            match UringPort::new(spare, config) {
                Ok(port) => Ok((SocketPort::Uring(port), None)),
                Err(error) => Ok((SocketPort::Sockets(SocketsPort::new(socket, config)?), Some(Fallback(error)))),
            }
        }
    }
}

macro_rules! dispatch {
    ($self:ident, $port:ident => $call:expr) => {
        match $self {
            SocketPort::Uring($port) => $call,
            SocketPort::Sockets($port) => $call,
        }
    };
}

impl SocketPort {
    /// Datagrams that left as segments of a train behind its first one (UDP_SEGMENT).
    #[must_use]
    pub fn segmented(&self) -> u64 {
        dispatch!(self, port => port.segmented())
    }

    /// Datagrams that were received and not delivered: longer than a frame, or without an address.
    #[must_use]
    pub const fn rx_discarded(&self) -> u64 {
        match self {
            Self::Uring(port) => port.rx_discarded(),
            Self::Sockets(port) => port.rx_discarded(),
        }
    }

    /// Whether there is work that no poll of the socket shows.
    pub(crate) fn is_ready(&mut self) -> bool {
        match self {
            Self::Uring(port) => port.is_ready(),
            Self::Sockets(_) => false,
        }
    }

    /// The socket, and whether room in its send buffer is waited for: what a caller that sleeps on several ports polls.
    pub(crate) fn watched(&self) -> (BorrowedFd<'_>, bool) {
        dispatch!(self, port => (port.socket(), port.has_retries()))
    }
}

impl Port for SocketPort {
    fn kind(&self) -> PortKind {
        dispatch!(self, port => port.kind())
    }

    fn receive(&mut self, max: usize) -> usize {
        dispatch!(self, port => port.receive(max))
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        dispatch!(self, port => port.packet(index))
    }

    fn release(&mut self) {
        dispatch!(self, port => port.release());
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        dispatch!(self, port => port.open_path(flow, dscp, ecn))
    }

    fn close_path(&mut self, path: PathSlot) {
        dispatch!(self, port => port.close_path(path));
    }

    fn tx_room(&self) -> usize {
        dispatch!(self, port => port.tx_room())
    }

    fn room_for(&mut self, path: PathSlot, len: usize) -> usize {
        dispatch!(self, port => port.room_for(path, len))
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        dispatch!(self, port => port.reserve(path, len))
    }

    fn commit(&mut self, len: usize) {
        dispatch!(self, port => port.commit(len));
    }

    fn flush(&mut self) -> Flushed {
        dispatch!(self, port => port.flush())
    }

    fn reap(&mut self) {
        dispatch!(self, port => port.reap());
    }

    fn rx_overflow(&self) -> u64 {
        dispatch!(self, port => port.rx_overflow())
    }
}

impl Wait for SocketPort {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        dispatch!(self, port => port.wait(timeout, wake));
    }
}

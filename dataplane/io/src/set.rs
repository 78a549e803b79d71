// SPDX-License-Identifier: Apache-2.0
//! The set of ports that a worker drives: a socket port always, and an AF_XDP port where there is one.
//!
//! ```text
//!  receive ◀── xdp first, then the socket port; the socket port first where it had no turn
//!  path ────── a place on the socket port always, one on the xdp port too; which of them sends is asked per reserve
//! ```
//!
//! It is a port itself, so that nobody behind it knows of two. A peer that the xdp port does not reach (local, another
//! interface, neighbour unknown, payload longer than the way's MTU, interface down) is served by the socket port, packet by
//! packet. It must never send a path's packets by the socket port because the xdp port is full: they would overtake.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::BATCH;

use crate::open::SocketPort;
use crate::paths::index_of;
use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::wait::{self, Wait};
use crate::xdp::XdpPort;

/// A plain socket that gave nothing is asked every so many batches while the xdp port has packets: asking is a system call.
const SOCKET_EVERY: u32 = 4;
/// The part of a batch that the socket port gets when it had no turn.
const SOCKET_SHARE: usize = 4;

/// Packets by port since the set was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetCounts {
    /// Received by the xdp port.
    pub rx_xdp: u64,
    /// Received by the socket port.
    pub rx_socket: u64,
    /// Committed to the xdp port.
    pub tx_xdp: u64,
    /// Committed to the socket port.
    pub tx_socket: u64,
}

/// A path's place on the xdp port, under its place on the socket port.
#[derive(Clone, Copy, Debug)]
struct Place {
    socket: PathSlot,
    xdp: Option<PathSlot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chosen {
    Socket,
    Xdp,
}

/// The ports of one worker.
#[derive(Debug)]
pub struct PortSet {
    socket: SocketPort,
    xdp: Option<XdpPort>,
    /// By the index of the path's place on the socket port.
    places: Vec<Option<Place>>,
    chosen: Chosen,
    /// Packets of the current batch that are the xdp port's; the others are the socket port's.
    of_xdp: usize,
    of_socket: usize,
    /// Batches since the socket port was asked.
    unasked: u32,
    is_starved: bool,
    counts: SetCounts,
}

impl PortSet {
    /// A set of one port or two; `paths` is that of their configurations. It stays on the worker's thread.
    #[must_use]
    pub fn new(socket: SocketPort, xdp: Option<XdpPort>, paths: u32) -> Self {
        let places = if xdp.is_some() { paths as usize } else { 0 };
        Self {
            socket,
            xdp,
            places: vec![None; places],
            chosen: Chosen::Socket,
            of_xdp: 0,
            of_socket: 0,
            unasked: 0,
            is_starved: false,
            counts: SetCounts::default(),
        }
    }

    /// Packets by port.
    #[must_use]
    pub const fn counts(&self) -> SetCounts {
        self.counts
    }

    /// The socket port.
    #[must_use]
    pub const fn socket(&self) -> &SocketPort {
        &self.socket
    }

    /// The xdp port.
    #[must_use]
    pub const fn xdp(&self) -> Option<&XdpPort> {
        self.xdp.as_ref()
    }

    /// Whether the xdp port's interface is gone: the data plane has to be started anew to get another one.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.xdp.as_ref().is_some_and(XdpPort::is_lost)
    }

    /// Whether the socket port is asked for packets behind `of_xdp` of the xdp port.
    const fn asks_socket(&self, of_xdp: usize) -> bool {
        matches!(self.socket, SocketPort::Uring(_)) || of_xdp == 0 || self.unasked >= SOCKET_EVERY
    }

    fn place(&self, path: PathSlot) -> Option<PathSlot> {
        let place = self.places.get(index_of(path) as usize)?.as_ref()?;
        if place.socket == path { place.xdp } else { None }
    }
}

impl Port for PortSet {
    fn kind(&self) -> PortKind {
        self.xdp.as_ref().map_or_else(|| self.socket.kind(), Port::kind)
    }

    fn receive(&mut self, max: usize) -> usize {
        if self.of_xdp + self.of_socket != 0 {
            return 0;
        }
        let max = max.min(BATCH);
        if let Some(xdp) = &mut self.xdp {
            if self.is_starved {
                self.of_socket = self.socket.receive((max / SOCKET_SHARE).max(1));
            }
            self.of_xdp = xdp.receive(max - self.of_socket);
            if self.is_starved {
                self.is_starved = false;
                self.unasked = 0;
            } else if self.of_xdp >= max {
                self.is_starved = true;
            } else if self.asks_socket(self.of_xdp) {
                self.of_socket = self.socket.receive(max - self.of_xdp);
                self.unasked = 0;
            } else {
                self.unasked += 1;
            }
        } else {
            self.of_socket = self.socket.receive(max);
        }
        self.counts.rx_xdp += self.of_xdp as u64;
        self.counts.rx_socket += self.of_socket as u64;
        self.of_xdp + self.of_socket
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        match (index.checked_sub(self.of_xdp), &self.xdp) {
            (Some(nth), _) => self.socket.packet(nth),
            (None, Some(xdp)) => xdp.packet(index),
            (None, None) => None,
        }
    }

    fn release(&mut self) {
        if core::mem::take(&mut self.of_socket) != 0 {
            self.socket.release();
        }
        if core::mem::take(&mut self.of_xdp) != 0
            && let Some(xdp) = &mut self.xdp
        {
            xdp.release();
        }
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        let path = self.socket.open_path(flow, dscp, ecn)?;
        if let (Some(xdp), Some(place)) = (&mut self.xdp, self.places.get_mut(index_of(path) as usize)) {
            // What the xdp port cannot address, or has no place for, the socket port has.
            *place = Some(Place { socket: path, xdp: xdp.open_path(flow, dscp, ecn).ok() });
        }
        Ok(path)
    }

    fn close_path(&mut self, path: PathSlot) {
        if let (Some(slot), Some(xdp)) = (self.place(path), &mut self.xdp) {
            xdp.close_path(slot);
        }
        if let Some(place) = self.places.get_mut(index_of(path) as usize)
            && place.is_some_and(|place| place.socket == path)
        {
            *place = None;
        }
        self.socket.close_path(path);
    }

    /// The xdp port's room while its interface is up: those whom the socket port serves do not hold up everybody else.
    fn tx_room(&self) -> usize {
        let xdp = self.xdp.as_ref().filter(|xdp| !xdp.is_down());
        xdp.map_or_else(|| self.socket.tx_room(), Port::tx_room)
    }

    fn room_for(&mut self, path: PathSlot, len: usize) -> usize {
        let place = self.place(path);
        if let (Some(slot), Some(xdp)) = (place, &mut self.xdp)
            && xdp.serves(slot, len)
        {
            return xdp.tx_room();
        }
        self.socket.tx_room()
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        let place = self.place(path);
        if let (Some(slot), Some(xdp)) = (place, &mut self.xdp)
            && xdp.serves(slot, len)
        {
            self.chosen = Chosen::Xdp;
            return xdp.reserve(slot, len);
        }
        self.chosen = Chosen::Socket;
        self.socket.reserve(path, len)
    }

    fn commit(&mut self, len: usize) {
        match (self.chosen, &mut self.xdp) {
            (Chosen::Xdp, Some(xdp)) => {
                self.counts.tx_xdp += 1;
                xdp.commit(len);
            }
            _ => {
                self.counts.tx_socket += 1;
                self.socket.commit(len);
            }
        }
    }

    fn flush(&mut self) -> Flushed {
        let by_xdp = self.xdp.as_mut().map(Port::flush).unwrap_or_default();
        let by_socket = self.socket.flush();
        Flushed { frames: by_xdp.frames + by_socket.frames, errors: by_xdp.errors + by_socket.errors }
    }

    fn reap(&mut self) {
        if let Some(xdp) = &mut self.xdp {
            xdp.reap();
        }
        self.socket.reap();
    }

    fn rehearse(&mut self) {
        if let Some(xdp) = &mut self.xdp {
            xdp.rehearse();
        }
        self.socket.rehearse();
    }

    fn rx_overflow(&self) -> u64 {
        self.socket.rx_overflow()
    }
}

impl Wait for PortSet {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        let Some(xdp) = &mut self.xdp else { return self.socket.wait(timeout, wake) };
        if xdp.has_packets() || self.socket.is_ready() {
            return;
        }
        xdp.sleep(&[(wake, false), self.socket.watched()], timeout);
        if xdp.found_added(0) {
            wait::drain(wake);
        }
    }
}

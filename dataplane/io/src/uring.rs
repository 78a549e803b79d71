// SPDX-License-Identifier: Apache-2.0
//! The socket port over io_uring.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use dataplane_abi::flow::FlowKey;

use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::socket::{SetupError, SocketConfig};
use crate::wait::Wait;

/// The socket port over io_uring.
#[derive(Debug)]
pub struct UringPort {
    _socket: OwnedFd,
}

impl UringPort {
    /// Opens the port; call it on the worker's thread.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(socket: OwnedFd, _config: SocketConfig) -> Result<Self, SetupError> {
        Ok(Self { _socket: socket })
    }
}

impl Port for UringPort {
    fn kind(&self) -> PortKind {
        PortKind::Uring
    }
    fn receive(&mut self, _max: usize) -> usize {
        0
    }
    fn packet(&self, _index: usize) -> Option<(&[u8], RxMeta)> {
        None
    }
    fn release(&mut self) {}
    fn open_path(&mut self, _flow: &FlowKey, _dscp: u8, _ecn: Ecn) -> Result<PathSlot, PathError> {
        Err(PathError::Full)
    }
    fn close_path(&mut self, _path: PathSlot) {}
    fn tx_room(&self) -> usize {
        0
    }
    fn reserve(&mut self, _path: PathSlot, _len: usize) -> Option<&mut [u8]> {
        None
    }
    fn commit(&mut self, _len: usize) {}
    fn flush(&mut self) -> Flushed {
        Flushed::default()
    }
    fn reap(&mut self) {}
}

impl Wait for UringPort {
    fn wait(&mut self, _timeout: Duration, _wake: BorrowedFd<'_>) {}
}

// SPDX-License-Identifier: Apache-2.0
//! UDP sockets: bound as a group by the keeper, prepared for what the ports want to know of each datagram.
//!
//! Never called while packets flow.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Why a socket or a port cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SetupError {
    /// What was tried.
    pub what: &'static str,
    /// What the kernel answered.
    pub source: io::Error,
}

/// Sizes of a socket port; all of its memory is taken when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketConfig {
    /// Frames for received datagrams; rounded up to a power of two, at most 32,768.
    pub rx_frames: u16,
    /// Frames for datagrams to send; at most 16,384.
    pub tx_frames: u16,
    /// Paths that may be open at a time; at most 2^20.
    pub paths: u32,
}

impl Default for SocketConfig {
    /// 1024 × 2304 B = 2.3 MiB of rx frames, 1024 × 2240 B = 2.2 MiB of tx frames, 32,768 × 104 B = 3.3 MiB of paths, touched as used.
    fn default() -> Self {
        Self { rx_frames: 1024, tx_frames: 1024, paths: 32_768 }
    }
}

/// Sizes of a socket's buffers as the kernel counts them (overhead of its bookkeeping included).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketBuffers {
    /// Receive buffer, bytes.
    pub receive_bytes: usize,
    /// Send buffer, bytes.
    pub send_bytes: usize,
}

/// The buffers that a socket has.
///
/// # Errors
/// What the kernel answered.
pub fn buffers(_socket: impl AsFd) -> Result<SocketBuffers, SetupError> {
    Ok(SocketBuffers::default())
}

/// Binds one SO_REUSEPORT socket per worker to `port` (0 = the kernel chooses one for the whole group).
///
/// # Errors
/// What the kernel answered.
pub fn bind_group(_port: u16, _workers: usize) -> Result<Vec<OwnedFd>, SetupError> {
    Err(SetupError { what: "bind", source: io::ErrorKind::Unsupported.into() })
}

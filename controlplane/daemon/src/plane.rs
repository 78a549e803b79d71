// SPDX-License-Identifier: Apache-2.0
//! What the session core needs of the data plane: one trait, implemented by the bridge to the segment.
//!
//! Transports are named by [`TransportId`]; the bridge alone knows slots and generations, and drops what is stale.

use std::os::fd::BorrowedFd;

use controlplane_dtls::{KeyHalf, SrtpProfileId};
use controlplane_room::{Command, TransportId};

/// A table of the segment has no free slot; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {table} table is full ({capacity} entries)")]
pub(crate) struct TableFull {
    /// Which, as `millrace status` calls it.
    pub(crate) table: &'static str,
    /// How many entries it has.
    pub(crate) capacity: usize,
}

/// What a finished handshake yields for one transport.
#[derive(Debug)]
pub(crate) struct SrtpKeys {
    /// The profile that both sides agreed on.
    pub(crate) profile: SrtpProfileId,
    /// Protects what we send.
    pub(crate) local: KeyHalf,
    /// Unprotects what the peer sends.
    pub(crate) remote: KeyHalf,
}

/// Something that the data plane tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlaneEvent {
    /// The transport's first valid check was answered.
    Validated {
        /// The transport.
        transport: TransportId,
    },
    /// A DTLS datagram from the transport's validated 5-tuple.
    Punted {
        /// The transport.
        transport: TransportId,
        /// When it entered the machine, nanoseconds of the monotonic clock.
        at_ns: u64,
        /// The transport slot's generation when it was punted.
        generation: u32,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// No check for 30 s (RFC 7675); egress has stopped.
    ConsentLost {
        /// The transport.
        transport: TransportId,
    },
    /// Checks came back; egress goes on.
    ConsentBack {
        /// The transport.
        transport: TransportId,
    },
    /// The first packet whose tag verified has come.
    FirstMedia {
        /// The transport.
        transport: TransportId,
    },
    /// The data plane is another process than before; media goes on, datagrams of half-done handshakes are lost.
    DataPlaneRestarted,
}

/// The data plane, as the session core uses it. No call blocks; each returns in microseconds.
pub(crate) trait DataPlane: Send + 'static {
    /// Programs one command. Removing what is not there (any more) is not an error: after an adding command failed,
    /// the session core removes all that belonged together.
    ///
    /// # Errors
    /// [`TableFull`]; only the adding commands can fail.
    fn apply(&mut self, command: Command) -> Result<(), TableFull>;

    /// Sends a DTLS datagram to the transport's nominated path. Lossy: a full ring drops it, DTLS sends it again.
    fn inject(&mut self, transport: TransportId, datagram: &[u8]);

    /// Installs SRTP keys. The certificate has been checked before they exist.
    fn install_keys(&mut self, transport: TransportId, keys: SrtpKeys);

    /// The next event, if one waits.
    fn poll(&mut self) -> Option<PlaneEvent>;

    /// A descriptor (an eventfd) that becomes readable when events wait. It is watched edge-triggered, so nobody has
    /// to read it empty. `None`: [`Self::poll`] is called every 2 ms instead.
    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Attaching to a segment: who may write what, and why an attach is refused (both sides' numbers, CONTRACTS 6).

use std::os::fd::BorrowedFd;

use dataplane_abi::ABI_VERSION;
use dataplane_abi::limits::{Capacities, WORKERS};
use dataplane_abi::segment::{FINGERPRINT, HEADER_BYTES, MAGIC, Part, SegmentHeader, durable_layout, intent_layout};
use dataplane_abi::segment::{keys_bytes, store_bytes};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};

use crate::mapping::Mapping;
use crate::words;

/// Who attaches; decides what is mapped writable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Intent (its rings) writable, keys read-only, durable and store writable.
    DataPlane,
    /// Intent and keys writable, durable read-only.
    ControlPlane,
    /// Intent and durable read-only; keys and store are refused.
    Reader,
}

impl Access {
    /// Whether this part may be mapped, and if so, whether writable.
    #[must_use]
    pub const fn writable(self, part: Part) -> Option<bool> {
        match (self, part) {
            (Self::DataPlane, Part::Intent | Part::Durable | Part::Store) => Some(true),
            (Self::DataPlane, Part::Keys) => Some(false),
            (Self::ControlPlane, Part::Intent | Part::Keys) => Some(true),
            (Self::ControlPlane | Self::Reader, Part::Durable) => Some(false),
            (Self::Reader, Part::Intent) => Some(false),
            (Self::ControlPlane, Part::Store) | (Self::Reader, Part::Keys | Part::Store) => None,
        }
    }
}

/// The memfds to attach to; what is absent is not mapped.
#[derive(Clone, Copy, Default)]
pub struct AttachFds<'fd> {
    /// Intent and rings.
    pub intent: Option<BorrowedFd<'fd>>,
    /// SRTP keys.
    pub keys: Option<BorrowedFd<'fd>>,
    /// Durable state and counters.
    pub durable: Option<BorrowedFd<'fd>>,
    /// The packet store.
    pub store: Option<BorrowedFd<'fd>>,
}

impl<'fd> AttachFds<'fd> {
    pub(crate) const fn of(&self, part: Part) -> Option<BorrowedFd<'fd>> {
        match part {
            Part::Intent => self.intent,
            Part::Keys => self.keys,
            Part::Durable => self.durable,
            Part::Store => self.store,
        }
    }
}

/// Why an attach was refused.
#[derive(thiserror::Error, Debug)]
pub enum AttachError {
    /// A system call failed.
    #[error("{part:?} memfd: {source}")]
    System {
        /// Which memfd.
        part: Part,
        /// What the kernel says.
        source: rustix::io::Errno,
    },
    /// Not one of our memfds.
    #[error("{part:?} memfd: magic is {found:#018x}, ours is {MAGIC:#018x}")]
    Magic {
        /// Which memfd.
        part: Part,
        /// Its first eight bytes.
        found: u64,
    },
    /// Another part than expected in its place.
    #[error("{part:?} memfd: it says that it is part {found}, expected part {}", *part as u32)]
    Part {
        /// Expected.
        part: Part,
        /// Found.
        found: u32,
    },
    /// Another layout version.
    #[error("{part:?} memfd: abi version is {found}, ours is {ABI_VERSION}; another version does not attach in place")]
    AbiVersion {
        /// Which memfd.
        part: Part,
        /// Its version.
        found: u32,
    },
    /// The same version number, yet other records: two builds that must not share memory.
    #[error("{part:?} memfd: layout fingerprint is {found:#018x}, ours is {FINGERPRINT:#018x}")]
    Fingerprint {
        /// Which memfd.
        part: Part,
        /// Its fingerprint.
        found: u64,
    },
    /// Capacities that this build has no room for.
    #[error("{part:?} memfd: {what} is {found}, at most {most} fit")]
    Capacity {
        /// Which memfd.
        part: Part,
        /// Which capacity.
        what: &'static str,
        /// The header's number.
        found: u32,
        /// This build's limit.
        most: u32,
    },
    /// The memfd is smaller or larger than its capacities need.
    #[error("{part:?} memfd: {found} bytes, its capacities need {needed}")]
    Size {
        /// Which memfd.
        part: Part,
        /// Bytes of the memfd.
        found: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The memfd could shrink under us.
    #[error("{part:?} memfd: seals are {found:#x}, need shrink and grow ({needed:#x})")]
    Seals {
        /// Which memfd.
        part: Part,
        /// Its seals.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// Parts of two segments.
    #[error(
        "{part:?} memfd belongs to segment {found:02x?} with {found_capacities:?}, the first part to {expected:02x?} with {expected_capacities:?}"
    )]
    Mixed {
        /// Which memfd.
        part: Part,
        /// Its boot id.
        found: [u8; 16],
        /// Its capacities.
        found_capacities: Capacities,
        /// The first part's boot id.
        expected: [u8; 16],
        /// The first part's capacities.
        expected_capacities: Capacities,
    },
    /// A part that this access has no right to.
    #[error("{part:?} memfd: not for {access:?}")]
    Forbidden {
        /// Which memfd.
        part: Part,
        /// Whose.
        access: Access,
    },
    /// No memfd at all.
    #[error("no memfd to attach to")]
    Empty,
}

/// Bytes that a part needs.
pub(crate) const fn bytes_of(part: Part, capacities: &Capacities) -> usize {
    match part {
        Part::Intent => intent_layout(capacities).bytes,
        Part::Keys => keys_bytes(capacities),
        Part::Durable => durable_layout(capacities).bytes,
        Part::Store => store_bytes(capacities),
    }
}

/// The most of each capacity that a header may claim: keeps every offset far below 2^40.
const MOST: Capacities = Capacities {
    transports: 1 << 20,
    tracks: 1 << 20,
    subscriptions: 1 << 24,
    rooms: 1 << 20,
    chunks: 1 << 20,
    workers: 64,
};
const _: () = assert!(MOST.workers as usize == WORKERS);

/// Refuses capacities that are out of bounds.
pub(crate) fn check_capacities(part: Part, capacities: &Capacities) -> Result<(), AttachError> {
    let checks = [
        ("transports", capacities.transports, MOST.transports),
        ("tracks", capacities.tracks, MOST.tracks),
        ("subscriptions", capacities.subscriptions, MOST.subscriptions),
        ("rooms", capacities.rooms, MOST.rooms),
        ("chunks", capacities.chunks, MOST.chunks),
        ("workers", capacities.workers, MOST.workers),
    ];
    for (what, found, most) in checks {
        if found > most {
            return Err(AttachError::Capacity { part, what, found, most });
        }
    }
    Ok(())
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A checked part, mapped.
pub(crate) struct AttachedPart {
    pub(crate) mapping: Mapping,
    pub(crate) capacities: Capacities,
    pub(crate) boot_id: [u8; 16],
}

/// Checks a memfd's size, seals and header, and maps it.
pub(crate) fn attach_part(part: Part, fd: BorrowedFd<'_>, writable: bool) -> Result<AttachedPart, AttachError> {
    let system = |source| AttachError::System { part, source };
    let found = fstat(fd).map_err(system)?.st_size;
    let found = u64::try_from(found).unwrap_or(0);
    if found < HEADER_BYTES as u64 {
        return Err(AttachError::Size { part, found, needed: HEADER_BYTES as u64 });
    }
    let seals = fcntl_get_seals(fd).map_err(system)?;
    if !seals.contains(SEALS) {
        return Err(AttachError::Seals { part, found: seals.bits(), needed: SEALS.bits() });
    }
    let header = Mapping::of_memfd(fd, HEADER_BYTES, false).map_err(system)?;
    let header: SegmentHeader = header
        .words(0, words::words_of::<SegmentHeader>())
        .and_then(words::take)
        .ok_or(AttachError::Size { part, found, needed: HEADER_BYTES as u64 })?;
    check_header(part, &header)?;
    let capacities = capacities_of(&header);
    check_capacities(part, &capacities)?;
    let bytes = bytes_of(part, &capacities);
    if found != bytes as u64 {
        return Err(AttachError::Size { part, found, needed: bytes as u64 });
    }
    let mapping = Mapping::of_memfd(fd, bytes, writable).map_err(system)?;
    Ok(AttachedPart { mapping, capacities, boot_id: header.boot_id })
}

fn check_header(part: Part, header: &SegmentHeader) -> Result<(), AttachError> {
    if header.magic != MAGIC {
        return Err(AttachError::Magic { part, found: header.magic });
    }
    if header.abi_version != ABI_VERSION {
        return Err(AttachError::AbiVersion { part, found: header.abi_version });
    }
    if header.fingerprint != FINGERPRINT {
        return Err(AttachError::Fingerprint { part, found: header.fingerprint });
    }
    if header.part != part as u32 {
        return Err(AttachError::Part { part, found: header.part });
    }
    Ok(())
}

const fn capacities_of(header: &SegmentHeader) -> Capacities {
    Capacities {
        transports: header.transports,
        tracks: header.tracks,
        subscriptions: header.subscriptions,
        rooms: header.rooms,
        chunks: header.chunks,
        workers: header.workers,
    }
}

/// The header of a part.
pub(crate) const fn header_of(part: Part, capacities: &Capacities, boot_id: [u8; 16]) -> SegmentHeader {
    let mut header = SegmentHeader::zeroed();
    header.magic = MAGIC;
    header.abi_version = ABI_VERSION;
    header.part = part as u32;
    header.fingerprint = FINGERPRINT;
    header.boot_id = boot_id;
    header.transports = capacities.transports;
    header.tracks = capacities.tracks;
    header.subscriptions = capacities.subscriptions;
    header.rooms = capacities.rooms;
    header.chunks = capacities.chunks;
    header.workers = capacities.workers;
    header
}

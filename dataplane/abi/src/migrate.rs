// SPDX-License-Identifier: Apache-2.0
//! From one layout version to the next and back.
//!
//! ```text
//!  version N       | version, size | known to N                 | reserve: zero                |
//!  version N + 1   | version, size | known to N                 | known to N + 1 | reserve     |
//! ```
//!
//! Rings and frame tables are equal or refused. Intent and durable records carry (version, size) and grow only into their
//! reserve, so that a record of version N read as N + 1 has zeroes ("not known") in the fields that N does not have, and a
//! record of N + 1 read as N loses just those. Must never guess: what is more than one version away is refused.

use core::fmt;

use crate::durable::{EgressDurable, IngressDurable, TransportDurable};
use crate::intent::{KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use crate::layout::Record;

/// The record types that a successor of another version takes over.
pub const MIGRATED: &[Record] = &[
    Record::of::<TransportIntent>(),
    Record::of::<TrackIntent>(),
    Record::of::<SubscriptionIntent>(),
    Record::of::<RoomIntent>(),
    Record::of::<KeyIntent>(),
    Record::of::<TransportDurable>(),
    Record::of::<IngressDurable>(),
    Record::of::<EgressDurable>(),
];

/// Bytes of (version, size) in front of a migrated record.
const STAMP_BYTES: usize = 4;

/// Why a record is not migrated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// More than one version away.
    TooFar {
        /// The record's version.
        from: u16,
        /// The version asked for.
        to: u16,
    },
    /// Records grow into their reserve only: their size stays.
    Size {
        /// Bytes of the source.
        from: usize,
        /// Bytes of the target.
        to: usize,
    },
    /// The record does not carry the version and size that it should have.
    Stamp {
        /// Version found.
        version: u16,
        /// Size found.
        size: u16,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFar { from, to } => write!(f, "record version {from} cannot become {to}: only one step at a time"),
            Self::Size { from, to } => write!(f, "record of {from} bytes cannot become one of {to}"),
            Self::Stamp { version, size } => write!(f, "record says version {version}, {size} bytes, which is not so"),
        }
    }
}

impl core::error::Error for Refused {}

/// Copies a record from one version's layout to another's, at most one version away. A record that was never begun (its
/// version is 0) stays that: all zero.
///
/// # Errors
/// [`Refused`], with the numbers; the target is zero then.
pub fn migrate(from: &[u8], source: &Record, to: &mut [u8], target: &Record) -> Result<(), Refused> {
    to.fill(0);
    if source.version.abs_diff(target.version) > 1 {
        return Err(Refused::TooFar { from: source.version, to: target.version });
    }
    if source.size != target.size || from.len() != source.size || to.len() != target.size {
        return Err(Refused::Size { from: from.len().max(source.size), to: to.len().max(target.size) });
    }
    let Some(([v0, v1, s0, s1], _)) = from.split_first_chunk::<STAMP_BYTES>() else {
        return Err(Refused::Size { from: from.len(), to: to.len() });
    };
    let (version, size) = (u16::from_ne_bytes([*v0, *v1]), u16::from_ne_bytes([*s0, *s1]));
    if version == 0 {
        return Ok(());
    }
    if version != source.version || usize::from(size) != source.size {
        return Err(Refused::Stamp { version, size });
    }
    let known = source.known_bytes().min(target.known_bytes());
    if let (Some(from), Some(to)) = (from.get(STAMP_BYTES..known), to.get_mut(STAMP_BYTES..known)) {
        to.copy_from_slice(from);
    }
    if let Some((stamp, _)) = to.split_first_chunk_mut::<STAMP_BYTES>() {
        let ([v0, v1], [s0, s1]) = (target.version.to_ne_bytes(), size.to_ne_bytes());
        *stamp = [v0, v1, s0, s1];
    }
    Ok(())
}

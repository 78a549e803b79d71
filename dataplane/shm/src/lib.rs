// SPDX-License-Identifier: Apache-2.0
//! The segment: tables, publication, rings, packet store, counters.
//!
//! ```text
//!  programmer ── IntentWriter ──> intent memfd ── change ring ──> worker: copies the record, uses the copy
//!  worker ─────── publish ──────> durable memfd (read-only for everyone else)
//!  worker ─────── LogWriter ────> store memfd ── LogReader ──> any worker
//! ```
//!
//! Everything that two processes or two threads share goes through here, as safe functions over atomics: any bytes in
//! the segment, changed at any time by a hostile peer, give wrong values at worst, never memory unsafety. This crate must
//! never log, block, or allocate in push, pop, get, reserve or commit, and never hand out `&[u8]` of shared plaintext.
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests"))]

pub mod allocation;
pub mod attach;
pub mod frames;
pub mod intent;
pub mod mapping;
pub mod prefetch;
pub mod publish;
pub mod ring;
pub mod segment;
pub mod store;
pub mod sync;
pub mod words;

pub use attach::{Access, AttachError, AttachFds};
pub use intent::IntentWriter;
pub use mapping::Mapping;
pub use segment::{Segment, SegmentFds};

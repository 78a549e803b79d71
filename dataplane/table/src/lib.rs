// SPDX-License-Identifier: Apache-2.0
//! A call described by a file, for a data plane without a control plane and for the programs that measure it:
//! [`Table`] is what the file says, [`Plan`] is every transport, track and subscription of it, one by one.
//!
//! ```text
//!  file (TOML, JSON) ── Table::parse ──► Table ── Table::plan ──► Plan
//! ```
//!
//! Both sides of a measurement read the same file, so that keys and SSRCs need no exchange. Keys that the file does not
//! give are derived from its seed and known to everybody: this must never carry a call of people.
#![forbid(unsafe_code)]

mod keys;
mod plan;
mod table;

pub use keys::{Cipher, Keys, UnknownCipher};
pub use plan::{Plan, Publisher, Receiver, Stream, Track};
pub use table::{PublisherGroup, ReceiverGroup, Table, TableError, TrackEntry};

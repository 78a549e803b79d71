// SPDX-License-Identifier: Apache-2.0
//! The pipeline: what a worker does with packets. Two halves and a store between them.
//!
//! ```text
//!  receive half: one batch, to completion                    send half: tiles of at most 128 frames, pulled
//!  classify ─► stun (answer, admission)                      replies ─► injected DTLS ─► RTCP ─► audio ─► RTX ─► video ─► catch-up
//!           ─► punt (DTLS)                                        each tile: cohort cursor ─► select ─► rewrite ─► fanout ─► port
//!           ─► ingress (SRTP, packet store) ─► repair
//!           ─► feedback (SRTCP)
//! ```
//!
//! Law: no clock, no system call, no allocation after construction; `now` is an argument, and what has to be done outside
//! (wake-ups, the flow map) is returned as [`Effects`] and [`Admissions`]. The crate never reads intent on the packet path: a change ring names the
//! slots that changed, the worker copies and validates them between batches.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )
)]

mod changes;
mod counting;
mod doors;
mod hold;
mod keys;
mod ledger;
mod objects;
mod peers;
mod receive;
mod rehearse;
mod reported;
mod send;
mod worker;

pub use dataplane_abi::ledger::{CohortLedger, ReceiveLedger};
pub use peers::{Peers, mesh};
pub use receive::admission::{Admissions, FlowChange};
#[cfg(null_cipher)]
pub use send::seal::null::leave_out_cipher;
pub use send::tile::Tile;
pub use worker::{Config, Effects, Now, Worker, WorkerError};

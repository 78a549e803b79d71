// SPDX-License-Identifier: Apache-2.0
//! The ports: where packets enter and leave a worker.
//!
//! ```text
//!                      port::Port + wait::Wait
//!        ┌──────────────────┴───────────────┬──────────────────┐
//!  open::SocketPort = uring::UringPort | sockets::SocketsPort   simulated::SimulatedPort
//!        └── paths, transmit, ancillary, clock, memory ──┘       (in memory, seeded)
//! ```
//!
//! A port never blocks outside `wait`, never allocates per packet after its construction, never logs, and no answer of the
//! kernel makes it panic. It knows addresses and frames; what is in a datagram is never its business.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod nexthop;
pub mod open;
pub mod port;
pub mod set;
pub mod simulated;
pub mod socket;
pub mod sockets;
pub mod uring;
pub mod wait;
pub mod xdp;

mod ancillary;
mod clock;
mod memory;
mod paths;
mod received;
mod transmit;

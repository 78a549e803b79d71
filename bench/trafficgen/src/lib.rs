// SPDX-License-Identifier: Apache-2.0
//! SRTP from synthetic streams: the publishers of a table, each from its own address, at the rate of a camera and a
//! microphone, with probes whose send time is known.
//!
//! ```text
//!  Plan ── Sender::open ──► sockets, contexts ── run ──► frames when they are due ──► Sent: counts, probes
//! ```
//!
//! Its counts are what a measurement compares with: it must never count a packet that the kernel did not take.
#![forbid(unsafe_code)]

pub mod media;
pub mod payload;
pub mod sender;
pub mod session;

pub use media::Shape;
pub use sender::{Probe, Sender, Sent};

/// Monotonic time, ns; the clock that BPF programs read.
#[must_use]
pub fn mono_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let [seconds, ns] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1_000_000_000 + ns
}

// SPDX-License-Identifier: Apache-2.0
//! SRTP from synthetic or recorded streams: the publishers of a table, each from its own address, at the rate of a camera and a
//! microphone, with probes whose send time is known; and the table's receivers.
//!
//! ```text
//!  Plan ── Sender::open ──► sockets, contexts ── run ──► packets when they are due ──► Sent: counts, probes
//!            ▲                                    │
//!  Options, Recordings (pcap in)                  └── loss, reordering ──► pcap out
//! ```
//!
//! | module | gives |
//! |---|---|
//! | [`options`] | all that can be asked for: bursts, pauses, encodings, layers, surges |
//! | [`media`] | when frames are due, and of how many packets each is |
//! | [`payload`] | what a packet carries, so that a receiver can tell whether it is what was sent; behind the heads of VP8, VP9, H.264, AV1 and Opus |
//! | [`recording`] | recorded RTP from pcap and pcapng files, to be sent again |
//! | [`impairment`] | which packets are lost, and which leave behind later ones |
//! | [`sender`] | sends, counts, notes probes, writes pcap |
//! | [`link`] | frames onto a wire, where there are more publishers than sockets can be fed |
//! | [`receiver`] | receives what a server sends on: gaps, duplicates, what does not open, latency |
//! | [`cipher`] | SRTP by a cipher library, for what is sent |
//! | [`session`] | SRTP by `webrtc-srtp`, for what is received |
//! | [`svc`] | spatial and temporal layers in one SSRC, as VP9 describes them |
//!
//! Its counts are what a measurement compares with: it must never count a packet that the kernel did not take.
#![forbid(unsafe_code)]

mod av1;
mod capture;
pub mod cipher;
mod feedback;
mod fragment;
mod h264;
pub mod impairment;
pub mod link;
pub mod media;
pub mod options;
pub mod payload;
pub mod receiver;
pub mod recording;
pub mod sender;
mod sent;
pub mod session;
mod source;
pub mod svc;

pub use media::Shape;
pub use receiver::{Received, Receivers};
pub use sender::{Probe, Sender, Sent};

/// Monotonic time, ns; the clock that BPF programs read.
#[must_use]
pub fn mono_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let [seconds, ns] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1_000_000_000 + ns
}

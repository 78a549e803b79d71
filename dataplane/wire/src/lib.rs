// SPDX-License-Identifier: Apache-2.0
//! The bytes: zero-copy views of Ethernet to RTP, RTCP and STUN.
//!
//! Every parser borrows the datagram, proves its lengths once and then offers accessors that cannot fail; every emitter
//! writes into a lent slice and returns the number of bytes it wrote. Addresses are 16 bytes, IPv4 in v4-mapped form.
//!
//! This crate must never allocate, panic, log, keep state between packets or trust a count found in a packet.
//!
//! | module | bytes |
//! |---|---|
//! | [`eth`], [`ip`], [`udp`] | Ethernet II with up to two VLAN tags, IPv4/IPv6, UDP |
//! | [`window`] | what those read from: a slice, or a frame that an XDP program looks at |
//! | [`demux`] | RFC 7983 and RFC 5761 classes of one datagram |
//! | [`stun`] | RFC 8489 messages as ICE (RFC 8445) uses them |
//! | [`rtp`], [`ext`] | RFC 3550 headers, RFC 8285 extension elements |
//! | [`rtcp`] | compound packets and feedback |
//! | [`codec`] | payload descriptors of VP8, VP9, H.264, AV1 and Opus |
//! | [`seq`] | arithmetic on numbers that wrap |
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(test)]
extern crate std;

mod bytes;
pub mod codec;
pub mod demux;
mod emit;
pub mod eth;
pub mod ext;
pub mod ip;
pub mod rtcp;
pub mod rtp;
pub mod seq;
pub mod stun;
pub mod udp;
pub mod window;

pub use emit::EmitError;
pub use udp::{FrameError, UdpFrame, UdpHead, parse_frame, parse_head};
pub use window::Window;

/// Gives the error enums of this crate `Display` and `Error`; the variant name is the message.
macro_rules! impl_error {
    ($($name:ty),+ $(,)?) => {$(
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt(self, f)
            }
        }
        impl core::error::Error for $name {}
    )+};
}

impl_error!(
    EmitError,
    FrameError,
    stun::StunError,
    rtp::RtpError,
    //RE
    //CE
);

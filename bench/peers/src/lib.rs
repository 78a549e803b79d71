// SPDX-License-Identifier: Apache-2.0
//! What Millrace is measured against: other servers, and two floor programs of our own (`millrace-floor`) that do the same
//! work with a cipher library and `sendmmsg`, without and with UDP segmentation.
//!
//! ```text
//!  compare ── systems ──┬── measure::table ─── millrace-dataplane, millrace-floor (a table of keys)
//!   pairs, ratios       ├── measure::webrtc ── server::webrtc ── client (ICE, DTLS, SRTP)
//!                       └── measure::sdes ──── server::rtpengine
//!  server::webrtc: janus, or what is told of clients by `orders`: `sfu` (`millrace-str0m`), mediasoup behind a script
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod compare;
pub mod floor;
pub mod handshakes;
pub mod largest;
pub mod measure;
pub mod orders;
pub mod progress;
pub mod server;
#[cfg(feature = "str0m")]
pub mod sfu;
pub mod systems;

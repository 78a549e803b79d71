// SPDX-License-Identifier: Apache-2.0
//! What Millrace is measured against: other servers, and two floor programs of our own (`millrace-floor`) that do the same
//! work with a cipher library and `sendmmsg`, without and with UDP segmentation.
//!
//! ```text
//!  compare ── systems ──┬── measure::table ─── millrace-dataplane, millrace-floor (a table of keys)
//!   pairs, ratios       └── measure::webrtc ── server::janus ── client (ICE, DTLS, SRTP)
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod compare;
pub mod floor;
pub mod handshakes;
pub mod largest;
pub mod measure;
pub mod progress;
pub mod server;
pub mod systems;

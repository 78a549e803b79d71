// SPDX-License-Identifier: Apache-2.0
//! The servers that are measured: how each is installed, started, and given a publisher and receivers.

use std::process::Command;

pub mod bencode;
pub mod janus;
pub mod mediasoup;
pub mod millrace;
pub mod rtpengine;
pub mod sdp;
pub mod unit;
pub mod webrtc;

/// A command as one would type it, for a report.
#[must_use]
pub fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

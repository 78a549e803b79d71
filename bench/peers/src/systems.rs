// SPDX-License-Identifier: Apache-2.0
//! The systems by name, what each needs, and one run of each.

use anyhow::Result;
use tools_netlab::install;

use crate::measure::{Outcome, Setup, sdes, table, webrtc};
use crate::server::janus::{self, Threads};
use crate::server::rtpengine;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Our data plane over AF_XDP: what all others are held against.
    Millrace,
    /// Our data plane over io_uring.
    MillraceUring,
    /// A cipher library and `sendmmsg`.
    FloorSendmmsg,
    /// A cipher library and `UDP_SEGMENT`.
    FloorGso,
    /// Janus as it comes: a thread for each client.
    Janus,
    /// Janus with one event loop, as many as the server has cores here.
    JanusLoop,
    /// rtpengine in user space, SDES instead of ICE and DTLS.
    Rtpengine,
}

impl System {
    /// As tables and reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Millrace => "millrace-xdp",
            Self::MillraceUring => "millrace-uring",
            Self::FloorSendmmsg => "floor-sendmmsg",
            Self::FloorGso => "floor-gso",
            Self::Janus => "janus",
            Self::JanusLoop => "janus-loop",
            Self::Rtpengine => "rtpengine",
        }
    }

    /// The systems that a word of `--peers` means; `None` for a word that means nothing.
    #[must_use]
    pub fn of(word: &str) -> Option<&'static [Self]> {
        Some(match word {
            "janus" => &[Self::Janus, Self::JanusLoop],
            "rtpengine" => &[Self::Rtpengine],
            "floor" => &[Self::FloorSendmmsg, Self::FloorGso],
            "uring" => &[Self::MillraceUring],
            _ => return None,
        })
    }

    /// How many times less CPU for each forwarded packet we must need.
    #[must_use]
    pub fn bar(self) -> Option<f64> {
        match self {
            Self::Janus | Self::JanusLoop => Some(20.0),
            Self::FloorSendmmsg => Some(2.0),
            Self::Millrace | Self::MillraceUring | Self::FloorGso | Self::Rtpengine => None,
        }
    }

    /// Installs what it needs.
    ///
    /// # Errors
    /// When that cannot be had; the message is the reason to skip it.
    pub fn install(self) -> Result<()> {
        match self {
            Self::Janus | Self::JanusLoop => install::ensure_apt(&[janus::PACKAGE]),
            Self::Rtpengine => install::ensure_apt(&[rtpengine::PACKAGE]),
            Self::Millrace | Self::MillraceUring | Self::FloorSendmmsg | Self::FloorGso => Ok(()),
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// When the run cannot be set up.
    pub fn run(self, setup: &Setup<'_>) -> Result<Outcome> {
        match self {
            Self::Millrace => table::run(table::MILLRACE_XDP, setup),
            Self::MillraceUring => table::run(table::MILLRACE_URING, setup),
            Self::FloorSendmmsg => table::run(table::FLOOR_SENDMMSG, setup),
            Self::FloorGso => table::run(table::FLOOR_GSO, setup),
            Self::Janus => webrtc::run_janus(Threads::PerClient, setup),
            Self::Rtpengine => sdes::run_rtpengine(setup),
            Self::JanusLoop => webrtc::run_janus(Threads::Loops(1), setup),
        }
    }
}

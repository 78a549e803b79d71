// SPDX-License-Identifier: Apache-2.0
//! The systems by name, what each needs, who is held against whom, and one run of each.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tools_netlab::install;

use crate::measure::{Outcome, Setup, sdes, table, webrtc};
use crate::server::janus::{self, Threads};
use crate::server::webrtc::Kind;
use crate::server::{mediasoup, rtpengine};

/// The program of our unit of `str0m`, which is built where its feature is asked for.
pub const STR0M: &str = "millrace-str0m";

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
    /// A forwarding unit of the `str0m` library in one thread (`millrace-str0m`).
    Str0m,
    /// mediasoup with one worker.
    Mediasoup,
}

/// A peer, and which of our servers it is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Duel {
    /// The other one.
    pub peer: System,
    /// Ours.
    pub ours: System,
    /// How many times less CPU for each forwarded packet ours must need.
    pub bar: Option<f64>,
}

impl Duel {
    const fn xdp(peer: System, bar: Option<f64>) -> Self {
        Self { peer, ours: System::Millrace, bar }
    }

    const fn uring(peer: System, bar: Option<f64>) -> Self {
        Self { peer, ours: System::MillraceUring, bar }
    }

    /// As reports name it.
    #[must_use]
    pub fn name(self) -> String {
        if self.ours == System::Millrace {
            self.peer.name().to_owned()
        } else {
            format!("{}.by_{}", self.peer.name(), self.ours.name())
        }
    }

    /// The duels that a word of `--peers` means; `None` for a word that means nothing.
    #[must_use]
    pub fn of(word: &str) -> Option<&'static [Self]> {
        const JANUS: [Duel; 2] = [Duel::xdp(System::Janus, Some(20.0)), Duel::xdp(System::JanusLoop, Some(20.0))];
        const RTPENGINE: [Duel; 1] = [Duel::xdp(System::Rtpengine, None)];
        const FLOOR: [Duel; 2] = [Duel::xdp(System::FloorSendmmsg, Some(2.0)), Duel::xdp(System::FloorGso, None)];
        const STR0M: [Duel; 1] = [Duel::xdp(System::Str0m, None)];
        const MEDIASOUP: [Duel; 1] = [Duel::xdp(System::Mediasoup, Some(8.0))];
        const URING: [Duel; 2] = [Duel::uring(System::FloorSendmmsg, Some(1.5)), Duel::uring(System::FloorGso, None)];
        Some(match word {
            "janus" => &JANUS,
            "rtpengine" => &RTPENGINE,
            "floor" => &FLOOR,
            "uring" => &URING,
            "str0m" => &STR0M,
            "mediasoup" => &MEDIASOUP,
            _ => return None,
        })
    }
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
            Self::Str0m => "str0m",
            Self::Mediasoup => "mediasoup",
        }
    }

    /// The Debian package that it comes from.
    const fn package(self) -> Option<&'static str> {
        match self {
            Self::Janus | Self::JanusLoop => Some(janus::PACKAGE),
            Self::Rtpengine => Some(rtpengine::PACKAGE),
            Self::Millrace | Self::MillraceUring | Self::FloorSendmmsg | Self::FloorGso => None,
            Self::Str0m | Self::Mediasoup => None,
        }
    }

    /// Its version: the package's, or what our own program says.
    #[must_use]
    pub fn version(self, programs: &Path) -> String {
        if self == Self::Mediasoup {
            return format!("npm {}", mediasoup::VERSION);
        }
        let mut command = match (self.package(), self) {
            (Some(package), _) => {
                let mut query = Command::new("dpkg-query");
                query.args(["-W", "-f", "${Package} ${Version}", package]);
                query
            }
            (None, Self::FloorSendmmsg | Self::FloorGso) => Command::new(programs.join("millrace-floor")),
            (None, Self::Str0m) => Command::new(programs.join(STR0M)),
            (None, _) => Command::new(programs.join("millrace-dataplane")),
        };
        if self.package().is_none() {
            command.arg("--version");
        }
        let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        output.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Installs what it needs; our own are in `programs`, `worker` is mediasoup's.
    ///
    /// # Errors
    /// When that cannot be had; the message is the reason to skip it.
    pub fn install(self, programs: &Path, worker: Option<&Path>) -> Result<()> {
        if self == Self::Mediasoup {
            return mediasoup::install(worker);
        }
        let is_built = self != Self::Str0m || programs.join(STR0M).is_file();
        ensure!(is_built, "{STR0M} is not built: cargo build --release -p bench-peers --features str0m");
        self.package().map_or(Ok(()), |package| install::ensure_apt(&[package]))
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
            Self::Janus => webrtc::run(Kind::Janus(Threads::PerClient), setup),
            Self::Rtpengine => sdes::run_rtpengine(setup),
            Self::Str0m => webrtc::run(Kind::Str0m, setup),
            Self::Mediasoup => webrtc::run(Kind::Mediasoup, setup),
            Self::JanusLoop => webrtc::run(Kind::Janus(Threads::Loops(1)), setup),
        }
    }
}

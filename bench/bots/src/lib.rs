// SPDX-License-Identifier: Apache-2.0
//! Clients made of nothing that the server is made of: ICE is `is`, DTLS is `dimpl`, SRTP is `webrtc-srtp`. The parts that
//! any server can be measured with are public ([`transport`], [`rtp`]); the participants of millrace.v1 are what
//! [`run`] starts. It must never be pointed at a server without its owner's consent: it makes load.
#![forbid(unsafe_code)]

mod args;
mod bot;
mod crowd;
mod media;
mod numbers;
pub mod profile;
mod receive;
mod report;
mod room;
mod rtcp;
pub mod rtp;
pub mod sdp;
mod signaling;
pub mod transport;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Does what the command line asks for and prints the report.
pub async fn run() -> ExitCode {
    let args = args::Args::parse();
    let report = match crowd::run(&args).await {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace-bots: {error:#}");
            return ExitCode::from(2);
        }
    };
    let text = if args.json { report.json() } else { report.text() };
    let _ = writeln!(std::io::stdout(), "{text}");
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

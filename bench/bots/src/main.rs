// SPDX-License-Identifier: Apache-2.0
//! `millrace-bots`: participants that join a room over millrace.v1, publish synthetic VP8 and Opus, watch each other and
//! count what arrives. It shares no protocol code with the server: ICE is `is`, DTLS is `dimpl`, SRTP is `webrtc-srtp`.
//! It must never be pointed at a server without its owner's consent: it makes load.
#![forbid(unsafe_code)]

mod args;
mod bot;
mod crowd;
mod media;
mod numbers;
mod receive;
mod report;
mod room;
mod rtcp;
mod rtp;
mod sdp;
mod signaling;
mod transport;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
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

// SPDX-License-Identifier: Apache-2.0
//! `millrace-str0m`: a selective forwarding unit made of the `str0m` library, to be measured beside ours.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bench_peers::orders;
use bench_peers::sfu::{Sfu, VERSION};
use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Forwards one publisher's WebRTC media to all who subscribe, in one thread, by the str0m library.
#[derive(Parser)]
#[command(
    name = "millrace-str0m",
    version = VERSION,
    after_help = "Example:\n  millrace-str0m --listen 127.0.0.1:9000\n\nClients are told of by TCP on the same port: millrace-peers does so."
)]
struct Args {
    /// UDP address of the media; TCP for orders on the same.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace-str0m: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let at = || format!("listen on {}", args.listen);
    let socket = UdpSocket::bind(args.listen).with_context(at)?;
    let orders = orders::take(TcpListener::bind(args.listen).with_context(at)?, args.listen)?;
    let mut sfu = Sfu::new(socket, orders)?;
    writeln!(std::io::stdout(), "ready: {}", std::process::id())?;
    loop {
        sfu.serve()?;
    }
}

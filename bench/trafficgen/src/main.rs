// SPDX-License-Identifier: Apache-2.0
//! `millrace-trafficgen`: sends what the publishers of a table send.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bench_trafficgen::sender::{Options, Sender};
use clap::Parser;
use dataplane_table::Table;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends SRTP as the publishers of a table do: 1.5 Mbps of video in 30 bursts per second, 50 packets of audio.
#[derive(Parser)]
#[command(
    name = "millrace-trafficgen",
    version,
    after_help = "Example:
  millrace-trafficgen --table call.toml --seconds 10

The addresses of the table's publishers must be this host's."
)]
struct Arguments {
    /// The call; docs/TABLE.md describes it.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = Table::read(&arguments.table)?.plan()?;
    let sender = Sender::open(&plan, &Options::default())?;
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(arguments.seconds));
            stop.store(true, Ordering::Relaxed);
        });
        sender.run(&stop, &count)
    });
    writeln!(
        std::io::stdout(),
        "sent {} packets, {} refused, {} frames late, {} probes",
        sent.total(),
        sent.refused,
        sent.late,
        sent.probes.len()
    )?;
    Ok(())
}

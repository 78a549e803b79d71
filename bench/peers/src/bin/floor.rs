// SPDX-License-Identifier: Apache-2.0
//! `millrace-floor`: fans a source out by a table with a cipher library and one UDP socket, in one thread.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use bench_peers::floor::fan::{Fan, Path};
use clap::Parser;
use dataplane_table::Table;

const EXAMPLE: &str = "The table is that of `millrace-dataplane --table`.

Example:
  taskset -c 1 millrace-floor --table webinar.json --path gso --seconds 60";

/// Forwards SRTP from one source to the receivers of a table: the least that any server does, with a library's cipher.
#[derive(Parser)]
#[command(name = "millrace-floor", version, after_help = EXAMPLE)]
struct Args {
    /// Who sends, who receives, under which keys (TOML or JSON).
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// How packets leave.
    #[arg(long, value_enum, default_value = "sendmmsg")]
    path: Path,
    /// Wait for the rest of a burst this long, µs; by default 300 with --path gso, which lives on it, else 0.
    #[arg(long, value_name = "N")]
    gather_us: Option<u64>,
    /// End after so many seconds; without it, on a signal.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let plan = Table::read(&args.table)?.plan()?;
    let gather = Duration::from_micros(args.gather_us.unwrap_or(if args.path == Path::Gso { 300 } else { 0 }));
    let mut fan = Fan::new(&plan, args.path, gather)?;
    let (streams, cipher) = (plan.streams(), plan.cipher.name());
    writeln!(std::io::stdout(), "ready: {streams} streams from {}, {cipher}, {:?}", plan.server, args.path)?;
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    while end.is_none_or(|end| Instant::now() < end) {
        fan.serve()?;
    }
    let counts = fan.counts();
    writeln!(std::io::stdout(), "{} packets taken, {} dropped", counts.taken, counts.dropped)?;
    Ok(())
}

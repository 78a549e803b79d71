// SPDX-License-Identifier: Apache-2.0
//! millrace: one CLI for operators.
//!
//! ```text
//!  keeper ── read-only descriptors ──► Segment ──► status, drops: one structure each ──► JSON, or text made from it
//! ```
//!
//! It reads counters and intent and nothing else: no keys, no packets. It must never change anything, and it answers
//! whether or not the planes live.
#![forbid(unsafe_code)]

mod drops;
#[cfg(test)]
mod golden;
mod ledger;
mod processes;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::drops::Drops;
use crate::processes::Processes;
use crate::source::SourceError;
use crate::status::{Status, Totals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something is wrong with the server.
const WRONG: u8 = 1;
/// The server could not be asked.
const CANNOT_SAY: u8 = 2;

/// Looks into a running Millrace.
#[derive(Parser, Debug)]
#[command(
    name = "millrace",
    version,
    after_help = "Examples:
  millrace status                      processes, workers, ledgers, tables
  millrace status --watch 2            again every 2 seconds, with rates
  millrace drops                       why packets went no further, the largest first
  millrace drops --json | jq .totals   every reason by name

Exit status:
  0  all is well (drops: it could be read)
  1  something is wrong: a process dead or stopped, a worker standing still, a ledger not exact.
     The output is complete all the same, and says what.
  2  cannot say: no keeper, no permission, another version, wrong arguments"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Shows processes, workers, ledgers and tables; works while either plane is dead.
    #[command(after_help = "Exit status: 0 all is well, 1 something is wrong (the output says what), 2 cannot say.")]
    Status(Common),
    /// Shows why packets went no further, by reason.
    #[command(after_help = "Exit status: 0 the counters could be read, 2 cannot say. docs/DROPS.md lists all reasons.")]
    Drops {
        #[command(flatten)]
        common: Common,
        /// Show reasons with no packets too.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args, Debug)]
struct Common {
    /// JSON instead of text; names of fields are stable.
    #[arg(long)]
    json: bool,
    /// Where the keeper's socket lies [default: XDG runtime directory, for root /run/millrace].
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Ask again every so many seconds; with --json one line each time.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    watch: Option<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "millrace: {error}");
            ExitCode::from(CANNOT_SAY)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, SourceError> {
    let (Command::Status(common) | Command::Drops { common, .. }) = &arguments.command;
    let runtime_dir = common.runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let mut before: Option<(Instant, Totals)> = None;
    loop {
        // Each time anew: a keeper that was started again holds other memory.
        let segment = source::attach(&runtime_dir)?;
        let status = status::collect(&segment, Processes::look(&runtime_dir), mono_ns());
        let at = Instant::now();
        let text = render(&arguments.command, &status, before.as_ref().map(|(then, totals)| (at - *then, totals)));
        let is_written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()).is_ok();
        let code = match arguments.command {
            Command::Status(_) if !status.ok => WRONG,
            Command::Status(_) | Command::Drops { .. } => 0,
        };
        let Some(seconds) = common.watch.filter(|_| is_written) else { return Ok(code) };
        before = Some((at, status.totals));
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
}

fn render(command: &Command, status: &Status, since: Option<(Duration, &Totals)>) -> String {
    match command {
        Command::Status(common) if common.json => json(status, common),
        Command::Status(_) => {
            let rates = since.map_or_else(String::new, |(elapsed, before)| {
                format!("\n---- {}", text::rates(before, &status.totals, elapsed))
            });
            format!("{rates}{}", text::status(status))
        }
        Command::Drops { common, .. } if common.json => json(&Drops::of(status), common),
        Command::Drops { all, .. } => {
            let line = if since.is_some() { "\n----\n" } else { "" };
            format!("{line}{}", text::drops(&Drops::of(status), *all))
        }
    }
}

/// Pretty once, a line each time when watching.
fn json(value: &impl Serialize, common: &Common) -> String {
    let rendered =
        if common.watch.is_some() { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    // The structures have string keys and finite numbers only; anything else would be a defect and shows as one.
    rendered.map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| format!("{text}\n"))
}

/// The clock of heartbeats.
fn mono_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

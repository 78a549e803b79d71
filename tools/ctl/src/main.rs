// SPDX-License-Identifier: Apache-2.0
//! millrace: one CLI for operators.
//!
//! ```text
//!  keeper ── read-only descriptors ──► Segment ──► one structure for each command ──► JSON, or text made from it
//!  /proc, /sys, ethtool ─────────────────────────► doctor
//! ```
//!
//! It reads counters, intent and durable records and nothing else: no keys, no packets. It must never change anything, and
//! it answers whether or not the planes live.
#![forbid(unsafe_code)]

mod calls;
mod calls_text;
mod capacity;
mod doctor;
mod drops;
mod follow;
#[cfg(test)]
mod golden;
mod interface;
mod latency;
mod ledger;
mod processes;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod text;
mod why;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use dataplane_shm::Segment;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::calls::Calls;
use crate::capacity::Question;
use crate::doctor::{Host, Running};
use crate::drops::Drops;
use crate::latency::Latency;
use crate::processes::Processes;
use crate::source::SourceError;
use crate::status::Status;

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
  millrace status                      processes, ports, workers, ledgers, tables
  millrace status --watch 2            again every 2 seconds, with rates
  millrace rooms                       which rooms are open, and who is in them
  millrace participants --room standup their paths, ciphers, round trips, owners
  millrace streams --participant ada   what she sends and gets, and why it is not better
  millrace drops                       why packets went no further, the largest first
  millrace drops --follow              what is dropped from now on, as it happens
  millrace latency                     from arrival to the kernel's transmit queue
  millrace capacity                    how many more receivers fit, from what a packet costs here
  millrace doctor --interface eth1     what hinders this machine, with the commands that mend it
  millrace streams --json | jq '.[].receivers[].why'

Exit status:
  0  all is well (other commands than status and doctor: it could be read)
  1  something is wrong: a process dead or stopped, a worker standing still, a ledger not exact, a check failed.
     The output is complete all the same, and says what.
  2  cannot say: no keeper, no permission, another version, wrong arguments"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Shows processes, ports, workers, ledgers and tables; works while either plane is dead.
    #[command(after_help = "Exit status: 0 all is well, 1 something is wrong (the output says what), 2 cannot say.")]
    Status(Common),
    /// Shows the rooms that are open.
    #[command(after_help = "Example: millrace rooms --json | jq '.[].room'")]
    Rooms(Narrowed),
    /// Shows who is connected, over which path.
    #[command(
        after_help = "States: waiting (no valid check yet), keyless (DTLS has not finished), live, silent (no consent).
Example: millrace participants --room standup"
    )]
    Participants(Narrowed),
    /// Shows each track, what arrives of it, who gets which encoding, and why.
    #[command(after_help = "Example, a blurred picture: millrace streams --participant ada
  The line of the receiver ends with the first cause that holds: its own tile, a publisher that does not send more, loss.")]
    Streams(Narrowed),
    /// Shows why packets went no further, by reason.
    #[command(after_help = "Exit status: 0 the counters could be read, 2 cannot say. docs/DROPS.md lists all reasons.")]
    Drops {
        #[command(flatten)]
        common: Common,
        /// Show reasons with no packets too.
        #[arg(long)]
        all: bool,
        /// Show what is added from now on, every second (or --watch seconds); with --json one line per reason.
        #[arg(long, conflicts_with = "all")]
        follow: bool,
    },
    /// Shows how long packets stay inside: percentiles by worker, since its start; with --watch, then of the packets since the
    /// last look.
    #[command(after_help = "Example: millrace latency --watch 1")]
    Latency(Common),
    /// Measures what a packet costs here and says how many more receivers fit.
    #[command(
        after_help = "The server should be under load: a worker with fewer than 20000 packets/s is reckoned by the costs that the
benches have measured (docs/BENCHMARKS.md), and the answer says so. The link and the network card are not in it.
Examples:
  millrace capacity                           receivers of 720p (1500 kbit/s) and one microphone
  millrace capacity --kbps 400 --seconds 10   of 360p, measured for 10 s
  millrace capacity --kbps 0 --pps 500        who only listens, to ten speakers
  millrace capacity --json | jq .receivers_more"
    )]
    Capacity {
        /// Video of one receiver, kbit/s, in packets of 1200 bytes.
        #[arg(long, value_name = "N", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
        kbps: u32,
        /// Audio packets per second of one receiver: 50 for each speaker.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        pps: u32,
        /// How much of a worker's core may be used, percent.
        #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=100))]
        fill: u32,
        /// How long it is measured.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
        seconds: u32,
        /// JSON instead of text; names of fields are stable.
        #[arg(long)]
        json: bool,
        /// Where the keeper's socket lies [default: XDG runtime directory, for root /run/millrace].
        #[arg(long, value_name = "DIR")]
        runtime_dir: Option<PathBuf>,
    },
    /// Looks whether this machine lets Millrace do what it can; needs no running server.
    #[command(after_help = "Exit status: 0 no check has failed, 1 one has. Warnings do not fail.
Example: millrace doctor --interface eth1 --json | jq '.checks[] | select(.verdict != \"ok\")'")]
    Doctor {
        /// The interface that XDP is for [default: none, the socket port].
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
        /// JSON instead of text; names of fields are stable.
        #[arg(long)]
        json: bool,
        /// Where the keeper's socket lies [default: XDG runtime directory, for root /run/millrace].
        #[arg(long, value_name = "DIR")]
        runtime_dir: Option<PathBuf>,
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

#[derive(Args, Debug)]
struct Narrowed {
    #[command(flatten)]
    common: Common,
    /// Only this room.
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// Only what this participant sends or gets, by its id.
    #[arg(long, value_name = "ID")]
    participant: Option<String>,
}

impl Command {
    /// The options that all commands have that show what is there.
    const fn common(&self) -> Option<&Common> {
        match self {
            Self::Status(common) | Self::Latency(common) | Self::Drops { common, .. } => Some(common),
            Self::Rooms(narrowed) | Self::Participants(narrowed) | Self::Streams(narrowed) => Some(&narrowed.common),
            Self::Capacity { .. } | Self::Doctor { .. } => None,
        }
    }
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
    let Some(common) = arguments.command.common() else {
        let is_capacity = matches!(arguments.command, Command::Capacity { .. });
        return if is_capacity { reckon(&arguments.command) } else { Ok(examine(&arguments.command)) };
    };
    let runtime_dir = common.runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let is_following = matches!(arguments.command, Command::Drops { follow: true, .. });
    let (started, mut before): (Instant, Option<(Instant, Status)>) = (Instant::now(), None);
    loop {
        // Each time anew: a keeper that was started again holds other memory.
        let segment = source::attach(&runtime_dir)?;
        let status = status::collect(&segment, Processes::look(&runtime_dir), mono_ns());
        let at = Instant::now();
        let text = if is_following {
            followed(before.as_ref().map(|(_, status)| status), &status, started.elapsed().as_secs(), common)
        } else {
            let since = before.as_ref().map(|(then, status)| (at - *then, status));
            render(&arguments.command, &segment, &status, since)
        };
        let is_written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()).is_ok();
        let code = if matches!(arguments.command, Command::Status(_)) && !status.ok { WRONG } else { 0 };
        let again = common.watch.or_else(|| is_following.then_some(1));
        let Some(seconds) = again.filter(|_| is_written) else { return Ok(code) };
        before = Some((at, status));
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
}

/// `millrace drops --follow`: what has come since the last look; the first look is what later ones are compared with.
fn followed(before: Option<&Status>, status: &Status, at_s: u64, common: &Common) -> String {
    let Some(before) = before else { return String::new() };
    let grown = follow::growth(&Drops::of(before), &Drops::of(status), at_s);
    if common.json { grown.iter().map(line).collect() } else { follow::text(&grown) }
}

fn render(command: &Command, segment: &Segment, status: &Status, since: Option<(Duration, &Status)>) -> String {
    let rule = if since.is_some() { "\n----\n" } else { "" };
    let calls = |narrowed: &Narrowed| {
        Calls::collect(segment, mono_ns()).only(narrowed.room.as_deref(), narrowed.participant.as_deref())
    };
    match command {
        Command::Status(common) if common.json => json(status, common),
        Command::Status(_) => {
            let rates = since.map_or_else(String::new, |(elapsed, before)| {
                format!("\n---- {}", text::rates(&before.totals, &status.totals, elapsed))
            });
            format!("{rates}{}", text::status(status))
        }
        Command::Rooms(narrowed) => shown(narrowed, &calls(narrowed).rooms, rule, calls_text::rooms),
        Command::Participants(narrowed) => {
            shown(narrowed, &calls(narrowed).participants, rule, calls_text::participants)
        }
        Command::Streams(narrowed) => shown(narrowed, &calls(narrowed).streams, rule, calls_text::streams),
        Command::Drops { common, .. } if common.json => json(&Drops::of(status), common),
        Command::Drops { all, .. } => format!("{rule}{}", text::drops(&Drops::of(status), *all)),
        Command::Latency(common) => {
            let latency = Latency::of(status, since.map(|(_, before)| before));
            if common.json { json(&latency, common) } else { format!("{rule}{}", latency.text()) }
        }
        Command::Capacity { .. } | Command::Doctor { .. } => String::new(),
    }
}

fn shown<T: Serialize>(narrowed: &Narrowed, list: &[T], rule: &str, text: fn(&[T]) -> String) -> String {
    if narrowed.common.json { json(&list, &narrowed.common) } else { format!("{rule}{}", text(list)) }
}

/// `millrace capacity`.
fn reckon(command: &Command) -> Result<u8, SourceError> {
    let Command::Capacity { kbps, pps, fill, seconds, json: is_json, runtime_dir } = command else {
        return Ok(CANNOT_SAY);
    };
    if *kbps == 0 && *pps == 0 {
        return Err(SourceError::NoPackets);
    }
    let runtime_dir = runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let question = Question { kbps: *kbps, audio_pps: *pps, fill_percent: *fill };
    let answer = capacity::measure(&runtime_dir, Duration::from_secs((*seconds).into()), question)?;
    let text = if *is_json { pretty(&answer) } else { capacity::text(&answer) };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

/// `millrace doctor`; a server that cannot be asked is one that does not run.
fn examine(command: &Command) -> u8 {
    let Command::Doctor { interface, json: is_json, runtime_dir } = command else { return CANNOT_SAY };
    let runtime_dir = runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let running = source::attach(&runtime_dir).map_or_else(
        |_| Running::default(),
        |segment| {
            let status = status::collect(&segment, Processes::look(&runtime_dir), mono_ns());
            Running {
                workers: u32::try_from(status.workers.len()).ok(),
                port: status.workers.first().map(|worker| worker.port.to_owned()),
                cpus: status.workers.iter().filter_map(|worker| worker.cpu).collect(),
            }
        },
    );
    let report = doctor::examine(&Host::this(), &running, interface.as_deref());
    let text = if *is_json { pretty(&report) } else { doctor::text(&report) };
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.ok { 0 } else { WRONG }
}

/// Pretty once, a line each time when watching.
fn json(value: &impl Serialize, common: &Common) -> String {
    if common.watch.is_some() { line(value) } else { pretty(value) }
}

fn line(value: &impl Serialize) -> String {
    rendered(serde_json::to_string(value))
}

fn pretty(value: &impl Serialize) -> String {
    rendered(serde_json::to_string_pretty(value))
}

/// The structures have string keys and finite numbers only; anything else would be a defect and shows as one.
fn rendered(text: serde_json::Result<String>) -> String {
    text.map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| format!("{text}\n"))
}

/// The clock of heartbeats.
fn mono_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

// SPDX-License-Identifier: Apache-2.0
//! `millrace-peers`: other servers and our floor programs beside Millrace, in the same bed; and how many clients join in a
//! second. `cargo xtask bench peers` and `bench handshakes` build what they need and start it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench_peers::compare::{self, Bench};
use bench_peers::handshakes::beside;
use bench_peers::measure::Setup;
use bench_peers::progress::{Progress, minutes};
use bench_peers::systems::Duel;
use bench_trafficgen::media::Shape;
use clap::Parser;
use dataplane_table::Cipher;
use serde_json::json;
use tools_netlab::report::Report;
use tools_netlab::{console, registry};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--peers` knows.
const WORDS: &str = "janus, rtpengine, str0m, mediasoup, floor, uring";
/// What a run takes beside its window: bed, calibrations, warming up, draining.
const BESIDE_WINDOW: Duration = Duration::from_secs(5);

/// Measurements in namespaces on this machine: the server on core 1, everything else on core 0. Needs root.
#[derive(Parser)]
#[command(
    name = "millrace-peers",
    version,
    after_help = "Examples:
  millrace-peers peers --peers janus,floor --receivers 50,500 --json peers.json
  millrace-peers peers --peers floor,uring --receivers 500 --pairs 5 --seconds 8
  millrace-peers peers --peers str0m,mediasoup --mediasoup-worker ./mediasoup-worker --receivers 50
  millrace-peers handshakes --bots 100,500
  millrace-peers handshakes --bots 100 --receivers 500 --crowd 300 --windows 5"
)]
enum Cli {
    /// CPU that each of several servers takes for each forwarded packet: one publisher (156.25 packets of 1200 bytes and 50
    /// of 160 per second), the same receivers, the same sink.
    Peers(Args),
    /// Joins per second of one core: WebSocket, offer and answer, ICE, DTLS. Then the same while the server forwards: what the
    /// joins make of its latency.
    Handshakes(Handshakes),
}

#[derive(clap::Args)]
struct Handshakes {
    /// Sizes of the crowds that join, one after the other.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100,500,1000")]
    bots: Vec<u32>,
    /// People in one room.
    #[arg(long, value_name = "N", default_value_t = 25)]
    rooms_of: u32,
    /// Receivers of the webinar that is forwarded meanwhile; 0 leaves that part out.
    #[arg(long, value_name = "N", default_value_t = 500)]
    receivers: u32,
    /// Clients that join it at a time.
    #[arg(long, value_name = "N", default_value_t = 500)]
    crowd: u32,
    /// Quiet windows, each with a crowd behind it.
    #[arg(long, value_name = "N", default_value_t = 3)]
    windows: u32,
    /// Length of a quiet window.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where our programs are [default: beside this one].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Args {
    /// janus, rtpengine, str0m, mediasoup, floor: each against Millrace over AF_XDP; uring: Millrace over io_uring against floor.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "janus,rtpengine,str0m,mediasoup,floor,uring"
    )]
    peers: Vec<String>,
    /// Numbers of receivers. Of the largest, as many as the peer carries with at most 0.1 % of loss.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "50,500")]
    receivers: Vec<u32>,
    /// Pairs of runs, ours and the peer's in turn, for each peer and number of receivers.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pairs: u32,
    /// Length of each measured window.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// aes128gcm, aes256gcm or sha1: offered and taken by everybody.
    #[arg(long, value_name = "NAME", default_value = "aes128gcm")]
    cipher: Cipher,
    /// The worker of mediasoup 3.19.0, without which mediasoup is skipped; what drives it is installed from npm.
    #[arg(long, value_name = "PATH")]
    mediasoup_worker: Option<PathBuf>,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where our programs are [default: beside this one].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    match registry::clean_up_on_signals().and_then(|()| match Cli::parse() {
        Cli::Peers(args) => run(&args),
        Cli::Handshakes(args) => handshakes(&args),
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn handshakes(args: &Handshakes) -> Result<bool> {
    let programs = args.programs.clone().map_or_else(beside, Ok)?;
    let Handshakes { receivers, crowd, rooms_of, windows, seconds, .. } = *args;
    let mut report = Report::start("handshakes");
    report.note("command", json!(std::env::args().collect::<Vec<_>>()));
    let rate = bench_peers::handshakes::run(&args.bots, rooms_of, &programs, &mut report)?;
    let mut figure = format!("{rate:.0} joins for each second of CPU, rooms of {rooms_of}");
    if receivers > 0 {
        let setup = beside::Setup { receivers, crowd, rooms_of, windows, seconds, programs: &programs };
        figure = format!("{figure}; {}", beside::run(&setup, &mut report)?);
    }
    report.finish(args.json.as_deref(), &figure)
}

/// The folder of this program.
fn beside() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.parent().context("this program has no folder")?.to_owned())
}

fn run(args: &Args) -> Result<bool> {
    let programs = args.programs.clone().map_or_else(beside, Ok)?;
    let folder = std::env::temp_dir().join(format!("millrace-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut report = Report::start("peers");
    report.note("command", json!(std::env::args().collect::<Vec<_>>()));
    let cipher = args.cipher;
    report.note("cipher", cipher.name());
    report.note("media", json!({"video": format!("{:?}", Shape::VIDEO), "audio": format!("{:?}", Shape::AUDIO)}));
    let duels = duels(args, &programs, &mut report)?;
    let systems = duels.iter().flat_map(|duel| [duel.ours, duel.peer]);
    let versions: BTreeMap<_, _> = systems.map(|system| (system.name(), system.version(&programs))).collect();
    report.note("versions", json!(versions));
    let mediasoup = args.mediasoup_worker.as_deref();
    let setup = Setup {
        receivers: 0,
        cipher,
        warm_up: 2,
        seconds: args.seconds,
        programs: &programs,
        folder: &folder,
        mediasoup,
    };
    let receivers: BTreeSet<u32> = args.receivers.iter().copied().filter(|receivers| *receivers > 0).collect();
    ensure!(!receivers.is_empty() && args.pairs > 0, "--receivers and --pairs want numbers above 0");
    let runs_each = runs_of_a_duel(args, receivers.len());
    let mut progress = plan(args, &duels, runs_each);
    let mut bench =
        Bench { report: &mut report, progress: &mut progress, pairs: args.pairs as usize, runs: BTreeMap::new() };
    compare::heading();
    let mut left: Vec<String> = duels.iter().map(|duel| duel.name()).collect();
    for duel in &duels {
        compare(&mut bench, *duel, &setup, &receivers);
        left.remove(0);
        bench.progress.to_come(runs(left.len(), runs_each));
        bench.report.keep(args.json.as_deref(), &left)?;
    }
    let _ = std::fs::remove_dir_all(&folder);
    report.finish(args.json.as_deref(), &format!("{} comparisons of {} pairs", duels.len(), args.pairs))
}

/// One duel with each number of receivers. With the largest, as many as the peer carries; not at all where a smaller number
/// did not come to an end.
fn compare(bench: &mut Bench<'_>, duel: Duel, setup: &Setup<'_>, receivers: &BTreeSet<u32>) {
    let mut carried = 0;
    for count in receivers {
        let setup = Setup { receivers: *count, ..*setup };
        if Some(count) == receivers.last() {
            bench.duel_at_largest(duel, &setup, carried);
        } else if bench.duel(duel, &setup) {
            carried = *count;
        } else {
            let name = format!("{}.{count}", duel.name());
            bench.report.check(format!("{name}.larger_numbers"), "not tried: see this number", "", "= tried", false);
            return;
        }
    }
}

/// Runs of one duel: its pairs with each number of receivers, and one probe of the largest number.
fn runs_of_a_duel(args: &Args, numbers: usize) -> u32 {
    runs(numbers, args.pairs.saturating_mul(2)).saturating_add(1)
}

fn runs(parts: usize, each: u32) -> u32 {
    u32::try_from(parts).unwrap_or(u32::MAX).saturating_mul(each)
}

/// Says how long it will take.
fn plan(args: &Args, duels: &[Duel], runs_each: u32) -> Progress {
    let runs = runs(duels.len(), runs_each);
    let progress = Progress::new(runs, Duration::from_secs(args.seconds) + BESIDE_WINDOW);
    console::line(&format!(
        "  {} peers, {} pairs each with each number of receivers: {runs} runs, about {}; more where a peer does not carry all \
         receivers",
        duels.len(),
        args.pairs,
        minutes(progress.left())
    ));
    progress
}

/// The duels that are asked for and can be had; why others are left out is printed and noted.
fn duels(args: &Args, programs: &Path, report: &mut Report) -> Result<Vec<Duel>> {
    let mut found = Vec::new();
    let mut skip = |name: &str, why: String| {
        console::line(&format!("SKIPPED: {name}: {why}"));
        report.note(format!("{name}.skipped"), why);
    };
    for word in &args.peers {
        let duels = Duel::of(word).with_context(|| format!("--peers: there is no {word:?}: {WORDS}"))?;
        for duel in duels {
            match duel.peer.install(programs, args.mediasoup_worker.as_deref()) {
                Ok(()) => found.push(*duel),
                Err(error) => skip(duel.peer.name(), format!("{error:#}")),
            }
        }
    }
    ensure!(!found.is_empty(), "no peer is left to measure");
    Ok(found)
}

// SPDX-License-Identifier: Apache-2.0
//! The data plane process: pinned workers that turn the pipeline.
//!
//! ```text
//!  keeper ── descriptors ──► main ── one thread per worker: pin → port → Worker → turn, turn, turn …
//! ```
//!
//! It must never decide what a call is: it forwards what intent says, and what it learns it writes into durable records.
#![forbid(unsafe_code)]

mod clock;
mod fast_path;
mod gate;
mod latency;
mod memory;
mod patience;
mod pinning;
mod powers;
mod priority;
mod standalone;
mod stopwatch;
mod succession;
mod turn;

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use dataplane_abi::ids::WorkerId;
use dataplane_abi::limits::TILE;
use dataplane_forward::{Config, mesh};
use dataplane_io::open::Backend;
use dataplane_keeper::{Handed, REOPEN, Role};
use dataplane_shm::allocation::Counting;
use dataplane_shm::{Access, AttachFds, Segment};
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use crate::standalone::{Standalone, Wishes};
use crate::turn::{Options, WorkerThread};

#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// Millrace's data plane. It is started by millrace-keeper, or serves the call of a file all by itself.
#[derive(Parser, Debug)]
#[command(
    name = "millrace-dataplane",
    version,
    after_help = "Without keeper and control plane, for packet generators and measurements:
  millrace-dataplane --table call.toml --seconds 60
  millrace-dataplane --table call.toml --interface eth0 --workers 1

A table names addresses, SSRCs and keys; 3000 receivers are one entry:
  server = \"10.77.0.1:10000\"
  cipher = \"AEAD_AES_128_GCM\"
  seed = 1

  [[publisher]]
  name = \"speaker\"
  remote = \"10.99.0.2:5000\"
  track = [{ codec = \"vp8\", pt = 96, ssrc = 1001 }, { codec = \"opus\", pt = 111, ssrc = 2001 }]

  [[receiver]]
  from = \"speaker\"
  remote = \"10.10.0.1:6000\"
  count = 3000

docs/TABLE.md has every field."
)]
struct Arguments {
    /// Where the keeper's socket lies.
    #[arg(long, value_name = "DIR", required_unless_present = "table", conflicts_with = "table")]
    runtime_dir: Option<PathBuf>,
    /// Serve the call that this file describes (TOML, or JSON where it is named so), without a keeper.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// With --table: threads that forward packets.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32), requires = "table")]
    workers: u16,
    /// With --table: interface whose packets pass the kernel's network stack by (AF_XDP); needs root.
    #[arg(long, value_name = "NAME", requires = "table")]
    interface: Option<String>,
    /// With --interface: where XDP runs.
    #[arg(long, value_enum, default_value_t = XdpMode::Auto, requires = "interface")]
    xdp_mode: XdpMode,
    /// With --interface: receive queues to serve [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), requires = "interface")]
    queues: Option<u16>,
    /// With --table: end after so long [default: when told].
    #[arg(long, value_name = "N", requires = "table")]
    seconds: Option<u64>,
    /// How packets get in and out.
    #[arg(long, value_enum, default_value_t = PortChoice::Auto)]
    backend: PortChoice,
    /// Do not pin workers to cores.
    #[arg(long)]
    no_pin: bool,
    /// Never sleep.
    #[arg(long)]
    busy_poll: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PortChoice {
    Auto,
    Uring,
    Sockets,
}

/// Where XDP runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum XdpMode {
    /// In the driver, else behind it.
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver: slower, on any interface.
    Generic,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("MILLRACE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(&Arguments::parse()) {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Lost) => {
            tracing::warn!("the interface is gone: started again, the data plane serves without it");
            ExitCode::from(REOPEN)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why the process ends where nothing is wrong with it.
enum End {
    Asked,
    /// The interface is gone.
    Lost,
}

fn run(arguments: &Arguments) -> anyhow::Result<End> {
    let flags = Flags::default();
    match (&arguments.runtime_dir, &arguments.table) {
        (Some(dir), None) => run_for_keeper(arguments, dir, &flags),
        (_, Some(table)) => run_table(arguments, table, &flags),
        (None, None) => anyhow::bail!("--runtime-dir or --table is needed"),
    }
}

fn run_for_keeper(arguments: &Arguments, runtime_dir: &Path, flags: &Flags) -> anyhow::Result<End> {
    // Nobody would restart an orphan, and its port would stay taken. Killed, and not asked: one that hangs or is stopped has
    // to go too, and it has nothing to finish.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot follow the keeper")?;
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    flags.take_signals()?;
    // A keeper that died before this process followed it does not answer here.
    let handed = dataplane_keeper::request(runtime_dir, Role::DataPlane)?;
    serve(arguments, handed, flags, |segment, workers, threads| announce(runtime_dir, segment, workers, threads))
}

fn run_table(arguments: &Arguments, table: &Path, flags: &Flags) -> anyhow::Result<End> {
    flags.take_signals()?;
    let standalone = Standalone::open(&Wishes {
        table,
        workers: arguments.workers,
        interface: arguments.interface.as_deref(),
        mode: match arguments.xdp_mode {
            XdpMode::Auto => ebpf_loader::Mode::Auto,
            XdpMode::Native => ebpf_loader::Mode::Native,
            XdpMode::Generic => ebpf_loader::Mode::Generic,
        },
        queues: arguments.queues,
    })?;
    serve(arguments, standalone.hand_over()?, flags, |segment, workers, threads| {
        if all_run(segment, workers, threads) && standalone.watch(&flags.stop, arguments.seconds) {
            flags.is_asked.store(true, Ordering::Relaxed);
            flags.stop.store(true, Ordering::Relaxed);
        }
    })
}

/// Starts the workers; `while_they_run` returns when it has nothing to do any more, and the workers may go on.
fn serve(
    arguments: &Arguments,
    mut handed: Handed,
    flags: &Flags,
    while_they_run: impl FnOnce(&Segment, u16, &[JoinHandle<()>]),
) -> anyhow::Result<End> {
    let segment = attach(&handed)?;
    let workers = u16::try_from(segment.capacities().workers).context("the segment names too many workers")?;
    let sockets = handed.count("udp");
    anyhow::ensure!(sockets == usize::from(workers), "{sockets} UDP sockets were handed over for {workers} workers");
    succession::take_over(&segment, workers);
    segment.state().dataplane_starts.fetch_add(1, Ordering::AcqRel);
    let threads = spawn(arguments, &mut handed, &segment, workers, flags)?;
    while_they_run(&segment, workers, &threads);
    for thread in threads {
        let _ = thread.join();
    }
    // A worker that ends while nobody asked takes the process with it; the keeper starts it again.
    if flags.is_asked.load(Ordering::Relaxed) {
        return Ok(End::Asked);
    }
    anyhow::ensure!(flags.is_lost.load(Ordering::Relaxed), "a worker ended");
    Ok(End::Lost)
}

/// What the threads tell each other.
#[derive(Default)]
struct Flags {
    stop: Arc<AtomicBool>,
    is_asked: Arc<AtomicBool>,
    is_lost: Arc<AtomicBool>,
}

impl Flags {
    fn take_signals(&self) -> anyhow::Result<()> {
        for signal in [SIGTERM, SIGINT] {
            // Asked before stopped: who sees the end knows why.
            for flag in [&self.is_asked, &self.stop] {
                signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot take signals")?;
            }
        }
        Ok(())
    }
}

/// Waits until every worker turns, then locks memory and gives capabilities up; false where a worker has ended before.
fn all_run(segment: &Segment, workers: u16, threads: &[JoinHandle<()>]) -> bool {
    while !succession::all_run(segment, workers) {
        if threads.iter().any(JoinHandle::is_finished) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    memory::lock();
    powers::keep(CapabilitySet::empty());
    true
}

/// Says that packets are forwarded, once every worker turns.
fn announce(runtime_dir: &Path, segment: &Segment, workers: u16, threads: &[JoinHandle<()>]) {
    if !all_run(segment, workers, threads) {
        return;
    }
    match dataplane_keeper::ready(runtime_dir) {
        Ok(()) => tracing::info!(workers, "data plane ready"),
        Err(error) => tracing::error!("{error}"),
    }
}

fn attach(handed: &Handed) -> anyhow::Result<Segment> {
    let fds = AttachFds {
        intent: Some(handed.borrow("intent")?),
        keys: Some(handed.borrow("keys")?),
        durable: Some(handed.borrow("durable")?),
        store: Some(handed.borrow("store")?),
    };
    Segment::attach(fds, Access::DataPlane).context("cannot attach to the segment")
}

fn spawn(
    arguments: &Arguments,
    handed: &mut Handed,
    segment: &Segment,
    workers: u16,
    flags: &Flags,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let wakes: Arc<Vec<OwnedFd>> =
        Arc::new((0..workers).map(|index| handed.take(&format!("wake{index}"))).collect::<Result<_, _>>()?);
    let control = Arc::new(handed.take("control")?);
    let is_pinned = !arguments.no_pin && usize::from(workers) <= pinning::cores();
    if !arguments.no_pin && !is_pinned {
        tracing::warn!(workers, cores = pinning::cores(), "more workers than cores: they are not pinned");
    }
    let options = Options {
        backend: match arguments.backend {
            PortChoice::Auto => Backend::Auto,
            PortChoice::Uring => Backend::Uring,
            PortChoice::Sockets => Backend::Sockets,
        },
        is_pinned,
        is_busy: arguments.busy_poll,
    };
    let seed = seed()?;
    let lanes = fast_path::open(handed, segment, &flags.stop);
    let tile_frames = if lanes.is_some() { TILE } else { SOCKET_TILE };
    let mut lanes = lanes.into_iter().flatten();
    let mut threads = Vec::new();
    for (index, peers) in (0..workers).zip(mesh(usize::from(workers)).context("cannot make the workers' rings")?) {
        let thread = WorkerThread {
            config: Config {
                tile_frames,
                ..Config::of(WorkerId(index), workers, seed ^ u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            },
            options,
            segment: segment.clone(),
            peers,
            socket: handed.take(&format!("udp{index}"))?,
            wakes: Arc::clone(&wakes),
            control: Arc::clone(&control),
            lane: lanes.next(),
            stop: Arc::clone(&flags.stop),
            is_lost: Arc::clone(&flags.is_lost),
        };
        let name = format!("worker-{index}");
        threads
            .push(std::thread::Builder::new().name(name).spawn(move || thread.run()).context("cannot start a worker")?);
    }
    Ok(threads)
}

/// A secret for hash tables and first sequence numbers.
fn seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("cannot get random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A socket's frame costs about 4 µs, 3 in a train, so 32 of them are 100 to 130 µs: a turn looks at the clock often enough,
/// and a video frame of six packets goes to five members at once. AF_XDP frames cost a quarter, and the wake-up of the kernel
/// is paid once per tile.
const SOCKET_TILE: usize = 32;

// SPDX-License-Identifier: Apache-2.0
//! The process that holds the descriptors which outlive a crash.
//!
//! ```text
//!  millrace-keeper ── holds: segment memfds, UDP sockets, wake-ups ──┬── spawns, restarts ─► millrace-dataplane
//!        ▲ Unix socket, SCM_RIGHTS                                   └── spawns, restarts ─► millrace-controlplane
//! ```
//!
//! It must never carry a packet or decide anything about a call: it is small enough not to die.
//!
//! Each plane gets the descriptors and the capabilities of its role and no others (`powers`), and none can gain privileges by
//! running a program. What is not least privilege yet: all three processes run as the user who starts the keeper.
#![forbid(unsafe_code)]

mod runtime_dir;
mod serve;
mod supervise;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use dataplane_abi::limits::Capacities;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::supervise::{Plane, Planes};
use dataplane_keeper::fast_path::Wish;
use dataplane_keeper::{hold, powers, say};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Between two looks whether an interface has come back.
const LOOK: Duration = Duration::from_secs(1);
/// More would not fit into one message of descriptors with room to spare.
const MAX_WORKERS: i64 = 32;

/// Starts Millrace: holds what must outlive a crash, starts both planes and restarts them.
#[derive(Parser, Debug)]
#[command(
    name = "millrace-keeper",
    version,
    after_help = "Examples:
  millrace-keeper
  millrace-keeper --workers 2 --open-rooms --listen 0.0.0.0:8443
  millrace-keeper --media-address 192.0.2.7 --external-address 203.0.113.9
  millrace-keeper --interface eth0

Options that this program does not know go to millrace-controlplane; see `millrace-controlplane --help`.
`millrace status` shows whether all is well. SIGTERM and Ctrl-C end everything.

Exit status:
  0  ended by SIGTERM or SIGINT
  1  could not start, or a plane could not be kept running; the last line says why
  2  wrong options"
)]
struct Arguments {
    /// Where the socket and the pid files lie [default: $XDG_RUNTIME_DIR/millrace, for root /run/millrace].
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// UDP port of media.
    #[arg(long, value_name = "PORT", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..))]
    media_port: u16,
    /// Threads that forward packets [default: one per core, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS))]
    workers: Option<u16>,
    /// How packets get in and out.
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
    /// Interface whose packets pass the kernel's network stack by (AF_XDP); needs root. Others are served all the same.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Where XDP runs.
    #[arg(long, value_enum, default_value_t = XdpMode::Auto)]
    xdp_mode: XdpMode,
    /// Receive queues of the interface to serve [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    queues: Option<u16>,
    /// Hold and hand over only: somebody else (systemd) starts the planes.
    #[arg(long)]
    no_spawn: bool,
    /// Do not pin workers to cores.
    #[arg(long)]
    no_pin: bool,
    /// Never sleep: lowest latency, a whole core per worker.
    #[arg(long)]
    busy_poll: bool,
    /// Options for the control plane.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    control: Vec<String>,
}

/// Ports that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Backend {
    /// AF_XDP where an interface is named and allows it, and beside it io_uring, else plain sockets.
    Auto,
    /// AF_XDP on the interface that is named, or an error.
    Xdp,
    /// io_uring.
    Uring,
    /// Plain batched sockets.
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

impl Backend {
    /// The data plane's word for the socket port.
    const fn word(self) -> &'static str {
        match self {
            Self::Auto | Self::Xdp => "auto",
            Self::Uring => "uring",
            Self::Sockets => "sockets",
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse_from(sorted(std::env::args().collect()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Own options first, the control plane's behind them, whatever order they were typed in.
fn sorted(arguments: Vec<String>) -> Vec<String> {
    const WITH_VALUE: [&str; 7] =
        ["--runtime-dir", "--media-port", "--workers", "--backend", "--interface", "--xdp-mode", "--queues"];
    const ALONE: [&str; 7] = ["--no-pin", "--busy-poll", "--no-spawn", "--help", "-h", "--version", "-V"];
    let mut own = Vec::new();
    let mut control = Vec::new();
    let mut arguments = arguments.into_iter();
    own.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        let name = argument.split('=').next().unwrap_or("").to_owned();
        if ALONE.contains(&argument.as_str()) {
            own.push(argument);
        } else if WITH_VALUE.contains(&name.as_str()) {
            let needs_value = !argument.contains('=');
            own.push(argument);
            if needs_value {
                own.extend(arguments.next());
            }
        } else {
            control.push(argument);
        }
    }
    own.extend(control);
    own
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime_dir = arguments.runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let workers = arguments.workers.unwrap_or_else(default_workers);
    let wish = wish(arguments, workers)?;
    let _claim = runtime_dir::claim(&runtime_dir)?;
    // Before any thread: none of them is ended by a signal that is taken here.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;
    let capacities = Capacities { workers: u32::from(workers), ..Capacities::DEFAULT };
    let mut held = hold::Held::make(arguments.media_port, &capacities)?;
    if let Some(line) = held.buffers() {
        say(&line);
    }
    if let Some(wish) = wish {
        held.open_fast_path(wish, arguments.backend == Backend::Xdp)?;
    }
    powers::settle();
    let held = Arc::new(held);
    let planes = Arc::new(Planes::new(runtime_dir.clone(), arguments.no_spawn, signals.handle()));
    serve::start(&runtime_dir, Arc::clone(&held), Arc::clone(&planes))?;
    planes.write_pid("keeper", std::process::id())?;
    if arguments.interface.is_some() {
        follow_interface(Arc::clone(&held), Arc::clone(&planes))?;
    }
    if !arguments.no_spawn {
        start_planes(arguments, &runtime_dir, &planes)?;
    }
    // Until a signal comes, or a plane is given up, which closes the iterator.
    signals.forever().next();
    let gave_up = planes.gave_up();
    planes.stop();
    let _ = std::fs::remove_file(runtime_dir.join(dataplane_keeper::SOCKET_NAME));
    gave_up.map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
}

fn start_planes(arguments: &Arguments, runtime_dir: &Path, planes: &Arc<Planes>) -> anyhow::Result<()> {
    let beside = std::env::current_exe().context("cannot find this program's folder")?;
    let program = |name: &str| beside.with_file_name(name);
    let runtime = runtime_dir.display().to_string();
    planes.supervise(Plane {
        name: "dataplane",
        carries_calls: true,
        program: program("millrace-dataplane"),
        arguments: dataplane_options(arguments, &runtime),
        powers: powers::DATA_PLANE,
    });
    planes.supervise(Plane {
        name: "controlplane",
        carries_calls: false,
        program: program("millrace-controlplane"),
        arguments: control_options(arguments, &runtime),
        powers: powers::CONTROL_PLANE,
    });
    Ok(())
}

/// Starts the data plane anew when the interface has come back: calls ride on the sockets until then.
fn follow_interface(held: Arc<hold::Held>, planes: Arc<Planes>) -> anyhow::Result<()> {
    std::thread::Builder::new().name("interface".into()).spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            if held.is_interface_back() {
                say("the interface has come back: the data plane is started anew");
                planes.restart("dataplane");
            }
        }
    })?;
    Ok(())
}

/// The fast path that is asked for.
fn wish(arguments: &Arguments, workers: u16) -> anyhow::Result<Option<Wish>> {
    let asks_for_xdp = matches!(arguments.backend, Backend::Auto | Backend::Xdp);
    let Some(interface) = arguments.interface.clone() else {
        anyhow::ensure!(
            arguments.backend != Backend::Xdp,
            "--backend xdp needs --interface NAME; `ip link` lists them"
        );
        anyhow::ensure!(
            arguments.queues.is_none() && arguments.xdp_mode == XdpMode::Auto,
            "--queues and --xdp-mode belong to --interface NAME; `ip link` lists them"
        );
        return Ok(None);
    };
    let word = arguments.backend.word();
    anyhow::ensure!(
        asks_for_xdp,
        "--interface asks for AF_XDP and --backend {word} excludes it: leave one of them out"
    );
    let mode = match arguments.xdp_mode {
        XdpMode::Auto => ebpf_loader::Mode::Auto,
        XdpMode::Native => ebpf_loader::Mode::Native,
        XdpMode::Generic => ebpf_loader::Mode::Generic,
    };
    Ok(Some(Wish { interface, mode, queues: arguments.queues, media_port: arguments.media_port, workers }))
}

fn dataplane_options(arguments: &Arguments, runtime_dir: &str) -> Vec<String> {
    let mut options = ["--runtime-dir", runtime_dir, "--backend", arguments.backend.word()].map(String::from).to_vec();
    options.extend(arguments.no_pin.then(|| "--no-pin".into()));
    options.extend(arguments.busy_poll.then(|| "--busy-poll".into()));
    options
}

fn control_options(arguments: &Arguments, runtime_dir: &str) -> Vec<String> {
    let port = arguments.media_port.to_string();
    let mut options = ["--runtime-dir", runtime_dir, "--media-port", &port].map(String::from).to_vec();
    options.extend(arguments.control.iter().cloned());
    options
}

fn default_workers() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores.min(4)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_both_programs_may_be_mixed() {
        let typed =
            ["keeper", "--open-rooms", "--workers", "2", "--listen", "[::]:8443", "--backend=uring", "--no-pin"];
        let parsed = Arguments::parse_from(sorted(typed.map(String::from).to_vec()));
        assert_eq!(parsed.workers, Some(2));
        assert_eq!(parsed.backend, Backend::Uring);
        assert!(parsed.no_pin);
        assert_eq!(parsed.control, ["--open-rooms", "--listen", "[::]:8443"]);
    }

    #[test]
    fn a_fast_path_has_an_interface_and_no_backend_that_excludes_it() {
        let wish_of = |typed: &str| {
            let typed = std::iter::once("keeper").chain(typed.split_whitespace()).map(String::from).collect();
            wish(&Arguments::parse_from(sorted(typed)), 2).map_err(|error| error.to_string())
        };
        assert!(wish_of("--backend auto").unwrap().is_none());
        let asked = wish_of("--open-rooms --interface eth0 --xdp-mode generic --queues 3").unwrap().unwrap();
        assert_eq!((asked.interface.as_str(), asked.mode), ("eth0", ebpf_loader::Mode::Generic));
        assert_eq!((asked.queues, asked.workers), (Some(3), 2));
        for (typed, named) in [
            ("--backend xdp", "--interface NAME"),
            ("--queues 2", "--interface NAME"),
            ("--xdp-mode native", "--interface NAME"),
            ("--interface eth0 --backend sockets", "--backend sockets"),
        ] {
            assert!(wish_of(typed).unwrap_err().contains(named), "{typed}");
        }
    }
}

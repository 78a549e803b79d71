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
//! What is not least privilege yet: all three processes run as the user who starts the keeper, with that user's
//! capabilities. Of root's, the keeper needs CAP_NET_ADMIN once (socket buffers beyond the system's limit) and the data plane
//! CAP_SYS_NICE once (its scheduling class); the control plane needs none and should be a user of its own. What holds
//! already: each plane gets the descriptors of its role and no others, and none can gain privileges by running a program.
#![forbid(unsafe_code)]

mod hold;
mod runtime_dir;
mod serve;
mod supervise;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// io_uring, else plain sockets.
    Auto,
    /// io_uring.
    Uring,
    /// Plain batched sockets.
    Sockets,
}

impl Backend {
    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
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
    const WITH_VALUE: [&str; 4] = ["--runtime-dir", "--media-port", "--workers", "--backend"];
    const ALONE: [&str; 6] = ["--no-pin", "--busy-poll", "--help", "-h", "--version", "-V"];
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

/// A line on standard error, where lifecycle belongs.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "millrace-keeper: {text}");
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime_dir = arguments.runtime_dir.clone().unwrap_or_else(dataplane_keeper::default_runtime_dir);
    let _claim = runtime_dir::claim(&runtime_dir)?;
    let workers = arguments.workers.unwrap_or_else(default_workers);
    // Before any thread: none of them is ended by a signal that is taken here.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;
    let held = Arc::new(hold::Held::make(arguments.media_port, workers)?);
    if let Some(line) = held.buffers() {
        say(&line);
    }
    let planes = Arc::new(supervise::Planes::new(runtime_dir.clone(), signals.handle()));
    serve::start(&runtime_dir, Arc::clone(&held), Arc::clone(&planes))?;
    planes.write_pid("keeper", std::process::id())?;
    let beside = std::env::current_exe().context("cannot find this program's folder")?;
    let program = |name: &str| beside.with_file_name(name);
    let runtime = runtime_dir.display().to_string();
    planes.supervise("dataplane", true, program("millrace-dataplane"), dataplane_options(arguments, &runtime));
    planes.supervise("controlplane", false, program("millrace-controlplane"), control_options(arguments, &runtime));
    // Until a signal comes, or a plane is given up, which closes the iterator.
    signals.forever().next();
    let gave_up = planes.gave_up();
    planes.stop();
    let _ = std::fs::remove_file(runtime_dir.join(dataplane_keeper::SOCKET_NAME));
    gave_up.map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
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
}

// SPDX-License-Identifier: Apache-2.0
//! The process that holds the descriptors which outlive a crash.
//!
//! ```text
//!  millrace-keeper ── holds: segment memfds, UDP sockets, wake-ups ──┬── spawns, restarts ─► millrace-dataplane
//!        ▲ Unix socket, SCM_RIGHTS                                   └── spawns, restarts ─► millrace-controlplane
//! ```
//!
//! It must never carry a packet or decide anything about a call: it is small enough not to die.
#![forbid(unsafe_code)]

mod hold;
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

/// Starts Millrace: holds what must outlive a crash, starts both planes and restarts them.
#[derive(Parser, Debug)]
#[command(
    name = "millrace-keeper",
    version,
    after_help = "Examples:
  millrace-keeper
  millrace-keeper --workers 2 --open-rooms --listen 0.0.0.0:8443
  millrace-keeper --media-address 192.0.2.7 --external-address 203.0.113.9

Options that this program does not know go to millrace-controlplane; see `millrace-controlplane --help`."
)]
struct Arguments {
    /// Where the socket and the pid files lie [default: XDG runtime directory, for root /run/millrace].
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// UDP port of media.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    media_port: u16,
    /// Threads that forward packets [default: one per core, at most 4].
    #[arg(long, value_name = "N")]
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
    std::fs::create_dir_all(&runtime_dir)
        .with_context(|| format!("cannot make {}; name another --runtime-dir", runtime_dir.display()))?;
    let workers = arguments.workers.unwrap_or_else(default_workers);
    anyhow::ensure!((1..=32).contains(&workers), "--workers must be 1 to 32, not {workers}");
    // Before any thread: they inherit the mask, and a signal is taken here only.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;
    let held = Arc::new(hold::Held::make(arguments.media_port, workers)?);
    let planes = Arc::new(supervise::Planes::new(runtime_dir.clone()));
    serve::start(&runtime_dir, Arc::clone(&held), Arc::clone(&planes))?;
    planes.write_pid("keeper", std::process::id())?;
    let beside = std::env::current_exe().context("cannot find this program's folder")?;
    let program = |name: &str| beside.with_file_name(name);
    let runtime = runtime_dir.display().to_string();
    let mut dataplane =
        vec!["--runtime-dir".into(), runtime.clone(), "--backend".into(), arguments.backend.word().into()];
    dataplane.extend(arguments.no_pin.then(|| "--no-pin".into()));
    dataplane.extend(arguments.busy_poll.then(|| "--busy-poll".into()));
    let port = arguments.media_port.to_string();
    let mut control = vec!["--runtime-dir".into(), runtime, "--media-port".into(), port];
    control.extend(arguments.control.iter().cloned());
    planes.supervise("dataplane", program("millrace-dataplane"), dataplane);
    planes.supervise("controlplane", program("millrace-controlplane"), control);
    loop {
        // Woken by a signal, or by a plane that cannot be started at all.
        if signals.pending().next().is_some() || planes.has_given_up() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let gave_up = planes.has_given_up();
    planes.stop();
    let _ = std::fs::remove_file(runtime_dir.join(dataplane_keeper::SOCKET_NAME));
    anyhow::ensure!(!gave_up, "a plane ended five times within ten seconds; its own message is above");
    Ok(())
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

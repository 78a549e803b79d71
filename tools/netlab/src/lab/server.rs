// SPDX-License-Identifier: Apache-2.0
//! The server of a lab: started in its own namespace as a person would start it, watched from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::counters::{Drops, Status};
use crate::install::checkout;
use crate::netns::Endpoint;
use crate::process::Process;
use crate::witness::{Stops, Witness};

/// Every media packet of a lab goes to this port.
pub(crate) const MEDIA_PORT: u16 = 10_000;
const HTTP_PORT: u16 = 8080;
/// What the control plane says when it serves.
const READY: &str = "Millrace is ready";
const START_LIMIT: Duration = Duration::from_secs(30);
/// The three processes, by the name of their pid file.
pub(crate) const PLANES: [&str; 3] = ["keeper", "dataplane", "controlplane"];

/// By which addresses the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The server's address, and the same as URLs have it.
    fn address(self, endpoint: &Endpoint) -> (String, String) {
        match self {
            Self::V4 => (endpoint.address.clone(), endpoint.address.clone()),
            Self::V6 => (endpoint.address6.clone(), format!("[{}]", endpoint.address6)),
        }
    }
}

/// How to start the server.
#[derive(Debug, Clone)]
pub(crate) struct ServerOptions {
    /// `xdp`, `uring`, `sockets` or `auto`.
    pub(crate) backend: String,
    /// Worker threads.
    pub(crate) workers: u32,
    /// The only family that it is reached by.
    pub(crate) family: Family,
    /// Where the binaries are.
    pub(crate) bin_dir: PathBuf,
    /// Options besides, for the control plane.
    pub(crate) arguments: Vec<String>,
    /// The lab starts the planes, as systemd would, so that it alone says when one comes back.
    pub(crate) starts_planes: bool,
    /// Workers never sleep.
    pub(crate) is_busy: bool,
}

/// A running server; ends with its planes when dropped. Fields end in order: planes, keeper.
#[derive(Debug)]
pub(crate) struct Server {
    /// The planes that the lab has started; none where the keeper does it.
    planes: BTreeMap<&'static str, Process>,
    process: Process,
    launch: Launch,
    /// The backend that was asked for.
    pub(crate) backend: String,
    /// Where it is.
    pub(crate) endpoint: Arc<Endpoint>,
    /// `http://ADDRESS:PORT`.
    pub(crate) origin: String,
    /// Process ids at the start, by plane.
    pub(crate) pids: BTreeMap<&'static str, i32>,
    witness: Witness,
}

/// Where everything lies and listens, and with which options.
#[derive(Debug)]
struct Launch {
    folder: PathBuf,
    runtime_dir: PathBuf,
    options: ServerOptions,
    address: String,
    listen: String,
}

impl Launch {
    fn new(endpoint: &Endpoint, folder: &Path, options: &ServerOptions) -> Result<Self> {
        let runtime_dir = folder.join("run");
        std::fs::create_dir_all(&runtime_dir)?;
        let (address, host) = options.family.address(endpoint);
        let listen = format!("{host}:{HTTP_PORT}");
        Ok(Self { folder: folder.to_owned(), runtime_dir, options: options.clone(), address, listen })
    }

    fn program(&self, endpoint: &Endpoint, name: &str) -> Result<Command> {
        let program = self.options.bin_dir.join(format!("millrace-{name}"));
        if !program.exists() {
            bail!("{} is not built: `cargo build --release --workspace` makes it", program.display());
        }
        let mut command = endpoint.namespace.command(&program);
        command.arg("--runtime-dir").arg(&self.runtime_dir).env("RUST_BACKTRACE", "1");
        Ok(command)
    }

    fn keeper(&self, endpoint: &Endpoint) -> Result<Command> {
        let mut command = self.program(endpoint, "keeper")?;
        command.args(["--media-port", &MEDIA_PORT.to_string(), "--no-pin"]);
        command.args(["--workers", &self.options.workers.to_string(), "--backend", &self.options.backend]);
        if self.options.backend == "xdp" {
            command.args(["--interface", endpoint.interface]);
        }
        if self.options.is_busy {
            command.arg("--busy-poll");
        }
        if self.options.starts_planes {
            command.arg("--no-spawn");
        } else {
            self.add_control_options(&mut command);
        }
        Ok(command)
    }

    /// The process of a plane, as a unit of systemd would start it.
    fn plane(&self, endpoint: &Endpoint, plane: &'static str) -> Result<Process> {
        let mut command = self.program(endpoint, plane)?;
        if plane == "dataplane" {
            let socket_port = if self.options.backend == "xdp" { "auto" } else { &self.options.backend };
            command.args(["--no-pin", "--backend", socket_port]);
        } else {
            command.args(["--media-port", &MEDIA_PORT.to_string()]);
            self.add_control_options(&mut command);
        }
        // A plane that is started again begins a log of its own.
        let log = (1..).map(|number| self.folder.join(format!("{plane}-{number}.log"))).find(|path| !path.exists());
        Process::spawn(command, &log.context("a name for a log")?, false)
    }

    fn add_control_options(&self, command: &mut Command) {
        command.arg("--state-dir").arg(self.folder.join("state"));
        command.args(["--media-address", &self.address, "--listen-plain", &self.listen, "--open-rooms"]);
        command.args(&self.options.arguments);
    }

    /// Waits until the keeper hands over.
    fn wait_for_keeper(&self, process: &mut Process) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        while !self.runtime_dir.join("keeper.pid").exists() {
            if !process.is_running() || Instant::now() > until {
                bail!("the keeper does not come up:\n{}", process.log_tail(20));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Stops a process (SIGSTOP) for as long as it lives.
#[derive(Debug)]
pub(crate) struct Paused(Pid);

impl Paused {
    pub(crate) fn pause(pid: i32) -> Result<Self> {
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGSTOP).with_context(|| format!("stop process {pid}"))?;
        Ok(Self(pid))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The folder that cargo puts release binaries into.
pub(crate) fn default_bin_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    checkout().join(target).join("release")
}

impl Server {
    /// Starts keeper and planes inside `endpoint` with all their files in `folder`.
    pub(crate) fn start(endpoint: impl Into<Arc<Endpoint>>, folder: &Path, options: &ServerOptions) -> Result<Self> {
        let endpoint = endpoint.into();
        let launch = Launch::new(&endpoint, folder, options)?;
        std::fs::create_dir_all(folder.join("state"))?;
        let witness = Witness::start()?;
        let mut process = Process::spawn(launch.keeper(&endpoint)?, &folder.join("server.log"), false)?;
        let mut planes = BTreeMap::new();
        if options.starts_planes {
            launch.wait_for_keeper(&mut process)?;
            for plane in ["dataplane", "controlplane"] {
                planes.insert(plane, launch.plane(&endpoint, plane)?);
            }
        }
        let speaker = planes.get_mut("controlplane").unwrap_or(&mut process);
        speaker.wait_for_text(READY, START_LIMIT).context("start the server")?;
        let mut pids = BTreeMap::new();
        for plane in PLANES {
            pids.insert(plane, read_pid(&launch.runtime_dir, plane)?);
        }
        let origin = format!("http://{}", launch.listen);
        Ok(Self { planes, process, launch, backend: options.backend.clone(), endpoint, origin, pids, witness })
    }

    /// Kills the control plane (SIGKILL); nobody starts it again until [`Self::start_control`].
    pub(crate) fn kill_control(&mut self) -> Result<()> {
        let mut process = self.planes.remove("controlplane").context("the lab has not started the control plane")?;
        kill(Pid::from_raw(process.pid()), Signal::SIGKILL).context("kill the control plane")?;
        process.wait_for_exit(Duration::from_secs(5))?;
        Ok(())
    }

    /// Starts the control plane again and waits until it serves.
    pub(crate) fn start_control(&mut self) -> Result<()> {
        let mut process = self.launch.plane(&self.endpoint, "controlplane")?;
        process.wait_for_text(READY, START_LIMIT).context("start the control plane again")?;
        self.planes.insert("controlplane", process);
        self.pids.insert("controlplane", read_pid(&self.launch.runtime_dir, "controlplane")?);
        Ok(())
    }

    /// Counters of all workers.
    pub(crate) fn status(&self) -> Result<Status> {
        self.ask("status").map(Status)
    }

    /// Drop reasons of all workers.
    pub(crate) fn drops(&self) -> Result<Drops> {
        self.ask("drops").map(Drops)
    }

    /// Counters read until both ledgers close: one read may fall into the middle of a turn.
    pub(crate) fn settled_status(&self) -> Result<Status> {
        let mut status = self.status()?;
        for _ in 0..40 {
            if status.rx_ledger_gap() == Some(0.0) && status.cohort_ledger_gap() == Some(0.0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            status = self.status()?;
        }
        Ok(status)
    }

    fn ask(&self, what: &str) -> Result<Value> {
        let mut command = Command::new(self.launch.options.bin_dir.join("millrace"));
        command.args([what, "--json", "--runtime-dir"]).arg(&self.launch.runtime_dir);
        let output = command.output().with_context(|| format!("start millrace {what}"))?;
        // It exits 1 when it reports a problem, such as a plane that a lab has stopped; the report is what counts.
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("`millrace {what} --json` ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
        })
    }

    /// UDP datagrams that the kernel of the server's namespace has given to sockets, both families.
    pub(crate) fn kernel_datagrams(&self) -> Option<f64> {
        let folder = format!("/proc/{}/net", self.pids.get("dataplane")?);
        let v4 = std::fs::read_to_string(format!("{folder}/snmp")).ok()?;
        let mut lines = v4.lines().filter(|line| line.starts_with("Udp:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let at = names.split_whitespace().position(|name| name == "InDatagrams")?;
        let v4: f64 = values.split_whitespace().nth(at)?.parse().ok()?;
        let v6 = std::fs::read_to_string(format!("{folder}/snmp6")).ok()?;
        let line = v6.lines().find(|line| line.starts_with("Udp6InDatagrams"))?;
        Some(v4 + line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
    }

    /// Processor time that the data plane has taken so far, in user and in kernel mode, µs.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pids.get("dataplane")?)).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(11);
        let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        // USER_HZ is 100 on every Linux that runs this.
        Some(ticks * 10_000.0)
    }

    /// Participants whose transport has keys and consent, as the CLI says.
    pub(crate) fn live_participants(&self) -> Option<u64> {
        let listed = self.ask("participants").ok()?;
        let live = listed.as_array()?.iter().filter(|held| held["state"] == "live");
        Some(live.count() as u64)
    }

    /// Planes that have exited or been replaced since the start.
    pub(crate) fn exits(&self) -> Vec<&'static str> {
        let alive = |plane: &'static str, pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_zombie = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
            !is_zombie && read_pid(&self.launch.runtime_dir, plane).ok() == Some(pid)
        };
        self.pids.iter().filter(|(plane, pid)| !alive(plane, **pid)).map(|(plane, _)| *plane).collect()
    }

    /// Panics that the server's processes have written about.
    pub(crate) fn panics(&self) -> usize {
        let logs = self.planes.values().chain([&self.process]).map(Process::log_text).collect::<String>();
        logs.lines().filter(|line| line.contains("panicked at")).count()
    }

    /// Resident memory of each plane, in KiB.
    pub(crate) fn resident_kib(&self) -> BTreeMap<&'static str, Option<f64>> {
        self.pids.iter().map(|(plane, pid)| (*plane, resident_kib(*pid))).collect()
    }

    /// Time that the data plane's threads were ready to run and waited for a CPU, in ms since their start, by thread:
    /// what a wall clock inside a turn cannot tell from work.
    pub(crate) fn scheduler_wait_ms(&self) -> BTreeMap<String, f64> {
        let tasks = format!("/proc/{}/task", self.pids.get("dataplane").copied().unwrap_or_default());
        let Ok(entries) = std::fs::read_dir(tasks) else { return BTreeMap::new() };
        let wait = |path: PathBuf| {
            let name = std::fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let waited_ns: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
            Some((format!("{name}/{}", path.file_name()?.display()), waited_ns / 1e6))
        };
        entries.filter_map(|entry| wait(entry.ok()?.path())).collect()
    }

    /// What the machine has taken from an idle thread beside the server, since the start.
    pub(crate) fn stops(&self) -> Stops {
        self.witness.stops()
    }

    /// The server's log, for the message when a lab fails.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }
}

fn read_pid(runtime_dir: &Path, plane: &str) -> Result<i32> {
    let path = runtime_dir.join(format!("{plane}.pid"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{}: {text:?} is no process id", path.display()))
}

fn resident_kib(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

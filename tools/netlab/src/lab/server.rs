// SPDX-License-Identifier: Apache-2.0
//! The server of a lab: started in its own namespace as a person would start it, watched from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::counters::{Drops, Status};
use crate::install::checkout;
use crate::netns::Endpoint;
use crate::process::Process;

/// Every media packet of a lab goes to this port.
pub(crate) const MEDIA_PORT: u16 = 10_000;
const HTTP_PORT: u16 = 8080;
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
}

/// A running server; ends with its planes when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    runtime_dir: PathBuf,
    bin_dir: PathBuf,
    /// The backend that was asked for.
    pub(crate) backend: String,
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// `http://ADDRESS:PORT`.
    pub(crate) origin: String,
    /// Process ids at the start, by plane.
    pub(crate) pids: BTreeMap<&'static str, i32>,
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
    pub(crate) fn start(endpoint: Endpoint, folder: &Path, options: &ServerOptions) -> Result<Self> {
        let keeper = options.bin_dir.join("millrace-keeper");
        if !keeper.exists() {
            bail!("{} is not built: `cargo build --release --workspace` makes it", keeper.display());
        }
        let (runtime_dir, state_dir) = (folder.join("run"), folder.join("state"));
        std::fs::create_dir_all(&runtime_dir)?;
        std::fs::create_dir_all(&state_dir)?;
        let (address, host) = options.family.address(&endpoint);
        let listen = format!("{host}:{HTTP_PORT}");
        let mut command = endpoint.namespace.command(&keeper);
        command.arg("--runtime-dir").arg(&runtime_dir).arg("--state-dir").arg(&state_dir);
        command.args(["--media-port", &MEDIA_PORT.to_string(), "--media-address", &address]);
        command.args(["--workers", &options.workers.to_string(), "--backend", &options.backend]);
        if options.backend == "xdp" {
            command.args(["--interface", endpoint.interface]);
        }
        command.args(["--listen-plain", &listen, "--open-rooms", "--no-pin"]).env("RUST_BACKTRACE", "1");
        let mut process = Process::spawn(command, &folder.join("server.log"), false)?;
        process.wait_for_text("Millrace is ready", START_LIMIT).context("start the server")?;
        let mut pids = BTreeMap::new();
        for plane in PLANES {
            pids.insert(plane, read_pid(&runtime_dir, plane)?);
        }
        let origin = format!("http://{listen}");
        Ok(Self {
            process,
            runtime_dir,
            bin_dir: options.bin_dir.clone(),
            backend: options.backend.clone(),
            endpoint,
            origin,
            pids,
        })
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
        let mut command = Command::new(self.bin_dir.join("millrace"));
        command.args([what, "--json", "--runtime-dir"]).arg(&self.runtime_dir);
        let output = command.output().with_context(|| format!("start millrace {what}"))?;
        // It exits 1 when it reports a problem, such as a plane that a lab has stopped; the report is what counts.
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("`millrace {what} --json` ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
        })
    }

    /// Planes that have exited or been replaced since the start.
    pub(crate) fn exits(&self) -> Vec<&'static str> {
        let alive = |plane: &'static str, pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_zombie = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
            !is_zombie && read_pid(&self.runtime_dir, plane).ok() == Some(pid)
        };
        self.pids.iter().filter(|(plane, pid)| !alive(plane, **pid)).map(|(plane, _)| *plane).collect()
    }

    /// Panics that the server's processes have written about.
    pub(crate) fn panics(&self) -> usize {
        self.process.log_text().lines().filter(|line| line.contains("panicked at")).count()
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

// SPDX-License-Identifier: Apache-2.0
//! Starts the planes and starts them again, with back-off.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::say;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A plane that lived this long starts without back-off again.
const STABLE: Duration = Duration::from_secs(10);
/// Ends in a row, each within [`STABLE`], after which the keeper gives up.
const PATIENCE: u32 = 5;
/// How long a plane may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// The planes' processes.
pub(crate) struct Planes {
    runtime_dir: PathBuf,
    pids: Mutex<BTreeMap<&'static str, u32>>,
    is_stopping: AtomicBool,
    has_given_up: AtomicBool,
}

impl Planes {
    pub(crate) fn new(runtime_dir: PathBuf) -> Self {
        Self {
            runtime_dir,
            pids: Mutex::new(BTreeMap::new()),
            is_stopping: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
        }
    }

    fn pids(&self) -> MutexGuard<'_, BTreeMap<&'static str, u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a process is the one that was started for a role.
    pub(crate) fn is_current(&self, plane: &str, pid: u32) -> bool {
        self.pids().get(plane) == Some(&pid)
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::Relaxed)
    }

    /// Writes `DIR/PLANE.pid`.
    pub(crate) fn write_pid(&self, plane: &str, pid: u32) -> anyhow::Result<()> {
        let path = self.runtime_dir.join(format!("{plane}.pid"));
        std::fs::write(&path, format!("{pid}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Keeps a plane running, on a thread of its own.
    pub(crate) fn supervise(self: &Arc<Self>, plane: &'static str, program: PathBuf, arguments: Vec<String>) {
        let planes = Arc::clone(self);
        let spawned = std::thread::Builder::new().name(plane.into()).spawn(move || {
            let mut backoff = BACKOFF_MIN;
            let mut failures = 0;
            while !planes.is_stopping.load(Ordering::Relaxed) {
                let started = Instant::now();
                let ended = planes.run_once(plane, &program, &arguments);
                if planes.is_stopping.load(Ordering::Relaxed) {
                    return;
                }
                if started.elapsed() >= STABLE {
                    backoff = BACKOFF_MIN;
                    failures = 0;
                }
                failures += 1;
                say(&format!("{plane} {ended}; it is started again in {} ms", backoff.as_millis()));
                if failures >= PATIENCE {
                    planes.has_given_up.store(true, Ordering::Relaxed);
                    return;
                }
                std::thread::sleep(backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        });
        if spawned.is_err() {
            self.has_given_up.store(true, Ordering::Relaxed);
        }
    }

    /// Runs a plane until it ends; how it ended.
    fn run_once(&self, plane: &'static str, program: &PathBuf, arguments: &[String]) -> String {
        // The lock is held until the pid is known: a plane that asks at once is recognised.
        let mut pids = self.pids();
        let child: std::io::Result<Child> = Command::new(program).args(arguments).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return format!("cannot be started from {}: {error}", program.display()),
        };
        pids.insert(plane, child.id());
        drop(pids);
        if let Err(error) = self.write_pid(plane, child.id()) {
            say(&format!("{error:#}"));
        }
        let ended = child.wait();
        self.pids().remove(plane);
        ended.map_or_else(|error| format!("was lost: {error}"), |status| format!("ended ({status})"))
    }

    /// Ends both planes: asked first, killed after three seconds.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !self.pids().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(Signal::KILL);
        for plane in ["keeper", "dataplane", "controlplane"] {
            let _ = std::fs::remove_file(self.runtime_dir.join(format!("{plane}.pid")));
        }
    }

    fn signal(&self, signal: Signal) {
        for pid in self.pids().values() {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

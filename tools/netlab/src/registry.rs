// SPDX-License-Identifier: Apache-2.0
//! What this process has started and must end: process groups and namespaces.
//!
//! Owners end their own things when they are dropped; this list is for Ctrl-C, where no destructor runs, and for the
//! sweep of what a killed lab left behind. It must never signal a process that the lab did not start: processes are
//! found by the group that the lab made or by the namespace that the lab made.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use crate::console;

/// Every namespace of this crate is called `mr-<pid>-…`, so that a later run knows whose it was.
pub const NAMESPACE_PREFIX: &str = "mr";

struct Registry {
    groups: BTreeSet<i32>,
    namespaces: BTreeSet<String>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { groups: BTreeSet::new(), namespaces: BTreeSet::new() });

/// Set when a signal has come: the other threads may still run, and must not start anything behind the clean-up's back.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Refuses to start anything once the clean-up has begun.
pub(crate) fn ensure_not_ending() -> Result<()> {
    ensure!(!ENDING.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

fn with<T>(change: impl FnOnce(&mut Registry) -> T) -> T {
    // A panic while the list was held leaves it usable: its operations are single inserts and removals.
    let mut registry = REGISTRY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    change(&mut registry)
}

pub(crate) fn add_group(group: i32) {
    with(|registry| registry.groups.insert(group));
}

pub(crate) fn remove_group(group: i32) {
    with(|registry| registry.groups.remove(&group));
}

pub(crate) fn add_namespace(name: &str) {
    with(|registry| registry.namespaces.insert(name.to_owned()));
}

pub(crate) fn remove_namespace(name: &str) {
    with(|registry| registry.namespaces.remove(name));
}

/// Blocks SIGINT, SIGTERM and SIGHUP in the calling thread and its later children threads, and cleans up and exits when
/// one of them arrives. Call it first, from the main thread; later calls do nothing.
///
/// # Errors
/// When the signal mask cannot be set.
pub fn clean_up_on_signals() -> Result<()> {
    static STARTED: Once = Once::new();
    let mut outcome = Ok(());
    STARTED.call_once(|| {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        outcome = signals.thread_block().context("block signals");
        std::thread::spawn(move || {
            if let Ok(signal) = signals.wait() {
                console::line(&format!("{signal}: cleaning up"));
                ENDING.store(true, Ordering::SeqCst);
                clean_everything();
                // What another thread had begun to start in that moment is listed by then.
                clean_everything();
                std::process::exit(130);
            }
        });
    });
    outcome
}

/// Ends every registered process group and deletes every registered namespace.
pub fn clean_everything() {
    let (groups, namespaces) = with(|registry| (registry.groups.clone(), registry.namespaces.clone()));
    for group in &groups {
        end_group(*group);
    }
    for name in &namespaces {
        delete_namespace(name);
    }
}

/// SIGTERM to a process group that the lab made, SIGKILL after two seconds.
pub(crate) fn end_group(group: i32) {
    if group <= 1 {
        return;
    }
    let pid = Pid::from_raw(group);
    if killpg(pid, Signal::SIGTERM).is_ok() {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && killpg(pid, None).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(pid, Signal::SIGKILL);
    }
    remove_group(group);
}

/// Processes of one namespace, as `ip netns pids` lists them.
fn pids_in(name: &str) -> Vec<i32> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Ends the processes inside a namespace that a lab made, then deletes the namespace (its veth ends go with it).
pub(crate) fn delete_namespace(name: &str) {
    let own = std::process::id();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let pids: Vec<i32> = pids_in(name).into_iter().filter(|pid| u32::try_from(*pid) != Ok(own)).collect();
        for pid in &pids {
            let _ = nix::sys::signal::kill(Pid::from_raw(*pid), signal);
        }
        let until = Instant::now() + Duration::from_secs(2);
        while !pids.is_empty() && Instant::now() < until && pids_in(name).iter().any(|pid| pids.contains(pid)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    remove_namespace(name);
}

/// Deletes the namespaces of labs whose process is gone. Returns how many.
///
/// # Errors
/// When `ip netns list` cannot be run.
pub fn sweep_stale() -> Result<usize> {
    let output = Command::new("ip").args(["netns", "list"]).output().context("run `ip netns list` (iproute2)")?;
    let mut swept = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let mut parts = name.split('-');
        if parts.next() != Some(NAMESPACE_PREFIX) {
            continue;
        }
        let Some(pid) = parts.next().and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            delete_namespace(name);
            swept += 1;
        }
    }
    Ok(swept)
}

/// True when the process runs as root, which namespaces and raw sockets need.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

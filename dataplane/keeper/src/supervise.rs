// SPDX-License-Identifier: Apache-2.0
//! Starts the planes and starts them again.
//!
//! A plane that never served in the keeper's life ends the keeper after three tries: its own message says why, and a person
//! is waiting for it. Later on the two planes differ. Without its data plane a server is none, so five ends in a row, each
//! within a second of readiness, end the keeper too (whoever supervises it then starts with a fresh segment). The control
//! plane may fail as often as it likes: calls go on without it, and it is tried again with back-off for ever.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataplane_keeper::REOPEN;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid};
use rustix::thread::CapabilitySet;
use signal_hook::iterator::Handle;

use dataplane_keeper::{powers, say};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A plane that served this long starts again at once: sockets hold some 300 ms of packets for a successor.
const SERVED: Duration = Duration::from_secs(1);
/// Failed starts after which the keeper ends, where the plane never served.
const TRIES: u32 = 3;
/// Ends in a row, each within [`SERVED`] of readiness, after which the keeper ends, where calls need the plane.
const PATIENCE: u32 = 5;
/// How long a plane may take to end by itself.
const GRACE: Duration = Duration::from_secs(4);
/// What clap exits with after it has explained an option.
const USAGE: i32 = 2;

/// What is known of a running plane.
#[derive(Clone, Copy)]
struct Running {
    pid: u32,
    /// When it said that it serves.
    ready: Option<Instant>,
}

/// How a plane ended.
struct End {
    /// How long it served; none if it never said so.
    served: Option<Duration>,
    /// Its exit status, if it exited.
    code: Option<i32>,
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Again(Duration),
    GiveUp(&'static str),
}

/// The record of one plane's ends.
struct Record {
    /// Calls cannot go on without it.
    carries_calls: bool,
    has_served: bool,
    /// In a row.
    failures: u32,
    backoff: Duration,
}

impl Record {
    const fn new(carries_calls: bool) -> Self {
        Self { carries_calls, has_served: false, failures: 0, backoff: BACKOFF_MIN }
    }

    fn judge(&mut self, end: &End) -> Verdict {
        self.has_served |= end.served.is_some();
        if end.served.is_some_and(|served| served >= SERVED) {
            self.failures = 0;
            self.backoff = BACKOFF_MIN;
            return Verdict::Again(Duration::ZERO);
        }
        // An interface that comes and goes says nothing against the plane.
        if end.code == Some(i32::from(REOPEN)) {
            return Verdict::Again(BACKOFF_MIN);
        }
        self.failures = self.failures.saturating_add(1);
        if !self.has_served && (end.code == Some(USAGE) || end.code == Some(0)) {
            return Verdict::GiveUp("does not serve with these options; its own message is above");
        }
        if !self.has_served && self.failures >= TRIES {
            return Verdict::GiveUp("could not be started; its own message is above");
        }
        if self.carries_calls && self.failures >= PATIENCE {
            return Verdict::GiveUp("ended five times in a row within a second of its start; its own message is above");
        }
        let delay = self.backoff;
        self.backoff = (delay * 2).min(BACKOFF_MAX);
        Verdict::Again(delay)
    }
}

/// What to start as a plane.
pub(crate) struct Plane {
    /// Its word as a role.
    pub(crate) name: &'static str,
    /// Calls cannot go on without it.
    pub(crate) carries_calls: bool,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// What it has at most.
    pub(crate) powers: CapabilitySet,
}

/// The planes' processes.
pub(crate) struct Planes {
    /// Somebody else starts them.
    adopts: bool,
    runtime_dir: PathBuf,
    running: Mutex<BTreeMap<&'static str, Running>>,
    is_stopping: AtomicBool,
    /// Why the keeper has to end.
    gave_up: Mutex<Option<String>>,
    /// Wakes the main thread.
    signals: Handle,
}

impl Planes {
    pub(crate) fn new(runtime_dir: PathBuf, adopts: bool, signals: Handle) -> Self {
        Self {
            adopts,
            runtime_dir,
            running: Mutex::new(BTreeMap::new()),
            is_stopping: AtomicBool::new(false),
            gave_up: Mutex::new(None),
            signals,
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a process is the one that was started for a role.
    pub(crate) fn is_current(&self, plane: &str, pid: u32) -> bool {
        self.running().get(plane).is_some_and(|running| running.pid == pid)
    }

    /// Takes a process that somebody else has started for a role; not while another one lives.
    pub(crate) fn adopt(&self, plane: &'static str, pid: u32) -> bool {
        if !self.adopts {
            return false;
        }
        let mut running = self.running();
        let lives = |pid: u32| pid_of(pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
        if running.get(plane).is_some_and(|other| other.pid != pid && lives(other.pid)) {
            return false;
        }
        running.insert(plane, Running { pid, ready: None });
        drop(running);
        if let Err(error) = self.write_pid(plane, pid) {
            say(&format!("{error:#}"));
        }
        true
    }

    /// What a process is told that asks for a role which is not its own.
    pub(crate) const fn why_not(&self) -> &'static str {
        if self.adopts {
            "another process has that role and lives, or this one runs as another user"
        } else {
            "this process was not started by the keeper for that role"
        }
    }

    /// A process says that it serves; whether it is one of the planes.
    pub(crate) fn note_ready(&self, pid: u32) -> bool {
        let mut running = self.running();
        let Some(plane) = running.values_mut().find(|running| running.pid == pid) else { return false };
        plane.ready.get_or_insert_with(Instant::now);
        true
    }

    /// Why the keeper has to end, if it has to.
    pub(crate) fn gave_up(&self) -> Option<String> {
        self.gave_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give_up(&self, why: String) {
        *self.gave_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.signals.close();
    }

    /// Writes `DIR/PLANE.pid`; a reader sees a whole file or none.
    pub(crate) fn write_pid(&self, plane: &str, pid: u32) -> anyhow::Result<()> {
        let path = self.runtime_dir.join(format!("{plane}.pid"));
        let fresh = self.runtime_dir.join(format!("{plane}.pid.new"));
        std::fs::write(&fresh, format!("{pid}\n"))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Keeps a plane running, on a thread of its own. The thread lives as long as its children: they are told to follow
    /// its death.
    pub(crate) fn supervise(self: &Arc<Self>, plane: Plane) {
        let planes = Arc::clone(self);
        let Plane { name, carries_calls, program, arguments, powers } = plane;
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            powers::bound_children(powers);
            let mut record = Record::new(carries_calls);
            loop {
                let (end, how) = planes.run_once(name, &program, &arguments);
                if planes.is_stopping.load(Ordering::Acquire) {
                    return;
                }
                match record.judge(&end) {
                    Verdict::Again(delay) => {
                        say(&format!("{name} {how}; it is started again in {} ms", delay.as_millis()));
                        std::thread::sleep(delay);
                    }
                    Verdict::GiveUp(why) => {
                        say(&format!("{name} {how}"));
                        return planes.give_up(format!("millrace-{name} {why}"));
                    }
                }
            }
        });
        if let Err(error) = spawned {
            self.give_up(format!("cannot start a thread: {error}"));
        }
    }

    /// Runs a plane until it ends; how it ended.
    fn run_once(&self, plane: &'static str, program: &Path, arguments: &[String]) -> (End, String) {
        let unstarted = End { served: None, code: None };
        // The lock is held until the pid is known: a plane that asks at once is recognised, and `stop` sees every child.
        let mut running = self.running();
        if self.is_stopping.load(Ordering::Acquire) {
            return (unstarted, "is not started any more".into());
        }
        // A group of its own: Ctrl-C at a terminal is for the keeper, which then ends the planes.
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).process_group(0).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return (unstarted, format!("cannot be started from {}: {error}", program.display())),
        };
        running.insert(plane, Running { pid: child.id(), ready: None });
        drop(running);
        if let Err(error) = self.write_pid(plane, child.id()) {
            say(&format!("{error:#}"));
        }
        // Waited for without being reaped: until it is out of the table its pid stays its own.
        if let Some(pid) = pid_of(child.id()) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        }
        let last = self.running().remove(plane);
        let served = last.and_then(|running| running.ready).map(|ready| ready.elapsed());
        let ended: std::io::Result<ExitStatus> = child.wait();
        let code = ended.as_ref().ok().and_then(ExitStatus::code);
        let how = match ended {
            Ok(_) if code == Some(i32::from(REOPEN)) => "has lost its interface".to_owned(),
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("was lost: {error}"),
        };
        (End { served, code }, how)
    }

    /// Ends both planes: asked first, killed after four seconds. Both are asked at once: without either there is no call,
    /// and neither waits for the other.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        if self.adopts {
            // Who started them ends them.
            self.running().clear();
        }
        self.signal(Signal::TERM);
        self.wait_for_ends(GRACE);
        self.signal(Signal::KILL);
        // Ports and locks are free again when the keeper is gone.
        self.wait_for_ends(GRACE);
        for plane in ["keeper", "dataplane", "controlplane"] {
            let _ = std::fs::remove_file(self.runtime_dir.join(format!("{plane}.pid")));
        }
    }

    /// Asks a plane that serves to end, so that it starts anew.
    pub(crate) fn restart(&self, plane: &str) {
        if let Some(pid) = self.running().get(plane).filter(|it| it.ready.is_some()).and_then(|it| pid_of(it.pid)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn wait_for_ends(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while Instant::now() < until && !self.running().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        for running in self.running().values() {
            if let Some(pid) = pid_of(running.pid) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREADY: End = End { served: None, code: Some(1) };
    const SHORT: End = End { served: Some(Duration::from_millis(300)), code: None };
    const LONG: End = End { served: Some(Duration::from_secs(2)), code: None };

    fn judge(record: &mut Record, end: &End, times: u32) -> Verdict {
        (0..times).map(|_| record.judge(end)).last().expect("at least once")
    }

    #[test]
    fn a_plane_that_never_served_is_tried_three_times() {
        for carries_calls in [true, false] {
            let mut record = Record::new(carries_calls);
            assert!(matches!(judge(&mut record, &UNREADY, 2), Verdict::Again(_)));
            assert!(matches!(record.judge(&UNREADY), Verdict::GiveUp(_)));
        }
    }

    #[test]
    fn wrong_options_are_not_tried_again() {
        for code in [0, 2] {
            let verdict = Record::new(false).judge(&End { served: None, code: Some(code) });
            assert!(matches!(verdict, Verdict::GiveUp(why) if why.contains("options")));
        }
    }

    #[test]
    fn a_control_plane_that_cannot_start_any_more_does_not_end_calls() {
        let mut record = Record::new(false);
        assert_eq!(record.judge(&LONG), Verdict::Again(Duration::ZERO));
        assert_eq!(judge(&mut record, &UNREADY, 1000), Verdict::Again(BACKOFF_MAX));
        let usage = End { served: None, code: Some(USAGE) };
        assert_eq!(record.judge(&usage), Verdict::Again(BACKOFF_MAX));
    }

    #[test]
    fn a_data_plane_is_given_up_when_it_only_crashes_and_never_while_it_serves() {
        let mut record = Record::new(true);
        assert_eq!(judge(&mut record, &LONG, 100), Verdict::Again(Duration::ZERO));
        assert_eq!(judge(&mut record, &SHORT, 4), Verdict::Again(BACKOFF_MIN * 8));
        assert!(matches!(record.judge(&SHORT), Verdict::GiveUp(_)));
    }

    #[test]
    fn a_data_plane_that_loses_its_interface_again_and_again_is_not_given_up() {
        let mut record = Record::new(true);
        let lost = End { code: Some(i32::from(REOPEN)), ..SHORT };
        assert_eq!(judge(&mut record, &lost, 100), Verdict::Again(BACKOFF_MIN));
        assert_eq!(judge(&mut record, &SHORT, 1), Verdict::Again(BACKOFF_MIN), "none of them counts");
    }

    #[test]
    fn one_good_run_makes_up_for_failures() {
        let mut record = Record::new(true);
        judge(&mut record, &SHORT, 4);
        assert_eq!(record.judge(&LONG), Verdict::Again(Duration::ZERO));
        assert_eq!(record.judge(&SHORT), Verdict::Again(BACKOFF_MIN));
    }
}

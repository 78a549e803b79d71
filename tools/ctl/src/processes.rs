// SPDX-License-Identifier: Apache-2.0
//! The three processes, by their pid files and `/proc`. Must never signal one.

use std::path::Path;

use serde::Serialize;

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// From `DIR/NAME.pid`; none without such a file.
    pub(crate) pid: Option<u32>,
    /// It exists, is the program that it should be, and is no zombie.
    pub(crate) alive: bool,
    /// It exists, and is stopped by a signal or a debugger.
    pub(crate) stopped: bool,
    /// Resident memory, KiB.
    pub(crate) rss_kib: Option<u64>,
}

/// All three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Processes {
    /// Holds the descriptors, restarts the planes.
    pub(crate) keeper: Process,
    /// Forwards.
    pub(crate) dataplane: Process,
    /// Signals.
    pub(crate) controlplane: Process,
}

impl Processes {
    /// Looks at the pid files of a runtime directory.
    pub(crate) fn look(runtime_dir: &Path) -> Self {
        let of = |name: &str| Process::look(runtime_dir, name, Path::new("/proc"));
        Self { keeper: of("keeper"), dataplane: of("dataplane"), controlplane: of("controlplane") }
    }

    /// With their names for people.
    pub(crate) const fn named(&self) -> [(&'static str, &Process); 3] {
        [("keeper", &self.keeper), ("data plane", &self.dataplane), ("control plane", &self.controlplane)]
    }
}

impl Process {
    fn look(runtime_dir: &Path, name: &str, proc: &Path) -> Self {
        let text = std::fs::read_to_string(runtime_dir.join(format!("{name}.pid"))).unwrap_or_default();
        let Ok(pid) = text.trim().parse::<u32>() else { return Self::default() };
        let status = std::fs::read_to_string(proc.join(pid.to_string()).join("status")).unwrap_or_default();
        Self { pid: Some(pid), ..Self::of_status(&status, &format!("millrace-{name}")) }
    }

    /// Reads `/proc/PID/status`; the kernel keeps 15 bytes of a name.
    fn of_status(status: &str, program: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_it = field("Name:").is_some_and(|name| program.get(..15).unwrap_or(program) == name);
        let state = field("State:").and_then(|state| state.chars().next());
        let alive = is_it && state.is_some_and(|state| !"ZX".contains(state));
        let rss = field("VmRSS:").and_then(|rss| rss.split(' ').next()?.parse().ok());
        Self {
            pid: None,
            alive,
            stopped: alive && state.is_some_and(|state| "Tt".contains(state)),
            rss_kib: rss.filter(|_| alive),
        }
    }

    /// One word for people.
    pub(crate) const fn state(&self) -> &'static str {
        match (self.pid, self.alive, self.stopped) {
            (_, true, true) => "stopped",
            (_, true, false) => "running",
            (Some(_), false, _) => "dead",
            (None, false, _) => "not started",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tmillrace-datapl\nState:\tS (sleeping)\nVmRSS:\t    1234 kB\n";

    #[test]
    fn a_process_is_alive_when_it_is_the_program_that_was_started() {
        let process = Process::of_status(STATUS, "millrace-dataplane");
        assert_eq!((process.alive, process.stopped, process.rss_kib), (true, false, Some(1234)));
        // The pid was given to somebody else.
        assert!(!Process::of_status(&STATUS.replace("millrace-datapl", "bash"), "millrace-dataplane").alive);
        assert!(!Process::of_status("", "millrace-dataplane").alive);
    }

    #[test]
    fn a_zombie_is_dead_and_a_stopped_process_says_so() {
        assert!(!Process::of_status(&STATUS.replace("S (s", "Z (z"), "millrace-dataplane").alive);
        let stopped = Process::of_status(&STATUS.replace("S (s", "T (s"), "millrace-dataplane");
        assert_eq!(Process { pid: Some(1), ..stopped }.state(), "stopped");
    }

    #[test]
    fn without_a_pid_file_nothing_was_started() {
        let process = Process::look(Path::new("/nonexistent"), "keeper", Path::new("/proc"));
        assert_eq!(process.state(), "not started");
    }
}

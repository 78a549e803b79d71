// SPDX-License-Identifier: Apache-2.0
//! What a server takes of its core, measured twice: by the times that the kernel has counted for its threads, and by what an
//! idle thread on the same core could still do. The second sees interrupts and kernel threads too, the first does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Loops between two looks at the flag.
const CHUNK: u64 = 1000;

/// Pins the calling thread to a core.
///
/// # Errors
/// When there is no such core.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("pin to cpu {cpu}"))
}

/// CPU time that the threads of a process have taken, ns.
///
/// # Errors
/// When the process is gone.
pub fn process_ns(pid: i32) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += thread_ns(&entry?.path()).unwrap_or(0);
    }
    ensure!(sum > 0, "process {pid} has no times");
    Ok(sum)
}

/// CPU time of each worker of a data plane, by name, ns.
///
/// # Errors
/// When the process is gone.
pub fn workers_ns(pid: i32) -> Result<BTreeMap<String, u64>> {
    let mut times = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?.path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        if let Some(ns) = thread_ns(&task).filter(|_| name.starts_with("worker-")) {
            times.insert(name.trim().to_owned(), ns);
        }
    }
    Ok(times)
}

/// First word of `schedstat`: time on the CPU, ns. Finer than the ticks of `stat`, which count the same.
fn thread_ns(task: &Path) -> Option<u64> {
    std::fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

/// User and system time of a process in ticks of 10 ms, as `ps` shows them.
///
/// # Errors
/// When the process is gone.
pub fn process_ticks(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit_once(')').ok_or_else(|| anyhow!("/proc/{pid}/stat has no name"))?.1;
    let field = |at: usize| rest.split_whitespace().nth(at).and_then(|word| word.parse::<u64>().ok());
    field(11).zip(field(12)).map(|(user, system)| user + system).context("/proc/…/stat is too short")
}

/// A thread of class SCHED_IDLE that counts loops on a core.
pub struct Spinner {
    cpu: usize,
    stop: Arc<AtomicBool>,
    loops: Arc<AtomicU64>,
    /// Longest time between two looks at the clock while it ran, ns: what the core itself loses to interrupts and hypervisor.
    gaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Spinner {
    /// Starts counting on a core.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(cpu: usize) -> Result<Self> {
        let (stop, loops, gaps) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (flag, count, gap) = (Arc::clone(&stop), Arc::clone(&loops), Arc::clone(&gaps));
        let run = move || {
            pin(cpu)?;
            idle_class()?;
            let mut last = bench_trafficgen::mono_ns();
            while !flag.load(Ordering::Relaxed) {
                for _ in 0..CHUNK {
                    std::hint::black_box(());
                    std::hint::spin_loop();
                }
                count.fetch_add(CHUNK, Ordering::Relaxed);
                let now = bench_trafficgen::mono_ns();
                gap.fetch_max(now - last, Ordering::Relaxed);
                last = now;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("spinner".into()).spawn(run)?;
        Ok(Self { cpu, stop, loops, gaps, thread: Some(thread) })
    }

    /// The core that it runs on.
    #[must_use]
    pub const fn cpu(&self) -> usize {
        self.cpu
    }

    /// Loops so far.
    #[must_use]
    pub fn loops(&self) -> u64 {
        self.loops.load(Ordering::Relaxed)
    }

    /// The longest gap since the last call, ns.
    #[must_use]
    pub fn take_gap_ns(&self) -> u64 {
        self.gaps.swap(0, Ordering::Relaxed)
    }

    /// Loops per second on a core that nobody else uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn calibrate(&self, time: Duration) -> Result<f64> {
        let (before, began) = (self.loops(), Instant::now());
        std::thread::sleep(time);
        let rate = as_f64(self.loops() - before) / began.elapsed().as_secs_f64();
        ensure!(rate > 0.0, "the idle thread does not run");
        Ok(rate)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn idle_class() -> Result<()> {
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
    )
    .map_err(|error| anyhow!("SCHED_IDLE: {error:?}"))
}

/// What a core and a process did between two looks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    /// Length of the window, s.
    pub seconds: f64,
    /// CPU time of the process's threads, ns.
    pub process_ns: u64,
    /// The same by ticks of 10 ms.
    pub process_ticks: u64,
    /// Loops of the idle thread.
    pub loops: u64,
}

impl Usage {
    /// Share of the core that was busy, by the loops that were left; `idle_rate` = loops per second on the idle core.
    #[must_use]
    pub fn busy_by_spinner(&self, idle_rate: f64) -> f64 {
        1.0 - as_f64(self.loops) / (idle_rate * self.seconds)
    }

    /// Share of one core that the process took, by its own times.
    #[must_use]
    pub fn busy_by_process(&self) -> f64 {
        as_f64(self.process_ns) / 1e9 / self.seconds
    }

    /// CPU of the process for each of so many packets, µs.
    #[must_use]
    pub fn process_us(&self, packets: u64) -> f64 {
        as_f64(self.process_ns) / 1000.0 / as_f64(packets.max(1))
    }

    /// Time that the core did not have left for each of so many packets, µs: interrupts and kernel threads included.
    #[must_use]
    pub fn core_us(&self, idle_rate: f64, packets: u64) -> f64 {
        self.busy_by_spinner(idle_rate) * self.seconds * 1e6 / as_f64(packets.max(1))
    }

    /// Packets per second of the window.
    #[must_use]
    pub fn rate(&self, packets: u64) -> f64 {
        as_f64(packets) / self.seconds
    }
}

/// Looks at a core and a process.
pub struct Meter<'m> {
    spinner: &'m Spinner,
    pid: i32,
    began: Instant,
    process_ns: u64,
    process_ticks: u64,
    loops: u64,
}

impl<'m> Meter<'m> {
    /// Begins a window.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn start(spinner: &'m Spinner, pid: i32) -> Result<Self> {
        Ok(Self {
            process_ns: process_ns(pid)?,
            process_ticks: process_ticks(pid)?,
            loops: spinner.loops(),
            began: Instant::now(),
            spinner,
            pid,
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn stop(&self) -> Result<Usage> {
        Ok(Usage {
            loops: self.spinner.loops() - self.loops,
            seconds: self.began.elapsed().as_secs_f64(),
            process_ns: process_ns(self.pid)?.saturating_sub(self.process_ns),
            process_ticks: process_ticks(self.pid)?.saturating_sub(self.process_ticks),
        })
    }
}

/// How far two calibrations lie apart, as a share of the first.
#[must_use]
pub fn drift(before: f64, after: f64) -> f64 {
    (after - before).abs() / before
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) const fn as_f64(value: u64) -> f64 {
    value as f64
}

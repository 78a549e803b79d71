// SPDX-License-Identifier: Apache-2.0
//! How often the machine itself stops a thread that does nothing: what a worker's clocks cannot tell from its own work.
//!
//! A hypervisor that takes a virtual CPU away, and interrupts of the guest, let the CPU time of the thread on it go on. On the
//! machines of the labs an idle thread of the FIFO class was seen to stand still for 0.3 to 4 ms with no event in the guest's own
//! trace. So an idle thread per core runs beside the lab, a tenth of the time and behind everybody else (SCHED_IDLE), and counts
//! the steps of its CPU time that were far longer than the step itself takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rustix::time::{ClockId, clock_gettime};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// A step that is as long counts as a stop: half of what a turn may take, so that it makes a turn of half of it too long.
const STOP_NS: u64 = 250_000;
/// Spins so long, then sleeps nine times as long: a machine that gives its guests a share of a core must not be used up by this.
const SPELL: Duration = Duration::from_millis(5);
/// More long turns than in all but one of so many runs are the worker's own.
const ONE_IN: f64 = 100.0;

/// What the witnesses have seen so far.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stops {
    /// Stops of 250 µs and more.
    pub count: u64,
    /// CPU time that was watched, s.
    pub watched_s: f64,
    /// The longest, µs.
    pub longest_us: f64,
}

impl Stops {
    /// How many turns of a thread that had so much CPU time (s) such stops may have made too long: a Poisson count at the rate that
    /// was seen stays below it in 99 of 100 runs. Zero where nothing was seen.
    #[must_use]
    pub fn explain(&self, cpu_s: f64) -> u64 {
        if self.count == 0 || self.watched_s <= 0.0 {
            return 0;
        }
        let mean = as_f64(self.count) / self.watched_s * cpu_s;
        let (mut most, mut term) = (0_u64, (-mean).exp());
        let mut sum = term;
        while sum < 1.0 - 1.0 / ONE_IN && most < 10_000 {
            most += 1;
            term *= mean / as_f64(most);
            sum += term;
        }
        most
    }
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    count: AtomicU64,
    watched_ns: AtomicU64,
    longest_ns: AtomicU64,
}

/// One idle thread on each core; they end when it is dropped.
#[derive(Debug)]
pub struct Witness {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Starts watching the cores that this process may use.
    ///
    /// # Errors
    /// When the threads cannot be started or confined.
    pub fn start() -> Result<Self> {
        let cores = sched_getaffinity(Pid::from_raw(0)).context("the cores of this process")?;
        let mut witness = Self { seen: Arc::default(), threads: Vec::new() };
        for core in (0..CpuSet::count()).filter(|core| cores.is_set(*core).unwrap_or(false)) {
            let (seen, (says, hears)) = (Arc::clone(&witness.seen), std::sync::mpsc::channel());
            let run = move || {
                let ready = settle(core);
                let is_ready = ready.is_ok();
                let _ = says.send(ready);
                if is_ready {
                    watch(&seen);
                }
            };
            witness.threads.push(std::thread::Builder::new().name("witness".into()).spawn(run)?);
            hears.recv().context("a witness died")??;
        }
        Ok(witness)
    }

    /// What was seen since the start.
    #[must_use]
    pub fn stops(&self) -> Stops {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Stops {
            count: load(&self.seen.count),
            watched_s: as_f64(load(&self.seen.watched_ns)) / 1e9,
            longest_us: as_f64(load(&self.seen.longest_ns)) / 1e3,
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Confines the calling thread to a core, behind everybody else there.
fn settle(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("a witness on core {core}"))?;
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
        .map_err(|error| anyhow!("SCHED_IDLE for a witness: {error:?}"))
}

fn watch(seen: &Seen) {
    let spell_ns = u64::try_from(SPELL.as_nanos()).unwrap_or(u64::MAX);
    while !seen.stop.load(Ordering::Relaxed) {
        let began_ns = cpu_ns();
        let mut last_ns = began_ns;
        while last_ns.saturating_sub(began_ns) < spell_ns {
            let now_ns = cpu_ns();
            let step_ns = now_ns.saturating_sub(last_ns);
            if step_ns >= STOP_NS {
                seen.count.fetch_add(1, Ordering::Relaxed);
            }
            seen.longest_ns.fetch_max(step_ns, Ordering::Relaxed);
            last_ns = now_ns;
        }
        seen.watched_ns.fetch_add(last_ns.saturating_sub(began_ns), Ordering::Relaxed);
        std::thread::sleep(SPELL * 9);
    }
}

/// CPU time of the calling thread, ns.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let [seconds, ns] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds.wrapping_mul(1_000_000_000).wrapping_add(ns)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
const fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_machine_that_never_stops_explains_nothing() {
        assert_eq!(Stops { count: 0, watched_s: 30.0, longest_us: 40.0 }.explain(1e6), 0);
        assert_eq!(Stops::default().explain(10.0), 0, "who has not watched has seen nothing");
    }

    #[test]
    fn what_is_explained_grows_with_the_rate_and_the_time() {
        let stops = |count| Stops { count, watched_s: 10.0, longest_us: 900.0 };
        // Poisson: P(0 | 0.005) = 0.995; P(≤ 1 | 0.1) = 0.9953; P(≤ 4 | 1) = 0.9963, P(≤ 3 | 1) = 0.981; P(≤ 18 | 10) = 0.993.
        assert_eq!(
            [(1, 0.05), (1, 1.0), (1, 10.0), (10, 10.0)].map(|(n, cpu_s)| stops(n).explain(cpu_s)),
            [0, 1, 4, 18]
        );
    }

    #[test]
    fn an_idle_thread_is_watched_a_part_of_the_time() {
        let (witness, began) = (Witness::start().expect("threads"), Instant::now());
        std::thread::sleep(Duration::from_millis(600));
        // Other programs come first: on a busy machine its turn comes late.
        while witness.stops().watched_s <= 0.0 {
            assert!(began.elapsed() < Duration::from_secs(60), "it was never let run");
            std::thread::sleep(Duration::from_millis(50));
        }
        let stops = witness.stops();
        let cores = as_f64(std::thread::available_parallelism().map_or(1, usize::from) as u64);
        assert!(stops.watched_s < 0.2 * cores * began.elapsed().as_secs_f64(), "{stops:?}");
        assert!(stops.longest_us > 0.0 && (stops.count == 0) == (stops.longest_us < 250.0), "{stops:?}");
    }
}

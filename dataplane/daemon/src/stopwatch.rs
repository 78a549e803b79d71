// SPDX-License-Identifier: Apache-2.0
//! Where the time of a turn goes: to the worker, to the kernel's calls, or to nobody.
//!
//! ```text
//!  turn    ├─ changes, rings ─┼─ receive ─┼─ tile ─┼─ tile ─┼─ timers, wake-ups ─┤      by the clock
//!  stretch   nothing taken up   work        work     nothing  work
//!            └─ gap                └ kernel   └ kernel └─ gap
//! ```
//!
//! Interrupts, other people's packets that the kernel handles on our core, and the hypervisor lengthen a turn by milliseconds.
//! A stretch in which the worker took nothing up is such a gap: with nothing to do it takes about a microsecond. A gap in the
//! middle of work shows by the thread's CPU time, which stands still while another thread or another virtual machine has the
//! core; it goes on during interrupts, which therefore count as work. This must never excuse what the worker itself took: a
//! stage that sleeps has given the core away by itself, and is no gap.

use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::flow::FlowKey;
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_io::wait::Wait;
use nix::sys::resource::{UsageWho, getrusage};

use crate::clock::{cpu_ns, mono_ns};

/// A turn longer than this is counted.
const LONG_TURN_NS: u64 = 500_000;
/// The CPU time is looked at before a turn where the last look is older: two system calls, 1.3 µs. A turn may be excused for
/// what was taken from the worker in so long before it, too.
const LOOK_NS: u64 = 100_000;

/// A port, and the time that its calls into the kernel took.
pub(crate) struct Timed<P> {
    pub(crate) port: P,
    /// Since the port was opened; it only grows.
    kernel_ns: u64,
}

impl<P> Timed<P> {
    pub(crate) const fn new(port: P) -> Self {
        Self { port, kernel_ns: 0 }
    }

    fn spent(&mut self, from_ns: u64) {
        self.kernel_ns = self.kernel_ns.wrapping_add(mono_ns().saturating_sub(from_ns));
    }
}

impl<P: Port> Port for Timed<P> {
    fn kind(&self) -> PortKind {
        self.port.kind()
    }

    fn receive(&mut self, max: usize) -> usize {
        let from_ns = mono_ns();
        let received = self.port.receive(max);
        self.spent(from_ns);
        received
    }

    #[inline]
    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        self.port.packet(index)
    }

    fn release(&mut self) {
        self.port.release();
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        self.port.open_path(flow, dscp, ecn)
    }

    fn close_path(&mut self, path: PathSlot) {
        self.port.close_path(path);
    }

    #[inline]
    fn tx_room(&self) -> usize {
        self.port.tx_room()
    }

    fn room_for(&mut self, path: PathSlot, len: usize) -> usize {
        self.port.room_for(path, len)
    }

    #[inline]
    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        self.port.reserve(path, len)
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        self.port.commit(len);
    }

    fn flush(&mut self) -> Flushed {
        let from_ns = mono_ns();
        let flushed = self.port.flush();
        self.spent(from_ns);
        flushed
    }

    fn reap(&mut self) {
        self.port.reap();
    }

    fn rehearse(&mut self) {
        self.port.rehearse();
    }

    fn rx_overflow(&self) -> u64 {
        self.port.rx_overflow()
    }
}

impl<P: Wait> Wait for Timed<P> {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        self.port.wait(timeout, wake);
    }
}

/// What a worker has taken up and how long the kernel took for it, so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    steps: u64,
    kernel_ns: u64,
}

impl Progress {
    /// `steps` are the worker's.
    pub(crate) const fn of<P>(steps: u64, port: &Timed<P>) -> Self {
        Self { steps, kernel_ns: port.kernel_ns }
    }
}

/// One look at the thread's time.
#[derive(Clone, Copy)]
struct Look {
    wall_ns: u64,
    cpu_ns: u64,
    /// How often the thread has given the core away by itself.
    sleeps: i64,
}

impl Look {
    fn now() -> Option<Self> {
        let sleeps = getrusage(UsageWho::RUSAGE_THREAD).ok()?.voluntary_context_switches();
        Some(Self { cpu_ns: cpu_ns(), wall_ns: mono_ns(), sleeps })
    }
}

/// Time that was taken from the thread.
#[derive(Default)]
pub(crate) struct Core {
    last: Option<Look>,
}

impl Core {
    /// A turn begins.
    pub(crate) fn look(&mut self, now_ns: u64) {
        if self.last.is_none_or(|last| now_ns.saturating_sub(last.wall_ns) > LOOK_NS) {
            self.last = Look::now();
        }
    }

    /// The thread has slept.
    pub(crate) const fn forget(&mut self) {
        self.last = None;
    }

    /// What the thread had since the last look; nothing is known where it has slept.
    pub(crate) fn had(&mut self) -> Option<Had> {
        let (from, to) = (self.last, Look::now());
        self.last = to;
        from.zip(to).and_then(|(from, to)| had_between(from, to))
    }
}

/// What a thread had of a stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Had {
    /// CPU time: nothing that it did in the stretch took longer.
    cpu_ns: u64,
    /// The rest, which was taken from it.
    lost_ns: u64,
}

fn had_between(from: Look, to: Look) -> Option<Had> {
    let cpu_ns = to.cpu_ns.saturating_sub(from.cpu_ns);
    let lost_ns = to.wall_ns.saturating_sub(from.wall_ns).saturating_sub(cpu_ns);
    (from.sleeps == to.sleeps).then_some(Had { cpu_ns, lost_ns })
}

/// The watch of one turn.
pub(crate) struct Stopwatch {
    started_ns: u64,
    read_ns: u64,
    last: Progress,
    work_ns: u64,
    kernel_ns: u64,
    /// Longest of one stretch.
    longest_work_ns: u64,
    longest_kernel_ns: u64,
    longest_gap_ns: u64,
}

impl Stopwatch {
    pub(crate) const fn start(now_ns: u64, progress: Progress) -> Self {
        Self {
            started_ns: now_ns,
            read_ns: now_ns,
            last: progress,
            work_ns: 0,
            kernel_ns: 0,
            longest_work_ns: 0,
            longest_kernel_ns: 0,
            longest_gap_ns: 0,
        }
    }

    /// When the turn began, monotonic ns.
    pub(crate) const fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// A stretch has ended; `packets` were received or sent in it.
    pub(crate) fn mark(&mut self, now_ns: u64, progress: Progress, packets: usize) {
        let stretch_ns = now_ns.saturating_sub(self.read_ns);
        let kernel_ns = progress.kernel_ns.wrapping_sub(self.last.kernel_ns).min(stretch_ns);
        if packets > 0 || progress.steps != self.last.steps {
            let work_ns = stretch_ns.saturating_sub(kernel_ns);
            self.work_ns = self.work_ns.saturating_add(work_ns);
            self.kernel_ns = self.kernel_ns.saturating_add(kernel_ns);
            self.longest_work_ns = self.longest_work_ns.max(work_ns);
            self.longest_kernel_ns = self.longest_kernel_ns.max(kernel_ns);
        } else {
            self.longest_gap_ns = self.longest_gap_ns.max(stretch_ns);
        }
        (self.read_ns, self.last) = (now_ns, progress);
    }

    /// Whether the CPU time has to be looked at: half of what is allowed.
    pub(crate) const fn is_suspect(&self) -> bool {
        self.work_ns > LONG_TURN_NS / 2 || self.kernel_ns > LONG_TURN_NS / 2
    }

    /// What was taken from the thread is taken off the longest part, and never more than that part took. All that is left
    /// has to fit into the CPU time that the thread had.
    pub(crate) fn excuse(&mut self, had: Had) {
        let Had { cpu_ns, lost_ns } = had;
        let (work_ns, kernel_ns) = (self.longest_work_ns, self.longest_kernel_ns);
        if work_ns >= kernel_ns && work_ns >= self.longest_gap_ns {
            self.work_ns = self.work_ns.saturating_sub(lost_ns.min(work_ns));
        } else if kernel_ns >= self.longest_gap_ns {
            self.kernel_ns = self.kernel_ns.saturating_sub(lost_ns.min(kernel_ns));
        }
        (self.work_ns, self.kernel_ns) = (self.work_ns.min(cpu_ns), self.kernel_ns.min(cpu_ns));
        self.longest_gap_ns = self.longest_gap_ns.max(lost_ns);
    }

    /// The turn has ended at the last mark.
    pub(crate) fn count(&self, counters: &WorkerCounters) {
        let turn_ns = self.read_ns.saturating_sub(self.started_ns);
        bump(&counters.turns);
        raise(&counters.turn_max_ns, turn_ns);
        raise(&counters.turn_work_max_ns, self.work_ns);
        raise(&counters.turn_kernel_max_ns, self.kernel_ns);
        raise(&counters.turn_gap_max_ns, self.longest_gap_ns);
        if turn_ns > LONG_TURN_NS {
            bump(&counters.turns_long);
        }
        if self.work_ns > LONG_TURN_NS {
            bump(&counters.turns_long_work);
        }
    }
}

fn bump(cell: &AtomicU64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

fn raise(cell: &AtomicU64, value: u64) {
    if value > cell.load(Ordering::Relaxed) {
        cell.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_abi::ids::WorkerId;
    use dataplane_abi::limits::Capacities;
    use dataplane_shm::Segment;

    /// Turns of (nanoseconds, of them in the kernel, steps, packets) per stretch; the figures.
    fn figures(turns: &[&[(u64, u64, u64, usize)]]) -> [u64; 6] {
        excused(turns, Had { cpu_ns: u64::MAX, lost_ns: 0 })
    }

    /// The same, where the thread had this of every suspicious turn.
    fn excused(turns: &[&[(u64, u64, u64, usize)]], had: Had) -> [u64; 6] {
        let (_, segment) = Segment::create(&Capacities::SMALL).unwrap();
        let counters = segment.counters(WorkerId(0)).unwrap();
        let (mut now_ns, mut progress) = (7_000, Progress { steps: u64::MAX, kernel_ns: u64::MAX });
        for turn in turns {
            let mut watch = Stopwatch::start(now_ns, progress);
            for (stretch_ns, kernel_ns, steps, packets) in *turn {
                now_ns += stretch_ns;
                progress.steps = progress.steps.wrapping_add(*steps);
                progress.kernel_ns = progress.kernel_ns.wrapping_add(*kernel_ns);
                watch.mark(now_ns, progress, *packets);
            }
            if watch.is_suspect() {
                watch.excuse(had);
            }
            watch.count(counters);
        }
        [
            &counters.turn_max_ns,
            &counters.turn_work_max_ns,
            &counters.turn_kernel_max_ns,
            &counters.turn_gap_max_ns,
            &counters.turns_long,
            &counters.turns_long_work,
        ]
        .map(|cell| cell.load(Ordering::Relaxed))
    }

    #[test]
    fn a_stretch_without_work_is_a_gap() {
        assert_eq!(figures(&[&[(1_000, 0, 0, 0), (700_000, 0, 0, 0)]]), [701_000, 0, 0, 700_000, 1, 0]);
        assert_eq!(figures(&[&[(900_000, 900_000, 0, 0)]]), [900_000, 0, 0, 900_000, 1, 0], "an empty receive");
    }

    #[test]
    fn work_is_work_however_long_it_takes() {
        let spin = 700_000;
        for work in [(spin, 0, 1, 0), (spin, 0, 0, 1)] {
            assert_eq!(figures(&[&[(1_000, 0, 0, 0), work]]), [701_000, spin, 0, 1_000, 1, 1]);
        }
        let halves = [(300_000, 0, 1, 0), (300_000, 0, 1, 0)];
        assert_eq!(figures(&[&halves])[1], 600_000, "the stretches of a turn are one figure");
        assert_eq!(figures(&[&halves[..1], &halves[..1]])[1], 300_000, "and those of two turns are not");
    }

    #[test]
    fn the_kernels_part_of_work_is_shown_beside_it() {
        assert_eq!(figures(&[&[(800_000, 650_000, 3, 16)]]), [800_000, 150_000, 650_000, 0, 1, 0]);
    }

    #[test]
    fn what_was_taken_from_the_thread_is_a_gap_and_excuses_no_more_than_the_longest_part() {
        let turn: &[(u64, u64, u64, usize)] = &[(100_000, 0, 1, 0), (900_000, 20_000, 1, 1)];
        let lost = |lost_ns| Had { cpu_ns: u64::MAX, lost_ns };
        assert_eq!(excused(&[turn], lost(700_000)), [1_000_000, 280_000, 20_000, 700_000, 1, 0]);
        assert_eq!(excused(&[turn], lost(2_000_000))[1], 100_000);
        let in_the_kernel: &[(u64, u64, u64, usize)] = &[(300_000, 0, 1, 0), (900_000, 800_000, 1, 1)];
        assert_eq!(excused(&[in_the_kernel], lost(700_000))[1..3], [400_000, 100_000]);
    }

    #[test]
    fn work_never_exceeds_the_cpu_time_that_the_thread_had() {
        // Taken in pieces, from several parts of the turn.
        let turn: &[(u64, u64, u64, usize)] = &[(450_000, 0, 1, 0), (900_000, 500_000, 1, 1)];
        let had = Had { cpu_ns: 300_000, lost_ns: 1_050_000 };
        assert_eq!(excused(&[turn], had), [1_350_000, 300_000, 0, 1_050_000, 1, 0]);
        let busy = Had { cpu_ns: 1_350_000, lost_ns: 0 };
        assert_eq!(excused(&[turn], busy)[1..3], [850_000, 500_000], "who had the core is not excused");
    }

    #[test]
    fn who_sleeps_is_not_excused() {
        let look = |wall_ns, cpu_ns, sleeps| Look { wall_ns, cpu_ns, sleeps };
        let had = Had { cpu_ns: 200_000, lost_ns: 700_000 };
        assert_eq!(had_between(look(0, 0, 3), look(900_000, 200_000, 3)), Some(had));
        assert_eq!(had_between(look(0, 0, 3), look(900_000, 200_000, 4)), None);
        assert_eq!(had_between(look(0, 100, 3), look(50, 300, 3)), Some(Had { cpu_ns: 200, lost_ns: 0 }));
        let mut core = Core::default();
        core.look(mono_ns());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(core.had(), None, "slept");
        let from = core.last.unwrap();
        while mono_ns() < from.wall_ns + 2_000_000 {}
        let to = Look::now().unwrap();
        assert!(to.cpu_ns > from.cpu_ns, "the CPU time goes on");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The turn of a worker: change ring, worker rings, completions → one rx batch → tiles until 200 µs are spent or the port is
//! full → timers. Then wake-ups, and sleep where nothing is left.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use crossbeam::utils::Backoff;
use dataplane_abi::counters::WorkerCounters;
use dataplane_forward::{Config, Effects, Peers, Worker};
use dataplane_io::open::{Backend, open_socket_port};
use dataplane_io::port::Port;
use dataplane_io::set::PortSet;
use dataplane_io::socket::SocketConfig;
use dataplane_io::wait::Wait;
use dataplane_io::xdp::XdpPort;
use dataplane_shm::Segment;
use dataplane_shm::allocation::allocations;
use rustix::thread::CapabilitySet;

use crate::clock::{Wall, mono_ns};
use crate::fast_path::Lane;
use crate::gate::Gate;
use crate::latency::Latency;
use crate::patience::Patience;
use crate::pinning;
use crate::powers;
use crate::priority;
use crate::stopwatch::{Core, Progress, Stopwatch, Timed};

/// Time that one turn gives to tiles.
const TILES_NS: u64 = 200_000;
/// Packets of one batch: on a socket port a batch of junk costs up to 2 µs a packet, and its answers are to be sent in the same turn.
const RX_BATCH: usize = 32;
/// A timer may be so late: a worker that sleeps is woken for several at once, or finds them due when a packet wakes it.
const TIMER_LATE: Duration = Duration::from_millis(5);
/// Longest sleep beside that. Who looks at heartbeats allows for ten of them (`millrace status`).
const SLEEP_NS: u64 = 95_000_000;

/// A worker that never sleeps goes the way of a packet again after so long without one: a packet that comes meanwhile waits for
/// three µs of it at most, and finds its way warm.
const REHEARSE_NS: u64 = 100_000;

/// How workers run.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) backend: Backend,
    pub(crate) is_pinned: bool,
    pub(crate) is_busy: bool,
}

/// What a worker's thread starts with.
pub(crate) struct WorkerThread {
    pub(crate) config: Config,
    pub(crate) options: Options,
    pub(crate) segment: Segment,
    pub(crate) peers: Peers,
    pub(crate) socket: OwnedFd,
    pub(crate) lane: Option<Lane>,
    pub(crate) wakes: Arc<Vec<OwnedFd>>,
    pub(crate) control: Arc<OwnedFd>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Set where the interface is gone.
    pub(crate) is_lost: Arc<AtomicBool>,
}

impl WorkerThread {
    /// Runs until the process is told to stop. However it ends, panics included, the other workers end with it.
    pub(crate) fn run(self) {
        let id = self.config.worker;
        let _last = LastWord { stop: Arc::clone(&self.stop), wakes: Arc::clone(&self.wakes) };
        if let Err(error) = self.serve() {
            tracing::error!(worker = id.0, "{error:#}");
        }
    }

    fn serve(self) -> anyhow::Result<()> {
        let id = self.config.worker;
        let segment = self.segment.clone();
        let counters =
            segment.counters(id).ok_or_else(|| anyhow::anyhow!("the segment has no counters for this worker"))?;
        if self.options.is_pinned {
            match pinning::pin(id) {
                Ok(core) => counters.cpu.store(core as u64 + 1, Ordering::Relaxed),
                Err(reason) => tracing::warn!(worker = id.0, "not pinned: {reason}"),
            }
        }
        // A busy worker owns its core; in the FIFO class it would keep the kernel's own threads off it.
        if !self.options.is_busy
            && let Err(reason) = priority::raise()
        {
            tracing::warn!(worker = id.0, "normal scheduling, other programs delay packets: {reason}");
        }
        powers::keep(CapabilitySet::empty());
        let config = SocketConfig::default();
        let (socket_port, fallback) = open_socket_port(self.socket, self.options.backend, config)?;
        if let Some(fallback) = fallback {
            tracing::warn!(worker = id.0, "{fallback}");
        }
        counters.socket_port.store(socket_port.kind() as u64, Ordering::Relaxed);
        let (xdp_port, gate) = self.lane.map_or((None, None), |lane| (Some(lane.port), Some(lane.gate)));
        let port = PortSet::new(socket_port, xdp_port, config.paths);
        counters.port.store(port.kind() as u64, Ordering::Relaxed);
        let mut wall = Wall::new();
        let now = wall.now();
        let mut worker = Worker::new(self.config, self.segment, self.peers, now)
            .map_err(|error| anyhow::anyhow!("the worker cannot be built: {error:?}"))?;
        worker.announce(now);
        // Before the first packet and the first doorbell: to a worker that has not read its transports yet, what has waited in
        // the socket since a predecessor's end comes from strangers, and another worker's interest is in unknown streams.
        while worker.apply_changes(wall.now()) && !self.stop.load(Ordering::Relaxed) {}
        let mut turning = Turning {
            segment: &segment,
            worker,
            shares: Shares::of(counters),
            port: Timed::new(port),
            gate,
            wall,
            latency: Latency::new(counters),
            core: Core::default(),
            ended_ns: now.mono_ns,
            idle_since_ns: now.mono_ns,
            rehearsed_ns: now.mono_ns,
            is_idle: false,
            patience: Patience::new(now.mono_ns),
            backoff: Backoff::new(),
            wakes: &self.wakes,
            control: &self.control,
        };
        turning.open_gate(counters)?;
        counters.running.store(1, Ordering::Release);
        let allocations_before = allocations();
        while !self.stop.load(Ordering::Relaxed) {
            let is_idle = turning.turn(counters);
            counters.allocations.store(allocations().wrapping_sub(allocations_before), Ordering::Relaxed);
            if turning.port.port.is_lost() {
                self.is_lost.store(true, Ordering::Relaxed);
                break;
            }
            match (is_idle, self.options.is_busy) {
                (true, true) => turning.rehearse(),
                (true, false) => turning.rest(self.wakes.get(id.index())),
                (false, _) => {}
            }
        }
        counters.running.store(0, Ordering::Release);
        Ok(())
    }
}

/// Stops all workers when it goes, those that sleep at once: until the last one ends, no successor is started.
struct LastWord {
    stop: Arc<AtomicBool>,
    wakes: Arc<Vec<OwnedFd>>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        wake_all(&self.wakes, u64::MAX);
    }
}

/// Wakes the workers whose bits are set.
fn wake_all(wakes: &[OwnedFd], workers: u64) {
    for (index, wake) in wakes.iter().enumerate() {
        if index < 64 && workers & (1 << index) != 0 {
            // A full counter means that the other one is awake anyway.
            let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
    }
}

/// What predecessors counted: a port counts from its start.
struct Shares {
    rx_by_xdp: u64,
    tx_by_xdp: u64,
}

impl Shares {
    fn of(counters: &WorkerCounters) -> Self {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Self { rx_by_xdp: load(&counters.rx_by_xdp), tx_by_xdp: load(&counters.tx_by_xdp) }
    }

    fn show(&self, counters: &WorkerCounters, port: &PortSet) {
        let counts = port.counts();
        counters.rx_by_xdp.store(self.rx_by_xdp.wrapping_add(counts.rx_xdp), Ordering::Relaxed);
        counters.tx_by_xdp.store(self.tx_by_xdp.wrapping_add(counts.tx_xdp), Ordering::Relaxed);
        let discarded = port.socket().rx_discarded().wrapping_add(port.xdp().map_or(0, XdpPort::rx_discarded));
        counters.rx_discarded.store(discarded, Ordering::Relaxed);
    }
}

/// A worker's thread in motion.
struct Turning<'t> {
    segment: &'t Segment,
    worker: Worker,
    shares: Shares,
    port: Timed<PortSet>,
    gate: Option<Gate>,
    wall: Wall,
    latency: Latency,
    core: Core,
    ended_ns: u64,
    idle_since_ns: u64,
    rehearsed_ns: u64,
    /// The turn before this one found nothing to do.
    is_idle: bool,
    patience: Patience,
    backoff: Backoff,
    wakes: &'t [OwnedFd],
    control: &'t OwnedFd,
}

impl Turning<'_> {
    /// One turn; true where nothing was left to do.
    fn turn(&mut self, counters: &WorkerCounters) -> bool {
        self.core.look(self.ended_ns);
        let now = self.wall.now();
        let mut watch = Stopwatch::start(now.mono_ns, self.progress());
        let mut is_more = self.worker.apply_changes(now);
        is_more |= self.worker.take_handed(now);
        self.port.reap();
        watch.mark(mono_ns(), self.progress(), 0);
        let received = self.port.receive(RX_BATCH);
        if received > 0 {
            // Later than the stamps of the packets that are in the batch.
            let now = self.wall.now();
            self.worker.receive(&self.port, received, now);
            self.port.release();
        }
        if let Some(gate) = &mut self.gate {
            gate.follow(&mut self.worker, self.segment, counters, now.mono_ns);
        }
        let (frames, is_left) = self.tiles(counters, (now.mono_ns, received), &mut watch);
        is_more |= is_left;
        let now = self.wall.now();
        let sent = self.worker.timers(&mut self.port, now);
        let effects = self.worker.take_effects();
        self.wake(effects);
        counters.rx_overflow.store(self.port.rx_overflow(), Ordering::Relaxed);
        self.shares.show(counters, &self.port.port);
        self.latency.publish(counters, now.mono_ns);
        let ended_ns = mono_ns();
        watch.mark(ended_ns, self.progress(), sent);
        if watch.is_suspect()
            && let Some(had) = self.core.had()
        {
            watch.excuse(had);
        }
        watch.count(counters);
        self.ended_ns = ended_ns;
        counters.heartbeat_ns.store(ended_ns, Ordering::Relaxed);
        let has_worked = received > 0 || frames > 0 || sent > 0 || is_more;
        if has_worked {
            if self.is_idle {
                self.patience.learn(watch.started_ns().saturating_sub(self.idle_since_ns), watch.started_ns());
            }
            self.idle_since_ns = ended_ns;
            self.backoff.reset();
        }
        self.is_idle = !has_worked;
        self.is_idle
    }

    /// Tells the classifier what a predecessor had admitted, then lets it redirect: a redirected packet finds a worker that
    /// knows its flow.
    fn open_gate(&mut self, counters: &WorkerCounters) -> anyhow::Result<()> {
        let (Some(gate), Some(xdp)) = (&mut self.gate, self.port.port.xdp()) else { return Ok(()) };
        gate.follow(&mut self.worker, self.segment, counters, mono_ns());
        gate.admit_sockets(xdp).context("the classifier does not take the sockets")
    }

    fn progress(&self) -> Progress {
        Progress::of(self.worker.steps(), &self.port)
    }

    /// Tiles until their time is spent, the port is full, or nothing is left. `received` packets came just before.
    fn tiles(
        &mut self,
        counters: &WorkerCounters,
        (started_ns, received): (u64, usize),
        watch: &mut Stopwatch,
    ) -> (usize, bool) {
        let mut frames = 0;
        let mut packets = received;
        loop {
            let now = self.wall.now();
            watch.mark(now.mono_ns, self.progress(), packets);
            let tile = self.worker.transmit(&mut self.port, now);
            frames += tile.frames;
            let flushed_ns = if tile.frames > 0 { mono_ns() } else { now.mono_ns };
            self.latency.record(counters, self.worker.tile_arrivals(), flushed_ns);
            if tile.is_full {
                self.port.reap();
            }
            packets = tile.frames;
            if !tile.is_more || tile.is_full || tile.frames == 0 || flushed_ns.saturating_sub(started_ns) > TILES_NS {
                watch.mark(mono_ns(), self.progress(), packets);
                return (frames, tile.is_more && tile.frames > 0);
            }
        }
    }

    fn wake(&self, effects: Effects) {
        wake_all(self.wakes, effects.wake_workers);
        if effects.wake_control {
            let _ = rustix::io::write(self.control, &1_u64.to_ne_bytes());
        }
    }

    /// Keeps the way of a packet warm while nothing comes.
    fn rehearse(&mut self) {
        let now = self.wall.now();
        if now.mono_ns.saturating_sub(self.rehearsed_ns.max(self.idle_since_ns)) < REHEARSE_NS {
            return;
        }
        self.worker.rehearse(&mut self.port, now);
        self.rehearsed_ns = mono_ns();
        // It is nobody's turn that was late.
        self.ended_ns = self.rehearsed_ns;
    }

    /// Spins where that has paid lately, then sleeps until a packet, a wake-up or the next timers.
    fn rest(&mut self, wake: Option<&OwnedFd>) {
        let now = self.wall.now();
        if self.patience.lasts(now.mono_ns.saturating_sub(self.idle_since_ns)) {
            self.backoff.spin();
            return;
        }
        let Some(wake) = wake else { return };
        let rest_ns = self.worker.rest_ns(now, SLEEP_NS);
        self.port.wait(TIMER_LATE + Duration::from_nanos(rest_ns), wake.as_fd());
        self.core.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn the_first_worker_to_end_wakes_those_that_sleep() {
        let stop = Arc::new(AtomicBool::new(false));
        let wakes = Arc::new(Vec::from([(); 3].map(|()| eventfd(0, EventfdFlags::NONBLOCK).unwrap())));
        drop(LastWord { stop: Arc::clone(&stop), wakes: Arc::clone(&wakes) });
        assert!(stop.load(Ordering::Relaxed));
        assert!(wakes.iter().all(|wake| rustix::io::read(wake, &mut [0; 8]) == Ok(8)));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The way past the kernel's stack, as the keeper has prepared it: the ports of all workers, their gates to the classifier, the
//! resolver's thread, and a thread that shows the counters. Where it cannot be opened the socket ports serve, and it is
//! said why. Nothing here is on the way of a packet.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataplane_abi::flow::map_v4;
use dataplane_abi::ids::WorkerId;
use dataplane_abi::interface::{InterfaceCounters, store_text};
use dataplane_io::nexthop::{NextHops, Resolver};
use dataplane_io::socket::SocketConfig;
use dataplane_io::xdp::{CopyMode, Geometry, PortParts, Statistics, XdpConfig, XdpPort, XdpStatus};
use dataplane_keeper::Handed;
use dataplane_shm::Segment;
use ebpf_loader::{CounterMap, LocalMap, StrangerMap};
use rustix::thread::CapabilitySet;

use crate::clock::mono_ns;
use crate::gate::Gate;
use crate::powers;

/// How often the counters are shown.
const SHOWN: Duration = Duration::from_secs(1);
/// Longest sleep of the observer: the stop flag is seen, and a changed address becomes ours.
const PAUSE: Duration = Duration::from_millis(100);

/// What one worker gets.
pub(crate) struct Lane {
    pub(crate) port: XdpPort,
    pub(crate) gate: Gate,
}

/// Opens the ports of all workers and starts the two threads beside them; `None` where the keeper has not prepared it, or where
/// it cannot be opened, which is said.
pub(crate) fn open(handed: &mut Handed, segment: &Segment, stop: &Arc<AtomicBool>) -> Option<Vec<Lane>> {
    let counters = segment.interface_counters()?;
    counters.is_open.store(0, Ordering::Relaxed);
    if handed.count("umem") == 0 {
        return None;
    }
    match try_open(handed, segment, stop) {
        Ok(lanes) => Some(lanes),
        Err(error) => {
            let why = format!("{error:#}");
            tracing::warn!("no AF_XDP port, the socket ports serve: {why}");
            store_text(&counters.why_copy, &why);
            counters.version.store(1, Ordering::Release);
            None
        }
    }
}

fn try_open(handed: &mut Handed, segment: &Segment, stop: &Arc<AtomicBool>) -> anyhow::Result<Vec<Lane>> {
    let geometry = Geometry::read(handed.borrow("frames")?)?;
    let table = NextHops::new(geometry.workers, SocketConfig::default().paths)?;
    let resolver = Resolver::new(Arc::clone(&table), geometry.interface.index).context("cannot follow routes")?;
    let sockets = (0..handed.count("xsk")).map(|index| handed.take(&format!("xsk{index}")));
    let sockets = sockets.collect::<Result<Vec<OwnedFd>, _>>()?;
    let parts = PortParts { umem: handed.take("umem")?, frames: handed.take("frames")?, sockets };
    let config = XdpConfig { paths: SocketConfig::default().paths, ..XdpConfig::default() };
    let opened = dataplane_io::xdp::open(parts, &table, config)?;
    let duplicate = |name: &str| -> anyhow::Result<OwnedFd> {
        handed.borrow(name)?.try_clone_to_owned().context("no descriptor is left")
    };
    let mut strangers = StrangerMap::from_fd(duplicate("map_strangers")?)?;
    for queue in 0..geometry.queues {
        strangers.set(u32::from(queue), u32::from(geometry.first_worker(queue)))?;
    }
    let mut lanes = Vec::new();
    for (worker, port) in (0..geometry.workers).zip(opened.ports) {
        let gate = Gate::open(WorkerId(worker), &geometry, duplicate).context("the classifier's maps")?;
        lanes.push(Lane { port, gate });
    }
    let mut observer = Observer {
        segment: segment.clone(),
        counters: CounterMap::from_fd(duplicate("map_counters")?)?,
        locals: LocalMap::from_fd(duplicate("map_locals")?)?,
        statistics: opened.statistics,
        table,
        addresses: None,
    };
    observer.follow_addresses();
    observer.introduce(&opened.status);
    let flag = Arc::clone(stop);
    start("resolver", CapabilitySet::NET_ADMIN, move || resolver.run(&flag))?;
    let flag = Arc::clone(stop);
    start("observer", CapabilitySet::empty(), move || observer.run(&flag))?;
    say(&opened.status);
    Ok(lanes)
}

fn start(name: &str, kept: CapabilitySet, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let run = move || {
        powers::keep(kept);
        run();
    };
    std::thread::Builder::new().name(name.into()).spawn(run).with_context(|| format!("cannot start the {name}"))?;
    Ok(())
}

fn say(status: &XdpStatus) {
    let (queues, workers) = (status.geometry.queues, status.geometry.workers);
    let copy = match status.copy_mode {
        CopyMode::ZeroCopy => "zero-copy",
        CopyMode::Copy => "copy",
    };
    let why = status.why_copy.as_deref().unwrap_or("");
    let waited_ms = u64::try_from(status.waited.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        queues,
        workers,
        waited_ms,
        "AF_XDP sockets bound, {copy}{}{why}",
        if why.is_empty() { "" } else { ": " }
    );
}

/// Shows the counters of classifier, sockets and resolver, and tells the classifier which addresses are ours.
struct Observer {
    segment: Segment,
    counters: CounterMap,
    locals: LocalMap,
    statistics: Statistics,
    table: Arc<NextHops>,
    /// The resolver's count of address changes that the map follows.
    addresses: Option<u64>,
}

impl Observer {
    fn run(mut self, stop: &AtomicBool) {
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.follow_addresses();
            if Instant::now() >= due {
                self.show();
                due = Instant::now() + SHOWN;
            }
            std::thread::sleep(PAUSE);
        }
        if let Some(record) = self.segment.interface_counters() {
            record.is_open.store(0, Ordering::Relaxed);
        }
    }

    fn introduce(&self, status: &XdpStatus) {
        let Some(record) = self.segment.interface_counters() else { return };
        let copy_mode = match status.copy_mode {
            CopyMode::ZeroCopy => 1,
            CopyMode::Copy => 2,
        };
        record.copy_mode.store(copy_mode, Ordering::Relaxed);
        store_text(&record.why_copy, status.why_copy.as_deref().unwrap_or(""));
        record.waited_ns.store(u64::try_from(status.waited.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        record.is_open.store(1, Ordering::Relaxed);
        record.version.store(1, Ordering::Release);
    }

    fn show(&self) {
        let Some(record) = self.segment.interface_counters() else { return };
        let set = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        if let Ok(fates) = self.counters.read_all() {
            record.fates.iter().zip(fates).for_each(|(cell, fate)| set(cell, fate));
        }
        if let Ok(unstamped) = self.counters.unstamped() {
            set(&record.unstamped, unstamped);
        }
        self.show_sockets(record);
        let census = self.table.census();
        set(&record.served, census.served);
        record.unserved.iter().zip(census.unserved).for_each(|(cell, paths)| set(cell, paths));
        set(&record.hops, census.hops);
        set(&record.updated_ns, mono_ns());
    }

    fn show_sockets(&self, record: &InterfaceCounters) {
        let cells = [
            &record.rx_dropped,
            &record.rx_ring_full,
            &record.fill_ring_empty,
            &record.rx_invalid,
            &record.tx_invalid,
            &record.tx_ring_empty,
        ];
        let mut sums = [0_u64; 6];
        for one in self.statistics.read() {
            let figures = [
                one.rx_dropped,
                one.rx_ring_full,
                one.fill_ring_empty,
                one.rx_invalid,
                one.tx_invalid,
                one.tx_ring_empty,
            ];
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum = sum.wrapping_add(figure));
        }
        cells.into_iter().zip(sums).for_each(|(cell, sum)| cell.store(sum, Ordering::Relaxed));
    }

    /// Every address of this host is ours: the sockets are bound to all of them.
    fn follow_addresses(&mut self) {
        let epoch = self.table.address_epoch();
        if self.addresses == Some(epoch) {
            return;
        }
        let Some(ours) = addresses() else { return };
        let Ok(known) = self.locals.addresses() else { return };
        for gone in known.iter().filter(|address| !ours.contains(address)) {
            let _ = self.locals.remove(*gone);
        }
        for fresh in ours.iter().filter(|address| !known.contains(address)) {
            if let Err(error) = self.locals.insert(*fresh) {
                tracing::warn!("an address is served by the socket port: {error}");
            }
        }
        if let Some(record) = self.segment.interface_counters() {
            record.locals.store(ours.len() as u64, Ordering::Relaxed);
        }
        self.addresses = Some(epoch);
    }
}

/// This host's addresses, v4-mapped.
fn addresses() -> Option<Vec<[u8; 16]>> {
    let all = nix::ifaddrs::getifaddrs().ok()?;
    let mut found: Vec<[u8; 16]> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| map_v4(address.ip().octets()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().octets()))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Some(found)
}

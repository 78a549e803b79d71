// SPDX-License-Identifier: Apache-2.0
//! The bridge to the segment: commands become table entries, rings become events.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use controlplane_programmer::{KeyMaterial, Programmer};
use controlplane_room::{Command, Found, Known, TransportId};
use dataplane_abi::durable::transport_state;
use dataplane_abi::ids::{TransportRef, WorkerId};
use dataplane_abi::ring::{DATAGRAM_SLOT_BYTES, Datagram, Event, event_kind};
use dataplane_keeper::Role;
use dataplane_shm::ring::{Consumer, Producer};
use dataplane_shm::{Access, AttachFds, Segment};
use rustix::time::{ClockId, clock_gettime};

use crate::config::Config;
use crate::plane::{DataPlane, PlaneEvent, SrtpKeys, TableFull};

/// A datagram that waited longer than this when the control plane attached belongs to a handshake that is over.
const STALE_NS: u64 = 1_000_000_000;
/// How long the workers may take to start.
const WORKERS_START: Duration = Duration::from_secs(10);

/// The rings of one worker.
struct WorkerRings {
    events: Consumer<Event>,
    punts: Consumer<Datagram>,
    injects: Producer<Datagram>,
    wake: OwnedFd,
}

/// The segment, as the session core uses it.
pub(crate) struct Bridge {
    segment: Segment,
    programmer: Programmer,
    workers: Vec<WorkerRings>,
    /// The worker that is asked first for its events: none of them is preferred.
    next: usize,
    control: OwnedFd,
    /// Starts of the data plane that are known.
    starts: u64,
    /// When this process took the rings over.
    attached_ns: u64,
    /// Adopted transports whose consent is told once the rings are empty: what was told to a predecessor may be lost with it.
    unsure: Vec<TransportId>,
}

/// What millrace-keeper hands to this process, before anything is done with it.
pub(crate) struct Handed {
    segment: Segment,
    wakes: Vec<OwnedFd>,
    control: OwnedFd,
}

/// Takes what millrace-keeper hands to this process. A predecessor's calls go on untouched.
///
/// # Errors
/// Nothing was handed over, or the segment is of another version.
pub(crate) fn attach(config: &Config) -> anyhow::Result<Handed> {
    follow_keeper()?;
    let mut handed = dataplane_keeper::request(&config.runtime_dir, Role::ControlPlane)
        .context("millrace-controlplane is started by millrace-keeper, not by hand")?;
    let fds = AttachFds {
        intent: Some(handed.borrow("intent")?),
        keys: Some(handed.borrow("keys")?),
        durable: Some(handed.borrow("durable")?),
        store: None,
    };
    let segment = Segment::attach(fds, Access::ControlPlane).context("cannot attach to the segment")?;
    let wakes = (0..segment.capacities().workers).map(|index| handed.take(&format!("wake{index}")));
    let wakes = wakes.collect::<Result<_, _>>()?;
    Ok(Handed { segment, wakes, control: handed.take("control")? })
}

impl Handed {
    /// Which segment it is: one keeper's, as long as it runs.
    pub(crate) fn boot_id(&self) -> [u8; 16] {
        self.segment.boot_id()
    }

    /// Goes on with what a predecessor programmed and is known, and ends the rest: so it comes last, when nothing else can
    /// keep this process from serving. Says what of the known is there.
    ///
    /// # Errors
    /// Intent cannot be written, or a worker's rings are missing.
    pub(crate) fn adopt(self, known: &Known) -> anyhow::Result<(Bridge, Found)> {
        let (bridge, found) = Bridge::over(self.segment, self.wakes, self.control, known)?;
        bridge.wake_all();
        wait_for_workers(&bridge.segment);
        Ok((bridge, found))
    }
}

/// Without its keeper this process goes too: nobody would restart it, and its ports and its store would stay taken. Killed, and
/// not asked: one that is stopped or hangs has to go as well, and what it has to keep is in the store.
fn follow_keeper() -> anyhow::Result<()> {
    // A keeper that died before this does not answer the request that follows it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot follow the keeper")?;
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")
}

/// Waits until every worker turns, so that "ready" is true when it is said. Without a data plane the control plane starts
/// all the same: joins then wait for it.
fn wait_for_workers(segment: &Segment) {
    let runs = |index: u32| {
        let worker = u16::try_from(index).ok().map(WorkerId);
        worker
            .and_then(|worker| segment.counters(worker))
            .is_some_and(|counters| counters.running.load(Ordering::Acquire) != 0)
    };
    let until = Instant::now() + WORKERS_START;
    while !(0..segment.capacities().workers).all(runs) {
        if Instant::now() > until {
            tracing::warn!("the data plane does not run; `millrace status` shows more");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

impl Bridge {
    /// Becomes the programmer of a segment, with what is known of it, and the reader of its rings. `wakes`: one per worker.
    fn over(segment: Segment, wakes: Vec<OwnedFd>, control: OwnedFd, known: &Known) -> anyhow::Result<(Self, Found)> {
        let (programmer, found) = Programmer::adopt(&segment, known).context("cannot write intent")?;
        let mut workers = Vec::with_capacity(wakes.len());
        for (index, wake) in wakes.into_iter().enumerate() {
            let id = WorkerId(u16::try_from(index)?);
            let missing = "the segment lacks a worker's ring";
            workers.push(WorkerRings {
                events: segment.event_consumer(id).context(missing)?,
                punts: segment.punt_consumer(id).context(missing)?,
                injects: segment.inject_producer(id).context(missing)?,
                wake,
            });
        }
        let starts = segment.state().dataplane_starts.load(Ordering::Acquire);
        let (attached_ns, unsure) = (now_ns(), found.transports.keys().copied().collect());
        Ok((Self { segment, programmer, workers, next: 0, control, starts, attached_ns, unsure }, found))
    }

    /// Workers read their change rings at the start of a turn; those that sleep are woken for it.
    fn wake_all(&self) {
        for rings in &self.workers {
            wake(&rings.wake);
        }
    }

    fn event(&self, event: &Event) -> Option<PlaneEvent> {
        let transport = self.programmer.transport_of(event.transport)?;
        match event.kind {
            event_kind::VALIDATED => Some(PlaneEvent::Validated { transport }),
            event_kind::CONSENT_LOST => Some(PlaneEvent::ConsentLost { transport }),
            event_kind::CONSENT_BACK => Some(PlaneEvent::ConsentBack { transport }),
            event_kind::FIRST_MEDIA => Some(PlaneEvent::FirstMedia { transport }),
            _ => None,
        }
    }

    /// Whether a transport has consent, as its owner's durable record says.
    fn consent(&self, transport: TransportId) -> Option<PlaneEvent> {
        let reference = self.programmer.reference_of(transport)?;
        let durable = self.segment.transport(reference.slot)?;
        if durable.generation.load(Ordering::Acquire) != reference.generation {
            return None;
        }
        match durable.state.load(Ordering::Acquire) {
            transport_state::VALIDATED => Some(PlaneEvent::ConsentBack { transport }),
            transport_state::SILENT => Some(PlaneEvent::ConsentLost { transport }),
            _ => None,
        }
    }

    /// A stale datagram is nobody's: of a transport that is gone, or from before this process.
    fn punted(&self, packet: &Datagram) -> Option<PlaneEvent> {
        if self.attached_ns.saturating_sub(packet.at_ns) > STALE_NS {
            return None;
        }
        let transport = self.programmer.transport_of(packet.transport)?;
        let bytes = packet.bytes.get(..packet.len as usize)?.to_vec();
        Some(PlaneEvent::Punted { transport, at_ns: packet.at_ns, generation: packet.transport.generation, bytes })
    }

    /// The worker that owns a transport, by its durable record.
    fn owner(&self, reference: TransportRef) -> Option<usize> {
        let word = self.segment.transport(reference.slot)?.owner.load(Ordering::Acquire);
        let generation = u32::try_from(word >> 32).ok()?;
        let worker = usize::try_from(word & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
        (generation == reference.generation).then_some(worker)
    }
}

fn wake(fd: &OwnedFd) {
    // A full counter means that the other one is awake anyway.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

impl DataPlane for Bridge {
    fn apply(&mut self, command: Command) -> Result<(), TableFull> {
        let applied = self.programmer.apply(command);
        self.wake_all();
        applied.map_err(|full| TableFull { table: full.table, capacity: full.capacity })
    }

    fn inject(&mut self, transport: TransportId, datagram: &[u8]) {
        let Some(reference) = self.programmer.reference_of(transport) else { return };
        let Some(rings) = self.owner(reference).and_then(|worker| self.workers.get_mut(worker)) else { return };
        let mut packet = Datagram { transport: reference, at_ns: now_ns(), ..Datagram::zeroed() };
        let Some(place) = packet.bytes.get_mut(..datagram.len()).filter(|_| datagram.len() <= DATAGRAM_SLOT_BYTES)
        else {
            return;
        };
        place.copy_from_slice(datagram);
        packet.len = u32::try_from(datagram.len()).unwrap_or(0);
        if rings.injects.push(&packet).is_ok() {
            wake(&rings.wake);
        }
    }

    fn install_keys(&mut self, transport: TransportId, keys: SrtpKeys) {
        let material = KeyMaterial {
            profile: keys.profile.0,
            local: (&keys.local.key, &keys.local.salt),
            remote: (&keys.remote.key, &keys.remote.salt),
        };
        if let Err(refused) = self.programmer.install_keys(transport, &material) {
            tracing::error!(transport = transport.0, "keys cannot be installed: {refused}");
        }
        self.wake_all();
    }

    fn poll(&mut self) -> Option<PlaneEvent> {
        let starts = self.segment.state().dataplane_starts.load(Ordering::Acquire);
        if starts != self.starts {
            let is_first = self.starts == 0;
            self.starts = starts;
            if !is_first {
                return Some(PlaneEvent::DataPlaneRestarted);
            }
        }
        for _ in 0..self.workers.len() {
            let at = self.next % self.workers.len();
            // The next one is asked first next time: a worker that has much to tell does not silence the others.
            self.next = self.next.wrapping_add(1);
            // A worker's events come before its datagrams: a check validates before its ClientHello is looked at.
            while let Some(event) = self.workers.get_mut(at).and_then(|rings| rings.events.pop()) {
                if let Some(event) = self.event(&event) {
                    return Some(event);
                }
            }
            while let Some(packet) = self.workers.get_mut(at).and_then(|rings| rings.punts.pop()) {
                if let Some(event) = self.punted(&packet) {
                    return Some(event);
                }
            }
        }
        while let Some(transport) = self.unsure.pop() {
            if let Some(event) = self.consent(transport) {
                return Some(event);
            }
        }
        None
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.control.as_fd())
    }
}

#[cfg(test)]
mod tests;

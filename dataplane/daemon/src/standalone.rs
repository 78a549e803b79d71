// SPDX-License-Identifier: Apache-2.0
//! A data plane that serves the call of a file, with no keeper and no control plane: it holds its own descriptors and fills
//! the segment itself, every remote address taken as validated. For packet generators, and for measuring what forwarding
//! costs. It must never be what carries people: keys of a file are known to everybody who reads it.

mod fill;
mod show;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataplane_abi::limits::Capacities;
use dataplane_keeper::Handed;
use dataplane_keeper::fast_path::Wish;
use dataplane_keeper::hold::Held;
use dataplane_shm::Segment;
use dataplane_table::{Plan, Table};

use crate::clock::mono_ns;

/// How often the flags are looked at. Each look wakes a core: with 20 ms, 1.1 of the 14 ms of CPU that 1 → 1 takes a second.
const LOOK: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

/// How a table is served.
pub(crate) struct Wishes<'w> {
    pub(crate) table: &'w Path,
    pub(crate) workers: u16,
    /// Interface to put the classifier on; the sockets serve without one.
    pub(crate) interface: Option<&'w str>,
    pub(crate) mode: ebpf_loader::Mode,
    pub(crate) queues: Option<u16>,
}

/// What a table's data plane holds while it runs.
pub(crate) struct Standalone {
    held: Held,
    /// The call in words. The plan itself goes when the segment has it: peers would be in memory twice, and so would keys.
    call: String,
}

impl Standalone {
    /// Makes segment, sockets and, where an interface is named, the fast path, and fills the segment.
    pub(crate) fn open(wishes: &Wishes<'_>) -> anyhow::Result<Self> {
        let plan = Table::read(wishes.table)?.plan().with_context(|| wishes.table.display().to_string())?;
        // The kernel gives a packet to any worker's socket, and a worker knows the flows of its own transports only; others are
        // learnt from connectivity checks, which a table's peers do not send. The classifier knows all flows.
        anyhow::ensure!(
            wishes.workers == 1 || wishes.interface.is_some(),
            "{} workers need AF_XDP to find their packets: name the interface by --interface, or take --workers 1",
            wishes.workers
        );
        let media_port = plan.server.port();
        anyhow::ensure!(media_port != 0, "the table's server has no port");
        let mut held = Held::make(media_port, &capacities(&plan, wishes.workers)?)?;
        fill::fill(held.segment(), &plan, mono_ns())?;
        if let Some(interface) = wishes.interface {
            let wish = Wish {
                interface: interface.to_owned(),
                mode: wishes.mode,
                queues: wishes.queues,
                media_port,
                workers: wishes.workers,
            };
            held.open_fast_path(wish, true)?;
        }
        Ok(Self { held, call: show::call(&plan) })
    }

    /// What a keeper would hand over.
    pub(crate) fn hand_over(&self) -> anyhow::Result<Handed> {
        self.held.hand_over().context("no descriptor is left")
    }

    /// Prints what is served and, each second, what was done, until told to stop; true where `seconds` have passed before.
    pub(crate) fn watch(&self, stop: &AtomicBool, seconds: Option<u64>) -> bool {
        show::line(&self.call);
        let began = Instant::now();
        let mut next = SECOND;
        let mut before = show::Sums::of(self.segment());
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            if began.elapsed() < next {
                continue;
            }
            let sums = show::Sums::of(self.segment());
            show::line(&sums.since(&before, next.as_secs()));
            before = sums;
            if seconds.is_some_and(|seconds| next.as_secs() >= seconds) {
                return true;
            }
            next += SECOND;
        }
        false
    }

    fn segment(&self) -> &Segment {
        self.held.segment()
    }
}

/// Room for a table, and for no less than a server has.
fn capacities(plan: &Plan, workers: u16) -> anyhow::Result<Capacities> {
    let least = Capacities::DEFAULT;
    let room = |count: usize, least: u32| anyhow::Ok(u32::try_from(count)?.max(least));
    Ok(Capacities {
        transports: room(plan.publishers.len() + plan.receivers.len(), least.transports)?,
        tracks: room(plan.tracks(), least.tracks)?,
        subscriptions: room(plan.streams(), least.subscriptions)?,
        workers: u32::from(workers),
        ..least
    })
}

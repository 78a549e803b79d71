// SPDX-License-Identifier: Apache-2.0
//! The thread that answers wishes: asks the kernel for routes and neighbours, and follows their changes.
//!
//! A wish is resolved when it rings; everything is resolved anew when a route or an address has changed, at most once per
//! [`ROUND`]. Neighbours that are used are managed by the kernel, which goes on asking for them; those that nobody uses any
//! more are let go. It needs CAP_NET_ADMIN for that alone. It must never grow beyond the paths that the workers have.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{Event, Netlink, Route};
use super::{HOPS, NextHop, NextHops, Unserved};
use crate::socket::SetupError;

/// Longest sleep: the stop flag is seen at least so often.
const SLEEP: Duration = Duration::from_millis(200);
/// Time between two rounds over all destinations.
const ROUND: Duration = Duration::from_millis(200);
/// Time between two clean-ups.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Destinations of a round that are resolved before events and new wishes are looked at again.
const CHUNK: usize = 256;

/// From where to where.
type Ends = ([u8; 16], [u8; 16]);

/// A path that a destination is wished for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Path {
    worker: u16,
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Destination {
    answer: Result<u16, Unserved>,
    paths: Vec<Path>,
}

#[derive(Debug)]
struct Hop {
    index: u16,
    vlan: Option<u16>,
    mtu: u16,
    mac: Option<[u8; 6]>,
    is_managed: bool,
    is_used: bool,
}

/// Interface and address of a neighbour, and the MTU of the way behind it: ways of different MTU are different hops.
type Neighbour = (u32, [u8; 16], u16);

/// The resolver of one interface.
#[derive(Debug)]
pub struct Resolver {
    table: Arc<NextHops>,
    interface: u32,
    netlink: Netlink,
    destinations: HashMap<Ends, Destination>,
    hops: HashMap<Neighbour, Hop>,
    free: Vec<u16>,
    /// Destinations of the round that is going on.
    round: Vec<Ends>,
    is_stale: bool,
    has_changed: bool,
    refused_managing: bool,
}

impl Resolver {
    /// Opens the resolver of an interface in the calling thread's network namespace; [`Self::run`] may be called elsewhere.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new(table: Arc<NextHops>, interface: u32) -> Result<Self, SetupError> {
        Ok(Self {
            table,
            interface,
            netlink: Netlink::open()?,
            destinations: HashMap::new(),
            hops: HashMap::new(),
            free: (0..u16::try_from(HOPS).unwrap_or(u16::MAX)).rev().collect(),
            round: Vec::new(),
            is_stale: false,
            has_changed: false,
            refused_managing: false,
        })
    }

    /// Whether the kernel has refused to manage neighbours (no CAP_NET_ADMIN): they are used as the kernel happens to know
    /// them, and the socket port serves the others.
    #[must_use]
    pub const fn refused_managing(&self) -> bool {
        self.refused_managing
    }

    /// Serves until it is told to stop, on the calling thread. Neighbours that it had managed are let go at the end.
    pub fn run(mut self, stop: &AtomicBool) {
        let (mut next_round, mut next_housekeeping) = (Instant::now(), Instant::now() + HOUSEKEEPING);
        while !stop.load(Ordering::Relaxed) {
            self.sleep();
            self.events();
            self.wishes();
            let now = Instant::now();
            if self.is_stale && self.round.is_empty() && now >= next_round {
                self.is_stale = false;
                self.round = self.destinations.keys().copied().collect();
                next_round = now + ROUND;
            }
            self.go_round();
            if now >= next_housekeeping {
                self.keep_house();
                next_housekeeping = now + HOUSEKEEPING;
            }
            if core::mem::take(&mut self.has_changed) {
                self.table.advance();
                self.count();
            }
        }
        self.let_go(|_| true);
    }

    fn sleep(&self) {
        let mut watched = [
            PollFd::from_borrowed_fd(self.netlink.watch(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.table.bell(), PollFlags::IN),
        ];
        let timeout = if self.round.is_empty() { SLEEP } else { Duration::ZERO };
        // EINTR is an answer like any other: everything is looked at.
        let _ = poll(&mut watched, Timespec::try_from(timeout).ok().as_ref());
    }

    fn events(&mut self) {
        let mut events = Vec::new();
        let is_complete = self.netlink.events(|event| events.push(event));
        for event in events {
            match event {
                Event::Neighbour { interface, neighbour, mac } => self.update_neighbour(interface, neighbour, mac),
                Event::Routes => self.is_stale = true,
                Event::Addresses => {
                    self.is_stale = true;
                    self.table.addresses.fetch_add(1, Ordering::Relaxed);
                }
                Event::LinkGone(interface) => {
                    self.is_stale = true;
                    if interface == self.interface {
                        self.table.is_lost.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        if !is_complete {
            self.is_stale = true;
            self.table.addresses.fetch_add(1, Ordering::Relaxed);
            self.ask_for_neighbours();
        }
    }

    /// Reads all neighbours anew: events were lost.
    fn ask_for_neighbours(&mut self) {
        let neighbours: Vec<Neighbour> = self.hops.keys().copied().collect();
        for (interface, neighbour, _) in neighbours {
            let mac = self.netlink.neighbour(interface, neighbour);
            self.update_neighbour(interface, neighbour, mac);
        }
    }

    fn update_neighbour(&mut self, interface: u32, neighbour: [u8; 16], mac: Option<[u8; 6]>) {
        for (key, hop) in &mut self.hops {
            if (key.0, key.1) == (interface, neighbour) && hop.mac != mac {
                hop.mac = mac;
                store(&self.table, hop);
                self.has_changed = true;
            }
        }
    }

    fn wishes(&mut self) {
        self.table.quiet();
        let table = Arc::clone(&self.table);
        table.take_dirty(|worker, index| {
            let Some((generation, local, remote)) = table.take_wish(worker, index) else { return };
            let (ends, path) = ((local, remote), Path { worker, index, generation });
            let known = self.destinations.get(&ends).map(|destination| destination.answer);
            let answer = known.unwrap_or_else(|| self.resolve(ends));
            let destination = self.destinations.entry(ends).or_insert(Destination { answer, paths: Vec::new() });
            destination.paths.retain(|other| (other.worker, other.index) != (worker, index));
            destination.paths.push(path);
            table.store_answer(worker, index, generation, answer);
            self.has_changed = true;
        });
    }

    /// A part of the round over all destinations.
    fn go_round(&mut self) {
        for _ in 0..CHUNK {
            let Some(ends) = self.round.pop() else { break };
            let answer = self.resolve(ends);
            let Some(destination) = self.destinations.get_mut(&ends) else { continue };
            if destination.answer == answer {
                continue;
            }
            destination.answer = answer;
            for path in &destination.paths {
                if self.table.generation(path.worker, path.index) == path.generation {
                    self.table.store_answer(path.worker, path.index, path.generation, answer);
                }
            }
            self.has_changed = true;
        }
    }

    /// Which hop leads there.
    fn resolve(&mut self, (local, remote): Ends) -> Result<u16, Unserved> {
        let (interface, neighbour, mtu) = match self.netlink.route(local, remote) {
            Route::Local => return Err(Unserved::Local),
            Route::Unreachable => return Err(Unserved::Unreachable),
            Route::Via { interface, neighbour, mtu } => (interface, neighbour, mtu),
        };
        let link = self.netlink.link(interface).ok_or(Unserved::Unreachable)?;
        let vlan = match link.vlan {
            _ if interface == self.interface => None,
            Some((parent, vlan)) if parent == self.interface => Some(vlan),
            _ => return Err(Unserved::OtherInterface),
        };
        let mtu = u16::try_from(mtu.unwrap_or(link.mtu).min(link.mtu)).unwrap_or(u16::MAX);
        if let Some(hop) = self.hops.get(&(interface, neighbour, mtu)) {
            return Ok(hop.index);
        }
        let index = self.free.pop().ok_or(Unserved::TableFull)?;
        let is_managed = self.netlink.manage(interface, neighbour, true).is_ok();
        self.refused_managing |= !is_managed;
        let mac = self.netlink.neighbour(interface, neighbour);
        let hop = Hop { index, vlan, mtu, mac, is_managed, is_used: true };
        store(&self.table, &hop);
        self.hops.insert((interface, neighbour, mtu), hop);
        Ok(index)
    }

    /// Forgets paths that are closed, then destinations without paths, then hops without destinations.
    fn keep_house(&mut self) {
        let table = &self.table;
        self.destinations.retain(|_, destination| {
            destination.paths.retain(|path| table.generation(path.worker, path.index) == path.generation);
            !destination.paths.is_empty()
        });
        self.hops.values_mut().for_each(|hop| hop.is_used = false);
        let used: std::collections::HashSet<u16> =
            self.destinations.values().filter_map(|destination| destination.answer.ok()).collect();
        for hop in self.hops.values_mut() {
            hop.is_used = used.contains(&hop.index);
        }
        self.let_go(|hop| !hop.is_used);
        self.use_unanswered();
        self.count();
    }

    /// Neighbours that do not answer, or that the kernel does not manage, are asked for again.
    fn use_unanswered(&mut self) {
        let unanswered = self.hops.iter().filter(|(_, hop)| hop.mac.is_none() || !hop.is_managed);
        let unanswered: Vec<Neighbour> = unanswered.map(|(key, _)| *key).take(CHUNK).collect();
        for (interface, neighbour, _) in unanswered {
            let _ = self.netlink.manage(interface, neighbour, true);
            let mac = self.netlink.neighbour(interface, neighbour);
            self.update_neighbour(interface, neighbour, mac);
        }
    }

    /// Takes hops out of the table and tells the kernel that it need not ask for them any more.
    fn let_go(&mut self, which: impl Fn(&Hop) -> bool) {
        let gone: Vec<Neighbour> = self.hops.iter().filter(|(_, hop)| which(hop)).map(|(key, _)| *key).collect();
        for key in gone {
            let Some(hop) = self.hops.remove(&key) else { continue };
            self.table.store_hop(hop.index, None);
            self.free.push(hop.index);
            self.has_changed = true;
            let is_shared = self.hops.keys().any(|other| (other.0, other.1) == (key.0, key.1));
            if hop.is_managed && !is_shared {
                let _ = self.netlink.manage(key.0, key.1, false);
            }
        }
    }

    /// Counts paths by how they are served.
    fn count(&self) {
        let usable: std::collections::HashSet<u16> =
            self.hops.values().filter(|hop| hop.mac.is_some()).map(|hop| hop.index).collect();
        let (mut served, mut unserved) = (0_u64, [0_u64; 6]);
        for destination in self.destinations.values() {
            let paths = destination.paths.len() as u64;
            let reason = match destination.answer {
                Ok(hop) if usable.contains(&hop) => {
                    served += paths;
                    continue;
                }
                Ok(_) => Unserved::NoNeighbour,
                Err(reason) => reason,
            };
            if let Some(cell) = usize::try_from(reason.code()).ok().and_then(|code| unserved.get_mut(code)) {
                *cell += paths;
            }
        }
        let counts = core::iter::once(served).chain(unserved).chain([self.hops.len() as u64]);
        for (cell, count) in self.table.census.iter().zip(counts) {
            cell.store(count, Ordering::Relaxed);
        }
    }
}

fn store(table: &NextHops, hop: &Hop) {
    table.store_hop(hop.index, hop.mac.map(|mac| NextHop { mac, vlan: hop.vlan, mtu: hop.mtu }));
}

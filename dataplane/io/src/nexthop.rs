// SPDX-License-Identifier: Apache-2.0
//! Next hops: which MAC address, VLAN and MTU a peer is reached by, or why another port has to serve it.
//!
//! ```text
//!  worker ── wish (its path's slot: generation, local, remote) + dirty bit + bell ──▶ resolver thread ── netlink ──▶ kernel
//!  worker ◀── answer (same slot: hop or reason) ◀── hop (MAC, VLAN, MTU) ◀── epoch ◀──┘
//! ```
//!
//! Every path has a slot of its own here, so that no queue between worker and resolver can be full. All of it is atomics
//! of fixed number; a neighbour that changes its MAC address is one store, whatever the number of paths behind it. A
//! worker looks at one word per packet, the epoch, and reads its answer again when that has moved. It must never make a
//! worker wait, and never name a hop that is not on our interface.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

use crate::socket::SetupError;

mod netlink;
mod resolver;

pub use resolver::Resolver;

/// Next hops that a table has at most; a peer behind a further one is served by the socket port. 4096 × 16 B = 64 KiB.
pub const HOPS: usize = 4096;
/// Paths of a worker that a table has at most: 2^20 × 64 B = 64 MiB, touched as used.
const PATHS_MAX: u32 = 1 << 20;

/// Why a path is served by the socket port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Unserved {
    /// The resolver has not answered yet.
    Pending,
    /// The peer is on this host.
    Local,
    /// The route leaves by another interface.
    OtherInterface,
    /// There is no route, or none for unicast.
    Unreachable,
    /// The neighbour does not answer, or not yet.
    NoNeighbour,
    /// More next hops than the table has.
    TableFull,
}

impl Unserved {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Local, Self::OtherInterface, Self::Unreachable, Self::NoNeighbour, Self::TableFull];

    /// A word for it, as the status shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Local => "local",
            Self::OtherInterface => "other_interface",
            Self::Unreachable => "unreachable",
            Self::NoNeighbour => "no_neighbour",
            Self::TableFull => "table_full",
        }
    }

    const fn code(self) -> u64 {
        match self {
            Self::Pending => 0,
            Self::Local => 1,
            Self::OtherInterface => 2,
            Self::Unreachable => 3,
            Self::NoNeighbour => 4,
            Self::TableFull => 5,
        }
    }

    const fn of_code(code: u64) -> Self {
        match code {
            1 => Self::Local,
            2 => Self::OtherInterface,
            3 => Self::Unreachable,
            4 => Self::NoNeighbour,
            5 => Self::TableFull,
            _ => Self::Pending,
        }
    }
}

/// What an Ethernet head towards a peer needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Destination address.
    pub mac: [u8; 6],
    /// VLAN id, where the route leaves by a VLAN of our interface.
    pub vlan: Option<u16>,
    /// Longest IP packet.
    pub mtu: u16,
}

/// Paths by how they are served, as the resolver counted them last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Served by the AF_XDP port.
    pub served: u64,
    /// Served by the socket port, by [`Unserved::ALL`].
    pub unserved: [u64; 6],
    /// Next hops in the table.
    pub hops: u64,
}

/// A path's slot: the worker writes the wish, the resolver the answer.
#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Slot {
    /// 0: no wish. Odd while the addresses change, else the wish's generation.
    wish: AtomicU64,
    local: [AtomicU64; 2],
    remote: [AtomicU64; 2],
    /// Generation in the high half, then hop + 1 in 16 bits (0 = none), then the reason in 8 bits.
    answer: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// A hop: two words, each of which is whole by itself.
#[derive(Debug, Default)]
struct Hop {
    /// MAC in the high 48 bits, then 12 bits of VLAN, then [`HAS_VLAN`] and [`IS_USABLE`].
    link: AtomicU64,
    mtu: AtomicU64,
}

const IS_USABLE: u64 = 1;
const HAS_VLAN: u64 = 2;

#[derive(Debug)]
struct Wishes {
    slots: Box<[Slot]>,
    /// A bit per slot whose wish is new.
    dirty: Box<[AtomicU64]>,
}

/// The table; one per interface, shared by its workers and its resolver.
#[derive(Debug)]
pub struct NextHops {
    workers: Box<[Wishes]>,
    hops: Box<[Hop]>,
    /// Moves whenever an answer or a hop has changed.
    epoch: AtomicU64,
    bell: OwnedFd,
    is_rung: AtomicBool,
    is_lost: AtomicBool,
    addresses: AtomicU64,
    census: [AtomicU64; 8],
}

impl NextHops {
    /// A table for as many workers, each with as many paths as its ports.
    ///
    /// # Errors
    /// No eventfd.
    pub fn new(workers: u16, paths: u32) -> Result<Arc<Self>, SetupError> {
        let paths = paths.clamp(1, PATHS_MAX) as usize;
        let wishes = || Wishes {
            slots: (0..paths).map(|_| Slot::default()).collect(),
            dirty: (0..paths.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        };
        Ok(Arc::new(Self {
            workers: (0..workers).map(|_| wishes()).collect(),
            hops: (0..HOPS).map(|_| Hop::default()).collect(),
            epoch: AtomicU64::new(1),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(SetupError::errno("eventfd"))?,
            is_rung: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            addresses: AtomicU64::new(0),
            census: Default::default(),
        }))
    }

    /// Whether the interface is gone: its sockets are dead, and the port has to be opened anew.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Moves whenever one of this host's addresses has come or gone.
    #[must_use]
    pub fn address_epoch(&self) -> u64 {
        self.addresses.load(Ordering::Relaxed)
    }

    /// How many paths are served, and why the others are not.
    #[must_use]
    pub fn census(&self) -> Census {
        let [served, unserved @ .., hops] = &self.census;
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Census { served: read(served), unserved: unserved.each_ref().map(read), hops: read(hops) }
    }

    /// The epoch; what was read of answers and hops is true as long as it stays.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        // Pairs with the Release in `advance`; without it a worker may see the new epoch and an old hop, and keep it.
        self.epoch.load(Ordering::Acquire)
    }

    fn slot(&self, worker: u16, index: u32) -> Option<&Slot> {
        self.workers.get(usize::from(worker))?.slots.get(index as usize)
    }

    /// A worker opens a path: its addresses are to be resolved. Returns the wish's generation.
    pub(crate) fn wish(&self, worker: u16, index: u32, local: [u8; 16], remote: [u8; 16]) -> u32 {
        let Some(slot) = self.slot(worker, index) else { return 0 };
        let generation = next_generation(slot.wish.load(Ordering::Relaxed));
        slot.wish.store(generation | 1, Ordering::Relaxed);
        // Pairs with the fence in `take_wish`: who sees an address of this wish sees that it is being written.
        fence(Ordering::Release);
        for (cells, address) in [(&slot.local, local), (&slot.remote, remote)] {
            for (cell, half) in cells.iter().zip(halves(address)) {
                cell.store(half, Ordering::Relaxed);
            }
        }
        // Pairs with the Acquire in `take_wish`; without it the resolver may read the slot's former addresses.
        slot.wish.store(generation, Ordering::Release);
        self.mark(worker, index);
        u32::try_from(generation & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// A worker closes a path.
    pub(crate) fn forget(&self, worker: u16, index: u32) {
        if let Some(slot) = self.slot(worker, index) {
            // The generation stays in the high half, so that the next wish gets another one.
            let generation = slot.wish.load(Ordering::Relaxed);
            slot.wish.store(generation << 32, Ordering::Release);
        }
    }

    fn mark(&self, worker: u16, index: u32) {
        let dirty = self.workers.get(usize::from(worker)).and_then(|wishes| wishes.dirty.get(index as usize / 64));
        if let Some(dirty) = dirty {
            // Pairs with the swap in `take_dirty`.
            dirty.fetch_or(1 << (index % 64), Ordering::AcqRel);
        }
        // One write per round of the resolver. Pairs with the swap in `quiet`: either this sees the bell as not rung, or the
        // resolver, which has cleared it, sees the bit.
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// What a path is reached by.
    pub(crate) fn answer(&self, worker: u16, index: u32, generation: u32) -> Result<NextHop, Unserved> {
        let slot = self.slot(worker, index).ok_or(Unserved::TableFull)?;
        let answer = slot.answer.load(Ordering::Relaxed);
        if answer >> 32 != u64::from(generation) {
            return Err(Unserved::Pending);
        }
        let Some(hop) = ((answer >> 8) & 0xffff).checked_sub(1) else { return Err(Unserved::of_code(answer & 0xff)) };
        let hop = usize::try_from(hop).ok().and_then(|hop| self.hops.get(hop)).ok_or(Unserved::TableFull)?;
        let link = hop.link.load(Ordering::Relaxed);
        if link & IS_USABLE == 0 {
            return Err(Unserved::NoNeighbour);
        }
        let [a, b, c, d, e, f, _, _] = link.to_be_bytes();
        let vlan = (link & HAS_VLAN != 0).then_some(u16::try_from((link >> 4) & 0xfff).unwrap_or(0));
        let mtu = u16::try_from(hop.mtu.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
        Ok(NextHop { mac: [a, b, c, d, e, f], vlan, mtu })
    }

    // ---- the resolver's side

    fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The resolver has woken up: what is wished from here on rings again.
    fn quiet(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.is_rung.swap(false, Ordering::AcqRel);
    }

    /// Calls `each` with (worker, index) of every new wish.
    fn take_dirty(&self, mut each: impl FnMut(u16, u32)) {
        for (worker, wishes) in (0..).zip(&self.workers) {
            for (word, dirty) in (0_u32..).zip(&wishes.dirty) {
                if dirty.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let mut bits = dirty.swap(0, Ordering::AcqRel);
                while bits != 0 {
                    each(worker, word * 64 + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        }
    }

    /// Reads a wish: generation, local and remote address; none where there is none, or it is just being written (the
    /// worker marks it again afterwards).
    fn take_wish(&self, worker: u16, index: u32) -> Option<(u32, [u8; 16], [u8; 16])> {
        let slot = self.slot(worker, index)?;
        let before = slot.wish.load(Ordering::Acquire);
        let read = |cells: &[AtomicU64; 2]| whole(cells.each_ref().map(|cell| cell.load(Ordering::Relaxed)));
        let (local, remote) = (read(&slot.local), read(&slot.remote));
        // Pairs with the fence in `wish`.
        fence(Ordering::Acquire);
        let is_whole = before & 1 == 0 && slot.wish.load(Ordering::Relaxed) == before;
        let generation = u32::try_from(before).ok().filter(|generation| is_whole && *generation != 0)?;
        Some((generation, local, remote))
    }

    /// The generation of a slot's wish, 0 for none.
    fn generation(&self, worker: u16, index: u32) -> u32 {
        self.slot(worker, index).map_or(0, |slot| u32::try_from(slot.wish.load(Ordering::Acquire)).unwrap_or(0))
    }

    fn store_answer(&self, worker: u16, index: u32, generation: u32, answer: Result<u16, Unserved>) {
        let body = match answer {
            Ok(hop) => (u64::from(hop) + 1) << 8,
            Err(reason) => reason.code(),
        };
        if let Some(slot) = self.slot(worker, index) {
            slot.answer.store(u64::from(generation) << 32 | body, Ordering::Relaxed);
        }
    }

    fn store_hop(&self, index: u16, hop: Option<NextHop>) {
        let Some(cell) = self.hops.get(usize::from(index)) else { return };
        let Some(NextHop { mac: [a, b, c, d, e, f], vlan, mtu }) = hop else {
            return cell.link.store(0, Ordering::Relaxed);
        };
        let vlan = vlan.map_or(0, |vlan| HAS_VLAN | (u64::from(vlan & 0xfff) << 4));
        cell.mtu.store(u64::from(mtu), Ordering::Relaxed);
        cell.link.store(u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | vlan | IS_USABLE, Ordering::Relaxed);
    }

    /// Tells the workers that answers or hops have changed.
    fn advance(&self) {
        // Pairs with the Acquire in `epoch`.
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

/// The generation after that of a wish, whether it was forgotten or not: even, never 0, 32 bits.
const fn next_generation(wish: u64) -> u64 {
    let last = if wish >> 32 == 0 { wish } else { wish >> 32 };
    match (last + 2) & 0xffff_fffe {
        0 => 2,
        next => next,
    }
}

fn halves(address: [u8; 16]) -> [u64; 2] {
    let value = u128::from_be_bytes(address);
    [u64::try_from(value >> 64).unwrap_or(0), u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0)]
}

fn whole([high, low]: [u64; 2]) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: NextHop = NextHop { mac: [2, 0, 0, 0, 0, 9], vlan: None, mtu: 1500 };

    #[test]
    fn an_answer_belongs_to_the_wish_that_it_was_given_to() {
        let table = NextHops::new(2, 100).unwrap();
        let first = table.wish(1, 70, [1; 16], [2; 16]);
        let mut dirty = Vec::new();
        table.take_dirty(|worker, index| dirty.push((worker, index)));
        assert_eq!(dirty, [(1, 70)]);
        assert_eq!(table.take_wish(1, 70), Some((first, [1; 16], [2; 16])));
        assert_eq!(table.answer(1, 70, first), Err(Unserved::Pending));
        table.store_answer(1, 70, first, Ok(4095));
        assert_eq!(table.answer(1, 70, first), Err(Unserved::NoNeighbour));
        table.store_hop(4095, Some(HOP));
        assert_eq!(table.answer(1, 70, first), Ok(HOP));
        table.forget(1, 70);
        assert_eq!((table.take_wish(1, 70), table.generation(1, 70)), (None, 0));
        let second = table.wish(1, 70, [1; 16], [3; 16]);
        assert_ne!(first, second);
        assert_eq!(table.answer(1, 70, second), Err(Unserved::Pending), "the former wish's answer");
        table.store_answer(1, 70, second, Err(Unserved::Local));
        assert_eq!(table.answer(1, 70, second), Err(Unserved::Local));
        assert_eq!(table.wish(2, 0, [1; 16], [3; 16]), 0, "no such worker");
        assert_eq!(table.answer(0, 100, 0), Err(Unserved::TableFull), "no such path");
    }

    #[test]
    fn a_hop_is_read_as_it_was_stored() {
        let table = NextHops::new(1, 1).unwrap();
        let generation = table.wish(0, 0, [1; 16], [2; 16]);
        table.store_answer(0, 0, generation, Ok(0));
        for vlan in [None, Some(0), Some(1), Some(4095)] {
            let hop = NextHop { mac: [0xff, 1, 2, 3, 4, 0xfe], vlan, mtu: 9000 };
            table.store_hop(0, Some(hop));
            assert_eq!(table.answer(0, 0, generation), Ok(hop));
        }
        table.store_hop(0, None);
        assert_eq!(table.answer(0, 0, generation), Err(Unserved::NoNeighbour));
        for reason in Unserved::ALL {
            table.store_answer(0, 0, generation, Err(reason));
            assert_eq!(table.answer(0, 0, generation), Err(reason));
        }
    }

    #[test]
    fn generations_go_round_without_becoming_none() {
        assert_eq!(next_generation(0), 2);
        assert_eq!(next_generation(6 << 32), 8, "forgotten");
        assert_eq!(next_generation(0xffff_fffe), 2);
        assert_eq!(next_generation(0xffff_fffe << 32), 2);
    }

    #[test]
    fn the_bell_rings_once_until_it_is_heard() {
        let table = NextHops::new(1, 8).unwrap();
        let heard = || rustix::io::read(&table.bell, &mut [0; 8]).is_ok();
        for _ in 0..3 {
            table.wish(0, 3, [1; 16], [2; 16]);
        }
        let mut count = [0; 8];
        rustix::io::read(&table.bell, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        table.quiet();
        assert!(!heard());
        table.wish(0, 4, [1; 16], [2; 16]);
        assert!(heard());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The paths of a port: 5-tuples turned into what its sends want, once per path.
//!
//! A slot is 20 bits of index and 12 bits of generation, so that a closed one is not taken for its successor.

use std::collections::VecDeque;

use dataplane_abi::flow::{FlowKey, as_v4};

use crate::ancillary::{Emitter, NAME_BYTES, SEND_CONTROL_BYTES};
use crate::port::{Ecn, PathError, PathSlot};

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// Paths that a port can have at most.
const PATHS_MAX: u32 = 1 << INDEX_BITS;

/// Where a socket is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Binding {
    /// An IPv6 socket (dual stack), else an IPv4 one.
    pub(crate) is_v6: bool,
    /// Our port.
    pub(crate) port: u16,
}

/// The peer's socket address and the control messages of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) name: Emitter<NAME_BYTES>,
    pub(crate) control: Emitter<SEND_CONTROL_BYTES>,
}

impl Route {
    fn new(binding: Binding, flow: &FlowKey, tos: u8) -> Result<Self, PathError> {
        if flow.local_port != binding.port || flow.remote_port == 0 || flow.remote == [0; 16] {
            return Err(PathError::Unreachable);
        }
        let mut route = Self { name: Emitter::new(), control: Emitter::new() };
        let is_bound = flow.local != [0; 16];
        match (as_v4(flow.local), as_v4(flow.remote)) {
            (local, Some(remote)) if local.is_some() || !is_bound => {
                // On an IPv6 socket the kernel hands a v4-mapped datagram with its IPv4 control messages to the IPv4
                // code (Linux net/ipv6/udp.c udpv6_sendmsg).
                if binding.is_v6 {
                    route.name.put_name_v6(flow.remote, flow.remote_port);
                } else {
                    route.name.put_name_v4(remote, flow.remote_port);
                }
                if let Some(local) = local.filter(|local| *local != [0; 4]) {
                    route.control.put_source_v4(local);
                }
                if tos != 0 {
                    route.control.put_tos_v4(tos);
                }
            }
            (None, None) if binding.is_v6 && !is_link_local(flow.remote) => {
                route.name.put_name_v6(flow.remote, flow.remote_port);
                if is_bound {
                    route.control.put_source_v6(flow.local);
                }
                if tos != 0 {
                    route.control.put_tos_v6(tos);
                }
            }
            _ => return Err(PathError::Unreachable),
        }
        Ok(route)
    }
}

/// A link-local peer needs an interface, which a 5-tuple does not name (RFC 4007 §6).
const fn is_link_local(address: [u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

#[derive(Debug)]
struct Entry<R> {
    generation: u32,
    route: Option<R>,
}

/// A slot's index, which no other open path has.
pub(crate) const fn index_of(path: PathSlot) -> u32 {
    path.0 & INDEX_MASK
}

/// The slots of a port's paths.
#[derive(Debug)]
pub(crate) struct Slots<R> {
    /// Never longer than `capacity`, which it has room for from the beginning; pages are touched as paths are opened.
    entries: Vec<Entry<R>>,
    /// First in, first out, so that an index rests as long as possible.
    free: VecDeque<u32>,
    capacity: usize,
}

impl<R> Slots<R> {
    pub(crate) fn new(paths: u32) -> Self {
        let capacity = paths.min(PATHS_MAX) as usize;
        Self { entries: Vec::with_capacity(capacity), free: VecDeque::with_capacity(capacity), capacity }
    }

    pub(crate) fn insert(&mut self, route: R) -> Result<PathSlot, PathError> {
        if self.entries.len() < self.capacity {
            let index = u32::try_from(self.entries.len()).map_err(|_| PathError::Full)?;
            self.entries.push(Entry { generation: 0, route: Some(route) });
            return Ok(PathSlot(index));
        }
        let index = self.free.pop_front().ok_or(PathError::Full)?;
        let entry = self.entries.get_mut(index as usize).ok_or(PathError::Full)?;
        entry.route = Some(route);
        Ok(PathSlot(index | (entry.generation << INDEX_BITS)))
    }

    /// Whether there was such a path.
    pub(crate) fn remove(&mut self, path: PathSlot) -> bool {
        let index = index_of(path);
        if let Some(entry) = self.entries.get_mut(index as usize)
            && entry.generation == path.0 >> INDEX_BITS
            && entry.route.take().is_some()
        {
            entry.generation = (entry.generation + 1) & (u32::MAX >> INDEX_BITS);
            self.free.push_back(index);
            return true;
        }
        false
    }

    pub(crate) fn get(&self, path: PathSlot) -> Option<&R> {
        let entry = self.entries.get(index_of(path) as usize)?;
        if entry.generation == path.0 >> INDEX_BITS { entry.route.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, path: PathSlot) -> Option<&mut R> {
        let entry = self.entries.get_mut(index_of(path) as usize)?;
        if entry.generation == path.0 >> INDEX_BITS { entry.route.as_mut() } else { None }
    }
}

/// All paths of a socket port.
#[derive(Debug)]
pub(crate) struct PathTable {
    binding: Binding,
    slots: Slots<Route>,
}

impl PathTable {
    pub(crate) fn new(binding: Binding, paths: u32) -> Self {
        Self { binding, slots: Slots::new(paths) }
    }

    pub(crate) fn open(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        self.slots.insert(Route::new(self.binding, flow, (dscp << 2) | (ecn.0 & 3))?)
    }

    pub(crate) fn close(&mut self, path: PathSlot) {
        self.slots.remove(path);
    }

    pub(crate) fn route(&self, path: PathSlot) -> Option<&Route> {
        self.slots.get(path)
    }
}

#[cfg(test)]
mod tests {
    use dataplane_abi::flow::map_v4;

    use super::*;

    const V6: Binding = Binding { is_v6: true, port: 7000 };
    const V4: Binding = Binding { is_v6: false, port: 7000 };

    fn flow(local: [u8; 16], remote: [u8; 16]) -> FlowKey {
        FlowKey { local, remote, local_port: 7000, remote_port: 9, reserve: 0 }
    }

    #[test]
    fn a_closed_slot_is_not_its_successor() {
        let mut table = PathTable::new(V6, 1);
        let key = flow(map_v4([127, 0, 0, 1]), map_v4([127, 0, 0, 2]));
        let first = table.open(&key, 0, Ecn(0)).unwrap();
        assert_eq!(table.open(&key, 0, Ecn(0)), Err(PathError::Full));
        table.close(first);
        table.close(first);
        let second = table.open(&key, 0, Ecn(0)).unwrap();
        assert_ne!(first, second);
        assert!(table.route(first).is_none());
        table.close(first);
        assert!(table.route(second).is_some());
        assert_eq!(table.open(&key, 0, Ecn(0)), Err(PathError::Full));
    }

    #[test]
    fn the_generation_wraps_within_the_slot() {
        let mut table = PathTable::new(V6, 1);
        let key = flow(map_v4([127, 0, 0, 1]), map_v4([127, 0, 0, 2]));
        for _ in 0..5000 {
            let slot = table.open(&key, 0, Ecn(0)).unwrap();
            assert!(table.route(slot).is_some());
            table.close(slot);
        }
    }

    #[test]
    fn a_path_that_the_socket_cannot_serve_is_unreachable() {
        let (v4, v6) = (map_v4([10, 0, 0, 1]), [0x20; 16]);
        let mut link_local = [0; 16];
        (link_local[0], link_local[1], link_local[15]) = (0xfe, 0x80, 1);
        let cases = [
            (V4, flow(v4, v4), Ok(())),
            (V4, flow([0; 16], v4), Ok(())),
            (V4, flow(v6, v6), Err(PathError::Unreachable)),
            (V6, flow(v4, v4), Ok(())),
            (V6, flow(v6, v6), Ok(())),
            (V6, flow([0; 16], v6), Ok(())),
            (V6, flow(v4, v6), Err(PathError::Unreachable)),
            (V6, flow(v6, v4), Err(PathError::Unreachable)),
            (V6, flow(link_local, link_local), Err(PathError::Unreachable)),
            (V6, FlowKey { local_port: 7001, ..flow(v4, v4) }, Err(PathError::Unreachable)),
            (V6, FlowKey { remote_port: 0, ..flow(v4, v4) }, Err(PathError::Unreachable)),
        ];
        for (binding, key, expected) in cases {
            assert_eq!(PathTable::new(binding, 1).open(&key, 46, Ecn(1)).map(|_| ()), expected, "{binding:?} {key:?}");
        }
    }
}

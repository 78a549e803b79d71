// SPDX-License-Identifier: Apache-2.0
//! What each worker knows of every transport, whoever owns it: credentials, and which tracks and subscriptions hang on it.

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::TransportRef;
use dataplane_abi::intent::Credential;
use dataplane_abi::limits::PATHS;

use crate::hold::map::FixedMap;
use crate::hold::slab::Slab;
use crate::objects::NONE;

/// The flow map is told of a flow again with a check that comes this long after the last time.
const TELL_AGAIN_NS: u64 = 1_000_000_000;

/// A user fragment, padded with zeros.
type UfragKey = [u8; 16];

/// A flow that was admitted for a transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Used {
    flow: FlowKey,
    /// When a check used it last.
    used_ns: u64,
    /// When the flow map was told last; 0 = never.
    told_ns: u64,
}

/// A transport seen from outside: enough to find the credential that a check names.
pub(crate) struct Door {
    pub(crate) transport: TransportRef,
    /// Our user fragments as keys of `by_ufrag`; the credentials themselves are read from intent, with each check.
    ufrags: [Option<UfragKey>; 2],
    /// Slots of the flows that this worker admitted for the transport.
    flows: [u32; PATHS],
}

impl Door {
    /// Whether the credentials of before an ICE restart are still there.
    pub(crate) fn has_previous(&self) -> bool {
        matches!(self.ufrags, [_, Some(_)])
    }
}

/// All doors of a worker.
pub(crate) struct Doors {
    doors: Slab<Door>,
    /// Most transports have one of the four that they may have.
    used: Slab<Used>,
    door_at: Vec<u32>,
    /// Our user fragment → (door, credential).
    by_ufrag: FixedMap<UfragKey, u32>,
}

impl Doors {
    pub(crate) fn new(transports: usize, seed: u64) -> Self {
        Self {
            doors: Slab::new(transports),
            used: Slab::new(transports.saturating_mul(PATHS)),
            door_at: vec![0; transports],
            by_ufrag: FixedMap::new(transports.saturating_mul(2), seed),
        }
    }

    fn slot_of(&self, transport_slot: u32) -> Option<u32> {
        self.door_at.get(transport_slot as usize)?.checked_sub(1)
    }

    pub(crate) fn get(&self, transport_slot: u32) -> Option<&Door> {
        self.doors.get(self.slot_of(transport_slot)?)
    }

    /// Notes that a check used a flow at `now_ns`. The flow that has to go for it: `replaced` where the owner's path table
    /// says so, else the least recently used one where there is no room.
    pub(crate) fn use_flow(
        &mut self,
        transport_slot: u32,
        flow: FlowKey,
        replaced: Option<FlowKey>,
        now_ns: u64,
    ) -> Option<FlowKey> {
        let slot = self.slot_of(transport_slot)?;
        let Self { doors, used, .. } = self;
        let flows = &mut doors.get_mut(slot)?.flows;
        let place_of = |flows: &[u32; PATHS], used: &Slab<Used>, wanted: FlowKey| {
            flows.iter().position(|kept| used.get(*kept).is_some_and(|kept| kept.flow == wanted))
        };
        let replaced = replaced.and_then(|replaced| place_of(flows, used, replaced));
        let known = place_of(flows, used, flow).and_then(|at| flows.get(at)).copied();
        if let Some(kept) = known.and_then(|known| used.get_mut(known)) {
            kept.used_ns = now_ns;
            let before = std::mem::replace(flows.get_mut(replaced?)?, NONE);
            return used.remove(before).map(|before| before.flow);
        }
        let free = || flows.iter().position(|kept| *kept == NONE);
        let age = |at: &usize| flows.get(*at).and_then(|kept| used.get(*kept)).map_or(0, |kept| kept.used_ns);
        let oldest = || (0..PATHS).min_by_key(age);
        let at = replaced.or_else(free).or_else(oldest)?;
        let place = flows.get_mut(at)?;
        let before = used.remove(*place);
        *place = used.insert(Used { flow, used_ns: now_ns, told_ns: 0 }).unwrap_or(NONE);
        before.map(|before| before.flow)
    }

    /// Whether the flow map is to be told of a flow, now.
    pub(crate) fn is_telling_due(&mut self, transport_slot: u32, flow: &FlowKey, now_ns: u64) -> bool {
        let flows = self.get(transport_slot).map_or([NONE; PATHS], |door| door.flows);
        let known = flows.into_iter().find(|kept| self.used.get(*kept).is_some_and(|kept| kept.flow == *flow));
        let Some(kept) = known.and_then(|known| self.used.get_mut(known)) else { return false };
        let is_due = kept.told_ns == 0 || now_ns.saturating_sub(kept.told_ns) >= TELL_AGAIN_NS;
        if is_due {
            kept.told_ns = now_ns.max(1);
        }
        is_due
    }

    /// Whose check this is.
    pub(crate) fn lookup(&self, local_ufrag: &[u8]) -> Option<TransportRef> {
        let door = self.by_ufrag.get(&ufrag_key(local_ufrag)?)?;
        Some(self.doors.get(door)?.transport)
    }

    /// Stores or replaces the credentials of a transport.
    pub(crate) fn upsert(&mut self, transport: TransportRef, credentials: &[Credential; 2]) -> bool {
        if self.get(transport.slot).is_some_and(|door| door.transport != transport) {
            return false;
        }
        self.forget_ufrags(transport.slot);
        let ufrags = credentials.each_ref().map(|credential| ufrag_key(local_ufrag(credential)));
        let slot = match self.slot_of(transport.slot) {
            Some(slot) => slot,
            None => {
                let door = Door { transport, ufrags, flows: [NONE; PATHS] };
                let Ok(slot) = self.doors.insert(door) else { return false };
                if let Some(place) = self.door_at.get_mut(transport.slot as usize) {
                    *place = slot.saturating_add(1);
                }
                slot
            }
        };
        let Some(door) = self.doors.get_mut(slot) else { return false };
        door.ufrags = ufrags;
        for key in ufrags.into_iter().flatten() {
            self.by_ufrag.insert(key, slot);
        }
        true
    }

    fn forget_ufrags(&mut self, transport_slot: u32) {
        let Some(door) = self.slot_of(transport_slot).and_then(|slot| self.doors.get(slot)) else { return };
        for key in door.ufrags.iter().flatten() {
            self.by_ufrag.remove(key);
        }
    }

    /// The transport whose door it was, and the flows that were admitted for it.
    pub(crate) fn remove(&mut self, transport_slot: u32) -> Option<(TransportRef, [Option<FlowKey>; PATHS])> {
        self.forget_ufrags(transport_slot);
        let slot = self.slot_of(transport_slot)?;
        if let Some(place) = self.door_at.get_mut(transport_slot as usize) {
            *place = 0;
        }
        let door = self.doors.remove(slot)?;
        Some((door.transport, door.flows.map(|kept| self.used.remove(kept).map(|kept| kept.flow))))
    }
}

/// Our user fragment of a credential; empty where that is none.
pub(crate) fn local_ufrag(credential: &Credential) -> &[u8] {
    credential.local_ufrag.get(..usize::from(credential.local_ufrag_len)).unwrap_or(&[])
}

/// A user fragment as a map key; empty ones and those longer than ours ever are name nobody.
fn ufrag_key(ufrag: &[u8]) -> Option<UfragKey> {
    if ufrag.is_empty() {
        return None;
    }
    let mut key = [0; 16];
    key.get_mut(..ufrag.len())?.copy_from_slice(ufrag);
    Some(key)
}

/// Which objects (tracks, subscriptions) hang on which transport: singly linked lists over slots.
pub(crate) struct Links {
    heads: Vec<u32>,
    next: Vec<u32>,
    owner: Vec<u32>,
}

impl Links {
    pub(crate) fn new(transports: usize, objects: usize) -> Self {
        Self { heads: vec![0; transports], next: vec![0; objects], owner: vec![0; objects] }
    }

    /// Hangs an object on a transport; an object that hangs on another one is moved.
    pub(crate) fn link(&mut self, transport_slot: u32, object: u32) {
        let wanted = transport_slot.saturating_add(1);
        if self.owner.get(object as usize) == Some(&wanted) {
            return;
        }
        self.unlink(object);
        let Some(head) = self.heads.get_mut(transport_slot as usize) else { return };
        if let (Some(next), Some(owner)) = (self.next.get_mut(object as usize), self.owner.get_mut(object as usize)) {
            *next = *head;
            *owner = wanted;
            *head = object.saturating_add(1);
        }
    }

    pub(crate) fn unlink(&mut self, object: u32) {
        let Some(transport) = self.owner.get(object as usize).and_then(|owner| owner.checked_sub(1)) else { return };
        let after = self.next.get(object as usize).copied().unwrap_or(0);
        if let Some(owner) = self.owner.get_mut(object as usize) {
            *owner = 0;
        }
        let wanted = object.saturating_add(1);
        let mut at = self.heads.get(transport as usize).copied().unwrap_or(0);
        if at == wanted {
            if let Some(head) = self.heads.get_mut(transport as usize) {
                *head = after;
            }
            return;
        }
        while let Some(slot) = at.checked_sub(1) {
            let Some(next) = self.next.get_mut(slot as usize) else { return };
            if *next == wanted {
                *next = after;
                return;
            }
            at = *next;
        }
    }

    pub(crate) fn first(&self, transport_slot: u32) -> Option<u32> {
        self.heads.get(transport_slot as usize)?.checked_sub(1)
    }

    pub(crate) fn after(&self, object: u32) -> Option<u32> {
        self.next.get(object as usize)?.checked_sub(1)
    }

    /// Objects of a transport. The list must not change while it is walked by hand with [`Self::first`] and [`Self::after`].
    pub(crate) fn of(&self, transport_slot: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.first(transport_slot), |object| self.after(*object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_hang_on_one_transport_at_a_time() {
        let mut links = Links::new(4, 8);
        for object in 0..4 {
            links.link(1, object);
        }
        links.link(2, 2);
        links.unlink(0);
        links.link(1, 1);
        assert_eq!(links.of(1).collect::<Vec<_>>(), vec![3, 1]);
        assert_eq!(links.of(2).collect::<Vec<_>>(), vec![2]);
        assert_eq!(links.of(3).count(), 0);
    }

    fn credential(ufrag: &[u8]) -> Credential {
        let mut credential = Credential::zeroed();
        credential.local_ufrag[..ufrag.len()].copy_from_slice(ufrag);
        credential.local_ufrag_len = u8::try_from(ufrag.len()).unwrap();
        credential
    }

    #[test]
    fn a_fifth_flow_takes_the_place_of_the_least_recently_used_one() {
        let flow = |port| FlowKey { remote_port: port, ..FlowKey::default() };
        let mut doors = Doors::new(2, 3);
        assert!(doors.upsert(TransportRef::at(1, 1), &[credential(b"some"), Credential::zeroed()]));
        for (at, port) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1)] {
            assert_eq!(doors.use_flow(1, flow(port), None, at), None);
        }
        assert_eq!(doors.use_flow(1, flow(5), None, 6), Some(flow(2)));
        assert_eq!(doors.use_flow(1, flow(6), Some(flow(1)), 7), Some(flow(1)), "the owner's table decides");
        assert_eq!(doors.used.len(), PATHS);
        assert_eq!(doors.use_flow(1, flow(5), Some(flow(6)), 8), Some(flow(6)), "known, and another one goes");
        let second = 1_000_000_000;
        let told = [0, 1, second, second + 1].map(|at| doors.is_telling_due(1, &flow(5), at));
        assert_eq!(told, [true, false, false, true]);
        assert!(!doors.is_telling_due(1, &flow(6), 9), "it went");
        let flows = doors.remove(1).map(|(_, flows)| flows.map(|flow| flow.map(|flow| flow.remote_port)));
        assert_eq!(flows, Some([None, Some(5), Some(3), Some(4)]));
        assert_eq!(doors.used.len(), 0);
    }

    #[test]
    fn a_restart_keeps_both_credentials_and_removal_forgets_them() {
        let mut doors = Doors::new(4, 3);
        let transport = TransportRef::at(2, 5);
        assert!(doors.upsert(transport, &[credential(b"old1"), Credential::zeroed()]));
        assert!(doors.upsert(transport, &[credential(b"new1"), credential(b"old1")]));
        assert_eq!(doors.lookup(b"old1"), Some(transport));
        assert_eq!(doors.lookup(b"new1"), Some(transport));
        assert!(doors.lookup(b"").is_none() && doors.lookup(&[b'x'; 40]).is_none());
        assert!(doors.remove(2).is_some());
        assert!(doors.lookup(b"new1").is_none() && doors.lookup(b"old1").is_none());
    }
}

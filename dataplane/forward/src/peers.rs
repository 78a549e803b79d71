// SPDX-License-Identifier: Apache-2.0
//! The other workers: one ring of packets and one of doorbells in each direction (CONTRACTS 7 and 19 of the design).

use dataplane_abi::ids::WorkerId;
use dataplane_abi::ring::{Datagram, Doorbell};
use dataplane_shm::ring::{Consumer, Producer, private};

/// Packets under way between two workers: 256 × 2 KiB, touched as used.
const PACKETS: usize = 256;
/// Doorbells under way between two workers: 1024 × 24 B.
const DOORBELLS: usize = 1024;

/// The rings between this worker and one other.
pub(crate) struct Peer {
    pub(crate) packets_out: Producer<Datagram>,
    pub(crate) packets_in: Consumer<Datagram>,
    pub(crate) doorbells_out: Producer<Doorbell>,
    pub(crate) doorbells_in: Consumer<Doorbell>,
}

/// What a worker holds towards all others; the place of the worker itself is empty.
pub struct Peers {
    pub(crate) all: Vec<Option<Peer>>,
}

impl Peers {
    pub(crate) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Peer> {
        self.all.get_mut(worker.index())?.as_mut()
    }
}

/// Rings between `workers` workers, one [`Peers`] for each of them.
///
/// # Errors
/// What mmap says of their memory.
pub fn mesh(workers: usize) -> std::io::Result<Vec<Peers>> {
    let mut peers: Vec<Peers> = (0..workers).map(|_| Peers { all: (0..workers).map(|_| None).collect() }).collect();
    for a in 0..workers {
        for b in a.saturating_add(1)..workers {
            let (packets_ab, packets_at_b) = private::<Datagram>(PACKETS)?;
            let (packets_ba, packets_at_a) = private::<Datagram>(PACKETS)?;
            let (doorbells_ab, doorbells_at_b) = private::<Doorbell>(DOORBELLS)?;
            let (doorbells_ba, doorbells_at_a) = private::<Doorbell>(DOORBELLS)?;
            let at_a = Peer {
                packets_out: packets_ab,
                packets_in: packets_at_a,
                doorbells_out: doorbells_ab,
                doorbells_in: doorbells_at_a,
            };
            let at_b = Peer {
                packets_out: packets_ba,
                packets_in: packets_at_b,
                doorbells_out: doorbells_ba,
                doorbells_in: doorbells_at_b,
            };
            if let Some(place) = peers.get_mut(a).and_then(|peers| peers.all.get_mut(b)) {
                *place = Some(at_a);
            }
            if let Some(place) = peers.get_mut(b).and_then(|peers| peers.all.get_mut(a)) {
                *place = Some(at_b);
            }
        }
    }
    Ok(peers)
}

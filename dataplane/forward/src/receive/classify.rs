// SPDX-License-Identifier: Apache-2.0
//! The verdict on each packet, and the one place where its fate is counted.

use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::ids::{TransportRef, WorkerId};
use dataplane_abi::limits::{BATCH, DATAGRAM_BYTES};
use dataplane_abi::ring::{DATAGRAM_SLOT_BYTES, Datagram, Doorbell, doorbell_kind};
use dataplane_io::port::{Ecn, Port, RxMeta};
use dataplane_wire::demux::{self, Class};

use crate::counting::{add, bump};
use crate::worker::{Now, Worker};

/// What became of a packet. Each packet has exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Stored,
    Answered,
    Consumed,
    Punted,
    Handed,
    Dropped(DropReason),
}

/// A packet on its way through the receive half.
#[derive(Clone, Copy)]
pub(crate) struct Received<'p> {
    pub(crate) bytes: &'p [u8],
    pub(crate) meta: &'p RxMeta,
    pub(crate) now: Now,
}

const DTLS_RECORD_HEADER: usize = 13;
const DTLS_VERSION_MAJOR: u8 = 0xfe;

impl Worker {
    /// Handles the port's current batch of `count` packets; the caller releases it.
    pub fn receive<P: Port>(&mut self, port: &P, count: usize, now: Now) {
        for index in 0..count {
            let Some((bytes, meta)) = port.packet(index) else { continue };
            self.count(|counters| {
                bump(&counters.rx_packets);
                add(&counters.rx_bytes, bytes.len() as u64);
            });
            let fate = self.packet(bytes, &meta, now);
            self.settle(fate);
        }
        self.announce_stored();
    }

    /// Takes what other workers handed over and rang for; true where more is waiting.
    pub fn take_handed(&mut self, now: Now) -> bool {
        let mut is_more = false;
        for index in 0..self.peers.all.len() {
            let Ok(worker) = u16::try_from(index) else { break };
            is_more |= self.take_from(WorkerId(worker), now);
        }
        self.announce_stored();
        is_more
    }

    fn take_from(&mut self, worker: WorkerId, now: Now) -> bool {
        let mut is_more = true;
        for _ in 0..BATCH {
            let Some(bell) = self.peers.get_mut(worker).and_then(|peer| peer.doorbells_in.pop()) else {
                is_more = false;
                break;
            };
            self.step();
            self.rung(worker, &bell, now);
        }
        for _ in 0..BATCH {
            let Some(packet) = self.peers.get_mut(worker).and_then(|peer| peer.packets_in.pop()) else {
                return is_more;
            };
            self.step();
            self.count(|counters| bump(&counters.taken));
            let meta = RxMeta {
                flow: packet.flow,
                arrival_ns: packet.at_ns,
                ecn: Ecn(u8::try_from(packet.reserve & 3).unwrap_or(0)),
            };
            let bytes = packet.bytes.get(..packet.len as usize).unwrap_or(&[]);
            let fate = self.packet(bytes, &meta, now);
            self.settle(fate);
        }
        true
    }

    fn rung(&mut self, from: WorkerId, bell: &Doorbell, now: Now) {
        let id = dataplane_abi::ids::IngressId(bell.ingress);
        match bell.kind {
            doorbell_kind::STORED => self.rung_from(from, id, None),
            doorbell_kind::LATE => self.rung_from(from, id, Some(bell.arg)),
            doorbell_kind::KEYFRAME => self.want_keyframe(id, now),
            doorbell_kind::INTEREST => self.set_interest(id, bell.arg, true),
            doorbell_kind::NO_INTEREST => self.set_interest(id, bell.arg, false),
            _ => {
                self.count(|counters| bump(&counters.stale_references));
            }
        }
    }

    /// Counts a fate.
    fn settle(&mut self, fate: Fate) {
        self.count(|counters| {
            let cell = match fate {
                Fate::Stored => Some(&counters.stored),
                Fate::Answered => Some(&counters.answered),
                Fate::Consumed => Some(&counters.consumed),
                Fate::Punted => Some(&counters.punted),
                Fate::Handed => Some(&counters.handed),
                Fate::Dropped(reason) => counters.dropped.get(reason.index()),
            };
            if let Some(cell) = cell {
                bump(cell);
            }
        });
    }

    fn packet(&mut self, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        if bytes.is_empty() || bytes.len() > DATAGRAM_BYTES {
            return Fate::Dropped(DropReason::BadLength);
        }
        let class = demux::classify(bytes);
        match class {
            Class::Stun => return self.stun(bytes, meta, now),
            Class::Zrtp | Class::TurnChannel | Class::Unknown => return Fate::Dropped(DropReason::UnknownProtocol),
            Class::Dtls | Class::RtpOrRtcp => {}
        }
        let Some(transport) = self.flows.get(&meta.flow) else { return Fate::Dropped(DropReason::UnknownFlow) };
        let Some(leg) = self.leg_of(transport) else { return self.hand_to_owner(transport, bytes, meta) };
        if class == Class::Dtls {
            return self.punt(leg, bytes, meta, now);
        }
        if demux::is_rtcp(bytes) {
            return self.feedback(leg, bytes, meta, now);
        }
        self.media(leg, bytes, meta, now)
    }

    /// Gives a packet to the worker that owns its transport; packets are copied, frames never change worker.
    pub(crate) fn hand_to_owner(&mut self, transport: TransportRef, bytes: &[u8], meta: &RxMeta) -> Fate {
        let Some(worker) = self.owner_of(transport).filter(|worker| *worker != self.config.worker) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(packet) = datagram(transport, bytes, meta) else { return Fate::Dropped(DropReason::BadLength) };
        let Some(peer) = self.peers.get_mut(worker) else { return Fate::Dropped(DropReason::StaleTransport) };
        if peer.packets_out.push(&packet).is_err() {
            return Fate::Dropped(DropReason::HandFull);
        }
        self.effects.wake_workers |= 1 << worker.0;
        Fate::Handed
    }

    /// The worker that the durable record names for this generation.
    pub(crate) fn owner_of(&self, transport: TransportRef) -> Option<WorkerId> {
        let word = self.segment.transport(transport.slot)?.owner.load(core::sync::atomic::Ordering::Acquire);
        let generation = u32::try_from(word >> 32).ok()?;
        let worker = u16::try_from(word & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
        (generation == transport.generation && worker < self.config.workers).then_some(WorkerId(worker))
    }

    /// DTLS of a validated 5-tuple goes to the control plane, bounded per transport before the ring.
    fn punt(&mut self, leg: u32, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let is_record = bytes.len() >= DTLS_RECORD_HEADER && bytes.get(1) == Some(&DTLS_VERSION_MAJOR);
        if !is_record || bytes.len() > DATAGRAM_SLOT_BYTES {
            return Fate::Dropped(DropReason::DtlsMalformed);
        }
        let Some(leg) = self.legs.get_mut(leg) else { return Fate::Dropped(DropReason::StaleTransport) };
        if !leg.may_punt(now.mono_ns) {
            return Fate::Dropped(DropReason::PuntLimited);
        }
        let Some(packet) = datagram(leg.transport, bytes, meta) else {
            return Fate::Dropped(DropReason::DtlsMalformed);
        };
        if self.punts.push(&packet).is_err() {
            return Fate::Dropped(DropReason::PuntFull);
        }
        self.effects.wake_control = true;
        Fate::Punted
    }
}

fn datagram(transport: TransportRef, bytes: &[u8], meta: &RxMeta) -> Option<Datagram> {
    let mut packet = Datagram {
        transport,
        at_ns: meta.arrival_ns,
        flow: meta.flow,
        len: u32::try_from(bytes.len()).ok()?,
        reserve: u32::from(meta.ecn.0),
        ..Datagram::zeroed()
    };
    packet.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(packet)
}

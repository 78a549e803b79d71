// SPDX-License-Identifier: Apache-2.0
//! What a worker that never sleeps does while nothing comes: it goes the way of a packet again, in vain.
//!
//! In the 10 to 20 ms between two packets of a small call other programs push its code, its tables and its keys out of the core's
//! caches and address translations: the lone packet then took 30 to 50 µs, the one behind it 6. So the newest packets are taken
//! once more through the same functions: a forgery with the number that comes next is opened, and fails as any forgery does,
//! before anything is written (RFC 3711 §3.3); the newest packet is headed into a frame that is not committed, and sealed into
//! memory that no port knows, under the number that it had. No number is spent, no counter moves, nothing leaves.

use std::sync::Arc;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::drop_reason::DropReason;
use dataplane_io::port::{Ecn, Port, RxMeta};
use dataplane_shm::Segment;

use crate::counting::read;
use crate::hold::slab::Slab;
use crate::objects::cohort::{Cohort, Current};
use crate::objects::leg::flow_at;
use crate::objects::numbers::Intervals;
use crate::receive::classify::Fate;
use crate::send::head::Heads;
use crate::send::rewrite::{Packet, Receiver, rehearse_to};
use crate::worker::{Now, Worker};

/// Receivers that a rehearsal is made for. Those behind them find the code warm, and their records are asked for ahead.
const RECEIVERS: u32 = 4;
const VERSION: u8 = 0x80;
const FIXED_HEADER: usize = 12;
/// Longest tag of any profile.
const TAG_BYTES: usize = 16;
const DATAGRAM_BYTES: usize = 2048;

/// The newest streams, and memory for what is never sent.
pub(crate) struct Rehearsal {
    heard: [Option<Heard>; 2],
    /// Slots of the cohorts that ran last.
    ran: [Option<u32>; 2],
    /// Whose turn it is, of audio and video.
    turn: usize,
    datagram: Vec<u8>,
    heads: Box<Heads>,
}

/// A stream that was received.
#[derive(Clone, Copy)]
struct Heard {
    ingress: u32,
    ssrc: u32,
}

impl Rehearsal {
    pub(crate) fn new() -> Self {
        Self {
            heard: [None; 2],
            ran: [None; 2],
            turn: 0,
            datagram: vec![0; DATAGRAM_BYTES],
            heads: Box::new(Heads::new()),
        }
    }

    /// A packet of this stream was stored.
    #[inline]
    pub(crate) fn hear(&mut self, kind: MediaKind, ingress: u32, ssrc: u32) {
        if let Some(newest) = self.heard.get_mut(usize::from(kind == MediaKind::Video)) {
            *newest = Some(Heard { ingress, ssrc });
        }
    }

    /// Packets of this cohort were sent.
    #[inline]
    pub(crate) fn run(&mut self, is_audio: bool, cohort: u32) {
        if let Some(newest) = self.ran.get_mut(usize::from(!is_audio)) {
            *newest = Some(cohort);
        }
    }
}

impl Worker {
    /// Goes the way of the newest audio packet, and at the next call that of the newest video packet, without effect. How many
    /// ways were gone: one in, and one to each of the first receivers.
    pub fn rehearse<P: Port>(&mut self, port: &mut P, now: Now) -> usize {
        let mut gone = 0;
        let turn = self.rehearsal.turn;
        self.rehearsal.turn = usize::from(turn == 0);
        if let Some(heard) = self.rehearsal.heard.get(turn).copied().flatten() {
            let mut datagram = std::mem::take(&mut self.rehearsal.datagram);
            gone = usize::from(self.rehearse_receiving(heard, &mut datagram, now) == Some(()));
            self.rehearsal.datagram = datagram;
        }
        if let Some(cohort) = self.rehearsal.ran.get(turn).copied().flatten() {
            gone = self.rehearse_sending(port, cohort, now, gone);
        }
        port.rehearse();
        gone
    }

    /// Opens a forgery of the packet that comes next; nothing where the stream is gone.
    fn rehearse_receiving(&mut self, heard: Heard, datagram: &mut [u8], now: Now) -> Option<()> {
        let segment = Arc::clone(&self.segment);
        let ingress = self.ingresses.get(heard.ingress)?;
        let (leg_slot, pt) = (ingress.leg, ingress.pt);
        let durable = segment.ingress(ingress.id)?;
        let leg = self.legs.get(leg_slot)?;
        let flow = flow_at(segment.transport(leg.transport.slot)?, leg.active()?)?;
        // As a packet is looked up.
        let transport = self.flows.get(&flow)?;
        let source = self.sources.get(&(transport.slot, heard.ssrc))?;
        let top = read(&durable.stored_top);
        let stored = segment.log_reader(read(&durable.log))?.get(top.checked_sub(1)?)?;
        let payload = stored.payload();
        let (header, rest) = datagram.split_first_chunk_mut::<FIXED_HEADER>()?;
        let [s0, s1, ..] = dataplane_wire::seq::low16(top).to_be_bytes();
        let [t0, t1, t2, t3] = stored.info().rtp_ts.to_be_bytes();
        let [c0, c1, c2, c3] = heard.ssrc.to_be_bytes();
        *header = [VERSION, pt, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        payload.copy_to(rest.get_mut(..payload.len())?);
        let bytes = datagram.get(..FIXED_HEADER.checked_add(payload.len())?.checked_add(TAG_BYTES)?)?;
        let meta = RxMeta { flow, arrival_ns: now.mono_ns, ecn: Ecn::default() };
        let fate = self.original(leg_slot, source.ingress, bytes, &meta, now);
        (fate == Fate::Dropped(DropReason::SrtpAuth)).then_some(())
    }

    /// Heads and seals the newest packet for the first members of a cohort, until one has not had it. `gone` and how many those were.
    fn rehearse_sending<P: Port>(&mut self, port: &mut P, cohort: u32, now: Now, gone: usize) -> usize {
        let Self { segment, cohorts, maps, egresses, legs, pages, rehearsal, config, .. } = self;
        let Some((cohort, packet)) =
            cohorts.get(cohort).and_then(|cohort| Some((cohort, newest(cohort, maps, segment)?)))
        else {
            return gone;
        };
        rehearsal.heads.clear();
        let mut gone = gone;
        for position in 0..RECEIVERS {
            let receiver = cohort.members.get(pages, position);
            let receiver = receiver.and_then(|member| Receiver::of(member, (egresses, legs, segment), config.dscp));
            let place = (&mut *rehearsal.heads, rehearsal.datagram.as_mut_slice());
            if receiver.and_then(|mut receiver| rehearse_to(port, &mut receiver, &packet, place, now)).is_none() {
                break;
            }
            gone = gone.saturating_add(1);
        }
        gone
    }
}

/// The packet before a cohort's cursor.
fn newest<'s>(cohort: &Cohort, maps: &Slab<Intervals>, segment: &'s Segment) -> Option<Packet<'s>> {
    let ext_seq = cohort.cursor.checked_sub(1)?;
    let current = Current { ext_seq, number: cohort.numbers.number(maps, ext_seq)?, is_late: false };
    Some(Packet::of(current, segment.log_reader(cohort.log)?.get(ext_seq)?))
}

// SPDX-License-Identifier: Apache-2.0
//! Packets that are sealed together: those of members whose cipher works in lanes (`dataplane_srtp::protect_rtp_batch`).
//!
//! ```text
//!  member ─ has_lanes ─▶ hold: number spent, head written ─▶ sixteen are here, or the tile ends ─▶ send: sealed, committed
//!         └ has none  ─▶ rewrite::send_to, one by one
//! ```
//!
//! A port lends one frame at a time, so heads and ciphertext come into memory of the worker's own, from which they are
//! copied into frames. The copy costs a twentieth of what the lanes save (`cargo xtask bench forward`), and they read memory
//! that is laid out for them. Nothing stays here between two tiles. A packet whose number is spent here, and which the cipher
//! or the port then refuses, is lost: nobody else is ever given its number.

use dataplane_abi::drop_reason::SkipReason;
use dataplane_io::port::{PathSlot, Port};
use dataplane_shm::Segment;
use dataplane_srtp::{BATCH, Sealing};

use crate::hold::slab::Slab;
use crate::objects::cohort::BURST;
use crate::objects::egress::Egress;
use crate::objects::leg::Leg;
use crate::send::fates::Fates;
use crate::send::head::Heads;
use crate::send::rewrite::{
    Admitted, LONGEST_DATAGRAM, Outcome, Packet, Receiver, Shared, Written, admit, note_sent, refused, spend,
    write_media,
};
use crate::send::seal::seal_all;
use crate::worker::Now;

/// Bytes of a packet's place. An odd number of cache lines, so that the lanes, which work in step, are in sets of the cache
/// of their own.
const PLACE_BYTES: usize = 1472;

const _: () = assert!(PLACE_BYTES >= LONGEST_DATAGRAM && PLACE_BYTES % 128 == 64 && BATCH >= BURST);

/// A packet that is held.
#[derive(Clone, Copy)]
struct Held {
    /// Slots of the egress stream and of its leg.
    egress: u32,
    leg: u32,
    /// Place in the burst.
    nth: usize,
    path: PathSlot,
    index: u64,
    bound: usize,
    written: Written,
}

const NOBODY: Held = Held {
    egress: 0,
    leg: 0,
    nth: 0,
    path: PathSlot(0),
    index: 0,
    bound: 0,
    written: Written { head_len: 0, in_place: 0, of_payload: 0 },
};

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Place([u8; PLACE_BYTES]);

/// What is held: 16 × 1472 B = 23 KiB for each worker.
pub(crate) struct Lanes {
    places: [Place; BATCH],
    held: [Held; BATCH],
    count: usize,
}

impl Lanes {
    pub(crate) const fn new() -> Self {
        Self { places: [Place([0; PLACE_BYTES]); BATCH], held: [NOBODY; BATCH], count: 0 }
    }

    /// Packets that are held.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Takes the packets of a burst for a member, and sends what is held whenever no place is left.
    #[inline(never)]
    pub(crate) fn hold_all<P: Port>(
        &mut self,
        port: &mut P,
        (packets, heads): (&[Option<Packet<'_>>], &mut [Heads; BURST]),
        (egresses, legs, segment): (&mut Slab<Egress>, &mut Slab<Leg>, &Segment),
        (member, now, dscp): (u32, Now, u8),
        fates: &mut Fates<'_>,
    ) {
        for ((nth, packet), heads) in packets.iter().enumerate().zip(heads) {
            if self.count == BATCH {
                self.send(port, packets, (&mut *egresses, &mut *legs, segment), fates);
            }
            let receiver = Receiver::of(member, (&mut *egresses, &mut *legs, segment), dscp);
            let held = match (packet, receiver) {
                (Some(packet), Some(mut receiver)) => {
                    self.hold(port, &mut receiver, (packet, nth), (heads, member), now)
                }
                (None, _) => Err(SkipReason::NotInStore),
                (_, None) => Err(SkipReason::MemberLeft),
            };
            if let Err(reason) = held {
                fates.skip(1, reason);
            }
        }
    }

    /// Spends the number of a member's packet and writes its start; the packet is the `nth` of the burst.
    fn hold<P: Port>(
        &mut self,
        port: &mut P,
        receiver: &mut Receiver<'_>,
        (packet, nth): (&Packet<'_>, usize),
        (heads, egress): (&mut Heads, u32),
        now: Now,
    ) -> Result<(), SkipReason> {
        let Admitted { path, index, head } = admit(port, receiver, packet, heads, now)?;
        let bound = head.bound();
        // Of those held none has a frame yet, and others may have taken the last ones since.
        if port.room_for(path, bound) == 0 {
            return Err(SkipReason::TxFull);
        }
        let place = self.places.get_mut(self.count).and_then(|place| place.0.get_mut(..bound));
        let (Some(place), Some(held)) = (place, self.held.get_mut(self.count)) else { return Err(SkipReason::TooLong) };
        let last = spend(receiver, packet, index).ok_or(SkipReason::NumberSpent)?;
        if !packet.is_late {
            receiver.egress.last = last;
        }
        let written = write_media(place, receiver.egress, head, packet, index).ok_or(SkipReason::TooLong)?;
        *held = Held { egress, leg: receiver.egress.leg, nth, path, index, bound, written };
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Seals what is held and commits it, in the order in which it came; nothing is held afterwards.
    #[inline(never)]
    pub(crate) fn send<P: Port>(
        &mut self,
        port: &mut P,
        packets: &[Option<Packet<'_>>],
        (egresses, legs, segment): (&mut Slab<Egress>, &mut Slab<Leg>, &Segment),
        fates: &mut Fates<'_>,
    ) {
        let sealed = self.seal(packets, legs);
        let held = self.held.iter().take(std::mem::take(&mut self.count));
        for ((held, sealed), place) in held.zip(sealed).zip(&self.places) {
            let packet = packets.get(held.nth).and_then(Option::as_ref);
            let receiver = Receiver::of(held.egress, (&mut *egresses, &mut *legs, segment), 0);
            let (Some(packet), Some(mut receiver)) = (packet, receiver) else {
                fates.skip(1, SkipReason::MemberLeft);
                continue;
            };
            let outcome = match sealed.and_then(|len| place.0.get(..len)) {
                None => Outcome::Skipped(SkipReason::CipherRefused),
                Some(_) if !packet.stored.still_valid() => Outcome::Skipped(SkipReason::StoreLapped),
                Some(bytes) => commit(port, held, bytes),
            };
            if let Outcome::Sent(len) = outcome {
                note_sent(&mut receiver, packet, len);
            }
            fates.note(outcome, packet.info.arrival_ns);
        }
    }

    /// Seals what is held; the lengths, nothing where the cipher refused.
    fn seal(&mut self, packets: &[Option<Packet<'_>>], legs: &Slab<Leg>) -> [Option<usize>; BATCH] {
        let held = self.held.iter().take(self.count).zip(&mut self.places);
        let mut batch = [const { None }; BATCH];
        for (packet, (held, place)) in batch.iter_mut().zip(held) {
            let Held { leg, nth, index, bound, written, .. } = *held;
            let tx = legs.get(leg).and_then(|leg| leg.tx.as_ref());
            let (Some(tx), Some(shared), Some(out)) =
                (tx, packets.get(nth).and_then(Option::as_ref), place.0.get_mut(..bound))
            else {
                continue;
            };
            let rest = Shared(shared.stored.payload().slice(written.of_payload));
            *packet = Some(Sealing::new(tx, index, out, (written.head_len, written.in_place), rest));
        }
        seal_all(&mut batch);
        batch.map(|packet| packet.and_then(|packet| packet.sealed.ok()))
    }
}

/// Copies a sealed packet into a frame.
fn commit<P: Port>(port: &mut P, held: &Held, bytes: &[u8]) -> Outcome {
    let Some(frame) = port.reserve(held.path, held.bound).and_then(|frame| frame.get_mut(..bytes.len())) else {
        return Outcome::Skipped(refused(port, held.path, held.bound));
    };
    frame.copy_from_slice(bytes);
    port.commit(bytes.len());
    Outcome::Sent(bytes.len())
}

// SPDX-License-Identifier: Apache-2.0
//! A joiner that is served from the packet store: it reads from the cached keyframe with a cursor of its own and becomes a
//! member when it meets the cohort's (CONTRACTS 10 of the design). A cohort of one, without a packet queue.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::store::packet_flags;
use dataplane_io::port::Port;

use crate::counting::read;
use crate::objects::NONE;
use crate::objects::cohort::{Cohort, Current};
use crate::objects::egress::Feed;
use crate::receive::ingress::newest_keyframe;
use crate::send::rewrite::{Outcome, Packet};
use crate::send::switch::may_enter;
use crate::send::tile::Progress;
use crate::worker::{Now, Worker};

/// What may be sent at once: a keyframe's worth.
const BURST_BYTES: u32 = 128 * 1024;
/// Beyond the burst: 1.5 × the start estimate of 1 Mbit/s, and at least what streams run at.
const NS_PER_BYTE: u64 = 1000;
/// Packets of one receiver in one tile.
const PACKETS: usize = 16;

/// Where a receiver that catches up is, and what it may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    /// Next number to read in the log.
    cursor: u64,
    burst_ns: u64,
    /// Bytes that may be sent at once.
    burst_bytes: u32,
}

/// What is left to do for a receiver that catches up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// It needs no cursor of its own any more.
    Nothing,
    /// There is more to send, or the tile is full.
    More,
    /// It has had what it may get for now.
    Paced,
}

impl Worker {
    /// Begins to serve an egress stream from the cached keyframe; false where there is none that is young enough.
    pub(crate) fn catch_up_from_cache(&mut self, egress_slot: u32, cohort_slot: u32, now: Now) -> bool {
        let segment = Arc::clone(&self.segment);
        let Some((id, track)) = self.cohorts.get(cohort_slot).map(|cohort| (cohort.ingress, cohort.track)) else {
            return false;
        };
        let Some(durable) = segment.ingress(id) else { return false };
        let (keyframe, arrival_ns) = newest_keyframe(durable);
        if keyframe == 0
            || now.mono_ns.saturating_sub(arrival_ns) > self.config.keyframe_cache_ns
            || durable.generation.load(Ordering::Acquire) != track.generation
        {
            return false;
        }
        let log = durable.log.load(Ordering::Acquire);
        let ext_seq = keyframe.saturating_sub(1);
        let Some(stored) = segment.log_reader(log).and_then(|reader| reader.get(ext_seq)) else { return false };
        let Some(source) = self.origin_of(cohort_slot) else { return false };
        if !self.egresses.get(egress_slot).is_some_and(|egress| may_enter(egress, source, &stored.info(), &segment)) {
            return false;
        }
        if let Some(cohort) = self.cohorts.get(cohort_slot)
            && (!cohort.is_running || cohort.log != log)
        {
            if cohort.members.len() > 0 || cohort.is_mid_packet() {
                return false;
            }
            self.set_cohort(cohort_slot, log, read(&durable.stored_top));
        }
        let number = self.cohorts.get(cohort_slot).and_then(|cohort| cohort.numbers.number(&self.maps, ext_seq));
        let state = CatchUp { cursor: ext_seq, burst_ns: now.mono_ns, burst_bytes: BURST_BYTES };
        let Some(number) = number.filter(|_| self.begin_catch_up(egress_slot, state)) else { return false };
        self.begin_stretch(egress_slot, cohort_slot, number, &stored);
        if let Some(egress) = self.egresses.get_mut(egress_slot) {
            egress.feed = Feed::CatchUp;
            egress.cohort = cohort_slot;
        }
        if let Some(cohort) = self.cohorts.get_mut(cohort_slot) {
            cohort.catching_up = cohort.catching_up.saturating_add(1);
        }
        self.attach(cohort_slot, now);
        true
    }

    pub(crate) fn send_catching_up<P: Port>(&mut self, port: &mut P, now: Now, progress: &mut Progress) {
        self.paced = 0;
        for _ in 0..self.catching_up.len() {
            if progress.is_done() {
                return;
            }
            let Some(slot) = self.catching_up.pop() else { return };
            self.step();
            let is_going_on = self.egresses.get(slot).is_some_and(|egress| egress.feed == Feed::CatchUp);
            let left = if is_going_on { self.catch_up(port, slot, now, progress) } else { Left::Nothing };
            if left == Left::Nothing || !self.catching_up.push(slot) {
                self.forget_catch_up(slot);
            }
            self.paced = self.paced.saturating_add(usize::from(left == Left::Paced));
        }
    }

    /// Whether a receiver that is catching up could be sent something now.
    pub(crate) fn has_catch_up(&self) -> bool {
        self.catching_up.len() > self.paced
    }

    /// Puts an egress stream among those that are served with a cursor of their own; false where there is no room. A stream
    /// that went while it was there, and comes again, is there once.
    fn begin_catch_up(&mut self, slot: u32, state: CatchUp) -> bool {
        if let Some(known) = self.catch_up_of(slot).and_then(|at| self.catch_ups.get_mut(at)) {
            *known = state;
            return true;
        }
        let Ok(at) = self.catch_ups.insert(state) else { return false };
        let Some(place) = self.catch_up_at.get_mut(slot as usize) else { return false };
        *place = u16::try_from(at.saturating_add(1)).unwrap_or(0);
        let is_queued = self.catching_up.push(slot);
        if !is_queued {
            self.forget_catch_up(slot);
        }
        is_queued
    }

    fn catch_up_of(&self, slot: u32) -> Option<u32> {
        self.catch_up_at.get(slot as usize)?.checked_sub(1).map(u32::from)
    }

    fn forget_catch_up(&mut self, slot: u32) {
        let at = self.catch_up_of(slot);
        at.map(|at| self.catch_ups.remove(at));
        if let Some(place) = self.catch_up_at.get_mut(slot as usize) {
            *place = 0;
        }
    }

    /// Sends some packets to one receiver.
    fn catch_up<P: Port>(&mut self, port: &mut P, slot: u32, now: Now, progress: &mut Progress) -> Left {
        let segment = Arc::clone(&self.segment);
        let Some(at) = self.catch_up_of(slot) else { return Left::Nothing };
        for _ in 0..PACKETS {
            if progress.is_done() {
                return Left::More;
            }
            let (Some(egress), Some(state)) = (self.egresses.get(slot), self.catch_ups.get_mut(at)) else {
                return Left::Nothing;
            };
            let (cursor, cohort_slot, generation) = (state.cursor, egress.cohort, egress.generation);
            refill(&mut state.burst_bytes, &mut state.burst_ns, now);
            let may_send = state.burst_bytes > 0;
            let Some(cohort) = self.cohorts.get(cohort_slot).filter(|cohort| cohort.generation == generation) else {
                // The log began anew: the leg's timer finds another way in.
                self.stop_catching_up(slot);
                return Left::Nothing;
            };
            if cursor >= cohort.cursor {
                return if self.merge(slot, cohort_slot, now) { Left::Nothing } else { Left::More };
            }
            if !may_send {
                return Left::Paced;
            }
            let number = cohort.numbers.number(&self.maps, cursor);
            let stored = segment.log_reader(cohort.log).and_then(|reader| reader.get(cursor));
            let outcome = match (stored, number) {
                (Some(stored), Some(number)) if stored.info().flags & packet_flags::PADDING == 0 => {
                    let packet = Packet::of(Current { ext_seq: cursor, number, is_late: false }, stored);
                    Some(self.send_packet(port, slot, &packet, now))
                }
                _ => None,
            };
            if !self.settle_catch_up(at, outcome, progress) {
                return Left::More;
            }
        }
        Left::More
    }

    /// Counts an outcome and moves the receiver's cursor; false where the port is full.
    fn settle_catch_up(&mut self, at: u32, outcome: Option<Outcome>, progress: &mut Progress) -> bool {
        let mut sent = 0;
        if outcome == Some(Outcome::Full) {
            progress.is_full = true;
            return false;
        }
        if let Some(outcome) = outcome {
            self.offer(1);
            self.settle_member(outcome);
            if let Outcome::Sent(len) = outcome {
                sent = u32::try_from(len).unwrap_or(u32::MAX);
                progress.committed(len);
            }
        }
        if let Some(state) = self.catch_ups.get_mut(at) {
            state.cursor = state.cursor.saturating_add(1);
            state.burst_bytes = state.burst_bytes.saturating_sub(sent);
        }
        true
    }

    /// The cursors have met: from here on the receiver is a member. Only between packets.
    fn merge(&mut self, slot: u32, cohort_slot: u32, now: Now) -> bool {
        if self.cohorts.get(cohort_slot).is_some_and(Cohort::is_mid_packet) {
            return false;
        }
        if self.add_member(slot, cohort_slot, now) {
            // The membership has taken the place of the catch-up's own count.
            self.release_catch_up(cohort_slot);
        } else {
            self.stop_catching_up(slot);
        }
        true
    }

    /// Ends a catch-up before it has met its cohort.
    pub(crate) fn stop_catching_up(&mut self, slot: u32) {
        let Some(egress) = self.egresses.get_mut(slot) else { return };
        egress.feed = Feed::Idle;
        let (cohort_slot, generation) = (std::mem::replace(&mut egress.cohort, NONE), egress.generation);
        // A cohort of another generation that has the slot since never counted this stream, or counts it no more.
        if self.cohorts.get(cohort_slot).is_some_and(|cohort| cohort.generation == generation) {
            self.release_catch_up(cohort_slot);
        }
    }

    fn release_catch_up(&mut self, cohort_slot: u32) {
        if let Some(cohort) = self.cohorts.get_mut(cohort_slot) {
            cohort.catching_up = cohort.catching_up.saturating_sub(1);
        }
        self.detach(cohort_slot);
    }
}

/// Adds what time has allowed since; what is less than a byte is kept for the next time.
fn refill(bytes: &mut u32, at_ns: &mut u64, now: Now) {
    let gained = now.mono_ns.saturating_sub(*at_ns) / NS_PER_BYTE;
    *at_ns = at_ns.saturating_add(gained.saturating_mul(NS_PER_BYTE));
    *bytes = bytes.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(BURST_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_often_costs_a_joiner_nothing() {
        let (mut bytes, mut at_ns) = (0, 5_000);
        for step in 1..=10_000_u64 {
            refill(&mut bytes, &mut at_ns, Now { mono_ns: 5_000 + step * 137, ntp: 0 });
        }
        assert_eq!(bytes, 1370);
        refill(&mut bytes, &mut at_ns, Now { mono_ns: 10_000_000_000, ntp: 0 });
        assert_eq!(bytes, BURST_BYTES);
    }
}

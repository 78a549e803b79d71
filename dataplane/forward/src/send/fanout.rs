// SPDX-License-Identifier: Apache-2.0
//! A cohort's cursor: which packet is next, and to which member it goes next.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::durable::IngressDurable;
use dataplane_abi::store::packet_flags;
use dataplane_io::port::Port;
use dataplane_shm::Segment;
use dataplane_shm::prefetch::prefetch;
use dataplane_shm::store::{LogReader, Stored};
use dataplane_srtp::BATCH_LEAST;

use crate::counting::{bump, read};
use crate::hold::paged::PagePool;
use crate::hold::slab::Slab;
use crate::objects::cohort::{BURST, Burst, Cohort, Current};
use crate::objects::egress::{EGRESS_LINES, Egress};
use crate::objects::leg::{LEG_LINES, Leg};
use crate::objects::numbers::Intervals;
use crate::receive::ingress::newest_keyframe;
use crate::send::fates::Fates;
use crate::send::head::Heads;
use crate::send::rewrite::{Outcome, Packet, Receiver, send_to};
use crate::send::tile::Progress;
use crate::worker::{Now, Worker};

/// A cursor that is further behind than this skips to what is newest (CONTRACTS 1 of the design).
const AUDIO_LAG_NS: u64 = 100_000_000;
const VIDEO_LAG_NS: u64 = 500_000_000;
/// How many members ahead of their turn their records, what those name, and the keys in that are asked for.
const EGRESS_AHEAD: usize = 6;
const REST_AHEAD: usize = 4;
const KEY_AHEAD: usize = 2;
/// Cache lines of the durable record that a packet changes.
const DURABLE_LINES: usize = 2;
/// Missing or unwanted packets that one call passes over.
const STEPS: usize = 512;

/// How a cohort's run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Run {
    /// Nothing is left.
    Idle,
    /// The tile is full, the cohort is not done.
    More,
    /// The port has no room.
    Full,
}

/// What a cohort's cursor found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begun {
    /// A packet that somebody gets.
    Packet,
    /// Nothing is left.
    Nothing,
    /// Nothing so far, and enough for this tile.
    Later,
}

impl Worker {
    /// Sends packets of a cohort until the tile is full or nothing is left.
    pub(crate) fn run_cohort<P: Port>(&mut self, port: &mut P, slot: u32, now: Now, progress: &mut Progress) -> Run {
        let segment = Arc::clone(&self.segment);
        for _ in 0..STEPS {
            if progress.is_done() {
                return if progress.is_full { Run::Full } else { Run::More };
            }
            let is_mid_packet = self.cohorts.get(slot).is_some_and(Cohort::is_mid_packet);
            if !is_mid_packet {
                let most = progress.limit().min(port.tx_room());
                match self.begin_packet(&segment, slot, now, most) {
                    Begun::Packet => {}
                    Begun::Nothing => return Run::Idle,
                    Begun::Later => return Run::More,
                }
            } else if port.tx_room() < BURST {
                self.give_up_burst(slot, port.tx_room(), now);
            }
            if !self.continue_packets(port, slot, now, progress) {
                return if progress.is_full { Run::Full } else { Run::More };
            }
        }
        Run::More
    }

    /// Finds the next packets that somebody gets: what lies in the log without a gap, at most `most`.
    fn begin_packet(&mut self, segment: &Segment, slot: u32, now: Now, most: usize) -> Begun {
        let Some(reader) = self.open_reader(segment, slot, now) else { return Begun::Nothing };
        if self.begin_late(reader, slot) {
            return Begun::Packet;
        }
        let Some(id) = self.cohorts.get(slot).map(|cohort| cohort.ingress) else { return Begun::Nothing };
        let Some(durable) = segment.ingress(id) else { return Begun::Nothing };
        for _ in 0..STEPS {
            let Some(cohort) = self.cohorts.get_mut(slot) else { return Begun::Nothing };
            let cursor = cohort.cursor;
            if cursor >= durable.stored_top.load(Ordering::Acquire) {
                return Begun::Nothing;
            }
            let Some(stored) = reader.get(cursor) else {
                // MEDIA_RULES G3: what is missing leaves a gap; if it comes, it comes as a late packet.
                cohort.cursor = cursor.saturating_add(1);
                continue;
            };
            let info = stored.info();
            if info.flags & packet_flags::PADDING != 0 {
                cohort.numbers.close(&mut self.maps, cursor.saturating_add(1), 1);
                cohort.cursor = cursor.saturating_add(1);
                continue;
            }
            if self.is_over_lag(slot, info.arrival_ns, now) && self.skip_lag(durable, slot, now) {
                continue;
            }
            self.admit_at_entry(slot, cursor, &stored, now);
            let Some(cohort) = self.cohorts.get_mut(slot) else { return Begun::Nothing };
            cohort.cursor = cursor.saturating_add(1);
            let (members, number) = (cohort.members.len(), cohort.numbers.number(&self.maps, cursor));
            let Some(number) = number.filter(|_| members > 0) else { continue };
            let mut burst = Burst::of(Current { ext_seq: cursor, number, is_late: false });
            let top = durable.stored_top.load(Ordering::Acquire);
            while burst.len() < most.min(BURST) && cohort.cursor < top {
                let Some(next) = follower(cohort, &self.maps, reader, now).filter(|next| burst.push(*next)) else {
                    break;
                };
                cohort.cursor = next.ext_seq.saturating_add(1);
            }
            cohort.begin_burst(burst);
            self.offer(u64::from(members).saturating_mul(burst.len() as u64));
            return Begun::Packet;
        }
        Begun::Later
    }

    /// Lets in who waits, where a decoder can begin at this packet.
    fn admit_at_entry(&mut self, slot: u32, ext_seq: u64, stored: &Stored<'_>, now: Now) {
        let number = self.cohorts.get(slot).and_then(|cohort| {
            let is_entry = is_entry(cohort, stored.info().flags);
            if is_entry && cohort.waiting.len() > 0 { cohort.numbers.number(&self.maps, ext_seq) } else { None }
        });
        if let Some(number) = number {
            self.admit_waiting(slot, number, stored, now);
        }
    }

    /// A reader of the cohort's log; a log that is another one than before begins the cohort anew.
    fn open_reader<'s>(&mut self, segment: &'s Segment, slot: u32, now: Now) -> Option<LogReader<'s>> {
        let cohort = self.cohorts.get_mut(slot)?;
        if cohort.attached == 0 {
            return None;
        }
        let durable = segment.ingress(cohort.ingress)?;
        if durable.generation.load(Ordering::Acquire) != cohort.track.generation {
            return None;
        }
        let log = durable.log.load(Ordering::Acquire);
        let reader = segment.log_reader(log)?;
        if cohort.is_running && cohort.log == log {
            return Some(reader);
        }
        self.start_cohort(slot, log, durable, now);
        Some(reader)
    }

    /// Begins to read a log: at its newest keyframe where that came just now, else at the newest packet. An older keyframe
    /// is for those that catch up at their own pace.
    fn start_cohort(&mut self, slot: u32, log: u64, durable: &IngressDurable, now: Now) {
        while let Some(member) = self.cohorts.get(slot).and_then(|cohort| cohort.members.get(&self.pages, 0)) {
            self.remove_member(member);
            self.wait_for(member, slot, now);
        }
        let newest = read(&durable.stored_top).saturating_sub(1);
        let (keyframe, arrival_ns) = newest_keyframe(durable);
        let (keyframe, age) = (keyframe.checked_sub(1), now.mono_ns.saturating_sub(arrival_ns));
        let Some(kind) = self.cohorts.get(slot).map(|cohort| cohort.kind) else { return };
        let entry = keyframe.filter(|_| kind == MediaKind::Video && age < VIDEO_LAG_NS);
        self.set_cohort(slot, log, entry.unwrap_or(newest));
    }

    /// Gives a cohort that does not run a cursor. The log that it had before means the same numbers as before, so that those
    /// who left can still ask for what they missed.
    pub(crate) fn set_cohort(&mut self, slot: u32, log: u64, cursor: u64) {
        match self.cohorts.get_mut(slot) {
            Some(cohort) if !cohort.is_running && cohort.log == log => cohort.go_on(cursor),
            _ => self.restart_cohort(slot, log, cursor),
        }
    }

    /// Gives a cohort a log and a cursor, and a generation of its own: no number of before means anything.
    fn restart_cohort(&mut self, slot: u32, log: u64, cursor: u64) {
        self.cohort_generation = self.cohort_generation.wrapping_add(1).max(1);
        let generation = self.cohort_generation;
        let Some(cohort) = self.cohorts.get_mut(slot) else { return };
        // Those that were catching up see that the generation is another one, and start over.
        cohort.attached = cohort.attached.saturating_sub(std::mem::take(&mut cohort.catching_up));
        cohort.clear_late();
        cohort.generation = generation;
        cohort.numbers.forget(&mut self.maps);
        cohort.log = log;
        cohort.is_running = true;
        cohort.end_burst();
        cohort.cursor = cursor;
    }

    /// Late packets: behind the cursor, in the log, not closed.
    fn begin_late(&mut self, reader: LogReader<'_>, slot: u32) -> bool {
        while let Some(cohort) = self.cohorts.get_mut(slot) {
            let Some(ext_seq) = cohort.pop_late() else { return false };
            if ext_seq >= cohort.cursor || cohort.members.len() == 0 {
                continue;
            }
            let is_media = reader.get(ext_seq).is_some_and(|stored| stored.info().flags & packet_flags::PADDING == 0);
            let Some(number) = cohort.numbers.number(&self.maps, ext_seq).filter(|_| is_media) else { continue };
            cohort.begin_burst(Burst::of(Current { ext_seq, number, is_late: true }));
            let members = cohort.members.len();
            self.offer(u64::from(members));
            return true;
        }
        false
    }

    fn is_over_lag(&self, slot: u32, arrival_ns: u64, now: Now) -> bool {
        self.cohorts.get(slot).is_some_and(|cohort| cohort.members.len() > 0 && lags(cohort, arrival_ns, now))
    }

    /// Moves the cursor to the newest decodable frame; true where it moved. The skipped numbers are closed but for one, so
    /// that receivers see the last frame as incomplete (MEDIA_RULES G4).
    fn skip_lag(&mut self, durable: &IngressDurable, slot: u32, now: Now) -> bool {
        let Some(cohort) = self.cohorts.get_mut(slot) else { return false };
        let newest = read(&durable.stored_top).saturating_sub(1);
        let target = match cohort.kind {
            MediaKind::Audio => newest,
            MediaKind::Video => read(&durable.keyframe).saturating_sub(1),
        };
        let (from, members, id) = (cohort.cursor, u64::from(cohort.members.len()), cohort.ingress);
        if target <= from {
            if cohort.kind == MediaKind::Video {
                self.ask_keyframe(id, now);
            }
            return false;
        }
        let skipped = target.saturating_sub(from);
        cohort.numbers.close(&mut self.maps, target, skipped.saturating_sub(1));
        cohort.cursor = target;
        self.count(|counters| bump(&counters.lag_skips));
        self.skip_unoffered(skipped.saturating_mul(members), SkipReason::LagCap);
        true
    }

    /// A burst that waits for more room than the port has, longer than the lag cap allows: those that it did not reach go without.
    fn give_up_burst(&mut self, slot: u32, room: usize, now: Now) {
        let Self { segment, cohorts, .. } = self;
        let Some(cohort) = cohorts.get_mut(slot).filter(|cohort| cohort.burst().len() > room.max(1)) else { return };
        let first = cohort.burst().packets().first().map(|packet| packet.ext_seq);
        let stored = segment.log_reader(cohort.log).and_then(|reader| reader.get(first?));
        if stored.is_some_and(|stored| lags(cohort, stored.info().arrival_ns, now)) {
            let pending = cohort.pending();
            cohort.end_burst();
            self.settle_skipped(pending, SkipReason::LagCap);
        }
    }

    /// Gives the packets under way to further members, all of them to one before the next; true when all have had them.
    fn continue_packets<P: Port>(&mut self, port: &mut P, slot: u32, now: Now, progress: &mut Progress) -> bool {
        let Self { segment, cohorts, egresses, legs, pages, heads, lanes, config, arrivals, arrival_count, .. } = self;
        let Some(cohort) = cohorts.get_mut(slot) else { return true };
        let reader = segment.log_reader(cohort.log);
        let burst = cohort.burst().packets();
        let packets: [Option<Packet<'_>>; BURST] = core::array::from_fn(|at| {
            let current = burst.get(at)?;
            Some(Packet::of(*current, reader?.get(current.ext_seq)?))
        });
        let packets = packets.get(..burst.len()).unwrap_or(&[]);
        heads.iter_mut().take(packets.len()).for_each(Heads::clear);
        let mut fates = Fates::new(progress, arrivals, arrival_count);
        let mut room = port.tx_room();
        let mut window = Window::at(cohort, pages);
        for member in window.members.iter().flatten() {
            egresses.prefetch(*member, EGRESS_LINES);
        }
        // Fewer fill no lanes, and would be copied for nothing.
        let is_together = cohort.pending() >= BATCH_LEAST as u64;
        let mut is_done = true;
        while let Some(member) = window.members[0] {
            if room < packets.len() {
                room = port.tx_room().saturating_sub(lanes.len());
                fates.progress.is_full |= room < packets.len();
            }
            if !fates.progress.has_room_for(packets.len().saturating_add(lanes.len())) {
                is_done = false;
                break;
            }
            window.ask((egresses, legs, segment));
            cohort.position = cohort.position.saturating_add(1);
            window.advance(cohort, pages);
            let Some(mut receiver) = Receiver::of(member, (egresses, legs, segment), config.dscp) else {
                fates.skip(packets.len() as u64, SkipReason::MemberLeft);
                continue;
            };
            if is_together && receiver.has_lanes() {
                let whom = (member, now, config.dscp);
                lanes.hold_all(port, (packets, heads), (egresses, legs, segment), whom, &mut fates);
                room = room.saturating_sub(packets.len());
                continue;
            }
            for (packet, heads) in packets.iter().zip(heads.iter_mut()) {
                let outcome = match packet {
                    Some(packet) => send_to(port, &mut receiver, packet, heads, now),
                    None => Outcome::Skipped(SkipReason::NotInStore),
                };
                room = room.saturating_sub(usize::from(matches!(outcome, Outcome::Sent(_))));
                fates.note(outcome, packet.as_ref().map_or(0, |packet| packet.info.arrival_ns));
            }
        }
        if lanes.len() != 0 {
            lanes.send(port, packets, (egresses, legs, segment), &mut fates);
        }
        if is_done {
            cohort.end_burst();
        }
        let tally = fates.tally;
        self.settle_tally(&tally);
        is_done
    }
}

/// The packet at the cursor, where it may follow others in a burst: it is there, media, in time, and lets nobody in.
fn follower(cohort: &Cohort, maps: &Slab<Intervals>, reader: LogReader<'_>, now: Now) -> Option<Current> {
    let ext_seq = cohort.cursor;
    let info = reader.get(ext_seq)?.info();
    let is_entry = cohort.waiting.len() > 0 && is_entry(cohort, info.flags);
    if info.flags & packet_flags::PADDING != 0 || is_entry || lags(cohort, info.arrival_ns, now) {
        return None;
    }
    Some(Current { ext_seq, number: cohort.numbers.number(maps, ext_seq)?, is_late: false })
}

/// Whether a decoder can begin at a packet with these flags.
fn is_entry(cohort: &Cohort, flags: u32) -> bool {
    cohort.kind == MediaKind::Audio || flags & packet_flags::KEYFRAME != 0
}

/// Whether a packet is older than the lag cap.
fn lags(cohort: &Cohort, arrival_ns: u64, now: Now) -> bool {
    let cap = if cohort.kind == MediaKind::Audio { AUDIO_LAG_NS } else { VIDEO_LAG_NS };
    now.mono_ns.saturating_sub(arrival_ns) > cap
}

/// The member whose turn it is and those behind it: a list's entry is found once, not once for each thing that is asked for.
struct Window {
    members: [Option<u32>; EGRESS_AHEAD + 1],
    /// Position of the member behind these.
    next: u32,
}

impl Window {
    /// From the cohort's position on.
    fn at(cohort: &Cohort, pages: &PagePool) -> Self {
        let mut window = Self { members: [None; EGRESS_AHEAD + 1], next: cohort.position };
        for _ in 0..=EGRESS_AHEAD {
            window.advance(cohort, pages);
        }
        window
    }

    #[inline]
    fn advance(&mut self, cohort: &Cohort, pages: &PagePool) {
        self.members.copy_within(1.., 0);
        self.members[EGRESS_AHEAD] = cohort.members.get(pages, self.next);
        self.next = self.next.saturating_add(1);
    }

    /// Asks for the record of the last member, for what a nearer one's names, and for the key of one that is nearer still.
    #[inline]
    fn ask(&self, (egresses, legs, segment): (&Slab<Egress>, &Slab<Leg>, &Segment)) {
        if let Some(member) = self.members[EGRESS_AHEAD] {
            egresses.prefetch(member, EGRESS_LINES);
        }
        if let Some(egress) = self.members[REST_AHEAD].and_then(|member| egresses.get(member)) {
            legs.prefetch(egress.leg, LEG_LINES);
            if let Some(durable) = segment.egress(egress.subscription.slot) {
                prefetch(durable, DURABLE_LINES);
            }
        }
        let leg = self.members[KEY_AHEAD].and_then(|member| legs.get(egresses.get(member)?.leg));
        if let Some(tx) = leg.and_then(|leg| leg.tx.as_ref()) {
            tx.prefetch();
        }
    }
}

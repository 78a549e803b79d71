// SPDX-License-Identifier: Apache-2.0
//! A cohort: the receivers of one source and encoding at one worker, which share decisions, numbers and a cursor.

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::{IngressId, TrackRef};

use crate::hold::paged::PagedList;
use crate::objects::numbers::Numbers;

const LATE: usize = 32;

/// A packet that is being sent to the members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Current {
    pub(crate) ext_seq: u64,
    pub(crate) number: u64,
    pub(crate) is_late: bool,
}

/// Packets that go to each member in a row: one load of a member's record and key serves them all.
pub(crate) const BURST: usize = 8;

/// The packets that are being sent to the members, in the order of their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    packets: [Current; BURST],
    count: usize,
}

impl Burst {
    const NONE: Self = Self { packets: [Current { ext_seq: 0, number: 0, is_late: false }; BURST], count: 0 };

    /// One packet.
    pub(crate) fn of(packet: Current) -> Self {
        let mut burst = Self::NONE;
        burst.push(packet);
        burst
    }

    /// Adds a packet; false where there is no room.
    pub(crate) fn push(&mut self, packet: Current) -> bool {
        let Some(place) = self.packets.get_mut(self.count) else { return false };
        *place = packet;
        self.count = self.count.saturating_add(1);
        true
    }

    pub(crate) fn packets(&self) -> &[Current] {
        self.packets.get(..self.count).unwrap_or(&[])
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }
}

/// The lower half of a number.
fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

/// Receivers of one ingress stream at this worker.
pub(crate) struct Cohort {
    pub(crate) ingress: IngressId,
    pub(crate) track: TrackRef,
    pub(crate) kind: MediaKind,
    /// Grows when the numbering begins anew.
    pub(crate) generation: u32,
    /// Value of `IngressDurable::log` that the cursor belongs to.
    pub(crate) log: u64,
    /// Next number to begin.
    pub(crate) cursor: u64,
    /// The cursor has a place: the log was there when the cohort began to run.
    pub(crate) is_running: bool,
    burst: Burst,
    /// Next member for the burst.
    pub(crate) position: u32,
    pub(crate) members: PagedList,
    pub(crate) waiting: PagedList,
    /// Egress streams that use this cohort's numbers or wait for it: members, catching up, waiting.
    pub(crate) attached: u32,
    /// Those of them that are catching up.
    pub(crate) catching_up: u32,
    pub(crate) numbers: Numbers,
    /// By the low halves of their numbers: none lies half a circle from the cursor.
    late: [u32; LATE],
    late_count: usize,
    /// It is in a run queue.
    pub(crate) is_queued: bool,
    /// A keyframe was asked for on behalf of those that wait.
    pub(crate) asked_ns: u64,
    /// When the publisher's worker was last told that there are receivers here; 0 = not.
    pub(crate) interest_ns: u64,
}

impl Cohort {
    pub(crate) fn new(ingress: IngressId, track: TrackRef, kind: MediaKind, generation: u32) -> Self {
        Self {
            ingress,
            track,
            kind,
            generation,
            log: 0,
            cursor: 0,
            is_running: false,
            burst: Burst::NONE,
            position: 0,
            members: PagedList::new(),
            waiting: PagedList::new(),
            attached: 0,
            catching_up: 0,
            numbers: Numbers::new(),
            late: [0; LATE],
            late_count: 0,
            is_queued: false,
            asked_ns: 0,
            interest_ns: 0,
        }
    }

    /// Runs again after a pause, with the numbering that it had.
    pub(crate) fn go_on(&mut self, cursor: u64) {
        self.is_running = true;
        self.end_burst();
        self.cursor = cursor;
        self.clear_late();
    }

    /// Remembers a packet that arrived behind the cursor. Beyond 32 the repair is left to NACK and RTX.
    pub(crate) fn push_late(&mut self, ext_seq: u64) {
        if let Some(place) = self.late.get_mut(self.late_count) {
            *place = low_half(ext_seq);
            self.late_count = self.late_count.saturating_add(1);
        }
    }

    /// The next late packet, in the order of their arrival.
    pub(crate) fn pop_late(&mut self) -> Option<u64> {
        self.late_count = self.late_count.checked_sub(1)?;
        let [first, ..] = self.late;
        self.late.copy_within(1.., 0);
        let ahead = first.wrapping_sub(low_half(self.cursor)).cast_signed();
        self.cursor.checked_add_signed(i64::from(ahead))
    }

    /// Forgets late packets: they are another log's.
    pub(crate) fn clear_late(&mut self) {
        self.late_count = 0;
    }

    /// The packets under way; empty between packets.
    pub(crate) const fn burst(&self) -> &Burst {
        &self.burst
    }

    /// Whether packets are under way.
    pub(crate) const fn is_mid_packet(&self) -> bool {
        self.burst.len() != 0
    }

    /// Packets begin at the first member.
    pub(crate) const fn begin_burst(&mut self, burst: Burst) {
        self.burst = burst;
        self.position = 0;
    }

    /// All members have had the packets, or none will.
    pub(crate) const fn end_burst(&mut self) {
        self.begin_burst(Burst::NONE);
    }

    /// Members that the packets under way have not reached, once for each packet.
    pub(crate) fn pending(&self) -> u64 {
        u64::from(self.members.len().saturating_sub(self.position)).saturating_mul(self.burst.len() as u64)
    }
}

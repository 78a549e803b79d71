// SPDX-License-Identifier: Apache-2.0
//! One tile: replies, DTLS and RTCP first, then audio, retransmissions, video, catching up. The daemon calls it until its time is
//! spent or nothing is left.

use dataplane_abi::limits::TILE;
use dataplane_abi::ring::DATAGRAM_SLOT_BYTES;
use dataplane_io::port::{Ecn, PathSlot, Port};

use crate::counting::{add, bump};
use crate::objects::leg::path_of;
use crate::send::fanout::Run;
use crate::worker::{Now, Worker};

/// What is left after a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tile {
    /// Frames that were committed and flushed.
    pub frames: usize,
    /// There is more to send.
    pub is_more: bool,
    /// The port had no room.
    pub is_full: bool,
}

/// The tile under way.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    /// Frames that it may have.
    limit: usize,
    pub(crate) frames: usize,
    pub(crate) bytes: u64,
    pub(crate) is_full: bool,
}

impl Progress {
    /// A tile of at most `limit` frames.
    pub(crate) const fn of(limit: usize) -> Self {
        Self { limit: if limit < TILE { limit } else { TILE }, frames: 0, bytes: 0, is_full: false }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.is_full || self.frames >= self.limit
    }

    /// Frames that a tile has at most.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether `frames` more belong to it.
    pub(crate) const fn has_room_for(&self, frames: usize) -> bool {
        !self.is_full && self.frames.saturating_add(frames) <= self.limit
    }

    pub(crate) fn committed(&mut self, len: usize) {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
    }
}

impl Worker {
    /// Sends one tile: at most 128 frames, flushed once. Every number in them is stored before the flush.
    pub fn transmit<P: Port>(&mut self, port: &mut P, now: Now) -> Tile {
        let mut progress = Progress::of(self.config.tile_frames);
        self.arrival_count = 0;
        while let Some(path) = self.closed_paths.pop() {
            port.close_path(path);
        }
        self.send_replies(port, &mut progress);
        self.send_injected(port, &mut progress);
        self.serve_timers(port, now, &mut progress);
        self.send_queue(port, now, &mut progress, true);
        self.send_retransmissions(port, now, &mut progress);
        self.send_queue(port, now, &mut progress, false);
        self.send_catching_up(port, now, &mut progress);
        self.finish(port, &progress);
        let is_more = self.has_queued() || self.has_catch_up();
        Tile { frames: progress.frames, is_more, is_full: progress.is_full }
    }

    fn has_queued(&self) -> bool {
        !(self.replies.is_empty()
            && self.audio.is_empty()
            && self.rtx.is_empty()
            && self.video.is_empty()
            && self.injects.is_empty())
    }

    /// Time until a timer is due, at most `most_ns`. None is left where something waits that nothing wakes the worker for:
    /// for room on the port, for a receiver's pace, or for the next keyframe request that may be sent.
    #[must_use]
    pub fn rest_ns(&self, now: Now, most_ns: u64) -> u64 {
        let is_waiting =
            self.has_queued() || !(self.catching_up.is_empty() && self.keyframes.is_empty() && self.byes.is_empty());
        if is_waiting { 0 } else { self.wheel.left_ns(now.mono_ns, most_ns) }
    }

    /// Makes what was committed visible, and counts it.
    pub(crate) fn finish<P: Port>(&mut self, port: &mut P, progress: &Progress) {
        if progress.frames == 0 {
            return;
        }
        let flushed = port.flush();
        self.count(|counters| {
            add(&counters.tx_packets, progress.frames as u64);
            add(&counters.tx_bytes, progress.bytes);
            add(&counters.tx_errors, u64::from(flushed.errors));
        });
    }

    fn send_replies<P: Port>(&mut self, port: &mut P, progress: &mut Progress) {
        while !progress.is_done() {
            let Some(reply) = self.replies.pop() else { return };
            self.step();
            let known = self.leg_of(reply.transport).and_then(|leg| self.legs.get_mut(leg)).and_then(|leg| {
                let index = path_of(self.segment.transport(reply.transport.slot)?, &reply.flow)?;
                leg.open_path_at(index, &self.segment, self.config.dscp, port)
            });
            // A refused check (420, 487) is answered without being admitted: on a path for this one answer.
            let passing = known.is_none().then(|| port.open_path(&reply.flow, self.config.dscp, Ecn::default()).ok());
            let passing = passing.flatten();
            let sent = known.or(passing).map(|path| give(port, path, reply.bytes.get(..reply.len)));
            if let Some(path) = passing {
                port.close_path(path);
            }
            match sent {
                Some(Given::Committed) => progress.committed(reply.len),
                Some(Given::Full) => {
                    progress.is_full = true;
                    if !self.replies.push_front(reply) {
                        self.count(|counters| bump(&counters.reply_lost));
                    }
                    return;
                }
                Some(Given::Refused) | None => {
                    self.count(|counters| bump(&counters.reply_lost));
                }
            }
        }
    }

    /// DTLS that the control plane wants sent, on the path in use.
    fn send_injected<P: Port>(&mut self, port: &mut P, progress: &mut Progress) {
        while !progress.is_done() {
            let Some(packet) = self.injects.pop() else { return };
            self.step();
            let len = (packet.len as usize).min(DATAGRAM_SLOT_BYTES);
            let Some(leg) = self.leg_of(packet.transport) else {
                self.count(|counters| bump(&counters.stale_references));
                continue;
            };
            let Some(path) = self.active_path(leg, port) else { continue };
            match give(port, path, packet.bytes.get(..len)) {
                Given::Committed => {
                    progress.committed(len);
                    self.count(|counters| bump(&counters.injected));
                }
                Given::Full => {
                    // Lossy by contract: DTLS sends again.
                    progress.is_full = true;
                    return;
                }
                Given::Refused => {}
            }
        }
    }

    /// The path in use of a leg, opened on the port at first use.
    pub(crate) fn active_path<P: Port>(&mut self, leg: u32, port: &mut P) -> Option<PathSlot> {
        let dscp = self.config.dscp;
        self.legs.get_mut(leg)?.open_path(&self.segment, dscp, port)
    }

    fn send_queue<P: Port>(&mut self, port: &mut P, now: Now, progress: &mut Progress, is_audio: bool) {
        let rounds = if is_audio { self.audio.len() } else { self.video.len() };
        for _ in 0..rounds {
            if progress.is_done() {
                break;
            }
            let popped = if is_audio { self.audio.pop() } else { self.video.pop() };
            let Some(slot) = popped else { break };
            self.step();
            let run = self.run_cohort(port, slot, now, progress);
            self.rehearsal.run(is_audio, slot);
            let queue = if is_audio { &mut self.audio } else { &mut self.video };
            let is_kept = match run {
                Run::Idle => false,
                Run::Full => queue.push_front(slot),
                Run::More => queue.push(slot),
            };
            if let Some(cohort) = self.cohorts.get_mut(slot) {
                cohort.is_queued = is_kept;
            }
        }
    }
}

/// What a port did with a datagram.
enum Given {
    Committed,
    /// No room: it may be tried again.
    Full,
    /// The port does not take it, now or later.
    Refused,
}

/// Commits one datagram.
fn give<P: Port>(port: &mut P, path: PathSlot, bytes: Option<&[u8]>) -> Given {
    let Some(bytes) = bytes else { return Given::Refused };
    if port.tx_room() == 0 {
        return Given::Full;
    }
    let Some(start) = port.reserve(path, bytes.len()).and_then(|frame| frame.get_mut(..bytes.len())) else {
        return Given::Refused;
    };
    start.copy_from_slice(bytes);
    port.commit(bytes.len());
    Given::Committed
}

// SPDX-License-Identifier: Apache-2.0
//! Keyframe requests: wishes of all receivers of all workers meet at the source's owner, which alone throttles and sends
//! (CONTRACTS 16 of the design, RELIABILITY S15).

use std::sync::Arc;

use dataplane_abi::codec::feedback_flags;
use dataplane_abi::ids::IngressId;
use dataplane_abi::ring::doorbell_kind;
use dataplane_io::port::Port;
use dataplane_wire::rtcp::{CompoundWriter, FirEntry};

use crate::counting::bump;
use crate::send::tile::Progress;
use crate::worker::{Now, Worker};

/// One request per encoding in this time.
const THROTTLE_NS: u64 = 500_000_000;

impl Worker {
    /// Asks for a keyframe of a stream: here where the publisher is ours, else at its owner's.
    pub(crate) fn ask_keyframe(&mut self, id: IngressId, now: Now) {
        if self.ingress_of(id).is_some() {
            self.want_keyframe(id, now);
            return;
        }
        let Some(cohort) = self.cohort_of(id).and_then(|slot| self.cohorts.get_mut(slot)) else { return };
        if cohort.asked_ns != 0 && now.mono_ns.saturating_sub(cohort.asked_ns) < THROTTLE_NS / 4 {
            return;
        }
        cohort.asked_ns = now.mono_ns;
        if let Some(owner) = self.other_owner(id) {
            self.ring(owner, id, doorbell_kind::KEYFRAME, u64::from(self.config.worker.0));
        }
    }

    /// Sends what is wished for and not throttled.
    pub(crate) fn send_keyframe_requests<P: Port>(&mut self, port: &mut P, now: Now, progress: &mut Progress) {
        for _ in 0..self.keyframes.len() {
            let Some(slot) = self.keyframes.pop() else { return };
            self.step();
            let Some(ingress) = self.ingresses.get_mut(slot) else { continue };
            if !ingress.keyframe_wanted {
                continue;
            }
            let is_throttled =
                ingress.keyframe_asked_ns != 0 && now.mono_ns.saturating_sub(ingress.keyframe_asked_ns) < THROTTLE_NS;
            if is_throttled || progress.is_done() || !self.send_keyframe_request(port, slot, now, progress) {
                self.keyframes.push(slot);
            }
        }
    }

    /// PLI where it was agreed, else FIR; false where it has to be tried again.
    fn send_keyframe_request<P: Port>(&mut self, port: &mut P, slot: u32, now: Now, progress: &mut Progress) -> bool {
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(slot) else { return true };
        let Some(durable) = segment.ingress(ingress.id) else { return true };
        let ssrc = durable.ssrc.load(core::sync::atomic::Ordering::Relaxed);
        if ssrc == 0 {
            // Nothing has been received: the encoder starts with a keyframe anyway.
            ingress.keyframe_wanted = false;
            return true;
        }
        let leg = ingress.leg;
        let Some(sender) = self.legs.get(leg).map(|leg| leg.rtcp_ssrc) else { return true };
        let mut plain = [0; 64];
        let mut writer = CompoundWriter::begin(&mut plain);
        if writer.rr(sender, &[]).is_err() {
            return true;
        }
        let written = if ingress.feedback & feedback_flags::PLI != 0 {
            writer.pli(sender, ssrc)
        } else if ingress.feedback & feedback_flags::FIR != 0 {
            ingress.fir_seq = ingress.fir_seq.wrapping_add(1);
            writer.fir(sender, &[FirEntry { ssrc, command_seq: ingress.fir_seq }])
        } else {
            ingress.keyframe_wanted = false;
            return true;
        };
        let len = writer.len();
        if written.is_err() || !self.send_rtcp(port, leg, plain.get(..len).unwrap_or(&[]), progress) {
            return false;
        }
        bump(&durable.keyframe_requests);
        if let Some(ingress) = self.ingresses.get_mut(slot) {
            ingress.keyframe_wanted = false;
            ingress.keyframe_asked_ns = now.mono_ns;
        }
        true
    }
}

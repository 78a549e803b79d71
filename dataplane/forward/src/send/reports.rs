// SPDX-License-Identifier: Apache-2.0
//! Timers of a leg, and the RTCP that they send: transport-cc, NACK and receiver reports to publishers, sender reports with
//! CNAME to receivers, one compound packet per leg (CONTRACTS 21 of the design). Consent expires here.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::{feedback_flags, transport_flags};
use dataplane_abi::durable::transport_state;
use dataplane_abi::ids::{IngressId, TrackRef};
use dataplane_abi::limits::ENCODINGS;
use dataplane_abi::ring::event_kind;
use dataplane_io::port::Port;
use dataplane_shm::publish;
use dataplane_shm::store::Keep;
use dataplane_wire::rtcp::{CompoundWriter, ReportBlock, SenderReport};

use crate::changes::records::source_of;
use crate::counting::{add, bump, read};
use crate::receive::feedback::ns_to_ntp;
use crate::receive::missing::Missing;
use crate::reported::Reported;
use crate::send::tile::Progress;
use crate::worker::{Now, Worker};

/// Timers that one turn serves.
const EXPIRIES: usize = 256;
const PUBLISHER_NS: u64 = 20_000_000;
const RECEIVER_NS: u64 = 100_000_000;
const TWCC_NS: u64 = 50_000_000;
const REPORT_NS: u64 = 1_000_000_000;
/// RFC 7675 §5.1.
const CONSENT_NS: u64 = 30_000_000_000;
/// Longest compound packet before protection.
const RTCP_BYTES: usize = 1200;
/// A sender report without blocks and a CNAME of 32 bytes.
const LONGEST_REPORT: usize = 28 + 44;
const SRTCP_OVERHEAD: usize = 20;
const NACKS: usize = 128;
/// The highest SRTCP index (RFC 3711 §3.4).
const LAST_SRTCP_INDEX: u64 = 0x7fff_ffff;

impl Worker {
    /// Serves the timers whose time has come, and keyframe requests. Returns the frames sent.
    pub fn timers<P: Port>(&mut self, port: &mut P, now: Now) -> usize {
        let mut progress = Progress::of(self.config.tile_frames);
        self.serve_timers(port, now, &mut progress);
        self.finish(port, &progress);
        progress.frames
    }

    /// What timers send goes before media in each tile, so that a port which media keeps full does not silence RTCP. A timer
    /// waits for room: it would have to come again otherwise.
    pub(crate) fn serve_timers<P: Port>(&mut self, port: &mut P, now: Now, progress: &mut Progress) {
        self.send_keyframe_requests(port, now, progress);
        self.send_byes(port, progress);
        for _ in 0..EXPIRIES {
            if progress.is_done() || port.tx_room() == 0 {
                return;
            }
            let Some(leg) = self.wheel.expire(now.mono_ns) else { return };
            self.step();
            self.leg_timer(port, leg, now, progress);
        }
    }

    /// BYE for slots that closed (MEDIA_RULES G10): the receiver need not wait for a timeout (RFC 3550 §6.6).
    fn send_byes<P: Port>(&mut self, port: &mut P, progress: &mut Progress) {
        while !progress.is_done() && port.tx_room() > 0 {
            let Some((transport, ssrc)) = self.byes.pop() else { return };
            self.step();
            let Some(leg) = self.leg_of(transport) else { continue };
            let Some(sender) = self.legs.get(leg).map(|leg| leg.rtcp_ssrc) else { continue };
            let mut plain = [0; 64];
            let mut writer = CompoundWriter::begin(&mut plain);
            if writer.rr(sender, &[]).is_ok() && writer.bye(&[ssrc]).is_ok() {
                let len = writer.len();
                self.send_rtcp(port, leg, plain.get(..len).unwrap_or(&[]), progress);
            }
        }
    }

    fn leg_timer<P: Port>(&mut self, port: &mut P, leg_slot: u32, now: Now, progress: &mut Progress) {
        let Some(leg) = self.legs.get(leg_slot) else { return };
        let (has_ingress, transport) = (leg.has_ingress, leg.transport);
        let is_report_due = now.mono_ns.saturating_sub(leg.last_report_ns) >= REPORT_NS;
        if let (Some(leg), Some(durable)) = (self.legs.get_mut(leg_slot), self.segment.transport(transport.slot)) {
            leg.say_sent(durable);
        }
        self.check_consent(leg_slot, now);
        // Before the first packet: a port may need time to find the way, and would send the first ones by another one.
        let _ = self.active_path(leg_slot, port);
        if has_ingress {
            self.publisher_reports(port, leg_slot, is_report_due, now, progress);
        }
        let mut subscription = self.subscriptions_of.first(transport.slot);
        while let Some(slot) = subscription {
            subscription = self.subscriptions_of.after(slot);
            match self.egress_of(slot) {
                Some(egress) => {
                    self.find_source(egress, now);
                    self.drop_idle_gate(egress, now);
                }
                // Its track was not there yet.
                None => self.subscription_changed(slot, now),
            }
        }
        if is_report_due {
            self.receiver_reports(port, leg_slot, now, progress);
            if let Some(leg) = self.legs.get_mut(leg_slot) {
                leg.last_report_ns = now.mono_ns;
            }
        }
        let next = if has_ingress { PUBLISHER_NS } else { RECEIVER_NS };
        self.wheel.arm(leg_slot, now.mono_ns.saturating_add(next));
    }

    fn check_consent(&mut self, leg_slot: u32, now: Now) {
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        if leg.is_silent() || now.mono_ns.saturating_sub(leg.consent_ns) <= CONSENT_NS {
            return;
        }
        leg.set_silent(true);
        let transport = leg.transport;
        if let Some(durable) = self.segment.transport(transport.slot) {
            publish::store_u32(&durable.state, transport_state::SILENT);
        }
        self.tell(event_kind::CONSENT_LOST, transport, now, 0);
    }

    /// Transport-cc and NACKs as they are due, receiver reports each second.
    fn publisher_reports<P: Port>(
        &mut self,
        port: &mut P,
        leg_slot: u32,
        is_report_due: bool,
        now: Now,
        progress: &mut Progress,
    ) {
        let Some(leg) = self.legs.get(leg_slot) else { return };
        let (sender, transport, recorder) = (leg.rtcp_ssrc, leg.transport, leg.recorder);
        let is_twcc_due =
            leg.flags & transport_flags::TRANSPORT_CC != 0 && now.mono_ns.saturating_sub(leg.last_twcc_ns) >= TWCC_NS;
        let mut blocks = [ReportBlock::default(); 16];
        let block_count = if is_report_due { self.report_blocks(transport.slot, now, &mut blocks) } else { 0 };
        let mut plain = [0; RTCP_BYTES];
        let mut writer = CompoundWriter::begin(&mut plain);
        // RFC 3550 §6.1: every compound packet begins with a report.
        if writer.rr(sender, blocks.get(..block_count).unwrap_or(&[])).is_err() {
            return;
        }
        let mut has_news = is_report_due;
        has_news |= self.write_nacks(&mut writer, transport.slot, sender, now);
        if is_twcc_due && let Some(recorder) = self.recorders.get_mut(recorder) {
            has_news |= recorder.has_news() && recorder.write(&mut writer, sender, 0);
            if let Some(leg) = self.legs.get_mut(leg_slot) {
                leg.last_twcc_ns = now.mono_ns;
            }
        }
        let len = writer.len();
        if has_news {
            self.send_rtcp(port, leg_slot, plain.get(..len).unwrap_or(&[]), progress);
        }
        if is_report_due {
            self.trim_logs(transport.slot, now);
        }
    }

    fn ingress_ids(&self, transport_slot: u32) -> impl Iterator<Item = IngressId> + '_ {
        self.tracks_of.of(transport_slot).flat_map(|track| {
            (0..u8::try_from(ENCODINGS).unwrap_or(4)).map(move |encoding| IngressId::of(track, encoding))
        })
    }

    fn report_blocks(&mut self, transport_slot: u32, now: Now, blocks: &mut [ReportBlock]) -> usize {
        let mut ids = [IngressId(u32::MAX); 16];
        let mut count = 0;
        for (place, id) in
            ids.iter_mut().zip(self.ingress_ids(transport_slot).filter(|id| self.ingress_of(*id).is_some()))
        {
            *place = id;
            count = usize::saturating_add(count, 1);
        }
        let mut written = 0;
        for id in ids.into_iter().take(count) {
            if let Some(block) = self.report_block_of(id, now)
                && let Some(place) = blocks.get_mut(written)
            {
                *place = block;
                written = usize::saturating_add(written, 1);
            }
        }
        written
    }

    /// RFC 3550 §6.4.1 and appendix A.3.
    fn report_block_of(&mut self, id: IngressId, now: Now) -> Option<ReportBlock> {
        let slot = self.ingress_of(id)?;
        let durable = self.segment.ingress(id)?;
        let reception = &mut self.ingresses.get_mut(slot)?.reception;
        let ssrc = durable.ssrc.load(Ordering::Relaxed);
        let top = read(&durable.stored_top);
        let base = reception.base.checked_sub(1)?;
        if ssrc == 0 || top == 0 {
            return None;
        }
        let expected = top.saturating_sub(base);
        let received = reception.received.saturating_add(read(&durable.repaired));
        let lost = expected.saturating_sub(received).min(0x7f_ffff);
        let expected_interval = expected.saturating_sub(reception.expected_prior);
        let received_interval = reception.received.saturating_sub(reception.received_prior);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        reception.expected_prior = expected;
        reception.received_prior = reception.received;
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        let reported = Reported::load(durable);
        let since_sr = now.mono_ns.saturating_sub(reported.map_or(0, |report| report.arrival_ns));
        let offset =
            self.ingresses.get(slot).and_then(|ingress| self.legs.get(ingress.leg)).and_then(|leg| leg.ntp_offset);
        // The publisher knows its own clock, not ours.
        let last_sr = offset.zip(reported).map_or(0, |(offset, report)| middle(report.ntp.wrapping_sub(offset.get())));
        let reception = &self.ingresses.get(slot)?.reception;
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction.min(255)).unwrap_or(255),
            cumulative_lost: i32::try_from(lost).unwrap_or(0),
            highest_seq: u32::try_from(top.saturating_sub(1) & u64::from(u32::MAX)).unwrap_or(0),
            jitter: reception.jitter_x16 >> 4,
            last_sr,
            delay_since_last_sr: if last_sr == 0 {
                0
            } else {
                u32::try_from(ns_to_ntp(since_sr) >> 16).unwrap_or(u32::MAX)
            },
        })
    }

    fn write_nacks(&mut self, writer: &mut CompoundWriter<'_>, transport_slot: u32, sender: u32, now: Now) -> bool {
        let rtt_ns =
            self.segment.transport(transport_slot).map_or(0, |durable| read(&durable.rtt_us)).saturating_mul(1000);
        let mut is_any = false;
        let mut track = self.tracks_of.first(transport_slot);
        while let Some(at) = track {
            track = self.tracks_of.after(at);
            for encoding in 0..u8::try_from(ENCODINGS).unwrap_or(4) {
                let id = IngressId::of(at, encoding);
                let Some(ingress) = self.ingress_of(id).and_then(|slot| self.ingresses.get_mut(slot)) else { continue };
                let Some(durable) = self.segment.ingress(id) else { continue };
                let missing = ingress.missing.get_mut(&mut self.missing).filter(|missing| !missing.is_empty());
                let Some(missing) = missing else { continue };
                let mut due = [0; NACKS];
                let (asked, given_up) = missing.collect(now.mono_ns, rtt_ns, &mut due);
                add(&durable.lost, given_up as u64);
                let ssrc = durable.ssrc.load(Ordering::Relaxed);
                if asked == 0 || ingress.feedback & feedback_flags::NACK == 0 {
                    continue;
                }
                if writer.nack(sender, ssrc, due.into_iter().take(asked)).is_ok() {
                    add(&durable.nacks, asked as u64);
                    is_any = true;
                }
            }
        }
        is_any
    }

    /// Once per second: chunks that nobody needs go back, and lists of what is missing where nothing is.
    fn trim_logs(&mut self, transport_slot: u32, now: Now) {
        let mut track = self.tracks_of.first(transport_slot);
        while let Some(at) = track {
            track = self.tracks_of.after(at);
            for encoding in 0..u8::try_from(ENCODINGS).unwrap_or(4) {
                let slot = self.ingress_of(IngressId::of(at, encoding));
                let Some(ingress) = slot.and_then(|slot| self.ingresses.get_mut(slot)) else { continue };
                let keep = match ingress.kind {
                    dataplane_abi::codec::MediaKind::Audio => Keep::Audio,
                    dataplane_abi::codec::MediaKind::Video => Keep::Video,
                };
                if ingress.missing.get(&self.missing).is_some_and(Missing::is_empty) {
                    ingress.missing.forget(&mut self.missing);
                }
                if let Some(log) = ingress.log.as_mut() {
                    log.trim(&mut self.chunks, now.mono_ns, keep);
                }
            }
        }
    }

    /// Sender reports about everything that is sent on a leg, with the sources' CNAMEs; as few compound packets as they fit in.
    fn receiver_reports<P: Port>(&mut self, port: &mut P, leg_slot: u32, now: Now, progress: &mut Progress) {
        let Some((transport, round)) =
            self.legs.get_mut(leg_slot).map(|leg| (leg.transport, leg.begin_round(now.mono_ns)))
        else {
            return;
        };
        let mut next = self.subscriptions_of.first(transport.slot);
        while next.is_some() {
            let mut plain = [0; RTCP_BYTES];
            let mut writer = CompoundWriter::begin(&mut plain);
            while let Some(slot) = next {
                if writer.room() < LONGEST_REPORT {
                    break;
                }
                next = self.subscriptions_of.after(slot);
                self.report_stream(&mut writer, slot, round, now);
            }
            let len = writer.len();
            if len > 0 {
                self.send_rtcp(port, leg_slot, plain.get(..len).unwrap_or(&[]), progress);
            }
        }
    }

    /// Writes a stream's sender report, and remembers which one it was.
    fn report_stream(&mut self, writer: &mut CompoundWriter<'_>, subscription_slot: u32, round: usize, now: Now) {
        let middle = self.write_sender_report(writer, subscription_slot, now).unwrap_or(0);
        let egress = self.egress_of(subscription_slot).and_then(|slot| self.egresses.get_mut(slot));
        if let Some(egress) = egress {
            egress.note_report(round, middle);
        }
    }

    /// The middle 32 bits of the report's NTP time.
    fn write_sender_report(&self, writer: &mut CompoundWriter<'_>, subscription_slot: u32, now: Now) -> Option<u32> {
        let report = self.sender_report_of(subscription_slot, now)?;
        let egress = self.egresses.get(self.egress_of(subscription_slot)?)?;
        // Once per second: the record is copied, so that no stream keeps a name that its track has.
        let track = self.segment.intent_track(egress.track.slot)?;
        let cname = track.cname.get(..usize::from(track.cname_len)).unwrap_or(&[]);
        let is_written = track.generation == egress.track.generation
            && writer.sr(&report, &[]).is_ok()
            && writer.sdes_cname(report.ssrc, cname).is_ok();
        is_written.then(|| middle(report.ntp))
    }

    /// The publisher's own (NTP, RTP) line, carried on to now: capture time, not arrival (MEDIA_RULES G10).
    fn sender_report_of(&self, subscription_slot: u32, now: Now) -> Option<SenderReport> {
        let egress = self.egresses.get(self.egress_of(subscription_slot)?)?;
        let durable = self.segment.egress(subscription_slot)?;
        let (source, generation) = source_of(durable)?;
        let ingress = self.segment.ingress(source)?;
        // Nothing is said of what is not shown any more, nor of what has not begun.
        if TrackRef::at(source.track_slot(), generation) != egress.track
            || ingress.generation.load(Ordering::Acquire) != generation
        {
            return None;
        }
        let reported = Reported::load(ingress).filter(|_| egress.last.is_any)?;
        let passed = now.mono_ns.saturating_sub(reported.arrival_ns);
        let ticks = u128::from(passed).saturating_mul(u128::from(egress.clock_rate)) / 1_000_000_000;
        let ticks = u32::try_from(ticks & u128::from(u32::MAX)).ok()?;
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        Some(SenderReport {
            ssrc: egress.ssrc,
            ntp: reported.ntp.wrapping_add(ns_to_ntp(passed)),
            rtp_ts: reported.rtp_ts.wrapping_add(ticks).wrapping_add(egress.constants.rtp_ts),
            packets: low(read(&durable.packets)),
            octets: low(read(&durable.octets)),
        })
    }

    /// Protects and commits one compound packet; its index is stored before it can be seen.
    pub(crate) fn send_rtcp<P: Port>(
        &mut self,
        port: &mut P,
        leg_slot: u32,
        plain: &[u8],
        progress: &mut Progress,
    ) -> bool {
        let segment = Arc::clone(&self.segment);
        let Some(path) = self.active_path(leg_slot, port) else { return false };
        let Some(leg) = self.legs.get(leg_slot) else { return false };
        let (Some(tx), Some(durable)) = (leg.tx.as_ref(), segment.transport(leg.transport.slot)) else { return false };
        let index = read(&durable.srtcp_next);
        let Some(index32) = u32::try_from(index).ok().filter(|_| index <= LAST_SRTCP_INDEX) else { return false };
        let Some(frame) = port.reserve(path, plain.len().saturating_add(SRTCP_OVERHEAD)) else { return false };
        publish::store_u64(&durable.srtcp_next, index.saturating_add(1));
        let Ok(len) = tx.protect_rtcp(index32, plain, frame) else { return false };
        port.commit(len);
        progress.committed(len);
        bump(&durable.tx_packets);
        add(&durable.tx_bytes, len as u64);
        self.count(|counters| bump(&counters.rtcp_sent));
        true
    }
}

/// The middle 32 bits of an NTP time (RFC 3550 §4).
fn middle(ntp: u64) -> u32 {
    u32::try_from((ntp >> 16) & u64::from(u32::MAX)).unwrap_or(0)
}

// SPDX-License-Identifier: Apache-2.0
//! A leg: a transport that this worker owns, with its keys, paths and clocks.

use core::num::NonZeroU64;

use dataplane_abi::durable::TransportDurable;
use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{KeyRef, TransportRef};
use dataplane_abi::intent::TransportIntent;
use dataplane_abi::limits::{EXTENSIONS, PATHS};
use dataplane_io::port::{Ecn, PathSlot, Port};
use dataplane_shm::Segment;
use dataplane_srtp::{RtcpRxContext, TxContext};
use dataplane_wire::ext::ExtKind;

use crate::counting::{add, read};
use crate::objects::NONE;

/// DTLS datagrams per second that a transport may punt.
const PUNTS_PER_SECOND: u64 = 50;
const PUNT_NS: u64 = 1_000_000_000 / PUNTS_PER_SECOND;
/// Extension ids that fit into elements of one byte (RFC 8285 §4.2), and 0.
const SHORT_IDS: usize = 16;

/// Rounds of sender reports that are remembered, so that a report about one of them tells the round trip.
pub(crate) const ROUNDS: usize = 4;

/// A transport that this worker owns. What each packet needs comes first. Its validated 5-tuples are in the durable record
/// alone, which nobody else writes.
#[repr(C, align(64))]
pub(crate) struct Leg {
    pub(crate) transport: TransportRef,
    /// The path in use, open on the port; none until it is asked for after a change of any kind.
    pub(crate) path: Option<PathSlot>,
    /// Packets sent that the durable record does not count yet, and their bytes.
    pub(crate) unsaid_packets: u64,
    pub(crate) unsaid_bytes: u64,
    pub(crate) key: KeyRef,
    pub(crate) rtcp_ssrc: u32,
    /// Slot of the keys of what it sends; none where it has no track.
    pub(crate) media_keys: u32,
    pub(crate) flags: u16,
    pub(crate) has_ingress: bool,
    /// Consent has expired: nothing is sent.
    is_silent: bool,
    // What no packet needs, where there is room.
    /// Index of the path in use.
    active: Option<u8>,
    /// Rounds of sender reports, modulo 2^8.
    rounds: u8,
    /// Slot of the transport-cc recorder, for publishers.
    pub(crate) recorder: u32,
    // 64 bytes, less 4
    pub(crate) tx: Option<TxContext>,
    /// Keys of the RTCP that it sends, there together with `tx`.
    pub(crate) rtcp: Option<RtcpRxContext>,
    /// Extension ids of this leg by kind; 0 = not agreed.
    extension_ids: [u8; EXTENSIONS],
    /// Extension kind by id, of those ids that packets usually have; 0 = not agreed.
    kind_by_id: [u8; SHORT_IDS],
    /// Paths on the port, opened at first use.
    pub(crate) paths: [Option<PathSlot>; PATHS],
    pub(crate) consent_ns: u64,
    punt_credit_ns: u64,
    punt_ns: u64,
    pub(crate) last_report_ns: u64,
    pub(crate) last_twcc_ns: u64,
    /// Our NTP time − the publisher's, fixed at its first sender report.
    pub(crate) ntp_offset: Option<NonZeroU64>,
    /// When the sender reports of the last rounds went out, in microseconds modulo 2^32.
    rounds_us: [u32; ROUNDS],
}

/// Cache lines of a [`Leg`] that are asked for ahead of a packet; the key behind them is the cipher's business.
pub(crate) const LEG_LINES: usize = 2;
// The keys are 700 bytes of it.
const _: () = assert!(core::mem::offset_of!(Leg, tx) == 64 && size_of::<Option<Leg>>() <= 960);

impl Leg {
    pub(crate) fn new(transport: TransportRef, now_ns: u64) -> Self {
        Self {
            transport,
            path: None,
            unsaid_packets: 0,
            unsaid_bytes: 0,
            flags: 0,
            rtcp_ssrc: 0,
            extension_ids: [0; EXTENSIONS],
            kind_by_id: [0; SHORT_IDS],
            key: KeyRef::NONE,
            media_keys: NONE,
            tx: None,
            rtcp: None,
            paths: [None; PATHS],
            active: None,
            consent_ns: now_ns,
            is_silent: false,
            punt_credit_ns: 1_000_000_000,
            punt_ns: now_ns,
            recorder: NONE,
            last_report_ns: now_ns,
            last_twcc_ns: now_ns,
            ntp_offset: None,
            rounds: 0,
            rounds_us: [0; ROUNDS],
            has_ingress: false,
        }
    }

    /// Index of the path in use.
    pub(crate) fn active(&self) -> Option<usize> {
        self.active.map(usize::from)
    }

    /// Another path is in use, or none; or its place was given to another flow.
    pub(crate) fn set_active(&mut self, active: Option<usize>) {
        self.active = active.and_then(|active| u8::try_from(active).ok());
        self.path = None;
    }

    /// Whether consent has expired: nothing is sent.
    pub(crate) const fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Consent has expired, or was given again.
    pub(crate) const fn set_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
        self.path = None;
    }

    /// The path in use, opened on the port at first use.
    #[inline]
    pub(crate) fn open_path<P: Port>(&mut self, segment: &Segment, dscp: u8, port: &mut P) -> Option<PathSlot> {
        if self.path.is_none() && !self.is_silent {
            self.path = self.open_path_at(self.active()?, segment, dscp, port);
        }
        self.path
    }

    /// A path, opened on the port where that has not happened.
    #[cold]
    pub(crate) fn open_path_at<P: Port>(
        &mut self,
        index: usize,
        segment: &Segment,
        dscp: u8,
        port: &mut P,
    ) -> Option<PathSlot> {
        let path = self.paths.get_mut(index)?;
        if path.is_none() {
            let flow = flow_at(segment.transport(self.transport.slot)?, index)?;
            *path = port.open_path(&flow, dscp, Ecn::default()).ok();
        }
        *path
    }

    /// Counts what was sent in the durable record. Behind by one timer of the leg at most.
    pub(crate) fn say_sent(&mut self, durable: &TransportDurable) {
        add(&durable.tx_packets, core::mem::take(&mut self.unsaid_packets));
        add(&durable.tx_bytes, core::mem::take(&mut self.unsaid_bytes));
    }

    /// Takes over what intent says besides keys.
    pub(crate) fn apply(&mut self, intent: &TransportIntent) {
        self.flags = intent.flags;
        self.rtcp_ssrc = intent.rtcp_ssrc;
        self.extension_ids = intent.extension_ids;
        self.kind_by_id = kinds_by_id(&intent.extension_ids);
    }

    /// What an extension id means on this leg.
    pub(crate) fn extension_kind(&self, id: u8) -> Option<ExtKind> {
        let kind = match self.kind_by_id.get(usize::from(id)) {
            Some(kind) => *kind,
            None => kind_of(&self.extension_ids, id),
        };
        ExtKind::from_u8(kind)
    }

    /// Whether one more DTLS datagram may be punted: 50 per second, bursts of 50.
    pub(crate) fn may_punt(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.punt_ns);
        self.punt_ns = now_ns.max(self.punt_ns);
        self.punt_credit_ns = self.punt_credit_ns.saturating_add(passed).min(1_000_000_000);
        let Some(rest) = self.punt_credit_ns.checked_sub(PUNT_NS) else { return false };
        self.punt_credit_ns = rest;
        true
    }

    /// Where another flow goes: a free place, else the least recently checked one that is not in use.
    pub(crate) fn path_place(&self, durable: &TransportDurable) -> usize {
        let free = (0..PATHS).find(|index| flow_at(durable, *index).is_none());
        free.unwrap_or_else(|| {
            let oldest = (0..PATHS).filter(|index| Some(*index) != self.active());
            oldest.min_by_key(|index| durable.paths.get(*index).map_or(0, |path| read(&path.checked_ns))).unwrap_or(0)
        })
    }

    /// A round of sender reports goes out; its place among those that are remembered.
    pub(crate) fn begin_round(&mut self, now_ns: u64) -> usize {
        let round = usize::from(self.rounds) % ROUNDS;
        self.rounds = self.rounds.wrapping_add(1);
        if let Some(at_us) = self.rounds_us.get_mut(round) {
            *at_us = micros(now_ns);
        }
        round
    }

    /// Microseconds since a round of sender reports went out.
    pub(crate) fn since_round_us(&self, round: usize, now_ns: u64) -> Option<u32> {
        Some(micros(now_ns).wrapping_sub(*self.rounds_us.get(round)?))
    }
}

/// Modulo 2^32: an hour and more, which no report is old.
fn micros(ns: u64) -> u32 {
    u32::try_from((ns / 1000) & u64::from(u32::MAX)).unwrap_or(0)
}

/// A validated 5-tuple of a transport.
pub(crate) fn flow_at(durable: &TransportDurable, index: usize) -> Option<FlowKey> {
    let words = durable.paths.get(index)?.flow.each_ref().map(read);
    words.last().is_some_and(|ports| *ports != 0).then(|| FlowKey::from_words(words))
}

/// All validated 5-tuples of a transport.
pub(crate) fn flows_of(durable: &TransportDurable) -> impl Iterator<Item = FlowKey> + '_ {
    (0..PATHS).filter_map(|index| flow_at(durable, index))
}

/// Index of the path of a flow.
pub(crate) fn path_of(durable: &TransportDurable, flow: &FlowKey) -> Option<usize> {
    (0..PATHS).find(|index| flow_at(durable, *index).as_ref() == Some(flow))
}

/// The kind that has an id; 0 = none.
fn kind_of(ids: &[u8; EXTENSIONS], id: u8) -> u8 {
    let found = (0_u8..).zip(ids).filter(|(_, known)| **known == id && id != 0);
    found.last().map_or(0, |(kind, _)| kind)
}

fn kinds_by_id(ids: &[u8; EXTENSIONS]) -> [u8; SHORT_IDS] {
    let mut kinds = [0; SHORT_IDS];
    for (id, kind) in (0_u8..).zip(&mut kinds) {
        *kind = kind_of(ids, id);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_found_by_short_and_long_ids() {
        let mut leg = Leg::new(TransportRef::at(0, 1), 0);
        let mut intent = TransportIntent::zeroed();
        for (kind, id) in
            [(ExtKind::Mid, 4), (ExtKind::Rid, 15), (ExtKind::AbsSendTime, 16), (ExtKind::TransportSeq, 255)]
        {
            intent.extension_ids[kind as usize] = id;
        }
        leg.apply(&intent);
        let kinds = [0, 1, 4, 15, 16, 17, 255].map(|id| leg.extension_kind(id));
        let expected = [
            None,
            None,
            Some(ExtKind::Mid),
            Some(ExtKind::Rid),
            Some(ExtKind::AbsSendTime),
            None,
            Some(ExtKind::TransportSeq),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn the_last_four_rounds_of_reports_are_known() {
        let mut leg = Leg::new(TransportRef::at(0, 1), 0);
        // The microseconds wrap in between.
        let start = u64::from(u32::MAX) * 1000;
        let rounds: Vec<usize> = (0..300_u64).map(|at| leg.begin_round(start + at * 1_000_000)).collect();
        assert_eq!(rounds.get(296..), Some(&[0, 1, 2, 3][..]));
        let now = start + 300 * 1_000_000;
        let since = [0, 3, ROUNDS].map(|round| leg.since_round_us(round, now));
        assert_eq!(since, [Some(4000), Some(1000), None]);
    }

    #[test]
    fn fifty_punts_per_second_and_no_more() {
        let mut leg = Leg::new(TransportRef::at(0, 1), 0);
        let burst = (0..200).filter(|_| leg.may_punt(0)).count();
        assert_eq!(burst, 50);
        let second = (1..=1000_u64).filter(|ms| leg.may_punt(ms * 1_000_000)).count();
        assert_eq!(second, 50);
    }
}

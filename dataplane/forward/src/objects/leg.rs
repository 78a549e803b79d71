// SPDX-License-Identifier: Apache-2.0
//! A leg: a transport that this worker owns, with its keys, paths and clocks.

use dataplane_abi::durable::TransportDurable;
use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{KeyRef, TransportRef};
use dataplane_abi::intent::TransportIntent;
use dataplane_abi::limits::{EXTENSIONS, PATHS};
use dataplane_io::port::{Ecn, PathSlot, Port};
use dataplane_srtp::{RtcpRxContext, TxContext};
use dataplane_wire::ext::ExtKind;

use crate::counting::add;
use crate::objects::NONE;

/// DTLS datagrams per second that a transport may punt.
const PUNTS_PER_SECOND: u64 = 50;
const PUNT_NS: u64 = 1_000_000_000 / PUNTS_PER_SECOND;
/// Extension ids that fit into elements of one byte (RFC 8285 §4.2), and 0.
const SHORT_IDS: usize = 16;

/// A validated 5-tuple and its path on the port, opened at first use.
#[derive(Clone, Copy, Default)]
pub(crate) struct LegPath {
    pub(crate) flow: Option<FlowKey>,
    pub(crate) slot: Option<PathSlot>,
    pub(crate) checked_ns: u64,
}

/// A transport that this worker owns. What each packet needs comes first.
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
    // 64 bytes, less 12
    pub(crate) tx: Option<TxContext>,
    /// Keys of the RTCP that it sends, there together with `tx`.
    pub(crate) rtcp: Option<RtcpRxContext>,
    /// Extension ids of this leg by kind; 0 = not agreed.
    extension_ids: [u8; EXTENSIONS],
    /// Extension kind by id, of those ids that packets usually have; 0 = not agreed.
    kind_by_id: [u8; SHORT_IDS],
    pub(crate) paths: [LegPath; PATHS],
    /// Index of the path in use.
    active: Option<usize>,
    pub(crate) consent_ns: u64,
    punt_credit_ns: u64,
    punt_ns: u64,
    /// Slot of the transport-cc recorder, for publishers.
    pub(crate) recorder: Option<u32>,
    pub(crate) last_report_ns: u64,
    pub(crate) last_twcc_ns: u64,
    /// Our NTP time − the publisher's, fixed at its first sender report.
    pub(crate) ntp_offset: Option<u64>,
}

/// Cache lines of a [`Leg`] that are asked for ahead of a packet; the key behind them is the cipher's business.
pub(crate) const LEG_LINES: usize = 2;

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
            paths: [LegPath::default(); PATHS],
            active: None,
            consent_ns: now_ns,
            is_silent: false,
            punt_credit_ns: 1_000_000_000,
            punt_ns: now_ns,
            recorder: None,
            last_report_ns: now_ns,
            last_twcc_ns: now_ns,
            ntp_offset: None,
            has_ingress: false,
        }
    }

    /// Index of the path in use.
    pub(crate) const fn active(&self) -> Option<usize> {
        self.active
    }

    /// Another path is in use, or none; or its place was given to another flow.
    pub(crate) const fn set_active(&mut self, active: Option<usize>) {
        self.active = active;
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
    pub(crate) fn open_path<P: Port>(&mut self, dscp: u8, port: &mut P) -> Option<PathSlot> {
        if self.path.is_none() && !self.is_silent {
            self.path = self.open_path_at(self.active?, dscp, port);
        }
        self.path
    }

    /// A path, opened on the port where that has not happened.
    pub(crate) fn open_path_at<P: Port>(&mut self, index: usize, dscp: u8, port: &mut P) -> Option<PathSlot> {
        let path = self.paths.get_mut(index)?;
        if path.slot.is_none() {
            path.slot = port.open_path(path.flow.as_ref()?, dscp, Ecn::default()).ok();
        }
        path.slot
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

    /// Index of the path of a flow.
    pub(crate) fn path_of(&self, flow: &FlowKey) -> Option<usize> {
        self.paths.iter().position(|path| path.flow.as_ref() == Some(flow))
    }

    /// Where another flow goes: a free place, else the least recently checked one that is not in use.
    pub(crate) fn path_place(&self) -> usize {
        let free = self.paths.iter().position(|path| path.flow.is_none());
        free.unwrap_or_else(|| {
            let oldest = (0..PATHS).filter(|index| Some(*index) != self.active);
            oldest.min_by_key(|index| self.paths.get(*index).map_or(0, |path| path.checked_ns)).unwrap_or(0)
        })
    }
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
    fn fifty_punts_per_second_and_no_more() {
        let mut leg = Leg::new(TransportRef::at(0, 1), 0);
        let burst = (0..200).filter(|_| leg.may_punt(0)).count();
        assert_eq!(burst, 50);
        let second = (1..=1000_u64).filter(|ms| leg.may_punt(ms * 1_000_000)).count();
        assert_eq!(second, 50);
    }
}

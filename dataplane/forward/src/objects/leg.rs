// SPDX-License-Identifier: Apache-2.0
//! A leg: a transport that this worker owns, with its keys, paths and clocks.

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{KeyRef, TransportRef};
use dataplane_abi::intent::TransportIntent;
use dataplane_abi::limits::{EXTENSIONS, PATHS};
use dataplane_io::port::PathSlot;
use dataplane_srtp::{RxContext, TxContext};
use dataplane_wire::ext::ExtKind;

/// DTLS datagrams per second that a transport may punt.
const PUNTS_PER_SECOND: u64 = 50;
const PUNT_NS: u64 = 1_000_000_000 / PUNTS_PER_SECOND;

/// A validated 5-tuple and its path on the port, opened at first use.
#[derive(Clone, Copy, Default)]
pub(crate) struct LegPath {
    pub(crate) flow: Option<FlowKey>,
    pub(crate) slot: Option<PathSlot>,
    pub(crate) checked_ns: u64,
}

/// A transport that this worker owns.
pub(crate) struct Leg {
    pub(crate) transport: TransportRef,
    pub(crate) flags: u16,
    pub(crate) rtcp_ssrc: u32,
    /// Extension kind by id on this leg; 0 = not agreed.
    pub(crate) kind_by_id: [u8; 256],
    pub(crate) key: KeyRef,
    pub(crate) rx: Option<RxContext>,
    pub(crate) tx: Option<TxContext>,
    pub(crate) paths: [LegPath; PATHS],
    /// Index of the path in use.
    pub(crate) active: Option<usize>,
    pub(crate) consent_ns: u64,
    /// Consent has expired: nothing is sent.
    pub(crate) is_silent: bool,
    punt_credit_ns: u64,
    punt_ns: u64,
    /// Slot of the transport-cc recorder, for publishers.
    pub(crate) recorder: Option<u32>,
    pub(crate) last_report_ns: u64,
    pub(crate) last_twcc_ns: u64,
    /// Our NTP time − the publisher's, fixed at its first sender report.
    pub(crate) ntp_offset: Option<u64>,
    pub(crate) has_ingress: bool,
}

impl Leg {
    pub(crate) fn new(transport: TransportRef, now_ns: u64) -> Self {
        Self {
            transport,
            flags: 0,
            rtcp_ssrc: 0,
            kind_by_id: [0; 256],
            key: KeyRef::NONE,
            rx: None,
            tx: None,
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

    /// Takes over what intent says besides keys.
    pub(crate) fn apply(&mut self, intent: &TransportIntent) {
        self.flags = intent.flags;
        self.rtcp_ssrc = intent.rtcp_ssrc;
        self.kind_by_id = kinds_by_id(&intent.extension_ids);
    }

    /// What an extension id means on this leg.
    pub(crate) fn extension_kind(&self, id: u8) -> Option<ExtKind> {
        ExtKind::from_u8(*self.kind_by_id.get(usize::from(id))?)
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

fn kinds_by_id(ids: &[u8; EXTENSIONS]) -> [u8; 256] {
    let mut kinds = [0; 256];
    for (kind, id) in (0_u8..).zip(ids) {
        if *id != 0
            && let Some(place) = kinds.get_mut(usize::from(*id))
        {
            *place = kind;
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_punts_per_second_and_no_more() {
        let mut leg = Leg::new(TransportRef::at(0, 1), 0);
        let burst = (0..200).filter(|_| leg.may_punt(0)).count();
        assert_eq!(burst, 50);
        let second = (1..=1000_u64).filter(|ms| leg.may_punt(ms * 1_000_000)).count();
        assert_eq!(second, 50);
    }
}

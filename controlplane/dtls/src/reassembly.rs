// SPDX-License-Identifier: Apache-2.0
//! Reassembly of one handshake message from fragments that nobody authenticated yet.
//!
//! A forged fragment must not displace a genuine one: fragments that contradict each other start candidates of their
//! own, and who uses a candidate proves it (a signature, a fingerprint). Memory is bounded by [`MAX_CANDIDATES`].

use crate::record::Fragment;

/// Contradicting versions of one message that are kept; the oldest goes first.
pub(crate) const MAX_CANDIDATES: usize = 4;
/// Gaps that one candidate may have; a peer that splits finer than this is not served.
const MAX_RANGES: usize = 32;

/// One version of the message.
struct Candidate {
    kind: u8,
    total: usize,
    /// Number of the datagram that touched it last.
    datagram: u64,
    body: Vec<u8>,
    /// Sorted, disjoint, merged ranges of `body` that arrived.
    have: Vec<(usize, usize)>,
}

/// A whole version of the message.
#[derive(Clone, Copy)]
pub(crate) struct Complete<'a> {
    pub(crate) kind: u8,
    /// Number of the datagram that touched it last.
    pub(crate) datagram: u64,
    pub(crate) body: &'a [u8],
}

/// What a fragment changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing, or the message is still incomplete.
    Incomplete,
    /// A candidate became complete.
    Completed,
}

/// All versions of the message with one sequence number.
#[derive(Default)]
pub(crate) struct Slot {
    candidates: Vec<Candidate>,
}

impl Slot {
    /// Adds a fragment to every candidate it does not contradict, or starts one.
    pub(crate) fn insert(&mut self, part: Fragment<'_>, datagram: u64) -> Progress {
        let mut is_used = false;
        let mut progress = Progress::Incomplete;
        for candidate in self.candidates.iter_mut().filter(|c| c.kind == part.kind && c.total == part.total) {
            if candidate.contradicts(part) {
                continue;
            }
            is_used = true;
            let was_complete = candidate.is_complete();
            candidate.add(part);
            candidate.datagram = datagram;
            if candidate.is_complete() && !was_complete {
                progress = Progress::Completed;
            }
        }
        if is_used {
            return progress;
        }
        if self.candidates.len() == MAX_CANDIDATES {
            self.candidates.remove(0);
        }
        let mut candidate =
            Candidate { kind: part.kind, total: part.total, datagram, body: Vec::new(), have: Vec::new() };
        candidate.add(part);
        let is_complete = candidate.is_complete();
        self.candidates.push(candidate);
        if is_complete { Progress::Completed } else { Progress::Incomplete }
    }

    /// Whether nothing arrived.
    pub(crate) const fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// The complete candidates, the latest first.
    pub(crate) fn complete(&self) -> impl Iterator<Item = Complete<'_>> {
        let whole = self.candidates.iter().rev().filter(|c| c.is_complete());
        whole.map(|c| Complete { kind: c.kind, datagram: c.datagram, body: &c.body })
    }

    /// Forgets complete candidates that were tried and refused.
    pub(crate) fn drop_complete(&mut self, mut is_refused: impl FnMut(&[u8]) -> bool) {
        self.candidates.retain(|c| !(c.is_complete() && is_refused(&c.body)));
    }
}

impl Candidate {
    fn is_complete(&self) -> bool {
        self.total == 0 || self.have.first() == Some(&(0, self.total))
    }

    fn contradicts(&self, part: Fragment<'_>) -> bool {
        let (start, end) = (part.offset, part.offset + part.data.len());
        let is_full = self.have.len() >= MAX_RANGES;
        is_full
            || self.have.iter().any(|&(from, to)| {
                let (low, high) = (from.max(start), to.min(end));
                low < high && self.body.get(low..high) != part.data.get(low - start..high - start)
            })
    }

    fn add(&mut self, part: Fragment<'_>) {
        let (start, end) = (part.offset, part.offset + part.data.len());
        if self.body.len() < end {
            self.body.resize(end, 0);
        }
        if let Some(place) = self.body.get_mut(start..end) {
            place.copy_from_slice(part.data);
        }
        self.have.push((start, end));
        self.have.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(self.have.len());
        for &(from, to) in &self.have {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        self.have = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CANDIDATES, Progress, Slot};
    use crate::record::Fragment;

    fn part(body: &[u8], offset: usize, len: usize) -> Fragment<'_> {
        Fragment { kind: 1, seq: 0, total: body.len(), offset, data: &body[offset..offset + len] }
    }

    fn complete(slot: &Slot) -> Vec<Vec<u8>> {
        slot.complete().map(|c| c.body.to_vec()).collect()
    }

    // RFC 6347 §4.2.3: fragments may overlap, repeat and arrive in any order
    #[test]
    fn fragments_complete_in_any_order() {
        let body: Vec<u8> = (0..100).collect();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let parts = [part(&body, 0, 40), part(&body, 30, 40), part(&body, 70, 30)];
            let mut slot = Slot::default();
            slot.insert(parts[order[0]], 0);
            slot.insert(parts[order[0]], 0);
            assert_eq!(slot.insert(parts[order[1]], 0), Progress::Incomplete);
            assert_eq!(slot.insert(parts[order[2]], 0), Progress::Completed);
            assert_eq!(complete(&slot), std::slice::from_ref(&body));
        }
    }

    #[test]
    fn a_forged_fragment_does_not_displace_the_genuine_ones() {
        let (body, forged) = (vec![7; 100], vec![8; 100]);
        let mut slot = Slot::default();
        slot.insert(part(&body, 0, 60), 0);
        slot.insert(part(&forged, 60, 40), 0);
        slot.insert(part(&body, 60, 40), 0);
        slot.insert(part(&body, 0, 60), 0);
        assert!(complete(&slot).contains(&body), "the retransmitted part completes the genuine candidate");
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_candidates() {
        let mut slot = Slot::default();
        for value in 0..200 {
            slot.insert(part(&[value; 64], 0, 64), 0);
        }
        assert_eq!(complete(&slot).len(), MAX_CANDIDATES);
        assert!(complete(&slot).contains(&vec![199; 64]), "the latest stays");
    }

    #[test]
    fn an_empty_message_is_complete_at_once() {
        let mut slot = Slot::default();
        assert_eq!(slot.insert(part(&[], 0, 0), 0), Progress::Completed);
    }
}

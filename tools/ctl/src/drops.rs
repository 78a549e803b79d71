// SPDX-License-Identifier: Apache-2.0
//! `millrace drops`: why packets went no further, by reason.

use std::collections::BTreeMap;

use dataplane_abi::drop_reason::{DropReason, SkipReason};
use serde::Serialize;

use crate::status::Status;

/// Packets by reason.
pub(crate) type ByReason = BTreeMap<String, u64>;

/// One worker's share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct WorkerDrops {
    /// Its number.
    pub(crate) worker: u16,
    /// Received packets dropped.
    pub(crate) dropped: ByReason,
    /// Stored packets not sent to a member.
    pub(crate) skipped: ByReason,
    /// Losses beside both ledgers.
    pub(crate) beside: ByReason,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Drops {
    /// Received packets dropped: every reason, over all workers.
    pub(crate) totals: ByReason,
    /// Stored packets not sent to a member: every reason, over all workers.
    pub(crate) skipped: ByReason,
    /// Losses that no ledger counts as a packet of its own: before the port, or of packets that the server makes itself.
    pub(crate) beside: ByReason,
    /// Packets received, to compare with.
    pub(crate) rx_packets: u64,
    /// Packets × members begun, to compare with.
    pub(crate) offered: u64,
    /// One per worker.
    pub(crate) workers: Vec<WorkerDrops>,
}

/// What the counters beside the ledgers mean.
pub(crate) const BESIDE: [(&str, &str); 6] = [
    (
        "rx_overflow",
        "The kernel's receive queue was full before the worker came: net.core.rmem_max is too small, or the worker is late.",
    ),
    ("tx_errors", "The kernel refused a datagram that was given to it."),
    ("reply_lost", "An answer (STUN) found no room in the port."),
    ("rtx_missed", "A packet was asked for again (NACK) that could not be sent again."),
    ("doorbells_lost", "A worker's ring was full; the packets are found at the next one."),
    ("stale_references", "A message between processes or workers named an object that is gone."),
];

impl Drops {
    /// The part of a status that is about drops.
    pub(crate) fn of(status: &Status) -> Self {
        let mut drops = Self {
            totals: dropped(&status.totals.ledger.by_slot),
            skipped: skipped(&status.totals.cohort_ledger.by_slot),
            beside: beside(&status.totals.counts.named()),
            rx_packets: status.totals.rx_packets,
            offered: status.totals.cohort_ledger.offered,
            workers: Vec::new(),
        };
        drops.workers.extend(status.workers.iter().map(|worker| WorkerDrops {
            worker: worker.worker,
            dropped: dropped(&worker.ledger.by_slot),
            skipped: skipped(&worker.cohort_ledger.by_slot),
            beside: beside(&worker.counts.named()),
        }));
        drops
    }
}

fn dropped(by_slot: &[u64]) -> ByReason {
    let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    by_name(&names, by_slot)
}

fn skipped(by_slot: &[u64]) -> ByReason {
    let names: Vec<&str> = SkipReason::ALL.iter().map(|reason| reason.name()).collect();
    by_name(&names, by_slot)
}

/// Every name, zero or not; a slot that has no name in this program shows if it is not zero.
fn by_name(names: &[&str], by_slot: &[u64]) -> ByReason {
    let unnamed = by_slot.iter().enumerate().skip(names.len()).filter(|(_, count)| **count > 0);
    let mut counts: ByReason = unnamed.map(|(slot, count)| (format!("slot_{slot}"), *count)).collect();
    for (slot, name) in names.iter().enumerate() {
        counts.insert((*name).to_owned(), by_slot.get(slot).copied().unwrap_or(0));
    }
    counts
}

fn beside(counts: &[(&'static str, u64)]) -> ByReason {
    let is_loss = |name: &str| BESIDE.iter().any(|(loss, _)| *loss == name);
    counts.iter().filter(|(name, _)| is_loss(name)).map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// What a reason among `totals` means.
pub(crate) fn explain_dropped(name: &str) -> &'static str {
    DropReason::ALL.iter().find(|reason| reason.name() == name).map_or(UNKNOWN, |reason| reason.explanation().trim())
}

/// What a reason among `skipped` means.
pub(crate) fn explain_skipped(name: &str) -> &'static str {
    SkipReason::ALL.iter().find(|reason| reason.name() == name).map_or(UNKNOWN, |reason| reason.explanation().trim())
}

/// What a name among `beside` means.
pub(crate) fn explain_beside(name: &str) -> &'static str {
    BESIDE.iter().find(|(loss, _)| *loss == name).map_or(UNKNOWN, |(_, meaning)| meaning)
}

const UNKNOWN: &str = "A reason of a data plane that is newer than this program.";

/// The catalogue for people: `docs/DROPS.md`.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut text = String::from(HEAD);
    for reason in DropReason::ALL {
        text.push_str(&format!("| `{}` | {} |\n", reason.name(), reason.explanation().trim()));
    }
    text.push_str(SKIPPED_HEAD);
    for reason in SkipReason::ALL {
        text.push_str(&format!("| `{}` | {} |\n", reason.name(), reason.explanation().trim()));
    }
    text.push_str(BESIDE_HEAD);
    for (name, meaning) in BESIDE {
        text.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    text
}

#[cfg(test)]
const HEAD: &str = "<!-- Made from dataplane/abi/src/drop_reason.rs: BLESS=1 cargo test --release -p millrace catalogue -->
# Why a packet goes no further

`millrace drops` shows these counters, the largest first, with the same words; `millrace drops --json` gives every one of
them by name. A packet that is dropped is counted under exactly one reason, so that the sums close. `millrace status`
checks that they do, at every worker:

```
rx + taken = stored + answered + consumed + punted + handed + Σ dropped        received packets
offered    = sent + Σ skipped + pending                                        stored packets × receivers
```

## Dropped: received packets

`totals` in the JSON. Silence is the answer to strangers: most of these are what a host on the Internet receives anyway.

| reason | meaning |
|---|---|
";
#[cfg(test)]
const SKIPPED_HEAD: &str = "
## Skipped: stored packets that were not sent to a receiver

`skipped` in the JSON. One packet for ten receivers counts ten times.

| reason | meaning |
|---|---|
";
#[cfg(test)]
const BESIDE_HEAD: &str = "
## Beside the ledgers

`beside` in the JSON. Losses before a packet reaches a worker, and of packets that the server makes itself.

| counter | meaning |
|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_in_docs_is_the_one_in_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DROPS.md");
        crate::golden::compare(path, &markdown());
    }

    #[test]
    fn a_slot_without_a_name_shows_only_when_it_counts() {
        let counts = by_name(&["a", "b"], &[0, 2, 0, 7]);
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("a".into(), 0), ("b".into(), 2), ("slot_3".into(), 7)]);
    }

    #[test]
    fn every_reason_is_explained() {
        for reason in DropReason::ALL {
            assert!(explain_dropped(reason.name()).ends_with('.') && explain_dropped(reason.name()) != UNKNOWN);
        }
        for reason in SkipReason::ALL {
            assert!(explain_skipped(reason.name()).ends_with('.') && explain_skipped(reason.name()) != UNKNOWN);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! From the conference to records, and back after a restart.

use std::time::Instant;

use super::Conference;
use crate::{Found, Known, Limits, Outcome, Record, RecordKey};

impl Conference {
    /// What is to be kept of a participant or viewer; `None` when it is gone, and its record with it.
    #[must_use]
    pub fn record(&self, _key: &RecordKey) -> Option<Record> {
        None
    }

    /// The conference of a predecessor: the same rooms, participants and transports, deadlines begun anew, every WebSocket
    /// away since `now`. Next, [`Self::known`] is compared with the data plane and the outcome given to [`Self::settle`].
    /// A record that contradicts another (one of them was written late) is left out.
    #[must_use]
    pub fn restore(_now: Instant, limits: Limits, _records: Vec<Record>) -> Self {
        Self::new(limits)
    }

    /// What should be in the data plane.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::default()
    }

    /// Ends what the data plane does not have (it ended after its record was written) and what has no keys yet (its handshake
    /// died with the predecessor), and takes over what slots show.
    pub fn settle(&mut self, _now: Instant, _found: &Found) -> Outcome {
        Outcome::default()
    }
}

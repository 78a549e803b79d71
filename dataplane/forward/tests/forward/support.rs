// SPDX-License-Identifier: Apache-2.0
//! The bed of the pipeline's tests: a segment, its programmer, workers on a simulated network under a seeded scheduler and a
//! virtual clock, and clients with real keys. It must never reach into a worker: it sees what the network and the segment show.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "support/bed.rs"]
pub(crate) mod bed;
#[path = "support/call.rs"]
pub(crate) mod call;
#[path = "support/client.rs"]
pub(crate) mod client;
#[path = "support/dice.rs"]
pub(crate) mod dice;
#[path = "support/incoming.rs"]
pub(crate) mod incoming;
#[path = "support/outgoing.rs"]
pub(crate) mod outgoing;

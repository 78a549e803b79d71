// SPDX-License-Identifier: Apache-2.0
//! The floor: one thread that opens each packet once, rewrites it for each receiver, seals it with a cipher library and
//! sends it through one UDP socket. No signalling, no feedback, no repair: what any server has to do at the least.

pub mod fan;
pub mod wire;

pub use bench_trafficgen::cipher;

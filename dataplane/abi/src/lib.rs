// SPDX-License-Identifier: Apache-2.0
//! The contract between the planes, the keeper and the tools: every record that lies in shared memory.
//!
//! ```text
//!  intent memfd    header | heads + record pools (transport, track, subscription, room) | rings
//!  keys memfd      header | key records (stricter access, zeroised on reuse)
//!  durable memfd   header | durable records (transport, ingress, egress) | worker counters   (readers map it read-only)
//!  store memfd     header | per-stream logs: 64-KiB chunks of plaintext                       (data plane only)
//!  frame table     header | reserved positions of rings | one byte per frame of a UMEM          (data plane only)
//! ```
//!
//! The maps of the XDP classifier are the other meeting place: [`xdp`]. That target has no small atomics, so the modules of
//! shared memory are not compiled for it.
//!
//! Records hold fixed-width integers, byte arrays and atomics of them, so that any bit pattern is a valid record and a
//! reader in another process never meets undefined behaviour. No pointer, no `usize`, no `bool`, no enum lies in a
//! record. Every record type starts with (version, size), keeps a reserve of at least a quarter, and reads zero as
//! "not known". This crate must never allocate, do I/O or depend on anything.
#![no_std]
#![deny(unsafe_code)]

pub mod codec;
#[cfg(not(target_arch = "bpf"))]
pub mod counters;
pub mod drop_reason;
#[cfg(not(target_arch = "bpf"))]
pub mod durable;
pub mod flow;
#[cfg(not(target_arch = "bpf"))]
pub mod frames;
pub mod ids;
#[cfg(not(target_arch = "bpf"))]
pub mod intent;
#[cfg(not(target_arch = "bpf"))]
pub mod interface;
pub mod latency;
pub mod layout;
#[cfg(not(target_arch = "bpf"))]
pub mod ledger;
pub mod limits;
#[cfg(not(target_arch = "bpf"))]
pub mod migrate;
pub mod pod;
#[cfg(not(target_arch = "bpf"))]
pub mod ring;
#[cfg(not(target_arch = "bpf"))]
pub mod segment;
#[cfg(not(target_arch = "bpf"))]
pub mod store;
pub mod xdp;

/// Version of the whole layout; a change of `layout.snap` without a change of this number fails `cargo xtask abi`.
pub const ABI_VERSION: u32 = 2;

// SPDX-License-Identifier: Apache-2.0
//! The bed in which servers are measured: the same wire, the same sink and the same meter for every system.
//!
//! ```text
//!  gen (publishers) ── gen0 ═ gsw ── sink (receivers, XDP on snk0) ── snk0 ═ eth0 ── server
//!        cpu 0                              cpu 0                                     cpu 1
//! ```
//!
//! | module | gives |
//! |---|---|
//! | [`bed`] | the three namespaces, their wires and routes, where the sink's NAPI runs |
//! | [`sink`] | what each receiver got: packets, bytes, gaps, probes |
//! | [`cpu`] | what a process took of its core, by its own times and by what was left to an idle thread |
//! | [`calibration`] | what the machine was before a run and after it |
//! | [`reference`] | how fast it is, by work like a server's |
//! | [`verify`] | whether what was sampled decrypts to what was sent |
//! | [`latency`] | from a probe's send time to its arrivals |
//! | [`trace`] | from what had left and come at many times to how long a server took to recover |
//! | [`memory`] | what a process has in memory, and for what |
//! | [`run`] | one measured run of the data plane over a table |
//!
//! It must never compare with what a server says of itself: offered is what the generator counted, delivered what the sink did.
#![forbid(unsafe_code)]

pub mod bed;
pub mod calibration;
pub mod cpu;
pub mod latency;
pub mod memory;
pub mod reference;
pub mod run;
pub mod sink;
pub mod trace;
pub mod verify;

#[path = "../../../ebpf/sink/src/layout.rs"]
pub mod layout;

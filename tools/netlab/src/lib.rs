// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, veth pairs, a seeded impairment relay, and the labs that drive real clients over them.
//!
//! Everything that this crate starts (processes, namespaces, mounts) is in one registry and ends with its owner, with
//! the lab, or with Ctrl-C; what a killed lab left behind is swept at the next start. Traffic never leaves the
//! namespaces that the crate creates: it must never touch the machine's own interfaces.
#![forbid(unsafe_code)]

pub mod console;
pub mod install;
pub mod lab;
pub mod netns;
pub mod packet;
pub mod process;
pub mod random;
pub mod registry;
pub mod relay;
pub mod report;
pub mod witness;

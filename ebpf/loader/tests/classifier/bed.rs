// SPDX-License-Identifier: Apache-2.0
//! Two namespaces with a veth of four queues between them.

use anyhow::Result;
use tools_netlab::console;
use tools_netlab::netns::Namespace;

/// Receive queues of each end.
pub(crate) const QUEUES: u32 = 4;
/// The name of both ends.
pub(crate) const VETH: &str = "veth0";

/// The two ends; the classifier goes to the first.
pub(crate) struct Bed {
    pub(crate) server: Namespace,
    pub(crate) peer: Namespace,
}

impl Bed {
    /// `None`, with the reason printed, where namespaces cannot be made.
    pub(crate) fn create(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            console::line(&format!("skipped: {test} needs root for namespaces and BPF"));
            return None;
        }
        Some(Self::build().expect("the bed"))
    }

    fn build() -> Result<Self> {
        let bed = Self { server: Namespace::create("server")?, peer: Namespace::create("peer")? };
        let queues = QUEUES.to_string();
        let many = ["numtxqueues", &queues, "numrxqueues", &queues];
        let mut words = vec!["link", "add", VETH];
        words.extend(many);
        words.extend(["type", "veth", "peer", "name", VETH, "netns", bed.peer.name()]);
        words.extend(many);
        bed.server.ip(&words)?;
        for (end, v4, v6) in [(&bed.server, "10.9.0.1/24", "fd09::1/64"), (&bed.peer, "10.9.0.2/24", "fd09::2/64")] {
            end.ip(&["address", "add", v4, "dev", VETH])?;
            end.ip(&["address", "add", v6, "dev", VETH, "nodad"])?;
            end.ip(&["link", "set", VETH, "up"])?;
        }
        Ok(bed)
    }
}

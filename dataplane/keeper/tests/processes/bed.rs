// SPDX-License-Identifier: Apache-2.0
//! A server's namespace and its clients', with a veth pair between them.

use std::io::Write;
use std::process::Command;

use tools_netlab::netns::Namespace;

use crate::server::{Place, has_planes};

/// The server's address; the clients have the next one.
pub(crate) const HOST: &str = "10.78.0.1";
const CLIENT: &str = "10.78.0.2";

pub(crate) struct Bed {
    pub(crate) server: Namespace,
    clients: Namespace,
}

impl Bed {
    pub(crate) fn place(&self) -> Place {
        Place { host: HOST, namespace: Some(self.server.name().to_owned()) }
    }

    /// Takes the wire away, with both interfaces.
    pub(crate) fn cut(&self) {
        self.clients.ip(&["link", "del", "eth0"]).unwrap();
    }

    fn make() -> Self {
        let bed = Self { server: Namespace::create("srv").unwrap(), clients: Namespace::create("cli").unwrap() };
        bed.wire();
        bed
    }

    /// Puts the wire there.
    pub(crate) fn wire(&self) {
        let pair = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.clients.name()];
        self.server.ip(&pair).unwrap();
        for (namespace, address) in [(&self.server, HOST), (&self.clients, CLIENT)] {
            // The server has no hardware that would fill in a checksum of a frame that goes past its stack.
            let off = ["netns", "exec", namespace.name(), "ethtool", "-K", "eth0", "tx", "off"];
            assert!(Command::new("ip").args(off).output().unwrap().status.success(), "ethtool");
            namespace.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]).unwrap();
            namespace.ip(&["link", "set", "eth0", "up"]).unwrap();
        }
    }
}

/// Runs a test with a bed, its own sockets being the clients'; says why where it cannot.
pub(crate) fn with_bed(name: &str, test: impl FnOnce(&Bed) + Send) {
    if !rustix::process::geteuid().is_root() {
        // Past libtest's capture.
        let _ = writeln!(std::io::stdout(), "SKIPPED: {name}: network namespaces need root");
        return;
    }
    if !has_planes() {
        return;
    }
    let bed = Bed::make();
    bed.clients
        .inside(|| {
            test(&bed);
            Ok(())
        })
        .unwrap();
}

// SPDX-License-Identifier: Apache-2.0
//! What each thread of each process may do, as the kernel says it.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::thread::CapabilitySet;

use crate::server::{Server, until};

/// The data plane's first thread, named after the program (15 bytes of it).
const FIRST_THREAD: &str = "millrace-datapl";

/// The capabilities of one thread.
#[derive(Debug)]
pub(crate) struct Powers {
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) bounding: CapabilitySet,
    pub(crate) no_new_privileges: bool,
}

/// By the thread's name; of several with one name, the last.
pub(crate) fn of(pid: u32) -> BTreeMap<String, Powers> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let Ok(text) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let set = |name| CapabilitySet::from_bits_retain(u64::from_str_radix(value(name), 16).unwrap());
        let powers = Powers {
            effective: set("CapEff:"),
            permitted: set("CapPrm:"),
            bounding: set("CapBnd:"),
            no_new_privileges: value("NoNewPrivs:") == "1",
        };
        threads.insert(value("Name:").to_owned(), powers);
    }
    threads
}

/// Every thread of every process has what it needs and nothing else.
pub(crate) fn are_least(server: &Server) {
    let none = CapabilitySet::empty();
    for (name, powers) in of(server.pid("keeper")) {
        assert_eq!(powers.effective, none, "keeper {name}");
        assert!(!powers.permitted.contains(CapabilitySet::SYS_ADMIN), "keeper {name}: {powers:?}");
        assert!(!powers.permitted.contains(CapabilitySet::DAC_OVERRIDE), "keeper {name}: {powers:?}");
    }
    for (name, powers) in of(server.pid("controlplane")) {
        assert!(CapabilitySet::NET_BIND_SERVICE.contains(powers.permitted), "control plane {name}: {powers:?}");
        assert!(CapabilitySet::NET_BIND_SERVICE.contains(powers.bounding), "control plane {name}: {powers:?}");
    }
    // Its first thread gives the last ones up once every worker turns and memory is locked: the server may be ready before.
    let has_none = || of(server.pid("dataplane")).get(FIRST_THREAD).is_some_and(|powers| powers.permitted == none);
    assert!(until(Duration::from_secs(5), has_none), "the data plane's first thread keeps capabilities");
    let data_plane = of(server.pid("dataplane"));
    assert!(data_plane.len() > 2, "{data_plane:?}");
    for (name, powers) in data_plane {
        let kept = if name == "resolver" { CapabilitySet::NET_ADMIN } else { none };
        assert_eq!((powers.permitted, powers.effective), (kept, kept), "data plane {name}");
        assert!(powers.no_new_privileges, "data plane {name}");
    }
}

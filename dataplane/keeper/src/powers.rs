// SPDX-License-Identifier: Apache-2.0
//! Capabilities of the keeper and of what it starts. They are the kernel's per thread, and a child has those of the thread that
//! started it.
//!
//! ```text
//!  main, at start      all that root has: buffers, the classifier, its maps
//!  every thread then   a few permitted, none effective
//!  handover            effective while AF_XDP sockets are made
//!  who starts a plane  its bounding set is the plane's: what DATA_PLANE or CONTROL_PLANE says
//! ```
//!
//! It must never give a process more than it had. Without capabilities (an ordinary user's keeper) all of this does nothing.

use std::sync::Mutex;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// What the keeper needs again after its start: sockets for each start of a data plane, the classifier where an interface comes
/// back, and what its children get.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETPCAP);
/// Managed neighbours; the workers' scheduling class; memory that stays in memory. The data plane gives each up where it does
/// not need it any more.
pub const DATA_PLANE: CapabilitySet =
    CapabilitySet::NET_ADMIN.union(CapabilitySet::SYS_NICE).union(CapabilitySet::IPC_LOCK);
/// HTTP ports below 1024.
pub const CONTROL_PLANE: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Raising and lowering are two steps; one thread at a time.
static RAISED: Mutex<()> = Mutex::new(());

/// Gives up for ever what the keeper never needs again, and for now all the rest. Before any thread: they inherit it.
pub fn settle() {
    let Ok(has) = capabilities(None) else { return };
    let permitted = has.permitted.intersection(KEPT);
    let inheritable = has.inheritable.intersection(permitted);
    let _ = set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), permitted, inheritable });
}

/// Runs something with all that is permitted.
pub fn raised<R>(run: impl FnOnce() -> R) -> R {
    let _one = RAISED.lock();
    let Ok(has) = capabilities(None) else { return run() };
    let _ = set_capabilities(None, CapabilitySets { effective: has.permitted, ..has });
    let result = run();
    let _ = set_capabilities(None, has);
    result
}

/// From here on, what the calling thread starts has these capabilities at most: root by the bounding set, others by the ambient
/// set.
pub fn bound_children(allowed: CapabilitySet) {
    let Ok(has) = capabilities(None) else { return };
    raised(|| {
        for capability in CapabilitySet::all().iter().filter(|capability| !allowed.contains(*capability)) {
            // EINVAL for numbers that the kernel does not know; EPERM where another one above us decides.
            let _ = remove_capability_from_bounding_set(capability);
        }
    });
    let _ = clear_ambient_capability_set();
    let permitted = has.permitted.intersection(allowed);
    let sets = CapabilitySets { effective: CapabilitySet::empty(), permitted, inheritable: permitted };
    if set_capabilities(None, sets).is_ok() {
        for capability in permitted.iter() {
            let _ = configure_capability_in_ambient_set(capability, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_thread_has_nothing_effective_and_raises_what_is_permitted() {
        let seen = std::thread::spawn(|| {
            settle();
            let before = capabilities(None).unwrap();
            let during = raised(|| capabilities(None).unwrap());
            (before, during, capabilities(None).unwrap())
        });
        let (before, during, after) = seen.join().unwrap();
        assert_eq!(before.effective, CapabilitySet::empty());
        assert!(KEPT.contains(before.permitted));
        assert_eq!(during.effective, before.permitted);
        assert_eq!(after, before);
    }

    #[test]
    fn a_child_has_what_its_starter_was_bound_to() {
        let status = std::thread::spawn(|| {
            bound_children(CONTROL_PLANE);
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            CapabilitySet::from_bits_retain(u64::from_str_radix(line.trim(), 16).unwrap())
        };
        assert!(CONTROL_PLANE.contains(set("CapPrm:")) && set("CapEff:").is_empty(), "{status}");
        if set("CapPrm:").is_empty() {
            return;
        }
        assert_eq!(set("CapBnd:"), CONTROL_PLANE, "{status}");
    }
}

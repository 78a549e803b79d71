// SPDX-License-Identifier: Apache-2.0
//! Capabilities, which the kernel keeps per thread: each thread of this process gives up what it needs no more, for good.
//!
//! | thread | keeps |
//! |---|---|
//! | main, worker, observer | nothing, once the workers have their scheduling class |
//! | resolver | CAP_NET_ADMIN: it asks the kernel to manage neighbours |

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities};

/// The calling thread has these capabilities from here on, as far as it had them, and never others.
pub(crate) fn keep(kept: CapabilitySet) {
    let _ = clear_ambient_capability_set();
    let permitted = capabilities(None).map_or(CapabilitySet::empty(), |has| has.permitted.intersection(kept));
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    if let Err(error) = set_capabilities(None, sets) {
        tracing::warn!("capabilities are not given up: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_names_and_cannot_get_more() {
        let seen = std::thread::spawn(|| {
            let had = capabilities(None).unwrap().permitted;
            keep(CapabilitySet::NET_ADMIN);
            let kept = capabilities(None).unwrap();
            keep(CapabilitySet::all());
            let more = capabilities(None).unwrap();
            keep(CapabilitySet::empty());
            (had, kept, more, capabilities(None).unwrap())
        });
        let (had, kept, more, none) = seen.join().unwrap();
        assert_eq!(kept.permitted, had.intersection(CapabilitySet::NET_ADMIN));
        assert_eq!(kept.effective, kept.permitted);
        assert_eq!(more, kept);
        assert!(none.permitted.is_empty() && none.effective.is_empty() && none.inheritable.is_empty());
    }
}

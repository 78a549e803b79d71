// SPDX-License-Identifier: Apache-2.0
//! One worker, one core: pinned, and the mask read back, because the call that pins may succeed without effect.

use dataplane_abi::ids::WorkerId;
use rustix::thread::{CpuSet, sched_getaffinity};

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    core_affinity::get_core_ids().map_or(0, |cores| cores.len())
}

/// Pins the calling thread to the worker's core; the core, or why it is not pinned.
pub(crate) fn pin(worker: WorkerId) -> Result<usize, String> {
    let cores = core_affinity::get_core_ids().ok_or("the cores cannot be listed")?;
    let core = *cores.get(worker.index()).ok_or("there is no core for this worker")?;
    if !core_affinity::set_for_current(core) {
        return Err(format!("core {} was refused", core.id));
    }
    let mask: CpuSet = sched_getaffinity(None).map_err(|error| format!("the mask cannot be read back: {error}"))?;
    if mask.count() == 1 && mask.is_set(core.id) {
        Ok(core.id)
    } else {
        Err(format!("the mask has {} cores after pinning to core {}", mask.count(), core.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_core() {
        let pinned = std::thread::spawn(|| pin(WorkerId(0))).join().unwrap();
        assert!(pinned.is_ok(), "{pinned:?}");
        let refused = std::thread::spawn(|| pin(WorkerId(9999))).join().unwrap();
        assert!(refused.is_err());
    }
}

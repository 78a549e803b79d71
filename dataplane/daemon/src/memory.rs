// SPDX-License-Identifier: Apache-2.0
//! Keeps what the workers use in memory: a page that was thrown out, of the code as well, would cost a turn a disk's time.

use rustix::mm::{MlockAllFlags, mlockall};

/// Locks everything that is mapped now, page by page as it is used, so that nothing is filled in advance. What is mapped
/// later is not locked: without the capability, which is given up right after this, such a mapping would be refused.
pub(crate) fn lock() {
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT) {
        tracing::warn!(
            "memory is not locked ({error}), so its pages may be thrown out: CAP_IPC_LOCK or LimitMEMLOCK=infinity cures it"
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_mapped_is_locked_where_that_is_allowed() {
        let locked_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(locked_kib(), 0);
        super::lock();
        if locked_kib() == 0 {
            println!("skipped: locking memory is not allowed here");
            return;
        }
        assert!(locked_kib() > 1024, "the code alone is larger");
        rustix::mm::munlockall().unwrap();
    }
}

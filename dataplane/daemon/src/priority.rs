// SPDX-License-Identifier: Apache-2.0
//! Real-time scheduling of workers: a packet's turn must not wait for somebody's compiler.
//!
//! A worker sleeps when it has nothing to do, so the lowest real-time priority is enough, and the kernel's real-time
//! throttling keeps the machine usable whatever happens.

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// The lowest priority of SCHED_FIFO (sched(7)).
const LOWEST: u8 = 1;

/// Puts the calling thread into the FIFO class; why not, where the system refuses (CAP_SYS_NICE or RLIMIT_RTPRIO is needed).
pub(crate) fn raise() -> Result<(), String> {
    let lowest = ThreadPriorityValue::try_from(LOWEST).map_err(|error| format!("{error:?}"))?;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(lowest), policy)
        .map_err(|error| format!("{error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gets_real_time_and_others_a_reason() {
        let raised = std::thread::spawn(raise).join().unwrap();
        assert_eq!(raised.is_ok(), rustix::process::geteuid().is_root(), "{raised:?}");
    }
}

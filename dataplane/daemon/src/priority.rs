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
    fn a_raised_thread_is_in_the_fifo_class_and_a_refusal_has_a_reason() {
        let class =
            || raise().map(|()| thread_priority::thread_schedule_policy().map_err(|error| format!("{error:?}")));
        // Root in a container may lack CAP_SYS_NICE.
        match std::thread::spawn(class).join().unwrap() {
            Ok(policy) => {
                assert_eq!(policy, Ok(ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo)));
            }
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}

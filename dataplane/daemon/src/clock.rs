// SPDX-License-Identifier: Apache-2.0
//! The clocks of a worker: monotonic time, and the same instant as NTP time. Both by vDSO, no system call. And the thread's CPU time.

use dataplane_forward::Now;
use rustix::time::{ClockId, clock_gettime};

/// Seconds from the NTP epoch (1900) to the Unix epoch (RFC 5905 §6).
const NTP_UNIX_S: u64 = 2_208_988_800;
const NS: u64 = 1_000_000_000;

/// Monotonic time in nanoseconds.
pub(crate) fn mono_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// CPU time of the calling thread in nanoseconds; a system call.
pub(crate) fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0).wrapping_mul(NS).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Relates monotonic time to NTP time; read anew once per second, so that steps of the system's clock are followed.
pub(crate) struct Wall {
    /// Unix time − monotonic time, ns.
    offset_ns: u64,
    read_ns: u64,
}

impl Wall {
    pub(crate) fn new() -> Self {
        let mut wall = Self { offset_ns: 0, read_ns: 0 };
        wall.read(mono_ns());
        wall
    }

    fn read(&mut self, now_ns: u64) {
        self.offset_ns = nanoseconds(ClockId::Realtime).wrapping_sub(mono_ns());
        self.read_ns = now_ns;
    }

    /// The time of a batch or a tile.
    pub(crate) fn now(&mut self) -> Now {
        let mono_ns = mono_ns();
        if mono_ns.wrapping_sub(self.read_ns) > NS {
            self.read(mono_ns);
        }
        let unix_ns = mono_ns.wrapping_add(self.offset_ns);
        let seconds = (unix_ns / NS).wrapping_add(NTP_UNIX_S) & u64::from(u32::MAX);
        let fraction = ((unix_ns % NS) << 32) / NS;
        Now { mono_ns, ntp: (seconds << 32) | fraction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_is_the_system_clock() {
        let now = Wall::new().now();
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ntp = (now.ntp >> 32).wrapping_sub(NTP_UNIX_S) & u64::from(u32::MAX);
        assert!(ntp.abs_diff(unix) <= 1, "{ntp} against {unix}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! How a worker sleeps on a port; the only place where a port may block.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Sleeping until there is something to do.
pub trait Wait {
    /// Sleeps until a packet or a completion is there, `wake` (an eventfd) was written, or `timeout` has passed. The eventfd
    /// is drained. May return early for no reason; returns at once where packets wait already.
    ///
    /// A port keeps watching the eventfd between calls, so it is the same one for the port's whole life.
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>);
}

/// Empties an eventfd, whether it blocks or not, and whether somebody was faster or not.
pub(crate) fn drain(wake: BorrowedFd<'_>) {
    let mut watched = [PollFd::from_borrowed_fd(wake, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut watched, Some(&now)).is_ok_and(|ready| ready == 1) {
        let _ = rustix::io::read(wake, &mut [0; 8]);
    }
}

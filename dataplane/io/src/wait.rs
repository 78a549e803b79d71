// SPDX-License-Identifier: Apache-2.0
//! How a worker sleeps on a port; the only place where a port may block.

use std::os::fd::{AsRawFd, BorrowedFd};
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

/// Sleeps on several descriptors; the first ones stay the same.
#[derive(Debug)]
pub(crate) struct Watch {
    fds: Vec<libc::pollfd>,
    fixed: usize,
}

/// Descriptors that one sleep may add.
const ADDED: usize = 4;

impl Watch {
    /// Watches `fixed` for packets; they have to stay open as long as this is used.
    pub(crate) fn new<'f>(fixed: impl Iterator<Item = BorrowedFd<'f>>) -> Self {
        let mut fds: Vec<libc::pollfd> = fixed.map(|fd| readable(fd, false)).collect();
        let fixed = fds.len();
        fds.reserve_exact(ADDED);
        Self { fds, fixed }
    }

    /// Sleeps until one of the descriptors is readable (or, where that is said, writable), or the time has passed.
    pub(crate) fn sleep(&mut self, added: &[(BorrowedFd<'_>, bool)], timeout: Duration) {
        self.fds.truncate(self.fixed);
        self.fds.extend(added.iter().take(ADDED).map(|(fd, is_writing)| readable(*fd, *is_writing)));
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        let count = libc::nfds_t::try_from(self.fds.len()).unwrap_or(0);
        // EINTR is an answer like any other: the caller looks at its work.
        // SAFETY: because the array has `count` entries and outlives the call, as does the timeout; no signal mask is given.
        let answer = unsafe { libc::ppoll(self.fds.as_mut_ptr(), count, &raw const timeout, core::ptr::null()) };
        if answer < 0 {
            self.fds.iter_mut().for_each(|fd| fd.revents = 0);
        }
    }

    /// Whether the last sleep found the `nth` descriptor readable, those that were added counted after the fixed ones.
    pub(crate) fn found(&self, nth: usize) -> bool {
        self.fds.get(nth).is_some_and(|fd| fd.revents & libc::POLLIN != 0)
    }

    /// The same of the `nth` that was added.
    pub(crate) fn found_added(&self, nth: usize) -> bool {
        self.found(self.fixed + nth)
    }
}

fn readable(fd: BorrowedFd<'_>, is_writing: bool) -> libc::pollfd {
    let events = if is_writing { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// Empties an eventfd, whether it blocks or not, and whether somebody was faster or not.
pub(crate) fn drain(wake: BorrowedFd<'_>) {
    let mut watched = [PollFd::from_borrowed_fd(wake, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut watched, Some(&now)).is_ok_and(|ready| ready == 1) {
        let _ = rustix::io::read(wake, &mut [0; 8]);
    }
}

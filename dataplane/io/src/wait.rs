// SPDX-License-Identifier: Apache-2.0
//! How a worker sleeps on a port; the only place where a port may block.

use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Sleeping until there is something to do.
pub trait Wait {
    /// Sleeps until a packet or a completion is there, `wake` (an eventfd) was written, or `timeout` has passed. The eventfd
    /// is drained. May return early for no reason; returns at once where packets wait already.
    ///
    /// A port keeps watching the eventfd between calls, so it is the same one for the port's whole life.
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>);
}

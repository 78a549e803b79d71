// SPDX-License-Identifier: Apache-2.0
//! Gives the session core what it never takes by itself: the clock, requests, the data plane's wake-ups, deadlines.
//!
//! All timers of the control plane end in one sleep here.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use controlplane_signaling::Request;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use crate::core::Core;
use crate::plane::DataPlane;

/// Data plane events that are followed before requests are looked at again.
const EVENTS_PER_TURN: usize = 256;
/// How often the data plane is asked when it has no wake-up.
const POLL: Duration = Duration::from_millis(2);
/// How often it is asked although it has one: a restarted data plane may have lost a wake-up on its way.
const POLL_WITH_WAKEUP: Duration = Duration::from_millis(50);

/// Runs the core until `stop` is true or every request sender is gone.
pub(crate) async fn run<P: DataPlane>(
    mut core: Core<P>,
    mut requests: mpsc::Receiver<Request>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let wakeup = wakeup_of(&core)?;
    let poll = if wakeup.is_some() { POLL_WITH_WAKEUP } else { POLL };
    loop {
        let now = Instant::now();
        let has_more = core.follow(now, EVENTS_PER_TURN);
        core.expire(now);
        let wait = if has_more { Duration::ZERO } else { poll };
        let until = core.next_deadline().map_or(now + wait, |at| at.min(now + wait));
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            request = requests.recv() => match request {
                Some(request) => core.answer(Instant::now(), request),
                None => return Ok(()),
            },
            () = woken(wakeup.as_ref()) => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe, which this crate forbids; an OwnedFd keeps what that one asks to be promised: \
              open, and the same descriptor, until it is dropped"
)]
fn wakeup_of<P: DataPlane>(core: &Core<P>) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(fd) = core.plane().wakeup() else { return Ok(None) };
    AsyncFd::with_interest(fd.try_clone_to_owned()?, Interest::READABLE).map(Some)
}

/// Ends at the next edge of the descriptor; never without one.
async fn woken(wakeup: Option<&AsyncFd<OwnedFd>>) {
    let Some(wakeup) = wakeup else { return pending().await };
    match wakeup.readable().await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => pending().await,
    }
}

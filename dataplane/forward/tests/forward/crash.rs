// SPDX-License-Identifier: Apache-2.0
//! Ends the bed's process at a durable store. Apart from the bed, because it needs a build in which stores can be stopped at.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use dataplane_shm::publish::{self, CrashPoint};

use crate::support::bed::Bed;

impl Bed {
    /// A turn of every worker that ends at the n-th durable store, before or after it; true where it did. The process is
    /// gone then, and nothing of the dead is stored any more.
    pub(crate) fn turn_until(&mut self, store: u64, is_after: bool) -> bool {
        if is_after {
            publish::arm_after(store)
        } else {
            publish::arm(store)
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turn()));
        self.bury(outcome)
    }

    /// Starts the workers, until the n-th durable store; true where it came so far.
    pub(crate) fn start_until(&mut self, store: u64) -> bool {
        publish::arm(store);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.start()));
        self.bury(outcome)
    }

    fn bury(&mut self, outcome: std::thread::Result<()>) -> bool {
        let is_dead = match outcome {
            Ok(()) => false,
            Err(payload) if payload.is::<CrashPoint>() => true,
            Err(payload) => resume_unwind(payload),
        };
        if is_dead {
            self.kill();
        }
        self.stores = publish::count();
        publish::disarm();
        is_dead
    }
}

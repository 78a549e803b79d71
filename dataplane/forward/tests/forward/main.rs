// SPDX-License-Identifier: Apache-2.0
//! The whole pipeline on the simulated port, seen from outside.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    reason = "tests fail by panicking"
)]

mod admission;
mod calls;
mod crash;
mod crash_points;
mod hostile;
mod ice;
mod lanes;
mod pressure;
mod rehearsal;
mod repair;
mod simulcast;
mod slots;
mod support;

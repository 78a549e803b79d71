// SPDX-License-Identifier: Apache-2.0
//! The crate from outside: fixtures made from the RFC layouts, round trips of everything emitted, and bytes of no sense.
//!
//! Must never depend on a network or a clock.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    reason = "tests"
)]

mod any_bytes;
mod codec;
mod frame;
mod rtcp;
mod rtp;
mod stun;
mod twcc;

/// Bytes from hex digits; blanks are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

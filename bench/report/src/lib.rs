// SPDX-License-Identifier: Apache-2.0
//! What `cargo xtask bench` and the page of the benchmarks both know of what the benches write.
#![forbid(unsafe_code)]

pub mod rows;

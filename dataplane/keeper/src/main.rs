// SPDX-License-Identifier: Apache-2.0
//! The process that holds the descriptors which outlive a crash.

fn main() {}

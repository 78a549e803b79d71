// SPDX-License-Identifier: Apache-2.0
//! Repository automation: run, test, lint, lab, bench, abi.

fn main() {}

// SPDX-License-Identifier: Apache-2.0
//! millrace: one CLI for operators.

fn main() {}

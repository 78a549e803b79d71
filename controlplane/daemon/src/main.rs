// SPDX-License-Identifier: Apache-2.0
//! The control plane process: sockets, clocks, configuration.

fn main() {}

// SPDX-License-Identifier: Apache-2.0
//! The data plane process: pinned workers that turn the pipeline.

fn main() {}

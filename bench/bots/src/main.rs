// SPDX-License-Identifier: Apache-2.0
//! `millrace-bots`: participants that join a room over millrace.v1, publish synthetic VP8 and Opus, watch each other and
//! count what arrives.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    bench_bots::run().await
}

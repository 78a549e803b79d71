// SPDX-License-Identifier: Apache-2.0
//! `millrace-scenarios`: one workload by name, a table of figures, JSON. `cargo xtask bench` builds what it needs and starts it.
#![forbid(unsafe_code)]

mod figures;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tools_netlab::console;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the data plane in namespaces on this machine: server on core 1, everything else on core 0. Needs root.
#[derive(Parser, Debug)]
#[command(
    name = "millrace-scenarios",
    version,
    after_help = "Examples:
  millrace-scenarios webinar --receivers 3000 --seconds 60 --json webinar.json
  millrace-scenarios meeting --people 25
  millrace-scenarios overload --json overload.json
  millrace-scenarios memory"
)]
pub(crate) struct Arguments {
    /// webinar, meeting, rooms, audio, latency, overload, memory or workers.
    workload: String,
    /// Receivers (webinar, audio, latency, overload, memory, workers).
    #[arg(long, value_name = "N")]
    receivers: Option<u32>,
    /// People in a room (meeting, rooms).
    #[arg(long, value_name = "N")]
    people: Option<u32>,
    /// Rooms.
    #[arg(long, value_name = "N")]
    rooms: Option<u32>,
    /// Length of the measured window.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// aes128gcm, aes256gcm or sha1.
    #[arg(long, value_name = "NAME", default_value = "aes128gcm")]
    cipher: dataplane_table::Cipher,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where millrace-dataplane is [default: beside this program].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = tools_netlab::registry::clean_up_on_signals().and_then(|()| workloads::main(&arguments));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

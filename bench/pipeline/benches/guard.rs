// SPDX-License-Identifier: Apache-2.0
//! The regression guard: instructions of select, rewrite and egress for each forwarded packet, counted by callgrind without the
//! cipher, and the cipher's kernels by their ratio to the library, whose instructions valgrind cannot run. Both are compared
//! with `guard.json`, which is kept in the repository; `--bless` writes it anew.
//!
//! ```text
//!  guard ── valgrind --tool=callgrind guard --case video ──► counts by source file ──► stages ─┐
//!        └─ kernel, library, kernel, library, … ──► the median ratio ─────────────────────────┴─► guard.json
//! ```
//!
//! Counts are the same in each run of one binary, whatever else the machine does. Valgrind shows the program a CPU with AVX2 and
//! without AVX-512, so the paths for that one are what is counted.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "bed/call.rs"]
mod call;
#[path = "guard/callgrind.rs"]
mod callgrind;
#[path = "guard/committed.rs"]
mod committed;
#[path = "bed/null_port.rs"]
mod null_port;
#[path = "guard/ratio.rs"]
mod ratio;
#[path = "../../../dataplane/forward/tests/forward/support.rs"]
mod support;
#[path = "guard/workload.rs"]
mod workload;

use std::process::ExitCode;

use serde_json::json;
use tools_netlab::console;
use tools_netlab::report::Report;
// The support of the tests uses these three.
use dataplane_shm as _;
use hmac as _;
use sha1 as _;

use crate::committed::{Committed, Found};
use crate::workload::Case;

const HELP: &str = "\
The guard of the forwarding path: instruction counts without the cipher, and the cipher's ratio to the library.

  --bless   write the counts and ratios of this build to bench/pipeline/guard.json

Examples:
  cargo xtask bench guard
  cargo xtask bench guard --bless";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("--help") {
        console::line(HELP);
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` asks whether it starts.
    if has("--test") {
        return ExitCode::SUCCESS;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--case") {
        let case = arguments.get(at + 1).and_then(|name| Case::named(name)).expect("a case by its name");
        workload::run(case, has("--receive"));
        return ExitCode::SUCCESS;
    }
    if guard(has("--bless")) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn guard(is_bless: bool) -> bool {
    let mut report = Report::start("guard");
    report.note("command", json!(["cargo xtask bench", "guard"]));
    let found = Found {
        compiler: committed::compiler(),
        counts: callgrind::counts().unwrap_or_else(|why| {
            console::line(&format!("  instructions: skipped: {why}"));
            report.note("instructions.skipped", why);
            Default::default()
        }),
        ratios: ratio::measure(),
    };
    report.note("compiler", found.compiler.clone());
    report.note("instructions", json!(found.counts));
    report.note("cipher_ratios", json!(found.ratios));
    if is_bless {
        let committed = Committed::read().unwrap_or_default().blessed(&found);
        committed.write();
        console::line("  written: bench/pipeline/guard.json");
    }
    let committed = Committed::read().unwrap_or_else(|why| panic!("{why}"));
    committed.judge(&found, &mut report);
    let json = std::env::var_os("MILLRACE_BENCH_JSON").map(std::path::PathBuf::from);
    let figure = format!("{} counts and {} ratios compared", found.counts.len(), found.ratios.len());
    report.finish(json.as_deref(), &figure).expect("the JSON file can be written")
}

// SPDX-License-Identifier: Apache-2.0
//! `millrace-report`: docs/BENCHMARKS.md and its plots from the JSON that the benches write. `cargo xtask bench report` starts it.
//!
//! ```text
//!  target/bench/*.json ──────────► files ──► bars, tables ──► docs/BENCHMARKS.md
//!  docs/benchmarks/data/*.json ──►   │ ├───► plots ─────────► docs/benchmarks/*.svg
//!      ▲  what was not run again     │ └───► model ─────────► tools/ctl, for `millrace capacity`
//!      └─────────────────────────────┘
//! ```
//!
//! It must never write a number that no file holds: what was not run is said to be so, with the command that runs it.
#![forbid(unsafe_code)]

mod bars;
mod date;
mod files;
mod model;
mod page;
mod plan;
mod plots;
mod split;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tools_netlab::{console, install};

use crate::files::Files;

/// The figures that the committed page is made of.
const DATA: &str = "docs/benchmarks/data";

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "millrace-report",
    version,
    after_help = "Examples:
  cargo xtask bench report                       from what is in target/bench
  cargo xtask bench report --run                 runs every bench first, an hour and a half
  cargo xtask bench report --run --only webinar  runs those whose file begins with it, then writes the page"
)]
enum Cli {
    /// Writes docs/BENCHMARKS.md and docs/benchmarks/*.svg.
    Report(Options),
}

#[derive(clap::Args)]
struct Options {
    /// The folder of the benches' JSON files [default: target/bench, and what is not there from docs/benchmarks/data].
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The page; its plots go into the folder `benchmarks` beside it [default: docs/BENCHMARKS.md].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Run the benches first, one after the other; needs root.
    #[arg(long)]
    run: bool,
    /// Of these, run only those whose file's name begins with one of these words.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "run")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let Cli::Report(options) = Cli::parse();
    match report(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Writes the page; true where every run that was asked for could be made. Whether bars are met is the page's to say.
fn report(options: &Options) -> Result<bool> {
    let root = install::checkout();
    let from = options.from.clone().unwrap_or_else(|| root.join("target/bench"));
    let out = options.out.clone().unwrap_or_else(|| root.join("docs/BENCHMARKS.md"));
    let is_run = !options.run || plan::run(&from, &options.only)?;
    // One bench that is run again does not take the others' figures off the page.
    let kept = root.join(DATA);
    let files = Files::read(&from)?;
    let files = if options.from.is_none() { files.over(Files::read(&kept)?) } else { files };
    let folder = out.parent().context("--out names no file")?.join("benchmarks");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for (name, text) in plots::all(&files) {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let path = root.join(model::FILE);
    let model = model::of(&files, &path)?;
    // The program is built with what the committed page says and no other, and so are the figures behind it.
    if options.out.is_none() {
        files.keep(&kept)?;
        let text = serde_json::to_string_pretty(&model)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    std::fs::write(&out, page::text(&files, &model)).with_context(|| format!("write {}", out.display()))?;
    let bars = bars::all(&files);
    let count = |verdict| bars.iter().filter(|bar| bar.verdict == verdict).count();
    console::line(&format!(
        "report: {}: {} bars met, {} missed, {} not run",
        out.display(),
        count(bars::Verdict::Met),
        count(bars::Verdict::Missed),
        count(bars::Verdict::NotRun)
    ));
    Ok(is_run)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: what the tests need, the tests, the loom models, the call labs one at a time. Ends with the line
//! `N passed, N failed, N skipped`, and must never count as passed what did not run.

mod labs;
mod tally;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use clap::Args;
use tools_netlab::{console, install};

pub(crate) use self::tally::Tally;
use crate::{page, paths, run, shell};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                      # everything, as CI runs it
  cargo xtask test --quick              # unit, property and doc tests only
  cargo xtask test replay               # tests and labs with `replay` in their name
  cargo test --release -p dataplane-srtp replay   # one crate, without this runner";

/// Debian packages that tests and labs start programs of. `install` adds nothing that dpkg lists already.
const PACKAGES: &[&str] = &["iproute2", "procps", "ethtool", "openssl", "python3", "python3-venv"];

/// Loom models: (package, the words after `cargo test`). They build into a folder of their own, because `--cfg loom`
/// swaps the atomics of everything.
const LOOM: &[(&str, &[&str])] = &[("dataplane-shm", &["--test", "loom_ring", "--test", "loom_publish"])];

/// `cargo xtask test`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Only tests and labs whose name contains this.
    filter: Option<String>,
    /// Leave out the loom models and the labs.
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
///
/// # Errors
/// When a program cannot be started.
pub(crate) fn main(options: &Options) -> Result<bool> {
    let root = shell::is_root();
    let mut tally = Tally::default();
    install_needs(root);
    console::line("[1/3] tests of all crates");
    // Some tests start the server's programs, which `cargo test` builds in part only.
    if let Err(error) = run::build_release() {
        tally.fail("the programs that tests start", &format!("{error:#}"));
    }
    let mut args = vec!["test", "--release", "--workspace", "--locked", "--no-fail-fast"];
    args.extend(options.filter.as_deref());
    cargo_test(&args, None, &mut tally)?;
    page::unit_tests(options.filter.as_deref(), &mut tally)?;
    if options.quick {
        console::line("[2/3] loom models and [3/3] labs: left out by --quick");
    } else {
        console::line("[2/3] loom models");
        loom(options.filter.as_deref(), &mut tally)?;
        console::line("[3/3] labs, one at a time");
        labs(options.filter.as_deref(), root, &mut tally)?;
    }
    for line in tally.remarks() {
        console::line(&line);
    }
    console::line(&tally.summary());
    Ok(tally.is_green())
}

/// Installs what the tests start. A failure is said and left to the tests that need it.
fn install_needs(root: bool) {
    if !root {
        console::line("not root: nothing is installed, and what needs namespaces is skipped");
        return;
    }
    if let Err(error) = install::ensure_apt(PACKAGES) {
        console::line(&format!("apt: {error:#}"));
    }
    if let Err(error) = install::ensure_node() {
        console::line(&format!("node: {error:#}"));
    }
}

/// Runs `cargo test`, shows its output line by line and counts what it reports.
fn cargo_test(args: &[&str], loom_target: Option<&Path>, tally: &mut Tally) -> Result<()> {
    let mut command = shell::cargo(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(target) = loom_target {
        command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", target);
    }
    let text = shell::shown(&command);
    console::line(&format!("$ {text}"));
    let mut child = command.spawn().with_context(|| format!("cannot start `{text}`"))?;
    let before = tally.failures();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what the tests print")?;
            console::line(&line);
            tally.take_line(&line);
        }
    }
    let green = child.wait()?.success();
    tally.take_exit(&text, green, before);
    Ok(())
}

fn loom(filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    for (package, words) in LOOM {
        let mut args = vec!["test", "--release", "--locked", "-p", package];
        args.extend_from_slice(words);
        args.extend(filter);
        cargo_test(&args, Some(&paths::target().join("loom")), tally)?;
    }
    Ok(())
}

fn labs(filter: Option<&str>, root: bool, tally: &mut Tally) -> Result<()> {
    let chosen: Vec<&labs::Form> =
        labs::FORMS.iter().filter(|form| filter.is_none_or(|f| form.words().contains(f))).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    if root && let Err(error) = run::build_release() {
        tally.fail("the build of the labs' programs", &error.to_string());
        return Ok(());
    }
    for form in chosen {
        form.carry_out(root, tally)?;
    }
    Ok(())
}

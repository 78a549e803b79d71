// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask run`: from a checkout to a server with a URL. Replaces itself with the keeper, so that signals, the
//! terminal and the exit status are the keeper's; must never stay in between.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use tools_netlab::{console, install};

use crate::{paths, shell};

/// The oldest compiler that `rust-version` in Cargo.toml allows, as (major, minor).
const OLDEST_RUSTC: (u32, u32) = (1, 95);

const EXAMPLES: &str = "\
Examples:
  cargo xtask run                                  # http://127.0.0.1:8080/, Ctrl-C ends it
  cargo xtask run -- --listen 0.0.0.0:8443         # for the network, with TLS
  cargo xtask run --seconds 30                     # ends by itself, for scripts
  cargo xtask run --build-only                     # build and stop there";

/// `cargo xtask run`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// End the server after this many seconds, exit status 0 when it ended cleanly.
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// Build everything, start nothing.
    #[arg(long)]
    build_only: bool,
    /// Options of the keeper; `target/release/millrace-keeper --help` shows them.
    #[arg(last = true, value_name = "KEEPER OPTIONS")]
    keeper: Vec<String>,
}

/// Runs the command. Returns only when the build failed or nothing is to be started.
///
/// # Errors
/// When a tool is missing and cannot be installed, or the keeper cannot be started.
pub(crate) fn main(options: &Options) -> Result<bool> {
    console::line("[1/3] checking the tools");
    check_rustc()?;
    check_cc()?;
    console::line("[2/3] building the server (some minutes from cold, seconds afterwards)");
    build_release()?;
    if options.build_only {
        console::line("built: target/release/millrace-keeper");
        return Ok(true);
    }
    console::line("[3/3] starting millrace-keeper; Ctrl-C ends it");
    let mut command = keeper(options);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", shell::shown(&command)))
}

/// The keeper with its options; `timeout` of coreutils forwards signals and ends it after `--seconds`.
fn keeper(options: &Options) -> Command {
    let keeper = paths::release_binary("millrace-keeper");
    let mut command = match options.seconds {
        None => Command::new(keeper),
        Some(seconds) => {
            let mut command = Command::new("timeout");
            command.args(["--foreground", "--preserve-status", "--signal=TERM", &seconds.to_string()]).arg(keeper);
            command
        }
    };
    command.args(&options.keeper);
    command
}

/// Builds every binary of the workspace in release. The same selection of packages for `run`, `lab` and `test`, because
/// another selection unifies features differently and compiles dependencies a second time.
///
/// # Errors
/// When cargo cannot be started or the build fails.
pub(crate) fn build_release() -> Result<()> {
    if !shell::run(&mut shell::cargo(["build", "--release", "--locked", "--workspace", "--bins"]))? {
        bail!("the build failed; the compiler's messages are above");
    }
    Ok(())
}

fn check_rustc() -> Result<()> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let text = shell::answer(&mut shell::command(&rustc, ["--version"])).unwrap_or_default();
    let (major, minor) = OLDEST_RUSTC;
    match rustc_version(&text) {
        Some(version) if version >= OLDEST_RUSTC => Ok(()),
        Some((a, b)) => bail!("rustc {major}.{minor} or newer is needed, this is {a}.{b}: rustup update stable"),
        None => bail!("rustc {major}.{minor} or newer is needed and none answers: https://rustup.rs"),
    }
}

/// (1, 95) of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rustc ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The C compiler that links Rust programs and compiles aws-lc and mimalloc.
fn check_cc() -> Result<()> {
    if shell::has_program("cc") && shell::has_program("gcc") {
        return Ok(());
    }
    if !shell::is_root() {
        bail!("a C compiler is missing: sudo apt-get install build-essential");
    }
    console::line("a C compiler is missing: installing build-essential");
    install::ensure_apt(&["build-essential"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seconds: Option<u32>, keeper: &[&str]) -> Options {
        Options { seconds, build_only: false, keeper: keeper.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn the_version_is_read_from_what_rustc_prints() {
        assert_eq!(rustc_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(rustc_version("rustc 1.96.0-nightly (abc 2026-05-01)"), Some((1, 96)));
        assert_eq!(rustc_version("command not found"), None);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        assert!(rustc_version("rustc 1.100.0").expect("a version") >= OLDEST_RUSTC);
        assert!(rustc_version("rustc 1.94.1").expect("a version") < OLDEST_RUSTC);
    }

    #[test]
    fn the_keeper_is_started_directly_with_what_follows_the_dashes() {
        let text = shell::shown(&keeper(&options(None, &["--listen", "0.0.0.0:8443"])));
        assert_eq!(text, "millrace-keeper --listen 0.0.0.0:8443");
    }

    #[test]
    fn a_limit_in_seconds_ends_it_with_sigterm_and_keeps_its_status() {
        let text = shell::shown(&keeper(&options(Some(5), &[])));
        assert!(text.starts_with("timeout --foreground --preserve-status --signal=TERM 5 "), "{text}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lint`: every check by name, all of them run, whatever fails before. The checks of our own are functions
//! of [`repo::Repo`] and have tests with a fixture that turns them red; the others are cargo's. Never changes a file.

mod homes;
mod layers;
mod licences;
mod repo;
mod source;
mod text;
mod unsafety;
mod unused;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use tools_netlab::console;

use self::repo::Repo;
use crate::{abi, ebpf, page, paths, shell};

const EXAMPLES: &str = "\
Examples:
  cargo xtask lint                        # everything, as CI runs it
  cargo xtask lint --list                 # the names of the checks
  cargo xtask lint --only unsafe-places   # one of them; may be given several times
  cargo xtask lint --own                  # the checks that need no compiler: two seconds";

/// `cargo xtask lint`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Run only the check of this name; may be given several times.
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Run only the checks that need no compiler.
    #[arg(long)]
    own: bool,
    /// List the checks.
    #[arg(long)]
    list: bool,
}

/// How a check is carried out.
enum How {
    /// A function of what was read; each string is one finding.
    Own(fn(&Repo) -> Vec<String>),
    /// A cargo command that must exit 0.
    Cargo(&'static [&'static str]),
    /// The committed layout snapshot against the last commit.
    Abi,
    /// The committed classifier against its sources.
    Ebpf,
    /// The page's types by TypeScript, which npm installs.
    Page,
}

/// One check.
struct Check {
    name: &'static str,
    holds: &'static str,
    how: How,
}

const fn own(name: &'static str, holds: &'static str, check: fn(&Repo) -> Vec<String>) -> Check {
    Check { name, holds, how: How::Own(check) }
}

const CLIPPY: &[&str] = &["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];

const FMT_EBPF: &[&str] = &["fmt", "--manifest-path", "ebpf/classifier/Cargo.toml", "--check"];
const FMT_SINK: &[&str] = &["fmt", "--manifest-path", "ebpf/sink/Cargo.toml", "--check"];

const CHECKS: &[Check] = &[
    own("layers", "dependencies go down, the planes meet in abi, shm and wire (laws 1, 2)", layers::direction),
    own("powers", "no clock in the pipeline, intent has one writer (laws 3, 4)", layers::powers),
    own("homes", "each named package has one home (law 5)", homes::named_packages),
    own("allocator", "every binary allocates with mimalloc (law 5)", homes::allocator),
    own("unsafe-places", "`unsafe` stands only where law 6 allows it", unsafety::places),
    own("unsafe-arguments", "every unsafe block has its `// SAFETY:`", unsafety::arguments),
    own("unsafe-forbidden", "every other crate forbids it", unsafety::forbidden_elsewhere),
    own("sizes", "production files have at most 600 lines", text::sizes),
    own("licence-lines", "every source file begins with its SPDX line", text::licence_lines),
    own("module-headers", "every Rust file says what it is", text::module_headers),
    own("names", "no file name that says nothing, no mod.rs", text::names),
    own("top", "`ls` at the top shows the five parts", text::top),
    own("links", "links in the documents lead to files", text::links),
    own("unused-dependencies", "every dependency is used by the code it is for", unused::dependencies),
    own("licences", "everything in the lock file may be shipped", licences::of_packages),
    Check { name: "ebpf", holds: "the committed classifier belongs to the committed sources", how: How::Ebpf },
    Check { name: "fmt", holds: "rustfmt changes nothing", how: How::Cargo(&["fmt", "--all", "--check"]) },
    Check { name: "fmt-ebpf", holds: "nor in the classifier's workspace", how: How::Cargo(FMT_EBPF) },
    Check { name: "fmt-sink", holds: "nor in the sink's workspace", how: How::Cargo(FMT_SINK) },
    Check { name: "abi", holds: "no layout change without a change of ABI_VERSION", how: How::Abi },
    Check { name: "page", holds: "`tsc --checkJs --strict` finds nothing in the page", how: How::Page },
    Check { name: "clippy", holds: "no warning; functions ≤ 70 lines, ≤ 6 arguments", how: How::Cargo(CLIPPY) },
];

/// Runs the command.
///
/// # Errors
/// When a name is unknown, the checkout cannot be read or cargo cannot be started.
pub(crate) fn main(options: &Options) -> Result<bool> {
    if options.list {
        for check in CHECKS {
            console::line(&format!("  {:<20} {}", check.name, check.holds));
        }
        return Ok(true);
    }
    if let Some(unknown) = options.only.iter().find(|name| !CHECKS.iter().any(|c| c.name == **name)) {
        bail!("there is no check `{unknown}`; `cargo xtask lint --list` shows them");
    }
    let repo = Repo::read(&paths::root())?;
    let chosen = CHECKS.iter().filter(|c| options.only.is_empty() || options.only.iter().any(|name| name == c.name));
    let (mut passed, mut failed) = (0_usize, Vec::new());
    for check in chosen.filter(|c| !options.own || matches!(c.how, How::Own(_) | How::Ebpf)) {
        if carry_out(check, &repo) {
            passed += 1;
        } else {
            failed.push(check.name);
        }
    }
    if !failed.is_empty() {
        console::line(&format!("failed: {}", failed.join(", ")));
    }
    console::line(&format!("{passed} passed, {} failed", failed.len()));
    Ok(failed.is_empty())
}

/// Runs one check and prints its line and its findings. A check that cannot be carried out has failed.
fn carry_out(check: &Check, repo: &Repo) -> bool {
    let start = Instant::now();
    let findings = findings_of(check, repo).unwrap_or_else(|error| vec![format!("{error:#}")]);
    for finding in &findings {
        console::line(&format!("  {finding}"));
    }
    let verdict = if findings.is_empty() { "ok" } else { "FAILED" };
    let seconds = start.elapsed().as_secs_f32();
    console::line(&format!("{:<20} {verdict:<6} {seconds:5.1} s  {}", check.name, check.holds));
    findings.is_empty()
}

fn findings_of(check: &Check, repo: &Repo) -> Result<Vec<String>> {
    Ok(match check.how {
        How::Own(function) => function(repo),
        How::Cargo(args) => {
            let green = shell::run(&mut shell::cargo(args))?;
            let fault = || format!("`cargo {}` found what is above", args.join(" "));
            if green { Vec::new() } else { vec![fault()] }
        }
        How::Ebpf => ebpf::stale()?,
        How::Abi => abi::unversioned_change("HEAD")?.into_iter().collect(),
        How::Page => page::type_errors()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own() {
        for check in CHECKS {
            assert_eq!(CHECKS.iter().filter(|c| c.name == check.name).count(), 1, "{}", check.name);
        }
    }

    #[test]
    fn an_unknown_check_is_refused() {
        let options = Options { only: vec!["no-such-check".to_owned()], own: false, list: false };
        assert!(main(&options).is_err());
    }

    #[test]
    fn a_cargo_command_that_fails_is_a_finding() {
        let how = How::Cargo(&["no-such-subcommand", "--quiet"]);
        let check = Check { name: "red", holds: "never", how };
        assert_eq!(findings_of(&check, &Repo::default()).expect("carried out").len(), 1);
        let check = Check { name: "green", holds: "always", how: How::Cargo(&["--version"]) };
        assert_eq!(findings_of(&check, &Repo::default()).expect("carried out"), [""; 0]);
    }
}

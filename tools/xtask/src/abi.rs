// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask abi`: the layout of the shared memory against its committed snapshot. Never decides what the layout is:
//! a test of `dataplane-abi` renders it.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use tools_netlab::console;

use crate::{paths, shell};

const SNAPSHOT: &str = "dataplane/abi/layout.snap";
const SOURCES: &str = "dataplane/abi/src";

const EXAMPLES: &str = "\
Examples:
  cargo xtask abi                  # compare
  cargo xtask abi --bless          # write the snapshot anew, after raising ABI_VERSION
  cargo xtask abi --since v0.1.0   # hold it against a release";

/// `cargo xtask abi`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Write the snapshot anew from the records as they are compiled.
    #[arg(long)]
    bless: bool,
    /// The revision whose snapshot and ABI_VERSION are the ones that others have.
    #[arg(long, default_value = "HEAD", value_name = "REV")]
    since: String,
}

/// The layout and the version number that it goes by.
#[derive(Debug, PartialEq, Clone)]
struct Contract {
    snapshot: String,
    version: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// When cargo cannot be started or the snapshot cannot be read.
pub(crate) fn main(options: &Options) -> Result<bool> {
    let mut command = shell::cargo(["test", "--release", "--locked", "--quiet", "-p", "dataplane-abi", "layout"]);
    if options.bless {
        command.env("BLESS", "1");
    }
    if !shell::run(&mut command)? {
        console::line(&format!("abi: the records differ from {SNAPSHOT}; if that is meant, raise ABI_VERSION and run"));
        console::line("     cargo xtask abi --bless");
        return Ok(false);
    }
    if let Some(fault) = unversioned_change(&options.since)? {
        console::line(&format!("abi: {fault}"));
        return Ok(false);
    }
    console::line(&format!("abi: {SNAPSHOT} is up to date"));
    Ok(true)
}

/// The fault when the snapshot differs from the one in `since` under the same `ABI_VERSION`.
///
/// # Errors
/// When the snapshot in the work tree cannot be read.
pub(crate) fn unversioned_change(since: &str) -> Result<Option<String>> {
    let root = paths::root();
    let file = root.join(SNAPSHOT);
    let here = Contract {
        snapshot: std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?,
        version: version_here(&root.join(SOURCES))?,
    };
    let Some(there) = contract_at(since) else {
        console::line(&format!("abi: no snapshot in {since} to compare with"));
        return Ok(None);
    };
    Ok(verdict(&here, &there, since))
}

fn verdict(here: &Contract, there: &Contract, since: &str) -> Option<String> {
    let Some(version) = here.version else {
        return Some(format!("`pub const ABI_VERSION` is not found in {SOURCES}"));
    };
    (here.snapshot != there.snapshot && here.version == there.version)
        .then(|| format!("{SNAPSHOT} differs from {since}, and ABI_VERSION is {version} in both: raise it"))
}

fn contract_at(revision: &str) -> Option<Contract> {
    let show = |path: &str| shell::output(&mut shell::command("git", ["show", &format!("{revision}:{path}")])).ok();
    let snapshot = show(SNAPSHOT).filter(|o| o.status.success())?;
    let list = shell::answer(&mut shell::command("git", ["ls-tree", "-r", "--name-only", revision, SOURCES]))?;
    let version = list.lines().find_map(|path| version_in(&String::from_utf8_lossy(&show(path)?.stdout)));
    Some(Contract { snapshot: String::from_utf8_lossy(&snapshot.stdout).into_owned(), version })
}

fn version_here(sources: &Path) -> Result<Option<u64>> {
    for entry in std::fs::read_dir(sources).with_context(|| format!("cannot list {}", sources.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "rs")
            && let Some(version) = version_in(&std::fs::read_to_string(&path)?)
        {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// The number in `pub const ABI_VERSION: u32 = 3;`.
fn version_in(source: &str) -> Option<u64> {
    let (_, rest) = source.split_once("const ABI_VERSION:")?;
    let (_, value) = rest.split_once('=')?;
    let (number, _) = value.split_once(';')?;
    number.trim().replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(snapshot: &str, version: Option<u64>) -> Contract {
        Contract { snapshot: snapshot.to_owned(), version }
    }

    #[test]
    fn a_changed_layout_under_the_same_version_is_a_fault() {
        let fault = verdict(&contract("b", Some(3)), &contract("a", Some(3)), "HEAD").expect("a fault");
        assert!(fault.contains("ABI_VERSION is 3"));
    }

    #[test]
    fn a_changed_layout_under_another_version_is_no_fault() {
        assert_eq!(verdict(&contract("b", Some(4)), &contract("a", Some(3)), "HEAD"), None);
        assert_eq!(verdict(&contract("a", Some(3)), &contract("a", Some(3)), "HEAD"), None);
    }

    #[test]
    fn a_missing_version_is_a_fault() {
        assert!(verdict(&contract("a", None), &contract("a", None), "HEAD").is_some());
    }

    #[test]
    fn the_version_is_read_from_the_source() {
        assert_eq!(version_in("/// Doc.\npub const ABI_VERSION: u32 = 1_2;\n"), Some(12));
        assert_eq!(version_in("pub const OTHER: u32 = 1;"), None);
    }
}

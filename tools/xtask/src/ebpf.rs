// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask ebpf toolchain | build | check`: the committed objects of the XDP programs. A plain `cargo build` embeds
//! them and needs no BPF toolchain; this is how they are made again, and how one sees that they belong to the sources.

mod compile;
mod manifest;
mod toolchain;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use tools_netlab::console;

use self::manifest::Manifest;
use self::toolchain::Toolchain;
use crate::{paths, shell};

/// Where the objects lie, relative to the root.
const PREBUILT: &str = "ebpf/prebuilt";
/// The programs: each is a workspace of its own, `ebpf/NAME`, relative to the root.
const PROGRAMS: &[&str] = &["classifier", "sink"];

/// Each committed object, its program and the features it is built with. The mutants are wrong on purpose.
const OBJECTS: &[(&str, &str, &[&str])] = &[
    ("classifier.bpf.o", "classifier", &[]),
    ("sink.bpf.o", "sink", &[]),
    ("mutants/any-address.bpf.o", "classifier", &["mutant-any-address"]),
    ("mutants/any-stranger.bpf.o", "classifier", &["mutant-any-stranger"]),
    ("mutants/no-limit.bpf.o", "classifier", &["mutant-no-limit"]),
    ("mutants/swapped-family.bpf.o", "classifier", &["mutant-swapped-family"]),
    ("mutants/wrong-key.bpf.o", "classifier", &["mutant-wrong-key"]),
];

const EXAMPLES: &str = "\
Examples:
  cargo xtask ebpf check       # do the committed objects belong to the sources?
  cargo xtask ebpf toolchain   # fetch compiler and linker into target/bpf-toolchain (no root needed, 140 MB, 2 minutes)
  cargo xtask ebpf build       # compile the programs and the mutants, write objects and manifest";

/// `cargo xtask ebpf`.
#[derive(Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch rustc with the bpfel target, the source of core and bpf-linker; does nothing when they are there.
    Toolchain,
    /// Compile the programs and the mutants and write ebpf/prebuilt.
    Build,
    /// Compare sources and objects with the manifest; with the toolchain, compile again and compare bytes; as root, run the
    /// fixtures through the kernel.
    Check,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or written or a program cannot be started.
pub(crate) fn main(options: &Options) -> Result<bool> {
    match options.command {
        Command::Toolchain => toolchain::fetch().map(|_| true),
        Command::Build => build(),
        Command::Check => check(),
    }
}

fn build() -> Result<bool> {
    let toolchain = toolchain::fetch()?;
    let mut manifest = Manifest::of_toolchain(&toolchain)?;
    for (name, program, features) in OBJECTS {
        let object = compile::object(&toolchain, program, features)?;
        let path = prebuilt(name);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let changed = std::fs::read(&path).ok().as_deref() != Some(&object);
        console::line(&format!(
            "  {name:<30} {:>6} B  {}",
            object.len(),
            if changed { "changed" } else { "as before" }
        ));
        manifest.add(name, &object);
        std::fs::write(&path, object)?;
    }
    manifest.write()?;
    console::line(&format!("ebpf: {} objects and {} written", OBJECTS.len(), manifest::FILE));
    Ok(true)
}

fn check() -> Result<bool> {
    let stale = stale()?;
    for fault in &stale {
        console::line(&format!("  {fault}"));
    }
    let mut green = stale.is_empty();
    let compiled = match Toolchain::present() {
        Some(toolchain) => {
            green &= compiles_to_the_same(&toolchain)?;
            "compiled again and compared byte by byte"
        }
        None => "not compiled again (no toolchain: cargo xtask ebpf toolchain)",
    };
    let fixtures = if shell::is_root() {
        let args = ["test", "--release", "--locked", "-p", "ebpf-loader", "--test", "classifier"];
        green &= shell::run(&mut shell::cargo(args))?;
        "fixtures run through the kernel"
    } else {
        "fixtures not run (not root)"
    };
    let verdict = if green { "ok" } else { "FAILED" };
    console::line(&format!("ebpf: {verdict}: sources and objects held against the manifest; {compiled}; {fixtures}"));
    Ok(green)
}

/// What does not fit the manifest: needs no toolchain. `cargo xtask lint` runs it.
///
/// # Errors
/// When a source, an object or the manifest cannot be read.
pub(crate) fn stale() -> Result<Vec<String>> {
    let manifest = Manifest::read()?;
    let mut objects = Vec::new();
    for (name, ..) in OBJECTS {
        objects.push((*name, std::fs::read(prebuilt(name)).unwrap_or_default()));
    }
    Ok(manifest.faults(&manifest::sources_hash(&paths::root())?, &objects))
}

fn compiles_to_the_same(toolchain: &Toolchain) -> Result<bool> {
    let mut same = true;
    let (ours, committed) = (Manifest::of_toolchain(toolchain)?, Manifest::read()?);
    if let Some(other) = ours.other_tools(&committed) {
        console::line(&format!("  built by {other}: bytes may differ"));
    }
    for (name, program, features) in OBJECTS {
        let object = compile::object(toolchain, program, features)?;
        let equal = std::fs::read(prebuilt(name)).ok().as_deref() == Some(&object);
        console::line(&format!("  {name:<30} {:>6} B  {}", object.len(), if equal { "equal" } else { "DIFFERS" }));
        same &= equal;
    }
    Ok(same)
}

fn prebuilt(name: &str) -> PathBuf {
    paths::root().join(PREBUILT).join(name)
}

// SPDX-License-Identifier: Apache-2.0
//! mediasoup: a worker that is given, driven by npm's package through a script of forty lines. No worker can be had by apt, npm
//! or cargo without a download or a long build, so this has to be run where there is one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tools_netlab::install;

/// The package, pinned.
pub const VERSION: &str = "3.19.0";
const SCRIPT: &str = include_str!("mediasoup.cjs");

/// Installs what drives the worker; its own scripts, which would fetch another worker, are not run.
///
/// # Errors
/// When no worker is given, or npm fails.
pub fn install(worker: Option<&Path>) -> Result<()> {
    let Some(worker) = worker else { bail!("no worker is given (--mediasoup-worker PATH)") };
    ensure!(worker.is_file(), "--mediasoup-worker: there is no file {}", worker.display());
    install::ensure_test_node()?;
    let folder = folder()?;
    let manifest = fs::read_to_string(folder.join("node_modules/mediasoup/package.json")).unwrap_or_default();
    if manifest.contains(&format!("\"version\": \"{VERSION}\"")) {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
    let package = format!("mediasoup@{VERSION}");
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", &package]).current_dir(&folder);
    tools_netlab::process::run(&mut npm).map(|_| ())
}

fn folder() -> Result<PathBuf> {
    Ok(install::lab_dir()?.join("mediasoup"))
}

/// The command that serves `address` with the worker; its script is written into `scripts`.
///
/// # Errors
/// When no worker is given, or the script cannot be written.
pub fn program(address: SocketAddr, worker: Option<&Path>, scripts: &Path) -> Result<Command> {
    let worker = worker.context("no worker is given (--mediasoup-worker PATH)")?;
    let script = scripts.join("mediasoup.cjs");
    fs::write(&script, SCRIPT)?;
    let mut program = Command::new(install::ensure_test_node()?);
    program.arg(script).args([address.ip().to_string(), address.port().to_string()]);
    program.env("NODE_PATH", folder()?.join("node_modules")).env("MEDIASOUP_WORKER_BIN", worker);
    Ok(program)
}

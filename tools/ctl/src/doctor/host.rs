// SPDX-License-Identifier: Apache-2.0
//! The machine as doctor sees it: files below a root, and the output of `ethtool`. Both are planted in tests.

use std::path::PathBuf;
use std::process::Command;

/// The machine.
#[derive(Debug)]
pub(crate) struct Host {
    root: PathBuf,
    /// `ethtool OPTION INTERFACE` → its output; none where it is missing or refuses.
    ethtool: fn(&str, &str) -> Option<String>,
}

impl Host {
    /// This machine.
    pub(crate) fn this() -> Self {
        Self { root: "/".into(), ethtool: run_ethtool }
    }

    /// A machine whose files lie below `root`.
    #[cfg(test)]
    pub(crate) fn planted(root: PathBuf, ethtool: fn(&str, &str) -> Option<String>) -> Self {
        Self { root, ethtool }
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The last part of what a symbolic link points to.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// How many entries of a folder begin so.
    pub(crate) fn count(&self, folder: &str, prefix: &str) -> Option<usize> {
        let entries = std::fs::read_dir(self.root.join(folder)).ok()?;
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        Some(names.filter(|name| name.starts_with(prefix)).count())
    }

    pub(crate) fn ethtool(&self, option: &str, interface: &str) -> Option<String> {
        (self.ethtool)(option, interface)
    }
}

fn run_ethtool(option: &str, interface: &str) -> Option<String> {
    let output = Command::new("ethtool").args([option, interface]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

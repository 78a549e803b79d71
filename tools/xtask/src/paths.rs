// SPDX-License-Identifier: Apache-2.0
//! Where things are in the checkout and on the machine. Never creates anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root of the checkout that this binary was built from.
pub(crate) fn root() -> PathBuf {
    // CARGO_MANIFEST_DIR is <root>/tools/xtask; cargo sets it again at run time, so a moved checkout still works.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let manifest = PathBuf::from(manifest);
    manifest.ancestors().nth(2).map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Cargo's target folder: `CARGO_TARGET_DIR` or `<root>/target`.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A binary of the workspace in the release profile, the only profile there is.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.toml").is_file());
        assert!(root().join("tools/xtask").is_dir());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A compiler for bpfel, the source of core and bpf-linker, in one folder and without root: Debian 12's `rustc-web` (which is
//! built with the BPF backend), `rust-web-src`, and a linker from the crate registry that links against the compiler's own
//! LLVM. Touches nothing outside its folder.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use tools_netlab::console;

use crate::{paths, shell};

const LINKER_VERSION: &str = "0.13.0";
/// A folder made by [`fetch`] elsewhere, to be used instead of the one in `target`.
const OVERRIDE: &str = "MILLRACE_BPF_TOOLCHAIN";

/// A folder with `x/usr` (compiler) and `bin/bpf-linker`.
pub(super) struct Toolchain {
    dir: PathBuf,
}

/// What made an object.
pub(super) struct Versions {
    pub(super) rustc: String,
    pub(super) llvm: String,
    pub(super) bpf_linker: String,
}

impl Toolchain {
    fn at_its_place() -> Self {
        let dir = std::env::var_os(OVERRIDE).map_or_else(|| paths::target().join("bpf-toolchain"), PathBuf::from);
        Self { dir }
    }

    /// The toolchain when it is complete.
    pub(super) fn present() -> Option<Self> {
        let toolchain = Self::at_its_place();
        (toolchain.rustc().is_file() && toolchain.linker().is_file()).then_some(toolchain)
    }

    /// The compiler.
    pub(super) fn rustc(&self) -> PathBuf {
        self.usr().join("bin/rustc")
    }

    /// The folder of `bpf-linker`.
    pub(super) fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// Where compiler and linker find their shared libraries.
    pub(super) fn lib(&self) -> PathBuf {
        self.usr().join("lib")
    }

    fn usr(&self) -> PathBuf {
        self.dir.join("x/usr")
    }

    fn linker(&self) -> PathBuf {
        self.bin().join("bpf-linker")
    }

    /// What the compiler answers to `args`.
    pub(super) fn ask(&self, program: &Path, args: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args).env("LD_LIBRARY_PATH", self.lib());
        shell::answer(&mut command).ok_or_else(|| anyhow!("{} {} failed", program.display(), args.join(" ")))
    }

    pub(super) fn versions(&self) -> Result<Versions> {
        let verbose = self.ask(&self.rustc(), &["-vV"])?;
        let llvm =
            verbose.lines().find_map(|line| line.strip_prefix("LLVM version: ")).context("rustc names no LLVM")?;
        Ok(Versions {
            rustc: verbose.lines().next().unwrap_or_default().to_owned(),
            llvm: llvm.to_owned(),
            bpf_linker: self.ask(&self.linker(), &["--version"])?,
        })
    }
}

/// The toolchain, fetched as far as it is not there.
pub(super) fn fetch() -> Result<Toolchain> {
    let toolchain = Toolchain::at_its_place();
    std::fs::create_dir_all(&toolchain.dir)?;
    if !toolchain.rustc().is_file() {
        fetch_compiler(&toolchain)?;
    }
    if !toolchain.linker().is_file() {
        fetch_linker(&toolchain)?;
    }
    let Versions { rustc, llvm, bpf_linker } = toolchain.versions()?;
    console::line(&format!("ebpf: {rustc}, LLVM {llvm}, {bpf_linker} in {}", toolchain.dir.display()));
    Ok(toolchain)
}

fn fetch_compiler(toolchain: &Toolchain) -> Result<()> {
    if !shell::has_program("apt-get") || !shell::has_program("dpkg-deb") {
        bail!(
            "the recipe takes rustc-web from Debian 12 (bookworm-security); elsewhere set {OVERRIDE} to a folder with x/usr and bin/bpf-linker"
        );
    }
    let std_package = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm_package = dependency(&std_package, "libllvm")?;
    console::line(&format!("ebpf: fetching rustc-web, {std_package} and {llvm_package} (137 MB)"));
    let names = ["rustc-web", "rust-web-src", "libstd-rust-web-dev", &std_package, &llvm_package];
    let mut download = Command::new("apt-get");
    download.arg("download").args(names).current_dir(&toolchain.dir);
    if !shell::run(&mut download)? {
        bail!("apt-get download failed; is bookworm-security among the sources, and was apt-get update run?");
    }
    for entry in std::fs::read_dir(&toolchain.dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "deb") {
            continue;
        }
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&path).arg(toolchain.dir.join("x"));
        if !shell::run(&mut unpack)? {
            bail!("{} cannot be unpacked", path.display());
        }
        std::fs::remove_file(&path)?;
    }
    show_libraries(toolchain)
}

/// Debian keeps shared libraries below the machine's triple; compiler and linker are told one folder.
fn show_libraries(toolchain: &Toolchain) -> Result<()> {
    let lib = toolchain.lib();
    let link = |to: &Path, name: &str| {
        let from = lib.join(name);
        if from.is_symlink() { Ok(()) } else { symlink(to, from) }
    };
    for triple in std::fs::read_dir(&lib)?.filter_map(Result::ok).filter(|e| e.path().is_dir()) {
        for entry in std::fs::read_dir(triple.path())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let to = Path::new(&triple.file_name()).join(&name);
            if name.starts_with("librustc_driver-") || name.starts_with("libLLVM.so.") {
                link(&to, &name)?;
            }
            if name.starts_with("libLLVM.so.") {
                link(&to, "libLLVM.so")?;
            }
        }
    }
    Ok(())
}

/// The package with that beginning that `package` depends on.
fn dependency(package: &str, beginning: &str) -> Result<String> {
    let text = shell::answer(&mut shell::command("apt-cache", ["depends", package])).unwrap_or_default();
    first_dependency(&text, beginning).ok_or_else(|| anyhow!("apt knows no {package} that depends on {beginning}…"))
}

fn first_dependency(text: &str, beginning: &str) -> Option<String> {
    let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with(beginning)).map(str::to_owned)
}

fn fetch_linker(toolchain: &Toolchain) -> Result<()> {
    let verbose = toolchain.ask(&toolchain.rustc(), &["-vV"])?;
    let version =
        verbose.lines().find_map(|line| line.strip_prefix("LLVM version: ")).context("rustc names no LLVM")?;
    let major = version.split('.').next().unwrap_or(version);
    console::line(&format!("ebpf: building bpf-linker {LINKER_VERSION} for LLVM {major} (a minute)"));
    let feature = format!("llvm-{major}");
    let mut install = shell::cargo(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    install.args(["--no-default-features", "--features", &feature, "--root"]).arg(&toolchain.dir);
    install.env("LLVM_PREFIX", toolchain.usr());
    // Speed of the linker does not matter, time to build it does.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    if shell::run(&mut install)? { Ok(()) } else { bail!("bpf-linker does not build") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versioned_package_is_found_among_the_dependencies() {
        let text = "libstd-rust-web-dev\n  Depends: gcc\n  Depends: libstd-rust-web-1.96\n    libgcc\n";
        assert_eq!(first_dependency(text, "libstd-rust-web-").as_deref(), Some("libstd-rust-web-1.96"));
        assert_eq!(first_dependency(text, "libllvm"), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One object from the sources, with the same bytes in every folder: paths are mapped away, and what depends on the place of a
//! line in a file (DWARF, line info) is taken out. BTF stays, so that the kernel's tools know names and types.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use super::toolchain::Toolchain;
use crate::{paths, shell};

const TARGET: &str = "bpfel-unknown-none";
/// Between the flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// Compiles a program with the features and strips it.
pub(super) fn object(toolchain: &Toolchain, program: &str, features: &[&str]) -> Result<Vec<u8>> {
    let dir = paths::target().join("ebpf");
    let mut build = shell::cargo(["build", "--release", "--locked", "--quiet", "-Z", "build-std=core"]);
    build.current_dir(paths::root().join("ebpf").join(program));
    build.args(["--target", TARGET, "--features", &features.join(","), "--target-dir"]).arg(&dir);
    build.env("RUSTC", toolchain.rustc()).env("RUSTC_BOOTSTRAP", "1");
    build.env("LD_LIBRARY_PATH", toolchain.lib()).env("PATH", with_linker(toolchain));
    build.env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?);
    // What cargo sets for this process must not reach another toolchain.
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        build.env_remove(name);
    }
    if !shell::run(&mut build)? {
        bail!("ebpf/{program} does not compile");
    }
    let path = dir.join(TARGET).join("release").join(program);
    let linked = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    stripped(&linked)
}

fn with_linker(toolchain: &Toolchain) -> OsString {
    let mut path = toolchain.bin().into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

fn flags(toolchain: &Toolchain) -> Result<String> {
    let sysroot = toolchain.ask(&toolchain.rustc(), &["--print", "sysroot"])?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let registry = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    Ok([
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        remap(&paths::root().to_string_lossy(), "/millrace"),
        remap(&registry.to_string_lossy(), "/registry"),
        remap(&format!("{sysroot}/lib/rustlib/src/rust"), "/rust"),
    ]
    .join(SEPARATOR))
}

/// The object without DWARF and line info.
fn stripped(linked: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(linked).context("the linker made no ELF file")?;
    for section in &mut elf.sections {
        let name = section.name.to_string();
        let name = name.strip_prefix(".rel").unwrap_or(&name);
        section.delete = name.starts_with(".debug_") || name == ".BTF.ext" || name == ".llvm_addrsig";
    }
    elf.delete_orphans();
    // bpf-linker keeps names of sections and symbols in one table, the writer in two.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut bytes = Vec::new();
    elf.write(&mut bytes).context("the object cannot be written")?;
    Ok(bytes)
}

// SPDX-License-Identifier: Apache-2.0
//! `ebpf/prebuilt/manifest.json`: which sources and which tools the committed objects are made from. Hashes here find
//! mistakes, not attackers: byte equality of a second compilation does that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::toolchain::Toolchain;
use super::{PREBUILT, PROGRAMS};
use crate::paths;

/// The file's name, for messages.
pub(super) const FILE: &str = "ebpf/prebuilt/manifest.json";

/// Sources outside the programs' own folders that become instructions of them. What only lends it a constant or a macro (limits,
/// layout, drop reasons) is left out, so that unrelated work does not ask for the toolchain; a second compilation sees those.
const SHARED_SOURCES: &[&str] = &[
    "dataplane/abi/src/flow.rs",
    "dataplane/abi/src/xdp.rs",
    "dataplane/wire/src/demux.rs",
    "dataplane/wire/src/eth.rs",
    "dataplane/wire/src/ip.rs",
    "dataplane/wire/src/stun.rs",
    "dataplane/wire/src/udp.rs",
    "dataplane/wire/src/window.rs",
];

/// What the objects were made from.
#[derive(Serialize, Deserialize, Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// SHA-1 over names and contents of the sources.
    sources: String,
    rustc: String,
    llvm: String,
    bpf_linker: String,
    /// SHA-1 of each object.
    objects: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of objects yet to be made from the sources as they are.
    pub(super) fn of_toolchain(toolchain: &Toolchain) -> Result<Self> {
        let versions = toolchain.versions()?;
        Ok(Self {
            sources: sources_hash(&paths::root())?,
            rustc: versions.rustc,
            llvm: versions.llvm,
            bpf_linker: versions.bpf_linker,
            objects: BTreeMap::new(),
        })
    }

    pub(super) fn read() -> Result<Self> {
        let path = file();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{FILE} is not a manifest"))
    }

    pub(super) fn write(&self) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file(), text).with_context(|| format!("cannot write {FILE}"))
    }

    pub(super) fn add(&mut self, name: &str, object: &[u8]) {
        self.objects.insert(name.to_owned(), hash(object));
    }

    /// What in these sources and objects is not what the manifest says.
    pub(super) fn faults(&self, sources: &str, objects: &[(&str, Vec<u8>)]) -> Vec<String> {
        let mut faults = Vec::new();
        if self.sources != sources {
            faults.push(format!("{PREBUILT}: made from other sources than these; run: cargo xtask ebpf build"));
        }
        for (name, bytes) in objects {
            if self.objects.get(*name) != Some(&hash(bytes)) {
                faults.push(format!("{PREBUILT}/{name}: not the object of the manifest; run: cargo xtask ebpf build"));
            }
        }
        for name in self.objects.keys().filter(|name| !objects.iter().any(|(known, _)| known == *name)) {
            faults.push(format!("{FILE}: {name} is nobody's"));
        }
        faults
    }

    /// The tools of the other manifest when they are not these.
    pub(super) fn other_tools(&self, other: &Self) -> Option<String> {
        let tools = |m: &Self| format!("{}, LLVM {}, {}", m.rustc, m.llvm, m.bpf_linker);
        (tools(self) != tools(other)).then(|| tools(other))
    }
}

fn file() -> PathBuf {
    paths::root().join(FILE)
}

fn hash(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-1 over all sources of the programs.
pub(super) fn sources_hash(root: &Path) -> Result<String> {
    let mut names: Vec<String> = SHARED_SOURCES.iter().map(|name| (*name).to_owned()).collect();
    for program in PROGRAMS {
        names.extend(["Cargo.toml", "Cargo.lock"].map(|name| format!("ebpf/{program}/{name}")));
        let src = root.join("ebpf").join(program).join("src");
        for entry in std::fs::read_dir(&src).with_context(|| format!("cannot list {}", src.display()))? {
            names.push(format!("ebpf/{program}/src/{}", entry?.file_name().to_string_lossy()));
        }
    }
    names.sort();
    let mut all = Sha1::new();
    for name in names {
        let bytes = std::fs::read(root.join(&name)).with_context(|| format!("cannot read {name}"))?;
        all.update(format!("{name} {}\n", hash(&bytes)));
    }
    Ok(all.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sources_a_changed_object_and_an_unknown_one_are_faults() {
        let mut manifest = Manifest { sources: "a".to_owned(), ..Manifest::default() };
        manifest.add("x.bpf.o", b"x");
        let object = |bytes: &[u8]| [("x.bpf.o", bytes.to_vec())];
        assert_eq!(manifest.faults("a", &object(b"x")), [""; 0]);
        assert_eq!(manifest.faults("b", &object(b"x")).len(), 1);
        assert_eq!(manifest.faults("a", &object(b"y")).len(), 1);
        manifest.add("z.bpf.o", b"z");
        assert_eq!(manifest.faults("a", &object(b"x")).len(), 1);
    }

    #[test]
    fn the_hash_of_the_sources_follows_their_content() {
        let here = sources_hash(&paths::root()).expect("sources");
        assert_eq!(here, sources_hash(&paths::root()).expect("sources"));
        let copy = std::env::temp_dir().join(format!("xtask-ebpf-{}", std::process::id()));
        let mut names: Vec<String> = SHARED_SOURCES.iter().map(|name| (*name).to_owned()).collect();
        for program in PROGRAMS {
            names.extend(["Cargo.toml", "Cargo.lock"].map(|name| format!("ebpf/{program}/{name}")));
            for entry in std::fs::read_dir(paths::root().join(format!("ebpf/{program}/src"))).expect("listed") {
                names.push(format!("ebpf/{program}/src/{}", entry.expect("listed").file_name().display()));
            }
        }
        for name in &names {
            let to = copy.join(name);
            std::fs::create_dir_all(to.parent().expect("below the root")).expect("made");
            std::fs::copy(paths::root().join(name), to).expect("copied");
        }
        assert_eq!(sources_hash(&copy).expect("sources"), here);
        std::fs::write(copy.join("ebpf/sink/src/main.rs"), "// other\n").expect("written");
        assert_ne!(sources_hash(&copy).expect("sources"), here);
        std::fs::remove_dir_all(&copy).expect("removed");
    }
}

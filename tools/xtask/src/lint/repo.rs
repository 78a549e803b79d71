// SPDX-License-Identifier: Apache-2.0
//! What the checks look at: the text files of the checkout and the packages of `cargo metadata`, read once. Checks are
//! functions of this value and touch neither disk nor network, so that their tests hand them a fixture.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::source;
use crate::shell;

/// Endings of the files that are read; others are known by name only.
const TEXT: &[&str] = &["rs", "js", "mjs", "py", "html", "css", "toml", "md"];

/// Everything that a check may look at.
#[derive(Default)]
pub(crate) struct Repo {
    /// Every file below the root but for hidden and built ones.
    pub(crate) files: Vec<File>,
    /// The names at the top that are neither hidden nor built.
    pub(crate) top: Vec<String>,
    /// The members of the workspace.
    pub(crate) members: Vec<Package>,
    /// Every package of the lock file, members included.
    pub(crate) locked: Vec<Locked>,
}

/// One file.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// For `.rs`: the text without comments and strings. Otherwise empty.
    pub(crate) code: String,
    /// For `.rs`: the code without test modules; empty when the whole file is test code.
    pub(crate) production: String,
}

/// One member of the workspace.
#[derive(Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root, with `/`.
    pub(crate) dir: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// `src/lib.rs` and the like, relative to the root.
    pub(crate) lib_root: Option<String>,
    /// `src/main.rs` and the like, relative to the root.
    pub(crate) bin_roots: Vec<String>,
}

/// One edge from a member to a package.
pub(crate) struct Dependency {
    pub(crate) package: String,
    /// How the source calls it: `aws_lc_rs`.
    pub(crate) ident: String,
    pub(crate) kind: Kind,
}

/// What a dependency is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One package of the lock file.
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

impl File {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if ends(&path, "rs") { source::code_only(&text) } else { String::new() };
        let mut file = Self { path, text, code, production: String::new() };
        if !file.is_test() {
            file.production = source::without_test_modules(&file.code);
        }
        file
    }

    pub(crate) fn is(&self, endings: &[&str]) -> bool {
        endings.iter().any(|e| ends(&self.path, e))
    }

    /// The file's name with its ending.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the whole file is test or bench code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "benches" | "testdata" | "tests.rs"))
            || self.name().ends_with("_tests.rs")
    }

    /// Whether the file is below the folder or is the file `place`.
    pub(crate) fn within(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn ends(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == ending)
}

impl Repo {
    /// Reads the checkout and asks cargo for its packages.
    ///
    /// # Errors
    /// When a file cannot be read, or `Cargo.lock` does not fit the manifests.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut repo = Self::default();
        walk(root, root, &mut repo)?;
        repo.files.sort_by(|a, b| a.path.cmp(&b.path));
        repo.top.sort();
        let output = shell::output(&mut shell::cargo(["metadata", "--format-version", "1", "--locked"]))?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        repo.take_metadata(&String::from_utf8_lossy(&output.stdout), root)?;
        Ok(repo)
    }

    fn take_metadata(&mut self, json: &str, root: &Path) -> Result<()> {
        let metadata: Metadata = serde_json::from_str(json).context("cargo metadata is not the JSON that we know")?;
        let relative = |path: &str| Path::new(path).strip_prefix(root).map(|p| p.to_string_lossy().into_owned());
        for package in &metadata.packages {
            self.locked.push(Locked {
                name: package.name.clone(),
                version: package.version.clone(),
                license: package.license.clone(),
            });
            if !metadata.workspace_members.contains(&package.id) {
                continue;
            }
            let manifest = relative(&package.manifest_path)?;
            let roots = |kinds: &[&str]| -> Vec<String> {
                let targets = package.targets.iter().filter(|t| t.kind.iter().any(|k| kinds.contains(&k.as_str())));
                targets.filter_map(|t| relative(&t.src_path).ok()).collect()
            };
            self.members.push(Package {
                name: package.name.clone(),
                dir: manifest.trim_end_matches("/Cargo.toml").to_owned(),
                dependencies: package.dependencies.iter().map(|d| dependency(d, &metadata)).collect(),
                lib_root: roots(&["lib", "proc-macro"]).into_iter().next(),
                bin_roots: roots(&["bin"]),
            });
        }
        Ok(())
    }

    /// The files of a member.
    pub(crate) fn files_of<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(|f| f.within(&package.dir))
    }

    /// The file of that path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }
}

/// The name that the source uses: the rename, else the library's own name, which may differ from the package's.
fn dependency(raw: &RawDependency, metadata: &Metadata) -> Dependency {
    let library = metadata.packages.iter().filter(|p| p.name == raw.name).find_map(|p| {
        p.targets.iter().find(|t| t.kind.iter().any(|k| k.ends_with("lib") || k == "proc-macro")).map(|t| &t.name)
    });
    let name = raw.rename.as_ref().or(library).unwrap_or(&raw.name);
    let kind = match raw.kind.as_deref() {
        None => Kind::Normal,
        Some("build") => Kind::Build,
        Some(_) => Kind::Dev,
    };
    Dependency { package: raw.name.clone(), ident: name.replace('-', "_"), kind }
}

fn walk(root: &Path, dir: &Path, repo: &mut Repo) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What .gitignore names: hidden state, build output, packet captures, npm's folder.
        let built = dir == root && name.starts_with("target");
        if name.starts_with('.') || built || name == "node_modules" || ends(&name, "pcap") || name == "__pycache__" {
            continue;
        }
        if dir == root {
            repo.top.push(name.clone());
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, repo)?;
            continue;
        }
        let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = if TEXT.iter().any(|e| ends(&name, e)) {
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {relative}"))?;
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            String::new()
        };
        repo.files.push(File::new(relative, text));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: String,
    dependencies: Vec<RawDependency>,
    targets: Vec<RawTarget>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct RawTarget {
    name: String,
    kind: Vec<String>,
    src_path: String,
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Small repositories for the tests of the checks.

    use super::{Dependency, File, Kind, Package, Repo};

    /// A repository of files only.
    pub(crate) fn of_files(files: &[(&str, &str)]) -> Repo {
        Repo { files: files.iter().map(|(path, text)| File::new(*path, *text)).collect(), ..Repo::default() }
    }

    /// A member in `dir`, named after its folder as the layout wants it.
    pub(crate) fn package(dir: &str, dependencies: &[(&str, Kind)]) -> Package {
        let edge = |(name, kind): &(&str, Kind)| Dependency {
            package: (*name).to_owned(),
            ident: name.replace('-', "_"),
            kind: *kind,
        };
        Package {
            name: dir.replace('/', "-"),
            dir: dir.to_owned(),
            dependencies: dependencies.iter().map(edge).collect(),
            ..Package::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
      "workspace_members": ["path+a"],
      "packages": [
        {"id": "path+a", "name": "a", "version": "0.1.0", "license": "Apache-2.0", "manifest_path": "/r/tools/a/Cargo.toml",
         "targets": [{"name": "a", "kind": ["lib"], "src_path": "/r/tools/a/src/lib.rs"},
                     {"name": "a", "kind": ["bin"], "src_path": "/r/tools/a/src/main.rs"}],
         "dependencies": [{"name": "x-y", "rename": null, "kind": null}, {"name": "x-y", "rename": "zed", "kind": "dev"}]},
        {"id": "reg+x-y", "name": "x-y", "version": "1.0.0", "license": null, "manifest_path": "/c/x/Cargo.toml",
         "targets": [{"name": "xy_core", "kind": ["lib"], "src_path": "/c/x/src/lib.rs"}], "dependencies": []}
      ]}"#;

    #[test]
    fn members_and_locked_packages_are_read_from_the_metadata() {
        let mut repo = Repo::default();
        repo.take_metadata(METADATA, Path::new("/r")).expect("valid");
        assert_eq!(repo.locked.len(), 2);
        let member = repo.members.first().expect("one member");
        assert_eq!(member.dir, "tools/a");
        assert_eq!(member.lib_root.as_deref(), Some("tools/a/src/lib.rs"));
        assert_eq!(member.bin_roots, ["tools/a/src/main.rs"]);
    }

    #[test]
    fn a_dependency_goes_by_the_name_that_the_source_uses() {
        let mut repo = Repo::default();
        repo.take_metadata(METADATA, Path::new("/r")).expect("valid");
        let member = repo.members.first().expect("one member");
        let idents: Vec<(&str, Kind)> = member.dependencies.iter().map(|d| (d.ident.as_str(), d.kind)).collect();
        assert_eq!(idents, [("xy_core", Kind::Normal), ("zed", Kind::Dev)]);
    }

    #[test]
    fn a_place_is_a_folder_or_a_file_and_no_prefix_of_a_name() {
        let file = File::new("dataplane/io/src/ring.rs", "");
        assert!(file.within("dataplane/io") && file.within("dataplane/io/src/ring.rs"));
        assert!(!file.within("dataplane/i"));
    }
}

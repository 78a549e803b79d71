// SPDX-License-Identifier: Apache-2.0
//! Law 5: each package that the project is built around has one home. A dependency elsewhere is a finding, even when it
//! would work.

use super::repo::{Dependency, Kind, Package, Repo};
use super::source;

/// One package and the folders whose crates may depend on it.
struct Home {
    package: &'static str,
    production: &'static [&'static str],
    tests: &'static [&'static str],
}

const HOMES: &[Home] = &[
    Home { package: "aya", production: &["ebpf/loader", "bench/scenarios"], tests: &["ebpf/loader"] },
    Home { package: "io-uring", production: &["dataplane/io"], tests: &["dataplane/io"] },
    Home { package: "tokio-uring", production: &["controlplane/daemon", "dataplane/recorder"], tests: &[] },
    Home { package: "crossbeam", production: &["dataplane/shm", "dataplane/daemon"], tests: &[] },
    Home { package: "core_affinity", production: &["dataplane/daemon"], tests: &[] },
    Home { package: "hdrhistogram", production: &["bench", "tools/ctl"], tests: &["bench"] },
    Home { package: "webrtc-srtp", production: &["bench"], tests: &["dataplane/srtp", "bench"] },
];

/// The global allocator of every binary.
const ALLOCATOR: &str = "mimalloc";

/// Named packages are used only at home.
pub(crate) fn named_packages(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in &repo.members {
        for dependency in &package.dependencies {
            let Some(home) = HOMES.iter().find(|h| h.package == dependency.package) else { continue };
            if !at_home(home, package, dependency) {
                let homes = home.production.join(", ");
                found.push(format!("{}/Cargo.toml: `{}` lives in {homes}", package.dir, home.package));
            }
        }
    }
    found
}

fn at_home(home: &Home, package: &Package, dependency: &Dependency) -> bool {
    let within = |places: &[&str]| {
        places.iter().any(|place| package.dir == *place || package.dir.starts_with(&format!("{place}/")))
    };
    within(home.production) || (dependency.kind == Kind::Dev && within(home.tests))
}

/// Every binary allocates with mimalloc, and no library chooses an allocator.
pub(crate) fn allocator(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in &repo.members {
        let depends = package.dependencies.iter().any(|d| d.package == ALLOCATOR && d.kind == Kind::Normal);
        if package.bin_roots.is_empty() {
            if depends {
                found.push(format!("{}/Cargo.toml: a library does not choose the allocator", package.dir));
            }
            continue;
        }
        if !depends {
            found.push(format!("{}/Cargo.toml: a binary crate depends on mimalloc", package.dir));
            continue;
        }
        let sets = |code: &str| code.contains("#[global_allocator]");
        let names = |code: &str| source::words(code, "MiMalloc").next().is_some();
        let production = || repo.files_of(package).map(|f| f.production.as_str());
        if !production().any(sets) || !production().any(names) {
            found.push(format!("{}: no #[global_allocator] that is mimalloc::MiMalloc", package.bin_roots.join(", ")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::repo::fixture::{of_files, package};
    use super::*;

    fn named(dir: &str, dependency: &str, kind: Kind) -> Vec<String> {
        named_packages(&Repo { members: vec![package(dir, &[(dependency, kind)])], ..Repo::default() })
    }

    #[test]
    fn a_named_package_away_from_home_is_a_finding() {
        assert_eq!(named("dataplane/daemon", "io-uring", Kind::Normal).len(), 1);
        assert_eq!(named("controlplane/store", "tokio-uring", Kind::Normal).len(), 1);
        assert_eq!(named("dataplane/forward", "crossbeam", Kind::Normal).len(), 1);
        assert_eq!(named("dataplane/io", "core_affinity", Kind::Dev).len(), 1);
    }

    #[test]
    fn a_named_package_at_home_is_none() {
        assert_eq!(named("dataplane/io", "io-uring", Kind::Normal), [""; 0]);
        assert_eq!(named("bench/bots", "hdrhistogram", Kind::Normal), [""; 0]);
    }

    #[test]
    fn the_srtp_oracle_is_for_tests_only() {
        assert_eq!(named("dataplane/srtp", "webrtc-srtp", Kind::Dev), [""; 0]);
        assert_eq!(named("dataplane/srtp", "webrtc-srtp", Kind::Normal).len(), 1);
    }

    fn program(source: &str, dependencies: &[(&str, Kind)]) -> Vec<String> {
        let mut member = package("tools/ctl", dependencies);
        member.bin_roots = vec!["tools/ctl/src/main.rs".to_owned()];
        let mut repo = of_files(&[("tools/ctl/src/main.rs", source)]);
        repo.members.push(member);
        allocator(&repo)
    }

    #[test]
    fn a_binary_without_the_allocator_is_a_finding() {
        let with = "#[global_allocator]\nstatic GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;\nfn main() {}\n";
        assert_eq!(program(with, &[("mimalloc", Kind::Normal)]), [""; 0]);
        assert_eq!(program(with, &[]).len(), 1);
        assert_eq!(program("fn main() {} // #[global_allocator] MiMalloc\n", &[("mimalloc", Kind::Normal)]).len(), 1);
    }

    #[test]
    fn a_library_that_chooses_an_allocator_is_a_finding() {
        let repo = Repo { members: vec![package("dataplane/io", &[("mimalloc", Kind::Normal)])], ..Repo::default() };
        assert_eq!(allocator(&repo).len(), 1);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Laws 1, 2 and 4: which package may depend on which, and which words a layer may not use. The tables here are the
//! laws; a package that no table knows is a finding, never a pass.

use super::repo::{Dependency, Kind, Package, Repo};
use super::source;

/// The data plane from the bottom up. A package depends on lower ranks only; `wire` may use `abi`.
const DATAPLANE: &[(&str, u32)] = &[
    ("dataplane-abi", 0),
    ("dataplane-wire", 1),
    ("ebpf-loader", 1),
    ("dataplane-table", 1),
    ("dataplane-shm", 2),
    ("dataplane-srtp", 2),
    ("dataplane-congestion", 2),
    ("dataplane-io", 3),
    ("dataplane-forward", 4),
    ("dataplane-keeper", 4),
    ("dataplane-daemon", 5),
];

/// The control plane: protocol cores beside each other, then what combines them.
const CONTROLPLANE: &[(&str, u32)] = &[
    ("controlplane-sdp", 1),
    ("controlplane-ice", 1),
    ("controlplane-dtls", 1),
    ("controlplane-room", 1),
    ("controlplane-store", 1),
    ("controlplane-programmer", 2),
    ("controlplane-signaling", 3),
    ("controlplane-daemon", 4),
];

/// Where the planes meet.
const MEETING_POINT: &[&str] = &["dataplane-abi", "dataplane-shm", "dataplane-wire"];

/// The package of `tools/ctl`, which is called as its program is.
const CLI: &str = "millrace";

/// Who may speak to the keeper, besides the data plane: those it hands descriptors to. The bed reads counters as the CLI does.
const KEEPER_CLIENTS: &[&str] = &["controlplane-daemon", CLI, "bench-peers"];

/// Words that stand for a power, and the only places whose production code may use them.
struct WordRule {
    word: &'static str,
    /// Where the rule holds; empty for everywhere.
    within: &'static [&'static str],
    /// The places inside `within` where the word is allowed.
    allowed: &'static [&'static str],
    why: &'static str,
}

const SANS_IO: &[&str] = &["dataplane/forward/src", "dataplane/congestion/src"];
const LAW_3: &str = "law 3: no clock and no syscall here, `now` is an argument";

const WORDS: &[WordRule] = &[
    WordRule {
        word: "IntentWriter",
        within: &[],
        allowed: &["dataplane/shm", "controlplane/programmer", "dataplane/daemon/src/standalone"],
        why: "law 4: only the programmer writes intent, and what serves a table where there is none",
    },
    WordRule { word: "Instant", within: SANS_IO, allowed: &[], why: LAW_3 },
    WordRule { word: "SystemTime", within: SANS_IO, allowed: &[], why: LAW_3 },
    WordRule { word: "UdpSocket", within: SANS_IO, allowed: &[], why: LAW_3 },
    WordRule { word: "rustix", within: SANS_IO, allowed: &[], why: LAW_3 },
    WordRule { word: "libc", within: SANS_IO, allowed: &[], why: LAW_3 },
    WordRule { word: "thread", within: SANS_IO, allowed: &[], why: LAW_3 },
];

/// Dependencies go down, and the planes meet in `abi`, `shm` and `wire` only.
pub(crate) fn direction(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in &repo.members {
        let members = package.dependencies.iter().filter(|d| repo.members.iter().any(|m| m.name == d.package));
        for edge in members {
            if let Some(why) = forbidden(package, edge) {
                found.push(format!(
                    "{}/Cargo.toml: {} may not depend on {}: {why}",
                    package.dir, package.name, edge.package
                ));
            }
        }
        let known = [DATAPLANE, CONTROLPLANE].iter().any(|table| rank(table, &package.name).is_some());
        if !known && !package.dir.starts_with("tools/") && !package.dir.starts_with("bench/") {
            found.push(format!("{}: {} has no place in tools/xtask/src/lint/layers.rs", package.dir, package.name));
        }
    }
    found
}

/// Why the edge breaks a law.
fn forbidden(package: &Package, edge: &Dependency) -> Option<&'static str> {
    let (from, to) = (package.name.as_str(), edge.package.as_str());
    if to.ends_with("-daemon") || to == "xtask" || to == CLI {
        return Some("nothing depends on a program");
    }
    // Tests may bring other layers in; what ships may not.
    if edge.kind == Kind::Dev {
        return None;
    }
    if let (Some(above), Some(below)) = (rank(DATAPLANE, from), rank(DATAPLANE, to)) {
        return (above <= below).then_some("dependencies go down");
    }
    if let (Some(above), Some(below)) = (rank(CONTROLPLANE, from), rank(CONTROLPLANE, to)) {
        let cores = above == 1 && below == 1;
        return (above <= below && !cores).then_some("dependencies go down");
    }
    if to == "dataplane-keeper" {
        return (!KEEPER_CLIENTS.contains(&from))
            .then_some("the keeper hands descriptors to the daemons, the CLI and the bed of other servers only");
    }
    if package.dir.starts_with("dataplane/") {
        return Some("the data plane stands alone");
    }
    let tool_for_tests = package.dir.starts_with("bench/") || matches!(from, "tools-netlab" | "xtask");
    let crosses = rank(DATAPLANE, to).is_some() && !MEETING_POINT.contains(&to);
    if crosses && !tool_for_tests {
        return Some("the planes meet in abi, shm and wire");
    }
    let into_tools = to.starts_with("tools-") && !tool_for_tests;
    let ctl_into_plane = from == CLI && rank(CONTROLPLANE, to).is_some();
    (into_tools || ctl_into_plane).then_some("the product does not depend on tools, nor the CLI on a plane")
}

fn rank(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table.iter().find(|(known, _)| *known == name).map(|(_, rank)| *rank)
}

/// Powers are used only where the laws place them.
pub(crate) fn powers(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for rule in WORDS {
        for file in &repo.files {
            let inside = rule.within.is_empty() || rule.within.iter().any(|place| file.within(place));
            // The tools and benches stand in for both planes.
            let equipment = file.within("tools/netlab") || file.within("bench");
            if !inside || equipment || rule.allowed.iter().any(|place| file.within(place)) {
                continue;
            }
            if let Some(at) = source::words(&file.production, rule.word).next() {
                let line = source::line_of(&file.production, at);
                found.push(format!("{}:{line}: `{}`: {}", file.path, rule.word, rule.why));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::repo::fixture::{of_files, package};
    use super::*;

    fn edge(from: &str, to: &str, kind: Kind) -> Vec<String> {
        let called = |mut package: Package| {
            if package.dir == "tools/ctl" {
                CLI.clone_into(&mut package.name);
            }
            package
        };
        let to_package = called(package(to, &[]));
        let from_package = called(package(from, &[(to_package.name.as_str(), kind)]));
        direction(&Repo { members: vec![from_package, to_package], ..Repo::default() })
    }

    #[test]
    fn going_up_in_the_data_plane_is_a_finding() {
        assert_eq!(edge("dataplane/io", "dataplane/forward", Kind::Normal).len(), 1);
        assert_eq!(edge("dataplane/abi", "dataplane/wire", Kind::Normal).len(), 1);
        assert_eq!(edge("dataplane/shm", "dataplane/srtp", Kind::Normal).len(), 1, "beside is not below");
    }

    #[test]
    fn going_down_is_allowed() {
        assert_eq!(edge("dataplane/forward", "dataplane/io", Kind::Normal), [""; 0]);
        assert_eq!(edge("dataplane/wire", "dataplane/abi", Kind::Normal), [""; 0]);
        assert_eq!(edge("controlplane/daemon", "controlplane/programmer", Kind::Normal), [""; 0]);
        assert_eq!(edge("controlplane/room", "controlplane/sdp", Kind::Normal), [""; 0]);
    }

    #[test]
    fn nothing_depends_on_a_daemon_not_even_a_test() {
        assert_eq!(edge("tools/netlab", "dataplane/daemon", Kind::Dev).len(), 1);
        assert_eq!(edge("bench/bots", "controlplane/daemon", Kind::Normal).len(), 1);
    }

    #[test]
    fn the_planes_meet_in_three_places_only() {
        assert_eq!(edge("controlplane/programmer", "dataplane/shm", Kind::Normal), [""; 0]);
        assert_eq!(edge("controlplane/dtls", "dataplane/srtp", Kind::Normal).len(), 1);
        assert_eq!(edge("dataplane/shm", "controlplane/room", Kind::Normal).len(), 1);
        assert_eq!(edge("dataplane/daemon", "controlplane/programmer", Kind::Dev), [""; 0], "a test may");
    }

    #[test]
    fn only_the_daemons_and_the_cli_speak_to_the_keeper() {
        assert_eq!(edge("controlplane/daemon", "dataplane/keeper", Kind::Normal), [""; 0]);
        assert_eq!(edge("tools/ctl", "dataplane/keeper", Kind::Normal), [""; 0]);
        assert_eq!(edge("controlplane/signaling", "dataplane/keeper", Kind::Normal).len(), 1);
    }

    #[test]
    fn the_cli_carries_the_name_that_the_laws_use() {
        let manifest = include_str!("../../../ctl/Cargo.toml");
        assert!(manifest.lines().any(|line| line == format!("name = \"{CLI}\"")), "{manifest}");
    }

    #[test]
    fn the_product_does_not_depend_on_tools() {
        assert_eq!(edge("controlplane/signaling", "tools/netlab", Kind::Normal).len(), 1);
        assert_eq!(edge("tools/ctl", "controlplane/store", Kind::Normal).len(), 1);
    }

    #[test]
    fn a_package_without_a_layer_is_a_finding() {
        let repo = Repo { members: vec![package("dataplane/warp", &[])], ..Repo::default() };
        assert_eq!(direction(&repo).len(), 1);
    }

    #[test]
    fn a_clock_in_the_pipeline_is_a_finding_with_its_line() {
        let repo = of_files(&[("dataplane/forward/src/select.rs", "//! x\nuse std::time::Instant;\n")]);
        let found = powers(&repo);
        assert!(found.first().is_some_and(|f| f.starts_with("dataplane/forward/src/select.rs:2:")), "{found:?}");
    }

    #[test]
    fn writing_intent_outside_the_programmer_is_a_finding_and_in_a_test_it_is_not() {
        let source = "use dataplane_shm::intent::IntentWriter;\n";
        assert_eq!(powers(&of_files(&[("controlplane/room/src/lib.rs", source)])).len(), 1);
        assert_eq!(powers(&of_files(&[("controlplane/programmer/src/lib.rs", source)])), [""; 0]);
        assert_eq!(powers(&of_files(&[("dataplane/daemon/tests/call.rs", source)])), [""; 0]);
        let in_test = format!("#[cfg(test)]\nmod tests {{\n    {source}}}\n");
        assert_eq!(powers(&of_files(&[("dataplane/daemon/src/worker.rs", &in_test)])), [""; 0]);
    }
}

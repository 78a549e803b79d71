// SPDX-License-Identifier: Apache-2.0
//! Law 6: where `unsafe` may stand, and that each use is argued. Clippy checks the same blocks one by one; this check
//! holds the places, which clippy does not know.

use super::repo::{File, Repo};
use super::source;

/// Crates whose whole purpose needs it.
const CRATES: &[&str] = &["dataplane/io", "dataplane/shm", "dataplane/keeper", "ebpf/classifier", "ebpf/sink"];

/// Single files and folders of other crates.
const ISLANDS: &[&str] = &[
    "dataplane/abi/src/pod.rs",
    "dataplane/srtp/src/kernels",
    "dataplane/srtp/src/kernels.rs",
    "tools/netlab/src/raw.rs",
];

/// A test binary that counts allocations is its own global allocator, which only an `unsafe impl` can be.
const COUNTING_TEST: &str = "/tests/no_allocation.rs";

/// How many lines above a block may lie between it and its argument, besides comments and attributes.
const REACH: usize = 4;

/// `unsafe` stands only in its places.
pub(crate) fn places(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(&["rs"]) && !allowed(f)) {
        if let Some(at) = source::words(&file.code, "unsafe").next() {
            found.push(format!("{}:{}: `unsafe` has no place here", file.path, source::line_of(&file.code, at)));
        }
    }
    found
}

fn allowed(file: &File) -> bool {
    CRATES.iter().chain(ISLANDS).any(|place| file.within(place)) || file.path.ends_with(COUNTING_TEST)
}

/// Every unsafe block and unsafe impl has its `// SAFETY:` above it.
pub(crate) fn arguments(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(&["rs"])) {
        let lines: Vec<&str> = file.text.lines().collect();
        for at in source::words(&file.code, "unsafe") {
            let after = file.code.get(at + "unsafe".len()..).unwrap_or_default().trim_start();
            let needs = after.starts_with('{') || after.starts_with("impl");
            let line = source::line_of(&file.code, at);
            if needs && !argued(&lines, line) {
                found.push(format!("{}:{line}: unsafe without a `// SAFETY:` that says because", file.path));
            }
        }
    }
    found
}

/// Whether `// SAFETY:` stands on the line or within reach above it. Comments and attributes cost nothing.
fn argued(lines: &[&str], line: usize) -> bool {
    let is_argument = |text: &str| text.contains("// SAFETY:");
    let mut steps = 0;
    for (index, text) in lines.iter().take(line).rev().enumerate() {
        if is_argument(text) {
            return true;
        }
        let free = text.trim_start().starts_with("//") || text.trim_start().starts_with("#[");
        if index > 0 && !free {
            steps += 1;
        }
        if steps > REACH {
            return false;
        }
    }
    false
}

/// Every other crate forbids it in its root, islands' crates deny it.
pub(crate) fn forbidden_elsewhere(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in repo.members.iter().filter(|p| !CRATES.contains(&p.dir.as_str())) {
        let island = ISLANDS.iter().any(|i| {
            i.strip_prefix(&package.dir).is_some_and(|rest| rest.starts_with('/'))
                && repo.files.iter().any(|f| f.within(i))
        });
        for root in package.lib_root.iter().chain(&package.bin_roots) {
            let Some(file) = repo.file(root) else { continue };
            let has = |level: &str| file.code.contains(&format!("#![{level}(unsafe_code)]"));
            if !(has("forbid") || (island && has("deny"))) {
                let level = if island { "deny" } else { "forbid" };
                found.push(format!("{root}:1: `#![{level}(unsafe_code)]` is missing"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::repo::fixture::{of_files, package};
    use super::*;

    #[test]
    fn unsafe_outside_its_places_is_a_finding() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(places(&of_files(&[("dataplane/forward/src/lib.rs", block)])).len(), 1);
        assert_eq!(places(&of_files(&[("dataplane/abi/src/lib.rs", block)])).len(), 1);
        assert_eq!(places(&of_files(&[("dataplane/forward/tests/t.rs", block)])).len(), 1, "tests count as well");
        assert_eq!(
            places(&of_files(&[("dataplane/io/src/ring.rs", block), ("dataplane/abi/src/pod.rs", block)])),
            [""; 0]
        );
    }

    #[test]
    fn a_test_that_counts_allocations_may_be_its_own_allocator_if_it_argues() {
        let bare = "unsafe impl GlobalAlloc for Counting {}\n";
        let repo = of_files(&[("dataplane/srtp/tests/no_allocation.rs", bare)]);
        assert_eq!(places(&repo), [""; 0]);
        assert_eq!(arguments(&repo).len(), 1);
    }

    #[test]
    fn the_word_in_a_comment_a_string_or_another_word_is_none() {
        let text = "#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";\n";
        assert_eq!(places(&of_files(&[("dataplane/forward/src/lib.rs", text)])), [""; 0]);
    }

    #[test]
    fn a_block_without_an_argument_is_a_finding() {
        let bare = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            arguments(&of_files(&[("dataplane/io/src/a.rs", bare)])),
            ["dataplane/io/src/a.rs:2: unsafe without a `// SAFETY:` that says because"]
        );
        let implemented = "unsafe impl Send for Ring {}\n";
        assert_eq!(arguments(&of_files(&[("dataplane/io/src/a.rs", implemented)])).len(), 1);
    }

    #[test]
    fn an_argument_reaches_over_a_long_comment_but_not_over_code() {
        let long = "// SAFETY: because\n// a\n// b\n// c\n// d\n// e\n#[inline]\nlet x = unsafe { g() };\n";
        assert_eq!(arguments(&of_files(&[("dataplane/io/src/a.rs", long)])), [""; 0]);
        let far = "// SAFETY: because\na();\nb();\nc();\nd();\ne();\nunsafe { g() };\n";
        assert_eq!(arguments(&of_files(&[("dataplane/io/src/a.rs", far)])).len(), 1);
    }

    #[test]
    fn an_unsafe_function_is_argued_by_its_callers() {
        let declared = "pub unsafe fn f() {}\n";
        assert_eq!(arguments(&of_files(&[("dataplane/io/src/a.rs", declared)])), [""; 0]);
    }

    fn root(dir: &str, text: &str, more: &[(&str, &str)]) -> Vec<String> {
        let path = format!("{dir}/src/lib.rs");
        let mut files = vec![(path.as_str(), text)];
        files.extend_from_slice(more);
        let mut repo = of_files(&files);
        let mut member = package(dir, &[]);
        member.lib_root = Some(path.clone());
        repo.members.push(member);
        forbidden_elsewhere(&repo)
    }

    #[test]
    fn a_crate_that_does_not_forbid_it_is_a_finding() {
        assert_eq!(root("dataplane/forward", "//! x\n", &[]).len(), 1);
        assert_eq!(root("dataplane/forward", "// #![forbid(unsafe_code)]\n", &[]).len(), 1);
        assert_eq!(root("dataplane/forward", "#![forbid(unsafe_code)]\n", &[]), [""; 0]);
        assert_eq!(root("dataplane/io", "//! x\n", &[]), [""; 0]);
    }

    #[test]
    fn a_crate_with_an_island_denies_it_around_the_island() {
        let island = [("dataplane/abi/src/pod.rs", "")];
        assert_eq!(root("dataplane/abi", "#![deny(unsafe_code)]\n", &island), [""; 0]);
        assert_eq!(root("dataplane/abi", "//! x\n", &island).len(), 1);
        assert_eq!(root("dataplane/abi", "#![deny(unsafe_code)]\n", &[]).len(), 1, "no island, no exception");
    }
}

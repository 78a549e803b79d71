// SPDX-License-Identifier: Apache-2.0
//! Checks that look at one file at a time: its size, its first lines, its name; and at the names at the top.

use super::repo::Repo;
use super::source;

const MAX_LINES: usize = 600;
const SPDX: &str = "SPDX-License-Identifier: Apache-2.0";

/// Files that must carry a licence line.
const LICENSED: &[&str] = &["rs", "js", "mjs", "py", "html", "css"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "handlers"];

/// What `ls` may show at the top.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "controlplane",
    "dataplane",
    "docs",
    "ebpf",
    "tools",
];

/// Production files have at most 600 lines, tests not counted.
pub(crate) fn sizes(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(&["rs", "js", "mjs"]) && !f.is_test()) {
        let lines = if file.is(&["rs"]) {
            source::test_lines(&file.code).iter().filter(|is_test| !**is_test).count()
        } else {
            file.text.lines().count()
        };
        if lines > MAX_LINES {
            found.push(format!("{}: {lines} lines without tests, {MAX_LINES} are allowed", file.path));
        }
    }
    found
}

/// The licence stands in the first line, or in the second after `#!` or a doctype.
pub(crate) fn licence_lines(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(LICENSED) && !f.path.contains("/testdata/")) {
        let mut lines = file.text.lines();
        let mut first = lines.next().unwrap_or_default();
        if first.starts_with("#!/") || first.to_ascii_lowercase().starts_with("<!doctype") {
            first = lines.next().unwrap_or_default();
        }
        if !first.contains(SPDX) {
            found.push(format!("{}:1: `{SPDX}` is missing", file.path));
        }
    }
    found
}

/// Every Rust file says in `//!` what it is.
pub(crate) fn module_headers(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(&["rs"])) {
        let first = file.text.lines().map(str::trim).find(|l| !l.is_empty() && !l.contains("SPDX-License-Identifier"));
        if !first.is_some_and(|l| l.starts_with("//! ")) {
            found.push(format!("{}:2: a `//!` header is missing: what it is, what it must never do", file.path));
        }
    }
    found
}

/// No file or folder has a name that says nothing, and modules are `foo.rs`, never `foo/mod.rs`.
pub(crate) fn names(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in &repo.files {
        if file.name() == "mod.rs" {
            found.push(format!("{}: modules are `foo.rs` beside `foo/`", file.path));
        }
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if EMPTY_NAMES.contains(&stem) {
                found.push(format!("{}: `{stem}` says nothing about what is inside", file.path));
            }
        }
    }
    found
}

/// `ls` at the top shows the five parts and what cargo needs.
pub(crate) fn top(repo: &Repo) -> Vec<String> {
    let strangers = repo.top.iter().filter(|name| !TOP.contains(&name.as_str()));
    strangers.map(|name| format!("{name}: does not belong at the top; allowed are {}", TOP.join(", "))).collect()
}

/// Relative links in the documents lead to files.
pub(crate) fn links(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|f| f.is(&["md"])) {
        let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (at, _) in file.text.match_indices("](") {
            let rest = file.text.get(at + 2..).unwrap_or_default();
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = resolve(dir, target);
            let exists = repo.files.iter().any(|f| f.within(&path)) || repo.top.contains(&path);
            if !exists {
                let line = source::line_of(&file.text, at);
                found.push(format!("{}:{line}: the link to {target} leads nowhere", file.path));
            }
        }
    }
    found
}

/// `docs` and `../tools/x` give `tools/x`.
fn resolve(dir: &str, target: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::repo::fixture::of_files;
    use super::*;

    fn lines(count: usize) -> String {
        "let x = 1;\n".repeat(count)
    }

    #[test]
    fn a_file_over_600_lines_is_a_finding() {
        assert_eq!(sizes(&of_files(&[("dataplane/io/src/a.rs", &lines(601))])).len(), 1);
        assert_eq!(sizes(&of_files(&[("controlplane/web/app.js", &lines(601))])).len(), 1);
        assert_eq!(sizes(&of_files(&[("dataplane/io/src/a.rs", &lines(600))])), [""; 0]);
    }

    #[test]
    fn tests_do_not_count_towards_the_size() {
        let tail = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600), lines(300));
        assert_eq!(sizes(&of_files(&[("dataplane/io/src/a.rs", &tail)])), [""; 0]);
        assert_eq!(sizes(&of_files(&[("dataplane/io/tests/a.rs", &lines(900))])), [""; 0]);
        let after = format!("{tail}{}", lines(1));
        assert_eq!(sizes(&of_files(&[("dataplane/io/src/a.rs", &after)])).len(), 1, "code below the tests counts");
    }

    #[test]
    fn a_file_without_a_licence_line_is_a_finding() {
        for path in ["a.rs", "a.js", "a.mjs", "a.py", "a.html", "a.css"] {
            assert_eq!(licence_lines(&of_files(&[(path, "x\n")])).len(), 1, "{path}");
        }
        let late = format!("x\n// {SPDX}\n");
        assert_eq!(licence_lines(&of_files(&[("a.rs", &late)])).len(), 1);
    }

    #[test]
    fn a_licence_line_may_follow_what_must_be_first() {
        let script = format!("#!/usr/bin/env python3\n# {SPDX}\n");
        let page = format!("<!doctype html>\n<!-- {SPDX} -->\n");
        assert_eq!(licence_lines(&of_files(&[("a.py", &script), ("a.html", &page)])), [""; 0]);
    }

    #[test]
    fn a_module_without_a_header_is_a_finding() {
        let with = format!("// {SPDX}\n//! What it is.\n");
        let without = format!("// {SPDX}\nuse x;\n//! late\n");
        assert_eq!(module_headers(&of_files(&[("a.rs", &with)])), [""; 0]);
        assert_eq!(module_headers(&of_files(&[("a.rs", &without)])).len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_findings() {
        let bad = ["a/utils.rs", "a/helpers/x.rs", "common.js", "a/mod.rs", "a/session_manager/manager.rs"];
        for path in bad {
            assert_eq!(names(&of_files(&[(path, "")])).len(), 1, "{path}");
        }
        assert_eq!(names(&of_files(&[("a/commons_of_rooms.rs", ""), ("a/handler_table.rs", "")])), [""; 0]);
    }

    #[test]
    fn a_stranger_at_the_top_is_a_finding() {
        let repo = Repo { top: vec!["README.md".to_owned(), "notes.txt".to_owned()], ..Repo::default() };
        assert_eq!(top(&repo).len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_finding() {
        let good = ("docs/A.md", "see [b](B.md), [top](../README.md#x), [out](https://example.org)");
        let repo = of_files(&[good, ("docs/B.md", ""), ("README.md", "")]);
        assert_eq!(links(&repo), [""; 0]);
        assert_eq!(
            links(&of_files(&[("docs/A.md", "\n[gone](GONE.md)")])),
            ["docs/A.md:2: the link to GONE.md leads nowhere"]
        );
    }
}

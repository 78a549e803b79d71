// SPDX-License-Identifier: Apache-2.0
//! Dependencies that no source line uses. Works on words, not on types: a dependency counts as used when its name is
//! followed by `::` or stands in a `use`. Must never count comments or strings.

use super::repo::{Dependency, File, Kind, Package, Repo};
use super::source;

/// Dependencies that are there for an effect other than their names: (package, dependency, why).
const SILENT: &[(&str, &str, &str)] = &[];

/// Every dependency occurs in the code that it is declared for.
pub(crate) fn dependencies(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in &repo.members {
        for dependency in &package.dependencies {
            let silent = SILENT.iter().any(|(p, d, _)| *p == package.name && *d == dependency.package);
            if silent || repo.files_of(package).any(|file| uses(file, package, dependency)) {
                continue;
            }
            let instead = match dependency.kind {
                Kind::Normal if repo.files_of(package).any(|f| mentions(&f.code, &dependency.ident)) => {
                    "only tests use it: [dev-dependencies]"
                }
                Kind::Normal | Kind::Dev | Kind::Build => "remove it",
            };
            found.push(format!("{}/Cargo.toml: `{}` is not used: {instead}", package.dir, dependency.package));
        }
    }
    found
}

/// Whether the file is of the kind that the dependency is for, and mentions it.
fn uses(file: &File, package: &Package, dependency: &Dependency) -> bool {
    let in_src = file.within(&format!("{}/src", package.dir));
    let is_build = file.path == format!("{}/build.rs", package.dir);
    match dependency.kind {
        Kind::Normal => in_src && mentions(&file.production, &dependency.ident),
        Kind::Dev => !is_build && mentions(&file.code, &dependency.ident),
        Kind::Build => is_build && mentions(&file.code, &dependency.ident),
    }
}

/// Whether the code uses the crate of that name.
fn mentions(code: &str, ident: &str) -> bool {
    source::words(code, ident).any(|at| {
        let after = code.get(at + ident.len()..).unwrap_or_default().trim_start();
        let before = code.get(..at).unwrap_or_default().trim_end();
        let word_before = before.rsplit(|c| !source::is_ident(c)).next().unwrap_or_default();
        // `a::ident::b` is a path inside another crate, `::ident::b` names the crate.
        let inside =
            before.strip_suffix("::").is_some_and(|b| b.trim_end().ends_with(|c| source::is_ident(c) || c == '>'));
        !inside && (after.starts_with("::") || matches!(word_before, "use" | "crate"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::repo::fixture::{of_files, package};
    use super::*;

    fn check(kind: Kind, files: &[(&str, &str)]) -> Vec<String> {
        let mut repo = of_files(files);
        repo.members.push(package("dataplane/io", &[("io-uring", kind)]));
        dependencies(&repo)
    }

    #[test]
    fn a_dependency_that_no_line_uses_is_a_finding() {
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "fn f() {}\n")]).len(), 1);
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "// io_uring::x\n")]).len(), 1, "a comment");
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "let io_uring = 1;\n")]).len(), 1, "a variable");
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "use crate::io_uring::x;\n")]).len(), 1, "ours");
        assert_eq!(
            check(Kind::Normal, &[("dataplane/wire/src/lib.rs", "use io_uring::x;\n")]).len(),
            1,
            "another crate"
        );
    }

    #[test]
    fn a_use_or_a_path_makes_it_used() {
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "use io_uring;\n")]), [""; 0]);
        assert_eq!(check(Kind::Normal, &[("dataplane/io/src/lib.rs", "fn f() { ::io_uring::g() }\n")]), [""; 0]);
    }

    #[test]
    fn a_production_dependency_that_only_tests_use_is_a_finding() {
        let test = ("dataplane/io/tests/t.rs", "use io_uring::x;\n");
        let found = check(Kind::Normal, &[test]);
        assert!(found.first().is_some_and(|f| f.contains("[dev-dependencies]")), "{found:?}");
        assert_eq!(check(Kind::Dev, &[test]), [""; 0]);
        assert_eq!(check(Kind::Build, &[test]).len(), 1);
    }
}

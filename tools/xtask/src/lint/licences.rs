// SPDX-License-Identifier: Apache-2.0
//! The licences of everything in the lock file, as SPDX expressions against a list. A package without a licence field
//! or with an expression that cannot be read is a finding, never a pass.

use super::repo::Repo;

/// Licences that we may ship under Apache-2.0 without asking.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Licences that a named package only may carry: (package, licence, why that is fine).
const NAMED: &[(&str, &str, &str)] = &[("aws-lc-sys", "OpenSSL", "BSD-like with attribution, which NOTICE can carry")];

/// Every package of the lock file may be shipped.
pub(crate) fn of_packages(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for package in &repo.locked {
        let allowed = |licence: &str| {
            ALLOWED.contains(&licence) || NAMED.iter().any(|(name, l, _)| *name == package.name && *l == licence)
        };
        let fault = match &package.license {
            None => Some("has no licence field".to_owned()),
            Some(text) => match satisfied(text, &allowed) {
                None => Some(format!("has a licence that cannot be read: `{text}`")),
                Some(false) => Some(format!("is `{text}`, which is not on the list")),
                Some(true) => None,
            },
        };
        if let Some(fault) = fault {
            found.push(format!("{} {} {fault}", package.name, package.version));
        }
    }
    found
}

/// Whether the expression can be satisfied with allowed licences; `None` when it is no SPDX expression. `AND` binds
/// more tightly than `OR` (SPDX 2.3 annex D.4.5); `MIT/Apache-2.0` is cargo's older way to write `OR`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let value = parser.any_of()?;
    parser.words.is_empty().then_some(value)
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn skip(&mut self, word: &str) -> bool {
        let here = self.words.first() == Some(&word);
        if here {
            self.next();
        }
        here
    }

    fn any_of(&mut self) -> Option<bool> {
        let mut value = self.all_of()?;
        while self.skip("OR") {
            value |= self.all_of()?;
        }
        Some(value)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut value = self.one()?;
        while self.skip("AND") {
            value &= self.one()?;
        }
        Some(value)
    }

    fn one(&mut self) -> Option<bool> {
        match self.next()? {
            "(" => {
                let value = self.any_of()?;
                self.skip(")").then_some(value)
            }
            ")" | "AND" | "OR" | "WITH" => None,
            licence if self.skip("WITH") => {
                let exception = self.next()?;
                Some((self.allowed)(&format!("{licence} WITH {exception}")))
            }
            licence => Some((self.allowed)(licence)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::repo::Locked;
    use super::*;

    fn check(name: &str, license: Option<&str>) -> Vec<String> {
        let locked = Locked { name: name.to_owned(), version: "1.0.0".to_owned(), license: license.map(str::to_owned) };
        of_packages(&Repo { locked: vec![locked], ..Repo::default() })
    }

    #[test]
    fn a_licence_off_the_list_is_a_finding() {
        for text in ["GPL-3.0-only", "MIT AND GPL-2.0-only", "AGPL-3.0-only OR LGPL-2.1-or-later", "MPL-2.0"] {
            assert_eq!(check("x", Some(text)).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_missing_or_unreadable_licence_is_a_finding() {
        for text in [None, Some(""), Some("MIT AND"), Some("(MIT"), Some("MIT)"), Some("MIT Apache-2.0")] {
            assert_eq!(check("x", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn one_allowed_choice_is_enough() {
        let texts = [
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "ISC AND (Apache-2.0 OR ISC) AND Apache-2.0 AND MIT AND BSD-3-Clause AND (Apache-2.0 OR ISC OR MIT-0)",
        ];
        for text in texts {
            assert_eq!(check("x", Some(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn and_binds_more_tightly_than_or() {
        assert_eq!(check("x", Some("MIT OR ISC AND GPL-3.0-only")), [""; 0]);
        assert_eq!(check("x", Some("(MIT OR ISC) AND GPL-3.0-only")).len(), 1);
    }

    #[test]
    fn an_exception_counts_only_with_its_licence_and_a_named_licence_only_for_its_package() {
        assert_eq!(check("x", Some("GPL-3.0-only WITH LLVM-exception")).len(), 1);
        assert_eq!(check("aws-lc-sys", Some("ISC AND OpenSSL")), [""; 0]);
        assert_eq!(check("x", Some("ISC AND OpenSSL")).len(), 1);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A lab's own command line: `--option value` or `--option=value`, each option known or refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// The parsed options of one lab.
#[derive(Debug)]
pub(crate) struct Args(BTreeMap<String, String>);

impl Args {
    /// Parses `args`; `known` names the options that the lab takes, without their dashes.
    pub(crate) fn parse(args: &[String], known: &[&str]) -> Result<Self> {
        let mut options = BTreeMap::new();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else { bail!("{word:?} is not an option") };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (option, words.next().with_context(|| format!("{word} needs a value"))?.clone()),
            };
            if !known.contains(&name) {
                bail!("unknown option --{name}; this lab takes: --{}", known.join(", --"));
            }
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    /// The option's text, or `default`.
    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        self.0.get(name).map_or_else(|| default.to_owned(), Clone::clone)
    }

    /// The option as one of `choices`; `None` when it is not given.
    pub(crate) fn choice(&self, name: &str, choices: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let found = choices.iter().copied().find(|choice| choice == value);
        found.map(Some).with_context(|| format!("--{name} {value}: one of {} is expected", choices.join(", ")))
    }

    /// The option as a number, or `default`.
    pub(crate) fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        value.parse().ok().with_context(|| format!("--{name} {value}: a number is expected"))
    }

    /// The option as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn both_forms_are_read_and_unknown_options_refused_by_name() {
        let args = Args::parse(&words("--seconds 5 --backend=uring"), &["seconds", "backend"]).expect("options");
        assert_eq!(args.number("seconds", 30_u64).expect("number"), 5);
        assert_eq!(args.text("backend", "auto"), "uring");
        let error = Args::parse(&words("--secnods 5"), &["seconds"]).expect_err("a typo");
        assert!(error.to_string().contains("--secnods"), "{error}");
    }
}

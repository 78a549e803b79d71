// SPDX-License-Identifier: Apache-2.0
//! A lab's own command line: `--option value` or `--option=value`, each option known or refused by name, and its help.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// The options that a lab takes: `name VALUE` without dashes, and what it says.
pub(crate) type Known = &'static [(&'static str, &'static str)];

pub(crate) const BACKEND: (&str, &str) =
    ("backend NAME", "how packets come and go: xdp, uring, sockets or auto [default: auto]");
pub(crate) const WORKERS: (&str, &str) = ("workers N", "workers of the data plane [default: 2]");
pub(crate) const FAMILY: (&str, &str) = ("family N", "IP version of all media: 4 or 6 [default: 4]");
pub(crate) const JSON: (&str, &str) = ("json FILE", "write every check and figure there");
pub(crate) const BIN_DIR: (&str, &str) = ("bin-dir DIR", "programs that are built already [default: builds them]");

/// A line of help for each option.
pub(crate) fn help(known: Known) -> String {
    let longest = known.iter().map(|(option, _)| option.len()).max().unwrap_or(0);
    known.iter().map(|(option, meaning)| format!("  --{option:<longest$}  {meaning}\n")).collect()
}

/// An option's name, without its value.
fn name_of(option: &'static str) -> &'static str {
    option.split_once(' ').map_or(option, |(name, _)| name)
}

/// The parsed options of one lab.
#[derive(Debug)]
pub(crate) struct Args(BTreeMap<String, String>);

impl Args {
    /// Parses `args`; `known` are the options that the lab takes.
    pub(crate) fn parse(args: &[String], known: Known) -> Result<Self> {
        let names: Vec<&str> = known.iter().map(|(option, _)| name_of(option)).collect();
        let mut options = BTreeMap::new();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else { bail!("{word:?} is not an option") };
            let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            if !names.contains(&name) {
                bail!("unknown option --{name}; this lab takes: --{}", names.join(", --"));
            }
            let value = value.or_else(|| words.next().map(String::as_str));
            options.insert(name.to_owned(), value.with_context(|| format!("{word} needs a value"))?.to_owned());
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

    const KNOWN: Known = &[("seconds N", "how long"), BACKEND];

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn both_forms_are_read_and_unknown_options_refused_by_name() {
        let args = Args::parse(&words("--seconds 5 --backend=uring"), KNOWN).expect("options");
        assert_eq!(args.number("seconds", 30_u64).expect("number"), 5);
        assert_eq!(args.text("backend", "auto"), "uring");
        for (wrong, said) in [("--secnods", "--secnods"), ("--seconds", "needs a value"), ("5", "is not an option")] {
            let error = Args::parse(&words(wrong), KNOWN).expect_err("a typo");
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn help_has_a_line_for_each_option() {
        assert_eq!(help(KNOWN).lines().next(), Some("  --seconds N     how long"));
        assert_eq!(help(KNOWN).lines().count(), KNOWN.len());
    }
}

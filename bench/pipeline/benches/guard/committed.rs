// SPDX-License-Identifier: Apache-2.0
//! `bench/pipeline/guard.json`: the counts and ratios that a build is held to, and how far it may be from them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};
use tools_netlab::console;
use tools_netlab::report::Report;

/// The file.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Committed {
    /// What compiled the counts: another compiler counts otherwise.
    compiler: String,
    tolerance: Tolerance,
    /// Instructions for each packet by `case.stage`.
    instructions: BTreeMap<String, f64>,
    /// Times as fast as the library by `kernel.profile.payload`.
    cipher_ratios: BTreeMap<String, f64>,
}

/// Shares of the committed figure.
#[derive(Serialize, Deserialize)]
struct Tolerance {
    /// More instructions of `receive` and `transmit`.
    whole: f64,
    /// More instructions of a stage: inlining moves some from one to the other.
    stage: f64,
    /// Less of the cipher's ratio: a time, measured beside whatever else runs.
    cipher: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { whole: 0.01, stage: 0.02, cipher: 0.3 }
    }
}

/// What this build has.
pub(crate) struct Found {
    pub(crate) compiler: String,
    /// Empty where nothing could be counted.
    pub(crate) counts: BTreeMap<String, f64>,
    pub(crate) ratios: BTreeMap<String, f64>,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guard.json")
}

/// The compiler in use.
pub(crate) fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Committed {
    pub(crate) fn read() -> Result<Self, String> {
        let hint = "`cargo xtask bench guard --bless` writes it";
        let text = std::fs::read_to_string(file()).map_err(|error| format!("guard.json: {error}; {hint}"))?;
        serde_json::from_str(&text).map_err(|error| format!("guard.json: {error}; {hint}"))
    }

    pub(crate) fn write(&self) {
        let text = serde_json::to_string_pretty(self).expect("finite numbers");
        std::fs::write(file(), text + "\n").expect("guard.json can be written");
    }

    /// With the figures of this build. What could not be measured here stays as it was.
    pub(crate) fn blessed(mut self, found: &Found) -> Self {
        let rounded = |(name, value): (&String, &f64)| (name.clone(), (value * 100.0).round() / 100.0);
        if !found.counts.is_empty() {
            self.compiler.clone_from(&found.compiler);
            self.instructions = found.counts.iter().map(rounded).collect();
        }
        self.cipher_ratios.extend(found.ratios.iter().map(rounded));
        self
    }

    /// Prints each figure beside the committed one and holds it to that.
    pub(crate) fn judge(&self, found: &Found, report: &mut Report) {
        let is_counted = !found.counts.is_empty();
        if is_counted && self.compiler != found.compiler {
            let (ours, theirs) = (&found.compiler, &self.compiler);
            console::line(&format!("  the counts are of {theirs} and this is {ours}: they may differ by that alone"));
        }
        console::line(&format!("  {:<42} {:>10} {:>10} {:>8}", "figure", "committed", "found", "change"));
        for (name, committed) in self.instructions.iter().filter(|_| is_counted) {
            let is_whole = name.ends_with(".receive") || name.ends_with(".transmit");
            let share = if is_whole { self.tolerance.whole } else { self.tolerance.stage };
            let value = found.counts.get(name).copied();
            row(name, *committed, value);
            report.at_most(
                format!("instructions.{name}"),
                value,
                "instructions",
                hundredths(committed * (1.0 + share)),
            );
        }
        for name in found.counts.keys().filter(|name| !self.instructions.contains_key(*name)) {
            report.check(format!("instructions.{name}"), "unknown", "", "is in guard.json", false);
        }
        for (name, value) in &found.ratios {
            let Some(committed) = self.cipher_ratios.get(name) else {
                report.check(format!("cipher.{name}"), "unknown", "", "is in guard.json", false);
                continue;
            };
            row(name, *committed, Some(*value));
            let least = hundredths(committed * (1.0 - self.tolerance.cipher));
            report.at_least(format!("cipher.{name}"), Some(*value), "times the library", least);
        }
        for name in self.cipher_ratios.keys().filter(|name| !found.ratios.contains_key(*name)) {
            console::line(&format!("  {name}: skipped: this CPU does not run that kernel"));
        }
        let is_better = |name: &String, value: &f64| {
            self.instructions.get(name).is_some_and(|old| *value < old * (1.0 - self.tolerance.stage))
        };
        if found.counts.iter().any(|(name, value)| is_better(name, value)) {
            console::line(
                "  fewer instructions than committed: `cargo xtask bench guard --bless` holds the next one to these",
            );
        }
    }
}

fn row(name: &str, committed: f64, found: Option<f64>) {
    let Some(found) = found else { return console::line(&format!("  {name:<42} {committed:>10.2} {:>10}", "-")) };
    let change = (found / committed - 1.0) * 100.0;
    console::line(&format!("  {name:<42} {committed:>10.2} {found:>10.2} {change:>+7.1}%"));
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

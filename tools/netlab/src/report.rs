// SPDX-License-Identifier: Apache-2.0
//! The result of a lab or bench: checks with the measured value and its bound, the machine, series of figures.
//!
//! The JSON's shape is `{"name", "ok", "checks": [{"name", "value", "unit", "bound", "ok"}], "machine", "series"}`.
//! A value that could not be measured is a failed check, never a missing one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::console;

/// One promise: what was measured and what it was held to.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What is measured, as a dotted path (`p1-p2.video_packets_lost`).
    pub name: String,
    /// The measured value; null when it could not be measured.
    pub value: Value,
    /// The value's unit.
    pub unit: String,
    /// The bound in words of comparison (`<= 50`, `= 0`).
    pub bound: String,
    /// Whether the value keeps the bound.
    pub ok: bool,
}

/// A report that grows while a lab runs.
#[derive(Debug, Serialize)]
pub struct Report {
    name: String,
    ok: bool,
    checks: Vec<Check>,
    machine: BTreeMap<&'static str, Value>,
    series: BTreeMap<String, Value>,
}

impl Report {
    /// Starts a report and notes the machine.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self { name: name.to_owned(), ok: true, checks: Vec::new(), machine: machine(), series: BTreeMap::new() }
    }

    /// What it is of.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a check whose verdict the caller has formed.
    pub fn check(&mut self, name: impl Into<String>, value: impl Into<Value>, unit: &str, bound: &str, ok: bool) {
        let (name, value) = (name.into(), value.into());
        self.ok &= ok;
        self.checks.push(Check { name, value, unit: unit.into(), bound: bound.into(), ok });
    }

    /// The value must be there and at most `most`.
    pub fn at_most(&mut self, name: impl Into<String>, value: Option<f64>, unit: &str, most: f64) {
        self.check(name, rounded(value), unit, &format!("<= {most}"), value.is_some_and(|value| value <= most));
    }

    /// The value must be there and at least `least`.
    pub fn at_least(&mut self, name: impl Into<String>, value: Option<f64>, unit: &str, least: f64) {
        self.check(name, rounded(value), unit, &format!(">= {least}"), value.is_some_and(|value| value >= least));
    }

    /// The value must be there and exactly `wanted`.
    pub fn exactly(&mut self, name: impl Into<String>, value: Option<f64>, unit: &str, wanted: f64) {
        let ok = value.is_some_and(|value| value.to_bits() == wanted.to_bits() || (value - wanted).abs() < 1e-9);
        self.check(name, rounded(value), unit, &format!("= {wanted}"), ok);
    }

    /// A fact that must be true.
    pub fn holds(&mut self, name: impl Into<String>, ok: bool) {
        self.check(name, ok, "", "= true", ok);
    }

    /// A figure for the record, held to nothing.
    pub fn note(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.series.insert(name.into(), value.into());
    }

    /// True while every check holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// The checks that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }

    /// Writes the JSON as far as it is (when asked), so that a long run that is ended loses no more than its last part. It is
    /// not `ok`, and `series.left` says what it lacks.
    ///
    /// # Errors
    /// When the JSON file cannot be written.
    pub fn keep(&mut self, json: Option<&Path>, left: &[String]) -> Result<()> {
        let Some(path) = json else { return Ok(()) };
        self.note(LEFT, json!(left));
        let ok = std::mem::replace(&mut self.ok, false);
        let written = self.write(path);
        self.ok = ok;
        written
    }

    /// Never half a file: what was there before stays until the new one is whole. What is no file, as a pipe, is written to.
    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            return std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
        }
        let new = path.with_extension("json.new");
        std::fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
        std::fs::rename(&new, path).with_context(|| format!("write {}", path.display()))
    }

    /// Writes the JSON (when asked), prints what does not hold and, last, one line with `figure`.
    ///
    /// # Errors
    /// When the JSON file cannot be written.
    pub fn finish(mut self, json: Option<&Path>, figure: &str) -> Result<bool> {
        self.machine.insert("load_1min_after", load());
        self.series.remove(LEFT);
        if let Some(path) = json {
            self.write(path)?;
        }
        for check in self.failed() {
            let Check { name, value, unit, bound, .. } = check;
            console::line(&format!("  FAILED {name}: {value} {unit}, bound {bound}"));
        }
        let failed = self.failed().count();
        let (verdict, total) = (if self.ok { "ok" } else { "FAILED" }, self.checks.len());
        console::line(&format!("{}: {verdict}, {} of {total} checks hold; {figure}", self.name, total - failed));
        Ok(self.ok)
    }
}

/// The series of what a run that goes on has not measured yet.
const LEFT: &str = "left";

/// Three decimals are more than any of these measurements is worth.
fn rounded(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| json!((value * 1000.0).round() / 1000.0))
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, key: &str) -> Value {
    let text = read_trimmed(path);
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_once(':')).map_or(Value::Null, |(_, value)| json!(value.trim()))
}

fn load() -> Value {
    json!(read_trimmed("/proc/loadavg").split_whitespace().next().and_then(|word| word.parse::<f64>().ok()))
}

fn machine() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("cpus", json!(std::thread::available_parallelism().map_or(0, std::num::NonZero::get))),
        ("cpu_model", field("/proc/cpuinfo", "model name")),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", json!(read_trimmed("/proc/sys/kernel/osrelease"))),
        ("load_1min_before", load()),
        ("unix_s", json!(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_not_be_measured_fails_its_check() {
        let mut report = Report::start("test");
        report.at_most("present", Some(1.0), "ms", 2.0);
        assert!(report.is_ok());
        report.at_most("absent", None, "ms", 2.0);
        assert!(!report.is_ok());
        assert_eq!(report.failed().count(), 1);
    }

    #[test]
    fn what_is_kept_of_a_run_that_goes_on_is_not_ok_and_says_what_is_left() {
        let folder = std::env::temp_dir().join(format!("netlab-report-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("bench.json");
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).expect("a file")).expect("json");
        let mut report = Report::start("test");
        report.holds("first", true);
        report.keep(Some(&path), &["second".to_owned()]).expect("kept");
        assert_eq!((&read()["ok"], &read()["series"]["left"]), (&json!(false), &json!(["second"])));
        report.holds("second", true);
        assert!(report.finish(Some(&path), "both").expect("written"));
        assert_eq!((&read()["ok"], read()["series"].get("left")), (&json!(true), None));
        assert_eq!(read()["checks"].as_array().map(Vec::len), Some(2));
        assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 1);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        let mut report = Report::start("call");
        report.exactly("lost", Some(0.0), "packets", 0.0);
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["checks"][0], json!({"name":"lost","value":0.0,"unit":"packets","bound":"= 0","ok":true}));
        assert!(json["machine"].is_object() && json["series"].is_object());
        assert_eq!((&json["name"], &json["ok"]), (&json!("call"), &json!(true)));
    }
}

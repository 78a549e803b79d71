// SPDX-License-Identifier: Apache-2.0
//! What the benches have written, read with patience: a field that a bench does not write is one that is not there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{date, plan};

/// One file.
pub(crate) struct File {
    json: Value,
    /// When it was written, as the file system has it.
    written_s: u64,
}

/// All files of the folder by their names without `.json`.
#[derive(Default)]
pub(crate) struct Files(BTreeMap<String, File>);

/// A check of a report.
pub(crate) struct Check<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a Value,
    pub(crate) unit: &'a str,
    pub(crate) bound: &'a str,
    pub(crate) is_ok: bool,
}

impl Files {
    /// Reads a folder; one that is not there is empty.
    ///
    /// # Errors
    /// When a file cannot be read or is no JSON: half a page would look like a whole one.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Self::default()) };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let (Some(name), Some("json")) =
                (path.file_stem().and_then(|name| name.to_str()), path.extension().and_then(|end| end.to_str()))
            else {
                continue;
            };
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let json = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON: remove it, or run its bench again", path.display()))?;
            let changed = path.metadata().and_then(|data| data.modified()).ok();
            let written_s = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_secs());
            files.insert(name.to_owned(), File { json, written_s });
        }
        Ok(Self(files))
    }

    /// These, and of the others those that are not among them.
    pub(crate) fn over(mut self, others: Self) -> Self {
        for (name, file) in others.0 {
            self.0.entry(name).or_insert(file);
        }
        self
    }

    /// Writes those that the page is made of into a folder, each in one line.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(crate) fn keep(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        for (name, file) in self.0.iter().filter(|(name, _)| plan::is_part(name)) {
            let path = folder.join(format!("{name}.json"));
            std::fs::write(&path, format!("{}\n", file.json)).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The files of the run with other servers, which may be made in pieces: `peers`, `peers-500`, …
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().filter(|(name, _)| name.starts_with("peers")).map(|(name, file)| (name.as_str(), file))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&File> {
        self.0.get(name)
    }

    /// A figure: `path` after `series`.
    pub(crate) fn figure(&self, file: &str, path: &[&str]) -> Option<f64> {
        let json = &self.get(file)?.json;
        path.iter().fold(&json["series"], |value, key| &value[*key]).as_f64()
    }

    /// The rows of a bench that writes a table.
    pub(crate) fn rows(&self, file: &str) -> &[Value] {
        let json = self.get(file).map(|file| &file.json);
        let rows = json.and_then(|json| json.as_array().or_else(|| json["series"]["rows"].as_array()));
        rows.map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, Value)]) -> Self {
        Self(files.iter().map(|(name, json)| ((*name).to_owned(), File { json: json.clone(), written_s: 0 })).collect())
    }
}

impl File {
    /// Its checks.
    pub(crate) fn checks(&self) -> Vec<Check<'_>> {
        let checks = self.json["checks"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &'_ Value| value.as_str().map(str::len).unwrap_or_default();
        checks
            .iter()
            .filter(|check| text(&check["name"]) > 0)
            .map(|check| Check {
                name: check["name"].as_str().unwrap_or_default(),
                value: &check["value"],
                unit: check["unit"].as_str().unwrap_or_default(),
                bound: check["bound"].as_str().unwrap_or_default(),
                is_ok: check["ok"].as_bool().unwrap_or(false),
            })
            .collect()
    }

    /// Everything that is noted.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.json["series"].as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// Command, time, machine, load and the machine's speed in one line.
    pub(crate) fn origin(&self, name: &str) -> String {
        let machine = &self.json["machine"];
        let load = |key: &str| machine[key].as_f64().map_or_else(|| "?".to_owned(), |load| format!("{load:.2}"));
        format!(
            "`{}` · {} · {} · load {} before, {} after{}",
            self.command(name),
            self.date(),
            self.machine(),
            load("load_1min_before"),
            load("load_1min_after"),
            self.reference(),
        )
    }

    /// What the fixed packet took beside its runs, as the end of a line: nothing where it was not measured.
    fn reference(&self) -> String {
        let mut found = Vec::new();
        references(&self.json["series"], &mut found);
        let (least, most) =
            found.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), ns| (least.min(*ns), most.max(*ns)));
        if found.is_empty() { String::new() } else { format!(" · reference {least:.0} to {most:.0} ns") }
    }

    /// When it was made.
    pub(crate) fn date(&self) -> String {
        date::utc(self.json["machine"]["unix_s"].as_u64().unwrap_or(self.written_s))
    }

    /// What it was made on.
    pub(crate) fn machine(&self) -> String {
        let machine = &self.json["machine"];
        let text = |key: &str| machine[key].as_str().unwrap_or("not noted");
        let cpus = machine["cpus"].as_u64().map_or_else(String::new, |cpus| format!("{cpus} × "));
        format!("{cpus}{}, kernel {}", text("cpu_model"), text("kernel"))
    }

    /// A number that was given to the command.
    pub(crate) fn option(&self, name: &str) -> Option<f64> {
        let words = self.json["series"]["command"].as_array()?;
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.as_str()?.parse().ok()
    }

    /// What made it, as a person types it; files are named by who runs it.
    fn command(&self, name: &str) -> String {
        let words = self.json["series"]["command"].as_array();
        let Some(words) = words else {
            return plan::command(name).split(" --json").next().unwrap_or_default().to_owned();
        };
        let mut shown = vec!["cargo xtask bench".to_owned()];
        let mut words = words.iter().skip(1).filter_map(Value::as_str);
        while let Some(word) = words.next() {
            match word {
                "--json" | "--programs" => drop(words.next()),
                word => shown.push(word.to_owned()),
            }
        }
        shown.join(" ")
    }
}

/// The times of the fixed packet, wherever in a report they stand.
fn references(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "reference_packet_ns" {
                    found.extend(value.as_array().into_iter().flatten().filter_map(Value::as_f64));
                } else {
                    references(value, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_may_be_bare_or_in_a_report() {
        let files = Files::of(&[("a", json!([{"ns": 1}])), ("b", json!({"series": {"rows": [{"ns": 2}, {"ns": 3}]}}))]);
        assert_eq!((files.rows("a").len(), files.rows("b").len(), files.rows("c").len()), (1, 2, 0));
    }

    #[test]
    fn a_line_ends_with_the_speed_of_the_machine_where_that_was_measured() {
        let run = |both: [f64; 2]| json!({"calibration": {"reference_packet_ns": both}});
        let files = Files::of(&[
            ("a", json!({"series": {"one": run([1400.0, 1500.4]), "pairs": [{"ours": run([1390.0, 1600.0])}]}})),
            ("b", json!({"series": {"one": {"calibration": {"loops_per_second": [5, 6]}}}})),
        ]);
        let end = |name: &str| files.get(name).map(|file| file.origin(name)).unwrap_or_default();
        assert!(end("a").ends_with(" after · reference 1390 to 1600 ns"), "{}", end("a"));
        assert!(end("b").ends_with(" after"), "{}", end("b"));
    }

    #[test]
    fn the_command_is_the_one_that_was_typed() {
        let command = json!(["/x/millrace-scenarios", "webinar", "--json", "f", "--receivers", "7"]);
        let files = Files::of(&[("webinar", json!({"series": {"command": command}})), ("audio", json!([]))]);
        let origin = |name| files.get(name).unwrap().origin(name);
        assert!(origin("webinar").starts_with("`cargo xtask bench webinar --receivers 7`"), "{}", origin("webinar"));
        assert!(origin("audio").starts_with("`cargo xtask bench audio`"), "{}", origin("audio"));
    }

    #[test]
    fn what_was_not_run_again_is_what_was_kept() {
        let folder = std::env::temp_dir().join(format!("millrace-report-{}", std::process::id()));
        let old = Files::of(&[("audio", json!([1])), ("peers-500", json!([2])), ("stray", json!([3]))]);
        old.keep(&folder).unwrap();
        let files = Files::of(&[("audio", json!([4, 5]))]).over(Files::read(&folder).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files.names().collect::<Vec<_>>(), ["audio", "peers-500"]);
        assert_eq!((files.rows("audio").len(), files.rows("peers-500").len()), (2, 1));
    }

    #[test]
    fn a_figure_that_is_not_there_is_none() {
        let files = Files::of(&[("a", json!({"series": {"x": {"y": 1.5}}}))]);
        assert_eq!(files.figure("a", &["x", "y"]), Some(1.5));
        assert_eq!((files.figure("a", &["x", "z"]), files.figure("b", &["x"])), (None, None));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: one workload per name, each a cargo command. Never run by `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tools_netlab::report::Report;
use tools_netlab::{console, install};

use crate::{paths, shell};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench --list
  cargo xtask bench forward
  cargo xtask bench forward --json out.json
  cargo xtask bench webinar --receivers 3000 --seconds 60
  cargo xtask bench peers --peers janus,rtpengine,str0m,floor --receivers 50,500 --json
  cargo xtask bench handshakes --bots 100,500 --receivers 500
  cargo xtask bench guard
  cargo xtask bench guard --bless
  cargo xtask bench report --run";

/// `cargo xtask bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The benchmark's name.
    name: Option<String>,
    /// List the benchmarks.
    #[arg(long)]
    list: bool,
    /// Write every figure to this file [default: target/bench/NAME.json, which `report` reads].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
    /// What the workload itself understands; `--help` shows it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// One benchmark: cargo builds and runs it, or builds the programs that it starts. It prints its table last and writes JSON
/// to the file named by `MILLRACE_BENCH_JSON`, or by `--json`: all but the report, which reads what the others have written.
struct Bench {
    name: &'static str,
    shows: &'static str,
    /// The file of the bench target, relative to the root: no file, no bench.
    source: &'static str,
    cargo: &'static [&'static str],
    /// The program that runs it, where cargo only builds.
    program: Option<&'static str>,
    /// A `cfg` that it is built with, into a folder of its own below `target`: code that nothing else may contain.
    cfg: Option<&'static str>,
}

/// The one that measures nothing.
const REPORT: &str = "report";
/// What the namespaces of the others are made with.
const PACKAGES: &[&str] = &["iproute2", "procps", "ethtool", "util-linux"];

const BENCHES: &[Bench] = &[
    Bench {
        name: "fanout",
        shows: "cost of sealing one payload for many receivers, each cipher kernel against two libraries",
        source: "dataplane/srtp/benches/fanout.rs",
        cargo: &["bench", "--profile", "release", "--locked", "-p", "dataplane-srtp", "--bench", "fanout"],
        program: None,
        cfg: None,
    },
    Bench {
        name: "forward",
        shows: "cost per packet of the forwarding pipeline on a port that sends nothing, its own and its cipher's",
        source: "bench/pipeline/benches/forward.rs",
        cargo: &["bench", "--profile", "release", "--locked", "-p", "bench-pipeline", "--bench", "forward"],
        program: None,
        cfg: Some("null_cipher"),
    },
    Bench {
        name: "guard",
        shows: "regression guard: instructions of select, rewrite and egress, the cipher's ratio, as against guard.json",
        source: "bench/pipeline/benches/guard.rs",
        cargo: &["bench", "--profile", "release", "--locked", "-p", "bench-pipeline", "--bench", "guard"],
        program: None,
        cfg: Some("null_cipher"),
    },
    scenario("webinar", "one speaker to 3000 receivers over a wire: nothing lost, CPU per packet, latency (root)"),
    scenario("meeting", "25 people who all see each other, as against a webinar of the same rate (root)"),
    scenario("rooms", "200 rooms of 3 people, as against a webinar of the same rate (root)"),
    scenario("audio", "10 speakers to 1000 receivers (root)"),
    scenario("latency", "one to one with a worker that never sleeps, five times (root)"),
    scenario("overload", "twice of what comes through: how much still does, how late, and how soon all is well (root)"),
    scenario("memory", "what the data plane has in memory for a listener, and for a participant with 24 videos (root)"),
    scenario("workers", "one room on two workers, each with a core, as against one: CPU per packet (root)"),
    peers("peers", "CPU per forwarded packet beside Janus, rtpengine, str0m, mediasoup and floor programs (root)"),
    peers(
        "handshakes",
        "joins per second of one core, and what they make of the latency of 1 to 500 beside them (root)",
    ),
    Bench {
        name: REPORT,
        shows: "docs/BENCHMARKS.md and its plots from target/bench/*.json; with --run, of fresh runs of all the others (root)",
        source: "bench/report/src/main.rs",
        cargo: &["build", "--release", "--locked", "-p", "bench-report"],
        program: Some("millrace-report"),
        cfg: None,
    },
];

/// A workload of `bench/scenarios`: in namespaces, with the real data plane.
const fn scenario(name: &'static str, shows: &'static str) -> Bench {
    Bench {
        name,
        shows,
        source: "bench/scenarios/src/main.rs",
        cargo: &["build", "--release", "--locked", "-p", "bench-scenarios", "-p", "dataplane-daemon"],
        program: Some("millrace-scenarios"),
        cfg: None,
    }
}

/// A measurement of `bench/peers`: in namespaces, with real programs.
const fn peers(name: &'static str, shows: &'static str) -> Bench {
    const PROGRAMS: &[&str] = &[
        "build",
        "--release",
        "--locked",
        "-p",
        "bench-peers",
        "-p",
        "bench-bots",
        "-p",
        "dataplane-daemon",
        "-p",
        "dataplane-keeper",
        "-p",
        "controlplane-daemon",
        "--features",
        "bench-peers/str0m",
    ];
    Bench {
        name,
        shows,
        source: "bench/peers/src/bin/peers.rs",
        cargo: PROGRAMS,
        program: Some("millrace-peers"),
        cfg: None,
    }
}

impl Bench {
    fn exists(&self) -> bool {
        paths::root().join(self.source).is_file()
    }
}

/// Runs the command.
///
/// # Errors
/// When the name is unknown, the bench has no source in this checkout, or cargo cannot be started.
pub(crate) fn main(options: &Options) -> Result<bool> {
    let Some(name) = options.name.as_deref().filter(|_| !options.list) else {
        for bench in BENCHES {
            let state = if bench.exists() { "" } else { " (not in this checkout)" };
            console::line(&format!("  {:<12} {}{state}", bench.name, bench.shows));
        }
        return Ok(true);
    };
    let Some(bench) = BENCHES.iter().find(|b| b.name == name) else {
        bail!("there is no benchmark `{name}`; `cargo xtask bench --list` shows them");
    };
    if !bench.exists() {
        bail!("`{name}` has no source in this checkout: {} is missing", bench.source);
    }
    let mut command = shell::cargo(bench.cargo);
    if let Some(cfg) = bench.cfg {
        command.env("RUSTFLAGS", format!("--cfg {cfg}")).env("CARGO_TARGET_DIR", paths::target().join(cfg));
    }
    let (rest, json) = figures_file(name, options)?;
    if let Some(folder) = json.parent().filter(|_| name != REPORT) {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        // A bench that fails would show what an earlier run has written as its own.
        let _ = std::fs::remove_file(&json);
    }
    let Some(program) = bench.program else {
        let report = Report::start(name);
        command.env("MILLRACE_BENCH_JSON", &json);
        // What follows `--` is for the bench itself and not for cargo.
        let is_green = shell::run(command.arg("--").args(&rest))?;
        return Ok(is_green && wrap(report, &json, &rest)?);
    };
    if !shell::run(&mut command)? {
        return Ok(false);
    }
    let mut command = Command::new(paths::release_binary(program));
    command.arg(name).args(&rest);
    if name != REPORT {
        install::ensure_apt(PACKAGES)?;
        command.arg("--json").arg(&json);
    }
    shell::run(&mut command)
}

/// The words for the workload, and where its figures go: `--json` may stand among those words, with a file behind it or not.
fn figures_file(name: &str, options: &Options) -> Result<(Vec<String>, PathBuf)> {
    let mut rest = options.rest.clone();
    let mut file = options.json.clone().flatten();
    // The parser takes any word for the file.
    if let Some(word) = file.take_if(|file| file.as_os_str().as_encoded_bytes().starts_with(b"-")) {
        rest.insert(0, word.to_string_lossy().into_owned());
    }
    if let Some(at) = rest.iter().position(|word| word == "--json") {
        rest.remove(at);
        if rest.get(at).is_some_and(|word| !word.starts_with('-')) {
            file = Some(PathBuf::from(rest.remove(at)));
        }
    }
    let file = std::path::absolute(file.unwrap_or_else(|| paths::target().join("bench").join(format!("{name}.json"))))?;
    Ok((rest, file))
}

/// Puts a bare table of rows into a report, so that machine, load and command are beside it, and holds it to its bars; true where
/// they are kept. A bench that has written a report of its own, or nothing as when it is only tried, has judged itself.
fn wrap(mut report: Report, file: &Path, rest: &[String]) -> Result<bool> {
    if !file.exists() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let found: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let Some(rows) = found.as_array() else { return Ok(true) };
    let words = ["cargo xtask bench".to_owned(), report.name().to_owned()];
    report.note("command", json!(words.iter().chain(rest).collect::<Vec<_>>()));
    // A part of the table is for people to look at.
    if rest.is_empty() {
        bench_report::rows::hold(&mut report, rows);
    }
    let count = rows.len();
    report.note("rows", found);
    report.finish(Some(file), &format!("{count} rows in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Options {
        Options { name: Some(name.to_owned()), list: false, json: None, rest: Vec::new() }
    }

    #[test]
    fn figures_go_where_they_are_wanted_wherever_that_is_said() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let usual = |name: &str| paths::target().join("bench").join(name);
        for (line, words, file) in [
            ("fanout", "", usual("fanout.json")),
            ("fanout --json", "", usual("fanout.json")),
            ("meeting --json /a/b.json", "", "/a/b.json".into()),
            ("webinar --receivers 3000 --seconds 60 --json", "--receivers 3000 --seconds 60", usual("webinar.json")),
            ("webinar --json --receivers 30", "--receivers 30", usual("webinar.json")),
            ("webinar --receivers 30 --json /a/b.json --seconds 1", "--receivers 30 --seconds 1", "/a/b.json".into()),
        ] {
            let words_of_line = ["xtask"].into_iter().chain(line.split_whitespace());
            let Line { options } = <Line as clap::Parser>::parse_from(words_of_line);
            let (rest, found) = figures_file(options.name.as_deref().expect("a name"), &options).expect(line);
            assert_eq!((rest.join(" "), found), (words.to_owned(), file), "{line}");
        }
    }

    #[test]
    fn an_unknown_benchmark_is_refused_by_name() {
        let error = main(&asked("warp-drive")).expect_err("unknown");
        assert!(error.to_string().contains("warp-drive"));
    }

    #[test]
    fn a_bare_table_gets_its_machine_and_command() {
        let file = std::env::temp_dir().join(format!("xtask-bench-{}.json", std::process::id()));
        std::fs::write(&file, "[{\"ns\": 1.5}]").expect("a file");
        wrap(Report::start("fanout"), &file, &["--test".to_owned()]).expect("wrapped");
        let text = std::fs::read_to_string(&file).expect("the file");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(report["series"]["rows"][0]["ns"], 1.5);
        assert_eq!(report["series"]["command"], json!(["cargo xtask bench", "fanout", "--test"]));
        assert!(report["machine"]["kernel"].is_string(), "{text}");
        assert!(wrap(Report::start("fanout"), &file, &[]).expect("left alone"));
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), text, "a report stays as it is");
        let _ = std::fs::remove_file(&file);
    }

    #[test]
    fn a_benchmark_without_a_source_is_an_error_and_not_a_success() {
        for bench in BENCHES.iter().filter(|b| !b.exists()) {
            assert!(main(&asked(bench.name)).is_err());
        }
    }
}

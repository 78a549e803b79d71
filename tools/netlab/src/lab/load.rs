// SPDX-License-Identifier: Apache-2.0
//! `lab load`: the same call of bots over one back end after the other, in turn: processor time of the data plane for each
//! forwarded packet, and its latency. Bots run in a namespace of their own; what they cost is not counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::args::{Args, BIN_DIR, JSON, Known, WORKERS};
use super::call::server_options;
use super::counters::Status;
use super::server::{Server, ServerOptions};
use super::verdict::{judge_counters, judge_health};
use super::{median, new_folder};
use crate::console;
use crate::netns::Bed;
use crate::process::Process;
use crate::report::Report;

/// A busy-polling worker with one receiver forwards within this, median and 99 of 100 packets, in µs.
const LATENCY_US: [(&str, f64); 2] = [("p50", 30.0), ("p99", 300.0)];
/// Everybody has joined by then.
const JOIN_SECONDS: u64 = 60;
/// Bots come from one address: what protects against one person does not apply.
const LIMITS: &str = "[limits]\npending_per_address = 4096\nunjoined_per_address = 4096\njoins_per_address_s = 4096\nparticipants_per_room = 1000\n";

/// One run over one back end.
struct Run {
    cpu_us: Option<f64>,
    sent: Option<f64>,
    after: Status,
    bots: Value,
}

impl Run {
    /// Processor time for each packet that went to a receiver, µs.
    fn cost_us(&self) -> Option<f64> {
        let (cpu_us, sent) = self.cpu_us.zip(self.sent)?;
        (sent > 0.0).then(|| cpu_us / sent)
    }
}

pub(crate) const OPTIONS: Known = &[
    ("backends LIST", "of xdp, uring, sockets, in turns [default: xdp,uring]"),
    ("publishers N", "bots that send [default: 10]"),
    ("viewers N", "bots that watch [default: 90]"),
    ("watch N", "publishers that each of them watches [default: 1]"),
    ("seconds N", "how long a round is [default: 15]"),
    ("pairs N", "rounds [default: 3]"),
    ("busy-poll WHAT", "on: workers never sleep [default: off]"),
    WORKERS,
    JSON,
    BIN_DIR,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let backends = args.text("backends", "xdp,uring");
    let backends: Vec<&str> = backends.split(',').collect();
    ensure!(backends.iter().all(|name| ["xdp", "uring", "sockets"].contains(name)), "--backends: xdp, uring, sockets");
    let load = [("publishers", 10_u64), ("viewers", 90), ("watch", 1), ("seconds", 15)];
    let mut numbers = BTreeMap::new();
    for (name, default) in load {
        numbers.insert(name, args.number(name, default)?);
    }
    let pairs: u64 = args.number("pairs", 3)?;
    let is_busy = args.choice("busy-poll", &["on", "off"])? == Some("on");
    let folder = new_folder("load")?;
    let mut report = Report::start("load");
    report.note("load", json!(numbers));
    report.note("busy_poll", is_busy);
    let mut costs: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    let mut latencies: BTreeMap<&str, Status> = BTreeMap::new();
    for pair in 0..pairs {
        for backend in &backends {
            let options = ServerOptions { backend: (*backend).into(), is_busy, ..server_options(args)? };
            let at = folder.join(format!("{backend}-{pair}"));
            std::fs::create_dir_all(&at)?;
            let run = carry_out(&mut report, &at, options, &numbers)?;
            let cost = run.cost_us();
            console::line(&format!("  {backend}: {cost:.2?} us of processor time for each forwarded packet"));
            costs.entry(backend).or_default().push(cost);
            report.note(format!("{backend}.{pair}.bots"), run.bots);
            latencies.insert(backend, run.after);
        }
    }
    for (backend, status) in &latencies {
        for (quantile, bound) in LATENCY_US {
            let (name, value) = (format!("{backend}.latency_{quantile}_us"), status.latency_us(quantile));
            let is_promised = is_busy && *backend == "xdp" && numbers["publishers"] + numbers["viewers"] <= 2;
            if is_promised { report.at_most(name, value, "us", bound) } else { report.note(name, json!(value)) }
        }
    }
    report.note("cpu_us_per_forwarded_packet", json!(costs));
    let figure = figure(&costs, &latencies);
    report.finish(args.path("json").as_deref(), &figure)
}

/// Starts a server, lets the bots call, reads what it cost between two moments of the call.
fn carry_out(report: &mut Report, folder: &Path, options: ServerOptions, numbers: &BTreeMap<&str, u64>) -> Result<Run> {
    let config = folder.join("millrace.toml");
    std::fs::write(&config, LIMITS)?;
    let arguments = vec!["--config".into(), config.display().to_string()];
    let options = ServerOptions { arguments, ..options };
    let bots = options.bin_dir.join("millrace-bots");
    ensure!(bots.exists(), "{} is not built: `cargo build --release -p bench-bots` makes it", bots.display());
    let mut bed = Bed::create()?;
    let server = Server::start(Arc::new(bed.add("server")?), folder, &options)?;
    let clients = bed.add("bots")?;
    let mut command = clients.namespace.command(&bots);
    command.args(["--url", &server.origin.replacen("http", "ws", 1), "--json"]);
    command.args(["--join-seconds", &JOIN_SECONDS.to_string()]);
    for (name, number) in numbers {
        command.args([format!("--{name}"), number.to_string()]);
    }
    let mut process = Process::spawn(command, &folder.join("bots.json"), false)?;
    let people = numbers["publishers"] + numbers["viewers"];
    let until = Instant::now() + Duration::from_secs(JOIN_SECONDS + 10);
    while server.live_participants() != Some(people) && process.is_running() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (before, cpu_before) = (server.settled_status()?, server.cpu_us());
    std::thread::sleep(Duration::from_secs(numbers["seconds"].saturating_sub(5).max(3)));
    let (cpu_after, after) = (server.cpu_us(), server.settled_status()?);
    process.wait_for_exit(Duration::from_secs(JOIN_SECONDS + numbers["seconds"] + 30))?;
    let text = process.log_text();
    let start = text.find('{').context("the bots said nothing")?;
    let bots: Value = serde_json::from_str(&text[start..]).context("what the bots said")?;
    let name = server.backend.clone();
    report.check(
        format!("{name}.bots_joined"),
        bots["joined"].clone(),
        "bots",
        &format!("= {people}"),
        bots["joined"] == people,
    );
    report.exactly(format!("{name}.bots_undecryptable"), bots["received"]["undecryptable"].as_f64(), "packets", 0.0);
    judge_counters(report, &server, &before, &after);
    judge_health(report, &server);
    let difference = |old: Option<f64>, new: Option<f64>| Some(new? - old?);
    let total = |status: &Status| status.sent_by_worker().map(|sent| sent.iter().sum::<f64>());
    let (cpu_us, sent) = (difference(cpu_before, cpu_after), difference(total(&before), total(&after)));
    let mut bots = bots;
    bots["bots"] = Value::Null;
    Ok(Run { cpu_us, sent, after, bots })
}

fn figure(costs: &BTreeMap<&str, Vec<Option<f64>>>, latencies: &BTreeMap<&str, Status>) -> String {
    let mut words: Vec<String> = Vec::new();
    for (backend, runs) in costs {
        let latency = latencies.get(backend);
        let us = |quantile: &str| latency.and_then(|status| status.latency_us(quantile)).unwrap_or(f64::NAN);
        let cost = median(runs).unwrap_or(f64::NAN);
        words.push(format!("{backend} {cost:.2} us a packet, p50 {:.0} us, p99 {:.0} us", us("p50"), us("p99")));
    }
    let ratio = costs.get("uring").zip(costs.get("xdp")).and_then(|(uring, xdp)| {
        let ratios: Vec<Option<f64>> = uring.iter().zip(xdp).map(|(uring, xdp)| Some((*uring)? / (*xdp)?)).collect();
        median(&ratios)
    });
    words.extend(ratio.map(|ratio| format!("uring : xdp = {ratio:.2}")));
    words.join("; ")
}

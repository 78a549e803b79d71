// SPDX-License-Identifier: Apache-2.0
//! The page: what was promised and found, the plots with their numbers, and every bench with its checks.

use std::fmt::Write as _;

use serde_json::Value;

use crate::bars::{self, Verdict, short};
use crate::files::Files;
use crate::{model, plan, plots, split};

const INTRO: &str = "\
# Benchmarks

Made by `cargo xtask bench report` from what the benches wrote into `target/bench`, and what was not run again from
[benchmarks/data](benchmarks/data); `cargo xtask bench report --run` runs all of them first. Do not edit: run it again. No number stands here that a bench has not measured; what has not been run is said to be so.

A wire is a pair of veth interfaces between network namespaces of one machine: generator and sink on core 0, the server on core 1.
*CPU for each forwarded packet* is the process time of the server's threads by the kernel's clock, divided by the packets that the
sink counted in the same window. Whoever compares must compare figures of one machine and one hour: see the ratios, and *reference*, where a run has it: what a
fixed packet, sealed by a library and sent from one socket to another, took on the server's core before and after it.
";

/// Adds a line; a string takes everything.
macro_rules! line {
    ($page:expr) => { $page.push('\n') };
    ($page:expr, $($words:tt)*) => {{
        let _ = writeln!($page, $($words)*);
    }};
}

/// The whole page.
pub(crate) fn text(files: &Files, model: &Value) -> String {
    let mut page = String::from(INTRO);
    bars_of(files, &mut page);
    receivers(files, &mut page);
    peers(files, &mut page);
    stages(files, &mut page);
    line!(page, "\n`millrace capacity` reckons with {}.", model::line(model));
    benches(files, &mut page);
    page
}

fn bars_of(files: &Files, page: &mut String) {
    line!(page, "\n## What it is held to\n\n| what | bar | found | verdict |\n| --- | --- | --- | --- |");
    let bars = bars::all(files);
    for bar in &bars {
        let verdict = match bar.verdict {
            Verdict::NotRun if bar.what.starts_with("mediasoup") => {
                "not run: it needs `--mediasoup-worker PATH`".to_owned()
            }
            Verdict::NotRun => format!("not run: `{}`", plan::command(bar.file)),
            verdict @ (Verdict::Met | Verdict::Missed) => verdict.word().to_owned(),
        };
        line!(page, "| {} | {} | {} | {verdict} |", bar.what, bar.bound, bar.found);
    }
    let count = |verdict| bars.iter().filter(|bar| bar.verdict == verdict).count();
    let (met, missed, not_run) = (count(Verdict::Met), count(Verdict::Missed), count(Verdict::NotRun));
    line!(
        page,
        "\n{met} met, {missed} missed, {not_run} not run. [COSTS](COSTS.md) says what the missed ones consist of, what was"
    );
    line!(page, "tried, and what a network card changes.");
}

/// Where a file's figures are from, or how to get them.
fn origin(files: &Files, name: &str) -> String {
    files.get(name).map_or_else(|| format!("not run: `{}`", plan::command(name)), |file| file.origin(name))
}

fn receivers(files: &Files, page: &mut String) {
    line!(page, "\n## Cost and latency by receivers\n");
    line!(page, "![CPU for each forwarded packet by receivers](benchmarks/cost-vs-n.svg)\n");
    line!(page, "![forwarding latency by receivers](benchmarks/latency-vs-n.svg)\n");
    line!(page, "| receivers | packets/s | veth µs | same core µs | lost | p50 µs | p99 µs | p99.9 µs |");
    line!(page, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for n in plan::SWEEP {
        let name = plan::sweep_file(n);
        if files.get(&name).is_none() {
            line!(page, "| {n} | not run: `{}` | | | | | | |", plan::command(&name));
            continue;
        }
        let of = |path: &[&str]| files.figure(&name, path).map_or_else(|| "–".to_owned(), short);
        let [p50, p99, p999] = ["p50_us", "p99_us", "p999_us"].map(|key| of(&["other_core", "latency", key]));
        let lost = |key| files.figure(&name, &["other_core", key]);
        let lost =
            lost("expected").zip(lost("delivered")).map_or_else(|| "–".to_owned(), |(all, came)| short(all - came));
        let rate = of(&["other_core", "packets_per_second"]);
        let (veth, same) = (of(&["other_core", "process_us"]), of(&["same_core", "process_us"]));
        line!(page, "| {n} | {rate} | {veth} | {same} | {lost} | {p50} | {p99} | {p999} |");
    }
    line!(
        page,
        "\n*veth*: the sink's packets are taken by a kernel thread on the other core; *same core*: by the server's own. The"
    );
    line!(page, "worker sleeps when it has nothing to do, so few receivers pay for a wake-up per packet each.\n");
    for name in plan::SWEEP.map(plan::sweep_file).iter().filter(|name| files.get(name).is_some()) {
        line!(page, "- {}", origin(files, name));
    }
    let null_tx = plots::null_tx(files);
    if !null_tx.is_empty() {
        line!(page, "\n| receivers | null-tx ns |\n| ---: | ---: |");
        for (n, us) in null_tx {
            line!(page, "| {n} | {} |", short(us * 1000.0));
        }
    }
    line!(page, "\n- {}", origin(files, "forward"));
}

fn peers(files: &Files, page: &mut String) {
    line!(page, "\n## Beside other servers\n\n![ratios to other servers](benchmarks/ratio-vs-peers.svg)\n");
    let ratios = plots::ratios(files);
    if !ratios.is_empty() {
        line!(page, "| peer | to | receivers | median | min | max |\n| --- | --- | ---: | ---: | ---: | ---: |");
        for ratio in &ratios {
            let [median, least, most] = [ratio.median, ratio.least, ratio.most].map(short);
            line!(page, "| {} | {} | {} | {median} | {least} | {most} |", ratio.peer, ratio.ours, ratio.receivers);
        }
        line!(
            page,
            "\nSame bed, same media, same cipher, same sink, in turns; each ratio is of two runs of one round."
        );
        line!(
            page,
            "`floor-sendmmsg` and `floor-gso` are a cipher library with that system call and nothing else: what a careful"
        );
        line!(
            page,
            "program with sockets reaches. rtpengine is fed through SDES, without ICE and DTLS. `str0m` is a unit of our own"
        );
        line!(page, "on the published library, in one thread; mediasoup is one worker behind its npm package.\n");
    }
    for (name, why) in files.peers().flat_map(|(_, file)| file.series()) {
        if let (Some(peer), Some(why)) = (name.strip_suffix(".skipped"), why.as_str()) {
            line!(page, "- {peer} was left out: {}", why.lines().next().unwrap_or_default());
        }
    }
    for (name, file) in files.peers() {
        line!(page, "- {}", file.origin(name));
    }
    if files.peers().next().is_none() {
        line!(page, "- {}", origin(files, "peers"));
    }
}

fn stages(files: &Files, page: &mut String) {
    line!(page, "\n## Where the time goes\n\n![cost by stage](benchmarks/cost-by-stage.svg)\n");
    line!(page, "| layer | ns for each packet | what |\n| --- | ---: | --- |");
    for layer in split::layers(files) {
        line!(page, "| {} | {} | {} |", layer.name, layer.ns.map_or_else(|| "not run".to_owned(), short), layer.what);
    }
    if let Some(stages) = split::stages(files) {
        line!(page, "\n| stage | ns | from |\n| --- | ---: | --- |");
        for stage in stages {
            line!(page, "| {} | {} | {} |", stage.name, short(stage.ns), stage.how);
        }
        line!(
            page,
            "\nStages are differences of layers, and each layer is a run of its own: they are good to about a tenth."
        );
    }
    line!(page);
    for name in ["fanout", "forward", "guard", "webinar"] {
        line!(page, "- {}", origin(files, name));
    }
}

fn benches(files: &Files, page: &mut String) {
    line!(page, "\n## Every bench and its checks\n");
    for name in files.names().filter(|name| !name.starts_with("webinar-")) {
        let Some(file) = files.get(name) else { continue };
        line!(page, "### {name}\n\n{}\n", file.origin(name));
        let checks = file.checks();
        if checks.is_empty() {
            line!(page, "A table of its own: no checks.\n");
            continue;
        }
        line!(page, "| check | found | bound | |\n| --- | ---: | --- | --- |");
        for check in &checks {
            let verdict = if check.is_ok { "holds" } else { "**does not hold**" };
            line!(page, "| `{}` | {} | {} | {verdict} |", check.name, bars::value(check), check.bound);
        }
        line!(page);
    }
    let failed = short_runs(files);
    if !failed.is_empty() {
        line!(
            page,
            "Checks of the sweep's short runs that did not hold, but for the cost, whose bar is for 3000:\n\n{failed}"
        );
    }
    while page.ends_with("\n\n") {
        page.pop();
    }
}

/// What did not hold in the runs of the sweep, a line for each.
fn short_runs(files: &Files) -> String {
    let mut lines = String::new();
    for name in plan::SWEEP.map(plan::sweep_file) {
        let checks = files.get(&name).map(|file| file.checks()).unwrap_or_default();
        for check in checks.iter().filter(|check| !check.is_ok && !check.name.ends_with(".process_us")) {
            line!(lines, "- {name}: `{}` {}, bound {}", check.name, bars::value(check), check.bound);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_run_is_said_with_its_command() {
        let page = text(&Files::default(), &json!({}));
        for command in ["bench fanout", "bench peers --peers janus", "bench webinar --receivers 300 --seconds 5"] {
            assert!(page.contains(&format!("not run: `cargo xtask {command}")), "{command}");
        }
        assert!(page.contains("0 met, 0 missed, "));
    }

    #[test]
    fn a_check_that_does_not_hold_is_seen() {
        let checks =
            json!([{"name": "memory.audience", "value": 9000.0, "unit": "bytes", "bound": "<= 8192", "ok": false}]);
        let page = text(&Files::of(&[("memory", json!({"checks": checks}))]), &json!({}));
        assert!(page.contains("| `memory.audience` | 9000 bytes | <= 8192 | **does not hold** |"), "{page}");
    }
}

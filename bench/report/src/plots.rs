// SPDX-License-Identifier: Apache-2.0
//! The plots: cost and latency by the number of receivers, ratios to other servers, cost by stage. A plot of nothing says what
//! to run.

use crate::bars::short;
use crate::files::Files;
use crate::svg::{Anchor, Svg, WIDTH};
use crate::{plan, split};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 52.0;
const HEIGHT: f64 = 420.0;
const BOTTOM: f64 = 54.0;
/// Of one bar of a bar chart.
const ROW: f64 = 34.0;

/// How many times the cost of `ours` that of a peer is.
pub(crate) struct Ratio {
    pub(crate) peer: String,
    pub(crate) ours: String,
    pub(crate) receivers: u32,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// A line of a plot over receivers.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Every plot with its file's name.
pub(crate) fn all(files: &Files) -> [(&'static str, String); 4] {
    [
        ("cost-vs-n.svg", cost(files)),
        ("latency-vs-n.svg", latency(files)),
        ("ratio-vs-peers.svg", peers(files)),
        ("cost-by-stage.svg", stages(files)),
    ]
}

/// A figure of the runs of the sweep by their receivers.
pub(crate) fn sweep(files: &Files, path: &[&str]) -> Vec<(f64, f64)> {
    let at = |n: u32| Some((f64::from(n), files.figure(&plan::sweep_file(n), path)?));
    plan::SWEEP.into_iter().filter_map(at).collect()
}

/// The null-tx bench by receivers, µs.
pub(crate) fn null_tx(files: &Files) -> Vec<(f64, f64)> {
    let at = |n: u32| Some((f64::from(n), split::pipeline(files, n.into(), true, "forward_ns")? / 1000.0));
    [1, 10, 100, 1000, 3000].into_iter().filter_map(at).collect()
}

fn cost(files: &Files) -> String {
    let of = |path: &[&str]| sweep(files, path);
    let lines = [
        Line { name: "same core as sink", points: of(&["same_core", "process_us"]) },
        Line { name: "veth, data plane", points: of(&["other_core", "process_us"]) },
        Line { name: "null-tx pipeline", points: null_tx(files) },
    ];
    over_receivers("CPU for each forwarded packet, µs, by receivers (AES-128-GCM, video + audio)", &lines)
}

fn latency(files: &Files) -> String {
    let of = |key| sweep(files, &["other_core", "latency", key]);
    let lines = [
        Line { name: "p99.9", points: of("p999_us") },
        Line { name: "p99", points: of("p99_us") },
        Line { name: "p50", points: of("p50_us") },
    ];
    over_receivers("Forwarding latency, µs, from the generator's send to the sink, by receivers", &lines)
}

/// Lines over a logarithmic number of receivers and a logarithmic µs.
fn over_receivers(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| *y > 0.0);
    let least = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut svg = Svg::new(title, HEIGHT);
    if !least.is_finite() {
        svg.text([20.0, 70.0], Anchor::Start, "", "not run: cargo xtask bench report --run --only webinar,forward");
        return svg.finish();
    }
    let (low, high) = (least.log10().floor(), (most * 1.05).log10().ceil());
    let x = |n: f64| LEFT + n.log10() / 3000_f64.log10() * (WIDTH - LEFT - RIGHT);
    let y = |us: f64| HEIGHT - BOTTOM - (us.log10() - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
    for decade in ticks(low, high) {
        for step in [1.0, 2.0, 5.0].map(|step| step * decade).into_iter().filter(|us| us.log10() <= high + 1e-9) {
            svg.line([LEFT, y(step)], [WIDTH - RIGHT, y(step)], "grid");
            svg.text([LEFT - 8.0, y(step) + 4.0], Anchor::End, "small", &short_tick(step));
        }
    }
    for n in plan::SWEEP {
        let at = x(f64::from(n));
        svg.line([at, TOP], [at, HEIGHT - BOTTOM], "grid");
        svg.text([at, HEIGHT - BOTTOM + 18.0], Anchor::Middle, "small", &n.to_string());
    }
    svg.text([(LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0], Anchor::Middle, "", "receivers");
    svg.line([LEFT, HEIGHT - BOTTOM], [WIDTH - RIGHT, HEIGHT - BOTTOM], "axis");
    svg.line([LEFT, TOP], [LEFT, HEIGHT - BOTTOM], "axis");
    let shown = lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty());
    for (colour, line) in shown {
        let points: Vec<_> = line.points.iter().map(|(n, us)| [x(*n), y(us.max(least))]).collect();
        svg.curve(&points, colour);
    }
    legend(&mut svg, lines);
    svg.finish()
}

/// Names beside the plot, with each line's last value.
fn legend(svg: &mut Svg, lines: &[Line]) {
    let mut at = TOP + 10.0;
    for (colour, line) in lines.iter().enumerate() {
        svg.rect([WIDTH - RIGHT + 16.0, at - 10.0], [12.0, 12.0], colour);
        svg.text([WIDTH - RIGHT + 34.0, at], Anchor::Start, "", line.name);
        let last =
            line.points.last().map_or_else(|| "not run".to_owned(), |(n, us)| format!("{} µs at {n}", short(*us)));
        svg.text([WIDTH - RIGHT + 34.0, at + 16.0], Anchor::Start, "small", &last);
        at += 46.0;
    }
}

/// Powers of ten from one to the other.
fn ticks(low: f64, high: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(low), |at| Some(at + 1.0)).take_while(move |at| *at <= high).map(|at| 10_f64.powf(at))
}

fn short_tick(value: f64) -> String {
    if value < 1.0 { format!("{value}").chars().take(5).collect() } else { format!("{value:.0}") }
}

/// Ratios of the run with other servers, by peer and receivers.
pub(crate) fn ratios(files: &Files) -> Vec<Ratio> {
    let of = |(name, value): (&str, &serde_json::Value)| {
        let (peer, rest) = name.split_once('.')?;
        let (receivers, ours) = rest.split_once(".times_")?;
        let number = |key: &str| value[key].as_f64();
        Some(Ratio {
            peer: peer.to_owned(),
            ours: ours.to_owned(),
            receivers: receivers.parse().ok()?,
            median: number("median")?,
            least: number("least")?,
            most: number("most")?,
        })
    };
    let mut ratios: Vec<_> = files.peers().flat_map(|(_, file)| file.series()).filter_map(of).collect();
    ratios
        .sort_by(|one, other| (&one.ours, &one.peer, one.receivers).cmp(&(&other.ours, &other.peer, other.receivers)));
    ratios
}

fn peers(files: &Files) -> String {
    const NAMES: f64 = 250.0;
    const VALUES: f64 = 150.0;
    let title = "CPU of others for each forwarded packet, as a multiple of ours (median, min–max)";
    let ratios = ratios(files);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let mut svg = Svg::new(title, TOP + 20.0 + ROW * ratios.len().max(1) as f64);
    if ratios.is_empty() {
        svg.text([20.0, 66.0], Anchor::Start, "", &format!("not run: {}", plan::command("peers")));
        return svg.finish();
    }
    let most = ratios.iter().map(|ratio| ratio.most).fold(1.0, f64::max);
    // Logarithmic from a half on: a peer as good as we are must be seen beside one that is fifty times dearer.
    let x = |times: f64| NAMES + (times.max(0.5) / 0.5).log10() / (most / 0.5).log10() * (WIDTH - NAMES - VALUES);
    let mut top = TOP;
    for ratio in &ratios {
        let colour = usize::from(ratio.ours != "millrace-xdp");
        let name = format!("{}, 1 → {} (to {})", ratio.peer, ratio.receivers, ratio.ours.replace("millrace-", ""));
        svg.text([NAMES - 10.0, top + 15.0], Anchor::End, "", &name);
        svg.rect([NAMES, top], [(x(ratio.median) - NAMES).max(1.0), ROW - 14.0], colour);
        let middle = top + (ROW - 14.0) / 2.0;
        svg.line([x(ratio.least), middle], [x(ratio.most), middle], "whisker");
        for end in [ratio.least, ratio.most] {
            svg.line([x(end), middle - 5.0], [x(end), middle + 5.0], "whisker");
        }
        let value = format!("{} ({}–{})", short(ratio.median), short(ratio.least), short(ratio.most));
        svg.text([x(ratio.most) + 8.0, top + 15.0], Anchor::Start, "", &value);
        top += ROW;
    }
    svg.line([x(1.0), TOP - 6.0], [x(1.0), top], "bar");
    svg.text([x(1.0), top + 10.0], Anchor::Middle, "bartext", "1");
    svg.finish()
}

fn stages(files: &Files) -> String {
    let title = "Where a forwarded packet's time goes, ns (1 → 3000, AES-128-GCM, 1200 B)";
    let (Some(stages), layers) = (split::stages(files), split::layers(files)) else {
        let mut svg = Svg::new(title, 120.0);
        let hint = "not run: cargo xtask bench report --run --only guard,fanout,forward,webinar";
        svg.text([20.0, 70.0], Anchor::Start, "", hint);
        return svg.finish();
    };
    const NAMES: f64 = 130.0;
    let mut svg = Svg::new(title, 312.0);
    let most = layers.iter().filter_map(|layer| layer.ns).fold(1.0, f64::max);
    let scale = (WIDTH - NAMES - 110.0) / most;
    let inside = |layer: usize, name: &str| match layer {
        0 => name == "seal",
        1 => name != "send" && name != "open",
        _ => true,
    };
    for (row, layer) in layers.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let top = TOP + row as f64 * 54.0;
        svg.text([NAMES - 10.0, top + 23.0], Anchor::End, "", layer.name);
        let mut x = NAMES;
        for (colour, stage) in stages.iter().enumerate().filter(|(_, stage)| inside(row, stage.name)) {
            let ns = if row == 0 { layer.ns.unwrap_or(0.0) } else { stage.ns };
            svg.rect([x, top], [ns * scale, 36.0], colour);
            x += ns * scale;
        }
        let value = layer.ns.map_or_else(|| "not run".to_owned(), |ns| format!("{} ns", short(ns)));
        svg.text([x + 8.0, top + 23.0], Anchor::Start, "", &value);
    }
    let (mut x, mut y) = (NAMES, TOP + 3.0 * 54.0 + 24.0);
    for (colour, stage) in stages.iter().enumerate() {
        svg.rect([x, y - 11.0], [12.0, 12.0], colour);
        svg.text([x + 18.0, y], Anchor::Start, "", &format!("{} {} ns", stage.name, short(stage.ns)));
        x += 178.0;
        if x > WIDTH - 170.0 {
            (x, y) = (NAMES, y + 26.0);
        }
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plot_of_nothing_names_the_command() {
        for (name, text) in all(&Files::default()) {
            assert!(text.contains("not run: cargo xtask bench"), "{name}: {text}");
        }
    }

    #[test]
    fn a_ratio_is_found_by_its_name() {
        let series = json!({"janus-loop.50.times_millrace-xdp": {"median": 17.5, "least": 16, "most": 19},
            "janus.50": [1], "cipher": "x"});
        let found = ratios(&Files::of(&[("peers", json!({"series": series}))]));
        let [ratio] = found.as_slice() else { panic!("{}", found.len()) };
        assert_eq!((ratio.peer.as_str(), ratio.ours.as_str(), ratio.receivers), ("janus-loop", "millrace-xdp", 50));
    }

    #[test]
    fn every_run_of_the_sweep_is_a_point() {
        let run = |us: f64| json!({"series": {"other_core": {"process_us": us}}});
        let files = Files::of(&[("webinar-1", run(9.0)), ("webinar-3000", run(0.9))]);
        assert_eq!(sweep(&files, &["other_core", "process_us"]), [(1.0, 9.0), (3000.0, 0.9)]);
        assert_eq!(cost(&files).matches("<circle").count(), 2);
    }
}

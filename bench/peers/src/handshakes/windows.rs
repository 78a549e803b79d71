// SPDX-License-Identifier: Apache-2.0
//! What was seen while crowds joined a server that forwards, and what it says: each window with clients who join against the
//! quiet one before it.

use anyhow::{Context as _, Result};
use bench_scenarios::latency;
use bench_scenarios::sink::{Arrival, Stream};
use bench_scenarios::trace::{Sample, lost_until};
use dataplane_abi::latency::quantile_ns;
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

use super::beside::Setup;
use super::{Look, as_f64};
use crate::client::media::Published;
use crate::compare::Ratio;
use crate::measure::delivered;

/// What clients who join may make of the forwarding latency's p99.
const MOST_P99: f64 = 1.1;

/// What a listener who came by WHEP may take of both planes, KiB.
const MOST_LISTENER: f64 = 16.0;

/// A stretch of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Monotonic ns.
    pub(super) from_ns: u64,
    /// Monotonic ns.
    pub(super) until_ns: u64,
    /// How many joined in it; nobody tried to where there is none.
    pub(super) joined: Option<u64>,
}

/// What the server shows of itself.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its histogram of forwarding latencies, so far.
    pub(super) latency: Vec<u64>,
    /// CPU of control plane and data plane, so far.
    pub(super) cpu_ns: [u64; 2],
}

/// Everything that is known at the end.
pub(super) struct Evidence {
    pub(super) windows: Vec<Window>,
    pub(super) trace: Vec<Sample>,
    pub(super) looks: Vec<Look<Seen>>,
    pub(super) published: Published,
    pub(super) streams: Vec<Stream>,
    pub(super) arrivals: Vec<Arrival>,
    /// Right, and others.
    pub(super) samples: [u64; 2],
    /// What grows with listeners, with few of them and with all and their media flowing: control plane and data plane, bytes.
    pub(super) resident: [[u64; 2]; 2],
}

/// What a window says.
struct Figures {
    window: Window,
    seconds: f64,
    /// p50, p99 and p99.9 of the server's own latency.
    server_ns: [u64; 3],
    frames: u64,
    lost: u64,
    cpu_ns: [u64; 2],
    /// From the publisher to the sink.
    sink: Value,
}

impl Evidence {
    /// Prints and judges; the figure in words.
    pub(super) fn judge(&self, setup: &Setup<'_>, report: &mut Report) -> Result<String> {
        let windows: Vec<Figures> =
            self.windows.iter().map(|window| self.figures(setup, *window)).collect::<Result<_>>()?;
        heading(setup);
        windows.iter().for_each(Figures::print);
        let name = |what: &str| format!("handshakes.beside.{what}");
        report.note(name("windows"), windows.iter().map(Figures::json).collect::<Vec<_>>());
        report.note(
            name("call"),
            json!({"receivers": setup.receivers, "crowd": setup.crowd, "rooms_of": setup.rooms_of}),
        );
        let ratio = Ratio::of(ratios(&windows, |window| window.server_ns[1]));
        if let Some(Ratio { median, least, most }) = ratio {
            report.note(name("p99_ratio"), json!({"median": median, "least": least, "most": most}));
        }
        report.at_most(name("p99_during_to_before"), ratio.map(|ratio| ratio.median), "", MOST_P99);
        let wanted = u64::from(setup.crowd * setup.windows);
        let joined: u64 = windows.iter().filter_map(|window| window.window.joined).sum();
        report.check(name("joined"), joined, "bots", &format!("= {wanted}"), joined == wanted);
        let lost = |is_quiet: bool| {
            let of = windows.iter().filter(|window| window.window.joined.is_none() == is_quiet);
            of.map(|window| window.lost).sum::<u64>()
        };
        report.exactly(name("lost_quiet"), Some(as_f64(lost(true))), "packets", 0.0);
        report.exactly(name("lost_joining"), Some(as_f64(lost(false))), "packets", 0.0);
        let expected = self.published.total() * u64::from(setup.receivers);
        let missing = expected - delivered(&self.streams, self.published.total()).min(expected);
        report.exactly(name("lost"), Some(as_f64(missing)), "packets", 0.0);
        let [right, wrong] = self.samples;
        report.at_least(name("samples_right"), Some(as_f64(right)), "packets", 1.0);
        report.exactly(name("samples_wrong"), Some(as_f64(wrong)), "packets", 0.0);
        let [control, data] = self.listener(setup);
        report.note(name("listener_kib"), json!({"controlplane": control, "dataplane": data}));
        report.at_most(name("listener"), Some(control + data), "KiB", MOST_LISTENER);
        let ratio = ratio.map_or_else(
            || "nothing was measured".to_owned(),
            |Ratio { median, least, most }| {
                format!("p99 of forwarding {median:.3} times the quiet one ({least:.3} to {most:.3})")
            },
        );
        Ok(format!(
            "beside 1 to {}: {ratio}, {missing} lost of {expected}; a listener takes {control:.1} KiB of the control plane and {data:.1} of \
             the data plane",
            setup.receivers
        ))
    }

    /// What a listener takes of control plane and data plane, KiB.
    fn listener(&self, setup: &Setup<'_>) -> [f64; 2] {
        let [few, all] = self.resident;
        let more = f64::from((setup.receivers - setup.few()).max(1));
        [0, 1].map(|plane| as_f64(all[plane].saturating_sub(few[plane])) / 1024.0 / more)
    }

    fn figures(&self, setup: &Setup<'_>, window: Window) -> Result<Figures> {
        let Window { from_ns, until_ns, .. } = window;
        let at = |ns: u64| {
            let look = self.looks.iter().find(|(at, _)| *at >= ns).or_else(|| self.looks.last());
            look.context("nothing was seen")
        };
        let ((began, before), (ended, after)) = (at(from_ns)?, at(until_ns)?);
        let between = after.latency.iter().zip(&before.latency).map(|(after, before)| after.saturating_sub(*before));
        let lost_until = |ns| lost_until(&self.trace, u64::from(setup.receivers), ns);
        let sink = latency::of(&self.published.probes, &self.arrivals, from_ns, until_ns)?;
        Ok(Figures {
            window,
            seconds: as_f64(ended - began) / 1e9,
            server_ns: [500_000, 990_000, 999_000].map(|part| quantile_ns(between.clone(), part)),
            frames: between.sum(),
            lost: lost_until(until_ns).saturating_sub(lost_until(from_ns)),
            cpu_ns: [0, 1].map(|plane| after.cpu_ns[plane].saturating_sub(before.cpu_ns[plane])),
            sink: latency::figures(&sink),
        })
    }
}

impl Figures {
    fn server_us(&self) -> [f64; 3] {
        self.server_ns.map(|ns| as_f64(ns) / 1000.0)
    }

    /// Share of a core that each plane took.
    fn busy(&self) -> [f64; 2] {
        self.cpu_ns.map(|ns| as_f64(ns) / 1e9 / self.seconds)
    }

    fn print(&self) {
        let [p50, p99, p999] = self.server_us();
        let [control, data] = self.busy().map(|share| share * 100.0);
        let sink = |key: &str| self.sink[key].as_f64().unwrap_or(0.0);
        let what = self.window.joined.map_or_else(|| "quiet".to_owned(), |joined| format!("{joined} join"));
        console::line(&format!(
            "  {what:<10} {:>6.1} {:>9.0} {p50:>10.0} {p99:>10.0} {p999:>10.0} {:>8.0} {:>8.0} {:>7} {control:>9.1} {data:>7.1}",
            self.seconds,
            as_f64(self.frames) / self.seconds,
            sink("p50_us"),
            sink("p99_us"),
            self.lost,
        ));
    }

    fn json(&self) -> Value {
        let ([p50, p99, p999], [control, data]) = (self.server_us(), self.busy());
        json!({
            "joined": self.window.joined, "seconds": self.seconds, "frames": self.frames, "lost": self.lost,
            "server_us": {"p50": p50, "p99": p99, "p999": p999}, "sink": self.sink,
            "busy": {"controlplane": control, "dataplane": data},
        })
    }
}

fn heading(setup: &Setup<'_>) {
    console::line(&format!(
        "  beside 1 to {}; server: from a packet's arrival to when its copies were given to the kernel, in the window",
        setup.receivers
    ));
    console::line(&format!(
        "  {:<10} {:>6} {:>9} {:>10} {:>10} {:>10} {:>8} {:>8} {:>7} {:>9} {:>7}",
        "window",
        "s",
        "frames/s",
        "server p50",
        "p99 us",
        "p99.9 us",
        "sink p50",
        "p99 us",
        "lost",
        "control %",
        "data %"
    ));
}

/// Of each window with clients who join, a figure as a multiple of that of the quiet one before it.
fn ratios(windows: &[Figures], of: impl Fn(&Figures) -> u64) -> Vec<f64> {
    let pairs = windows.windows(2).filter(|pair| pair[0].window.joined.is_none() && pair[1].window.joined.is_some());
    pairs.map(|pair| as_f64(of(&pair[1])) / as_f64(of(&pair[0]).max(1))).collect()
}

#[cfg(test)]
mod tests {
    use dataplane_abi::latency::{LATENCY_BUCKETS, bucket};

    use super::*;

    #[test]
    fn a_window_is_judged_by_what_was_counted_in_it_alone() {
        let seen = |latencies: &[(u64, u64)]| {
            let mut latency = vec![0; LATENCY_BUCKETS];
            latencies.iter().for_each(|(us, frames)| latency[bucket(us * 1000)] += frames);
            Seen { latency, cpu_ns: [0, 0] }
        };
        let looks = vec![
            (0, seen(&[(5000, 900)])),
            (10, seen(&[(5000, 900), (100, 100)])),
            (20, seen(&[(5000, 900), (100, 150), (150, 50)])),
        ];
        let window = |from_ns, until_ns, joined| Window { from_ns, until_ns, joined };
        let evidence = Evidence {
            windows: Vec::new(),
            trace: Vec::new(),
            looks,
            published: Published::default(),
            streams: Vec::new(),
            arrivals: Vec::new(),
            samples: [0, 0],
            resident: [[1024, 2048], [3072, 8192]],
        };
        let setup = Setup { receivers: 1, crowd: 1, rooms_of: 1, windows: 1, seconds: 1, programs: "".as_ref() };
        let windows: Vec<Figures> = [window(0, 9, None), window(10, 20, Some(1)), window(20, 20, None)]
            .map(|window| evidence.figures(&setup, window).expect("figures"))
            .into();
        let found = ratios(&windows, |window| window.server_ns[1]);
        assert!(found.len() == 1 && (found[0] - 1.5).abs() < 0.04, "{found:?}");
        assert_eq!((windows[1].frames, windows[2].frames), (100, 0));
        assert!(evidence.listener(&setup).iter().zip([2.0, 6.0]).all(|(found, kib)| (found - kib).abs() < 1e-9));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the fan-out is held to, and whether each of it was met.

use crate::files::{Check, Files};

/// What became of a bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotRun,
}

impl Verdict {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::NotRun => "not run",
        }
    }
}

/// One bar.
pub(crate) struct Bar {
    /// What is measured, with its size.
    pub(crate) what: String,
    /// What it is held to.
    pub(crate) bound: String,
    /// What was found.
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
    /// The file that has it or would have it.
    pub(crate) file: &'static str,
}

/// A value's bound.
enum Bound {
    Exactly(f64),
    AtMost(f64),
    AtLeast(f64),
}

fn bar(what: &str, file: &'static str, found: Option<f64>, unit: &str, bound: &Bound) -> Bar {
    let (sign, limit) = match bound {
        Bound::Exactly(limit) => ("=", limit),
        Bound::AtMost(limit) => ("≤", limit),
        Bound::AtLeast(limit) => ("≥", limit),
    };
    let holds = |value: f64| match bound {
        Bound::Exactly(limit) => (value - limit).abs() < 1e-9,
        Bound::AtMost(limit) => value <= *limit,
        Bound::AtLeast(limit) => value >= *limit,
    };
    let verdict = match found {
        None => Verdict::NotRun,
        Some(value) if holds(value) => Verdict::Met,
        Some(_) => Verdict::Missed,
    };
    let found = found.map_or_else(|| "–".to_owned(), |value| format!("{} {unit}", short(value)).trim().to_owned());
    Bar { what: what.to_owned(), bound: format!("{sign} {limit} {unit}").trim().to_owned(), found, verdict, file }
}

/// Three significant digits are more than a time on this machine is worth.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A value as a check has it.
pub(crate) fn value(check: &Check<'_>) -> String {
    let value = check.value.as_f64().map_or_else(|| check.value.to_string().replace('"', ""), short);
    format!("{value} {}", check.unit).trim().to_owned()
}

/// A bar that its bench itself judges, by the check's name; `bound` is told where it has not run.
fn judged(files: &Files, (what, bound): (&str, &str), file: &'static str, name: &str) -> Bar {
    let checks = files.get(file).map(|file| file.checks()).unwrap_or_default();
    let Some(check) = checks.iter().find(|check| check.name == name) else {
        let (what, bound, found) = (what.to_owned(), bound.to_owned(), "–".to_owned());
        return Bar { what, bound, found, verdict: Verdict::NotRun, file };
    };
    from(check, what, file)
}

fn from(check: &Check<'_>, what: &str, file: &'static str) -> Bar {
    let bound = check.bound.replace("<=", "≤").replace(">=", "≥");
    Bar {
        what: what.to_owned(),
        bound: format!("{bound} {}", check.unit).trim().to_owned(),
        found: value(check),
        verdict: if check.is_ok { Verdict::Met } else { Verdict::Missed },
        file,
    }
}

/// Every bar.
pub(crate) fn all(files: &Files) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (what, file, name) in [
        (("sealing GCM 1200 B, 3000 keys", "≤ 90 ns"), "fanout", "sealing.gcm_1200"),
        (("sealing GCM 160 B, 3000 keys", "≤ 35 ns"), "fanout", "sealing.gcm_160"),
        (("sealing AES-CM + SHA1_80 1200 B, 3000 keys", "≤ 450 ns"), "fanout", "sealing.cm_1200"),
        (("sealing GCM 1200 B as against `webrtc-srtp`", "≥ 10 times"), "fanout", "sealing.gcm_1200_to_webrtc_srtp"),
        (
            ("sealing AES-CM + SHA1_80 1200 B as against `webrtc-srtp`", "≥ 10 times"),
            "fanout",
            "sealing.cm_1200_to_webrtc_srtp",
        ),
        (("null-tx, whole pipeline, 1 → 3000, GCM 1200 B", "≤ 150 ns"), "forward", "pipeline.gcm_1200"),
    ] {
        bars.push(judged(files, what, file, name));
    }
    bars.extend(webinar(files));
    bars.extend(peers(files));
    for (what, file, name) in [
        (("meeting of 25: cost of a packet to a webinar's", "≤ 1.15"), "meeting", "meeting.cost_to_webinar"),
        (("200 rooms of 3: cost of a packet to a webinar's", "≤ 1.15"), "rooms", "rooms.cost_to_webinar"),
        (("audio, 10 speakers → 1000: CPU for each forwarded packet", "≤ 1.3 us"), "audio", "audio.process_us"),
        (("one room on two workers: cost of a packet to one worker's", "≤ 1.15"), "workers", "workers.cost_to_one"),
        (("memory of a listener in the data plane", "≤ 8 KiB"), "memory", "listener.data_plane"),
        (("memory of a participant with 24 videos in the data plane", "≤ 32 KiB"), "memory", "videos24.data_plane"),
        (
            ("1 → 1 with a worker that never sleeps: forwarding p50, median of five", "≤ 30 us"),
            "latency",
            "latency.forwarding_p50_median_of_five",
        ),
        (
            ("1 → 1 with a worker that never sleeps: forwarding p99, median of five", "≤ 100 us"),
            "latency",
            "latency.forwarding_p99_median_of_five",
        ),
    ] {
        bars.push(judged(files, what, file, name));
    }
    bars.extend(overload(files));
    bars.extend(handshakes(files));
    bars
}

/// The long run, with the number of receivers that it had.
fn webinar(files: &Files) -> Vec<Bar> {
    const FILE: &str = "webinar";
    let of = |path: &[&str]| files.figure(FILE, path);
    let lost = of(&["other_core", "expected"]).zip(of(&["other_core", "delivered"])).map(|(all, came)| all - came);
    let receivers = files.get(FILE).map(|file| file.option("--receivers").unwrap_or(3000.0));
    let size = receivers.map_or_else(|| "1 → 3000".to_owned(), |count| format!("1 → {count}"));
    let named =
        |what: &str, found, unit, bound| bar(&format!("webinar {size} on veth: {what}"), FILE, found, unit, &bound);
    let cost = |run| of(&[run, "process_us"]);
    vec![
        named("receivers", receivers, "", Bound::AtLeast(3000.0)),
        named("measured window", of(&["other_core", "window_s"]), "s", Bound::AtLeast(60.0)),
        named("packets lost", lost, "packets", Bound::Exactly(0.0)),
        named("CPU for each forwarded packet", cost("other_core"), "µs", Bound::AtMost(0.9)),
        named("the same with the sink on the server's core", cost("same_core"), "µs", Bound::AtMost(1.4)),
    ]
}

/// Each ratio that was measured, and those that were not.
fn peers(files: &Files) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (peer, ours, limit) in [
        ("janus", "millrace-xdp", 20.0),
        ("mediasoup", "millrace-xdp", 8.0),
        ("floor-sendmmsg", "millrace-xdp", 2.0),
        ("floor-sendmmsg", "millrace-uring", 1.5),
    ] {
        let ratios = crate::plots::ratios(files);
        let found: Vec<_> = ratios.iter().filter(|ratio| ratio.peer == peer && ratio.ours == ours).collect();
        for ratio in &found {
            let what = format!("{peer} to {ours}, 1 → {}: CPU for each forwarded packet", ratio.receivers);
            bars.push(bar(&what, "peers", Some(ratio.median), "times", &Bound::AtLeast(limit)));
        }
        if found.is_empty() {
            let what = format!("{peer} to {ours}: CPU for each forwarded packet");
            bars.push(bar(&what, "peers", None, "times", &Bound::AtLeast(limit)));
        }
    }
    bars
}

/// Every check of the run with twice the offer.
fn overload(files: &Files) -> Vec<Bar> {
    const FILE: &str = "overload";
    const SAID: [(&str, &str, &str); 4] = [
        ("goodput_share", "goodput as a share of the most", "≥ 0.95"),
        ("audio_lost", "audio lost", "= 0 packets"),
        ("latency", "latency", "bounded"),
        ("recovery", "recovery", "≤ 2 s"),
    ];
    let named = |what: &str| format!("offer of twice the most: {what}");
    let checks = files.get(FILE).map(|file| file.checks()).unwrap_or_default();
    let own = |check: &Check<'_>| Some(check.name.strip_prefix("twice.")?.to_owned());
    let mut bars: Vec<Bar> = checks
        .iter()
        .filter_map(|check| {
            let name = own(check)?;
            let said = SAID.iter().find(|(known, ..)| *known == name);
            Some(from(
                check,
                &named(&said.map_or_else(|| name.replace('_', " "), |(_, what, _)| (*what).to_owned())),
                FILE,
            ))
        })
        .collect();
    // A check of that kind may have a longer name.
    for (_, what, bound) in SAID.iter().filter(|(key, ..)| !checks.iter().any(|check| check.name.contains(key))) {
        let (bound, found) = ((*bound).to_owned(), "–".to_owned());
        bars.push(Bar { what: named(what), bound, found, verdict: Verdict::NotRun, file: FILE });
    }
    bars
}

/// One bar for each size of crowd, and one for what they make of a webinar.
fn handshakes(files: &Files) -> Vec<Bar> {
    const FILE: &str = "handshakes";
    let checks = files.get(FILE).map(|file| file.checks()).unwrap_or_default();
    let bars: Vec<_> = checks
        .iter()
        .filter_map(|check| {
            let crowd = check.name.strip_prefix("handshakes.")?.strip_suffix(".joins_per_cpu_second")?;
            Some(from(check, &format!("{crowd} clients join: joins for each second of one core"), FILE))
        })
        .collect();
    let what = "clients join: joins for each second of one core";
    let mut bars = if bars.is_empty() { vec![bar(what, FILE, None, "1/s", &Bound::AtLeast(500.0))] } else { bars };
    for (what, name) in [
        (("joins beside 1 → 500: p99 during to p99 before", "≤ 1.1"), "handshakes.beside.p99_during_to_before"),
        (("memory of a listener by WHEP in both planes", "≤ 16 KiB"), "handshakes.beside.listener"),
    ] {
        bars.push(judged(files, what, FILE, name));
    }
    bars
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find<'b>(bars: &'b [Bar], what: &str) -> &'b Bar {
        bars.iter().find(|bar| bar.what.contains(what)).unwrap()
    }

    #[test]
    fn without_files_nothing_is_met_and_nothing_is_missed() {
        let is_open = |bar: &Bar| bar.verdict == Verdict::NotRun && bar.found == "–" && bar.bound.len() > 2;
        assert!(all(&Files::default()).iter().all(is_open));
    }

    #[test]
    fn a_bar_is_judged_by_what_was_found() {
        let run = |us| json!({"process_us": us, "expected": 100, "delivered": 100, "window_s": 60.0});
        let files = Files::of(&[("webinar", json!({"series": {"other_core": run(0.95), "same_core": run(1.2)}}))]);
        let bars = all(&files);
        assert_eq!(find(&bars, "packets lost").verdict, Verdict::Met);
        let cost = find(&bars, "veth: CPU for each");
        assert_eq!((cost.verdict, cost.found.as_str(), cost.bound.as_str()), (Verdict::Missed, "0.95 µs", "≤ 0.9 µs"));
    }

    #[test]
    fn joins_beside_a_webinar_are_judged_by_what_they_make_of_its_latency() {
        let file = |ratio: f64| {
            let check = json!({"name": "handshakes.beside.p99_during_to_before", "value": ratio, "unit": "", "bound": "<= 1.1",
                "ok": ratio <= 1.1});
            Files::of(&[("handshakes", json!({"checks": [check]}))])
        };
        let verdict = |files: &Files| {
            let bars = all(files);
            let bar = find(&bars, "joins beside 1 → 500: p99 during to p99 before");
            (bar.verdict, bar.found.clone(), bar.bound.clone())
        };
        assert_eq!(verdict(&file(1.04)), (Verdict::Met, "1.04".to_owned(), "≤ 1.1".to_owned()));
        assert_eq!(verdict(&file(1.3)).0, Verdict::Missed);
        assert_eq!(verdict(&Files::default()).0, Verdict::NotRun);
    }

    #[test]
    fn a_smaller_run_is_named_by_its_size_and_misses_the_size() {
        let files = Files::of(&[("webinar", json!({"series": {"command": ["x", "webinar", "--receivers", "50"]}}))]);
        let bars = all(&files);
        let size = find(&bars, "webinar 1 → 50 on veth: receivers");
        assert_eq!((size.verdict, size.found.as_str()), (Verdict::Missed, "50"));
        assert_eq!(find(&bars, "packets lost").verdict, Verdict::NotRun);
    }

    #[test]
    fn a_bench_that_has_run_without_the_check_has_not_shown_it() {
        let files = Files::of(&[(
            "overload",
            json!({"checks": [{"name": "twice.audio_lost", "value": 3.0,
            "unit": "packets", "bound": "= 0", "ok": false}]}),
        )]);
        let bars = all(&files);
        assert_eq!(find(&bars, "audio lost").verdict, Verdict::Missed);
        assert_eq!(find(&bars, "goodput").verdict, Verdict::NotRun);
    }
}

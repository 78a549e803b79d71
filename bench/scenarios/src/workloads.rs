// SPDX-License-Identifier: Apache-2.0
//! The workloads: which call, for how long, held to what.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bench_scenarios::bed::{FIRST_PUBLISHER, FIRST_RECEIVER, Napi, SERVER};
use bench_scenarios::latency;
use bench_scenarios::run::{OTHER_CPU, Outcome, Setup, run};
use dataplane_table::{Cipher, PublisherGroup, ReceiverGroup, Table, TrackEntry};
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

use crate::Arguments;

/// A run whose calibrations lie farther apart is refused, percent.
const MOST_DRIFT: f64 = 10.0;
/// CPU of the server for each forwarded packet with the sink's NAPI on the other core, and on the same, µs.
const MOST_US: [f64; 2] = [0.9, 1.4];

/// Runs what is asked for; true where all figures hold.
pub(crate) fn main(arguments: &Arguments) -> Result<bool> {
    match arguments.workload.as_str() {
        "webinar" => webinar(arguments),
        other => bail!("there is no workload {other:?}: webinar, meeting, rooms, audio, latency, overload"),
    }
}

fn programs(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(dir) = &arguments.programs {
        return Ok(dir.clone());
    }
    let this = std::env::current_exe()?;
    Ok(this.parent().context("this program has no folder")?.to_owned())
}

fn cipher(arguments: &Arguments) -> Result<Cipher> {
    Ok(match arguments.cipher.as_str() {
        "aes128gcm" => Cipher::AeadAes128Gcm,
        "aes256gcm" => Cipher::AeadAes256Gcm,
        "sha1" => Cipher::AesCm128HmacSha1_80,
        other => bail!("there is no cipher {other:?}: aes128gcm, aes256gcm, sha1"),
    })
}

/// Publishers with a microphone and, where asked for, a camera, and nobody who receives them yet.
fn call(arguments: &Arguments, publishers: u32, has_video: bool) -> Result<Table> {
    let mut tracks = vec![TrackEntry { codec: "opus".into(), pt: 111, ssrc: 0x0200_0000, clock_rate: None }];
    if has_video {
        tracks.insert(0, TrackEntry { codec: "vp8".into(), pt: 96, ssrc: 0x0100_0000, clock_rate: None });
    }
    let remote: SocketAddr = format!("{FIRST_PUBLISHER}:5000").parse()?;
    let name = "speaker".to_owned();
    let group = PublisherGroup { name, remote, count: publishers, rx_key: None, tx_key: None, tracks };
    Ok(Table {
        server: format!("{SERVER}:10000").parse()?,
        cipher: cipher(arguments)?,
        seed: 1,
        publishers: vec![group],
        receivers: Vec::new(),
    })
}

fn receivers(count: u32, rooms: u32, except_own: bool) -> Result<ReceiverGroup> {
    Ok(ReceiverGroup {
        remote: format!("{FIRST_RECEIVER}:6000").parse()?,
        count,
        from: "speaker".to_owned(),
        rooms,
        except_own,
        ssrc: 0x1000_0000,
        rx_key: None,
        tx_key: None,
    })
}

/// One speaker with camera and microphone, many listeners: all of it on one core, nothing lost.
fn webinar(arguments: &Arguments) -> Result<bool> {
    let count = arguments.receivers.unwrap_or(3000);
    let mut table = call(arguments, 1, true)?;
    table.receivers.push(receivers(count, 1, false)?);
    let mut setup = Setup::new(table, arguments.seconds.unwrap_or(60), &programs(arguments)?);
    let mut report = begin("webinar", &setup);
    heading();
    let other = run(&setup)?;
    judge(&mut report, "other_core", &other, Some(MOST_US[0]));
    setup.napi = Napi::SameCore;
    setup.seconds = setup.seconds.min(10);
    let same = run(&setup)?;
    // Here the receivers' side takes its part of the same core; a loss says that the core is full, not that the server is.
    note(&mut report, "same_core", &same);
    report.at_most("same_core.process_us", Some(same.process_us()), "us", MOST_US[1]);
    let figure = format!(
        "1 to {count}: {:.3} us per forwarded packet ({:.3} us with the sink on the same core), {} lost of {}",
        other.process_us(),
        same.process_us(),
        other.expected - other.delivered,
        other.expected
    );
    report.finish(arguments.json.as_deref(), &figure)
}

fn begin(name: &str, setup: &Setup) -> Report {
    let mut report = Report::start(name);
    report.note("command", json!(std::env::args().collect::<Vec<_>>()));
    report.note("cipher", setup.table.cipher.name());
    report.note("port", "AF_XDP, copy mode, veth");
    report.note(
        "media",
        json!({
            "video": format!("{:?}", setup.media.video), "audio": format!("{:?}", setup.media.audio),
        }),
    );
    report
}

fn heading() {
    console::line(&format!(
        "  {:<12} {:>9} {:>9} {:>9} {:>7} {:>10} {:>9} {:>9} {:>9} {:>8} {:>9}",
        "run", "pps", "proc us", "core us", "busy %", "lost", "p50 us", "p99 us", "p99.9 us", "drift %", "samples"
    ));
}

/// Notes the figures of a run and prints its row.
fn note(report: &mut Report, name: &str, outcome: &Outcome) {
    let figures = latency::figures(&outcome.latency);
    let at = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    console::line(&format!(
        "  {name:<12} {:>9.0} {:>9.3} {:>9.3} {:>7.1} {:>10} {:>9.0} {:>9.0} {:>9.0} {:>8.1} {:>9}",
        outcome.rate(),
        outcome.process_us(),
        outcome.core_us(),
        outcome.usage.busy_by_spinner(outcome.idle_rate()) * 100.0,
        outcome.expected - outcome.delivered,
        at("p50_us"),
        at("p99_us"),
        at("p999_us"),
        outcome.drift_percent(),
        format!("{}/{}", outcome.verdict.right, outcome.verdict.right + outcome.verdict.wrong),
    ));
    report.note(name, all(outcome, figures));
}

fn all(outcome: &Outcome, latency: Value) -> Value {
    json!({
        "packets_per_second": outcome.rate(), "forwarded": outcome.forwarded, "window_s": outcome.usage.seconds,
        "process_us": outcome.process_us(), "core_us": outcome.core_us(),
        "busy_by_process": outcome.usage.busy_by_process(),
        "busy_by_spinner": outcome.usage.busy_by_spinner(outcome.idle_rate()),
        "process_ticks": outcome.usage.process_ticks,
        "calibration": { "loops_per_second": outcome.idle_rates, "drift_percent": outcome.drift_percent() },
        "generator": { "sent": outcome.sent.total(), "refused": outcome.sent.refused, "late_frames": outcome.sent.late },
        "expected": outcome.expected, "delivered": outcome.delivered,
        "lost": { "video": outcome.lost[0], "audio": outcome.lost[1] },
        "backward": outcome.backward, "strange_streams": outcome.strange_streams,
        "sink": {
            "control": outcome.totals.control, "others": outcome.totals.others, "unknown": outcome.totals.unknown,
            "no_room": outcome.totals.no_room, "samples": outcome.totals.samples, "probes": outcome.totals.probes,
        },
        "latency": latency, "samples": outcome.verdict.figures(),
        "server_log_tail": outcome.log.lines().rev().take(4).collect::<Vec<_>>(),
    })
}

/// Notes the figures of a run and holds it to nothing lost, intact samples, a quiet machine and, where given, a cost.
fn judge(report: &mut Report, name: &str, outcome: &Outcome, most_us: Option<f64>) {
    note(report, name, outcome);
    report.at_most(format!("{name}.calibration_drift"), Some(outcome.drift_percent()), "%", MOST_DRIFT);
    report.exactly(format!("{name}.lost"), Some(count(outcome.expected - outcome.delivered)), "packets", 0.0);
    report.holds(format!("{name}.something_forwarded"), outcome.delivered > 0);
    report.exactly(format!("{name}.backward"), Some(count(outcome.backward)), "packets", 0.0);
    report.exactly(format!("{name}.samples_wrong"), Some(count(outcome.verdict.wrong)), "packets", 0.0);
    report.at_least(format!("{name}.samples_right"), Some(count(outcome.verdict.right)), "packets", 1.0);
    report.exactly(format!("{name}.generator_refused"), Some(count(outcome.sent.refused)), "packets", 0.0);
    if let Some(most) = most_us {
        report.at_most(format!("{name}.process_us"), Some(outcome.process_us()), "us", most);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
const fn count(value: u64) -> f64 {
    value as f64
}

/// The core of everything but the server, for who reads the figures.
const _: () = assert!(OTHER_CPU == 0);

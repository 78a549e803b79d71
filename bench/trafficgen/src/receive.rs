// SPDX-License-Identifier: Apache-2.0
//! `millrace-trafficgen receive`: what came, in words and as JSON.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bench_trafficgen::receiver::{Received, Receivers};
use dataplane_table::Table;
use serde_json::{Value, json};

/// Receives on the addresses of a table's receivers, with their keys: packets, gaps, repetitions, what does not open, and the
/// latency of each packet from when the generator made it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace-trafficgen receive --table call.toml &
  millrace-trafficgen --table call.toml --seconds 10
  millrace-trafficgen receive --table call.toml --seconds 60 --json received.json
  millrace-trafficgen receive --table call.toml --pcap-out received.pcap  # opened, for Wireshark

The addresses of the table's receivers must be this host's. Latency is there where sender and receiver run on one host: both
read its monotonic clock. Exit status: 0 something came, and all of it could be opened and was as sent; 1 not so.")]
pub(crate) struct Arguments {
    /// The call; docs/TABLE.md describes it.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// How long at most.
    #[arg(long, value_name = "N", default_value_t = 3600)]
    seconds: u64,
    /// Ends when nothing has come for so many seconds after something had.
    #[arg(long, value_name = "N", default_value_t = 3)]
    silence: u64,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes what comes to this pcap file, opened.
    #[arg(long, value_name = "FILE")]
    pcap_out: Option<PathBuf>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let mut receivers = Receivers::open(&Table::read(&arguments.table)?.plan()?)?;
    if let Some(path) = &arguments.pcap_out {
        receivers.capture_to(path)?;
    }
    let [time, silence] = [arguments.seconds, arguments.silence].map(Duration::from_secs);
    let received = receivers.run(time, silence)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", text(&received))?;
    if let Some(path) = &arguments.json {
        let figures = serde_json::to_string_pretty(&figures(&received))?;
        std::fs::write(path, figures + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if received.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(received: &Received) -> String {
    let Received { receivers, streams, packets, gaps, duplicates, reordered, .. } = received;
    let Received { unopened, strange, garbled, rtcp, latency, .. } = received;
    let us = |quantile: f64| us(latency.value_at_quantile(quantile));
    format!(
        "received {packets} packets in {:.1} s: {streams} streams of {receivers} receivers; {gaps} missing, {duplicates} again, \
         {reordered} behind later ones; {unopened} not opened, {strange} of unknown streams, {garbled} not as sent; {rtcp} RTCP\n\
         latency of {} packets: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.1} us",
        received.time.as_secs_f64(),
        latency.len(),
        us(0.5),
        us(0.9),
        us(0.99),
        us(0.999),
        self::us(latency.max()),
    )
}

fn figures(received: &Received) -> Value {
    let us = |quantile: f64| us(received.latency.value_at_quantile(quantile));
    json!({
        "receivers": received.receivers, "streams": received.streams, "seconds": received.time.as_secs_f64(),
        "packets": received.packets, "bytes": received.bytes, "missing": received.gaps, "again": received.duplicates,
        "reordered": received.reordered, "unopened": received.unopened, "strange": received.strange,
        "garbled": received.garbled, "rtcp": received.rtcp,
        "latency": {
            "packets": received.latency.len(), "p50_us": us(0.5), "p90_us": us(0.9), "p99_us": us(0.99), "p999_us": us(0.999),
            "max_us": self::us(received.latency.max()),
        },
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

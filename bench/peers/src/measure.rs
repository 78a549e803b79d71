// SPDX-License-Identifier: Apache-2.0
//! One measured run of one system: the same bed, sink, media and meter for all of them. What was offered is what the
//! generator counted, what was delivered is what the sink counted; no server is asked.

pub mod sdes;
pub mod table;
pub mod webrtc;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bench_scenarios::bed::{Bed, FIRST_RECEIVER, Napi, SINK_INTERFACE};
use bench_scenarios::calibration::{Calibration, Calibrations};
use bench_scenarios::cpu::{self, Meter, Spinner, Usage};
use bench_scenarios::latency;
use bench_scenarios::run::{OTHER_CPU, SERVER_CPU};
use bench_scenarios::sink::{Config, Sink, Stream};
use bench_trafficgen::mono_ns;
use dataplane_table::Cipher;
use serde_json::{Value, json};

use crate::client::media::Published;

/// Port of every receiver.
pub const RECEIVER_PORT: u16 = 6000;
const CALIBRATION: Duration = Duration::from_millis(500);
/// A server that has not drained by then has lost what is missing.
const DRAIN: Duration = Duration::from_secs(2);
/// One packet in so many of each stream of a sampled receiver is opened.
const SAMPLE_EVERY: u32 = 64;
/// Receivers that are sampled.
const SAMPLED: u32 = 10;

/// What is measured, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'s> {
    /// Receivers.
    pub receivers: u32,
    /// SRTP profile, the same for everybody.
    pub cipher: Cipher,
    /// Seconds before the window: everything has warmed up.
    pub warm_up: u64,
    /// Seconds of the window.
    pub seconds: u64,
    /// Where our own programs are.
    pub programs: &'s Path,
    /// Where configurations and logs go.
    pub folder: &'s Path,
    /// mediasoup's worker.
    pub mediasoup: Option<&'s Path>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The server's core and process in the window.
    pub usage: Usage,
    /// What the machine was before and after.
    pub calibrations: Calibrations,
    /// Packets that the sink counted in the window.
    pub forwarded: u64,
    /// What the publisher counted in the window, once for each receiver.
    pub offered: u64,
    /// What the publisher counted, over the whole run.
    pub published: u64,
    /// What should have arrived: that, once for each receiver.
    pub expected: u64,
    /// What has arrived of it.
    pub delivered: u64,
    /// Samples that were opened and right, and others.
    pub samples: [u64; 2],
    /// Forwarding latency, for a report.
    pub latency: Value,
    /// Seconds until all receivers had joined; 0 where nobody joins.
    pub joining_s: f64,
    /// How the server was started.
    pub command: String,
}

impl Outcome {
    /// Packets that the sink counted each second of the window.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.usage.rate(self.forwarded)
    }

    /// CPU of the server's threads for each forwarded packet, µs.
    #[must_use]
    pub fn process_us(&self) -> f64 {
        self.usage.process_us(self.carried())
    }

    /// Time that the core did not have left for each forwarded packet, µs: interrupts and kernel threads included.
    #[must_use]
    pub fn core_us(&self) -> f64 {
        self.usage.core_us(self.calibrations.idle_rate(), self.carried())
    }

    /// Share of what was offered that did not arrive.
    #[must_use]
    pub fn loss(&self) -> f64 {
        1.0 - as_f64(self.delivered) / as_f64(self.expected.max(1))
    }

    /// Share of what was offered in the window that came within it.
    #[must_use]
    pub fn in_time(&self) -> f64 {
        as_f64(self.carried()) / as_f64(self.offered.max(1))
    }

    /// Packets of the window that were asked for: what a server sends beyond them makes it no cheaper.
    fn carried(&self) -> u64 {
        self.forwarded.min(self.offered)
    }

    /// For a report.
    #[must_use]
    pub fn figures(&self) -> Value {
        json!({
            "process_us": self.process_us(), "core_us": self.core_us(), "window_s": self.usage.seconds,
            "busy_by_process": self.usage.busy_by_process(), "forwarded": self.forwarded, "offered": self.offered,
            "process_ticks": self.usage.process_ticks, "command": self.command,
            "published": self.published, "expected": self.expected, "delivered": self.delivered, "loss": self.loss(),
            "samples": {"right": self.samples[0], "wrong": self.samples[1], "by": "webrtc-srtp"},
            "calibration": self.calibrations.figures(),
            "latency": self.latency, "joining_s": self.joining_s,
        })
    }
}

/// Bed, sink and meter, before a server is there.
pub(crate) struct Place {
    pub(crate) bed: Bed,
    sink: Sink,
    spinner: Spinner,
    before: Calibration,
}

/// The window.
pub(crate) struct Window {
    usage: Usage,
    times: [u64; 2],
    forwarded: u64,
    published: u64,
}

/// What a driver knows at the end.
pub(crate) struct Done<'d> {
    pub(crate) published: &'d Published,
    pub(crate) samples: [u64; 2],
    pub(crate) joining_s: f64,
    pub(crate) command: String,
}

impl Place {
    /// `pass_control`: somebody answers STUN and DTLS behind the sink.
    pub(crate) fn prepare(setup: &Setup<'_>, pass_control: bool) -> Result<Self> {
        cpu::pin(OTHER_CPU)?;
        let bed = Bed::create()?;
        let config = Config {
            pass_control,
            sample_every: SAMPLE_EVERY,
            sample_stride: stride(setup.receivers),
            ..Config::new(FIRST_RECEIVER.parse()?, setup.receivers)
        };
        let sink = Sink::attach(&bed.sink, SINK_INTERFACE, &config)?;
        bed.place_napi(Napi::Thread(OTHER_CPU))?;
        let spinner = Spinner::start(SERVER_CPU)?;
        let before = Calibration::take(&spinner, CALIBRATION)?;
        Ok(Self { bed, sink, spinner, before })
    }

    /// Warms up and measures; media flows, and `count` always says how many packets the publisher has sent.
    pub(crate) fn watch(&self, setup: &Setup<'_>, pid: i32, count: &AtomicU64) -> Result<Window> {
        std::thread::sleep(Duration::from_secs(setup.warm_up));
        let published = count.load(Ordering::Relaxed);
        let (before, began) = (self.sink.rtp()?, mono_ns());
        let meter = Meter::start(&self.spinner, pid)?;
        std::thread::sleep(Duration::from_secs(setup.seconds));
        let usage = meter.stop()?;
        let forwarded = self.sink.rtp()? - before;
        let published = count.load(Ordering::Relaxed) - published;
        Ok(Window { usage, times: [began, mono_ns()], forwarded, published })
    }

    /// Until nothing has come for a while.
    pub(crate) fn drain(&self) {
        let until = Instant::now() + DRAIN;
        let mut last = self.sink.rtp().unwrap_or(0);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(150));
            let now = self.sink.rtp().unwrap_or(0);
            if now == last {
                return;
            }
            last = now;
        }
    }

    /// Sums up; the server is gone.
    pub(crate) fn finish(self, setup: &Setup<'_>, window: &Window, done: Done<'_>) -> Result<Outcome> {
        let Done { published, samples, joining_s, command } = done;
        let after = Calibration::take(&self.spinner, CALIBRATION)?;
        let arrivals = self.sink.arrivals()?;
        let latency = latency::of(&published.probes, &arrivals, window.times[0], window.times[1])?;
        Ok(Outcome {
            usage: window.usage,
            calibrations: Calibrations { before: self.before, after },
            forwarded: window.forwarded,
            offered: window.published * u64::from(setup.receivers),
            published: published.total(),
            expected: published.total() * u64::from(setup.receivers),
            delivered: delivered(&self.sink.streams()?, published.total()),
            samples,
            latency: latency::figures(&latency),
            joining_s,
            command,
        })
    }
}

/// One in so many receivers is sampled.
pub(crate) fn stride(receivers: u32) -> u32 {
    (receivers / SAMPLED).max(1)
}

/// Packets that receivers got, each at most as many as were published: what comes twice does not make up for a loss elsewhere.
pub(crate) fn delivered(streams: &[Stream], published: u64) -> u64 {
    let by_receiver = streams.chunk_by(|one, next| one.receiver == next.receiver);
    by_receiver.map(|streams| streams.iter().map(|stream| stream.packets).sum::<u64>().min(published)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_does_not_make_up_for_what_is_lost() {
        let stream = |receiver, packets| Stream { receiver, packets, ..Stream::default() };
        let streams = [stream(0, 60), stream(0, 60), stream(1, 60), stream(1, 20)];
        assert_eq!(delivered(&streams, 100), 180);
        assert_eq!((stride(50), stride(500), stride(3)), (5, 50, 1));
    }
}

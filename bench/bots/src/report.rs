// SPDX-License-Identifier: Apache-2.0
//! What a run came to, as text and as JSON. It must never call a run sound in which somebody did not join or could not
//! open what arrived.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::Args;
use crate::bot::Outcome;
use crate::receive::Counts;

/// Largest value that percentiles tell apart: hours in milliseconds, terabits in kilobits.
const LARGEST: u64 = 1 << 32;

/// Half, nine tenths, nearly all, all.
#[derive(Debug, Serialize)]
struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

/// What was sent.
#[derive(Debug, Default, Serialize)]
struct Sent {
    packets: u64,
    bytes: u64,
    keyframes: u64,
    resent: u64,
}

/// What arrived.
#[derive(Debug, Default, Serialize)]
struct Got {
    packets: u64,
    bytes: u64,
    lost: u64,
    recovered: u64,
    undecryptable: u64,
    repeated: u64,
    duplicates: u64,
    strange: u64,
    jumps: u64,
    keyframes: u64,
}

/// One bot.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    publishes: bool,
    joined_ms: Option<u64>,
    media_ms: Option<u64>,
    shown: usize,
    alive: usize,
    sent_kbps: u64,
    received_kbps: u64,
    sent: Sent,
    received: Got,
    resumed: u64,
    nacks_sent: u64,
    plis_sent: u64,
    keyframes_asked: u64,
    error: Option<String>,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    room: String,
    publishers: usize,
    viewers: usize,
    seconds: u64,
    joined: usize,
    failed: usize,
    joining_ms: u64,
    /// WebSockets that were lost and came back.
    resumed: u64,
    join_ms: Option<Percentiles>,
    first_media_ms: Option<Percentiles>,
    received_kbps: Option<Percentiles>,
    sent: Sent,
    received: Got,
    /// Slots that show a track, and those in which something arrived.
    slots_shown: usize,
    slots_alive: usize,
    bots: Vec<Line>,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn percentiles(values: impl Iterator<Item = u64>) -> Option<Percentiles> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LARGEST, 3).ok()?;
    for value in values {
        histogram.saturating_record(value);
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile);
    let found = || Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: histogram.max() };
    (!histogram.is_empty()).then(found)
}

fn kbps(bytes: u64, time: Duration) -> u64 {
    (bytes * 8).checked_div(milliseconds(time)).unwrap_or(0)
}

fn got(outcome: &Outcome) -> Got {
    let Counts { received, bytes, lost, recovered, duplicates, jumps, keyframes } = outcome.counts;
    let Outcome { undecryptable, repeated, strange, .. } = *outcome;
    Got { packets: received, bytes, lost, recovered, undecryptable, repeated, duplicates, strange, jumps, keyframes }
}

fn sent(outcome: &Outcome) -> Sent {
    let Outcome { sent_packets: packets, sent_bytes: bytes, sent_keyframes: keyframes, resent, .. } = *outcome;
    Sent { packets, bytes, keyframes, resent }
}

impl Report {
    pub(crate) fn new(args: &Args, joining: Duration, outcomes: &[Outcome]) -> Self {
        let line = |outcome: &Outcome| Line {
            name: outcome.name.clone(),
            publishes: outcome.publishes,
            joined_ms: outcome.joined_after.map(milliseconds),
            media_ms: outcome.media_after.map(milliseconds),
            shown: outcome.shown,
            alive: outcome.alive,
            sent_kbps: kbps(outcome.sent_bytes, outcome.time),
            received_kbps: kbps(outcome.counts.bytes, outcome.time),
            sent: sent(outcome),
            received: got(outcome),
            resumed: outcome.resumed,
            nacks_sent: outcome.nacks_sent,
            plis_sent: outcome.plis_sent,
            keyframes_asked: outcome.keyframes_asked,
            error: outcome.error.clone(),
        };
        let bots: Vec<Line> = outcomes.iter().map(line).collect();
        let joined = bots.iter().filter(|bot| bot.joined_ms.is_some()).count();
        let sum_sent = |of: fn(&Sent) -> u64| bots.iter().map(|bot| of(&bot.sent)).sum();
        let sum = |of: fn(&Got) -> u64| bots.iter().map(|bot| of(&bot.received)).sum();
        Self {
            room: args.room.clone(),
            publishers: args.publishers,
            viewers: args.viewers,
            seconds: args.seconds,
            joined,
            failed: args.publishers + args.viewers - joined,
            joining_ms: milliseconds(joining),
            resumed: bots.iter().map(|bot| bot.resumed).sum(),
            join_ms: percentiles(bots.iter().filter_map(|bot| bot.joined_ms)),
            first_media_ms: percentiles(bots.iter().filter_map(|bot| bot.media_ms)),
            received_kbps: percentiles(bots.iter().filter(|bot| bot.joined_ms.is_some()).map(|bot| bot.received_kbps)),
            sent: Sent {
                packets: sum_sent(|of| of.packets),
                bytes: sum_sent(|of| of.bytes),
                keyframes: sum_sent(|of| of.keyframes),
                resent: sum_sent(|of| of.resent),
            },
            received: Got {
                packets: sum(|of| of.packets),
                bytes: sum(|of| of.bytes),
                lost: sum(|of| of.lost),
                recovered: sum(|of| of.recovered),
                undecryptable: sum(|of| of.undecryptable),
                repeated: sum(|of| of.repeated),
                duplicates: sum(|of| of.duplicates),
                strange: sum(|of| of.strange),
                jumps: sum(|of| of.jumps),
                keyframes: sum(|of| of.keyframes),
            },
            slots_shown: bots.iter().map(|bot| bot.shown).sum(),
            slots_alive: bots.iter().map(|bot| bot.alive).sum(),
            bots,
        }
    }

    /// True if everybody joined and left in order, everything that arrived could be opened, and something arrived in each
    /// slot that shows a track.
    pub(crate) fn is_sound(&self) -> bool {
        let Got { undecryptable, repeated, .. } = self.received;
        let is_complete = self.failed == 0 && self.bots.iter().all(|bot| bot.error.is_none());
        is_complete && undecryptable == 0 && repeated == 0 && self.slots_alive >= self.slots_shown
    }

    /// As one JSON object.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let Got { packets, bytes, lost, recovered, undecryptable, repeated, .. } = self.received;
        let _ = writeln!(
            text,
            "{} of {} bots joined room {} within {} ms",
            self.joined,
            self.joined + self.failed,
            self.room,
            self.joining_ms
        );
        for (what, unit, of) in [
            ("join to keys", "ms", &self.join_ms),
            ("join to first media", "ms", &self.first_media_ms),
            ("received per bot", "kbit/s", &self.received_kbps),
        ] {
            if let Some(Percentiles { p50, p90, p99, max }) = of {
                let _ = writeln!(text, "{what:<20} p50 {p50} p90 {p90} p99 {p99} max {max} {unit}");
            }
        }
        let _ = writeln!(
            text,
            "sent     {} packets, {} bytes, {} keyframes",
            self.sent.packets, self.sent.bytes, self.sent.keyframes
        );
        let _ = writeln!(
            text,
            "received {packets} packets, {bytes} bytes; lost {lost}, recovered {recovered}, undecryptable {undecryptable}, repeated {repeated}"
        );
        let _ = write!(text, "slots    {} show a track, {} of them received it", self.slots_shown, self.slots_alive);
        for bot in &self.bots {
            if let Some(error) = &bot.error {
                let _ = write!(text, "\n{}: {error}", bot.name);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn report(change: impl Fn(&mut Outcome)) -> Report {
        let args = Args::parse_from(["millrace-bots", "--publishers", "2"]);
        let mut outcome = Outcome {
            joined_after: Some(Duration::from_millis(40)),
            shown: 1,
            alive: 1,
            counts: Counts { received: 10, bytes: 1000, ..Counts::default() },
            time: Duration::from_secs(1),
            ..Outcome::default()
        };
        change(&mut outcome);
        Report::new(&args, Duration::ZERO, &[outcome.clone(), outcome])
    }

    #[test]
    fn a_run_is_sound_only_if_nothing_is_wrong() {
        assert!(report(|_| {}).is_sound());
        assert!(!report(|outcome| outcome.joined_after = None).is_sound());
        assert!(!report(|outcome| outcome.undecryptable = 1).is_sound());
        assert!(!report(|outcome| outcome.repeated = 1).is_sound());
        assert!(!report(|outcome| outcome.alive = 0).is_sound());
        assert!(!report(|outcome| outcome.error = Some("left".to_owned())).is_sound());
    }

    #[test]
    fn percentiles_are_of_all_values() {
        let Some(Percentiles { p50, p90, max, .. }) = percentiles((1..=10).map(|value| value * 1000)) else {
            panic!("no values");
        };
        assert!((4990..=5010).contains(&p50) && (8990..=9010).contains(&p90) && max >= 10_000, "{p50} {p90} {max}");
        assert!(percentiles(std::iter::empty()).is_none());
    }

    #[test]
    fn sums_and_rates_are_in_the_json() {
        let parsed: serde_json::Value = serde_json::from_str(&report(|_| {}).json()).expect("JSON");
        assert_eq!(parsed["received"]["packets"], 20);
        assert_eq!(parsed["join_ms"]["p50"], 40);
        assert_eq!(parsed["bots"][0]["received_kbps"], 8);
    }
}

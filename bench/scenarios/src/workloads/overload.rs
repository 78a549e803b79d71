// SPDX-License-Identifier: Apache-2.0
//! More than the server can carry: how much still comes, how late, whether the audio is whole, and how soon all is well again.

use std::time::Duration;

use anyhow::Result;
use bench_scenarios::latency;
use bench_scenarios::run::{Outcome, Setup, run};
use bench_scenarios::trace::{last_loss_ns, usual_again_ns};
use bench_trafficgen::Shape;
use bench_trafficgen::options::Surge;
use serde_json::json;
use tools_netlab::report::Report;

use super::{call, programs, receivers};
use crate::Arguments;
use crate::figures::{begin, count, heading, legend, note};

/// Goodput at twice the offer that is carried, as a share of the most.
const LEAST_GOODPUT: f64 = 0.95;
/// What a receiver may be behind: a cursor over the lag cap (500 ms of video, 100 ms of audio; docs/DATAPATH.md) skips. Beside it,
/// what lies in the wire's queue and the frame that was under way.
const MOST_LATENCY_MS: [f64; 2] = [600.0, 150.0];
/// From the end of the surge until nothing is lost any more and the latency is usual.
const MOST_RECOVERY_S: f64 = 2.0;
/// Seconds that the usual is sent before the surge, and of the surge that are not measured.
const BEFORE: u64 = 4;
const SETTLE: u64 = 1;
/// Seconds that the usual is sent after it.
const AFTER: u64 = 4;

/// Offers more and more until no more comes out, then twice of that for a while: most of it still comes, all the audio does, what
/// comes is not old, and soon after the surge all is as before.
pub(crate) fn overload(arguments: &Arguments) -> Result<bool> {
    let listeners = arguments.receivers.unwrap_or(3000);
    let mut table = call(arguments, 1, true)?;
    table.receivers.push(receivers(listeners, 1, false)?);
    let mut setup = Setup::new(table, arguments.seconds.unwrap_or(6), &programs(arguments)?);
    let mut report = begin("overload", &setup);
    heading();
    let mut most = 0.0_f64;
    for factor in [1.0, 1.5, 2.0] {
        setup.media.video = Shape::VIDEO.times(factor);
        let outcome = run(&setup)?;
        note(&mut report, &format!("offer_{factor}"), &outcome);
        most = most.max(outcome.rate());
    }
    report.note("most_packets_per_second", json!(most));
    let video = 2.0 * most / f64::from(listeners) - Shape::AUDIO.packet_rate;
    let end = BEFORE + SETTLE + setup.seconds;
    let (from, until) = (Duration::from_secs(BEFORE), Duration::from_secs(end));
    setup.media.video = Shape { probe_every: 4, ..Shape::VIDEO };
    setup.media.audio = Shape { probe_every: 8, ..Shape::AUDIO };
    setup.media.surge = Some(Surge { from, until, factor: video / Shape::VIDEO.packet_rate });
    (setup.warm_up, setup.cool_down) = (BEFORE + SETTLE, AFTER);
    let outcome = run(&setup)?;
    note(&mut report, "twice", &outcome);
    legend();
    let figure = judge(&mut report, &outcome, most, (u64::from(listeners), end))?;
    report.finish(arguments.json.as_deref(), &figure)
}

/// Holds the run with the surge, which was over after `end` seconds, to what is promised; the figures in words.
fn judge(report: &mut Report, outcome: &Outcome, most: f64, (listeners, end): (u64, u64)) -> Result<String> {
    let share = outcome.rate() / most;
    report.at_least("twice.goodput_share", Some(share), "", LEAST_GOODPUT);
    report.exactly("twice.audio_lost", Some(count(outcome.lost[1])), "packets", 0.0);
    report.exactly("twice.samples_wrong", Some(count(outcome.verdict.wrong)), "packets", 0.0);
    report.at_least("twice.samples_right", Some(count(outcome.verdict.right)), "packets", 1.0);
    // What is called twice the most must be more than comes through, else nothing is shown.
    report.holds("twice.is_overload", outcome.lost[0] > 0);
    let (from_ns, until_ns) = (outcome.window_ns[0], outcome.window_ns[1]);
    let mut late_ms = [0.0; 2];
    for ((name, most_ms), late) in
        [("video", MOST_LATENCY_MS[0]), ("audio", MOST_LATENCY_MS[1])].into_iter().zip(&mut late_ms)
    {
        let of = outcome.timed.iter().filter(|one| one.is_video == (name == "video"));
        let of = latency::histogram(of.filter(|one| (from_ns..until_ns).contains(&one.sent_ns)))?;
        *late = count(of.max()) / 1e6;
        report.note(format!("twice.{name}_latency"), latency::figures(&of));
        report.at_most(format!("twice.{name}_latency_max"), (!of.is_empty()).then_some(*late), "ms", most_ms);
    }
    let surge_ns = |seconds: u64| outcome.sent.began_ns + seconds * 1_000_000_000;
    let end_ns = surge_ns(end);
    let since = |at_ns: u64| count(at_ns.saturating_sub(end_ns)) / 1e9;
    let loss_s = last_loss_ns(&outcome.trace, listeners).map_or(0.0, since);
    let usual_s = usual_again_ns(&outcome.timed, surge_ns(BEFORE), end_ns)?.map(since);
    report.at_most("twice.recovery_until_nothing_is_lost", Some(loss_s), "s", MOST_RECOVERY_S);
    report.at_most("twice.recovery_until_latency_is_usual", usual_s, "s", MOST_RECOVERY_S);
    Ok(format!(
        "at twice {most:.0} packets/s: {:.0} come out ({:.1} %), {} audio packets lost, latency at most {:.0} ms (video) and {:.0} ms \
         (audio); nothing lost after {loss_s:.2} s, latency usual after {} s",
        outcome.rate(),
        share * 100.0,
        outcome.lost[1],
        late_ms[0],
        late_ms[1],
        usual_s.map_or_else(|| "?".to_owned(), |s| format!("{s:.2}")),
    ))
}

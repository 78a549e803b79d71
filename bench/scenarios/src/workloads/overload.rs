// SPDX-License-Identifier: Apache-2.0
//! More than the server can carry: how much still comes, how late, whether the audio is whole, and how soon all is well again.

use std::time::Duration;

use anyhow::Result;
use bench_scenarios::latency;
use bench_scenarios::run::{Setup, run};
use bench_scenarios::trace::{last_loss_ns, usual_again_ns};
use bench_trafficgen::Shape;
use bench_trafficgen::options::Surge;
use hdrhistogram::Histogram;
use serde_json::json;
use tools_netlab::report::Report;

use super::{call, median, programs, receivers};
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

/// Rounds: what the machine's host does to one run it does to the runs beside it, and the median of the rounds counts.
const ROUNDS: usize = 3;

/// What a round has found.
struct Round {
    /// The most that came out, packets per second, and what did at twice that.
    rates: [f64; 2],
    /// Packets lost meanwhile: video, audio.
    lost: [u64; 2],
    /// Samples right and wrong.
    samples: [u64; 2],
    /// Latency of what came meanwhile: video, audio.
    late: [Histogram<u64>; 2],
    /// From the end of the surge until nothing was lost any more, s.
    whole_s: f64,
    /// … and until latency was usual; `None` where it never was.
    usual_s: Option<f64>,
}

/// Offers more and more until no more comes out, then twice of that for a while: most of it still comes, all the audio does, what
/// comes is not old, and soon after the surge all is as before. Several times, one after the other.
pub(crate) fn overload(arguments: &Arguments) -> Result<bool> {
    let listeners = arguments.receivers.unwrap_or(3000);
    let mut table = call(arguments, 1, true)?;
    table.receivers.push(receivers(listeners, 1, false)?);
    let setup = Setup::new(table, arguments.seconds.unwrap_or(6), &programs(arguments)?);
    let mut report = begin("overload", &setup);
    heading();
    let rounds = (1..=ROUNDS).map(|nth| round(&mut report, &setup, nth, listeners)).collect::<Result<Vec<_>>>()?;
    legend();
    let figure = judge(&mut report, &rounds);
    report.finish(arguments.json.as_deref(), &figure)
}

/// One round: how much comes out at most, then the surge.
fn round(report: &mut Report, setup: &Setup, nth: usize, listeners: u32) -> Result<Round> {
    let mut setup = setup.clone();
    let mut most = 0.0_f64;
    for factor in [1.0, 1.5, 2.0] {
        setup.media.video = Shape::VIDEO.times(factor);
        let outcome = run(&setup)?;
        note(report, &format!("{nth}.offer_{factor}"), &outcome);
        most = most.max(outcome.rate());
    }
    let video = 2.0 * most / f64::from(listeners) - Shape::AUDIO.packet_rate;
    let end = BEFORE + SETTLE + setup.seconds;
    let (from, until) = (Duration::from_secs(BEFORE), Duration::from_secs(end));
    setup.media.video = Shape { probe_every: 4, ..Shape::VIDEO };
    setup.media.audio = Shape { probe_every: 8, ..Shape::AUDIO };
    setup.media.surge = Some(Surge { from, until, factor: video / Shape::VIDEO.packet_rate });
    (setup.warm_up, setup.cool_down) = (BEFORE + SETTLE, AFTER);
    let outcome = run(&setup)?;
    note(report, &format!("{nth}.twice"), &outcome);
    let (from_ns, until_ns) = (outcome.window_ns[0], outcome.window_ns[1]);
    let late = |is_video: bool| {
        let of = outcome.timed.iter().filter(|one| one.is_video == is_video);
        latency::histogram(of.filter(|one| (from_ns..until_ns).contains(&one.sent_ns)))
    };
    let surge_ns = |seconds: u64| outcome.sent.began_ns + seconds * 1_000_000_000;
    let end_ns = surge_ns(end);
    let since = |at_ns: u64| count(at_ns.saturating_sub(end_ns)) / 1e9;
    Ok(Round {
        rates: [most, outcome.rate()],
        lost: outcome.lost,
        samples: [outcome.verdict.right, outcome.verdict.wrong],
        late: [late(true)?, late(false)?],
        whole_s: last_loss_ns(&outcome.trace, listeners.into()).map_or(0.0, since),
        usual_s: usual_again_ns(&outcome.timed, surge_ns(BEFORE), end_ns)?.map(since),
    })
}

/// Holds the rounds to what is promised: what nothing may break in the worst of them, what depends on the machine in the median;
/// the figures in words.
fn judge(report: &mut Report, rounds: &[Round]) -> String {
    let sum = |of: fn(&Round) -> u64| count(rounds.iter().map(of).sum());
    let each = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let shares = each(|round| round.rates[1] / round.rates[0]);
    let share = median(shares.iter().copied());
    report.note("twice.goodput_shares", json!(shares));
    report.note("most_packets_per_second", json!(each(|round| round.rates[0])));
    report.at_least("twice.goodput_share", share, "", LEAST_GOODPUT);
    report.exactly("twice.audio_lost", Some(sum(|round| round.lost[1])), "packets", 0.0);
    report.exactly("twice.samples_wrong", Some(sum(|round| round.samples[1])), "packets", 0.0);
    report.at_least("twice.samples_right", Some(sum(|round| round.samples[0])), "packets", 1.0);
    // What is called twice the most must be more than comes through, else nothing is shown.
    report.holds("twice.is_overload", rounds.iter().all(|round| round.lost[0] > 0));
    let mut late_ms = [0.0_f64; 2];
    for (at, (name, late)) in ["video", "audio"].into_iter().zip(&mut late_ms).enumerate() {
        for (nth, round) in (1..).zip(rounds) {
            report.note(format!("{nth}.twice.{name}_latency"), latency::figures(&round.late[at]));
            *late = late.max(count(round.late[at].max()) / 1e6);
        }
        let is_there = rounds.iter().all(|round| !round.late[at].is_empty());
        report.at_most(format!("twice.{name}_latency_max"), is_there.then_some(*late), "ms", MOST_LATENCY_MS[at]);
    }
    let whole_s = median(each(|round| round.whole_s).into_iter());
    let usual = each(|round| round.usual_s.unwrap_or(f64::INFINITY));
    report
        .note("twice.recoveries_until_latency_is_usual_s", json!(rounds.iter().map(|r| r.usual_s).collect::<Vec<_>>()));
    let usual_s = median(usual.into_iter()).filter(|s| s.is_finite());
    report.at_most("twice.recovery_until_nothing_is_lost", whole_s, "s", MOST_RECOVERY_S);
    report.at_most("twice.recovery_until_latency_is_usual", usual_s, "s", MOST_RECOVERY_S);
    let words = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.2}"));
    format!(
        "{} of the most comes out at twice the most (median of {}), {:.0} audio packets lost, latency at most {:.0} ms (video) and \
         {:.0} ms (audio); nothing lost after {} s, latency usual after {} s",
        words(share),
        rounds.len(),
        sum(|round| round.lost[1]),
        late_ms[0],
        late_ms[1],
        words(whole_s),
        words(usual_s),
    )
}

// SPDX-License-Identifier: Apache-2.0
//! A peer against one of our servers: pairs of runs one after the other, A/B/A/B, and the ratio of each pair, so that a
//! machine that slows down slows both. It must never average over a pair that it refused, nor end because a peer fails.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

use crate::largest;
use crate::measure::{Outcome, Setup};
use crate::progress::Progress;
use crate::systems::{Duel, System};

/// A pair whose calibrations lie farther apart is refused, percent.
const MOST_DRIFT: f64 = 10.0;
/// Pairs of one duel that may be refused, beside the ones that are wanted.
const MOST_REFUSED: usize = 4;
/// Runs that fail one after the other until a peer is given up.
const MOST_FAILED: usize = 2;
/// What a peer may lose and still counts as carrying its receivers.
pub const MOST_LOSS: f64 = 0.001;
/// A system that sends less than this share of a window's packets within it is seconds behind: it does not carry them, and what
/// it took for each that it has sent says nothing of its cost.
const LEAST_IN_TIME: f64 = 0.97;
/// Times that a number of receivers is lowered where it turns out to be too large once pairs are run.
const LOWERED: u32 = 3;
/// Seconds of the window while the largest number of receivers is sought.
const PROBE_SECONDS: u64 = 3;

/// A ratio over all pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The middle one; the mean of both where there are two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Ratio {
    /// Of all pairs; `None` without one.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least: *values.first()?, most: *values.last()? })
    }

    fn figures(self) -> Value {
        json!({"median": self.median, "least": self.least, "most": self.most})
    }
}

/// Why a pair does not count.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Something did not come up, or ended.
    Failed(String),
    /// The machine changed its speed meanwhile, by so many percent.
    Drift(f64),
    /// A system lost this share.
    Loss(System, f64),
    /// A system sent only this share of what was offered in the window within it.
    Late(System, f64),
    /// What a system sent is not what was published.
    Samples(System, [u64; 2]),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "{why}"),
            Self::Drift(percent) => write!(f, "the machine changed its speed by {percent:.0} % meanwhile"),
            Self::Loss(system, share) => write!(f, "{} lost {:.2} %", system.name(), share * 100.0),
            Self::Late(system, share) => {
                write!(f, "{} is behind: {:.0} % came in the window", system.name(), share * 100.0)
            }
            Self::Samples(system, [right, wrong]) => {
                write!(f, "{}: of its samples {right} are right and {wrong} wrong", system.name())
            }
        }
    }
}

/// What is measured against what, and what came of it so far.
pub struct Bench<'b> {
    /// Where figures go.
    pub report: &'b mut Report,
    /// How far it is.
    pub progress: &'b mut Progress,
    /// Pairs of each duel.
    pub pairs: usize,
    /// The figures of all runs that count, by system and receivers.
    pub runs: BTreeMap<String, Vec<Value>>,
}

/// A pair that counts: ours, then the peer.
type Pair = [Outcome; 2];

/// Pairs of a duel, and why others were refused.
#[derive(Default)]
struct Pairs {
    good: Vec<Pair>,
    refused: Vec<Refusal>,
}

impl Bench<'_> {
    /// Runs a duel with the setup's number of receivers; whether it came to an end.
    pub fn duel(&mut self, duel: Duel, setup: &Setup<'_>) -> bool {
        let pairs = self.pairs(duel, setup);
        let is_whole = pairs.good.len() >= self.pairs;
        self.conclude(duel, setup.receivers, setup.receivers, &pairs);
        is_whole
    }

    /// Runs a duel with as many receivers as the peer carries, up to the setup's; it is known to carry `carried`.
    pub fn duel_at_largest(&mut self, duel: Duel, setup: &Setup<'_>, carried: u32) {
        let wanted = setup.receivers;
        let probe = Setup { seconds: PROBE_SECONDS, ..*setup };
        let mut why = String::new();
        let mut receivers = largest::largest(carried, wanted, |receivers| {
            let carries = match self.run(duel.peer, &Setup { receivers, ..probe }) {
                Ok(outcome) => carries(duel.peer, outcome.loss(), outcome.in_time()),
                Err(refusal) => Err(refusal),
            };
            carries.map_err(|refusal| why = format!("1 to {receivers}: {refusal}")).is_ok()
        });
        for _ in 0..LOWERED {
            if receivers < wanted {
                console::line(&format!("  {} carries {receivers} receivers, not {wanted} ({why})", duel.peer.name()));
            }
            self.report.note(format!("{}.{wanted}.carries", duel.name()), json!({"receivers": receivers, "why": why}));
            if receivers <= carried {
                let bound = format!("> {carried}");
                self.report.check(format!("{}.{wanted}.carries", duel.name()), receivers, "receivers", &bound, false);
                return;
            }
            let pairs = self.pairs(duel, &Setup { receivers, ..*setup });
            let is_too_many =
                |refusal: &&Refusal| matches!(refusal, Refusal::Loss(of, _) | Refusal::Late(of, _) if *of == duel.peer);
            let lost = pairs.refused.iter().rev().find(is_too_many);
            match lost.filter(|_| pairs.good.len() < self.pairs) {
                Some(refusal) => {
                    why = format!("1 to {receivers}: {refusal}");
                    receivers = receivers * 85 / 100;
                }
                None => return self.conclude(duel, wanted, receivers, &pairs),
            }
        }
        let bound = format!("<= {MOST_LOSS}");
        self.report.check(format!("{}.{wanted}.loss", duel.name()), why, "", &bound, false);
    }

    /// Pairs until there are enough of them, or too many were refused.
    fn pairs(&mut self, duel: Duel, setup: &Setup<'_>) -> Pairs {
        let mut pairs = Pairs::default();
        let mut failed = 0;
        while pairs.good.len() < self.pairs && pairs.refused.len() < MOST_REFUSED && failed < MOST_FAILED {
            match self.pair(duel, setup) {
                Ok(pair) => {
                    pairs.good.push(pair);
                    failed = 0;
                }
                Err(refusal) => {
                    console::line(&format!("  refused: {refusal}"));
                    failed = if matches!(refusal, Refusal::Failed(_)) { failed + 1 } else { 0 };
                    let is_wrong = matches!(refusal, Refusal::Samples(..));
                    pairs.refused.push(refusal);
                    // What is wrong once is wrong: it is not repeated until it looks right.
                    if is_wrong {
                        break;
                    }
                }
            }
        }
        pairs
    }

    fn pair(&mut self, duel: Duel, setup: &Setup<'_>) -> Result<Pair, Refusal> {
        let pair = [self.run(duel.ours, setup)?, self.run(duel.peer, setup)?];
        let drift = spread_percent(pair.iter().flat_map(|outcome| outcome.calibrations.idle_rates()));
        if drift > MOST_DRIFT {
            return Err(Refusal::Drift(drift));
        }
        for (system, outcome) in [duel.ours, duel.peer].into_iter().zip(&pair) {
            if outcome.samples[0] == 0 || outcome.samples[1] != 0 {
                return Err(Refusal::Samples(system, outcome.samples));
            }
            carries(system, outcome.loss(), outcome.in_time())?;
        }
        Ok(pair)
    }

    /// One run; prints its row.
    fn run(&mut self, system: System, setup: &Setup<'_>) -> Result<Outcome, Refusal> {
        let outcome = system.run(setup);
        let left = self.progress.step();
        let at = |error| Refusal::Failed(format!("{} with {} receivers: {error:#}", system.name(), setup.receivers));
        let outcome = outcome.map_err(at)?;
        row(system, setup.receivers, &outcome, &left);
        Ok(outcome)
    }

    fn keep_run(&mut self, system: &str, receivers: u32, outcome: &Outcome) {
        let name = format!("{system}.{receivers}");
        let runs = self.runs.entry(name.clone()).or_default();
        runs.push(outcome.figures());
        self.report.note(name, json!(runs));
    }

    /// Prints the ratio and writes everything down. `wanted` names the duel, `receivers` is what was run.
    fn conclude(&mut self, duel: Duel, wanted: u32, receivers: u32, pairs: &Pairs) {
        let name = format!("{}.{wanted}", duel.name());
        let ratio = |cost: fn(&Outcome) -> f64| {
            Ratio::of(pairs.good.iter().map(|[ours, peer]| cost(peer) / cost(ours)).collect())
        };
        let (process, core) = (ratio(Outcome::process_us), ratio(Outcome::core_us));
        let [peer, ours] = [duel.peer.name(), duel.ours.name()];
        let refused: Vec<String> = pairs.refused.iter().map(Refusal::to_string).collect();
        match (process, core) {
            (Some(process), Some(core)) => console::line(&format!(
                "= 1 to {receivers}: {peer} takes {:.1} times the CPU of {ours} ({:.1} to {:.1} in {} pairs; by the idle \
                 thread {:.1}, {:.1} to {:.1})",
                process.median,
                process.least,
                process.most,
                pairs.good.len(),
                core.median,
                core.least,
                core.most
            )),
            _ => console::line(&format!("= 1 to {wanted}: nothing of {peer}: {}", refused.join("; "))),
        }
        for [of_ours, of_peer] in &pairs.good {
            self.keep_run(ours, receivers, of_ours);
            self.keep_run(peer, receivers, of_peer);
        }
        if let Some(Ratio { median, least, most }) = process {
            let noted = json!({
                "median": median, "least": least, "most": most, "by_idle_thread": core.map(Ratio::figures),
                "wanted_receivers": wanted, "pairs": pairs.good.len(), "refused": refused,
            });
            self.report.note(format!("{peer}.{receivers}.times_{ours}"), noted);
        } else {
            self.report.note(format!("{name}.refused"), json!(refused));
        }
        let (good, bound) = (pairs.good.len(), format!(">= {}", self.pairs));
        self.report.check(format!("{name}.pairs"), good, "", &bound, good >= self.pairs);
        let is_wrong = pairs.refused.iter().any(|refusal| matches!(refusal, Refusal::Samples(..)));
        self.report.holds(format!("{name}.samples_are_right"), !is_wrong && good > 0);
        if let Some(bar) = duel.bar {
            self.report.at_least(format!("{name}.times"), process.map(|ratio| ratio.median), "times", bar);
        }
    }
}

/// How far the largest lies above the smallest, in percent.
fn spread_percent(values: impl Iterator<Item = f64>) -> f64 {
    let (least, most) =
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    (most / least - 1.0) * 100.0
}

/// Whether a system carries what it is given: all of it, and now.
fn carries(system: System, loss: f64, in_time: f64) -> Result<(), Refusal> {
    if loss > MOST_LOSS {
        return Err(Refusal::Loss(system, loss));
    }
    if in_time < LEAST_IN_TIME {
        return Err(Refusal::Late(system, in_time));
    }
    Ok(())
}

/// What the columns of the rows are.
pub fn heading() {
    console::line(&format!(
        "  {:<15} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}  left",
        "system",
        "receivers",
        "pps",
        "proc us",
        "core us",
        "busy %",
        "loss %",
        "p50 us",
        "p99 us",
        "drift %",
        "ref ns",
        "samples"
    ));
}

fn row(system: System, receivers: u32, outcome: &Outcome, left: &str) {
    let latency = |key: &str| outcome.latency[key].as_f64().unwrap_or(0.0);
    let [right, wrong] = outcome.samples;
    console::line(&format!(
        "  {:<15} {receivers:>9} {:>9.0} {:>9.3} {:>9.3} {:>7.1} {:>8.3} {:>8.0} {:>8.0} {:>8.1} {:>8.0} {:>9}  {left}",
        system.name(),
        outcome.rate(),
        outcome.process_us(),
        outcome.core_us(),
        outcome.usage.busy_by_process() * 100.0,
        outcome.loss() * 100.0,
        latency("p50_us"),
        latency("p99_us"),
        spread_percent(outcome.calibrations.idle_rates().into_iter()),
        outcome.calibrations.packet_ns(),
        format!("{right}/{}", right + wrong),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_middle_one_with_its_bounds() {
        let ratio = Ratio::of(vec![3.0, 1.0, 2.0]).expect("a ratio");
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 1.0, 3.0));
        assert_eq!(Ratio::of(vec![1.0, 2.0]).expect("a ratio").median, 1.5);
        assert_eq!(Ratio::of(Vec::new()), None);
    }

    #[test]
    fn who_sends_everything_seconds_later_does_not_carry_it() {
        let of = |loss, in_time| carries(System::Mediasoup, loss, in_time);
        assert_eq!(of(0.0009, 0.99), Ok(()));
        assert_eq!(of(0.002, 0.99), Err(Refusal::Loss(System::Mediasoup, 0.002)));
        assert_eq!(of(0.0, 0.45), Err(Refusal::Late(System::Mediasoup, 0.45)));
    }

    #[test]
    fn calibrations_of_both_runs_are_held_against_each_other() {
        assert!((spread_percent([100.0, 104.0, 111.0, 100.0].into_iter()) - 11.0).abs() < 1e-9);
        assert_eq!(spread_percent([5.0].into_iter()), 0.0);
    }
}

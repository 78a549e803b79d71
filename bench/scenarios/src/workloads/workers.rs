// SPDX-License-Identifier: Apache-2.0
//! One room on two workers as against one: what a forwarded packet costs must not grow with the workers. Each has a core, so
//! the second shares its own with the generator and the sink, which is why CPU time is compared and not the rate.

use anyhow::Result;
use bench_scenarios::run::{OTHER_CPU, SERVER_CPU, Setup, run};
use tools_netlab::report::Report;

use super::{call, median, programs, receivers};
use crate::Arguments;
use crate::figures::{begin, count, heading, judge, legend};

/// What a forwarded packet may cost with two workers, as a multiple of its cost with one.
const MOST_TO_ONE: f64 = 1.15;
/// What the idlest worker has to do at least, as a part of an even share.
const LEAST_SHARE: f64 = 0.5;
/// Runs of each kind, in turns: a disturbance of the machine meets both.
const PAIRS: u32 = 3;

/// Both, three times in turns.
pub(crate) fn workers(arguments: &Arguments) -> Result<bool> {
    let listeners = arguments.receivers.unwrap_or(1000);
    let mut table = call(arguments, 1, true)?;
    table.receivers.push(receivers(listeners, 1, false)?);
    let one = Setup::new(table, arguments.seconds.unwrap_or(5), &programs(arguments)?);
    let mut two = Setup { cpus: vec![OTHER_CPU, SERVER_CPU], ..one.clone() };
    two.options.push("--workers=2".to_owned());
    let mut report = begin("workers", &two);
    heading();
    let mut ratios = Vec::new();
    for pass in 1..=PAIRS {
        let alone = cost(&mut report, &format!("one{pass}"), &one)?;
        ratios.push(cost(&mut report, &format!("two{pass}"), &two)? / alone);
    }
    let ratio = median(ratios.iter().copied());
    report.note("workers.ratios", ratios);
    report.at_most("workers.cost_to_one", ratio, "", MOST_TO_ONE);
    legend();
    let ratio = ratio.map_or_else(|| "?".to_owned(), |ratio| format!("{ratio:.2}"));
    let figure = format!("1 to {listeners}: with two workers a forwarded packet costs {ratio} times of that with one");
    report.finish(arguments.json.as_deref(), &figure)
}

/// CPU of all workers for each forwarded packet, µs.
fn cost(report: &mut Report, name: &str, setup: &Setup) -> Result<f64> {
    let outcome = run(setup)?;
    judge(report, name, &outcome, None);
    // A worker that has nothing to do would make the others look cheap.
    let times: Vec<f64> = outcome.workers_ns.iter().copied().map(count).collect();
    let share =
        times.iter().copied().fold(f64::INFINITY, f64::min) * count(times.len() as u64) / times.iter().sum::<f64>();
    report.at_least(format!("{name}.least_share_of_a_worker"), Some(share), "of an even share", LEAST_SHARE);
    report.exactly(format!("{name}.workers"), Some(count(times.len() as u64)), "", count(setup.cpus.len() as u64));
    Ok(outcome.process_us())
}

// SPDX-License-Identifier: Apache-2.0
//! The workloads: which call, for how long, held to what.

mod memory;
mod overload;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bench_scenarios::bed::{FIRST_PUBLISHER, FIRST_RECEIVER, Napi, SERVER};
use bench_scenarios::run::{Setup, run};
use dataplane_table::{PublisherGroup, ReceiverGroup, Table, TrackEntry};

use crate::Arguments;
use crate::figures::{begin, heading, judge, legend, note, quantile_us};

/// CPU of the server for each forwarded packet with the sink's NAPI on the other core, and on the same, µs.
const MOST_US: [f64; 2] = [0.9, 1.4];
/// The audience that these are for.
const BARRED_RECEIVERS: u32 = 3000;
/// The same for ten speakers without cameras, µs.
const MOST_AUDIO_US: f64 = 1.3;
/// What a packet of a meeting or of small rooms may cost, as a multiple of one of a webinar at the same rate.
const MOST_TO_WEBINAR: f64 = 1.15;
/// Forwarding latency of a worker that never sleeps, from a packet's arrival at the server to when its copy was given to the
/// kernel: p50 and p99, µs.
const MOST_LATENCY_US: [f64; 2] = [30.0, 100.0];

/// Runs what is asked for; true where all figures hold.
pub(crate) fn main(arguments: &Arguments) -> Result<bool> {
    match arguments.workload.as_str() {
        "webinar" => webinar(arguments),
        "meeting" => meeting(arguments),
        "rooms" => rooms(arguments),
        "audio" => audio(arguments),
        "latency" => latency(arguments),
        "overload" => overload::overload(arguments),
        "memory" => memory::memory(arguments),
        "workers" => workers::workers(arguments),
        other => {
            bail!("there is no workload {other:?}: webinar, meeting, rooms, audio, latency, overload, memory, workers")
        }
    }
}

fn programs(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(dir) = &arguments.programs {
        return Ok(dir.clone());
    }
    let this = std::env::current_exe()?;
    Ok(this.parent().context("this program has no folder")?.to_owned())
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
        cipher: arguments.cipher,
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
    // Of fewer, each pays for more of a wake-up.
    let bars = MOST_US.map(|most| (count >= BARRED_RECEIVERS).then_some(most));
    judge(&mut report, "other_core", &other, bars[0]);
    setup.napi = Napi::SameCore;
    setup.seconds = setup.seconds.min(10);
    let same = run(&setup)?;
    // Here the receivers' side takes its part of the same core; a loss says that the core is full, not that the server is.
    note(&mut report, "same_core", &same);
    if let Some(most) = bars[1] {
        report.at_most("same_core.process_us", Some(same.process_us()), "us", most);
    }
    let figure = format!(
        "1 to {count}: {:.3} us per forwarded packet ({:.3} us with the sink on the same core), {} lost of {}",
        other.process_us(),
        same.process_us(),
        other.missing(),
        other.expected
    );
    report.finish(arguments.json.as_deref(), &figure)
}

/// Everybody sees everybody, as against a webinar that forwards the same number of packets.
fn meeting(arguments: &Arguments) -> Result<bool> {
    let people = arguments.people.unwrap_or(25);
    let mut table = call(arguments, people, true)?;
    table.receivers.push(receivers(people, 1, true)?);
    beside_webinar("meeting", arguments, table, people * people.saturating_sub(1), false)
}

/// Many rooms of a few people, as against a webinar that forwards the same number of packets.
fn rooms(arguments: &Arguments) -> Result<bool> {
    let (rooms, people) = (arguments.rooms.unwrap_or(200), arguments.people.unwrap_or(3));
    let mut table = call(arguments, rooms * people, true)?;
    table.receivers.push(receivers(rooms * people, rooms, true)?);
    beside_webinar("rooms", arguments, table, rooms * people * people.saturating_sub(1), true)
}

/// Runs a table, and before and after it a webinar with as many forwarded tracks; `by_link`: all with the generator that has room
/// for so many publishers, who began whenever they came.
fn beside_webinar(name: &str, arguments: &Arguments, table: Table, listeners: u32, by_link: bool) -> Result<bool> {
    let mut webinar = call(arguments, 1, true)?;
    webinar.receivers.push(receivers(listeners, 1, false)?);
    let (seconds, programs) = (arguments.seconds.unwrap_or(10), programs(arguments)?);
    let mut setup = Setup { sample_stride: 10, by_link, ..Setup::new(table, seconds, &programs) };
    setup.media.has_random_phases = by_link;
    let webinar = Setup { by_link, ..Setup::new(webinar, seconds, &programs) };
    let mut report = begin(name, &setup);
    heading();
    let before = run(&webinar)?;
    note(&mut report, "webinar_before", &before);
    let it = run(&setup)?;
    judge(&mut report, name, &it, None);
    let after = run(&webinar)?;
    note(&mut report, "webinar_after", &after);
    let ratio = it.process_us() / f64::midpoint(before.process_us(), after.process_us());
    report.at_most(format!("{name}.cost_to_webinar"), Some(ratio), "", MOST_TO_WEBINAR);
    let figure = format!(
        "{:.3} us per forwarded packet, {ratio:.2} times that of 1 to {listeners}, {} lost of {}",
        it.process_us(),
        it.missing(),
        it.expected
    );
    report.finish(arguments.json.as_deref(), &figure)
}

/// Ten people speak, many listen.
fn audio(arguments: &Arguments) -> Result<bool> {
    let (speakers, listeners) = (arguments.people.unwrap_or(10), arguments.receivers.unwrap_or(1000));
    let mut table = call(arguments, speakers, false)?;
    table.receivers.push(receivers(listeners, 1, false)?);
    let setup = Setup::new(table, arguments.seconds.unwrap_or(20), &programs(arguments)?);
    let mut report = begin("audio", &setup);
    heading();
    let outcome = run(&setup)?;
    judge(&mut report, "audio", &outcome, Some(MOST_AUDIO_US));
    let figure = format!(
        "{speakers} to {listeners}: {:.3} us per forwarded packet at {:.0} packets/s, {} lost of {}",
        outcome.process_us(),
        outcome.rate(),
        outcome.missing(),
        outcome.expected
    );
    report.finish(arguments.json.as_deref(), &figure)
}

/// One to one with a worker that never sleeps: five runs with the receiver's kernel on the server's core, of which the probes'
/// way through both kernels is taken, and five with it on the other, as one behind a cable is, of which the server's own part is.
fn latency(arguments: &Arguments) -> Result<bool> {
    let mut table = call(arguments, 1, true)?;
    table.receivers.push(receivers(arguments.receivers.unwrap_or(1), 1, false)?);
    let mut setup = Setup::new(table, arguments.seconds.unwrap_or(10), &programs(arguments)?);
    setup.options.push("--busy-poll".to_owned());
    setup.sample_stride = 1;
    for shape in [&mut setup.media.video, &mut setup.media.audio] {
        shape.probe_every = 2;
    }
    let mut report = begin("latency", &setup);
    heading();
    let (mut best, mut best_gap) = (f64::INFINITY, f64::INFINITY);
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    for pass in 1..=5 {
        setup.napi = Napi::Thread(0);
        let outcome = run(&setup)?;
        judge(&mut report, &format!("run{pass}"), &outcome, None);
        own.extend(outcome.server_us);
        // On the other core a probe waits until the generator, which shares it, has sent its burst.
        setup.napi = Napi::SameCore;
        let outcome = run(&setup)?;
        judge(&mut report, &format!("same_core{pass}"), &outcome, None);
        whole.push(quantile_us(&outcome, 0.99));
        if quantile_us(&outcome, 0.999) < best {
            (best, best_gap) = (quantile_us(&outcome, 0.999), outcome.calibrations.longest_gap_us());
        }
    }
    let [p50, p99] = [0, 1].map(|at| median(own.iter().map(|of| of[at])));
    report.at_most("latency.forwarding_p50_median_of_five", p50, "us", MOST_LATENCY_US[0]);
    report.at_most("latency.forwarding_p99_median_of_five", p99, "us", MOST_LATENCY_US[1]);
    let probes = median(whole.into_iter());
    report.note("latency.probes_p99_median_of_five_us", probes);
    report.note("latency.p999_best_of_five_us", best);
    report.note("latency.idle_gap_of_that_run_us", best_gap);
    legend();
    let [p50, p99, probes] = [p50, p99, probes].map(|us| us.map_or_else(|| "?".to_owned(), |us| format!("{us:.1}")));
    let figure = format!(
        "forwarding p50 {p50} us, p99 {p99} us (medians of five); from the generator's call to the sink p99 {probes} us, p99.9 \
         {best:.1} us (best of five; the longest gap of the idle core beside that run: {best_gap:.1} us)"
    );
    report.finish(arguments.json.as_deref(), &figure)
}

/// The middle one; nothing where there is none.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

// SPDX-License-Identifier: Apache-2.0
//! What the data plane has in memory for each listener, and for each participant of a meeting: the difference between a small
//! call and a large one, while media flows, so that what is taken with the first packet is counted too.

use anyhow::{Context as _, Result};
use bench_scenarios::memory::Resident;
use bench_scenarios::run::{Outcome, Setup, run};
use dataplane_abi::durable::{EgressDurable, TransportDurable};
use dataplane_abi::intent::{KeyIntent, SubscriptionIntent, TransportIntent};
use dataplane_abi::layout::Layout;
use dataplane_table::Table;
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

use super::{call, programs, receivers};
use crate::Arguments;
use crate::figures::{begin, count, heading, note};

/// A listener to one camera and one microphone, KiB.
const MOST_LISTENER: f64 = 8.0;
/// A participant who sends a camera and sees 24 others, KiB.
const MOST_PARTICIPANT: f64 = 32.0;
/// People of a room of the meeting.
const PEOPLE: u32 = 25;
/// Rooms of the large meeting.
const ROOMS: u32 = 5;

/// Measures both.
pub(crate) fn memory(arguments: &Arguments) -> Result<bool> {
    // In huge pages a few peers more are nothing or 2 MiB. What is started from here inherits it.
    rustix::thread::disable_transparent_huge_pages(true).context("cannot measure in small pages")?;
    let many = arguments.receivers.unwrap_or(3000).max(2);
    let audience = |count| {
        let mut table = call(arguments, 1, true)?;
        table.receivers.push(receivers(count, 1, false)?);
        anyhow::Ok(table)
    };
    let meeting = |rooms: u32, has_audio: bool| {
        let mut table = call(arguments, rooms * PEOPLE, true)?;
        if !has_audio {
            table.publishers.iter_mut().for_each(|group| group.tracks.truncate(1));
        }
        table.receivers.push(receivers(rooms * PEOPLE, rooms, true)?);
        anyhow::Ok(table)
    };
    let mut report = begin("memory", &setup(arguments, audience(many)?)?);
    heading();
    let listener = share(&mut report, "listener", arguments, [audience(1)?, audience(many)?], many - 1)?;
    report.at_most("listener.data_plane", Some(listener), "KiB", MOST_LISTENER);
    let people = PEOPLE * (ROOMS - 1);
    let videos = share(&mut report, "videos24", arguments, [meeting(1, false)?, meeting(ROOMS, false)?], people)?;
    report.at_most("videos24.data_plane", Some(videos), "KiB", MOST_PARTICIPANT);
    let with_audio = share(&mut report, "and_audio24", arguments, [meeting(1, true)?, meeting(ROOMS, true)?], people)?;
    report.note("records", records());
    report.note("pages", "4 KiB: transparent huge pages are off for this measurement");
    let figure = format!(
        "{listener:.1} KiB for a listener (1 to {many}), {videos:.1} KiB for a participant with 24 videos ({with_audio:.1} KiB with 24 \
         microphones beside them)"
    );
    report.finish(arguments.json.as_deref(), &figure)
}

fn setup(arguments: &Arguments, table: Table) -> Result<Setup> {
    Ok(Setup::new(table, arguments.seconds.unwrap_or(5), &programs(arguments)?))
}

/// KiB for each of the `more` peers that the second call has more than the first.
fn share(report: &mut Report, name: &str, arguments: &Arguments, calls: [Table; 2], more: u32) -> Result<f64> {
    let [small, large] = calls;
    let small = run(&setup(arguments, small)?)?;
    note(report, &format!("{name}.small"), &small);
    let large = run(&setup(arguments, large)?)?;
    note(report, &format!("{name}.large"), &large);
    // What nobody sent or nobody got would not be in memory.
    report.holds(format!("{name}.media_flowed"), small.delivered > 0 && large.delivered > 0);
    report.at_most(format!("{name}.large.lost_share"), Some(lost_share(&large)), "", 0.01);
    let each =
        |of: fn(&Resident) -> u64| (count(of(&large.resident)) - count(of(&small.resident))) / f64::from(more) / 1024.0;
    // Where the section of the keys is touched in whole at the start, none of it shows as a difference: the record counts.
    let keys = each(|r| r.keys).max(count(KeyIntent::SIZE as u64) / 1024.0);
    let kib = each(|r| r.per_peer() - r.keys) + keys;
    let parts: [(&str, f64); 6] = [
        ("intent", each(|r| r.intent)),
        ("keys", keys),
        ("durable", each(|r| r.durable)),
        ("private", each(|r| r.private)),
        ("store", each(|r| r.store)),
        ("frames", each(|r| r.frames)),
    ];
    let words: Vec<String> = parts.iter().map(|(part, kib)| format!("{part} {kib:.2}")).collect();
    console::line(&format!("    {name}: {kib:.2} KiB each (without store and frames): {}", words.join(", ")));
    report.note(
        format!("{name}.kib_each"),
        json!({ "in_all": kib, "parts": parts.iter().map(|(part, kib)| ((*part).to_owned(), json!(kib))).collect::<serde_json::Map<_, _>>(), "more_peers": more,
            "total_small_mib": count(small.resident.total()) / 1_048_576.0, "total_large_mib": count(large.resident.total()) / 1_048_576.0 }),
    );
    Ok(kib)
}

fn lost_share(outcome: &Outcome) -> f64 {
    count(outcome.missing()) / count(outcome.expected.max(1))
}

/// Sizes of the shared records: what a peer takes of the segment whatever flows.
fn records() -> Value {
    json!({
        "transport_bytes": TransportIntent::SIZE + KeyIntent::SIZE + TransportDurable::SIZE,
        "subscription_bytes": SubscriptionIntent::SIZE + EgressDurable::SIZE,
    })
}

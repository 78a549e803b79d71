// SPDX-License-Identifier: Apache-2.0
//! `lab restart-control`: the control plane is killed in the middle of a call through the page and held down. The call must
//! not notice; when the control plane is back, somebody else joins the same room and sees, and is seen by, everybody.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::args::{Args, BACKEND, BIN_DIR, FAMILY, JSON, Known, WORKERS};
use super::browser::{Kind, Through};
use super::call::server_options;
use super::counters::Status;
use super::new_folder;
use super::server::ServerOptions;
use super::session::{Cast, Pair, Sample, Session, wait};
use super::verdict::{judge_counters, judge_health};
use crate::console;
use crate::report::Report;

/// Encoders and jitter buffers come to rest before the control plane is killed.
const SETTLE: Duration = Duration::from_secs(3);
/// From the newcomer's click to each first frame, either way.
const JOIN_MS: f64 = 3000.0;
/// Of 15 frames that a camera makes each second.
const FRAME_RATE: f64 = 10.0;

/// The call just before the kill and just before the restart.
struct Down {
    before: Vec<Sample>,
    after: Vec<Sample>,
    status_before: Status,
    status_after: Status,
    was_dead: bool,
    participants: [Option<u64>; 2],
}

pub(crate) const OPTIONS: Known = &[
    ("seconds N", "how long the control plane is down [default: 40]"),
    ("browsers LIST", "3 or 4 in all, as chromium:2,firefox:1; the last one comes later [default: chromium:4]"),
    BACKEND,
    WORKERS,
    FAMILY,
    JSON,
    BIN_DIR,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let seconds: u64 = args.number("seconds", 40)?;
    let kinds = Kind::parse_list(&args.text("browsers", "chromium:4"))?;
    ensure!((3..=4).contains(&kinds.len()), "this call has 3 or 4 browsers, the last of them comes later");
    let options = ServerOptions { starts_planes: true, ..server_options(args)? };
    let folder = new_folder("restart-control")?;
    let mut report = Report::start("restart-control");
    report.note("backend", options.backend.as_str());
    let mut session = Session::start(&Cast::remote(&kinds, Through::Page), &options, None, &folder)?;
    let there = kinds.len() - 1;
    session.join(0..there, None)?;
    let down = hold_down(&mut session, Duration::from_secs(seconds))?;
    let old = session.pairs.clone();
    for pair in &old {
        judge_pair(&mut report, &session, pair, &down);
    }
    report.holds("controlplane.dead_until_started", down.was_dead);
    let sent = down.status_before.tx_packets().zip(down.status_after.tx_packets()).map(|(old, new)| new - old);
    report.at_least("server.tx_packets_while_down", sent, "packets", 1.0);
    let (live, wanted) = (down.participants, Some(there as u64));
    let is_live = live.iter().all(|count| *count == wanted);
    report.check("server.participants_live_while_down", json!(live), "participants", &format!("{there} each"), is_live);
    let started = Instant::now();
    session.server.start_control()?;
    report.note("controlplane.start_ms", json!(started.elapsed().as_secs_f64() * 1000.0));
    console::line("  the control plane is back");
    session.join(there..kinds.len(), None)?;
    let newcomers: Vec<Pair> = session.pairs.iter().skip(old.len()).cloned().collect();
    for pair in &newcomers {
        report.at_most(format!("{}.join_ms", session.pair_name(pair)), pair.join_ms, "ms", JOIN_MS);
    }
    wait(SETTLE, "the call goes on");
    let last = session.sample()?;
    judge_resumed(&mut report, &session, &old, [&down.after, &last]);
    judge_counters(&mut report, &session.server, &down.status_before, &session.server.settled_status()?);
    judge_health(&mut report, &session.server);
    let slowest = newcomers.iter().filter_map(|pair| pair.join_ms).fold(0.0, f64::max);
    session.leave()?;
    let figure =
        format!("{} pairs through {seconds} s without a control plane, newcomer {slowest:.0} ms at most", old.len());
    let ok = report.finish(args.path("json").as_deref(), &figure)?;
    if !ok {
        console::line(&format!("logs: {}", session.folder.display()));
    }
    Ok(ok)
}

fn hold_down(session: &mut Session, length: Duration) -> Result<Down> {
    wait(SETTLE, "settling");
    let status_before = session.server.settled_status()?;
    let before = session.sample()?;
    session.server.kill_control()?;
    console::line("  the control plane is killed");
    let live_at_first = session.server.live_participants();
    wait(length, "no control plane");
    let after = session.sample()?;
    let status_after = session.server.settled_status()?;
    let was_dead = session.server.exits() == ["controlplane"];
    let participants = [live_at_first, session.server.live_participants()];
    Ok(Down { before, after, status_before, status_after, was_dead, participants })
}

/// Nothing lost, nothing frozen, all at its rate.
fn judge_pair(report: &mut Report, session: &Session, pair: &Pair, down: &Down) {
    let name = session.pair_name(pair);
    let publisher = &session.browsers[pair.from].name;
    let (before, after) = (&down.before[pair.to], &down.after[pair.to]);
    let grown =
        |media: &str, key: &str| Some(after.number(publisher, media, key)? - before.number(publisher, media, key)?);
    for media in ["video", "audio"] {
        report.exactly(format!("{name}.{media}_packets_lost"), grown(media, "packetsLost"), "packets", 0.0);
    }
    report.exactly(format!("{name}.freezes"), grown("video", "freezeCount"), "freezes", 0.0);
    let seconds = (after.at_ms() - before.at_ms()) / 1000.0;
    let rate = grown("video", "framesDecoded").map(|frames| frames / seconds);
    report.at_least(format!("{name}.frame_rate"), rate, "frames/s", FRAME_RATE);
}

/// Who was there before is still seen after the restart and the newcomer's arrival.
fn judge_resumed(report: &mut Report, session: &Session, pairs: &[Pair], [before, after]: [&[Sample]; 2]) {
    for pair in pairs {
        let (name, publisher) = (session.pair_name(pair), &session.browsers[pair.from].name);
        let number = |sample: &[Sample], key: &str| sample[pair.to].number(publisher, "video", key);
        let decoded = number(after, "framesDecoded").zip(number(before, "framesDecoded")).map(|(new, old)| new - old);
        report.at_least(format!("{name}.frames_after_the_restart"), decoded, "frames", 1.0);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `lab hostile`: a call goes on while strangers and a participant's own 5-tuple send what no honest client sends, and
//! while a participant sends junk under its valid keys. Nothing may exit, grow, answer a stranger or disturb the call.

mod attack;
mod sender;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use super::args::{Args, BACKEND, BIN_DIR, JSON, Known, WORKERS};
use super::browser::{Kind, Through};
use super::call::server_options;
use super::counters::{Drops, Status};
use super::new_folder;
use super::server::Server;
use super::session::{Cast, ROOM, Sample, Session, wait};
use super::verdict::{judge_counters, judge_health};
use crate::console;
use crate::install;
use crate::netns::Endpoint;
use crate::process::Process;
use crate::report::Report;
use attack::Loot;
use sender::{Origin, Pace, Tally};

const JUNK_PY: &str = include_str!("../../drivers/junk.py");
/// Long enough for several consent checks (RFC 7675: one every 5 s, browsers ask twice as often).
const EAVESDROP: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(3);
/// Growth of each process's resident memory.
const GROWTH_KIB: f64 = 1024.0;
/// Packets that the call may lose.
const LOSS: f64 = 0.001;
/// Of 15 frames that a camera makes each second, decoded at the other side.
const FRAME_RATE: f64 = 10.0;
/// Of 50 Opus packets each second.
const AUDIO_PACKET_RATE: f64 = 45.0;
/// Strangers' junk that XDP drops each second.
const XDP_RATE: f64 = 100_000.0;
/// Of what strangers send: the rest are checks within the limit of failures, which a worker looks at.
const XDP_SHARE: f64 = 0.98;
/// SRTP-valid junk for each million raw datagrams, and its rate: Python protects these one by one.
const JUNK_SHARE: u64 = 20;
const JUNK_RATE: u64 = 1000;
const JUNK_MOST: u64 = 50_000;

/// The server and the call at one moment.
struct Moment {
    status: Status,
    drops: Drops,
    resident: BTreeMap<&'static str, Option<f64>>,
    samples: Vec<Sample>,
    /// Datagrams that the kernel dropped before the server's full sockets.
    kernel_drops: Option<f64>,
    /// Frames of anybody that were dropped at full cables.
    cable_drops: Option<f64>,
}

impl Moment {
    fn take(session: &mut Session, stranger: &Endpoint) -> Result<Self> {
        let samples = session.sample()?;
        let server = &session.server;
        let (status, drops) = (server.settled_status()?, server.drops()?);
        let mut on_cables = 0;
        for end in [stranger, &session.browsers[0].endpoint, &server.endpoint] {
            on_cables += session.bed.lost_at(end)?;
        }
        let kernel_drops = kernel_drops(server);
        let cable_drops = serde_json::Number::from(on_cables).as_f64();
        Ok(Self { status, drops, resident: server.resident_kib(), samples, kernel_drops, cable_drops })
    }
}

pub(crate) const OPTIONS: Known = &[
    ("rate N", "datagrams per second [default: 20000; with xdp 130000]"),
    ("packets N", "datagrams in all [default: 1000000; with xdp 2600000]"),
    ("seed N", "the same seed, the same datagrams [default: 1]"),
    BACKEND,
    WORKERS,
    JSON,
    BIN_DIR,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let options = server_options(args)?;
    // In XDP a stranger's junk costs a tenth, so there can be more of it.
    let usual = if options.backend == "xdp" { (130_000, 2_600_000) } else { (20_000, 1_000_000) };
    let (rate, packets): (u64, u64) = (args.number("rate", usual.0)?, args.number("packets", usual.1)?);
    let seed: u64 = args.number("seed", 1)?;
    let folder = new_folder("hostile")?;
    let python = install::ensure_pip(install::PYTHON_PACKAGES)?;
    let mut report = Report::start("hostile");
    let mut session = Session::start(&Cast::remote(&[Kind::Chromium; 2], Through::Whip), &options, None, &folder)?;
    let (stranger, insider) = (session.bed.add("stranger")?, session.bed.add("insider")?);
    session.join_all(None)?;
    let junk_packets = (packets / JUNK_SHARE).min(JUNK_MOST);
    let mut junk = JunkClient::start(&python, &session, &insider, [junk_packets, JUNK_RATE, seed])?;
    console::line("  listening to the call");
    let (participant, loot) = sender::eavesdrop(&session.browsers[0].endpoint, &session.server.endpoint, EAVESDROP)?;
    let origins = [participant, sender::stranger(&stranger, &session.server.endpoint)?];
    wait(SETTLE, "settling");
    let before = Moment::take(&mut session, &stranger)?;
    let pace = Pace { rate, packets, seed };
    let tallies = attack(&session, &stranger, &origins, &loot, pace)?;
    wait(SETTLE, "settling");
    let attacked = Moment::take(&mut session, &stranger)?;
    console::line(&format!("  a participant sends {junk_packets} packets of junk under its own keys"));
    let sent_junk = junk.fire(Duration::from_secs(60 + 4 * junk_packets / JUNK_RATE))?;
    wait(SETTLE, "settling");
    let after = Moment::take(&mut session, &stranger)?;
    judge_attack(&mut report, &before, &attacked, &tallies, pace);
    if session.server.backend == "xdp" {
        judge_xdp(&mut report, &before, &attacked, &tallies[1]);
    }
    judge_growth(&mut report, "attack", &before, &attacked);
    judge_growth(&mut report, "junk", &before, &after);
    judge_call(&mut report, &session, &before, &after);
    report.at_least("junk.packets_sent", sent_junk["sent"].as_f64(), "packets", 1.0);
    report.note("junk", sent_junk);
    judge_counters(&mut report, &session.server, &before.status, &after.status);
    judge_health(&mut report, &session.server);
    drop(junk);
    session.leave()?;
    let seconds = tallies.iter().map(|tally| tally.elapsed.as_secs_f64()).fold(0.0, f64::max);
    let sent: u64 = tallies.iter().map(Tally::total).sum();
    let figure = format!(
        "{sent} hostile datagrams in {seconds:.0} s, {junk_packets} of junk under valid keys, longest turn {}",
        after.status.turn_words()
    );
    let ok = report.finish(args.path("json").as_deref(), &figure)?;
    if !ok {
        console::line(&format!("logs: {}", folder.display()));
    }
    Ok(ok)
}

/// From the participant's 5-tuples and from the stranger at the same time: half and half, or, where strangers end in XDP, one
/// of thirteen and the rest.
fn attack(
    session: &Session,
    stranger: &Endpoint,
    origins: &[Origin; 2],
    loot: &Loot,
    pace: Pace,
) -> Result<[Tally; 2]> {
    let expected = pace.packets / pace.rate.max(1);
    console::line(&format!("  {} hostile datagrams, {} a second: about {expected} s", pace.packets, pace.rate));
    let stop = Arc::new(AtomicBool::new(false));
    let parts = if session.server.backend == "xdp" { 13 } else { 2 };
    let half = Pace { rate: pace.rate / parts, packets: pace.packets / parts, seed: pace.seed };
    let other = Pace { rate: pace.rate - half.rate, packets: pace.packets - half.packets, seed: !pace.seed };
    let participant = &session.browsers[0].endpoint;
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| sender::send_all(participant, &origins[0], loot, half, &stop));
        let outside = scope.spawn(|| sender::send_all(stranger, &origins[1], loot, other, &stop));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Tally>>| {
            thread.join().map_err(|_| anyhow!("a sender panicked"))?
        };
        Ok([join(inside)?, join(outside)?])
    })
}

fn difference(from: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(to? - from?)
}

fn judge_attack(report: &mut Report, before: &Moment, after: &Moment, tallies: &[Tally; 2], pace: Pace) {
    let sent = tallies.iter().map(Tally::total).sum::<u64>();
    report.check("attack.packets_sent", sent, "packets", &format!("= {}", pace.packets), sent == pace.packets);
    let seconds = tallies.iter().map(|tally| tally.elapsed.as_secs_f64()).fold(0.0, f64::max);
    let rate = serde_json::Number::from(sent).as_f64().map(|sent| sent / seconds);
    let wanted = serde_json::Number::from(pace.rate).as_f64().unwrap_or(f64::INFINITY);
    report.at_least("attack.packets_per_second", rate, "packets/s", 0.8 * wanted);
    let answered = tallies[1].answered_bytes;
    report.check("attack.bytes_answered_to_strangers", answered, "bytes", "= 0", answered == 0);
    report.note("attack.bytes_answered_to_strangers_with_known_ufrag", tallies[1].answered_bytes_known_ufrag);
    // Every hostile datagram that reached the server was dropped with a reason, or punted within the punt's bound.
    let in_xdp =
        |count: fn(&Status) -> Option<f64>| difference(count(&before.status), count(&after.status)).unwrap_or(0.0);
    let lost = difference(before.kernel_drops, after.kernel_drops).map(|lost| lost + in_xdp(Status::xdp_lost));
    let dropped = difference(before.drops.hostile(), after.drops.hostile());
    let dropped = dropped.map(|dropped| dropped + in_xdp(Status::xdp_dropped));
    let punted = difference(before.status.punted(), after.status.punted());
    let sent = serde_json::Number::from(sent).as_f64();
    let unexplained = sent.zip(lost).zip(dropped).zip(punted);
    let unexplained = unexplained.map(|(((sent, lost), dropped), punted)| sent - lost - dropped - punted);
    // A full cable does not say whose frames it dropped: none is missing but those.
    let on_cables = difference(before.cable_drops, after.cable_drops);
    report.check(
        "attack.sent_minus_dropped_with_a_reason",
        json!(unexplained),
        "packets",
        &format!("0 to {} dropped at full cables", on_cables.unwrap_or(0.0)),
        unexplained.zip(on_cables).is_some_and(|(missing, most)| (0.0..=most).contains(&missing)),
    );
    for (name, value) in
        [("lost_in_kernel", lost), ("lost_on_cables", on_cables), ("dropped", dropped), ("punted", punted)]
    {
        report.note(format!("attack.{name}"), json!(value));
    }
    let (old, new) = (before.drops.by_reason(), after.drops.by_reason());
    let by_reason: BTreeMap<&String, f64> =
        new.iter().map(|(reason, count)| (reason, count - old.get(reason).copied().unwrap_or(0.0))).collect();
    report.note("attack.drops_by_reason", json!(by_reason));
    for (who, tally) in ["participant", "stranger"].into_iter().zip(tallies) {
        let by_sort: BTreeMap<String, u64> =
            tally.sent.iter().map(|(sort, sent)| (format!("{sort:?}"), *sent)).collect();
        report.note(format!("attack.sent_by_{who}"), json!(by_sort));
        report.note(format!("attack.{who}_seconds"), tally.elapsed.as_secs_f64());
    }
}

/// Strangers' junk ends in the driver, at the rate at which it comes.
fn judge_xdp(report: &mut Report, before: &Moment, after: &Moment, stranger: &Tally) {
    let dropped = difference(before.status.xdp_dropped(), after.status.xdp_dropped());
    let rate = dropped.map(|dropped| dropped / stranger.elapsed.as_secs_f64());
    report.at_least("attack.dropped_in_xdp_per_second", rate, "packets/s", XDP_RATE);
    let sent = serde_json::Number::from(stranger.total()).as_f64();
    let share = dropped.zip(sent).map(|(dropped, sent)| dropped / sent);
    report.at_least("attack.strangers_dropped_in_xdp", share, "of what strangers sent", XDP_SHARE);
}

/// Memory and tables after a phase, against those before the first.
fn judge_growth(report: &mut Report, phase: &str, before: &Moment, after: &Moment) {
    for (plane, resident) in &after.resident {
        let grown = difference(before.resident.get(plane).copied().flatten(), *resident);
        report.at_most(format!("{phase}.{plane}_memory_growth"), grown, "KiB", GROWTH_KIB);
    }
    let (old, new) = (before.status.tables(), after.status.tables());
    report.check(format!("{phase}.tables_reported"), new.len(), "tables", ">= 1", !new.is_empty());
    for (table, entries) in new {
        let added = difference(old.get(&table).copied(), Some(entries));
        report.exactly(format!("{phase}.{table}_entries_added"), added, "entries", 0.0);
    }
}

/// The call goes on: loss over all pairs and media, and every pair goes on at its rate.
fn judge_call(report: &mut Report, session: &Session, before: &Moment, after: &Moment) {
    let (mut received, mut lost) = (Some(0.0), Some(0.0));
    for pair in &session.pairs {
        let publisher = &session.browsers[pair.from].name;
        let grown = |media: &str, key: &str| {
            let number = |moment: &Moment| moment.samples[pair.to].number(publisher, media, key);
            difference(number(before), number(after))
        };
        for media in ["audio", "video"] {
            received = received.zip(grown(media, "packetsReceived")).map(|(sum, more)| sum + more);
            lost = lost.zip(grown(media, "packetsLost")).map(|(sum, more)| sum + more);
        }
        let name = session.pair_name(pair);
        let seconds = (after.samples[pair.to].at_ms() - before.samples[pair.to].at_ms()) / 1000.0;
        let rate = |count: Option<f64>| count.map(|count| count / seconds);
        report.at_least(format!("{name}.frame_rate"), rate(grown("video", "framesDecoded")), "frames/s", FRAME_RATE);
        let sound = rate(grown("audio", "packetsReceived"));
        report.at_least(format!("{name}.audio_packet_rate"), sound, "packets/s", AUDIO_PACKET_RATE);
        report.note(format!("{name}.freezes"), json!(grown("video", "freezeCount")));
    }
    let share = received.zip(lost).filter(|(received, lost)| received + lost > 0.0);
    report.check(
        "call.loss",
        json!(share.map(|(received, lost)| lost / (received + lost))),
        "of all packets",
        &format!("<= {LOSS}"),
        share.is_some_and(|(received, lost)| lost / (received + lost) <= LOSS),
    );
    report.note("call.packets_received", json!(received));
    report.note("call.packets_lost", json!(lost));
}

/// UDP datagrams that found the receive buffer of a socket in the server's namespace full.
fn kernel_drops(server: &Server) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/net/snmp", server.pids.get("dataplane")?)).ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "RcvbufErrors")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// The participant that is hostile under its own keys: `drivers/junk.py`.
struct JunkClient {
    process: Process,
    lines: Receiver<String>,
}

impl JunkClient {
    /// Publishes and waits until media flows; `numbers` are packets, rate and seed.
    fn start(python: &Path, session: &Session, at: &Endpoint, numbers: [u64; 3]) -> Result<Self> {
        let (folder, origin) = (&session.folder, session.server.origin.as_str());
        let script = folder.join("junk.py");
        std::fs::write(&script, JUNK_PY)?;
        let mut command = at.namespace.command(python);
        command.arg(&script).args([origin, ROOM, "junk"]).args(numbers.map(|number| number.to_string()));
        let mut process = Process::spawn(command, &folder.join("junk.log"), true)?;
        let stdout = process.child().stdout.take().context("stdout of junk.py")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let client = Self { process, lines };
        client.expect("ready", Duration::from_secs(60))?;
        Ok(client)
    }

    fn expect(&self, start: &str, limit: Duration) -> Result<String> {
        let line = self.lines.recv_timeout(limit).ok().filter(|line| line.starts_with(start));
        line.with_context(|| format!("junk.py did not say {start:?}:\n{}", self.process.log_tail(15)))
    }

    /// Lets it send its junk and returns what it reports.
    fn fire(&mut self, limit: Duration) -> Result<Value> {
        let stdin = self.process.child().stdin.as_mut().context("stdin of junk.py")?;
        writeln!(stdin)?;
        let line = self.expect("{", limit)?;
        serde_json::from_str(&line).with_context(|| format!("junk.py wrote {line:?}"))
    }
}

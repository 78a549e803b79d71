// SPDX-License-Identifier: Apache-2.0
//! `lab call`: N browsers publish and watch each other; every one of the N(N−1) pairs is judged by picture, sound and
//! counters, the control plane stands still in the middle, and the server's ledgers must close.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::args::{Args, BACKEND, BIN_DIR, FAMILY, JSON, Known, WORKERS};
use super::browser::{Kind, Through};
use super::counters::Status;
use super::media::{COLOUR_TOLERANCE, PITCH_TOLERANCE_HZ};
use super::server::{Family, Paused, ServerOptions, default_bin_dir};
use super::session::{Cast, Pair, Sabotage, Sample, Session, wait};
use super::verdict::{judge_counters, judge_health, show};
use super::{median, new_folder};
use crate::console;
use crate::report::Report;

/// Click (by WHEP: POST) to first decoded frame, median over the pairs.
const JOIN_MS: f64 = 1500.0;
/// WHIP POST to its answer, median over the participants. The page's offer has twenty sections; its answer is in the notes.
const ANSWER_MS: f64 = 50.0;
/// Frames decoded of frames received.
const DECODED_RATIO: f64 = 0.9;
/// Packets that AF_XDP carries, of all.
const XDP_SHARE: f64 = 0.99;
/// How long the control plane stands still.
const PAUSE: Duration = Duration::from_secs(10);
/// Encoders and jitter buffers come to rest before the window starts.
const SETTLE: Duration = Duration::from_secs(3);

/// Each fault with the end of the name of a check that must see it.
const SABOTAGES: [(&str, Sabotage, &str); 3] = [
    ("swap", Sabotage::Swap, ".colour"),
    ("drop", Sabotage::Drop, "_packets_lost"),
    ("mute", Sabotage::Mute, ".pitch"),
];

/// What was seen in the window.
struct Window {
    before: Vec<Sample>,
    pause_start: Vec<Sample>,
    pause_end: Vec<Sample>,
    after: Vec<Sample>,
    perceived: Vec<Vec<Value>>,
    status_before: Status,
    kernel_datagrams: [Option<f64>; 2],
    pause_status: [Status; 2],
    status_after: Status,
}

pub(crate) const OPTIONS: Known = &[
    ("browsers LIST", "2 to 4 in all, as chromium:3,firefox:1 [default: chromium:2]"),
    ("through WAY", "page or whip: how they come in [default: page]"),
    ("seconds N", "how long they are watched [default: 30]"),
    ("sabotage WHAT", "swap, drop or mute: the lab must see it and turn red"),
    BACKEND,
    WORKERS,
    FAMILY,
    JSON,
    BIN_DIR,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let kinds = Kind::parse_list(&args.text("browsers", "chromium:2"))?;
    ensure!((2..=4).contains(&kinds.len()), "a call has 2 to 4 browsers here, not {}", kinds.len());
    let seconds: u64 = args.number("seconds", 30)?;
    let sabotage = args.choice("sabotage", &SABOTAGES.map(|(name, ..)| name))?;
    let chosen = SABOTAGES.into_iter().find(|(name, ..)| Some(*name) == sabotage);
    let fault = chosen.map(|(_, fault, _)| fault);
    // Only by WHEP does a viewer say whom it asks for, so that it can ask for somebody else.
    let usual = if fault == Some(Sabotage::Swap) { "whip" } else { "page" };
    let through = Through::parse(args.choice("through", &Through::NAMES)?.unwrap_or(usual));
    ensure!(fault != Some(Sabotage::Swap) || through == Through::Whip, "--sabotage swap needs --through whip");
    let options = server_options(args)?;
    let folder = new_folder("call")?;
    let mut report = Report::start("call");
    report.note("through", through.name());
    report.note("family", options.family.name());
    report.note("backend", options.backend.as_str());
    report.note("sabotage", sabotage);
    let mut session = Session::start(&Cast::remote(&kinds, through), &options, fault, &folder)?;
    session.join_all(fault)?;
    let window = watch(&mut session, Duration::from_secs(seconds))?;
    judge_joining(&mut report, &session);
    for (browser, after) in session.browsers.iter().zip(&window.after) {
        let check = format!("{}.publishing_srtp_cipher", browser.name);
        judge_cipher(&mut report, &check, browser.kind, after.publishing_cipher());
        report.note(format!("{}.browser", browser.name), browser.version.as_str());
        report.note(format!("{}.publishing", browser.name), after.json()["published"].clone());
    }
    for pair in session.pairs.clone() {
        judge_pair(&mut report, &session, &pair, &window);
    }
    judge_server(&mut report, &session, &window);
    session.leave()?;
    report.note("tables_after_leaving", json!(session.server.status().map(|status| status.tables()).ok()));
    let figure = figure(&session, &window, seconds);
    let unnoticed = chosen.filter(|(.., witness)| !report.failed().any(|check| check.name.ends_with(witness)));
    let ok = report.finish(args.path("json").as_deref(), &figure)?;
    if let Some((name, _, witness)) = unnoticed {
        // No red check, which would look like a sabotage that was seen: the lab itself is broken.
        bail!("the sabotage {name} went unnoticed: no check that ends in {witness} has failed");
    }
    if !ok {
        console::line(&format!("logs: {}", session.folder.display()));
    }
    Ok(ok)
}

/// `--backend`, `--workers`, `--family`, `--bin-dir`: the same for every lab with a server.
pub(crate) fn server_options(args: &Args) -> Result<ServerOptions> {
    let backend = args.choice("backend", &["xdp", "uring", "sockets", "auto"])?.unwrap_or("auto").to_owned();
    let workers = args.number("workers", 2)?;
    let family = if args.choice("family", &["4", "6"])? == Some("6") { Family::V6 } else { Family::V4 };
    let bin_dir = args.path("bin-dir").unwrap_or_else(default_bin_dir);
    Ok(ServerOptions { backend, workers, family, bin_dir, arguments: Vec::new(), starts_planes: false, is_busy: false })
}

/// The window: statistics at both ends, senses in between, the control plane stopped in the middle.
fn watch(session: &mut Session, length: Duration) -> Result<Window> {
    wait(SETTLE, "settling");
    let pause = PAUSE.min(length / 3);
    let lead = (length - pause) / 2;
    let started = Instant::now();
    let status_before = session.server.settled_status()?;
    let kernel_before = session.server.kernel_datagrams();
    let before = session.sample()?;
    wait(lead.saturating_sub(started.elapsed()), "watching");
    let mut perceived = vec![session.perceive()?];
    let paused = Paused::pause(session.server.pids["controlplane"])?;
    let pause_from = Instant::now();
    let pause_start = session.sample()?;
    let status_start = session.server.status()?;
    wait(pause.saturating_sub(pause_from.elapsed()), "the control plane stands still");
    let pause_end = session.sample()?;
    let status_end = session.server.status()?;
    drop(paused);
    perceived.push(session.perceive()?);
    wait(length.saturating_sub(started.elapsed()), "watching");
    let after = session.sample()?;
    let status_after = session.server.settled_status()?;
    Ok(Window {
        before,
        pause_start,
        pause_end,
        after,
        perceived,
        status_before,
        kernel_datagrams: [kernel_before, session.server.kernel_datagrams()],
        pause_status: [status_start, status_end],
        status_after,
    })
}

fn judge_joining(report: &mut Report, session: &Session) {
    let joins: Vec<Option<f64>> = session.pairs.iter().map(|pair| pair.join_ms).collect();
    report.at_most("join_median_ms", median(&joins), "ms", JOIN_MS);
    if session.through == Through::Whip {
        report.at_most("answer_median_ms", median(&session.answer_ms), "ms", ANSWER_MS);
    }
    report.note("join_ms", json!(joins));
    report.note("answer_ms", json!(session.answer_ms));
}

fn judge_pair(report: &mut Report, session: &Session, pair: &Pair, window: &Window) {
    let name = session.pair_name(pair);
    let (publisher, watcher) = (&session.browsers[pair.from], &session.browsers[pair.to]);
    let (before, after) = (&window.before[pair.to], &window.after[pair.to]);
    let delta = |from: &Sample, to: &Sample, media: &str, key: &str| {
        Some(to.number(&publisher.name, media, key)? - from.number(&publisher.name, media, key)?)
    };
    let grown = |media: &str, key: &str| delta(before, after, media, key);
    let (received, decoded) = (grown("video", "framesReceived"), grown("video", "framesDecoded"));
    let ratio = received.zip(decoded).filter(|(received, _)| *received > 0.0).map(|(all, decoded)| decoded / all);
    report.at_least(format!("{name}.frames_decoded_of_received"), ratio, "", DECODED_RATIO);
    report.at_most(format!("{name}.freezes"), grown("video", "freezeCount"), "freezes", 1.0);
    for media in ["video", "audio"] {
        report.exactly(format!("{name}.{media}_packets_lost"), grown(media, "packetsLost"), "packets", 0.0);
        let (start, end) = (&window.pause_start[pair.to], &window.pause_end[pair.to]);
        let rate = |packets: Option<f64>, from: &Sample, to: &Sample| {
            packets.map(|packets| packets * 1000.0 / (to.at_ms() - from.at_ms()))
        };
        let paused = rate(delta(start, end, media, "packetsReceived"), start, end);
        let usual = rate(grown(media, "packetsReceived"), before, after);
        let share = paused.zip(usual).filter(|(_, usual)| *usual > 0.0).map(|(paused, usual)| paused / usual);
        let check = format!("{name}.{media}_packet_rate_while_control_plane_stopped");
        report.at_least(check, share, "of the usual rate", 0.5);
    }
    judge_senses(report, &name, publisher, pair.to, &window.perceived);
    judge_cipher(report, &format!("{name}.srtp_cipher"), watcher.kind, after.cipher(&publisher.name));
    let rate = decoded.map(|frames| frames * 1000.0 / (after.at_ms() - before.at_ms()));
    report.note(format!("{name}.frames_per_second"), json!(rate));
    report.note(format!("{name}.statistics"), after.json()["views"][&publisher.name].clone());
}

/// The right person, by colour and by pitch, each time it was looked at.
fn judge_senses(
    report: &mut Report,
    name: &str,
    publisher: &super::browser::Browser,
    to: usize,
    perceived: &[Vec<Value>],
) {
    let seen: Vec<&Value> = perceived.iter().map(|moment| &moment[to][&publisher.name]).collect();
    let colour = |value: &Value| {
        let parts: Vec<i64> = value["colour"].as_array()?.iter().filter_map(Value::as_i64).collect();
        <[i64; 3]>::try_from(parts).ok()
    };
    let is_right = seen.iter().all(|moment| colour(moment).is_some_and(|seen| publisher.person.has_colour(seen)));
    let colours: Vec<&Value> = seen.iter().map(|moment| &moment["colour"]).collect();
    let bound = format!("{:?} ± {COLOUR_TOLERANCE}", publisher.person.colour);
    report.check(format!("{name}.colour"), json!(colours), "rgb", &bound, is_right);
    let wanted = f64::from(publisher.person.pitch);
    let pitches: Vec<Option<f64>> = seen.iter().map(|moment| moment["pitch"].as_f64()).collect();
    let is_right = pitches.iter().all(|pitch| pitch.is_some_and(|pitch| (pitch - wanted).abs() <= PITCH_TOLERANCE_HZ));
    let bound = format!("{wanted} ± {PITCH_TOLERANCE_HZ}");
    report.check(format!("{name}.pitch"), json!(pitches), "Hz", &bound, is_right);
}

fn judge_cipher(report: &mut Report, name: &str, kind: Kind, cipher: Option<&str>) {
    let Some(cipher) = cipher else {
        // Firefox has no srtpCipher in its transport statistics; what it cannot say is not held against the server.
        let value = format!("not reported by {}", kind.name());
        return report.check(name, value, "", "AEAD_AES_*_GCM where reported", kind == Kind::Firefox);
    };
    let is_gcm = cipher.contains("AEAD_AES_") && cipher.ends_with("_GCM");
    report.check(name, cipher, "", "AEAD_AES_*_GCM where reported", is_gcm);
}

fn judge_server(report: &mut Report, session: &Session, window: &Window) {
    judge_counters(report, &session.server, &window.status_before, &window.status_after);
    let (ports, asked) = (window.status_after.ports(), session.server.backend.as_str());
    let is_asked = !ports.is_empty() && (asked == "auto" || ports.iter().all(|port| *port == asked));
    report.check("server.ports", json!(ports), "", &format!("each {asked}"), is_asked);
    if asked == "xdp" {
        judge_xdp(report, window);
    }
    let [start, end] = &window.pause_status;
    let sent = start.tx_packets().zip(end.tx_packets()).map(|(old, new)| new - old);
    report.at_least("server.tx_packets_while_control_plane_stopped", sent, "packets", 1.0);
    judge_health(report, &session.server);
}

/// The fast path is the one that carries the call: in the driver, past the kernel's UDP, on every worker.
fn judge_xdp(report: &mut Report, window: &Window) {
    let (old, new) = (&window.status_before, &window.status_after);
    let mode = new.xdp_mode().unwrap_or("not reported");
    report.check("server.xdp_mode", mode, "", "= native", mode == "native");
    let of = |port: &str, way: &str| Some(new.port_packets(port, way)? - old.port_packets(port, way)?);
    let both = |port: &str| Some(of(port, "rx")? + of(port, "tx")?);
    let share = both("xdp").zip(both("socket")).map(|(xdp, socket)| xdp / (xdp + socket).max(1.0));
    report.at_least("server.packets_by_xdp", share, "of all packets", XDP_SHARE);
    let [before, after] = window.kernel_datagrams;
    let by_kernel = before.zip(after).zip(of("xdp", "rx")).map(|((old, new), xdp)| (new - old) / xdp.max(1.0));
    report.at_most("server.datagrams_by_the_kernel", by_kernel, "of those by xdp", 1.0 - XDP_SHARE);
    let sent = old.sent_by_worker().zip(new.sent_by_worker());
    let sent: Option<Vec<f64>> = sent.map(|(old, new)| new.iter().zip(&old).map(|(new, old)| new - old).collect());
    let all_forward = sent.as_ref().is_some_and(|sent| !sent.is_empty() && sent.iter().all(|sent| *sent > 0.0));
    report.check("server.packets_sent_by_worker", json!(sent), "packets", "> 0 each", all_forward);
}

fn figure(session: &Session, window: &Window, seconds: u64) -> String {
    let joins: Vec<Option<f64>> = session.pairs.iter().map(|pair| pair.join_ms).collect();
    let status = &window.status_after;
    format!(
        "{} pairs for {seconds} s, join {} ms, answer {} ms, latency p50 {} us, p99 {} us, longest turn {}",
        session.pairs.len(),
        show(median(&joins)),
        show(median(&session.answer_ms)),
        show(status.latency_us("p50")),
        show(status.latency_us("p99")),
        status.turn_words(),
    )
}

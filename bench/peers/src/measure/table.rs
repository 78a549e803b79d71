// SPDX-License-Identifier: Apache-2.0
//! Systems that serve a table of receivers with keys: Millrace's data plane alone, and the floor programs.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_scenarios::bed::{FIRST_PUBLISHER, FIRST_RECEIVER, SERVER, SERVER_INTERFACE};
use bench_scenarios::run::SERVER_CPU;
use bench_scenarios::verify::Verifier;
use bench_trafficgen::sender::{Options, Sender, Sent};
use dataplane_table::{PublisherGroup, ReceiverGroup, Table, TrackEntry};
use tools_netlab::process::Process;

use super::{Done, Outcome, Place, RECEIVER_PORT, Setup, stride};
use crate::client::media::Published;
use crate::server::words;

const START_LIMIT: Duration = Duration::from_secs(20);
/// For next hops that a server looks up after it has started.
const SETTLE: Duration = Duration::from_millis(700);

/// A program that serves a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub file: &'static str,
    /// Options beside `--table`.
    pub options: &'static [&'static str],
    /// What it prints when it serves.
    pub ready: &'static str,
}

/// Millrace's data plane over AF_XDP.
pub const MILLRACE_XDP: Program = Program {
    file: "millrace-dataplane",
    options: &["--interface", SERVER_INTERFACE, "--xdp-mode", "native"],
    ready: "serving ",
};
/// Millrace's data plane over io_uring.
pub const MILLRACE_URING: Program =
    Program { file: "millrace-dataplane", options: &["--backend", "uring"], ready: "serving " };
/// A cipher library and `sendmmsg`.
pub const FLOOR_SENDMMSG: Program =
    Program { file: "millrace-floor", options: &["--path", "sendmmsg"], ready: "ready:" };
/// A cipher library and `UDP_SEGMENT`.
pub const FLOOR_GSO: Program = Program { file: "millrace-floor", options: &["--path", "gso"], ready: "ready:" };

/// Runs one program once.
///
/// # Errors
/// When the run cannot be set up; what was measured is never an error.
pub fn run(program: Program, setup: &Setup<'_>) -> Result<Outcome> {
    let table = table(setup)?;
    let plan = table.plan()?;
    let file = setup.folder.join("table.toml");
    std::fs::write(&file, table.to_toml()?)?;
    let place = Place::prepare(setup, false)?;
    let path = setup.programs.join(program.file);
    ensure!(path.exists(), "{} is not built", path.display());
    let mut command: Command = place.bed.server.command("taskset");
    command.args(["-c", &SERVER_CPU.to_string()]).arg(path).arg("--table").arg(&file).args(program.options);
    let line = words(&command);
    let mut server = Process::spawn(command, &setup.folder.join("server.log"), false)?;
    server.wait_for_text(program.ready, START_LIMIT)?;
    std::thread::sleep(SETTLE);
    let sender = place.bed.generator.inside(|| Sender::open(&plan, &Options::default()))?;
    let verifier = place.bed.sink.inside(|| Verifier::open(&plan, stride(setup.receivers)))?;
    let (stop, done, count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let (window, sent, verdict) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| verifier.run(&done));
        let sending = scope.spawn(|| sender.run(&stop, &count));
        let window = place.watch(setup, server.pid(), &count);
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join();
        place.drain();
        done.store(true, Ordering::Relaxed);
        (window, sent, checking.join())
    });
    let log = server.log_tail(5);
    drop(server);
    let window = window.with_context(|| format!("{} said: {log}", program.file))?;
    let sent = sent.map_err(|_| anyhow!("the generator panicked"))?;
    let verdict = verdict.map_err(|_| anyhow!("the verifier panicked"))?;
    let samples = [verdict.right, verdict.wrong];
    place.finish(setup, &window, Done { published: &published(&sent), samples, joining_s: 0.0, command: line })
}

fn published(sent: &Sent) -> Published {
    let mut published = Published { probes: sent.probes.clone(), ..Published::default() };
    for (packets, count) in published.packets.iter_mut().zip(sent.packets.iter().flatten()) {
        *packets = *count;
    }
    published
}

/// One publisher with camera and microphone, and its receivers.
fn table(setup: &Setup<'_>) -> Result<Table> {
    let track = |codec: &str, pt, ssrc| TrackEntry { codec: codec.to_owned(), pt, ssrc, clock_rate: None };
    let publisher = PublisherGroup {
        name: "speaker".to_owned(),
        remote: format!("{FIRST_PUBLISHER}:5000").parse()?,
        count: 1,
        rx_key: None,
        tx_key: None,
        tracks: vec![track("vp8", 96, 0x0100_0000), track("opus", 111, 0x0200_0000)],
    };
    let receivers = ReceiverGroup {
        remote: format!("{FIRST_RECEIVER}:{RECEIVER_PORT}").parse()?,
        count: setup.receivers,
        from: "speaker".to_owned(),
        rooms: 1,
        except_own: false,
        ssrc: 0x1000_0000,
        rx_key: None,
        tx_key: None,
    };
    Ok(Table {
        server: format!("{SERVER}:10000").parse()?,
        cipher: setup.cipher,
        seed: 1,
        publishers: vec![publisher],
        receivers: vec![receivers],
    })
}

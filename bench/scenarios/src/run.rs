// SPDX-License-Identifier: Apache-2.0
//! One measured run of the data plane over a table: bed, sink, generator, meter, and what came of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bench_trafficgen::mono_ns;
use bench_trafficgen::sender::{Options, Sender, Sent};
use dataplane_table::{Plan, Table};
use hdrhistogram::Histogram;
use tools_netlab::process::Process;

use crate::bed::{Bed, Napi, SERVER_INTERFACE, SINK_INTERFACE};
use crate::calibration::{Calibration, Calibrations};
use crate::cpu::{self, Meter, Spinner, Usage};
use crate::latency::{self, Timed};
use crate::memory::Resident;
use crate::sink::{Config, Sink, Stream, Totals};
use crate::trace::{self, Sample};
use crate::verify::{Verdict, Verifier};

/// The core of the server's workers; everything else is on core 0.
pub const SERVER_CPU: usize = 1;
/// The core of everything else.
pub const OTHER_CPU: usize = 0;
const CALIBRATION: Duration = Duration::from_millis(1000);
/// A server that has not drained by then has lost what is missing.
const DRAIN: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(20);

/// What is run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The call.
    pub table: Table,
    /// What is sent.
    pub media: Options,
    /// Seconds before the measured window.
    pub warm_up: u64,
    /// Seconds of the measured window.
    pub seconds: u64,
    /// Seconds after it in which the same is sent.
    pub cool_down: u64,
    /// The publishers' packets go straight onto the server's wire, as so many do not fit through sockets, and are taken from it on
    /// the server's core.
    pub by_link: bool,
    /// Where the sink takes its packets.
    pub napi: Napi,
    /// Cores of the server.
    pub cpus: Vec<usize>,
    /// Further options of `millrace-dataplane`.
    pub options: Vec<String>,
    /// Where `millrace-dataplane` is.
    pub programs: PathBuf,
    /// One in so many receivers is decrypted.
    pub sample_stride: u32,
}

impl Setup {
    /// A run of a table with the sink's NAPI on the other core.
    #[must_use]
    pub fn new(table: Table, seconds: u64, programs: &Path) -> Self {
        Self {
            table,
            media: Options::default(),
            warm_up: 2,
            seconds,
            cool_down: 0,
            by_link: false,
            napi: Napi::Thread(OTHER_CPU),
            cpus: vec![SERVER_CPU],
            options: Vec::new(),
            programs: programs.to_owned(),
            sample_stride: 100,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server's core and process in the window.
    pub usage: Usage,
    /// What each worker took of its process's time, ns.
    pub workers_ns: Vec<u64>,
    /// What the machine was before and after.
    pub calibrations: Calibrations,
    /// Packets that the sink counted in the window.
    pub forwarded: u64,
    /// What the generator counted, of the whole run.
    pub sent: Sent,
    /// What should have arrived: the generator's counts, once for each receiver of the track.
    pub expected: u64,
    /// What has arrived of that.
    pub delivered: u64,
    /// What has not, by medium: video, audio.
    pub lost: [u64; 2],
    /// Packets that arrived behind a later one, or twice.
    pub backward: u64,
    /// Streams that came although nobody subscribed to them.
    pub strange_streams: u64,
    /// Frames that the wire dropped: on the server's side, and on the sink's.
    pub wire_dropped: [u64; 2],
    /// The sink's sums.
    pub totals: Totals,
    /// Forwarding latency of the probes of the window, ns.
    pub latency: Histogram<u64>,
    /// That of every probe of the run.
    pub timed: Vec<Timed>,
    /// When the measured window began and ended, monotonic ns.
    pub window_ns: [u64; 2],
    /// What had left and what had come at many times of the run, where it has a time after the window.
    pub trace: Vec<Sample>,
    /// What the server says of its own latency (from the packet's arrival to when its copy was given to the kernel), µs: p50, p99
    /// and p99.9 since it was started; `None` where it has printed none.
    pub server_us: Option<[f64; 3]>,
    /// What it had in memory at the end of the window.
    pub resident: Resident,
    /// How its packets got out, in its own words.
    pub back_end: String,
    /// What became of the samples.
    pub verdict: Verdict,
    /// What the server has printed.
    pub log: String,
}

impl Outcome {
    /// CPU of the server's threads for each forwarded packet, µs.
    #[must_use]
    pub fn process_us(&self) -> f64 {
        self.usage.process_us(self.forwarded)
    }

    /// Time that the core did not have left for each forwarded packet, µs.
    #[must_use]
    pub fn core_us(&self) -> f64 {
        self.usage.core_us(self.calibrations.idle_rate(), self.forwarded)
    }

    /// Packets that did not arrive.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.delivered)
    }

    /// Packets per second in the window.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.usage.rate(self.forwarded)
    }
}

/// Runs the data plane once.
///
/// # Errors
/// When anything of it cannot be set up; what was measured is never an error.
pub fn run(setup: &Setup) -> Result<Outcome> {
    cpu::pin(OTHER_CPU)?;
    let plan = setup.table.plan()?;
    let folder = std::env::temp_dir().join(format!("millrace-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let table = folder.join("table.toml");
    std::fs::write(&table, setup.table.to_toml()?)?;
    let bed = Bed::create()?;
    let config = Config { sample_every: 64, sample_stride: setup.sample_stride, ..sink_config(&plan)? };
    let sink = Sink::attach(&bed.sink, SINK_INTERFACE, &config)?;
    bed.place_napi(setup.napi)?;
    if setup.cpus.contains(&OTHER_CPU) {
        // A worker there is in the FIFO class: it would keep its own receivers' end from taking what it sends.
        bed.hurry_napi()?;
    }
    let spinner = Spinner::start(SERVER_CPU)?;
    let before = Calibration::take(&spinner, CALIBRATION)?;
    let mut server = start(&bed, setup, &table, &folder)?;
    if setup.by_link {
        bed.place_server_napi(SERVER_CPU)?;
    }
    let measured = measure(&bed, setup, &plan, &sink, (&spinner, server.pid()));
    let _ = server.end(Duration::from_secs(5));
    let log = server.log_text();
    let measured = measured.with_context(|| format!("the server said:\n{log}"))?;
    let Measured { usage, workers_ns, resident, window_ns, forwarded, sent, verdict, trace } = measured;
    drop(server);
    let after = Calibration::take(&spinner, CALIBRATION)?;
    let streams = sink.streams()?;
    let count = compare(&plan, &sent, &streams);
    let timed = latency::timed(&sent.probes, &sink.arrivals()?);
    let in_window = timed.iter().filter(|one| (window_ns[0]..window_ns[1]).contains(&one.sent_ns));
    let outcome = Outcome {
        usage,
        workers_ns,
        resident,
        calibrations: Calibrations { before, after },
        forwarded,
        expected: count.expected,
        delivered: count.delivered,
        lost: count.lost,
        backward: streams.iter().map(|stream| stream.backward).sum(),
        strange_streams: count.strange,
        wire_dropped: bed.dropped()?,
        totals: sink.totals()?,
        latency: latency::histogram(in_window)?,
        timed,
        window_ns,
        trace,
        server_us: server_us(&log),
        back_end: back_end(&log),
        sent,
        verdict,
        log,
    };
    let _ = std::fs::remove_dir_all(&folder);
    Ok(outcome)
}

/// The sink's view of a plan whose receivers have addresses one after the other.
///
/// # Errors
/// When there is no receiver, or it has no IPv4 address.
pub fn sink_config(plan: &Plan) -> Result<Config> {
    let first: Option<Ipv4Addr> = plan.receivers.iter().filter_map(|receiver| v4(receiver.remote.ip())).min();
    Ok(Config::new(first.context("the table has no receivers")?, u32::try_from(plan.receivers.len())?))
}

const fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn start(bed: &Bed, setup: &Setup, table: &Path, folder: &Path) -> Result<Process> {
    let program = setup.programs.join("millrace-dataplane");
    anyhow::ensure!(program.exists(), "{} is not built: cargo build --release -p dataplane-daemon", program.display());
    let mut command = bed.server.command("taskset");
    let cpus: Vec<String> = setup.cpus.iter().map(ToString::to_string).collect();
    command.args(["-c", &cpus.join(",")]).arg(&program).arg("--table").arg(table);
    command.args(["--interface", SERVER_INTERFACE, "--xdp-mode", "native"]).args(&setup.options);
    let mut server = Process::spawn(command, &folder.join("dataplane.log"), false)?;
    server.wait_for_text("serving ", START_LIMIT)?;
    part(server.pid())?;
    // Paths are resolved by a thread of their own.
    std::thread::sleep(Duration::from_millis(700));
    Ok(server)
}

/// Threads that are no workers leave the workers' core, as they do where nobody confines the process: a worker is in the
/// FIFO class and would let none of them run while it has work, the resolver of its own paths among them. Their time counts.
///
/// # Errors
/// When the process is gone, or a thread cannot be moved.
pub fn part(pid: i32) -> Result<()> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?;
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if !name.starts_with("worker-") {
            let mut command = Command::new("taskset");
            command.args(["-pc", &OTHER_CPU.to_string()]).arg(task.file_name());
            tools_netlab::process::run(&mut command)?;
        }
    }
    Ok(())
}

/// The newest latency that the server has printed: `… latency p50 4.1 us p99 20.3 us p99.9 55.0 us`.
fn server_us(log: &str) -> Option<[f64; 3]> {
    let (_, words) = log.lines().rev().find_map(|line| line.split_once("latency p50 "))?;
    let mut figures = words.split_whitespace().filter_map(|word| word.parse().ok());
    Some([figures.next()?, figures.next()?, figures.next()?])
}

/// What the server has said of its port: the words behind the last time that it bound one.
fn back_end(log: &str) -> String {
    let said = log.lines().rev().find(|line| line.contains("AF_XDP sockets bound"));
    let words = said.and_then(|line| line.split_once("AF_XDP sockets bound, ")).map(|(_, words)| words);
    words.map_or_else(|| "sockets".to_owned(), |words| format!("AF_XDP native on veth, {words}"))
}

/// What a run gives while the server is there.
struct Measured {
    usage: Usage,
    workers_ns: Vec<u64>,
    resident: Resident,
    window_ns: [u64; 2],
    forwarded: u64,
    sent: Sent,
    verdict: Verdict,
    trace: Vec<Sample>,
}

fn measure(bed: &Bed, setup: &Setup, plan: &Plan, sink: &Sink, core: (&Spinner, i32)) -> Result<Measured> {
    let (stop, done, count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let mut sender = bed.generator.inside(|| Sender::open(plan, &setup.media))?;
    if setup.by_link {
        sender = sender.through(bed.link()?)?;
    }
    let verifier = bed.sink.inside(|| Verifier::open(plan, setup.sample_stride))?;
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| verifier.run(&done));
        let tracing = (setup.cool_down > 0).then(|| scope.spawn(|| trace::record(sink, &count, &done)));
        let sending = scope.spawn(|| sender.run(&stop, &count));
        let window = watch(setup, sink, core);
        let resident = Resident::of(core.1);
        std::thread::sleep(Duration::from_secs(setup.cool_down));
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| anyhow!("the generator panicked"));
        drain(sink);
        done.store(true, Ordering::Relaxed);
        let verdict = checking.join().map_err(|_| anyhow!("the verifier panicked"))?;
        let trace = tracing.map(|tracing| tracing.join().map_err(|_| anyhow!("the tracer panicked"))?).transpose()?;
        let Window { usage, workers_ns, window_ns, forwarded } = window?;
        Ok(Measured {
            usage,
            workers_ns,
            resident: resident?,
            window_ns,
            forwarded,
            sent: sent?,
            verdict,
            trace: trace.unwrap_or_default(),
        })
    })
}

struct Window {
    usage: Usage,
    workers_ns: Vec<u64>,
    window_ns: [u64; 2],
    forwarded: u64,
}

fn watch(setup: &Setup, sink: &Sink, (spinner, pid): (&Spinner, i32)) -> Result<Window> {
    std::thread::sleep(Duration::from_secs(setup.warm_up));
    let (before, began, workers) = (sink.rtp()?, mono_ns(), cpu::workers_ns(pid)?);
    let meter = Meter::start(spinner, pid)?;
    std::thread::sleep(Duration::from_secs(setup.seconds));
    let usage = meter.stop()?;
    let workers_ns = cpu::workers_ns(pid)?.iter().map(|(name, ns)| ns - workers.get(name).unwrap_or(&0)).collect();
    Ok(Window { usage, workers_ns, window_ns: [began, mono_ns()], forwarded: sink.rtp()? - before })
}

/// Until nothing has come for a while.
pub fn drain(sink: &Sink) {
    let until = Instant::now() + DRAIN;
    let mut last = sink.rtp().unwrap_or(0);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(150));
        let now = sink.rtp().unwrap_or(0);
        if now == last {
            return;
        }
        last = now;
    }
}

#[derive(Default)]
struct Count {
    expected: u64,
    delivered: u64,
    lost: [u64; 2],
    strange: u64,
}

fn compare(plan: &Plan, sent: &Sent, streams: &[Stream]) -> Count {
    let mut found: HashMap<(u32, u32), u64> =
        streams.iter().map(|stream| ((stream.receiver, stream.ssrc), stream.packets)).collect();
    let mut count = Count::default();
    for (at, receiver) in (0_u32..).zip(&plan.receivers) {
        for stream in &receiver.streams {
            let wanted = sent.packets.get(stream.publisher).and_then(|tracks| tracks.get(stream.track));
            let wanted = wanted.copied().unwrap_or(0);
            let got = found.remove(&(at, stream.ssrc)).unwrap_or(0);
            let track = plan.publishers.get(stream.publisher).and_then(|publisher| publisher.tracks.get(stream.track));
            let medium = usize::from(!track.is_some_and(dataplane_table::Track::is_video));
            count.expected += wanted;
            count.delivered += got.min(wanted);
            if let Some(lost) = count.lost.get_mut(medium) {
                *lost += wanted.saturating_sub(got);
            }
        }
    }
    count.strange = found.len() as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_lost_by_medium_and_what_nobody_asked_for_is_strange() {
        let table: Table = serde_json::from_value(serde_json::json!({
            "server": "10.77.0.1:10000",
            "publisher": [{ "name": "a", "remote": "10.32.0.1:1", "track": [
                { "codec": "vp8", "pt": 96, "ssrc": 1 }, { "codec": "opus", "pt": 111, "ssrc": 2 } ] }],
            "receiver": [{ "from": "a", "remote": "10.16.0.1:1", "count": 2, "ssrc": 100 }],
        }))
        .expect("a table");
        let plan = table.plan().expect("a plan");
        let sent = Sent { packets: vec![vec![10, 4]], ..Sent::default() };
        let stream = |receiver, ssrc, packets| Stream { receiver, ssrc, packets, ..Stream::default() };
        let streams = [stream(0, 100, 10), stream(0, 101, 4), stream(1, 102, 7), stream(1, 9, 3)];
        let count = compare(&plan, &sent, &streams);
        assert_eq!((count.expected, count.delivered, count.lost, count.strange), (28, 21, [3, 4], 1));
        assert_eq!(sink_config(&plan).expect("receivers").first.to_string(), "10.16.0.1");
    }

    #[test]
    fn the_servers_own_latency_is_the_last_that_it_has_printed() {
        let log = "serving\n 1 s  in 5/s  latency p50 4.1 us p99 20.3 us p99.9 55.0 us\n 2 s  latency p50 4.0 us p99 21.0 us p99.9 56.5 us\nend\n";
        assert_eq!(server_us(log), Some([4.0, 21.0, 56.5]));
        assert_eq!(server_us("serving\n"), None);
        let log = "INFO AF_XDP sockets bound, copy: no zero-copy on veth queues=1\nserving\n";
        assert_eq!(back_end(log), "AF_XDP native on veth, copy: no zero-copy on veth queues=1");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! How many clients join in a second: WebSocket, offer and answer, ICE, DTLS. Server and keeper share core 1, the bots core 0.
//! What a join costs is told by the CPU times of both planes, so that slow bots do not hide a fast server.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_scenarios::bed::{Bed, SERVER};
use bench_scenarios::cpu;
use bench_scenarios::run::{OTHER_CPU, SERVER_CPU};
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::process::Process;
use tools_netlab::report::Report;

/// Joins per second of one core that the server must do.
const LEAST_RATE: f64 = 500.0;
const HTTP_PORT: u16 = 8080;
const START_LIMIT: Duration = Duration::from_secs(20);
const JOIN_LIMIT_S: u64 = 60;
/// Between two looks at the CPU times.
const LOOK: Duration = Duration::from_millis(20);
/// What joining leaves behind: the last transports are told to the data plane.
const SETTLE: Duration = Duration::from_millis(300);
/// All bots come from one address: what protects against one person does not apply.
const LIMITS: &str = "open_rooms = true\n[limits]\npending_per_address = 8192\nunjoined_per_address = 8192\njoins_per_address_s = 8192\nparticipants_per_room = 8192\n";
/// The planes whose CPU counts.
const PLANES: [&str; 2] = ["controlplane", "dataplane"];

/// CPU times of the planes at a time, ns.
type Look = (Instant, [u64; 2]);

/// What the joins of one crowd came to.
struct Crowd {
    joined: u64,
    /// Until the last one had joined, s.
    joining_s: f64,
    /// CPU of each plane meanwhile, ns.
    cpu_ns: [u64; 2],
    bots: Value,
}

impl Crowd {
    /// Joins for each second of CPU.
    fn rate(&self) -> f64 {
        as_f64(self.joined) * 1e9 / as_f64(self.cpu_ns.iter().sum::<u64>().max(1))
    }
}

/// Lets crowds of so many bots join, one after the other, each a server of its own.
///
/// # Errors
/// When something cannot be started.
pub fn run(crowds: &[u32], rooms_of: u32, programs: &Path, json: Option<&Path>) -> Result<bool> {
    cpu::pin(OTHER_CPU)?;
    let mut report = Report::start("handshakes");
    report.note("command", json!(std::env::args().collect::<Vec<_>>()));
    console::line(&format!(
        "  {:>6} {:>9} {:>12} {:>14} {:>12} {:>9} {:>9}",
        "bots", "joined/s", "per CPU-s", "control us", "data us", "p50 ms", "p99 ms"
    ));
    let mut last = 0.0;
    for count in crowds {
        let crowd = crowd(*count, rooms_of, programs)?;
        let per_join = |at: usize| as_f64(crowd.cpu_ns[at]) / 1000.0 / as_f64(crowd.joined.max(1));
        let (control_us, data_us) = (per_join(0), per_join(1));
        last = crowd.rate();
        let rate = as_f64(crowd.joined) / crowd.joining_s;
        let [p50, p99] = ["p50", "p99"].map(|key| crowd.bots["join_ms"][key].as_f64().unwrap_or(0.0));
        console::line(&format!(
            "  {count:>6} {rate:>9.0} {last:>12.0} {control_us:>14.0} {data_us:>12.0} {p50:>9.0} {p99:>9.0}"
        ));
        let name = format!("handshakes.{count}");
        report.check(
            format!("{name}.joined"),
            crowd.joined,
            "bots",
            &format!("= {count}"),
            crowd.joined == u64::from(*count),
        );
        report.at_least(format!("{name}.joins_per_cpu_second"), Some(last), "1/s", LEAST_RATE);
        let figures = json!({"joins_per_second": rate, "joins_per_cpu_second": last, "controlplane_us": control_us,
            "dataplane_us": data_us, "join_ms": crowd.bots["join_ms"], "rooms_of": rooms_of});
        report.note(name, figures);
    }
    report.finish(json, &format!("{last:.0} joins for each second of CPU, rooms of {rooms_of}"))
}

/// A server, and so many bots that join it in rooms of `rooms_of`.
fn crowd(count: u32, rooms_of: u32, programs: &Path) -> Result<Crowd> {
    let folder = std::env::temp_dir().join(format!("millrace-handshakes-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("millrace.toml");
    std::fs::write(&config, LIMITS)?;
    let bed = Bed::create()?;
    let mut command = bed.server.command("taskset");
    command.args(["-c", &SERVER_CPU.to_string()]).arg(programs.join("millrace-keeper"));
    command.arg("--runtime-dir").arg(folder.join("run")).arg("--state-dir").arg(folder.join("state"));
    command.args(["--media-port", "10000", "--workers", "1", "--no-pin", "--media-address", SERVER]);
    command.args(["--listen-plain", &format!("{SERVER}:{HTTP_PORT}")]).arg("--config").arg(&config);
    let mut server = Process::spawn(command, &folder.join("server.log"), false)?;
    server.wait_for_text("Millrace is ready", START_LIMIT)?;
    let pids = PLANES.map(|plane| {
        let file = folder.join(format!("run/{plane}.pid"));
        std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok())
    });
    let [Some(control), Some(data)] = pids else { return Err(anyhow!("no process ids:\n{}", server.log_tail(5))) };
    let times = || anyhow::Ok([cpu::process_ns(control)?, cpu::process_ns(data)?]);
    let before = times()?;
    let began = Instant::now();
    let done = AtomicBool::new(false);
    let (looks, bots) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(&times, &done));
        let bots = join(&bed, count, rooms_of, programs);
        done.store(true, Ordering::Relaxed);
        (looking.join(), bots)
    });
    let bots = bots.with_context(|| format!("the server said:\n{}", server.log_tail(5)))?;
    let looks: Vec<Look> = looks.map_err(|_| anyhow!("the meter panicked"))?;
    let joining = Duration::from_millis(bots["joining_ms"].as_u64().context("bots without joining_ms")?);
    let until = began + joining + SETTLE;
    let at = looks.iter().find(|(at, _)| *at >= until).or_else(|| looks.last()).context("nothing was measured")?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(Crowd {
        joined: bots["joined"].as_u64().unwrap_or(0),
        joining_s: joining.as_secs_f64(),
        cpu_ns: [0, 1].map(|plane| at.1[plane].saturating_sub(before[plane])),
        bots,
    })
}

fn look(times: &(impl Fn() -> Result<[u64; 2]> + Sync), done: &AtomicBool) -> Vec<Look> {
    let mut looks = Vec::new();
    while !done.load(Ordering::Relaxed) {
        if let Ok(times) = times() {
            looks.push((Instant::now(), times));
        }
        std::thread::sleep(LOOK);
    }
    looks
}

/// Starts the bots and waits until they have gone; their report.
fn join(bed: &Bed, count: u32, rooms_of: u32, programs: &Path) -> Result<Value> {
    let address: Ipv4Addr = SERVER.parse()?;
    let mut command: Command = bed.sink.command(programs.join("millrace-bots"));
    command.args(["--url", &format!("ws://{address}:{HTTP_PORT}"), "--publishers", "0", "--seconds", "1", "--json"]);
    command.args(["--viewers", &count.to_string(), "--watch", "1", "--join-seconds", &JOIN_LIMIT_S.to_string()]);
    command.args(["--rooms-of", &rooms_of.to_string()]);
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.is_empty(), "bots: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).context("what the bots said")
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

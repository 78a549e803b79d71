// SPDX-License-Identifier: Apache-2.0
//! How many clients join in a second: WebSocket, offer and answer, ICE, DTLS. Server and keeper share core 1, the bots core 0.
//! What a join costs is told by the CPU times of both planes, so that slow bots do not hide a fast server.

pub mod beside;
mod windows;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_scenarios::bed::{Bed, SERVER};
use bench_scenarios::cpu;
use bench_scenarios::run::OTHER_CPU;
use bench_trafficgen::mono_ns;
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

use crate::server::millrace::{HTTP_PORT, Millrace};

/// Joins per second of one core that the server must do.
const LEAST_RATE: f64 = 500.0;
const JOIN_LIMIT_S: u64 = 60;
/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(20);
/// What joining leaves behind: the last transports are told to the data plane.
const SETTLE: Duration = Duration::from_millis(300);

/// What was seen at a time, monotonic ns.
type Look<T> = (u64, T);

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

/// Lets crowds of so many bots join, one after the other, each a server of its own; joins for each second of CPU of the last.
///
/// # Errors
/// When something cannot be started.
pub fn run(crowds: &[u32], rooms_of: u32, programs: &Path, report: &mut Report) -> Result<f64> {
    cpu::pin(OTHER_CPU)?;
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
    Ok(last)
}

/// A server, and so many bots that join it in rooms of `rooms_of`.
fn crowd(count: u32, rooms_of: u32, programs: &Path) -> Result<Crowd> {
    let bed = Bed::create()?;
    let server = Millrace::start(&bed, programs, &["--no-pin"])?;
    let before = server.times()?;
    let began = mono_ns();
    let done = AtomicBool::new(false);
    let (looks, bots) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(&|| server.times(), &done));
        let bots = join(&bed, count, rooms_of, programs);
        done.store(true, Ordering::Relaxed);
        (looking.join(), bots)
    });
    let bots = bots.with_context(|| format!("the server said:\n{}", server.log_tail()))?;
    let looks = looks.map_err(|_| anyhow!("the meter panicked"))?;
    let joining = joining(&bots)?;
    let until = began + nanoseconds(joining + SETTLE);
    let at = looks.iter().find(|(at, _)| *at >= until).or_else(|| looks.last()).context("nothing was measured")?;
    Ok(Crowd {
        joined: bots["joined"].as_u64().unwrap_or(0),
        joining_s: joining.as_secs_f64(),
        cpu_ns: [0, 1].map(|plane| at.1[plane].saturating_sub(before[plane])),
        bots,
    })
}

/// How long it took until all bots had joined.
fn joining(bots: &Value) -> Result<Duration> {
    bots["joining_ms"].as_u64().map(Duration::from_millis).context("bots without joining_ms")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Looks until `done`; what cannot be seen once is left out.
fn look<T>(see: &impl Fn() -> Result<T>, done: &AtomicBool) -> Vec<Look<T>> {
    let mut looks = Vec::new();
    while !done.load(Ordering::Relaxed) {
        looks.extend(see().ok().map(|seen| (mono_ns(), seen)));
        std::thread::sleep(LOOK);
    }
    looks
}

/// Starts the bots and waits until they have gone; their report.
fn join(bed: &Bed, count: u32, rooms_of: u32, programs: &Path) -> Result<Value> {
    let mut command: Command = bed.sink.command(programs.join("millrace-bots"));
    command.args(["--url", &format!("ws://{SERVER}:{HTTP_PORT}"), "--publishers", "0", "--seconds", "1", "--json"]);
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

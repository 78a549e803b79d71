// SPDX-License-Identifier: Apache-2.0
//! `lab whip`: clients that are no browsers. ffmpeg publishes by WHIP (it offers `setup:passive` and takes
//! `AES_CM_128_HMAC_SHA1_80`), Chromium publishes, aiortc watches by WHEP and decodes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::args::{Args, BACKEND, BIN_DIR, JSON, Known, WORKERS};
use super::browser::{Browser, COMMAND_LIMIT, Kind, Kit, Through};
use super::call::server_options;
use super::media::{COLOUR_TOLERANCE, PEOPLE, PITCH_TOLERANCE_HZ, Person};
use super::new_folder;
use super::server::Server;
use super::session::ROOM;
use super::verdict::{judge_counters, judge_health};
use crate::console;
use crate::install;
use crate::netns::{Bed, Endpoint};
use crate::process::{Process, run as run_command};
use crate::report::Report;

const WHEP_PY: &str = include_str!("../../drivers/whep.py");
const PUBLISHERS: [&str; 2] = ["ffmpeg", "chromium"];

/// A publisher of either sort; ends when dropped.
enum Publisher {
    Ffmpeg(Process),
    Browser(Box<Browser>),
}

impl Publisher {
    fn is_running(&mut self) -> bool {
        match self {
            Self::Ffmpeg(process) => process.is_running(),
            Self::Browser(browser) => browser.call("sample", json!({}), COMMAND_LIMIT).is_ok(),
        }
    }

    /// Why it is not running, for the terminal.
    fn last_words(&self) -> String {
        match self {
            Self::Ffmpeg(process) => process.log_tail(12),
            Self::Browser(_) => String::new(),
        }
    }
}

pub(crate) const OPTIONS: Known = &[
    ("publisher NAME", "ffmpeg or chromium [default: one after the other]"),
    ("subscriber NAME", "aiortc [default: aiortc]"),
    ("seconds N", "how long it watches [default: 10]"),
    BACKEND,
    WORKERS,
    JSON,
    BIN_DIR,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let wanted = args.choice("publisher", &PUBLISHERS)?;
    let wanted: Vec<&str> = PUBLISHERS.into_iter().filter(|name| wanted.is_none_or(|one| one == *name)).collect();
    args.choice("subscriber", &["aiortc"])?;
    let seconds: u64 = args.number("seconds", 10)?;
    let options = server_options(args)?;
    let folder = new_folder("whip")?;
    std::fs::write(folder.join("whep.py"), WHEP_PY)?;
    let kinds: &[Kind] = if wanted.contains(&"chromium") { &[Kind::Chromium] } else { &[] };
    let kit = Kit::install(kinds, Through::Whip, &folder)?;
    let python = install::ensure_pip(install::PYTHON_PACKAGES)?;
    let mut report = Report::start("whip");
    let mut bed = Bed::create()?;
    let server = Server::start(bed.add("server")?, &folder, &options)?;
    let watcher = bed.add("watcher")?;
    let before = server.settled_status()?;
    let mut figures = Vec::new();
    for (index, name) in wanted.iter().enumerate() {
        let endpoint = bed.add(name)?;
        let person = PEOPLE[index];
        let mut publisher = match *name {
            "ffmpeg" => Publisher::Ffmpeg(start_ffmpeg(&python, &endpoint, &server.origin, person, &folder)?),
            _ => Publisher::Browser(Box::new(start_chromium(&kit, endpoint, &server.origin, person)?)),
        };
        let task = [server.origin.as_str(), ROOM, name, &seconds.to_string()];
        let seen = watch(&python, &watcher, task, &folder)?;
        judge(&mut report, name, person, &seen);
        let is_running = publisher.is_running();
        report.holds(format!("{name}.still_publishing"), is_running);
        if !is_running {
            console::line(&publisher.last_words());
        }
        figures.push(format!("{name} → aiortc: {} frames decoded in {seconds} s", seen["video_frames"]));
        report.note(*name, seen);
    }
    judge_counters(&mut report, &server, &before, &server.settled_status()?);
    judge_health(&mut report, &server);
    let ok = report.finish(args.path("json").as_deref(), &figures.join(", "))?;
    if !ok {
        console::line(&format!("logs: {}", folder.display()));
    }
    Ok(ok)
}

/// ffmpeg with the same camera and tone as the browsers have, in its own namespace.
fn start_ffmpeg(python: &Path, at: &Endpoint, origin: &str, person: Person, folder: &Path) -> Result<Process> {
    let find = ["-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"];
    let found = run_command(Command::new(python).args(find))?;
    let ffmpeg = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let [red, green, blue] = person.colour;
    let picture = format!(
        "color=c=0x{red:02x}{green:02x}{blue:02x}:s=640x360:r=15[a];color=c=gray:s=80x40:r=15[b];\
         [a][b]overlay=x='mod(t*100,560)':y=300"
    );
    let mut command = at.namespace.command(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-re", "-f", "lavfi", "-i", &picture]);
    command.args(["-re", "-f", "lavfi", "-i", &format!("sine=frequency={}:sample_rate=48000", person.pitch)]);
    // It does not answer a request for a key frame, so one comes every second.
    command.args(["-c:v", "libx264", "-profile:v", "baseline", "-bf", "0", "-g", "15", "-pix_fmt", "yuv420p"]);
    command.args(["-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "500k"]);
    command.args(["-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip"]);
    command.arg(format!("{origin}/whip/{ROOM}?name=ffmpeg"));
    console::line("  ffmpeg publishes by WHIP");
    Process::spawn(command, &folder.join("ffmpeg.log"), false)
}

fn start_chromium(kit: &Kit, at: Endpoint, origin: &str, person: Person) -> Result<Browser> {
    let at = Arc::new(at);
    let mut browser = Browser::launch(kit, Kind::Chromium, ("chromium", person), at, (origin, ROOM))?;
    browser.call("join", json!({"name": "chromium"}), COMMAND_LIMIT)?;
    console::line("  chromium publishes by WHIP");
    Ok(browser)
}

/// aiortc watches `task` = [origin, room, participant, seconds] and reports what it decoded.
fn watch(python: &Path, at: &Endpoint, task: [&str; 4], folder: &Path) -> Result<Value> {
    let participant = task[2];
    console::line(&format!("  aiortc watches {participant} for {} s", task[3]));
    let mut command = at.namespace.command(python);
    command.arg(folder.join("whep.py")).args(task);
    let log = folder.join(format!("aiortc-{participant}.log"));
    let mut process = Process::spawn(command, &log, false)?;
    let seconds: u64 = task[3].parse()?;
    process.wait_for_exit(Duration::from_secs(seconds + 60))?;
    let text = process.log_text();
    let line = text.lines().find(|line| line.starts_with('{'));
    // A watcher that saw nothing at all is a result, not an accident: its checks fail below.
    line.map_or(Ok(Value::Null), |line| serde_json::from_str(line).context("what whep.py wrote")).inspect(|seen| {
        if seen.is_null() {
            console::line(&process.log_tail(12));
        }
    })
}

fn judge(report: &mut Report, name: &str, person: Person, seen: &Value) {
    let number = |key: &str| seen[key].as_f64();
    report.at_least(format!("{name}.video_frames_decoded"), number("video_frames"), "frames", 1.0);
    report.at_least(format!("{name}.audio_frames_decoded"), number("audio_frames"), "frames", 1.0);
    let parts: Vec<i64> =
        seen["colour"].as_array().map_or_else(Vec::new, |parts| parts.iter().filter_map(Value::as_i64).collect());
    let is_right = <[i64; 3]>::try_from(parts).is_ok_and(|colour| person.has_colour(colour));
    let bound = format!("{:?} ± {COLOUR_TOLERANCE}", person.colour);
    report.check(format!("{name}.colour"), seen["colour"].clone(), "rgb", &bound, is_right);
    let wanted = f64::from(person.pitch);
    let is_right = number("pitch").is_some_and(|pitch| (pitch - wanted).abs() <= PITCH_TOLERANCE_HZ);
    let bound = format!("{wanted} ± {PITCH_TOLERANCE_HZ}");
    report.check(format!("{name}.pitch"), seen["pitch"].clone(), "Hz", &bound, is_right);
}

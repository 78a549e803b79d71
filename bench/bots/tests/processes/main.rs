// SPDX-License-Identifier: Apache-2.0
//! Bots against the real programs over loopback. What `cargo build --release --workspace --bins` made is tested; where it
//! is missing this says SKIPPED and why.
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, clippy::print_stderr, reason = "tests")]

use std::fs::File;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BOTS: &str = env!("CARGO_BIN_EXE_millrace-bots");
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server of its own in a folder of its own.
struct Server {
    keeper: Child,
    folder: PathBuf,
    http_port: u16,
}

impl Server {
    fn start(name: &str) -> Option<Self> {
        let beside = |program: &str| Path::new(BOTS).with_file_name(program);
        let programs = ["millrace-keeper", "millrace-dataplane", "millrace-controlplane"];
        let missing: Vec<_> = programs.into_iter().filter(|program| !beside(program).exists()).collect();
        if !missing.is_empty() {
            // Past libtest's capture: the runner counts these lines.
            let why = "`cargo build --release --workspace --bins` makes what is not built";
            let _ = writeln!(std::io::stdout(), "SKIPPED: bots {name}: {why}: {missing:?}");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("millrace-bots-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let media_port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let http_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(folder.join("log")).unwrap();
        let keeper = Command::new(beside("millrace-keeper"))
            .arg("--runtime-dir")
            .arg(folder.join("run"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .args(["--media-port", &media_port.to_string(), "--listen-plain", &format!("127.0.0.1:{http_port}")])
            .args(["--media-address", "127.0.0.1", "--workers", "2", "--no-pin"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { keeper, folder, http_port };
        let end = Instant::now() + START_LIMIT;
        while !server.log().contains("Millrace is ready") {
            let has_ended = server.keeper.try_wait().unwrap().is_some();
            assert!(!has_ended && Instant::now() < end, "{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs bots; their exit status and their report.
    fn bots(&self, options: &[&str]) -> (Option<i32>, Value) {
        let url = format!("ws://127.0.0.1:{}", self.http_port);
        let output = Command::new(BOTS).args(["--url", &url, "--json"]).args(options).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}{}{}", String::from_utf8_lossy(&output.stderr), self.log());
        });
        (output.status.code(), report)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Ok(pid) = i32::try_from(self.keeper.id()) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM);
        }
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn four_bots_see_and_hear_each_other() {
    let Some(server) = Server::start("call") else { return };
    let (code, report) = server.bots(&["--publishers", "4", "--seconds", "6"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!((&report["joined"], &report["failed"]), (&4.into(), &0.into()));
    // Each shows camera and microphone of the three others.
    assert_eq!((&report["slots_shown"], &report["slots_alive"]), (&24.into(), &24.into()), "{report:#}");
    let received = &report["received"];
    assert_eq!((&received["strange"], &received["jumps"]), (&0.into(), &0.into()), "{report:#}");
    // A machine that does not run the bots in time loses what the kernel has no room for.
    let (packets, lost) = (received["packets"].as_u64().unwrap(), received["lost"].as_u64().unwrap());
    assert!(lost * 100 <= packets, "{report:#}");
    for bot in report["bots"].as_array().unwrap() {
        // Three others at 400 + 40 kbit/s; a part of the time is the ramp.
        let rate = bot["received_kbps"].as_u64().unwrap();
        assert!((400..2000).contains(&rate), "{bot:#}");
        assert!(bot["received"]["keyframes"].as_u64().unwrap() >= 3, "{bot:#}");
    }
}

#[test]
fn a_call_outlives_both_planes_and_no_number_is_spent_twice() {
    let Some(server) = Server::start("kill") else { return };
    let report = std::thread::scope(|scope| {
        let bots = scope.spawn(|| server.bots(&["--publishers", "2", "--viewers", "2", "--seconds", "8"]));
        for plane in ["controlplane", "dataplane"] {
            std::thread::sleep(Duration::from_secs(3));
            let pid = std::fs::read_to_string(server.folder.join(format!("run/{plane}.pid"))).unwrap();
            kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
        bots.join().unwrap()
    });
    let (code, report) = report;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["resumed"], 4, "each WebSocket comes back and keeps its transport: {report:#}");
    let received = &report["received"];
    assert_eq!((&received["repeated"], &received["undecryptable"]), (&0.into(), &0.into()), "{report:#}");
    // 2 cameras and 2 microphones at 45 and 50 packets/s, over six legs each: five of eight seconds at the least.
    assert!(received["packets"].as_u64().unwrap() > 6 * 95 * 5, "{report:#}");
}

#[test]
fn viewers_watch_and_a_room_that_is_not_there_is_said() {
    let Some(server) = Server::start("view") else { return };
    let (code, report) = server.bots(&["--publishers", "1", "--viewers", "3", "--seconds", "6", "--watch", "1"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!((&report["slots_shown"], &report["slots_alive"]), (&6.into(), &6.into()), "{report:#}");
    let (code, report) = server.bots(&["--publishers", "1", "--seconds", "0", "--room", "not a room"]);
    assert_eq!((code, &report["failed"]), (Some(1), &1.into()));
    assert!(report["bots"][0]["error"].as_str().unwrap().contains("bad_room"), "{report:#}");
}

#[test]
fn without_a_server_nobody_joins() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}");
    let output = Command::new(BOTS).args(["--url", &url, "--seconds", "0", "--join-seconds", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let wrong = Command::new(BOTS).args(["--url", "http://127.0.0.1"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("ws://"));
}

// SPDX-License-Identifier: Apache-2.0
//! A server of real processes in a folder of its own.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const KEEPER: &str = env!("CARGO_BIN_EXE_millrace-keeper");
const START_LIMIT: Duration = Duration::from_secs(20);
const STATE: [&str; 2] = ["keeper", "state"];

/// A folder's name that no other test has.
pub(crate) fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("millrace-{}-{}-{number}", STATE[0], std::process::id()))
}

/// A free UDP port and a free TCP port.
pub(crate) fn free_ports() -> [u16; 2] {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    [udp, tcp]
}

/// Waits until something holds; whether it came to hold.
pub(crate) fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).unwrap();
}

/// Whether a process has ended; who reaps it is not our business.
pub(crate) fn ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(KEEPER).with_file_name(name)
}

/// Whether the other programs are there; says so where they are not.
pub(crate) fn has_planes() -> bool {
    let names = ["millrace-dataplane", "millrace-controlplane", "millrace"];
    let missing: Vec<_> = names.into_iter().filter(|name| !beside(name).exists()).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?} not built; `cargo build --release --workspace --bins` makes them");
    }
    missing.is_empty()
}

/// What a keeper said that was expected to end by itself.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Said {
    pub(crate) fn says(&self, what: &str) -> bool {
        self.text.contains(what)
    }
}

/// Runs a keeper that ends by itself.
pub(crate) fn run(options: &[&str]) -> Said {
    run_program(Command::new(KEEPER), options)
}

/// Runs one of the other programs, which ends by itself.
pub(crate) fn run_beside(name: &str, options: &[&str]) -> Said {
    run_program(Command::new(beside(name)), options)
}

/// Runs a keeper elsewhere that ends by itself.
pub(crate) fn run_at(place: &Place, options: &[&str]) -> Said {
    run_program(place.command(KEEPER), options)
}

fn run_program(mut command: Command, options: &[&str]) -> Said {
    let log = scratch();
    let file = File::create(&log).unwrap();
    command.args(options).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut keeper = command.spawn().unwrap();
    let has_ended = until(START_LIMIT, || keeper.try_wait().unwrap().is_some());
    let _ = keeper.kill();
    let code = keeper.wait().unwrap().code();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(log).unwrap();
    assert!(has_ended, "it did not end: {text}");
    Said { code, text }
}

/// Where a server runs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) host: &'static str,
    /// Its network namespace, if it is another one.
    pub(crate) namespace: Option<String>,
}

impl Place {
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

pub(crate) struct Server {
    keeper: Child,
    pub(crate) place: Place,
    folder: PathBuf,
    options: Vec<String>,
    pub(crate) media_port: u16,
    pub(crate) http_port: u16,
}

impl Server {
    /// Starts keeper and planes on this host; `None` where their programs are missing.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        Self::start_at(Place { host: "127.0.0.1", namespace: None }, options)
    }

    /// The same elsewhere.
    pub(crate) fn start_at(place: Place, options: &[&str]) -> Option<Self> {
        if !has_planes() {
            return None;
        }
        let folder = scratch();
        std::fs::create_dir_all(&folder).unwrap();
        let [media_port, http_port] = free_ports();
        let options: Vec<String> = [
            "--runtime-dir",
            folder.join("run").to_str().unwrap(),
            "--state-dir",
            folder.join(STATE[1]).to_str().unwrap(),
            "--media-port",
            &media_port.to_string(),
            "--listen-plain",
            &format!("{}:{http_port}", place.host),
            "--media-address",
            place.host,
            "--workers",
            "2",
            "--no-pin",
        ]
        .iter()
        .chain(options)
        .map(ToString::to_string)
        .collect();
        let keeper = spawn(&place, &folder, &options);
        let mut server = Self { keeper, place, folder, options, media_port, http_port };
        server.wait_for_ready();
        Some(server)
    }

    /// A keeper that starts nothing.
    pub(crate) fn start_alone() -> Self {
        let folder = scratch();
        std::fs::create_dir_all(&folder).unwrap();
        let [media_port, http_port] = free_ports();
        let runtime = folder.join("run").display().to_string();
        let (port, place) = (media_port.to_string(), Place { host: "127.0.0.1", namespace: None });
        let options = ["--runtime-dir", &runtime, "--media-port", &port, "--workers", "2", "--no-spawn"];
        let options: Vec<String> = options.map(str::to_owned).to_vec();
        let keeper = spawn(&place, &folder, &options);
        let server = Self { keeper, place, folder, options, media_port, http_port };
        assert!(until(START_LIMIT, || server.path("keeper.pid").exists()), "{}", server.log());
        server
    }

    /// Starts another program, which writes into the same log.
    pub(crate) fn spawn_beside(&self, name: &str, options: &[&str]) -> Child {
        let log = File::options().append(true).open(self.folder.join("log")).unwrap();
        Command::new(beside(name)).args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait_for_ready(&mut self) {
        let is_ready = |log: &str| log.contains("Millrace is ready");
        until(START_LIMIT, || is_ready(&self.log()) || self.keeper.try_wait().unwrap().is_some());
        let log = self.log();
        assert!(!log.contains("layout fingerprint"), "rebuild: cargo build --release --workspace --bins");
        assert!(is_ready(&log), "{log}");
    }

    /// With the same options, after the one before has ended.
    pub(crate) fn start_again(&mut self) {
        self.keeper = spawn(&self.place, &self.folder, &self.options);
        self.wait_for_ready();
    }

    /// Something in the runtime directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join("run").join(name)
    }

    pub(crate) fn pid(&self, plane: &str) -> u32 {
        std::fs::read_to_string(self.path(&format!("{plane}.pid"))).unwrap().trim().parse().unwrap()
    }

    /// What all three have said since the keeper was started.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Exit status of `millrace status`.
    pub(crate) fn status(&self) -> i32 {
        let output =
            Command::new(beside("millrace")).args(["status", "--runtime-dir"]).arg(self.path("")).output().unwrap();
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stdout).lines().take(4).collect::<Vec<_>>().join("\n"));
        }
        output.status.code().unwrap()
    }

    /// What `millrace status --json` says.
    pub(crate) fn report(&self) -> serde_json::Value {
        let mut command = Command::new(beside("millrace"));
        let output = command.args(["status", "--json", "--runtime-dir"]).arg(self.path("")).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Packets that were dropped for a reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        let mut command = Command::new(beside("millrace"));
        let output = command.args(["drops", "--all", "--runtime-dir"]).arg(self.path("")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
        let count = words.filter(|words| words.get(1) == Some(&reason)).find_map(|words| words[0].parse().ok());
        count.unwrap_or_else(|| panic!("{text}"))
    }

    /// SIGKILL to the keeper alone.
    pub(crate) fn kill(&mut self) {
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
    }

    /// SIGTERM to the keeper, as from a supervisor; its exit status.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        signal(self.keeper.id(), Signal::TERM);
        self.keeper.wait().unwrap().code()
    }

    /// SIGINT to everything in the foreground, as from a terminal; the keeper's exit status.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        kill_process_group(pid_of(self.keeper.id()), Signal::INT).unwrap();
        self.keeper.wait().unwrap().code()
    }
}

fn spawn(place: &Place, folder: &Path, options: &[String]) -> Child {
    // Appended to: others may write into it as well.
    let _ = std::fs::remove_file(folder.join("log"));
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = place.command(KEEPER);
    command.args(options).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    command.spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

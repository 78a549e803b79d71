// SPDX-License-Identifier: Apache-2.0
//! `lab clean-room`: a fresh Debian with nothing but rustup's toolchain, a clone of the checkout, and
//! the two commands of the README: `cargo xtask run` must end with a URL that answers, `cargo xtask test` green.
//!
//! The room is a folder, entered in its own mount and process namespace; it shares the machine's network, because it
//! installs packages. What the machine needs to reach its package registries is copied in, credentials never are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::args::{Args, JSON, Known};
use super::new_folder;
use crate::console;
use crate::install;
use crate::process::{Process, run as run_command};
use crate::report::Report;

const ENTER: &str = include_str!("../../drivers/clean_room.sh");
const SUITE: &str = "bookworm";
/// What is there besides rustup: certificates, for the registries.
const PACKAGES: &str = "ca-certificates";
/// From a clean clone to the URL.
const RUN_LIMIT: Duration = Duration::from_secs(12 * 60);
/// A room with a cold cache on a loaded machine.
const TEST_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The last line of a long step is shown this often.
const PROGRESS: Duration = Duration::from_secs(15);
/// Settings by which this machine reaches its registries, when it has them.
const SETTINGS: [&str; 8] = [
    "etc/resolv.conf",
    "etc/hosts",
    "etc/pip.conf",
    "etc/apt/sources.list",
    "root/.cargo/config.toml",
    "root/.cargo/config",
    "root/.cargo/env",
    "root/.npmrc",
];
/// Folders of such settings.
const SETTING_FOLDERS: [&str; 3] = ["etc/apt/apt.conf.d", "etc/apt/sources.list.d", "usr/local/share/ca-certificates"];
/// Environment variables by which programs find registries, proxies and certificates.
const VARIABLES: [&str; 9] =
    ["PIP_", "NPM_CONFIG_", "npm_config_", "CARGO_", "RUSTUP_", "SSL_", "NODE_", "CURL_", "GIT_SSL_"];
const PROXY_VARIABLES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "REQUESTS_CA_BUNDLE",
];

pub(crate) const OPTIONS: Known = &[
    ("stage NAME", "run or test alone [default: both]"),
    ("keep WHAT", "yes: leaves the room where it is [default: no]"),
    JSON,
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let stage = args.choice("stage", &["run", "test"])?;
    let keep = args.choice("keep", &["yes", "no"])? == Some("yes");
    install::ensure_apt(&["debootstrap", "git", "util-linux", "iproute2"])?;
    let folder = new_folder("clean-room")?;
    let root = install::lab_dir()?.join("clean-room-root");
    build_room(&root)?;
    let script = folder.join("clean_room.sh");
    std::fs::write(&script, ENTER)?;
    let mut report = Report::start("clean-room");
    let mut figures = Vec::new();
    if stage != Some("test") {
        let seconds = judge_run(&mut report, &script, &root, &folder)?;
        figures
            .push(seconds.map_or_else(|| "no URL answered".to_owned(), |seconds| format!("URL after {seconds:.0} s")));
    }
    if stage != Some("run") {
        figures.push(judge_test(&mut report, &script, &root, &folder)?);
    }
    if !keep {
        console::line("  removing the room");
        remove(&root)?;
    }
    let ok = report.finish(args.path("json").as_deref(), &figures.join("; "))?;
    if !ok {
        console::line(&format!("logs: {}", folder.display()));
    }
    Ok(ok)
}

/// `cargo xtask run` until its URL answers; seconds that it took.
fn judge_run(report: &mut Report, script: &Path, root: &Path, folder: &Path) -> Result<Option<f64>> {
    let started = Instant::now();
    let mut process = enter(script, root, &["cargo", "xtask", "run"], &folder.join("run.log"))?;
    let mut seconds = None;
    follow(&mut process, RUN_LIMIT + Duration::from_secs(180), |text| {
        let is_answering = url(text).is_some_and(answers);
        if is_answering {
            seconds = Some(started.elapsed().as_secs_f64());
        }
        is_answering
    })?;
    report.holds("run.url_answers", seconds.is_some());
    report.at_most("run.seconds_to_url", seconds, "s", RUN_LIMIT.as_secs_f64());
    if seconds.is_none() {
        show_failure(&process);
    }
    Ok(seconds)
}

/// `cargo xtask test` to its end; the runner's summary line.
fn judge_test(report: &mut Report, script: &Path, root: &Path, folder: &Path) -> Result<String> {
    let started = Instant::now();
    let mut process = enter(script, root, &["cargo", "xtask", "test"], &folder.join("test.log"))?;
    follow(&mut process, TEST_LIMIT, |_| false)?;
    let status = process.wait_for_exit(Duration::from_secs(1))?;
    let code = status.and_then(|status| status.code());
    report.check("test.exit_status", json!(code), "", "= 0", code == Some(0));
    report.note("test.seconds", started.elapsed().as_secs_f64());
    let text = process.log_text();
    let skipped: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("SKIPPED")).collect();
    for line in &skipped {
        console::line(&format!("  {line}"));
    }
    let reasoned = skipped.iter().all(|line| line.split("SKIPPED").nth(1).is_some_and(|reason| reason.len() > 3));
    report.holds("test.every_skip_has_a_reason", reasoned);
    report.note("test.skipped", json!(skipped));
    if code != Some(0) {
        show_failure(&process);
    }
    Ok(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no summary").to_owned())
}

/// The lines that say what failed, and the end of the log.
fn show_failure(process: &Process) {
    let text = process.log_text();
    let wrong = |line: &&str| line.starts_with("error") || line.contains("FAILED") || line.contains("panicked at");
    for line in text.lines().filter(wrong).take(20) {
        console::line(&format!("  | {line}"));
    }
    console::line(&process.log_tail(12));
}

/// A fresh room: the cached base system, the toolchain, the machine's registry settings, a clone of the checkout.
fn build_room(root: &Path) -> Result<()> {
    remove(root)?;
    let base = install::lab_dir()?.join(format!("clean-room-{SUITE}-bare.tar"));
    if base.exists() {
        std::fs::create_dir_all(root)?;
        install::step(
            "the base system from its archive",
            Command::new("tar").arg("-xpf").arg(&base).arg("-C").arg(root),
        )?;
    } else {
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(root);
        install::step("debootstrap (some minutes, once)", &mut debootstrap)?;
        let part = base.with_extension("part");
        install::step("its archive", Command::new("tar").arg("-cpf").arg(&part).arg("-C").arg(root).arg("."))?;
        std::fs::rename(&part, &base)?;
    }
    copy_toolchain(root)?;
    copy_settings(root)?;
    let mut clone = Command::new("git");
    clone.args(["-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks"]);
    install::step("a clone of the checkout", clone.arg(install::checkout()).arg(root.join("root/millrace")))
}

/// rustup's proxies and toolchains. Nothing of cargo's caches: the room fetches and builds everything itself.
fn copy_toolchain(root: &Path) -> Result<()> {
    let home = PathBuf::from(std::env::var("HOME").context("HOME")?);
    let folder = |variable: &str, name: &str| std::env::var(variable).map_or_else(|_| home.join(name), PathBuf::from);
    let (cargo, rustup) = (folder("CARGO_HOME", ".cargo"), folder("RUSTUP_HOME", ".rustup"));
    ensure!(rustup.exists(), "{} is missing: the room takes rustup's toolchain from there", rustup.display());
    std::fs::create_dir_all(root.join("root/.cargo"))?;
    let mut copy = Command::new("cp");
    install::step("rustup's programs", copy.arg("-a").arg(cargo.join("bin")).arg(root.join("root/.cargo/bin")))?;
    install::step("rustup's toolchain", Command::new("cp").arg("-a").arg(&rustup).arg(root.join("root/.rustup")))
}

fn copy_settings(root: &Path) -> Result<()> {
    for name in SETTINGS {
        copy_setting(Path::new("/"), root, Path::new(name))?;
    }
    for folder in SETTING_FOLDERS {
        let Ok(entries) = std::fs::read_dir(Path::new("/").join(folder)) else { continue };
        for entry in entries {
            copy_setting(Path::new("/"), root, &Path::new(folder).join(entry?.file_name()))?;
        }
    }
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(Path::new("/").join(bundle), root.join(bundle)).context("copy the certificates")?;
    Ok(())
}

/// Copies one text file without the lines that hold credentials.
fn copy_setting(from: &Path, root: &Path, name: &Path) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(from.join(name)) else { return Ok(()) };
    let target = root.join(name);
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&target, without_credentials(&text)).with_context(|| format!("write {}", target.display()))
}

fn without_credentials(text: &str) -> String {
    text.lines().filter(|line| !holds_credentials(line)).map(|line| format!("{line}\n")).collect()
}

/// A line that names a secret, or a URL with a user in front of its host.
fn holds_credentials(line: &str) -> bool {
    let lower = line.to_lowercase();
    let names_one =
        ["token", "password", "_auth", "secret", "login", "credential"].iter().any(|word| lower.contains(word));
    let mut hosts = line.split("://").skip(1).map(|rest| rest.split('/').next().unwrap_or(rest));
    names_one || hosts.any(|host| host.contains('@'))
}

/// Starts a command inside the room.
fn enter(script: &Path, root: &Path, command: &[&str], log: &Path) -> Result<Process> {
    console::line(&format!("  in the room: {} (log: {})", command.join(" "), log.display()));
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--pid", "--fork", "--kill-child=TERM", "sh"]).arg(script).arg(root);
    outer.args(["env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "RUST_BACKTRACE=1"]);
    outer.arg("PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in std::env::vars() {
        let is_wanted =
            VARIABLES.iter().any(|start| name.starts_with(start)) || PROXY_VARIABLES.contains(&name.as_str());
        // Variables that cargo sets for its children describe this run, not the machine.
        let is_cargos = name.starts_with("CARGO_PKG") || name.starts_with("CARGO_MANIFEST") || name.ends_with("_HOME");
        let assignment = format!("{name}={value}");
        if is_wanted && !is_cargos && name != "CARGO" && name != "CARGO_TARGET_DIR" && !holds_credentials(&assignment) {
            outer.arg(assignment);
        }
    }
    outer.args(command);
    Process::spawn(outer, log, false)
}

/// Shows the last line from time to time until the process ends, `done` says so, or the limit passes.
fn follow(process: &mut Process, limit: Duration, mut done: impl FnMut(&str) -> bool) -> Result<()> {
    let (started, mut shown_at, mut shown) = (Instant::now(), Instant::now(), String::new());
    while started.elapsed() < limit {
        let text = process.log_text();
        if done(&text) || !process.is_running() {
            return Ok(());
        }
        if shown_at.elapsed() >= PROGRESS {
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned();
            if last != shown {
                console::line(&format!("  {:>4} s | {last}", started.elapsed().as_secs()));
                shown = last;
            }
            shown_at = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    console::line(&format!("  not done after {} s", limit.as_secs()));
    Ok(())
}

/// The URL in the line that says that the server is ready.
fn url(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.contains("Millrace is ready"))?;
    let start = line.find("http://")?;
    line[start..].split_whitespace().next()
}

/// True when a GET of the URL is answered with 200.
fn answers(url: &str) -> bool {
    let Some(host) = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()) else { return false };
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(String::from_utf8_lossy(&start).into_owned())
    };
    ask().is_ok_and(|start| start == "HTTP/1.1 200")
}

/// Removes the room. Nothing can be mounted inside: its mounts live in namespaces that have ended.
fn remove(root: &Path) -> Result<()> {
    if root.exists() {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let inside = format!(" {}/", root.display());
        ensure!(!mounts.contains(&inside), "something is mounted inside {}; unmount it first", root.display());
        run_command(Command::new("rm").args(["-rf", "--one-file-system"]).arg(root))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_outside_and_registries_come_in() {
        let settings = "registry=https://example.invalid/npm/\n//example.invalid/:_authToken=abc\n\
            index-url = https://user:word@example.invalid/simple\ncert = /etc/ssl/ca.crt\n";
        assert_eq!(without_credentials(settings), "registry=https://example.invalid/npm/\ncert = /etc/ssl/ca.crt\n");
        assert!(holds_credentials("CARGO_REGISTRIES_X_TOKEN=abc"));
        assert!(!holds_credentials("PIP_INDEX_URL=https://example.invalid/a@b"));
    }

    #[test]
    fn the_url_is_read_from_the_ready_line() {
        let text = "   Compiling x\nsee http://example.invalid/\nMillrace is ready: http://127.0.0.1:8080/ (Ctrl-C)\n";
        assert_eq!(url(text), Some("http://127.0.0.1:8080/"));
        assert_eq!(url("http://127.0.0.1:8080/"), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The runs that the page is made of, and the command of each.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use tools_netlab::{console, install};

/// Receivers of the sweep over N.
pub(crate) const SWEEP: [u32; 7] = [1, 10, 50, 100, 300, 1000, 3000];
/// Window of each run of the sweep, s.
const SWEEP_SECONDS: u32 = 5;
/// The runs that are no part of the sweep: file and words after `cargo xtask bench`.
const RUNS: [(&str, &str); 14] = [
    ("guard", "guard"),
    ("fanout", "fanout"),
    ("forward", "forward"),
    ("webinar", "webinar --receivers 3000 --seconds 60"),
    ("meeting", "meeting"),
    ("rooms", "rooms"),
    ("audio", "audio"),
    ("latency", "latency"),
    ("overload", "overload"),
    ("memory", "memory"),
    ("workers", "workers"),
    ("handshakes", "handshakes"),
    ("peers", "peers --peers janus,rtpengine,str0m,mediasoup,floor,uring --receivers 50"),
    ("peers-500", "peers --peers janus,rtpengine,str0m,mediasoup,floor,uring --receivers 500"),
];

/// The file of a run of the sweep, without `.json`.
pub(crate) fn sweep_file(receivers: u32) -> String {
    format!("webinar-{receivers}")
}

/// Every file with the words after `cargo xtask bench` that write it.
fn runs() -> Vec<(String, String)> {
    let mut runs: Vec<_> = RUNS.iter().map(|(file, words)| ((*file).to_owned(), (*words).to_owned())).collect();
    let sweep = SWEEP.map(|n| (sweep_file(n), format!("webinar --receivers {n} --seconds {SWEEP_SECONDS}")));
    runs.extend(sweep);
    runs
}

/// Whether the page is made of a file of this name; that of the other servers may be in pieces.
pub(crate) fn is_part(file: &str) -> bool {
    file.starts_with("peers") || runs().iter().any(|(name, _)| name == file)
}

/// The command that writes a file, for people.
pub(crate) fn command(file: &str) -> String {
    let words = runs().into_iter().find(|(name, _)| name == file).map_or_else(|| file.to_owned(), |(_, words)| words);
    format!("cargo xtask bench {words} --json target/bench/{file}.json")
}

/// Runs those whose file begins with one of the words, or all; true where each could be run. A bench that misses a bar has run.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(folder: &Path, only: &[String]) -> Result<bool> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let chosen: Vec<_> = runs()
        .into_iter()
        .filter(|(file, _)| only.is_empty() || only.iter().any(|word| file.starts_with(word.as_str())))
        .collect();
    let mut is_all = true;
    for (at, (file, words)) in chosen.iter().enumerate() {
        console::line(&format!("[{}/{}] cargo xtask bench {words}", at + 1, chosen.len()));
        let (path, began) = (std::path::absolute(folder.join(format!("{file}.json")))?, Instant::now());
        // Else a run that fails would show the figures of the one before.
        let _ = std::fs::remove_file(&path);
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(program);
        let mut words = words.split_whitespace();
        command.args(["xtask", "bench"]).args(words.next()).arg("--json").arg(&path).args(words);
        command.current_dir(install::checkout()).stdin(Stdio::null());
        command.status().context("cannot start cargo")?;
        let verdict = if path.exists() { "done" } else { "wrote nothing" };
        console::line(&format!("  {verdict} after {} s", began.elapsed().as_secs()));
        is_all &= path.exists();
    }
    Ok(is_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_its_command() {
        assert_eq!(command("audio"), "cargo xtask bench audio --json target/bench/audio.json");
        let sweep = "cargo xtask bench webinar --receivers 300 --seconds 5 --json target/bench/webinar-300.json";
        assert_eq!(command(&sweep_file(300)), sweep);
    }
}

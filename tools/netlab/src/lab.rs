// SPDX-License-Identifier: Apache-2.0
//! The lab runner: one end-to-end case per name, in network namespaces, with real clients.
//!
//! A lab says what it does as it goes, prints every check that does not hold, and its one-line figure last. It must
//! clean up after itself however it ends.

mod args;
mod browser;
mod call;
mod clean_room;
mod counters;
mod hostile;
mod load;
mod local;
mod media;
mod page;
mod restart_control;
mod screenshots;
mod server;
mod session;
mod verdict;
mod whip;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::{console, install, registry};

/// The labs: name and one line of what each shows.
pub const LABS: &[(&str, &str)] = &[
    ("call", "browsers publish and watch each other through the server"),
    ("page", "every control of the meeting page, in both browsers, with reload and outage"),
    ("screenshots", "pictures of the page in target/lab/screenshots"),
    ("whip", "ffmpeg and Chromium publish by WHIP, aiortc watches by WHEP"),
    ("hostile", "malformed, forged and replayed datagrams during a call"),
    ("restart-control", "the control plane is killed in a call, held down, and started again"),
    ("local", "a browser on the server's own host while XDP has the interface"),
    ("load", "the same call of bots over one back end after the other: processor time and latency"),
    ("clean-room", "`cargo xtask run` and `test` in a fresh Debian"),
];

/// Logs of that many runs are kept.
const KEPT_RUNS: usize = 12;

/// Runs the lab `name` with its own command-line arguments. `Ok(true)` only when every check holds.
///
/// # Errors
/// When the name or an argument is unknown, or when the lab could not be carried out.
pub fn run(name: &str, args: &[String]) -> Result<bool> {
    let run: fn(&[String]) -> Result<bool> = match name {
        "call" => call::run,
        "page" => page::run,
        "screenshots" => screenshots::run,
        "whip" => whip::run,
        "hostile" => hostile::run,
        "restart-control" => restart_control::run,
        "local" => local::run,
        "load" => load::run,
        "clean-room" => clean_room::run,
        _ => {
            let names: Vec<&str> = LABS.iter().map(|(name, _)| *name).collect();
            bail!("there is no lab {name:?}; the labs are {}", names.join(", "))
        }
    };
    if !registry::is_root() {
        bail!("lab {name} needs root: it makes network namespaces and opens raw sockets in them");
    }
    registry::clean_up_on_signals()?;
    install::ensure_apt(&["iproute2"])?;
    let swept = registry::sweep_stale()?;
    if swept > 0 {
        console::line(&format!("  removed {swept} namespaces that an ended lab had left"));
    }
    run(args)
}

/// A fresh folder `target/lab/runs/TIME-LAB` for logs and profiles; the oldest beyond [`KEPT_RUNS`] go.
fn new_folder(lab: &str) -> Result<PathBuf> {
    let runs = install::lab_dir()?.join("runs");
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let folder = runs.join(format!("{seconds}-{lab}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut old: Vec<PathBuf> = std::fs::read_dir(&runs)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    old.sort();
    for path in &old[..old.len().saturating_sub(KEPT_RUNS)] {
        let _ = std::fs::remove_dir_all(path);
    }
    Ok(folder)
}

/// The median of the values; `None` when there is none or one could not be measured.
fn median(values: &[Option<f64>]) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().collect::<Option<_>>()?;
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

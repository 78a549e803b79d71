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

use self::args::{Args, Known};
use crate::{console, install, registry};

/// A lab.
#[derive(Debug)]
pub struct Lab {
    /// As it is called.
    pub name: &'static str,
    /// One line of what it shows.
    pub shows: &'static str,
    options: Known,
    run: fn(&Args) -> Result<bool>,
}

impl Lab {
    const fn new(name: &'static str, shows: &'static str, options: Known, run: fn(&Args) -> Result<bool>) -> Self {
        Self { name, shows, options, run }
    }

    /// The one of a name.
    ///
    /// # Errors
    /// When there is none, with those that there are.
    pub fn find(name: &str) -> Result<&'static Self> {
        let names = || LABS.iter().map(|lab| lab.name).collect::<Vec<_>>().join(", ");
        LABS.iter()
            .find(|lab| lab.name == name)
            .with_context(|| format!("there is no lab {name:?}; the labs are {}", names()))
    }

    /// What it can be told, one option in a line.
    #[must_use]
    pub fn help(&self) -> String {
        args::help(self.options)
    }

    /// Whether it understands these words.
    ///
    /// # Errors
    /// The first that it does not, and what it knows.
    pub fn check(&self, words: &[String]) -> Result<()> {
        Args::parse(words, self.options).map(drop)
    }
}

/// The labs.
pub const LABS: &[Lab] = &[
    Lab::new("call", "browsers publish and watch each other through the server", call::OPTIONS, call::run),
    Lab::new(
        "page",
        "every control of the meeting page, in both browsers, with reload and outage",
        page::OPTIONS,
        page::run,
    ),
    Lab::new("screenshots", "pictures of the page in target/lab/screenshots", screenshots::OPTIONS, screenshots::run),
    Lab::new("whip", "ffmpeg and Chromium publish by WHIP, aiortc watches by WHEP", whip::OPTIONS, whip::run),
    Lab::new("hostile", "malformed, forged and replayed datagrams during a call", hostile::OPTIONS, hostile::run),
    Lab::new(
        "restart-control",
        "the control plane is killed in a call, held down, and started again",
        restart_control::OPTIONS,
        restart_control::run,
    ),
    Lab::new("local", "a browser on the server's own host while XDP has the interface", local::OPTIONS, local::run),
    Lab::new(
        "load",
        "the same call of bots over one back end after the other: processor time and latency",
        load::OPTIONS,
        load::run,
    ),
    Lab::new("clean-room", "`cargo xtask run` and `test` in a fresh Debian", clean_room::OPTIONS, clean_room::run),
];

/// Logs of that many runs are kept.
const KEPT_RUNS: usize = 12;

/// Runs the lab `name` with its own command-line arguments. `Ok(true)` only when every check holds.
///
/// # Errors
/// When the name or an argument is unknown, or when the lab could not be carried out.
pub fn run(name: &str, words: &[String]) -> Result<bool> {
    let lab = Lab::find(name)?;
    let args = Args::parse(words, lab.options)?;
    if !registry::is_root() {
        bail!("lab {name} needs root: it makes network namespaces and opens raw sockets in them");
    }
    registry::clean_up_on_signals()?;
    install::ensure_apt(&["iproute2"])?;
    let swept = registry::sweep_stale()?;
    if swept > 0 {
        console::line(&format!("  removed {swept} namespaces that an ended lab had left"));
    }
    (lab.run)(&args)
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

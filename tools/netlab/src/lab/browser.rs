// SPDX-License-Identifier: Apache-2.0
//! One browser in one namespace, driven by `drivers/browser.js` over JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::media::Person;
use crate::install;
use crate::netns::Endpoint;
use crate::process::Process;

const BROWSER_JS: &str = include_str!("../../drivers/browser.js");
const SENSES_JS: &str = include_str!("../../drivers/senses.js");
const ROOM_JS: &str = include_str!("../../drivers/room.js");
const WHIP_JS: &str = include_str!("../../drivers/whip.js");
/// Three launches of up to 90 s each.
const LAUNCH_LIMIT: Duration = Duration::from_secs(300);
/// One command to a page on a loaded machine.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Which browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Debian's Chromium.
    Chromium,
    /// Debian's Firefox ESR.
    Firefox,
}

impl Kind {
    /// Its name in options and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }

    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox-esr",
        }
    }

    /// Parses `chromium:2,firefox:1`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut kinds = Vec::new();
        for part in text.split(',') {
            let (name, count) = part.split_once(':').unwrap_or((part, "1"));
            let kind = [Self::Chromium, Self::Firefox].into_iter().find(|kind| kind.name() == name);
            let kind = kind.with_context(|| format!("--browsers {part}: chromium or firefox is expected"))?;
            let count: usize = count.parse().with_context(|| format!("--browsers {part}"))?;
            kinds.extend(std::iter::repeat_n(kind, count));
        }
        Ok(kinds)
    }
}

/// Through which door browsers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// The page, as a person does: WebSocket, one peer connection with slots.
    Page,
    /// WHIP and WHEP: one peer connection for each direction and participant.
    Whip,
}

impl Through {
    /// As `--through` names them.
    pub(crate) const NAMES: [&'static str; 2] = ["page", "whip"];

    /// Reads `--through`.
    pub(crate) fn parse(name: &str) -> Self {
        if name == "whip" { Self::Whip } else { Self::Page }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Whip => "whip",
        }
    }

    const fn script(self) -> (&'static str, &'static str) {
        match self {
            Self::Page => ("room.js", ROOM_JS),
            Self::Whip => ("whip.js", WHIP_JS),
        }
    }
}

/// A browser with its driver; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    stdin: Option<ChildStdin>,
    replies: Receiver<Value>,
    process: Process,
    next_id: u64,
    /// Which browser.
    pub(crate) kind: Kind,
    /// Its version, as it names itself.
    pub(crate) version: String,
    /// The participant's name.
    pub(crate) name: String,
    /// Its colour and pitch.
    pub(crate) person: Person,
    /// Where it is.
    pub(crate) endpoint: Arc<Endpoint>,
}

/// What the drivers need besides the browser: installed once for a lab.
#[derive(Debug)]
pub(crate) struct Kit {
    modules: PathBuf,
    folder: PathBuf,
    media: PathBuf,
    through: Through,
}

impl Kit {
    /// Installs browsers, puppeteer and tools; writes the drivers into `folder`.
    pub(crate) fn install(kinds: &[Kind], through: Through, folder: &Path) -> Result<Self> {
        let mut packages = vec!["iproute2", "ethtool"];
        packages.extend(kinds.iter().map(|kind| kind.package()));
        install::ensure_node()?;
        install::ensure_apt(&packages)?;
        let modules = install::ensure_npm(&[install::PUPPETEER])?;
        let media = install::lab_dir()?.join("media");
        std::fs::create_dir_all(&media)?;
        std::fs::write(folder.join("browser.js"), BROWSER_JS)?;
        let (script, text) = through.script();
        std::fs::write(folder.join("senses.js"), SENSES_JS)?;
        std::fs::write(folder.join(script), text)?;
        Ok(Self { modules, folder: folder.to_owned(), media, through })
    }
}

impl Browser {
    /// Starts driver and browser in `endpoint` on the page of `room`.
    pub(crate) fn launch(
        kit: &Kit,
        kind: Kind,
        who: (&str, Person),
        at: Arc<Endpoint>,
        url: (&str, &str),
    ) -> Result<Self> {
        let ((name, person), (origin, room)) = (who, url);
        let (camera, microphone) = person.write_files(&kit.media)?;
        let scripts = ["senses.js", kit.through.script().0].map(|script| kit.folder.join(script));
        let config = json!({
            "browser": kind.name(), "executable": format!("/usr/bin/{}", kind.package()), "modules": kit.modules,
            "profile": kit.folder.join(format!("profile-{name}")), "origin": origin, "room": room,
            "through": kit.through.name(),
            "scripts": scripts, "camera": camera, "microphone": microphone,
            "colour": person.colour, "pitch": person.pitch,
        });
        let mut command = at.namespace.command("node");
        command.arg(kit.folder.join("browser.js")).arg(config.to_string());
        // A home of its own: no lock, cache or crash report is shared with another browser or a person's.
        let home = kit.folder.join(format!("home-{name}"));
        std::fs::create_dir_all(&home)?;
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        let mut process = Process::spawn(command, &kit.folder.join(format!("{name}.log")), true)?;
        let stdout = process.child().stdout.take().context("the driver's stdout")?;
        let stdin = process.child().stdin.take();
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(reply) = serde_json::from_str::<Value>(&line) else { continue };
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        let name = name.to_owned();
        let mut browser =
            Self { stdin, replies, process, next_id: 0, kind, version: String::new(), name, person, endpoint: at };
        let launched = browser.call("launch", json!({}), LAUNCH_LIMIT)?;
        browser.version = launched["version"].as_str().unwrap_or_default().to_owned();
        Ok(browser)
    }

    /// Sends one command without waiting; its number goes to [`Self::finish`].
    pub(crate) fn begin(&mut self, operation: &str, arguments: Value) -> Result<u64> {
        self.next_id += 1;
        let mut command = arguments;
        command["op"] = json!(operation);
        command["id"] = json!(self.next_id);
        let stdin = self.stdin.as_mut().context("the driver is closed")?;
        writeln!(stdin, "{command}").with_context(|| format!("{}: send {operation}", self.name))?;
        Ok(self.next_id)
    }

    /// Waits for the answer to the command with number `id`.
    pub(crate) fn finish(&mut self, id: u64, limit: Duration) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            match self.replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(mut reply) if reply["id"] == id => {
                    if reply["ok"] == true {
                        return Ok(reply["value"].take());
                    }
                    bail!("{} ({}): {}", self.name, self.kind.name(), reply["error"]);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{}: no answer within {} s:\n{}", self.name, limit.as_secs(), self.process.log_tail(15))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{}: its driver ended:\n{}", self.name, self.process.log_tail(15))
                }
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn call(&mut self, operation: &str, arguments: Value, limit: Duration) -> Result<Value> {
        let id = self.begin(operation, arguments)?;
        self.finish(id, limit).with_context(|| operation.to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input makes the driver close the browser in good order.
        self.stdin = None;
        let _ = self.process.wait_for_exit(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_browsers_names_each_with_its_count() {
        let kinds = Kind::parse_list("chromium:2,firefox:1").expect("a list");
        assert_eq!(kinds, [Kind::Chromium, Kind::Chromium, Kind::Firefox]);
        assert_eq!(Kind::parse_list("firefox").expect("one"), [Kind::Firefox]);
        assert!(Kind::parse_list("safari:1").is_err());
        assert!(Kind::parse_list("chromium:x").is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One browser in one namespace with a tab for each person, driven by `drivers/page_driver.js` over JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::super::browser::Kind;
use super::super::media::Person;
use crate::install;
use crate::netns::Endpoint;
use crate::process::Process;

const DRIVER_JS: &str = include_str!("../../../drivers/page_driver.js");
const INSIDE_JS: &str = include_str!("../../../drivers/page_inside.js");
/// Launching takes three attempts of 90 s at worst, anything else much less.
const REPLY_LIMIT: Duration = Duration::from_secs(300);

/// A browser with its driver; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Driver {
    stdin: Option<ChildStdin>,
    replies: Receiver<Value>,
    process: Process,
    next_id: u64,
    pub(crate) kind: Kind,
    pub(crate) version: String,
    pub(crate) endpoint: Endpoint,
}

/// What a tab is opened with.
#[derive(Debug, Clone)]
pub(crate) struct Tab<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: &'a str,
    pub(crate) size: (u32, u32),
    pub(crate) dark: bool,
    /// What `page_inside.js` does: `without`, `deny`, `insecure`, `portrait`, `slides`.
    pub(crate) inside: Value,
}

impl<'a> Tab<'a> {
    /// A usual window on `path`.
    pub(crate) fn new(name: &'a str, path: &'a str) -> Self {
        Self { name, path, size: (1280, 800), dark: false, inside: json!({}) }
    }

    pub(crate) fn inside(self, inside: Value) -> Self {
        Self { inside, ..self }
    }
}

/// Installs what the drivers need; returns the folder of node's modules.
pub(crate) fn install_kit(kinds: &[Kind]) -> Result<PathBuf> {
    let mut packages = vec!["iproute2", "ethtool"];
    packages.extend(kinds.iter().map(|kind| kind.package()));
    install::ensure_node()?;
    install::ensure_apt(&packages)?;
    install::ensure_npm(&[install::PUPPETEER])
}

impl Driver {
    /// Starts driver and browser in `endpoint`, for the server at `origin`, with its files in `folder`.
    pub(crate) fn launch(kind: Kind, who: (&str, Person), at: Endpoint, origin: &str, folder: &Path) -> Result<Self> {
        let (name, person) = who;
        let modules = install_kit(&[kind])?;
        let media = install::lab_dir()?.join("media");
        std::fs::create_dir_all(&media)?;
        let (camera, microphone) = person.write_files(&media)?;
        let (script, inside) = (folder.join("page_driver.js"), folder.join("page_inside.js"));
        std::fs::write(&script, DRIVER_JS)?;
        std::fs::write(&inside, INSIDE_JS)?;
        let config = json!({
            "browser": kind.name(), "executable": format!("/usr/bin/{}", kind.package()), "modules": modules,
            "profile": folder.join(format!("profile-{name}")), "origin": origin, "inside": inside,
            "camera": camera, "microphone": microphone, "pitch": person.pitch,
        });
        let mut command = at.namespace.command("node");
        command.arg(&script).arg(config.to_string());
        let home = folder.join(format!("home-{name}"));
        std::fs::create_dir_all(&home)?;
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        let mut process = Process::spawn(command, &folder.join(format!("{name}.log")), true)?;
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
        let mut driver = Self { stdin, replies, process, next_id: 0, kind, version: String::new(), endpoint: at };
        let launched = driver.call("launch", json!({}))?;
        driver.version = launched["version"].as_str().unwrap_or_default().to_owned();
        Ok(driver)
    }

    /// Sends a command and waits for its answer.
    fn call(&mut self, operation: &str, arguments: Value) -> Result<Value> {
        self.next_id += 1;
        let mut command = arguments;
        command["op"] = json!(operation);
        command["id"] = json!(self.next_id);
        let stdin = self.stdin.as_mut().context("the driver is closed")?;
        writeln!(stdin, "{command}").with_context(|| format!("send {operation}"))?;
        loop {
            match self.replies.recv_timeout(REPLY_LIMIT) {
                Ok(mut reply) if reply["id"] == self.next_id => {
                    if reply["ok"] == true {
                        return Ok(reply["value"].take());
                    }
                    bail!("{} {operation} {command}: {}", self.kind.name(), reply["error"]);
                }
                Ok(_) => {}
                Err(_) => bail!("{} does not answer {command}:\n{}", self.kind.name(), self.process.log_tail(15)),
            }
        }
    }

    pub(crate) fn open(&mut self, tab: &Tab<'_>) -> Result<()> {
        let Tab { name, path, size, dark, inside } = tab;
        let arguments = json!({"tab": name, "path": path, "size": [size.0, size.1], "dark": dark, "inside": inside});
        self.call("open", arguments).map(drop)
    }

    pub(crate) fn close(&mut self, tab: &str) -> Result<()> {
        self.call("close", json!({ "tab": tab })).map(drop)
    }

    pub(crate) fn visit(&mut self, tab: &str, path: &str) -> Result<()> {
        self.call("visit", json!({"tab": tab, "path": path})).map(drop)
    }

    pub(crate) fn reload(&mut self, tab: &str) -> Result<()> {
        self.call("reload", json!({ "tab": tab })).map(drop)
    }

    pub(crate) fn front(&mut self, tab: &str) -> Result<()> {
        self.call("front", json!({ "tab": tab })).map(drop)
    }

    pub(crate) fn size(&mut self, tab: &str, width: u32, height: u32) -> Result<()> {
        self.call("size", json!({"tab": tab, "size": [width, height]})).map(drop)
    }

    /// Clicks the middle of the element.
    pub(crate) fn click(&mut self, tab: &str, id: &str) -> Result<()> {
        self.call("click", json!({"tab": tab, "element": id})).map(drop)
    }

    pub(crate) fn press(&mut self, tab: &str, key: &str) -> Result<()> {
        self.call("press", json!({"tab": tab, "key": key})).map(drop)
    }

    /// Replaces what stands in a field.
    pub(crate) fn type_into(&mut self, tab: &str, id: &str, text: &str) -> Result<()> {
        self.call("type", json!({"tab": tab, "element": id, "text": text})).map(drop)
    }

    pub(crate) fn choose(&mut self, tab: &str, id: &str, value: &str) -> Result<()> {
        self.call("choose", json!({"tab": tab, "element": id, "value": value})).map(drop)
    }

    /// The value of an expression inside the page.
    pub(crate) fn read(&mut self, tab: &str, expression: &str) -> Result<Value> {
        self.call("read", json!({"tab": tab, "expression": expression}))
    }

    /// Milliseconds until the expression holds; `None` when `limit` passes first.
    pub(crate) fn until(&mut self, tab: &str, expression: &str, limit: Duration) -> Result<Option<f64>> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        let arguments = json!({"tab": tab, "expression": expression, "timeoutMs": limit_ms});
        Ok(self.call("until", arguments)?["ms"].as_f64())
    }

    pub(crate) fn picture(&mut self, tab: &str, file: &Path) -> Result<()> {
        self.call("picture", json!({"tab": tab, "file": file})).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The end of its input makes the driver close the browser in good order.
        self.stdin = None;
        let _ = self.process.wait_for_exit(Duration::from_secs(5));
    }
}

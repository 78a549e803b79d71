// SPDX-License-Identifier: Apache-2.0
//! A call in progress: the bed, the server and the browsers, all publishing and all watching each other.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::browser::{Browser, COMMAND_LIMIT, Kind, Kit, Through};
use super::media::PEOPLE;
use super::server::{Server, ServerOptions};
use crate::console;
use crate::netns::Bed;
use crate::relay::Impairment;

/// The room of every lab.
pub(crate) const ROOM: &str = "lab";
/// After that long without a picture a watcher gives up.
const FIRST_FRAME_LIMIT_MS: u64 = 20_000;

/// A deliberate fault, to show that the checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// By WHEP the first participant asks for others than it claims to watch.
    Swap,
    /// The first participant's leg loses 5 % of what comes to it.
    Drop,
    /// The last participant is silent.
    Mute,
}

/// Who takes part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cast<'c> {
    /// One browser each.
    pub(crate) kinds: &'c [Kind],
    /// By which door they come.
    pub(crate) through: Through,
    /// The first browser runs where the server runs.
    pub(crate) is_first_local: bool,
}

impl<'c> Cast<'c> {
    /// Everybody in a namespace of their own.
    pub(crate) const fn remote(kinds: &'c [Kind], through: Through) -> Self {
        Self { kinds, through, is_first_local: false }
    }
}

/// How long things took, for one (publisher, watcher).
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Index of the publisher.
    pub(crate) from: usize,
    /// Index of the watcher.
    pub(crate) to: usize,
    /// From the click of the one who came later, or from the WHEP POST, to the first decoded frame, in ms.
    pub(crate) join_ms: Option<f64>,
}

/// The running call. Fields end in order: browsers, server, bed.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) browsers: Vec<Browser>,
    pub(crate) server: Server,
    pub(crate) bed: Bed,
    pub(crate) pairs: Vec<Pair>,
    /// Offer to its answer, in ms, of each participant: over the WebSocket, or by WHIP.
    pub(crate) answer_ms: Vec<Option<f64>>,
    /// When each participant clicked, in ms of the epoch.
    clicked: Vec<Option<f64>>,
    /// By which door they came.
    pub(crate) through: Through,
    /// Where logs and profiles are.
    pub(crate) folder: PathBuf,
}

/// What a page reports about all it plays, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Value);

impl Sample {
    /// The page's clock, in ms.
    pub(crate) fn at_ms(&self) -> f64 {
        self.0["at"].as_f64().unwrap_or(f64::NAN)
    }

    /// The number `key` about `media` (`video`, `audio`) from `publisher`.
    pub(crate) fn number(&self, publisher: &str, media: &str, key: &str) -> Option<f64> {
        self.0["views"][publisher][media][key].as_f64()
    }

    /// The SRTP cipher's name, when the browser reports it.
    pub(crate) fn cipher(&self, publisher: &str) -> Option<&str> {
        self.0["views"][publisher]["srtpCipher"].as_str()
    }

    /// The SRTP cipher of its own publishing connection.
    pub(crate) fn publishing_cipher(&self) -> Option<&str> {
        self.0["published"]["srtpCipher"].as_str()
    }

    /// Everything, for the report's series.
    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}

impl Session {
    /// Builds the bed, starts the server and the browsers; nobody publishes yet.
    pub(crate) fn start(
        cast: &Cast<'_>,
        options: &ServerOptions,
        sabotage: Option<Sabotage>,
        folder: &Path,
    ) -> Result<Self> {
        let kit = Kit::install(cast.kinds, cast.through, folder)?;
        let mut bed = Bed::create()?;
        let endpoint = Arc::new(bed.add("server")?);
        let server = Server::start(Arc::clone(&endpoint), folder, options)?;
        console::line(&format!("  the server is ready: {} (log: {})", server.origin, server.log().display()));
        let mut browsers = Vec::new();
        for (index, kind) in cast.kinds.iter().enumerate() {
            let name = format!("p{}", index + 1);
            let loses = sabotage == Some(Sabotage::Drop) && index == 0;
            let loss = Impairment { seed: 5, loss_ppm: 50_000, ..Impairment::default() };
            let at = if cast.is_first_local && index == 0 {
                Arc::clone(&endpoint)
            } else if loses {
                Arc::new(bed.add_impaired(&name, Impairment::default(), loss)?)
            } else {
                Arc::new(bed.add(&name)?)
            };
            let person = *PEOPLE.get(index).context("more participants than colours")?;
            let url = (server.origin.as_str(), ROOM);
            let browser = Browser::launch(&kit, *kind, (&name, person), at, url)?;
            console::line(&format!("  {name} is up: {}", kind.name()));
            browsers.push(browser);
        }
        let folder = folder.to_owned();
        Ok(Self {
            browsers,
            server,
            bed,
            pairs: Vec::new(),
            clicked: Vec::new(),
            answer_ms: Vec::new(),
            through: cast.through,
            folder,
        })
    }

    /// Everybody joins, and everybody sees all others.
    pub(crate) fn join_all(&mut self, sabotage: Option<Sabotage>) -> Result<()> {
        self.join(0..self.browsers.len(), sabotage)
    }

    /// Some join after those who are there, and each of them sees, and is seen by, everybody who is there then.
    pub(crate) fn join(&mut self, who: Range<usize>, sabotage: Option<Sabotage>) -> Result<()> {
        for browser in &mut self.browsers[who.clone()] {
            let name = browser.name.clone();
            let joined = browser.call("join", json!({ "name": name }), COMMAND_LIMIT)?;
            console::line(&format!("  {name} has joined"));
            self.answer_ms.push(joined["answerMs"].as_f64());
            self.clicked.push(joined["at"].as_f64());
        }
        if let (Some(Sabotage::Mute), Some(last)) = (sabotage, self.browsers.last_mut()) {
            last.call("mute", json!({}), COMMAND_LIMIT)?;
        }
        for to in 0..who.end {
            for from in (0..who.end).filter(|from| *from != to && (who.contains(from) || who.contains(&to))) {
                self.see(from, to, sabotage)?;
            }
        }
        Ok(())
    }

    /// Waits for the first frame of one at another.
    fn see(&mut self, from: usize, to: usize, sabotage: Option<Sabotage>) -> Result<()> {
        let names: Vec<String> = self.browsers.iter().map(|browser| browser.name.clone()).collect();
        let browser = &mut self.browsers[to];
        let since = match self.through {
            Through::Page => self.clicked[from].zip(self.clicked[to]).map(|(one, other)| one.max(other)),
            Through::Whip => {
                let is_swapped = sabotage == Some(Sabotage::Swap) && to == 0;
                let asked = if is_swapped { (from + 1) % names.len() } else { from };
                let arguments = json!({"claim": names[from], "ask": names[asked]});
                browser.call("watch", arguments, COMMAND_LIMIT)?["at"].as_f64()
            }
        };
        let wait = json!({"claim": names[from], "timeoutMs": FIRST_FRAME_LIMIT_MS});
        let first = browser.call("firstFrame", wait, COMMAND_LIMIT)?["at"].as_f64();
        let join_ms = since.zip(first).map(|(since, first)| first - since);
        let shown = join_ms.map_or_else(|| "no frame".to_owned(), |ms| format!("first frame after {ms:.0} ms"));
        console::line(&format!("  {} sees {}: {shown}", names[to], names[from]));
        self.pairs.push(Pair { from, to, join_ms });
        Ok(())
    }

    /// The same question at once to all browsers that have joined; answers in their order.
    fn ask_all(&mut self, operation: &str) -> Result<Vec<Value>> {
        let joined = self.clicked.len();
        let browsers = &mut self.browsers[..joined];
        let ids: Result<Vec<u64>> = browsers.iter_mut().map(|browser| browser.begin(operation, json!({}))).collect();
        let asked = browsers.iter_mut().zip(ids?);
        asked.map(|(browser, id)| browser.finish(id, COMMAND_LIMIT)).collect()
    }

    /// Statistics of every browser.
    pub(crate) fn sample(&mut self) -> Result<Vec<Sample>> {
        Ok(self.ask_all("sample")?.into_iter().map(Sample).collect())
    }

    /// What every browser sees and hears: `{publisher: {colour, pitch}}` each.
    pub(crate) fn perceive(&mut self) -> Result<Vec<Value>> {
        self.ask_all("perceive")
    }

    /// Everybody stops watching and publishing.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.ask_all("leave").map(drop)
    }

    /// The name of a pair in reports: `p1-to-p2`.
    pub(crate) fn pair_name(&self, pair: &Pair) -> String {
        format!("{}-to-{}", self.browsers[pair.from].name, self.browsers[pair.to].name)
    }
}

/// Waits with a reason to the terminal.
pub(crate) fn wait(time: Duration, what: &str) {
    if !time.is_zero() {
        console::line(&format!("  {what}: {:.0} s", time.as_secs_f64()));
        std::thread::sleep(time);
    }
}

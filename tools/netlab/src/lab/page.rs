// SPDX-License-Identifier: Apache-2.0
//! `lab page`: every control of the meeting page is pressed as a person presses it, in Chromium and in Firefox, and what the
//! others see of it is looked at. Then a reload, a network outage of ten seconds, and each message of what can go wrong.
//!
//! It must never look into the page's modules: what is checked is what a person sees.

mod driver;
mod entrance;
mod errors;
mod meeting;
mod outage;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

pub(crate) use self::driver::{Driver, Tab, install_kit};
use super::args::{Args, BACKEND, BIN_DIR, FAMILY, JSON, Known, WORKERS};
use super::browser::Kind;
use super::call::server_options;
use super::media::PEOPLE;
use super::server::{Server, ServerOptions};
use super::verdict::judge_health;
use super::{median, new_folder};
use crate::console;
use crate::netns::Bed;
use crate::report::Report;

/// Click on "Join" to the first decoded frame, over the pairs of three participants.
const JOIN_MS: f64 = 1500.0;
/// Reload or end of an outage to a moving picture.
const RESUME_MS: f64 = 3000.0;
/// Whatever a control does is done after this.
pub(crate) const STEP: Duration = Duration::from_secs(10);
/// The room of the fourth chapter takes no more.
const ROOM_LIMIT: usize = 3;

/// The running bed. Fields end in order: browsers, server, bed.
pub(crate) struct Stand {
    /// Chromium and Firefox.
    pub(crate) browsers: [Driver; 2],
    pub(crate) server: Server,
    _bed: Bed,
}

/// The checks, with the browser's name in front of them.
pub(crate) struct Steps<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) prefix: String,
}

impl Steps<'_> {
    /// It happened within `most_ms`.
    pub(crate) fn within(&mut self, name: &str, took_ms: Option<f64>, most_ms: f64) {
        let name = format!("{}.{name}", self.prefix);
        if took_ms.is_none_or(|took| took > most_ms) {
            console::line(&format!("    {name}: {took_ms:?} ms"));
        }
        self.report.at_most(name, took_ms, "ms", most_ms);
    }

    /// It happened while it was waited for.
    pub(crate) fn happened(&mut self, name: &str, took_ms: Option<f64>) {
        self.within(name, took_ms, STEP.as_secs_f64() * 1000.0);
    }

    /// A fact.
    pub(crate) fn holds(&mut self, name: &str, ok: bool) {
        let name = format!("{}.{name}", self.prefix);
        if !ok {
            console::line(&format!("    {name} does not hold"));
        }
        self.report.holds(name, ok);
    }
}

/// The expression: the element is on the page and not hidden.
pub(crate) fn shown(id: &str) -> String {
    format!("document.getElementById({id:?})?.hidden === false")
}

/// The expression for somebody's tile, by the participant's id.
pub(crate) fn tile(id: &str) -> String {
    format!("document.querySelector('[data-testid=\"tile-{id}\"]')")
}

/// The expression: a picture moves on the tile.
pub(crate) fn moves(id: &str) -> String {
    format!("labAge('tile-{id}') < 400 && {}?.dataset.shown !== undefined", tile(id))
}

/// Clicks and looks whether the expression then holds.
pub(crate) fn click_until(driver: &mut Driver, tab: &str, id: &str, expression: &str) -> Result<Option<f64>> {
    driver.click(tab, id)?;
    driver.until(tab, expression, STEP)
}

/// Opens a room in a new tab, gives a name and joins; returns when the button was pressed.
pub(crate) fn enter(driver: &mut Driver, tab: &Tab<'_>, name: &str) -> Result<()> {
    driver.open(tab)?;
    let is_ready = format!("{} && document.getElementById('preview-video').videoWidth > 0", shown("prejoin"));
    driver.until(tab.name, &is_ready, STEP)?.context("the prejoin page shows no camera")?;
    driver.type_into(tab.name, "prejoin-name", name)?;
    driver.click(tab.name, "join")?;
    driver.until(tab.name, &shown("room"), STEP)?.with_context(|| format!("{name} does not come into the room"))?;
    Ok(())
}

pub(crate) const OPTIONS: Known = &[
    ("only CHAPTER", "one of entrance, meeting, joining, outage, errors [default: all]"),
    BACKEND,
    WORKERS,
    FAMILY,
    JSON,
    BIN_DIR,
];

type Chapter = fn(&mut Report, &mut Stand) -> Result<()>;

/// What is shown one after the other.
const CHAPTERS: [(&str, Chapter); 5] = [
    ("entrance", entrance::run),
    ("meeting", meeting::run),
    ("joining", judge_joining),
    ("outage", outage::run),
    ("errors", errors::run),
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut options = server_options(args)?;
    let only = args.choice("only", &CHAPTERS.map(|(name, _)| name))?;
    let folder = new_folder("page")?;
    let config = folder.join("millrace.toml");
    std::fs::write(&config, format!("[limits]\nparticipants_per_room = {ROOM_LIMIT}\n"))?;
    options.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let mut report = Report::start("page");
    let mut stand = Stand::start(&options, &folder)?;
    for browser in &stand.browsers {
        report.note(format!("{}.browser", browser.kind.name()), browser.version.as_str());
    }
    for (name, chapter) in CHAPTERS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        console::line(&format!("  {name}"));
        if let Err(error) = chapter(&mut report, &mut stand) {
            // The other chapters still tell something.
            console::line(&format!("    {error:#}"));
            report.check(format!("{name}.carried_out"), format!("{error:#}"), "", "= to its end", false);
        }
    }
    judge_health(&mut report, &stand.server);
    let figure = format!("in {} and {}", stand.browsers[0].version, stand.browsers[1].version);
    drop(stand);
    let ok = report.finish(args.path("json").as_deref(), &figure)?;
    if !ok {
        console::line(&format!("logs: {}", folder.display()));
    }
    Ok(ok)
}

impl Stand {
    fn start(options: &ServerOptions, folder: &std::path::Path) -> Result<Self> {
        install_kit(&[Kind::Chromium, Kind::Firefox])?;
        let mut bed = Bed::create()?;
        let server = Server::start(bed.add("server")?, folder, options)?;
        let [first, second, ..] = PEOPLE;
        let mut launch = |kind: Kind, person| {
            Driver::launch(kind, (kind.name(), person), bed.add(kind.name())?, &server.origin, folder)
        };
        let browsers = [launch(Kind::Chromium, first)?, launch(Kind::Firefox, second)?];
        console::line("  the server and both browsers are up");
        Ok(Self { browsers, server, _bed: bed })
    }
}

/// Three participants in two browsers: from each click on "Join" to the picture of each other one.
fn judge_joining(report: &mut Report, stand: &mut Stand) -> Result<()> {
    let people = [("ann", 0), ("bob", 1), ("cy", 0)];
    for (at, (name, browser)) in people.into_iter().enumerate() {
        let inside = json!({ "portrait": 40 + 90 * at });
        enter(&mut stand.browsers[browser], &Tab::new(name, "/r/joining").inside(inside), name)?;
        for (earlier, its_browser) in &people[..at] {
            stand.browsers[browser].until(name, &moves(earlier), STEP)?;
            stand.browsers[*its_browser].until(earlier, &moves(name), STEP)?;
        }
    }
    let mut times = Vec::new();
    for (name, browser) in people {
        times.push(stand.browsers[browser].read(name, "labTimes")?);
    }
    let mut joins = Vec::new();
    for (to, (_, _)) in people.iter().enumerate() {
        for (from, (name, _)) in people.iter().enumerate().filter(|(from, _)| *from != to) {
            let shown = times[to]["shown"][format!("tile-{name}")].as_f64();
            let clicked = times[to]["joined"].as_f64().zip(times[from]["joined"].as_f64());
            joins.push(shown.zip(clicked).map(|(shown, (own, its))| shown - own.max(its)));
        }
    }
    report.at_most("joining.click_to_picture_median_ms", median(&joins), "ms", JOIN_MS);
    report.note("joining.click_to_picture_ms", json!(joins));
    for (name, browser) in people {
        let driver = &mut stand.browsers[browser];
        driver.click(name, "control-leave")?;
        driver.until(name, &shown("farewell"), STEP)?;
        driver.close(name)?;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! `lab screenshots`: pictures of the page for people to look at, in `target/lab/screenshots`. The only checks are that each
//! picture was taken with everything on it that should be.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::args::{Args, BACKEND, BIN_DIR, FAMILY, JSON, Known, WORKERS};
use super::browser::Kind;
use super::call::server_options;
use super::media::PEOPLE;
use super::new_folder;
use super::page::{Driver, STEP, Tab, enter, install_kit, moves, shown};
use super::server::Server;
use crate::netns::Bed;
use crate::report::Report;
use crate::{console, install};

/// People besides the one whose window is photographed.
const OTHERS: [&str; 8] = [
    "Grace Hopper",
    "Alan Turing",
    "Katherine Johnson",
    "Edsger Dijkstra",
    "Radia Perlman",
    "Donald Knuth",
    "Hedy Lamarr",
    "Ken Thompson",
];
const VIEWER: &str = "Ada Lovelace";
/// The tab of the viewer.
const TAB: &str = "viewer";

/// One run: the browser, where pictures go, what was taken.
struct Studio<'a> {
    driver: &'a mut Driver,
    folder: PathBuf,
    report: &'a mut Report,
}

pub(crate) const OPTIONS: Known = &[BACKEND, WORKERS, FAMILY, JSON, BIN_DIR];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let options = server_options(args)?;
    let run_folder = new_folder("screenshots")?;
    let folder = install::lab_dir()?.join("screenshots");
    std::fs::create_dir_all(&folder)?;
    install_kit(&[Kind::Chromium])?;
    let mut report = Report::start("screenshots");
    let mut bed = Bed::create()?;
    let server = Server::start(bed.add("server")?, &run_folder, &options)?;
    let at = bed.add("browser")?;
    let [person, ..] = PEOPLE;
    let mut driver = Driver::launch(Kind::Chromium, ("browser", person), at, &server.origin, &run_folder)?;
    let mut studio = Studio { driver: &mut driver, folder: folder.clone(), report: &mut report };
    studio.entrance()?;
    studio.meetings()?;
    drop(driver);
    let ok = report.finish(args.path("json").as_deref(), &format!("in {}", folder.display()))?;
    Ok(ok)
}

impl Studio<'_> {
    fn take(&mut self, name: &str) -> Result<()> {
        // Transitions of tiles and dialogs end.
        std::thread::sleep(std::time::Duration::from_millis(700));
        let file = self.folder.join(format!("{name}.png"));
        self.driver.picture(TAB, &file)?;
        let length = std::fs::metadata(&file).map(|held| held.len()).unwrap_or(0);
        self.report.check(format!("{name}.png"), length, "bytes", "> 4000", length > 4000);
        console::line(&format!("  {}", file.display()));
        Ok(())
    }

    fn entrance(&mut self) -> Result<()> {
        for (suffix, size, dark) in
            [("", (1280, 800), false), ("-dark", (1280, 800), true), ("-360", (360, 740), false)]
        {
            let tab = Tab { size, dark, ..Tab::new(TAB, "/") }.inside(json!({"portrait": 200}));
            self.driver.open(&tab)?;
            self.driver.until(TAB, &shown("landing"), STEP)?.context("no landing page")?;
            self.take(&format!("landing{suffix}"))?;
            self.driver.type_into(TAB, "landing-name", VIEWER)?;
            self.driver.visit(TAB, "/r/quiet-green-river")?;
            let is_seen = "document.getElementById('preview-video').videoWidth > 0";
            self.driver.until(TAB, is_seen, STEP)?.context("no camera on the prejoin page")?;
            self.take(&format!("prejoin{suffix}"))?;
            self.driver.close(TAB)?;
        }
        Ok(())
    }

    /// One room that fills: alone, two, five, nine; light and dark; a phone; a shared screen.
    fn meetings(&mut self) -> Result<()> {
        let room = "/r/quiet-green-river";
        enter(self.driver, &Tab::new(TAB, room).inside(json!({"portrait": 200, "slides": true})), VIEWER)?;
        self.driver.until(TAB, &moves("self"), STEP)?;
        self.take("room-1")?;
        let mut here = 1;
        for wanted in [2, 5, 9] {
            while here < wanted {
                let name = OTHERS[here - 1];
                let inside = json!({"portrait": here * 43, "slides": true});
                enter(self.driver, &Tab::new(name, room).inside(inside), name)?;
                if here % 3 == 0 {
                    self.driver.press(name, "m")?;
                }
                if here % 5 == 4 {
                    self.driver.press(name, "v")?;
                }
                here += 1;
            }
            self.driver.front(TAB)?;
            let pictures = OTHERS[..here - 1].iter().enumerate().filter(|(at, _)| (at + 1) % 5 != 4);
            for (_, name) in pictures {
                let id = name.to_lowercase().replace(' ', "-");
                let found = self.driver.until(TAB, &moves(&id), STEP * 2)?;
                self.report.holds(format!("room-{here}.{id}"), found.is_some());
            }
            self.take(&format!("room-{here}"))?;
        }
        self.variants()
    }

    /// Waits until the shared screen is there: nine pages in one browser take a small machine's breath.
    fn see_screen(&mut self) -> Result<()> {
        let is_calm = format!("{} && document.getElementById('banner').hidden", moves("grace-hopper-screen"));
        self.driver.until(TAB, &is_calm, STEP * 4)?.map(drop).context("no shared screen")
    }

    fn variants(&mut self) -> Result<()> {
        self.driver.click(TAB, "control-people")?;
        self.take("room-9-people")?;
        self.driver.click(TAB, "people-close")?;
        self.driver.read(TAB, "void (document.documentElement.dataset.theme = 'dark')")?;
        self.take("room-9-dark")?;
        self.driver.size(TAB, 360, 740)?;
        self.take("room-9-360")?;
        self.driver.size(TAB, 1280, 800)?;
        self.driver.front(OTHERS[0])?;
        self.driver.click(OTHERS[0], "control-share")?;
        self.driver.front(TAB)?;
        self.see_screen()?;
        self.take("room-screen-dark")?;
        self.driver.read(TAB, "void (document.documentElement.dataset.theme = 'light')")?;
        self.see_screen()?;
        self.take("room-screen")?;
        self.driver.size(TAB, 360, 740)?;
        self.see_screen()?;
        self.take("room-screen-360")?;
        self.driver.size(TAB, 1280, 800)?;
        self.driver.click(TAB, "control-settings")?;
        self.take("settings")?;
        self.driver.press(TAB, "Escape")?;
        self.driver.click(TAB, "control-leave")?;
        self.driver.until(TAB, &shown("farewell"), STEP)?;
        self.take("farewell")
    }
}

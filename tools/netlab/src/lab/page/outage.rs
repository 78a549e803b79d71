// SPDX-License-Identifier: Apache-2.0
//! The network of one participant goes away for ten seconds and comes back: the page says so, and goes on by itself.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Driver, RESUME_MS, STEP, Stand, Steps, Tab, enter, moves, shown};
use crate::report::Report;

const TAB: &str = "outage";
const ROOM: &str = "/r/outage";
/// How long the interface is down.
const OUTAGE: Duration = Duration::from_secs(10);

pub(super) fn run(report: &mut Report, stand: &mut Stand) -> Result<()> {
    let [chromium, firefox] = &mut stand.browsers;
    enter(chromium, &Tab::new(TAB, ROOM), "Ann")?;
    enter(firefox, &Tab::new(TAB, ROOM), "Bob")?;
    cut(report, (chromium, "ann"), (firefox, "bob"))?;
    cut(report, (firefox, "bob"), (chromium, "ann"))?;
    for driver in [chromium, firefox] {
        driver.click(TAB, "control-leave")?;
        driver.close(TAB)?;
    }
    Ok(())
}

fn cut(report: &mut Report, actor: (&mut Driver, &str), other: (&mut Driver, &str)) -> Result<()> {
    let (driver, id) = actor;
    let (watcher, other_id) = other;
    let mut steps = Steps { report, prefix: driver.kind.name().to_owned() };
    steps.happened("outage.sees_the_other_before", driver.until(TAB, &moves(other_id), STEP)?);
    steps.happened("outage.is_seen_before", watcher.until(TAB, &moves(id), STEP)?);
    let down = Instant::now();
    driver.endpoint.unplug()?;
    let told = format!("{} && document.getElementById('banner').textContent.includes('Reconnecting')", shown("banner"));
    steps.happened("outage.is_told", driver.until(TAB, &told, STEP)?);
    std::thread::sleep(OUTAGE.saturating_sub(down.elapsed()));
    // A picture that goes on would show that the outage is none.
    let stands = driver.read(TAB, &format!("labAge('tile-{other_id}') > 3000"))?;
    steps.holds("outage.picture_stands", stands == true);
    driver.endpoint.plug()?;
    let up = Instant::now();
    let since = |found: Option<f64>| found.map(|_| up.elapsed().as_secs_f64() * 1000.0);
    let seen = driver.until(TAB, &moves(other_id), STEP)?;
    steps.within("outage.sees_the_other_again", since(seen), RESUME_MS);
    let seen = watcher.until(TAB, &moves(id), STEP)?;
    steps.within("outage.is_seen_again", since(seen), RESUME_MS);
    steps.happened("outage.banner_goes", driver.until(TAB, "document.getElementById('banner').hidden", STEP)?);
    let count = watcher.read(TAB, "document.querySelectorAll('.tile').length")?;
    steps.holds("outage.is_the_same_participant", count == 2);
    Ok(())
}

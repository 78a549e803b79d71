// SPDX-License-Identifier: Apache-2.0
//! Landing and prejoin: validation, a new meeting and its link, appearance, preview, devices, toggles.

use anyhow::Result;

use super::super::browser::Kind;
use super::{Driver, STEP, Stand, Steps, Tab, click_until, shown};
use crate::report::Report;

const TAB: &str = "entrance";

pub(super) fn run(report: &mut Report, stand: &mut Stand) -> Result<()> {
    for driver in &mut stand.browsers {
        let mut steps = Steps { report, prefix: driver.kind.name().to_owned() };
        driver.open(&Tab::new(TAB, "/"))?;
        landing(&mut steps, driver)?;
        appearance(&mut steps, driver)?;
        new_meeting(&mut steps, driver)?;
        preview(&mut steps, driver)?;
        devices(&mut steps, driver)?;
        driver.close(TAB)?;
    }
    Ok(())
}

fn landing(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    steps.happened("landing.shown", driver.until(TAB, &shown("landing"), STEP)?);
    driver.type_into(TAB, "landing-name", "Ann Ant")?;
    driver.type_into(TAB, "landing-room", "Bad!Room")?;
    let is_refused = "document.getElementById('landing-room').getAttribute('aria-invalid') === 'true' \
        && document.getElementById('landing-room-hint').textContent.includes('!')";
    steps.happened("landing.bad_name_is_said_while_typing", driver.until(TAB, is_refused, STEP)?);
    driver.click(TAB, "landing-join")?;
    steps.holds("landing.bad_name_does_not_join", driver.read(TAB, &shown("landing"))? == true);
    driver.type_into(TAB, "landing-room", "Stand Up")?;
    let is_meant = "document.getElementById('landing-room-hint').textContent.includes('stand-up')";
    steps.happened("landing.meant_name_is_said", driver.until(TAB, is_meant, STEP)?);
    driver.press(TAB, "Enter")?;
    let is_there = format!("{} && location.pathname === '/r/stand-up'", shown("prejoin"));
    steps.happened("landing.enter_joins", driver.until(TAB, &is_there, STEP)?);
    driver.read(TAB, "history.back()")?;
    steps.happened("landing.back", driver.until(TAB, &shown("landing"), STEP)?);
    Ok(())
}

/// Three presses go through light and dark and back to the system's.
fn appearance(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    for theme in ["light", "dark"] {
        let is_so = format!(
            "document.documentElement.dataset.theme === '{theme}' && \
             getComputedStyle(document.documentElement).colorScheme === '{theme}'"
        );
        steps.happened(&format!("appearance.{theme}"), click_until(driver, TAB, "theme", &is_so)?);
    }
    driver.reload(TAB)?;
    let is_kept = "document.documentElement.dataset.theme === 'dark'";
    steps.happened("appearance.kept_by_a_reload", driver.until(TAB, is_kept, STEP)?);
    let is_auto = "document.documentElement.dataset.theme === undefined";
    steps.happened("appearance.auto", click_until(driver, TAB, "theme", is_auto)?);
    Ok(())
}

fn new_meeting(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    let name = driver.read(TAB, "document.getElementById('landing-name').value")?;
    steps.holds("landing.name_is_remembered", name == "Ann Ant");
    let is_there = format!("{} && /^\\/r\\/[a-z]+-[a-z]+-[a-z]+$/.test(location.pathname)", shown("prejoin"));
    steps.happened("new_meeting.has_three_words", click_until(driver, TAB, "new-meeting", &is_there)?);
    let is_copied = "document.getElementById('prejoin-copy').textContent.includes('Copied')";
    steps.happened("new_meeting.link_is_copied", click_until(driver, TAB, "prejoin-copy", is_copied)?);
    if driver.kind == Kind::Chromium {
        // Firefox lets no page read the clipboard without a click on its own menu.
        let is_link = driver.read(TAB, "navigator.clipboard.readText().then((text) => text === location.href)")?;
        steps.holds("new_meeting.link_is_the_rooms", is_link == true);
    }
    Ok(())
}

fn preview(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    let is_seen = "document.getElementById('preview-video').videoWidth > 0";
    steps.happened("prejoin.camera_is_seen", driver.until(TAB, is_seen, STEP)?);
    let is_mirrored = "getComputedStyle(document.getElementById('preview-video')).transform.startsWith('matrix(-1')";
    steps.holds("prejoin.camera_is_mirrored", driver.read(TAB, is_mirrored)? == true);
    let off = "document.getElementById('prejoin-cam').getAttribute('aria-pressed') === 'false' \
        && document.getElementById('preview-off').hidden === false";
    steps.happened("prejoin.camera_off", click_until(driver, TAB, "prejoin-cam", off)?);
    let on = "document.getElementById('preview-off').hidden && document.getElementById('preview-video').videoWidth > 0";
    steps.happened("prejoin.camera_on", click_until(driver, TAB, "prejoin-cam", on)?);
    if driver.kind == Kind::Chromium {
        // Firefox without a sound card never starts its audio context.
        let hears = "Number(document.getElementById('prejoin-meter').getAttribute('aria-valuenow')) > 20";
        steps.happened("prejoin.level_moves", driver.until(TAB, hears, STEP)?);
    }
    let muted = "document.getElementById('prejoin-mic').getAttribute('aria-label') === 'Unmute'";
    steps.happened("prejoin.mute", click_until(driver, TAB, "prejoin-mic", muted)?);
    let silent = "document.getElementById('prejoin-meter').getAttribute('aria-valuenow') === '0'";
    steps.happened("prejoin.level_rests", driver.until(TAB, silent, STEP)?);
    let open = "document.getElementById('prejoin-mic').getAttribute('aria-label') === 'Mute'";
    steps.happened("prejoin.unmute", click_until(driver, TAB, "prejoin-mic", open)?);
    Ok(())
}

/// Each select has a device; choosing one again opens it anew.
fn devices(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    for kind in ["microphone", "camera"] {
        let id = format!("prejoin-{kind}");
        let value = driver.read(TAB, &format!("[...document.getElementById('{id}').options].at(-1).value"))?;
        let value = value.as_str().unwrap_or_default();
        steps.holds(&format!("prejoin.{kind}_choice"), !value.is_empty());
        driver.choose(TAB, &id, value)?;
        let is_kept = format!("JSON.parse(localStorage.getItem('millrace.preferences')).devices.{kind} === '{value}'");
        steps.happened(&format!("prejoin.{kind}_is_chosen"), driver.until(TAB, &is_kept, STEP)?);
    }
    let is_seen =
        "document.getElementById('preview-video').videoWidth > 0 && document.getElementById('preview-off').hidden";
    steps.happened("prejoin.chosen_camera_is_seen", driver.until(TAB, is_seen, STEP)?);
    steps.holds(
        "prejoin.speaker_choice",
        driver.read(TAB, "document.getElementById('prejoin-speaker').options.length > 0")? == true,
    );
    Ok(())
}

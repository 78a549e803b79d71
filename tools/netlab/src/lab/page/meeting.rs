// SPDX-License-Identifier: Apache-2.0
//! Two people, one in each browser, take turns: what the one does is looked for at the other.

use anyhow::Result;
use serde_json::json;

use super::super::browser::Kind;
use super::{Driver, STEP, Stand, Steps, Tab, click_until, enter, moves, shown, tile};
use crate::report::Report;

/// Both browsers' tab.
const TAB: &str = "meeting";
const ROOM: &str = "/r/controls";

pub(super) fn run(report: &mut Report, stand: &mut Stand) -> Result<()> {
    let [chromium, firefox] = &mut stand.browsers;
    enter(chromium, &Tab::new(TAB, ROOM), "Ann Ant")?;
    let is_alone =
        format!("{} && document.getElementById('invite-link').textContent.endsWith('/r/controls')", shown("invite"));
    let mut steps = Steps { report, prefix: "chromium".to_owned() };
    steps.happened("meeting.alone_sees_the_link", chromium.until(TAB, &is_alone, STEP)?);
    enter(firefox, &Tab::new(TAB, ROOM).inside(json!({"slides": true})), "Bob Bee")?;
    turn(report, (chromium, "ann-ant"), (firefox, "bob-bee"))?;
    turn(report, (firefox, "bob-bee"), (chromium, "ann-ant"))?;
    for driver in [chromium, firefox] {
        driver.click(TAB, "control-leave")?;
        driver.close(TAB)?;
    }
    Ok(())
}

/// One acts, the other watches.
fn turn(report: &mut Report, actor: (&mut Driver, &str), other: (&mut Driver, &str)) -> Result<()> {
    let (driver, id) = actor;
    let (watcher, other_id) = other;
    let mut steps = Steps { report, prefix: driver.kind.name().to_owned() };
    steps.happened("meeting.sees_the_other", driver.until(TAB, &moves(other_id), STEP)?);
    steps.happened("meeting.is_seen", watcher.until(TAB, &moves(id), STEP)?);
    let joined = "document.getElementById('toasts').ariaLive === 'polite' || document.getElementById('toasts').getAttribute('aria-live') === 'polite'";
    steps.holds("meeting.toasts_are_read_out", driver.read(TAB, joined)? == true);
    let speaks = format!("{}?.classList.contains('speaking')", tile(id));
    steps.happened("meeting.speaking_is_seen", watcher.until(TAB, &speaks, STEP)?);
    microphone(&mut steps, driver, watcher, id)?;
    camera(&mut steps, driver, watcher, id)?;
    screen(&mut steps, driver, watcher, id)?;
    panels(&mut steps, driver)?;
    reload(&mut steps, driver, watcher, (id, other_id))?;
    leave(&mut steps, driver, watcher, (id, other_id))
}

/// By button and by key.
fn microphone(steps: &mut Steps<'_>, driver: &mut Driver, watcher: &mut Driver, id: &str) -> Result<()> {
    let muted = format!("{}?.classList.contains('muted')", tile(id));
    let open = format!("{} && !{}.classList.contains('muted')", tile(id), tile(id));
    driver.click(TAB, "control-mic")?;
    steps.happened("meeting.mute_is_seen", watcher.until(TAB, &muted, STEP)?);
    let silent = format!("!{}?.classList.contains('speaking')", tile(id));
    steps.happened("meeting.muted_is_silent", watcher.until(TAB, &silent, STEP)?);
    driver.press(TAB, "m")?;
    steps.happened("meeting.key_m_unmutes", watcher.until(TAB, &open, STEP)?);
    Ok(())
}

fn camera(steps: &mut Steps<'_>, driver: &mut Driver, watcher: &mut Driver, id: &str) -> Result<()> {
    let hidden = format!("{} && {}.dataset.shown === undefined", tile(id), tile(id));
    driver.click(TAB, "control-cam")?;
    steps.happened("meeting.camera_off_is_seen", watcher.until(TAB, &hidden, STEP)?);
    driver.press(TAB, "v")?;
    steps.happened("meeting.key_v_turns_it_on", watcher.until(TAB, &moves(id), STEP)?);
    Ok(())
}

/// Twice: the second time the section of the first is used again.
fn screen(steps: &mut Steps<'_>, driver: &mut Driver, watcher: &mut Driver, id: &str) -> Result<()> {
    let name = format!("{id}-screen");
    for (round, word) in ["once", "again"].into_iter().enumerate() {
        if round == 0 {
            driver.click(TAB, "control-share")?;
        } else {
            driver.press(TAB, "s")?;
        }
        steps.happened(&format!("meeting.screen_is_seen_{word}"), watcher.until(TAB, &moves(&name), STEP)?);
        let is_large = format!("{0}.clientWidth > 2 * {1}.clientWidth", tile(&name), tile(id));
        steps.happened(&format!("meeting.screen_is_large_{word}"), watcher.until(TAB, &is_large, STEP)?);
        driver.press(TAB, "s")?;
        steps.happened(&format!("meeting.screen_ends_{word}"), watcher.until(TAB, &format!("!{}", tile(&name)), STEP)?);
    }
    Ok(())
}

/// Participants, link, settings, shortcuts: opened and closed, with keys where there are some.
fn panels(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    let listed = format!("{} && document.querySelectorAll('#people-list li').length === 2", shown("people"));
    driver.press(TAB, "p")?;
    steps.happened("meeting.key_p_lists_participants", driver.until(TAB, &listed, STEP)?);
    driver.press(TAB, "Escape")?;
    let closed = "document.getElementById('people').hidden";
    steps.happened("meeting.esc_closes_the_list", driver.until(TAB, closed, STEP)?);
    steps.happened("meeting.button_lists_participants", click_until(driver, TAB, "control-people", &listed)?);
    steps.happened("meeting.cross_closes_the_list", click_until(driver, TAB, "people-close", closed)?);
    let copied = "document.getElementById('toasts').textContent.includes('Link copied')";
    steps.happened("meeting.link_is_copied", click_until(driver, TAB, "control-link", copied)?);
    if driver.kind == Kind::Chromium {
        let is_link = "navigator.clipboard.readText().then((text) => text.endsWith('/r/controls'))";
        steps.holds("meeting.link_is_the_rooms", driver.read(TAB, is_link)? == true);
    }
    let settings =
        "document.getElementById('settings').open && document.getElementById('settings-camera').options.length > 0";
    steps.happened("meeting.settings_open", click_until(driver, TAB, "control-settings", settings)?);
    driver.press(TAB, "m")?;
    let unmuted = "document.getElementById('control-mic').getAttribute('aria-label') === 'Mute'";
    steps.holds("meeting.keys_rest_in_a_dialog", driver.read(TAB, unmuted)? == true);
    driver.press(TAB, "Escape")?;
    steps
        .happened("meeting.esc_closes_settings", driver.until(TAB, "!document.getElementById('settings').open", STEP)?);
    driver.press(TAB, "?")?;
    let keys = "document.getElementById('keys').open && document.querySelectorAll('#keys-list kbd').length >= 6";
    steps.happened("meeting.key_question_mark_lists_keys", driver.until(TAB, keys, STEP)?);
    driver.press(TAB, "Escape")?;
    steps.happened("meeting.esc_closes_keys", driver.until(TAB, "!document.getElementById('keys').open", STEP)?);
    let labels = "[...document.querySelectorAll('.controls button')].every((one) => one.hidden || one.ariaLabel || one.getAttribute('aria-label'))";
    steps.holds("meeting.every_control_has_a_name", driver.read(TAB, labels)? == true);
    Ok(())
}

/// A reload goes on with the same participant.
fn reload(steps: &mut Steps<'_>, driver: &mut Driver, watcher: &mut Driver, ids: (&str, &str)) -> Result<()> {
    let (id, other_id) = ids;
    driver.reload(TAB)?;
    steps.within("reload.sees_the_other", driver.until(TAB, &moves(other_id), STEP)?, super::RESUME_MS);
    steps.within("reload.is_seen", watcher.until(TAB, &moves(id), STEP)?, super::RESUME_MS);
    let count = watcher.read(TAB, "document.querySelectorAll('.tile').length")?;
    steps.holds("reload.is_the_same_participant", count == 2);
    Ok(())
}

fn leave(steps: &mut Steps<'_>, driver: &mut Driver, watcher: &mut Driver, ids: (&str, &str)) -> Result<()> {
    let (id, other_id) = ids;
    steps.happened("leave.says_farewell", click_until(driver, TAB, "control-leave", &shown("farewell"))?);
    steps.happened("leave.is_seen", watcher.until(TAB, &format!("!{}", tile(id)), STEP)?);
    let told = "document.getElementById('toasts').textContent.includes('left')";
    steps.happened("leave.is_told", watcher.until(TAB, told, STEP)?);
    steps.happened("rejoin.leads_to_prejoin", click_until(driver, TAB, "rejoin", &shown("prejoin"))?);
    driver.until(TAB, "document.getElementById('preview-video').videoWidth > 0", STEP)?;
    // By keyboard alone.
    driver.read(TAB, "document.getElementById('prejoin-name').focus()")?;
    driver.press(TAB, "Enter")?;
    steps.happened("rejoin.sees_the_other", driver.until(TAB, &moves(other_id), STEP)?);
    steps.happened("rejoin.is_seen", watcher.until(TAB, &moves(id), STEP)?);
    Ok(())
}

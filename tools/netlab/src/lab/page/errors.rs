// SPDX-License-Identifier: Apache-2.0
//! What can go wrong is provoked, and the page must say what it is.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::server::Paused;
use super::{Driver, ROOM_LIMIT, STEP, Stand, Steps, Tab, click_until, enter, moves, shown};
use crate::report::Report;

const TAB: &str = "errors";

/// Devices that are missing or refused: what `page_inside.js` does, and a word of what the page must say.
fn device_cases() -> [(&'static str, Value, &'static str); 5] {
    [
        ("no_camera", json!({"without": ["camera"]}), "No camera found"),
        ("no_microphone", json!({"without": ["microphone"]}), "No microphone found"),
        ("no_devices", json!({"without": ["camera", "microphone"]}), "No camera or microphone found"),
        ("not_allowed", json!({"deny": true}), "not allowed"),
        ("insecure", json!({"insecure": true}), "secure pages"),
    ]
}

pub(super) fn run(report: &mut Report, stand: &mut Stand) -> Result<()> {
    for driver in &mut stand.browsers {
        let mut steps = Steps { report, prefix: driver.kind.name().to_owned() };
        devices(&mut steps, driver)?;
        bad_link(&mut steps, driver)?;
        full(&mut steps, driver)?;
        replaced(&mut steps, driver)?;
        server_gone(&mut steps, driver, stand.server.pids["controlplane"])?;
    }
    Ok(())
}

/// The notice says it, and joining works all the same.
fn devices(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    for (case, inside, words) in device_cases() {
        driver.open(&Tab::new(TAB, "/r/devices").inside(inside))?;
        let said = format!(
            "{} && document.getElementById('prejoin-problem').textContent.includes('{words}')",
            shown("prejoin-problem")
        );
        steps.happened(&format!("errors.{case}_is_said"), driver.until(TAB, &said, STEP)?);
        steps.happened(&format!("errors.{case}_joins"), click_until(driver, TAB, "join", &shown("room"))?);
        driver.click(TAB, "control-leave")?;
        driver.until(TAB, &shown("farewell"), STEP)?;
        driver.close(TAB)?;
    }
    driver.open(&Tab::new(TAB, "/r/devices"))?;
    driver.until(TAB, &shown("prejoin"), STEP)?;
    steps.happened("errors.listener_joins", click_until(driver, TAB, "listen", &shown("room"))?);
    driver.click(TAB, "control-leave")?;
    driver.close(TAB)
}

fn bad_link(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    driver.open(&Tab::new(TAB, "/r/Not%20a%20room"))?;
    let said = "document.getElementById('prejoin-refusal')?.textContent.includes('leads to no meeting')";
    steps.happened("errors.bad_link_is_said", driver.until(TAB, said, STEP)?);
    driver.close(TAB)
}

/// As many as the server takes, and one more.
fn full(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    let names: Vec<String> = (0..ROOM_LIMIT).map(|number| format!("guest{number}")).collect();
    for name in &names {
        driver.open(&Tab::new(name, "/r/full"))?;
        driver.until(name, &shown("prejoin"), STEP)?;
        driver.click(name, "listen")?;
        driver.until(name, &shown("room"), STEP)?;
    }
    driver.open(&Tab::new(TAB, "/r/full"))?;
    driver.until(TAB, &shown("prejoin"), STEP)?;
    let said = format!(
        "{} && document.getElementById('prejoin-refusal').textContent.includes('full')",
        shown("prejoin-refusal")
    );
    steps.happened("errors.full_room_is_said", click_until(driver, TAB, "listen", &said)?);
    if let Some(first) = names.first() {
        driver.click(first, "control-leave")?;
        driver.until(first, &shown("farewell"), STEP)?;
    }
    steps.happened("errors.full_room_opens_again", click_until(driver, TAB, "listen", &shown("room"))?);
    for name in names.iter().map(String::as_str).chain([TAB]) {
        let _ = driver.click(name, "control-leave");
        driver.close(name)?;
    }
    Ok(())
}

/// The second tab has the storage of the first, as a duplicated tab has.
fn replaced(steps: &mut Steps<'_>, driver: &mut Driver) -> Result<()> {
    let second = "second";
    enter(driver, &Tab::new(TAB, "/r/replaced"), "Ann")?;
    let kept = driver.read(TAB, "sessionStorage.getItem('millrace.meeting')")?;
    driver.open(&Tab::new(second, "/"))?;
    driver.read(second, &format!("sessionStorage.setItem('millrace.meeting', {kept})"))?;
    driver.visit(second, "/r/replaced")?;
    steps.happened("errors.second_tab_goes_on", driver.until(second, &shown("room"), STEP)?);
    let said = format!("{} && document.getElementById('farewell').dataset.reason === 'replaced'", shown("farewell"));
    steps.happened("errors.replaced_is_said", driver.until(TAB, &said, STEP)?);
    driver.click(second, "control-leave")?;
    driver.close(second)?;
    driver.close(TAB)
}

/// The control plane stands still: a join is refused with words, a meeting says that it reconnects, and does.
fn server_gone(steps: &mut Steps<'_>, driver: &mut Driver, control_plane: i32) -> Result<()> {
    enter(driver, &Tab::new(TAB, "/r/gone"), "Ann")?;
    let late = "late";
    driver.open(&Tab::new(late, "/r/gone"))?;
    driver.until(late, "document.getElementById('preview-video').videoWidth > 0", STEP)?;
    let paused = Paused::pause(control_plane)?;
    driver.click(late, "join")?;
    let said = format!(
        "{} && document.getElementById('prejoin-refusal').textContent.includes('server')",
        shown("prejoin-refusal")
    );
    steps.happened("errors.silent_server_is_said", driver.until(late, &said, STEP)?);
    let told = format!("{} && document.getElementById('banner').textContent.includes('Reconnecting')", shown("banner"));
    driver.front(TAB)?;
    steps.happened("errors.lost_server_is_told", driver.until(TAB, &told, STEP)?);
    drop(paused);
    let back = "document.getElementById('banner').hidden";
    steps.happened("errors.server_is_back", driver.until(TAB, back, STEP)?);
    driver.front(late)?;
    steps.happened("errors.late_joins", click_until(driver, late, "join", &shown("room"))?);
    steps.happened("errors.late_sees_who_stayed", driver.until(late, &moves("ann"), STEP)?);
    for tab in [TAB, late] {
        driver.click(tab, "control-leave")?;
        driver.close(tab)?;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! What a packet costs under load, for `millrace capacity`: the same figures as the page's, in a file that the program is built
//! with. Without the runs that it is made of, the file stays as it is.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::files::Files;

/// The file, from the root of the checkout.
pub(crate) const FILE: &str = "tools/ctl/src/capacity/model.json";

/// Receivers of a run that says what a packet costs under load; with fewer, a wake-up is most of it.
const LOADED: u32 = 500;

/// The model of these files, or the one that is there.
///
/// # Errors
/// When neither can be had.
pub(crate) fn of(files: &Files, path: &Path) -> Result<Value> {
    if let Some(model) = made(files) {
        return Ok(model);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn made(files: &Files) -> Option<Value> {
    let file = files.get("webinar")?;
    let xdp_us = files.figure("webinar", &["other_core", "process_us"])?;
    let (receivers, socket_us) = uring(files)?;
    let thousandths = |us: f64| (us * 1000.0).round() / 1000.0;
    Some(json!({
        "xdp_us": thousandths(xdp_us),
        "socket_us": thousandths(socket_us),
        "load": format!("1 to 3000 over AF_XDP, 1 to {receivers} over io_uring, 1200-byte video and audio, AES-128-GCM"),
        "machine": file.machine(),
        "date": file.date(),
    }))
}

/// Our socket port with the most receivers, [`LOADED`] at least: how many, and the median of its runs, µs.
fn uring(files: &Files) -> Option<(u32, f64)> {
    let runs = files.peers().flat_map(|(_, file)| file.series()).filter_map(|(name, runs)| {
        let receivers = name.strip_prefix("millrace-uring.")?.parse::<u32>().ok()?;
        let mut costs: Vec<f64> = runs.as_array()?.iter().filter_map(|run| run["process_us"].as_f64()).collect();
        costs.sort_by(f64::total_cmp);
        Some((receivers, *costs.get(costs.len() / 2)?))
    });
    runs.filter(|(receivers, _)| *receivers >= LOADED).max_by_key(|(receivers, _)| *receivers)
}

/// The line of the page that the program's test looks for.
pub(crate) fn line(model: &Value) -> String {
    let us = |key: &str| model[key].as_f64().unwrap_or(f64::NAN);
    let text = |key: &str| model[key].as_str().unwrap_or("not noted").to_owned();
    format!(
        "{:.3} µs over AF_XDP, {:.3} µs through sockets ({}; {}, {})",
        us("xdp_us"),
        us("socket_us"),
        text("load"),
        text("machine"),
        text("date")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_long_run_and_the_largest_run_through_sockets() {
        let runs = |costs: [f64; 3]| json!(costs.map(|us| json!({"process_us": us})));
        let peers =
            json!({"series": {"millrace-uring.50": runs([9.0; 3]), "millrace-uring.500": runs([3.0, 2.0, 2.5])}});
        let webinar = json!({"series": {"other_core": {"process_us": 0.87654}}, "machine": {"kernel": "6.1"}});
        let model = made(&Files::of(&[("peers", peers), ("webinar", webinar)])).unwrap();
        assert_eq!((&model["xdp_us"], &model["socket_us"]), (&json!(0.877), &json!(2.5)));
        assert!(line(&model).starts_with("0.877 µs over AF_XDP, 2.500 µs through sockets (1 to 3000"));
    }

    #[test]
    fn without_both_runs_there_is_no_new_model() {
        let webinar = json!({"series": {"other_core": {"process_us": 0.9}}});
        let few = json!({"series": {"millrace-uring.50": [{"process_us": 4.0}]}});
        assert_eq!(made(&Files::of(&[("webinar", webinar.clone())])), None);
        assert_eq!(made(&Files::of(&[("webinar", webinar), ("peers", few)])), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `millrace capacity` for people, from the same structure as the JSON.

use super::Capacity;
use crate::text::{cells, number, table};

/// The answer first, then what it is made of.
pub(crate) fn text(capacity: &Capacity) -> String {
    let receiver = &capacity.receiver;
    let limit = match capacity.limited_by {
        "time" => "the workers' time".to_owned(),
        table => format!("the table of {table}, not the workers' time"),
    };
    let mut text = format!(
        "{} more receivers fit, each with {} kbit/s of video and {} audio packets/s ({:.0} packets/s)\n",
        capacity.receivers_more, receiver.video_kbps, receiver.audio_packets_per_second, receiver.packets_per_second
    );
    text += &format!(
        "  limited by {limit}; a core is filled to {} %; measured for {:.1} s at {:.0} packets/s\n\n",
        capacity.fill_percent, capacity.window_s, capacity.packets_per_second
    );
    let mut rows =
        vec![cells(["WORKER", "PORT", "BUSY", "PACKETS/s", "MEASURED", "RECKONED", "BASIS", "MORE RECEIVERS"])];
    for worker in &capacity.workers {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            number(worker.worker),
            worker.port.to_owned(),
            or_dash(worker.busy.map(|busy| format!("{:.1} %", busy * 100.0))),
            format!("{:.0}", worker.packets_per_second),
            or_dash(worker.measured_us.map(|us| format!("{us:.2} us"))),
            format!("{:.2} us", worker.cost_us),
            worker.basis.to_owned(),
            number(worker.receivers_more),
        ]);
    }
    text += &table(&rows);
    for worker in capacity.workers.iter().filter(|worker| !worker.why.is_empty()) {
        text += &format!("\nworker {} by the model: {}\n", worker.worker, worker.why);
    }
    if capacity.workers.iter().any(|worker| worker.basis == "model") {
        let model = &capacity.model;
        text += &format!(
            "the model: {:.2} us for each packet over AF_XDP, {:.2} us through sockets; {}\n  on {}, {} (docs/BENCHMARKS.md)\n",
            model.xdp_us, model.socket_us, model.load, model.machine, model.date
        );
    }
    text + "\nNot in it: the link, the network card, and other work on the workers' cores.\n"
}

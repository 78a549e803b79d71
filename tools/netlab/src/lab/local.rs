// SPDX-License-Identifier: Apache-2.0
//! `lab local`: the server's interface is given to XDP, and one browser runs on the server's own host. What goes to an address
//! of the host itself never meets its interface, so that browser is served by the socket port, the other one by AF_XDP.

use std::time::Duration;

use anyhow::Result;

use super::args::{Args, BIN_DIR, FAMILY, JSON, Known, WORKERS};
use super::browser::{Kind, Through};
use super::call::server_options;
use super::new_folder;
use super::server::ServerOptions;
use super::session::{Cast, Session, wait};
use super::verdict::{judge_counters, judge_health};
use crate::console;
use crate::report::Report;

/// Encoders and jitter buffers come to rest.
const SETTLE: Duration = Duration::from_secs(3);
/// Of 15 frames that a camera makes each second.
const FRAME_RATE: f64 = 10.0;

pub(crate) const OPTIONS: Known = &[("seconds N", "how long they watch [default: 10]"), WORKERS, FAMILY, JSON, BIN_DIR];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let length = Duration::from_secs(args.number("seconds", 10)?);
    let options = ServerOptions { backend: "xdp".into(), ..server_options(args)? };
    let folder = new_folder("local")?;
    let mut report = Report::start("local");
    let kinds = [Kind::Chromium; 2];
    let cast = Cast { kinds: &kinds, through: Through::Page, is_first_local: true };
    let mut session = Session::start(&cast, &options, None, &folder)?;
    session.join_all(None)?;
    wait(SETTLE, "settling");
    let (status_before, before) = (session.server.settled_status()?, session.sample()?);
    wait(length, "watching");
    let (after, status_after) = (session.sample()?, session.server.settled_status()?);
    for pair in session.pairs.clone() {
        let (name, publisher) = (session.pair_name(&pair), &session.browsers[pair.from].name);
        let number = |sample: &[super::session::Sample], key: &str| sample[pair.to].number(publisher, "video", key);
        let grown = |key: &str| Some(number(&after, key)? - number(&before, key)?);
        let seconds = (after[pair.to].at_ms() - before[pair.to].at_ms()) / 1000.0;
        let rate = grown("framesDecoded").map(|frames| frames / seconds);
        report.at_least(format!("{name}.frame_rate"), rate, "frames/s", FRAME_RATE);
        report.exactly(format!("{name}.packets_lost"), grown("packetsLost"), "packets", 0.0);
    }
    let of =
        |port: &str, way: &str| Some(status_after.port_packets(port, way)? - status_before.port_packets(port, way)?);
    // Video at 15 frames and sound at 50 packets a second, each way, of each participant: far more than checks alone.
    let least = 30.0 * length.as_secs_f64();
    for way in ["rx", "tx"] {
        report.at_least(format!("socket_port.{way}_packets"), of("socket", way), "packets", least);
        report.at_least(format!("xdp_port.{way}_packets"), of("xdp", way), "packets", least);
    }
    judge_counters(&mut report, &session.server, &status_before, &status_after);
    judge_health(&mut report, &session.server);
    session.leave()?;
    let ok =
        report.finish(args.path("json").as_deref(), "one browser on the server's host, one beyond its interface")?;
    if !ok {
        console::line(&format!("logs: {}", session.folder.display()));
    }
    Ok(ok)
}

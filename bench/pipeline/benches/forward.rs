// SPDX-License-Identifier: Apache-2.0
//! Cost of a forwarded packet: one publisher to N receivers on a port that takes everything and sends nothing. It measures the
//! pipeline and its cipher, never the kernel; figures of one machine under other load mean little.
//!
//! A round is a burst of k packets received and forwarded to everybody; rounds with the cipher and rounds without it take
//! turns, and a figure is the lower quartile over rounds. `own` is without the cipher, which then writes no payload and no tag.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "bed/call.rs"]
mod call;
#[path = "bed/null_port.rs"]
mod null_port;
#[path = "../../../dataplane/forward/tests/forward/support.rs"]
mod support;

use std::fmt::Write as _;
use std::time::Instant;

use dataplane_abi::limits::BATCH;
use dataplane_io::port::{Ecn, Port, RxMeta};
use dataplane_srtp::Profile;
// The support of the tests uses these three.
use dataplane_shm as _;
use hmac as _;
use sha1 as _;

use crate::call::{burst, call_of, leave_out_cipher};
use crate::null_port::NullPort;
use crate::support::call::Call;

/// 156.25 packets per second: a video of 1.5 Mbit/s.
const PACKET_NS: u64 = 6_400_000;

/// Calls of up to so many begin anew with each case: their many rounds take longer than the 30 s for which consent lasts (RFC 7675
/// §5.1), which nobody renews here.
const CONSENTING: usize = 100;

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    payload: usize,
    burst: usize,
    frames: usize,
    has_heads: bool,
}

struct Figure {
    receive_ns: f64,
    forward_ns: f64,
    own_ns: f64,
    forwarded: u64,
}

/// The lower quartile: what the machine's other work disturbs least, and no single lucky round.
fn typical(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(f64::NAN)
}

fn measure(call: &mut Call, receivers: usize, case: Case, rounds: usize, is_own_only: bool) -> Figure {
    let paths = if case.has_heads { u16::try_from(receivers + 64).unwrap() } else { 0 };
    let mut port = NullPort::new(case.frames, paths);
    let (mut receive, mut forward, mut own, mut forwarded) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
    for round in 0..rounds {
        call.bed.advance(PACKET_NS * case.burst as u64);
        let (now, flow) = (call.bed.now, call.clients[0].flow);
        let meta = RxMeta { flow, arrival_ns: now.mono_ns, ecn: Ecn::default() };
        port.inbox = burst(call, case.payload, case.burst).into_iter().map(|bytes| (bytes, meta)).collect();
        let is_without = leave_out_cipher(is_own_only || round % 2 == 1);
        let worker = &mut call.bed.workers[0];
        let began = Instant::now();
        let count = port.receive(BATCH);
        worker.receive(&port, count, now);
        let received_at = Instant::now();
        port.release();
        let mut frames = 0;
        loop {
            let tile = worker.transmit(&mut port, now);
            frames += tile.frames as u64;
            if !tile.is_more {
                break;
            }
        }
        let forward_ns = received_at.elapsed().as_nanos() as f64 / frames.max(1) as f64;
        worker.take_effects();
        assert!(frames >= (case.burst * receivers) as u64, "{frames} of {} x {receivers}", case.burst);
        // The first rounds warm up.
        if round >= rounds / 10 {
            receive.push((received_at - began).as_nanos() as f64 / count.max(1) as f64);
            if is_without { &mut own } else { &mut forward }.push(forward_ns);
            forwarded += frames;
        }
    }
    leave_out_cipher(false);
    Figure { receive_ns: typical(receive), forward_ns: typical(forward), own_ns: typical(own), forwarded }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [1200, 160] {
        for burst in [1, 4] {
            cases.push(Case { payload, burst, frames: 64, has_heads: false });
        }
    }
    for (frames, has_heads) in [(2048, false), (64, true)] {
        for burst in [1, 4] {
            cases.push(Case { payload: 1200, burst, frames, has_heads });
        }
    }
    cases
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    // For a profile of the pipeline alone.
    let is_own_only = std::env::args().any(|argument| argument == "--own");
    let only = std::env::var("MILLRACE_BENCH_RECEIVERS").ok().and_then(|only| only.parse::<usize>().ok());
    let mut json = String::from("[");
    println!(
        "{:<28} {:>9} {:>7} {:>5} {:>6} {:>5} {:>10} {:>10} {:>7} {:>9} {:>9}",
        "profile",
        "receivers",
        "payload",
        "burst",
        "frames",
        "heads",
        "receive ns",
        "forward ns",
        "own ns",
        "cipher ns",
        "packets"
    );
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        for receivers in [1, 10, 100, 1000, 3000].into_iter().filter(|count| only.is_none_or(|only| only == *count)) {
            let mut call = call_of(profile, receivers);
            for (at, case) in cases().into_iter().enumerate() {
                if at > 0 && receivers <= CONSENTING {
                    call = call_of(profile, receivers);
                }
                let rounds = if is_test { 4 } else { (150_000 / (receivers * case.burst)).clamp(40, 600) };
                let figure = measure(&mut call, receivers, case, rounds, is_own_only);
                let cipher_ns = figure.forward_ns - figure.own_ns;
                println!(
                    "{:<28} {receivers:>9} {:>7} {:>5} {:>6} {:>5} {:>10.0} {:>10.0} {:>7.0} {cipher_ns:>9.0} {:>9}",
                    profile.name(),
                    case.payload,
                    case.burst,
                    case.frames,
                    case.has_heads,
                    figure.receive_ns,
                    figure.forward_ns,
                    figure.own_ns,
                    figure.forwarded
                );
                let comma = if json.len() > 1 { "," } else { "" };
                write!(
                    json,
                    "{comma}\n{{\"profile\":\"{}\",\"receivers\":{receivers},\"payload\":{},\"burst\":{},\"frames\":{},\"heads\":{},\
                     \"receive_ns\":{:.1},\"forward_ns\":{:.1},\"own_ns\":{},\"forwarded\":{}}}",
                    profile.name(),
                    case.payload,
                    case.burst,
                    case.frames,
                    case.has_heads,
                    figure.receive_ns,
                    figure.forward_ns,
                    if figure.own_ns.is_nan() { "null".to_owned() } else { format!("{:.1}", figure.own_ns) },
                    figure.forwarded
                )
                .unwrap();
            }
        }
    }
    json.push_str("\n]\n");
    if let Ok(file) = std::env::var("MILLRACE_BENCH_JSON") {
        std::fs::write(file, json).expect("the JSON file can be written");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What callgrind counts: rounds of receive and transmit over one call, without the cipher. The rounds that count run in
//! functions of their own, which callgrind is told by name.

use dataplane_abi::limits::BATCH;
use dataplane_forward::{Now, Worker};
use dataplane_io::port::{Ecn, Port, RxMeta};
use dataplane_srtp::Profile;

use crate::call::{burst, call_of, leave_out_cipher};
use crate::null_port::NullPort;

const RECEIVERS: usize = 200;
const WARM_UP: usize = 4;
const ROUNDS: usize = 12;
const PACKET_NS: u64 = 6_400_000;
/// As many as stay in the cache of a port whose frames the kernel gives back at each flush.
const FRAMES: usize = 64;

/// The functions whose insides are counted.
pub(crate) const COUNTED: [&str; 2] = ["counted_receive", "counted_transmit"];

/// A load.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    payload: usize,
    burst: usize,
}

/// Packets of a camera in bursts, and packets as small and lonely as those of a microphone.
pub(crate) const CASES: [Case; 2] =
    [Case { name: "video", payload: 1200, burst: 4 }, Case { name: "small", payload: 160, burst: 1 }];

impl Case {
    pub(crate) fn named(name: &str) -> Option<Self> {
        CASES.into_iter().find(|case| case.name == name)
    }
}

/// Runs a case and prints how many packets the counted rounds received and forwarded.
pub(crate) fn run(case: Case, is_receive: bool) {
    let mut call = call_of(Profile::AeadAes128Gcm, RECEIVERS);
    assert!(leave_out_cipher(true), "built without --cfg null_cipher: run `cargo xtask bench guard`");
    let mut port = NullPort::new(FRAMES, u16::try_from(RECEIVERS + 64).unwrap());
    let (mut received, mut forwarded) = (0, 0);
    for round in 0..WARM_UP + ROUNDS {
        call.bed.advance(PACKET_NS * case.burst as u64);
        let (now, flow) = (call.bed.now, call.clients[0].flow);
        let meta = RxMeta { flow, arrival_ns: now.mono_ns, ecn: Ecn::default() };
        port.inbox = burst(&mut call, case.payload, case.burst).into_iter().map(|bytes| (bytes, meta)).collect();
        let worker = &mut call.bed.workers[0];
        let is_counted = round >= WARM_UP;
        let count =
            if is_counted && is_receive { counted_receive(worker, &port, now) } else { receive(worker, &port, now) };
        port.release();
        let frames = if is_counted && !is_receive {
            counted_transmit(worker, &mut port, now)
        } else {
            transmit(worker, &mut port, now)
        };
        worker.take_effects();
        assert!(frames >= case.burst * RECEIVERS, "{frames} of {} x {RECEIVERS}", case.burst);
        if is_counted {
            received += count;
            forwarded += frames;
        }
    }
    tools_netlab::console::line(&format!("{received} {forwarded}"));
}

#[inline(never)]
fn counted_receive(worker: &mut Worker, port: &NullPort, now: Now) -> usize {
    receive(worker, port, now)
}

#[inline(never)]
fn counted_transmit(worker: &mut Worker, port: &mut NullPort, now: Now) -> usize {
    transmit(worker, port, now)
}

fn receive(worker: &mut Worker, port: &NullPort, now: Now) -> usize {
    let count = port.inbox.len().min(BATCH);
    worker.receive(port, count, now);
    count
}

fn transmit(worker: &mut Worker, port: &mut NullPort, now: Now) -> usize {
    let mut frames = 0;
    loop {
        let tile = worker.transmit(port, now);
        frames += tile.frames;
        if !tile.is_more {
            return frames;
        }
    }
}

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

#[path = "../../../dataplane/forward/tests/forward/support.rs"]
mod support;

use std::fmt::Write as _;
use std::time::Instant;

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_abi::limits::{BATCH, Capacities};
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_io::xdp::{HEAD_BYTES, Head};
use dataplane_srtp::Profile;
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;
// The support of the tests uses these three.
use dataplane_shm as _;
use hmac as _;
use sha1 as _;

use crate::support::bed::Bed;
use crate::support::call::{Call, MS};
use crate::support::outgoing::{ids, seal};

/// 156.25 packets per second: a video of 1.5 Mbit/s.
const PACKET_NS: u64 = 6_400_000;
const FRAME: usize = 2048;
/// Where a frame's payload begins, as in the AF_XDP port.
const PAYLOAD_AT: usize = 128;

/// Takes every frame and forgets it.
struct NullPort {
    inbox: Vec<(Vec<u8>, RxMeta)>,
    frames: Vec<[u8; FRAME]>,
    next: usize,
    /// Heads by path, where they are written too.
    heads: Vec<Head>,
    head: usize,
    committed: u32,
}

impl NullPort {
    /// A port whose frames are used in turn: few stay in the cache as those of a copying AF_XDP port do, which the kernel gives
    /// back at each flush; many do not, as those of a NIC.
    fn new(frames: usize, paths: u16) -> Self {
        let flow = |path: u16| FlowKey {
            local: map_v4([10, 0, 0, 1]),
            remote: map_v4([10, 1, 1, 1]),
            local_port: 7000,
            remote_port: 10_000 + path,
            reserve: 0,
        };
        let heads = (0..paths).map(|path| Head::new(&flow(path), 0).unwrap()).collect();
        Self { inbox: Vec::new(), frames: vec![[0; FRAME]; frames], next: 0, heads, head: 0, committed: 0 }
    }
}

impl Port for NullPort {
    fn kind(&self) -> PortKind {
        PortKind::Simulated
    }
    fn receive(&mut self, max: usize) -> usize {
        self.inbox.len().min(max)
    }
    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        self.inbox.get(index).map(|(bytes, meta)| (bytes.as_slice(), *meta))
    }
    fn release(&mut self) {
        self.inbox.clear();
    }
    fn open_path(&mut self, _: &FlowKey, _: u8, _: Ecn) -> Result<PathSlot, PathError> {
        Ok(PathSlot(0))
    }
    fn close_path(&mut self, _: PathSlot) {}
    fn tx_room(&self) -> usize {
        1024
    }
    fn room_for(&mut self, _: PathSlot, _: usize) -> usize {
        self.tx_room()
    }
    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        self.head = path.0 as usize;
        self.frames[self.next].get_mut(PAYLOAD_AT..PAYLOAD_AT + len)
    }
    fn commit(&mut self, len: usize) {
        if let Some(head) = self.heads.get(self.head) {
            let (front, payload) = self.frames[self.next].split_at_mut(PAYLOAD_AT);
            let room = front.last_chunk_mut::<HEAD_BYTES>().unwrap();
            std::hint::black_box(head.write(room, &payload[..len], true));
        }
        self.next = (self.next + 1) % self.frames.len();
        self.committed += 1;
    }
    fn flush(&mut self) -> Flushed {
        Flushed { frames: std::mem::take(&mut self.committed), errors: 0 }
    }
    fn reap(&mut self) {}
}

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

/// One publisher and `receivers`, all of them watching.
fn call_of(profile: Profile, receivers: usize) -> Call {
    let slots = u32::try_from(receivers + 8).unwrap();
    let capacities = Capacities { workers: 1, transports: slots, subscriptions: slots, ..Capacities::SMALL };
    let mut call = Call::over(Bed::sized(1, capacities));
    call.profile = profile;
    let publisher = call.join(0);
    let track = call.publish(publisher, true);
    for _ in 0..receivers {
        let who = call.join(0);
        call.subscribe(who, &track);
    }
    call.run(300 * MS);
    call.clients[publisher].outgoing[0].is_paused = true;
    call.world.borrow_mut().clear();
    call
}

/// The next frame of the publisher, VP8, in packets of `payload` bytes.
fn burst(call: &mut Call, case: Case) -> Vec<Vec<u8>> {
    let client = &mut call.clients[0];
    let stream = &mut client.outgoing[0];
    stream.picture_id = (stream.picture_id + 1) & 0x7fff;
    stream.tl0 = stream.tl0.wrapping_add(1);
    stream.rtp_ts = stream.rtp_ts.wrapping_add(3000);
    let mut packets = Vec::new();
    for at in 0..case.burst {
        let [high, low] = (0x8000 | stream.picture_id).to_be_bytes();
        let mut payload = vec![if at == 0 { 0x90 } else { 0x80 }, 0xF0, high, low, stream.tl0, stream.keyidx, 0x11];
        payload.resize(case.payload, 0x5A);
        let header = HeaderWriter {
            marker: at + 1 == case.burst,
            has_padding: false,
            pt: stream.pt,
            seq: seq::low16(stream.next),
            timestamp: stream.rtp_ts,
            ssrc: stream.ssrc,
        };
        let number = client.transport_seq.to_be_bytes();
        client.transport_seq = client.transport_seq.wrapping_add(1);
        let elements: [(u8, &[u8]); 3] =
            [(ids::MID, stream.mid.as_bytes()), (ids::ABS_SEND_TIME, &[1, 2, 3]), (ids::TRANSPORT_SEQ, &number)];
        packets.push(seal(&client.tx, stream.next, header, &elements, &payload));
        stream.next += 1;
    }
    packets
}

#[cfg(null_cipher)]
fn leave_out_cipher(is_out: bool) -> bool {
    dataplane_forward::leave_out_cipher(is_out);
    is_out
}

#[cfg(not(null_cipher))]
fn leave_out_cipher(_: bool) -> bool {
    false
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
        port.inbox = burst(call, case).into_iter().map(|bytes| (bytes, meta)).collect();
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
            for case in cases() {
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

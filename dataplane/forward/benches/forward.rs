// SPDX-License-Identifier: Apache-2.0
//! Cost of a forwarded packet: one publisher to N receivers on a port that takes everything and sends nothing. It measures the
//! pipeline and its cipher, never the kernel; figures of one machine under other load mean little.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/forward/support.rs"]
mod support;

use std::fmt::Write as _;
use std::time::Instant;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::{BATCH, Capacities};
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_srtp::Profile;

use crate::support::bed::Bed;
use crate::support::call::{Call, MS};

/// Packets of one publisher that one round forwards.
const PACKETS: usize = 64;

/// Takes every frame and forgets it.
struct NullPort {
    inbox: Vec<(Vec<u8>, RxMeta)>,
    frame: Box<[u8; 2048]>,
    committed: u32,
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
    fn reserve(&mut self, _: PathSlot, len: usize) -> Option<&mut [u8]> {
        self.frame.get_mut(..len)
    }
    fn commit(&mut self, _: usize) {
        self.committed += 1;
    }
    fn flush(&mut self) -> Flushed {
        Flushed { frames: std::mem::take(&mut self.committed), errors: 0 }
    }
    fn reap(&mut self) {}
}

struct Figure {
    profile: Profile,
    receivers: usize,
    payload: usize,
    receive_ns: f64,
    forward_ns: f64,
    forwarded: u64,
}

fn measure(profile: Profile, receivers: usize, payload: usize, rounds: usize) -> Figure {
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
    call.clients[publisher].outgoing[0].packet_bytes = payload;
    call.clients[publisher].outgoing[0].frame_packets = PACKETS;
    call.clients[publisher].outgoing[0].is_paused = true;
    call.clients[publisher].outgoing[0].wants_keyframe = false;
    let mut port = NullPort { inbox: Vec::new(), frame: Box::new([0; 2048]), committed: 0 };
    let (mut receive_ns, mut transmit_ns, mut forwarded, mut received) = (0, 0, 0_u64, 0_u64);
    for round in 0..rounds {
        call.bed.advance(20 * MS);
        let now = call.bed.now;
        let client = &mut call.clients[publisher];
        let meta = RxMeta { flow: client.flow, arrival_ns: now.mono_ns, ecn: Ecn::default() };
        let stream = &mut client.outgoing[0];
        stream.wants_keyframe = false;
        let packets = stream.frame(&client.tx, &mut client.transport_seq, &call.world, &mut call.bed.dice, now.mono_ns);
        call.world.borrow_mut().clear();
        port.inbox = packets.into_iter().map(|bytes| (bytes, meta)).collect();
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
        worker.take_effects();
        // The first rounds warm up.
        if round >= rounds / 10 {
            receive_ns += (received_at - began).as_nanos();
            transmit_ns += received_at.elapsed().as_nanos();
            forwarded += frames;
            received += count as u64;
        }
    }
    assert!(forwarded >= received * receivers as u64, "{forwarded} of {received} x {receivers}");
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let per = |ns: u128, packets: u64| ns as f64 / packets.max(1) as f64;
    Figure {
        profile,
        receivers,
        payload,
        receive_ns: per(receive_ns, received),
        forward_ns: per(transmit_ns, forwarded),
        forwarded,
    }
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let mut json = String::from("[");
    println!(
        "{:<28} {:>9} {:>8} {:>12} {:>12} {:>10}",
        "profile", "receivers", "payload", "receive ns", "forward ns", "packets"
    );
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        for (receivers, payload) in [(1, 1100), (10, 1100), (100, 1100), (1000, 1100), (100, 80)] {
            let rounds = if is_test { 2 } else { (20_000 / receivers).clamp(30, 1000) };
            let figure = measure(profile, receivers, payload, rounds);
            println!(
                "{:<28} {:>9} {:>8} {:>12.0} {:>12.0} {:>10}",
                figure.profile.name(),
                figure.receivers,
                figure.payload,
                figure.receive_ns,
                figure.forward_ns,
                figure.forwarded
            );
            let comma = if json.len() > 1 { "," } else { "" };
            write!(
                json,
                "{comma}\n{{\"profile\":\"{}\",\"receivers\":{},\"payload\":{},\"receive_ns\":{:.1},\"forward_ns\":{:.1},\"forwarded\":{}}}",
                figure.profile.name(),
                figure.receivers,
                figure.payload,
                figure.receive_ns,
                figure.forward_ns,
                figure.forwarded
            )
            .unwrap();
        }
    }
    json.push_str("\n]\n");
    if let Ok(file) = std::env::var("MILLRACE_BENCH_JSON") {
        std::fs::write(file, json).expect("the JSON file can be written");
    }
}

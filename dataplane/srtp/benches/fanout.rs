// SPDX-License-Identifier: Apache-2.0
//! Cost of sealing one payload for many receivers, the first layer of the fan-out: no table, no port, no kernel. Every
//! implementation that runs here, against `webrtc-srtp` and `aws-lc-rs` on the same packets.
//!
//! Each figure is the least of rounds that take turns with those of the other contestants, so that a disturbance meets
//! all alike; ratios are of these.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use dataplane_srtp::backend::Backend;
use dataplane_srtp::{BATCH, MasterKey, Profile, Sealing, TxContext, protect_rtp_batch};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const HEAD: usize = 12;
const FRAME_BYTES: usize = 2048;
/// Frames of a tile, which stay in the cache nearest to the core.
const TILE_FRAMES: usize = 64;
/// Frames of a worker's transmit ring: 8 MiB.
const RING_FRAMES: usize = 4096;

/// What is measured: one payload length, so many keys and packets per key before the next key, so many frames.
#[derive(Clone, Copy)]
struct Load {
    profile: Profile,
    payload: usize,
    keys: usize,
    per_key: usize,
    frames: usize,
}

/// One contestant.
trait Seal {
    fn name(&self) -> String;
    /// Seals one packet per index from `first` on.
    fn seal(&mut self, frames: &mut Frames, load: Load, first: u64, count: usize);
}

/// Frames with a header in place, and the payload that all of them get.
struct Frames {
    memory: Vec<u8>,
    payload: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        let payload = (0..2000).map(|at: usize| u8::try_from(at % 251).unwrap()).collect();
        Self { memory: vec![0; RING_FRAMES * FRAME_BYTES], payload }
    }

    fn frame(memory: &mut [u8], step: Step) -> &mut [u8] {
        let at = step.frame * FRAME_BYTES;
        // As in a port's frame: link, network and transport headers stand in front.
        let frame = &mut memory[at + 42..at + FRAME_BYTES];
        frame[..HEAD].copy_from_slice(&header(step.index));
        frame
    }
}

fn header(index: u64) -> [u8; HEAD] {
    let [.., s0, s1] = index.to_be_bytes();
    [0x80, 96, s0, s1, 1, 2, 3, 4, 0x12, 0x34, 0x56, 0x78]
}

fn master(profile: Profile, at: usize) -> MasterKey {
    let bytes: Vec<u8> = (0..64).map(|byte| u8::try_from((at * 7 + at / 256 + byte) % 256).unwrap()).collect();
    MasterKey::new(profile, &bytes[..profile.key_len()], &bytes[..profile.salt_len()]).unwrap()
}

/// One packet: its index, whose it is, whose the one after the next is, and its frame.
#[derive(Clone, Copy)]
struct Step {
    index: u64,
    key: usize,
    key_ahead: usize,
    frame: usize,
}

/// The packets of a round, counted on: a division for each would be a tenth of what is measured.
struct Walk {
    load: Load,
    next: Step,
    of_key: [usize; 2],
    left: usize,
}

impl Walk {
    fn of(load: Load, first: u64, count: usize) -> Self {
        let at = usize::try_from(first).unwrap();
        let [key, key_ahead] = [at, at + 2].map(|at| at / load.per_key % load.keys);
        let of_key = [at, at + 2].map(|at| at % load.per_key);
        Self { load, next: Step { index: first, key, key_ahead, frame: at % load.frames }, of_key, left: count }
    }
}

/// One further, and back to the start at the end.
fn after(at: usize, end: usize) -> usize {
    if at + 1 == end { 0 } else { at + 1 }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        let (step, Load { keys, per_key, frames, .. }) = (self.next, self.load);
        self.of_key = self.of_key.map(|at| after(at, per_key));
        self.next = Step {
            index: step.index + 1,
            key: if self.of_key[0] == 0 { after(step.key, keys) } else { step.key },
            key_ahead: if self.of_key[1] == 0 { after(step.key_ahead, keys) } else { step.key_ahead },
            frame: after(step.frame, frames),
        };
        Some(step)
    }
}

struct Ours {
    backend: Backend,
    contexts: Vec<TxContext>,
    is_batch: bool,
}

impl Ours {
    fn one_by_one(&self, frames: &mut Frames, load: Load, first: u64, count: usize) {
        let Frames { memory, payload } = frames;
        for step in Walk::of(load, first, count) {
            self.contexts[step.key_ahead].prefetch();
            let (context, frame) = (&self.contexts[step.key], Frames::frame(memory, step));
            context.protect_rtp(step.index, frame, HEAD, 0, &payload[..load.payload]).unwrap();
        }
    }

    fn batches(&self, frames: &mut Frames, load: Load, first: u64, count: usize) {
        let Frames { memory, payload } = frames;
        let mut steps = Walk::of(load, first, count).peekable();
        while let Some(Step { frame: at, .. }) = steps.peek().copied() {
            let tile = &mut memory[at * FRAME_BYTES..(at + BATCH) * FRAME_BYTES];
            let mut frames = tile.chunks_exact_mut(FRAME_BYTES);
            let payload = &payload[..load.payload];
            let mut batch: [Sealing<'_, &[u8]>; BATCH] = std::array::from_fn(|_| {
                let Step { index, key, .. } = steps.next().unwrap();
                let frame = &mut frames.next().unwrap()[42..];
                frame[..HEAD].copy_from_slice(&header(index));
                Sealing::new(&self.contexts[key], index, frame, (HEAD, 0), payload)
            });
            protect_rtp_batch(&mut batch);
            assert!(batch.iter().all(|packet| packet.sealed.is_ok()));
        }
    }
}

impl Seal for Ours {
    fn name(&self) -> String {
        let batch = if self.is_batch { " batch" } else { "" };
        format!("{}{batch}", self.backend.name())
    }

    fn seal(&mut self, frames: &mut Frames, load: Load, first: u64, count: usize) {
        if self.is_batch {
            self.batches(frames, load, first, count)
        } else {
            self.one_by_one(frames, load, first, count)
        }
    }
}

/// `aws-lc-rs`: copy, then seal in place.
struct AwsLc(Vec<LessSafeKey>);

impl Seal for AwsLc {
    fn name(&self) -> String {
        "aws-lc-rs".into()
    }

    fn seal(&mut self, frames: &mut Frames, load: Load, first: u64, count: usize) {
        let Frames { memory, payload } = frames;
        for step in Walk::of(load, first, count) {
            let frame = Frames::frame(memory, step);
            let (head, body) = frame.split_at_mut(HEAD);
            let (body, tag) = body.split_at_mut(load.payload);
            body.copy_from_slice(&payload[..load.payload]);
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&step.index.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let made = self.0[step.key].seal_in_place_separate_tag(nonce, Aad::from(&*head), body).unwrap();
            tag[..16].copy_from_slice(made.as_ref());
        }
    }
}

/// `webrtc-srtp`, which allocates its result.
struct WebrtcSrtp(Vec<Context>);

impl Seal for WebrtcSrtp {
    fn name(&self) -> String {
        "webrtc-srtp".into()
    }

    fn seal(&mut self, frames: &mut Frames, load: Load, first: u64, count: usize) {
        let Frames { memory, payload } = frames;
        for step in Walk::of(load, first, count) {
            let frame = Frames::frame(memory, step);
            let plain = &mut frame[..HEAD + load.payload];
            plain[HEAD..].copy_from_slice(&payload[..load.payload]);
            black_box(self.0[step.key].encrypt_rtp(plain).unwrap());
        }
    }
}

fn contestants(load: Load) -> Vec<Box<dyn Seal>> {
    let Load { profile, keys, .. } = load;
    let mut all: Vec<Box<dyn Seal>> = Vec::new();
    for backend in Backend::ALL.into_iter().filter(|backend| backend.is_available()) {
        for is_batch in [false, true] {
            let contexts: Vec<_> = (0..keys).map(|at| TxContext::on(backend, &master(profile, at))).collect();
            if contexts[0].backend_name() == backend.name() && (!is_batch || profile == Profile::AesCm128HmacSha1_80) {
                all.push(Box::new(Ours { backend, contexts, is_batch }));
            }
        }
    }
    let algorithm = match profile {
        Profile::AeadAes128Gcm => Some(&AES_128_GCM),
        Profile::AeadAes256Gcm => Some(&AES_256_GCM),
        Profile::AesCm128HmacSha1_80 => None,
    };
    if let Some(algorithm) = algorithm {
        let key = |at| LessSafeKey::new(UnboundKey::new(algorithm, master(profile, at).key()).unwrap());
        all.push(Box::new(AwsLc((0..keys).map(key).collect())));
    }
    let theirs = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let context = |at| {
        let master = master(profile, at);
        Context::new(master.key(), master.salt(), theirs, None, None).unwrap()
    };
    all.push(Box::new(WebrtcSrtp((0..keys).map(context).collect())));
    all
}

/// Least nanoseconds per packet of each contestant.
fn measure(load: Load, rounds: usize, frames: &mut Frames) -> Vec<(String, f64)> {
    // Each round uses every key, so that it finds as much in the cache as the one before.
    let count = (load.keys * load.per_key).next_multiple_of(TILE_FRAMES).clamp(512, 12_032);
    let mut all = contestants(load);
    let mut least = vec![f64::MAX; all.len()];
    for round in 0..=rounds {
        for (contestant, least) in all.iter_mut().zip(&mut least) {
            let first = (round * count) as u64;
            let began = Instant::now();
            contestant.seal(frames, load, first, count);
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let ns = began.elapsed().as_nanos() as f64 / count as f64;
            // The first round warms up.
            if round > 0 {
                *least = least.min(ns);
            }
        }
    }
    all.iter().map(|one| one.name()).zip(least).collect()
}

fn loads(is_test: bool) -> Vec<Load> {
    let mut loads = Vec::new();
    for profile in Profile::ALL {
        for payload in [1200, 160] {
            let load = Load { profile, payload, keys: 3000, per_key: 1, frames: TILE_FRAMES };
            loads.push(load);
            if !is_test {
                loads.push(Load { keys: 1, ..load });
                loads.push(Load { per_key: 4, ..load });
                loads.push(Load { frames: RING_FRAMES, ..load });
            }
        }
    }
    loads
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { 40 };
    let mut frames = Frames::new();
    let mut json = String::from("[");
    println!(
        "{:<28} {:>7} {:>5} {:>7} {:>7} {:<15} {:>9} {:>13} {:>11}",
        "profile",
        "payload",
        "keys",
        "per key",
        "frames",
        "implementation",
        "ns/packet",
        "x webrtc-srtp",
        "x aws-lc-rs"
    );
    for load in loads(is_test) {
        let figures = measure(load, rounds, &mut frames);
        let of = |name: &str| figures.iter().find(|(one, _)| one == name).map(|(_, ns)| *ns);
        for (name, ns) in &figures {
            let ratio = |other: Option<f64>| other.map_or_else(|| "-".into(), |other| format!("{:.1}", other / ns));
            let (webrtc, aws) = (ratio(of("webrtc-srtp")), ratio(of("aws-lc-rs")));
            let Load { profile, payload, keys, per_key, frames } = load;
            let profile = profile.name();
            println!(
                "{profile:<28} {payload:>7} {keys:>5} {per_key:>7} {frames:>7} {name:<15} {ns:>9.1} {webrtc:>13} {aws:>11}"
            );
            let comma = if json.len() > 1 { "," } else { "" };
            write!(
                json,
                "{comma}\n{{\"profile\":\"{profile}\",\"payload\":{payload},\"keys\":{keys},\"per_key\":{per_key},\"frames\":{frames},\"implementation\":\"{name}\",\"ns\":{ns:.1}}}"
            )
            .unwrap();
        }
    }
    json.push_str("\n]\n");
    if let Ok(file) = std::env::var("MILLRACE_BENCH_JSON") {
        std::fs::write(file, json).expect("the JSON file can be written");
    }
}

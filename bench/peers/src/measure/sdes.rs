// SPDX-License-Identifier: Apache-2.0
//! rtpengine with receivers that are addresses and keys: SDES, no ICE, no DTLS. It saves it work that WebRTC clients would
//! ask of it, so its figure is a lower bound.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bench_scenarios::bed::{FIRST_PUBLISHER, FIRST_RECEIVER, SERVER};
use bench_scenarios::run::SERVER_CPU;
use bench_trafficgen::mono_ns;
use bench_trafficgen::sender::Probe;
use bench_trafficgen::session::{self, End};
use webrtc_srtp::context::Context;

use super::webrtc::SOURCES;
use super::{Done, Outcome, Place, RECEIVER_PORT, Setup, stride};
use crate::client::media::{Published, Stream};
use crate::client::webrtc::Samples;
use crate::server::rtpengine::{Agreed, Rtpengine};

/// Between two looks at the sampled sockets.
const PAUSE: Duration = Duration::from_millis(20);

/// A stream's socket with its session.
struct Leg {
    socket: UdpSocket,
    session: Context,
}

/// Runs rtpengine once.
///
/// # Errors
/// When it refuses something; what was measured is never an error.
pub fn run_rtpengine(setup: &Setup<'_>) -> Result<Outcome> {
    let place = Place::prepare(setup, false)?;
    let namespaces = (&place.bed.server, &place.bed.sink);
    let mut server = Rtpengine::start(namespaces, SERVER, SERVER_CPU, setup.cipher, setup.folder)?;
    let address: Ipv4Addr = FIRST_PUBLISHER.parse()?;
    let agreed = server.publish(&SOURCES, address, RECEIVER_PORT)?;
    let publishing = place.bed.generator.inside(|| legs(&agreed, address, setup, End::ToServer))?;
    let first: Ipv4Addr = FIRST_RECEIVER.parse()?;
    let mut sampled = Vec::new();
    let began = Instant::now();
    for number in 0..setup.receivers {
        let address = Ipv4Addr::from(u32::from(first) + number);
        let agreed = server.subscribe(&SOURCES, address, RECEIVER_PORT)?;
        if number.is_multiple_of(stride(setup.receivers)) {
            sampled.extend(place.bed.sink.inside(|| legs(&agreed, address, setup, End::FromServer))?);
        }
    }
    let joining_s = began.elapsed().as_secs_f64();
    let (stop, done, samples) = (AtomicBool::new(false), AtomicBool::new(false), Arc::new(Samples::default()));
    let count = AtomicU64::new(0);
    let (window, published) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check(sampled, &samples, &done));
        let sending = scope.spawn(|| publish(publishing, &stop, &count));
        let window = place.watch(setup, server.pid(), &count);
        stop.store(true, Ordering::Relaxed);
        let published = sending.join();
        place.drain();
        done.store(true, Ordering::Relaxed);
        let _ = checking.join();
        (window, published)
    });
    let command = server.command().to_owned();
    drop(server);
    let published = published.map_err(|_| anyhow!("the generator panicked"))??;
    let samples = [
        samples.right.load(Ordering::Relaxed),
        samples.wrong.load(Ordering::Relaxed) + samples.unopened.load(Ordering::Relaxed),
    ];
    place.finish(setup, &window?, Done { published: &published, samples, joining_s, command })
}

/// A socket with a session for each stream; the n-th is bound to `RECEIVER_PORT + 2 n`.
fn legs(agreed: &[Agreed], address: Ipv4Addr, setup: &Setup<'_>, end: End) -> Result<Vec<Leg>> {
    agreed
        .iter()
        .zip((RECEIVER_PORT..).step_by(2))
        .map(|(agreed, port)| {
            let socket = UdpSocket::bind((address, port)).with_context(|| format!("bind {address}:{port}"))?;
            socket.connect(agreed.server)?;
            socket.set_nonblocking(true)?;
            Ok(Leg { socket, session: session::open(setup.cipher, &agreed.keys, end)? })
        })
        .collect()
}

/// Publishes until `stop` is set; `count` always says how many packets have left.
fn publish(mut legs: Vec<Leg>, stop: &AtomicBool, count: &AtomicU64) -> Result<Published> {
    let began = Instant::now();
    let mut streams: Vec<Stream> = SOURCES.iter().map(|source| Stream::new(*source, began)).collect();
    let mut published = Published::default();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        for (stream, leg) in streams.iter_mut().zip(&mut legs).filter(|(stream, _)| stream.due() <= now) {
            let source = stream.source();
            let (packets, probe) = stream.frame(now);
            published.probes.extend(probe.map(|id| Probe { is_video: source.is_video, id, sent_ns: mono_ns() }));
            for packet in packets {
                let sealed = leg.session.encrypt_rtp(&packet).context("seal a packet")?;
                if leg.socket.send(&sealed).is_ok() {
                    published.count(source);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let next = streams.iter().map(Stream::due).min().unwrap_or(now);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(published)
}

/// Opens what the sink lets through, until `done` is set and nothing is left.
fn check(mut legs: Vec<Leg>, samples: &Samples, done: &AtomicBool) {
    let mut buffer = [0; 2048];
    loop {
        let is_last = done.load(Ordering::Relaxed);
        for leg in &mut legs {
            while let Ok(len) = leg.socket.recv(&mut buffer) {
                match leg.session.decrypt_rtp(&buffer[..len]) {
                    Ok(plain) => samples.judge(&plain, &SOURCES),
                    Err(_) => _ = samples.unopened.fetch_add(1, Ordering::Relaxed),
                }
            }
        }
        if is_last {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

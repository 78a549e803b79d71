// SPDX-License-Identifier: Apache-2.0
//! Servers with real WebRTC clients: each on an address of its own, ICE and DTLS by our bots, one SRTP profile offered.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench_bots::profile::Profile;
use bench_bots::transport::Identity;
use bench_scenarios::bed::{Bed, FIRST_PUBLISHER, FIRST_RECEIVER};
use bench_scenarios::cpu;
use bench_scenarios::run::OTHER_CPU;
use dataplane_table::Cipher;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Done, Outcome, Place, RECEIVER_PORT, Setup};
use crate::client::endpoint::Endpoint;
use crate::client::media::{Published, Source};
use crate::client::webrtc::{Samples, Stage, publish, receive};
use crate::server::webrtc::{Kind, Server};

/// Sound first, as in the offer.
pub(crate) const SOURCES: [Source; 2] =
    [Source { is_video: false, ssrc: 0x0200_0000, pt: 111 }, Source { is_video: true, ssrc: 0x0100_0000, pt: 96 }];

/// Everybody who is connected.
struct Call {
    server: Server,
    publisher: JoinHandle<Result<Published>>,
    receivers: Vec<JoinHandle<Result<()>>>,
    stage: watch::Sender<Stage>,
    samples: Arc<Samples>,
    count: Arc<AtomicU64>,
    joining_s: f64,
}

/// Runs a server once.
///
/// # Errors
/// When somebody cannot join; what was measured is never an error.
pub fn run(kind: Kind, setup: &Setup<'_>) -> Result<Outcome> {
    let place = Place::prepare(setup, true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| _ = cpu::pin(OTHER_CPU))
        .build()?;
    let mut call = runtime.block_on(join(&place.bed, kind, setup))?;
    call.stage.send_replace(Stage::Sending);
    let window = place.watch(setup, call.server.pid(), &call.count);
    call.stage.send_replace(Stage::Draining);
    place.drain();
    call.stage.send_replace(Stage::Over);
    let published = runtime.block_on(&mut call.publisher)??;
    for receiver in call.receivers {
        runtime.block_on(receiver)?.context("a receiver")?;
    }
    let command = call.server.command().to_owned();
    drop(call.server);
    let samples = [&call.samples.right, &call.samples.wrong, &call.samples.unopened];
    let [right, wrong, unopened] = samples.map(|counter| counter.load(Ordering::Relaxed));
    let samples = [right, wrong + unopened];
    place.finish(setup, &window?, Done { published: &published, samples, joining_s: call.joining_s, command })
}

async fn join(bed: &Bed, kind: Kind, setup: &Setup<'_>) -> Result<Call> {
    let identity = Arc::new(Identity::generate(Some(profile(setup.cipher)))?);
    let mut server = Server::start(kind, bed, setup).await?;
    let (stage, stages) = watch::channel(Stage::Waiting);
    let sources: Arc<[Source]> = SOURCES.into();
    let first: Ipv4Addr = FIRST_PUBLISHER.parse()?;
    let mut endpoint = server.publish(socket(&bed.generator, first)?, &identity, &SOURCES).await?;
    same_profile(&mut endpoint, setup.cipher)?;
    let count = Arc::new(AtomicU64::new(0));
    let publisher = tokio::spawn(publish(endpoint, Arc::clone(&sources), Arc::clone(&count), stages.clone()));
    let samples = Arc::new(Samples::default());
    let mut receivers = Vec::new();
    let began = Instant::now();
    let first: Ipv4Addr = FIRST_RECEIVER.parse()?;
    for number in 0..setup.receivers {
        let address = Ipv4Addr::from(u32::from(first) + number);
        let mut endpoint = server.subscribe(socket(&bed.sink, address)?, &identity, &SOURCES).await?;
        same_profile(&mut endpoint, setup.cipher)?;
        let receiver = receive(endpoint, Arc::clone(&sources), Arc::clone(&samples), stages.clone());
        receivers.push(tokio::spawn(receiver));
    }
    let joining_s = began.elapsed().as_secs_f64();
    // What joining leaves behind is over before anything is measured.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Call { server, publisher, receivers, stage, samples, count, joining_s })
}

pub(crate) fn socket(namespace: &tools_netlab::netns::Namespace, address: Ipv4Addr) -> Result<UdpSocket> {
    namespace.inside(|| UdpSocket::bind((address, RECEIVER_PORT)).with_context(|| format!("bind {address}")))
}

pub(crate) fn same_profile(endpoint: &mut Endpoint, cipher: Cipher) -> Result<()> {
    let profile = endpoint.transport().profile();
    ensure!(profile == Some(self::profile(cipher)), "the server chose {profile:?}");
    Ok(())
}

fn profile(cipher: Cipher) -> Profile {
    match cipher {
        Cipher::AeadAes128Gcm => Profile::Gcm128,
        Cipher::AeadAes256Gcm => Profile::Gcm256,
        Cipher::AesCm128HmacSha1_80 => Profile::Sha1x80,
    }
}

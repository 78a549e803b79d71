// SPDX-License-Identifier: Apache-2.0
//! What WebRTC clients do once they are connected: one publishes the bed's media, the others receive and open what the sink
//! lets through. Both keep consent (RFC 7675) up. Neither reports: the sink counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bench_bots::rtp::Header;
use bench_bots::transport::Received;
use bench_trafficgen::{mono_ns, payload, sender::Probe};
use tokio::sync::watch;

use super::endpoint::Endpoint;
use super::media::{Published, Source, Stream};

/// Between two looks at the stage.
const LOOK: Duration = Duration::from_millis(100);

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Connected, nothing is sent yet.
    Waiting,
    /// Media flows.
    Sending,
    /// Nothing is sent any more; what is on its way arrives.
    Draining,
    /// Everybody goes.
    Over,
}

/// What the samples of all receivers came to.
#[derive(Debug, Default)]
pub struct Samples {
    /// Opened, and what was published.
    pub right: AtomicU64,
    /// Opened, and not what was published.
    pub wrong: AtomicU64,
    /// Not opened.
    pub unopened: AtomicU64,
}

impl Samples {
    /// Counts an opened packet.
    pub fn judge(&self, packet: &[u8], sources: &[Source]) {
        let is_right = Header::parse(packet).is_some_and(|header| {
            let body = packet.get(header.len..).unwrap_or_default();
            sources
                .iter()
                .any(|source| payload::read(body, source.is_video).is_some_and(|(ssrc, _)| ssrc == source.ssrc))
        });
        let counter = if is_right { &self.right } else { &self.wrong };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Receives until the run is over.
///
/// # Errors
/// When DTLS fails before that.
pub async fn receive(
    mut endpoint: Endpoint,
    sources: Arc<[Source]>,
    samples: Arc<Samples>,
    mut stage: watch::Receiver<Stage>,
) -> Result<()> {
    loop {
        let turn = endpoint.turn(Instant::now() + Duration::from_secs(1));
        let received = tokio::select! {
            received = turn => received,
            _ = stage.wait_for(|stage| *stage == Stage::Over) => return Ok(()),
        };
        match received? {
            Received::Rtp(packet) => samples.judge(&packet, &sources),
            Received::Undecryptable => _ = samples.unopened.fetch_add(1, Ordering::Relaxed),
            Received::Rtcp(_) | Received::Repeated | Received::Other => {}
        }
    }
}

/// Publishes while media flows; `count` always says how many packets have left.
///
/// # Errors
/// When DTLS fails.
pub async fn publish(
    mut endpoint: Endpoint,
    sources: Arc<[Source]>,
    count: Arc<AtomicU64>,
    mut stage: watch::Receiver<Stage>,
) -> Result<Published> {
    let mut published = Published::default();
    let mut streams: Vec<Stream> = Vec::new();
    loop {
        let now = Instant::now();
        match *stage.borrow_and_update() {
            Stage::Waiting => {}
            Stage::Sending if streams.is_empty() => {
                streams = sources.iter().map(|source| Stream::new(*source, now)).collect();
            }
            Stage::Sending => {}
            Stage::Draining => streams.clear(),
            Stage::Over => return Ok(published),
        }
        for stream in streams.iter_mut().filter(|stream| stream.due() <= now) {
            let source = stream.source();
            let (packets, probe) = stream.frame(now);
            published.probes.extend(probe.map(|id| Probe { is_video: source.is_video, id, sent_ns: mono_ns() }));
            for packet in packets {
                endpoint.transport().send_rtp(&packet)?;
                published.count(source);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        let next = streams.iter().map(Stream::due).min().unwrap_or(now + LOOK);
        endpoint.turn(next.min(now + LOOK)).await?;
    }
}

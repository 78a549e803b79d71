// SPDX-License-Identifier: Apache-2.0
//! All bots of a run: they join a few at a time, stay for a while, and leave together. It must never wait longer than
//! the run's limits.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::args::Args;
use crate::bot::{self, Outcome, Phase, Shared};
use crate::report::Report;
use crate::signaling::Place;
use crate::transport::Identity;

/// Bots that join at the same time; the server lets 16 of one address wait.
const AT_THE_DOOR: usize = 8;
/// For what is on its way, and for what is asked for again.
const DRAIN: Duration = Duration::from_millis(1200);
/// For saying goodbye.
const GOODBYE: Duration = Duration::from_secs(12);

/// Runs everything that `args` ask for.
///
/// # Errors
/// Nothing could be tried at all.
pub(crate) async fn run(args: &Args) -> Result<Report> {
    let count = args.publishers + args.viewers;
    if count == 0 {
        bail!("--publishers and --viewers are both 0");
    }
    let place = Place::parse(&args.url)?;
    let shared = Arc::new(Shared {
        local: local_address(&place)?,
        place,
        rooms: (0..count).map(|number| args.room_of(number)).collect(),
        token: args.token.clone(),
        identity: Identity::generate(args.profile)?,
        watch: args.watch,
        camera: (args.video_bps, args.fps),
    });
    let (phase, phases) = watch::channel(Phase::Running);
    let (joined, mut joins) = mpsc::channel(count);
    let gate = Arc::new(Semaphore::new(AT_THE_DOOR));
    let mut bots = tokio::task::JoinSet::new();
    for number in 0..count {
        let publishes = number < args.publishers;
        let life = bot::live(Arc::clone(&shared), number, publishes, phases.clone(), joined.clone(), Arc::clone(&gate));
        bots.spawn(life);
    }
    drop(joined);
    let start = Instant::now();
    let everybody = async {
        for _ in 0..count {
            joins.recv().await;
        }
    };
    let _ = timeout(args.join_limit(), everybody).await;
    let joining = start.elapsed();
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let _ = phase.send(Phase::Draining);
    tokio::time::sleep(DRAIN).await;
    let _ = phase.send(Phase::Leaving);
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(count);
    let gather = async {
        while let Some(outcome) = bots.join_next().await {
            outcomes.extend(outcome.ok());
        }
    };
    let _ = timeout(GOODBYE, gather).await;
    outcomes.sort_by_key(|outcome| outcome.name.trim_start_matches("bot-").parse::<u64>().unwrap_or(0));
    Ok(Report::new(args, joining, &outcomes))
}

/// The address of this host that the server is reached from.
fn local_address(place: &Place) -> Result<IpAddr> {
    use std::net::ToSocketAddrs;
    let mut addresses = place.authority.to_socket_addrs().with_context(|| format!("--url: {}", place.authority))?;
    let server = addresses.next().with_context(|| format!("--url: {} has no address", place.authority))?;
    let any: IpAddr = if server.is_ipv4() { [0_u8; 4].into() } else { [0_u16; 8].into() };
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(server)?;
    Ok(probe.local_addr()?.ip())
}

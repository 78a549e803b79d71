// SPDX-License-Identifier: Apache-2.0
//! The control plane process: sockets, clocks, configuration.
//!
//! ```text
//!  HTTP ─► signaling ─► queue ─► reactor ─► core ─► plane (bridge) ─► segment
//!                                  │          └───► journal (tokio-uring, its own thread)
//!                                  └─ clock, wake-ups, deadlines
//! ```
//!
//! It must never carry media, and its end must never end a call: what it programmed stays in the segment.
#![forbid(unsafe_code)]

mod addresses;
mod bridge;
mod certificate;
mod config;
mod core;
mod entropy;
mod handshake;
mod journal;
mod log_limit;
mod negotiation;
mod plane;
mod reactor;
mod serve;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use axum_server::Handle;
use clap::Parser;
use controlplane_dtls::Identity;
use controlplane_signaling::{Access, AddressLimits, Claims, Client, Grant, Signaling, Sockets, TokenKey};
use controlplane_store::{KeyPair, Pair, Sessions, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::config::{Arguments, Config};
use crate::core::{Core, Predecessor};
use crate::journal::{Journal, Rotation};
use crate::serve::Listeners;

/// How long WebSockets may take to close when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for the person who started it; nowhere to go if standard error is closed.
            let _ = writeln!(std::io::stderr(), "millrace-controlplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments)?;
    if arguments.print_config {
        return say(&config.to_toml()?);
    }
    if let Some(room) = &arguments.mint_token {
        return say(&format!("{}\n", mint(&arguments, &config, room)?));
    }
    let filter =
        EnvFilter::try_new(&config.log).with_context(|| format!("cannot use the log filter {}", config.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // Two threads: the session core keeps one busy in a join storm while the other goes on reading sockets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&config))
}

/// Starts everything, says where it is, and runs until SIGTERM or SIGINT.
async fn run(config: &Config) -> anyhow::Result<()> {
    let store = Store::open(&config.state_dir)?;
    let identity = dtls_identity(&store)?;
    let key = token_key(config, &store)?;
    let certificate =
        if config.listen.is_empty() { None } else { Some(certificate::server_config(config, &store).await?) };
    let listeners = Listeners::bind(&config.listen_plain, &config.listen, certificate.as_ref())?;
    let rotation = Rotation {
        dir: journal::dir_in(&config.state_dir),
        max_len: config.journal.file_mib << 20,
        files: config.journal.files,
    };
    let (journal, journal_thread) = Journal::start(rotation).context("cannot start the journal's thread")?;
    let (client, requests) = Client::channel(config.limits.queued_requests);
    let access = Access { key, open_rooms: config.open_rooms, viewers_need_token: config.viewers_need_token };
    let (stopping, told) = watch::channel(false);
    let limits =
        AddressLimits { unjoined: config.limits.unjoined_per_address, joins_per_s: config.limits.joins_per_address_s };
    let (sockets, open_sockets) = Sockets::new(&config.allowed_origins, limits, told);
    let router = controlplane_signaling::router(Signaling { client, access, sockets });
    let (stop, stopped) = watch::channel(false);
    let handed = bridge::attach(config)?;
    let (keep, kept) = Sessions::load(&config.state_dir, &handed.boot_id())?;
    let started = Instant::now();
    let predecessor = Predecessor::read(started, config.limits.room_limits(), kept);
    // Last of what may fail: until here everything that a predecessor programmed is as it was.
    let (plane, found) = handed.adopt(&predecessor.known())?;
    let mut core = Core::new(config, plane, store, identity, journal);
    core.succeed(started, predecessor, &found, keep);
    let reactor = tokio::spawn(reactor::run(core, requests, stopped));
    let handle = Handle::<SocketAddr>::new();
    if let Err(error) = dataplane_keeper::ready(&config.runtime_dir) {
        tracing::error!("{error}");
    }
    // For the person at the terminal, and for whoever waits for the first line.
    for url in listeners.urls() {
        say(&format!("Millrace is ready: {url}\n"))?;
    }
    if config.open_rooms {
        tracing::warn!("open_rooms: everybody who reaches this server may publish and watch");
    }
    tokio::spawn(stop_on_signal(handle.clone(), stopping)?);
    let served = listeners.serve(router, handle).await;
    // Clients that hear of the stop resume by themselves; those that do not take it find out.
    let _ = tokio::time::timeout(FAREWELL, open_sockets.closed()).await;
    let _ = stop.send(true);
    reactor.await.context("the session core failed")??;
    // The core held the last sending end: the thread writes what is queued and ends.
    let written = tokio::task::spawn_blocking(move || journal_thread.join());
    if written.await.is_ok_and(|joined| joined.is_err()) {
        tracing::error!("the journal's thread failed");
    }
    served
}

/// A task that ends the WebSockets and the listeners at SIGTERM or SIGINT. Calls go on: the data plane keeps what it was
/// told.
fn stop_on_signal(
    handle: Handle<SocketAddr>,
    stopping: watch::Sender<bool>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; calls go on in the data plane");
        stopping.send_replace(true);
        serve::stop(&handle);
    })
}

/// The certificate whose fingerprint is in every answer; made at the first start and kept (CONTRACTS 11).
fn dtls_identity(store: &Store) -> anyhow::Result<Identity> {
    let made = || -> anyhow::Result<KeyPair> {
        let identity = Identity::generate()?;
        let (cert, key) = identity.parts();
        Ok(KeyPair { cert_der: cert.to_vec(), key_der: Zeroizing::new(key.to_vec()) })
    };
    let pair = store.key_pair(Pair::Dtls, made)?;
    Identity::from_parts(&pair.cert_der, &pair.key_der).with_context(|| {
        format!("the DTLS certificate in {} cannot be used; move the file away", store.path().display())
    })
}

/// The key of tokens: the configured file's bytes, else the one in the store.
fn token_key(config: &Config, store: &Store) -> anyhow::Result<TokenKey> {
    let bytes = match &config.token_key_file {
        Some(_) => return configured_token_key(config),
        None => store.token_key(|| -> anyhow::Result<_> { Ok(entropy::key()?) })?,
    };
    Ok(TokenKey::new(&bytes)?)
}

fn configured_token_key(config: &Config) -> anyhow::Result<TokenKey> {
    let path = config.token_key_file.as_ref().context("token_key_file is not set")?;
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.with_context(|| format!("cannot read the token key {}", path.display()))?;
    TokenKey::new(bytes.trim_ascii_end()).with_context(|| format!("cannot use the token key {}", path.display()))
}

/// Signs a token with the server's key. Without `token_key_file` the store must be free: a running server holds it.
fn mint(arguments: &Arguments, config: &Config, room: &str) -> anyhow::Result<String> {
    let room: controlplane_room::RoomName = room.parse()?;
    let name = arguments.token_name.as_deref().map(str::parse::<controlplane_room::DisplayName>).transpose()?;
    let key = match &config.token_key_file {
        Some(_) => configured_token_key(config)?,
        None => token_key(
            config,
            &Store::open(&config.state_dir)
                .context("a running server holds its key; use token_key_file to share one")?,
        )?,
    };
    let all = [Grant::Publish, Grant::Subscribe];
    let wanted = |grant: &Grant| {
        arguments.token_grant.is_empty() || arguments.token_grant.iter().any(|word| word == grant.as_str())
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims {
        room: room.to_string(),
        name: name.map(|name| name.to_string()),
        grants: all.into_iter().filter(wanted).collect(),
        exp: now.saturating_add(arguments.token_ttl_s),
    };
    Ok(key.sign(&claims)?)
}

/// Writes an answer to the person who asked for it.
fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

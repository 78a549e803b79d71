// SPDX-License-Identifier: Apache-2.0
//! Janus (Debian's package): its video room, driven over its WebSocket API, with real WebRTC subscribers.

mod api;

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench_bots::sdp::Remote;
use bench_bots::transport::{IceRole, Identity};
use bench_scenarios::bed::SERVER_INTERFACE;
use serde_json::json;
use tools_netlab::netns::Namespace;
use tools_netlab::process::{Process, run};

use self::api::{Api, Handle};
use super::sdp;
use crate::client::endpoint::Endpoint;
use crate::client::media::Source;

/// The Debian package.
pub const PACKAGE: &str = "janus";
/// Where the API listens.
const API_PORT: u16 = 8188;
const ROOM: u32 = 1234;
const VIDEOROOM: &str = "janus.plugin.videoroom";
/// For ICE and DTLS of one client.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const START_LIMIT: Duration = Duration::from_secs(15);

/// How Janus divides its work among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// A thread for each client: as it comes.
    PerClient,
    /// So many event loops for all of them: what its documentation advises for many clients.
    Loops(u8),
}

/// A running Janus.
pub struct Janus {
    process: Process,
    command: String,
    api: Api,
}

impl Janus {
    /// Starts it in `server` on core `cpu`, and connects to it from `clients`. Configuration and log are in `folder`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(
        (server, clients): (&Namespace, &Namespace),
        address: &str,
        cpu: usize,
        threads: Threads,
        folder: &Path,
    ) -> Result<Self> {
        wait_for_carrier(server)?;
        let etc = folder.join("janus");
        std::fs::create_dir_all(&etc)?;
        std::fs::write(etc.join("janus.jcfg"), configuration(address, threads))?;
        let ws =
            format!("general: {{ json = \"compact\"\n ws = true\n ws_port = {API_PORT}\n ws_ip = \"{address}\" }}\n");
        std::fs::write(etc.join("janus.transport.websockets.jcfg"), ws)?;
        let mut command = server.command("taskset");
        command.args(["-c", &cpu.to_string(), "janus", "-o", "-F"]).arg(&etc).arg("-C").arg(etc.join("janus.jcfg"));
        let line = super::words(&command);
        let mut process = Process::spawn(command, &folder.join("janus.log"), false)?;
        process.wait_for_text("WebSockets thread started", START_LIMIT).context("janus")?;
        let stream = clients.inside(|| Ok(TcpStream::connect((address, API_PORT))?)).context("the API of janus")?;
        let mut api = Api::open(stream, &format!("ws://{address}:{API_PORT}/")).await?;
        let handle = api.attach(VIDEOROOM).await?;
        // No limit and no periodic request for keyframes: nothing but forwarding is measured.
        let room = json!({"request": "create", "room": ROOM, "publishers": 2, "bitrate": 0, "fir_freq": 0,
            "audiocodec": "opus", "videocodec": "vp8", "audiolevel_event": false, "notify_joining": false});
        api.ask(handle, room, None).await.context("create a room")?;
        Ok(Self { process, command: line, api })
    }

    /// How it was started.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Joins as the publisher and connects; what receivers ask for.
    ///
    /// # Errors
    /// When Janus refuses, or nothing connects.
    pub async fn publish(&mut self, endpoint: &mut Endpoint, sources: &[Source]) -> Result<u64> {
        let handle = self.api.attach(VIDEOROOM).await?;
        let join = json!({"request": "join", "ptype": "publisher", "room": ROOM});
        let (joined, _) = self.api.ask(handle, join, None).await.context("join")?;
        let feed = joined["id"].as_u64().context("no id in what join says")?;
        let offer = sdp::offer(sources, &endpoint.attributes());
        let jsep = json!({"type": "offer", "sdp": offer});
        let (_, answer) = self.api.ask(handle, json!({"request": "publish"}), Some(jsep)).await.context("publish")?;
        let answer = answer.context("no answer to a publisher")?;
        endpoint.connect(&Remote::parse(&answer)?, CONNECT_LIMIT).await.context("the publisher")?;
        self.wait_for_feed(handle, feed).await?;
        Ok(feed)
    }

    /// Until others may subscribe: Janus takes a while to see that the publisher has connected.
    async fn wait_for_feed(&mut self, handle: Handle, feed: u64) -> Result<()> {
        let until = Instant::now() + CONNECT_LIMIT;
        loop {
            let list = json!({"request": "listparticipants", "room": ROOM});
            let (list, _) = self.api.ask(handle, list, None).await.context("list")?;
            let mut people = list["participants"].as_array().into_iter().flatten();
            if people.any(|one| one["id"] == feed && one["publisher"] == true) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the publisher's feed does not come up: {list}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Subscribes to `feed` and connects.
    ///
    /// # Errors
    /// When Janus refuses, or nothing connects.
    pub async fn subscribe(
        &mut self,
        feed: u64,
        socket: std::net::UdpSocket,
        identity: &Arc<Identity>,
    ) -> Result<Endpoint> {
        let handle = self.api.attach(VIDEOROOM).await?;
        let join = json!({"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": feed}]});
        let (_, offer) = self.api.ask(handle, join, None).await.context("subscribe")?;
        let offer = offer.context("no offer to a subscriber")?;
        let mut endpoint = Endpoint::new(socket, identity, IceRole::Controlled)?;
        self.start_feed(handle, &sdp::answer(&offer, &endpoint.attributes())?).await?;
        endpoint.connect(&Remote::parse(&offer)?, CONNECT_LIMIT).await.context("a subscriber")?;
        Ok(endpoint)
    }

    async fn start_feed(&mut self, handle: Handle, answer: &str) -> Result<()> {
        let jsep = json!({"type": "answer", "sdp": answer});
        let (started, _) = self.api.ask(handle, json!({"request": "start"}), Some(jsep)).await.context("start")?;
        ensure!(started["started"] == "ok", "start: {started}");
        Ok(())
    }
}

/// Janus looks for addresses on interfaces that run, and a new wire takes a second until the kernel says so.
fn wait_for_carrier(server: &Namespace) -> Result<()> {
    let until = Instant::now() + START_LIMIT;
    let file = format!("/sys/class/net/{SERVER_INTERFACE}/operstate");
    while run(server.command("cat").arg(&file))?.stdout.trim_ascii() != b"up" {
        ensure!(Instant::now() < until, "{SERVER_INTERFACE} has no carrier");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Only what is needed runs: one plugin, one transport, no statistics.
fn configuration(address: &str, threads: Threads) -> String {
    let loops = match threads {
        Threads::PerClient => 0,
        Threads::Loops(loops) => loops,
    };
    let library = |kind: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("libjanus_{name}.so")).collect();
        format!("{kind}: {{ disable = \"{}\" }}\n", names.join(","))
    };
    let plugins = [
        "audiobridge",
        "duktape",
        "echotest",
        "lua",
        "nosip",
        "recordplay",
        "sip",
        "streaming",
        "textroom",
        "videocall",
        "voicemail",
    ];
    let handlers = ["gelfevh", "mqttevh", "nanomsgevh", "rabbitmqevh", "sampleevh", "wsevh"];
    format!(
        "general: {{ debug_level = 4\n interface = \"{address}\"\n event_loops = {loops}\n session_timeout = 0 }}\n\
         nat: {{ ice_enforce_list = \"{address}\"\n full_trickle = false\n ice_lite = false }}\n\
         media: {{ rtp_port_range = \"20000-60000\" }}\n{}{}{}{}",
        library("plugins", &plugins),
        library("transports", &["http", "mqtt", "nanomsg", "pfunix", "rabbitmq"]),
        library("events", &handlers),
        library("loggers", &["jsonlog"]),
    )
}

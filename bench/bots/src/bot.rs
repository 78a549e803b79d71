// SPDX-License-Identifier: Apache-2.0
//! One participant: joins, offers, sends, watches, counts, leaves. It must never run longer than it is told to.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::media::Sources;
use crate::numbers::Numbers;
use crate::receive::{Counts, Stream};
use crate::room::Room;
use crate::rtcp::{self, Told};
use crate::rtp::{self, Header};
use crate::sdp::{self, Answer, CAMERA_MID, MICROPHONE_MID, OfferParts, OwnSsrcs, RTX};
use crate::signaling::{Client, Place, Refused};
use crate::transport::{IceRole, Identity, Received, Transport};

/// Between two looks at what is missing.
const TICK: Duration = Duration::from_millis(20);
/// Between two reports.
const REPORT: Duration = Duration::from_secs(1);
/// A server that takes no more joins is asked again after this time.
const JOIN_AGAIN: Duration = Duration::from_millis(250);
const JOIN_TRIES: u32 = 40;
/// Bytes that the kernel keeps for a bot, if it may.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Datagrams that are read before anything else is looked at.
const BURST: usize = 64;

/// What all bots share.
pub(crate) struct Shared {
    pub(crate) place: Place,
    /// Room of each bot, by its number.
    pub(crate) rooms: Vec<String>,
    pub(crate) token: Option<String>,
    pub(crate) identity: Identity,
    pub(crate) local: std::net::IpAddr,
    pub(crate) watch: u8,
    pub(crate) camera: (u32, u32),
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Bots join and send.
    Running,
    /// Nobody sends media any more; what is on its way arrives.
    Draining,
    /// Bots leave.
    Leaving,
}

/// What a bot has to say when it is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) publishes: bool,
    /// From the first connection to keys.
    pub(crate) joined_after: Option<Duration>,
    /// From the first connection to the first packet of media.
    pub(crate) media_after: Option<Duration>,
    /// What ended it early.
    pub(crate) error: Option<String>,
    pub(crate) sent_packets: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_keyframes: u64,
    pub(crate) resent: u64,
    pub(crate) counts: Counts,
    pub(crate) undecryptable: u64,
    pub(crate) repeated: u64,
    /// Packets whose SSRC no slot has.
    pub(crate) strange: u64,
    /// Times that its WebSocket was lost and came back.
    pub(crate) resumed: u64,
    pub(crate) nacks_sent: u64,
    pub(crate) plis_sent: u64,
    pub(crate) keyframes_asked: u64,
    /// Slots that show something at the end.
    pub(crate) shown: usize,
    /// Those of them in which something arrived.
    pub(crate) alive: usize,
    /// How long media could be received.
    pub(crate) time: Duration,
}

/// A connection that takes up where the last one ended.
type Resuming = JoinHandle<Result<(Client, Value)>>;

/// A bot in a room.
struct Bot {
    shared: Arc<Shared>,
    /// `None` while a new one is made.
    client: Option<Client>,
    resuming: Option<Resuming>,
    token: String,
    socket: UdpSocket,
    transport: Transport,
    room: Room,
    sources: Option<Sources>,
    streams: HashMap<u32, Stream>,
    /// Slot's SSRC by that of its retransmissions.
    originals: BTreeMap<u32, u32>,
    own: u32,
    cname: String,
    started: Instant,
    secured: Option<Instant>,
    next_tick: Instant,
    next_report: Instant,
    subscribing: Option<u64>,
    outcome: Outcome,
}

/// Lives as one participant until the phase is [`Phase::Leaving`]; what it came to, also if it ended early.
pub(crate) async fn live(
    shared: Arc<Shared>,
    number: usize,
    publishes: bool,
    phase: watch::Receiver<Phase>,
    joined: tokio::sync::mpsc::Sender<bool>,
    gate: Arc<tokio::sync::Semaphore>,
) -> Outcome {
    let name = format!("bot-{number}");
    let failed = |error: &anyhow::Error| Some(format!("{error:#}"));
    let permit = gate.acquire_owned().await;
    let mut bot = match Bot::enter(&shared, number, publishes).await {
        Ok(bot) => bot,
        Err(error) => {
            let _ = joined.send(false).await;
            return Outcome { name, publishes, error: failed(&error), ..Outcome::default() };
        }
    };
    drop(permit);
    let result = bot.run(phase, &joined).await;
    if bot.secured.is_none() {
        let _ = joined.send(false).await;
    }
    bot.outcome.error = result.as_ref().err().and_then(failed);
    bot.sum_up()
}

impl Bot {
    /// Joins, offers and takes the answer.
    async fn enter(shared: &Arc<Shared>, number: usize, publishes: bool) -> Result<Self> {
        let mut numbers = Numbers::new(u64::try_from(number).unwrap_or(0) + 1);
        let cname = format!("bot-{number}");
        let socket = UdpSocket::bind((shared.local, 0)).await.context("a UDP socket")?;
        // Bots share their cores with each other and often with the server: what waits for its turn is not lost.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let local = socket.local_addr()?;
        let started = Instant::now();
        let (mut client, joined) = join(shared, number, &cname).await?;
        let mut room = Room::new(&joined, number * 2);
        let mut transport = Transport::new(&shared.identity, local, IceRole::Controlling, Instant::now())?;
        let ssrcs = OwnSsrcs { audio: numbers.word() | 1, video: numbers.word() | 1, video_rtx: numbers.word() | 1 };
        let offer = sdp::offer(&OfferParts {
            credentials: transport.credentials(),
            fingerprint: &shared.identity.fingerprint(),
            cname: &cname,
            sends: publishes.then_some(ssrcs),
            slots: shared.watch,
        });
        let tracks = if publishes {
            json!([{"mid": MICROPHONE_MID, "source": "microphone", "muted": false},
                   {"mid": CAMERA_MID, "source": "camera", "muted": false}])
        } else {
            json!([])
        };
        let reply = client.ask("offer", json!({"sdp": offer, "restart": true, "tracks": tracks})).await?;
        let answer = Answer::parse(reply["sdp"].as_str().context("an answer without SDP")?)?;
        if answer.slots.len() != usize::from(shared.watch) * 2 {
            bail!("{} slots in the answer instead of {}", answer.slots.len(), usize::from(shared.watch) * 2);
        }
        transport.start(&answer.remote, Instant::now())?;
        room.set_slots(&answer.slots);
        let now = Instant::now();
        Ok(Self {
            shared: Arc::clone(shared),
            client: Some(client),
            resuming: None,
            token: joined["resume"].as_str().unwrap_or_default().to_owned(),
            socket,
            transport,
            room,
            sources: publishes.then(|| Sources::new(ssrcs, shared.camera, numbers.clone(), now)),
            streams: answer.slots.iter().map(|slot| (slot.ssrc, Stream::new(slot.ssrc, slot.is_video))).collect(),
            originals: answer.slots.iter().filter_map(|slot| Some((slot.rtx_ssrc?, slot.ssrc))).collect(),
            own: ssrcs.audio,
            outcome: Outcome { name: cname.clone(), publishes, ..Outcome::default() },
            cname,
            started,
            secured: None,
            next_tick: now,
            next_report: now + REPORT.mul_f64(f64::from(numbers.below(1000)) / 1000.0),
            subscribing: None,
        })
    }

    async fn run(&mut self, mut phase: watch::Receiver<Phase>, joined: &tokio::sync::mpsc::Sender<bool>) -> Result<()> {
        let mut buffer = vec![0; 2048];
        self.subscribe().await?;
        loop {
            self.flush().await;
            let stage = *phase.borrow_and_update();
            if stage != Phase::Running && self.outcome.time.is_zero() {
                self.outcome.time = self.secured.map(|at| at.elapsed()).unwrap_or_default();
            }
            if stage == Phase::Leaving {
                let client = self.client.as_mut().context("the WebSocket was lost and did not come back")?;
                return client.ask("leave", json!({})).await.map(|_| ());
            }
            let wake = self.wake(stage);
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((len, from)) = received {
                        self.receive(&buffer[..len], from)?;
                    }
                    for _ in 0..BURST {
                        let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) else { break };
                        self.receive(&buffer[..len], from)?;
                    }
                }
                message = next_of(&mut self.client) => match message {
                    Ok(message) => self.hear(&message).await?,
                    Err(_) => self.resume_later(),
                },
                resumed = finish(&mut self.resuming) => self.resumed(resumed?).await?,
                () = tokio::time::sleep_until(wake.into()) => {}
                changed = phase.changed() => changed.context("the run is over")?,
            }
            let now = Instant::now();
            self.turn(stage, now)?;
            if self.secured.is_none() && self.transport.is_secured() {
                self.secured = Some(now);
                self.outcome.joined_after = Some(now - self.started);
                let _ = joined.send(true).await;
            }
        }
    }

    /// When something is to be done even if nothing comes.
    fn wake(&mut self, stage: Phase) -> Instant {
        let sending = self.sources.as_ref().filter(|_| stage == Phase::Running && self.secured.is_some());
        let media = sending.map(Sources::deadline);
        let timers = [self.next_tick, self.next_report].into_iter().chain(media).chain(self.transport.deadline());
        timers.min().unwrap_or(self.next_tick)
    }

    /// Timers, media and feedback that are due.
    fn turn(&mut self, stage: Phase, now: Instant) -> Result<()> {
        if self.transport.deadline().is_none_or(|at| at <= now) {
            self.transport.advance(now)?;
        }
        let mut packets = Vec::new();
        if let Some(sources) = self.sources.as_mut().filter(|_| stage == Phase::Running && self.secured.is_some()) {
            sources.due(now, &mut packets);
        }
        self.send_media(&packets)?;
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.ask_again(now)?;
        }
        if now >= self.next_report {
            self.next_report = now + REPORT;
            self.report(now)?;
        }
        Ok(())
    }

    fn send_media(&mut self, packets: &[Vec<u8>]) -> Result<()> {
        for packet in packets {
            self.outcome.sent_packets += 1;
            self.outcome.sent_bytes += u64::try_from(packet.len()).unwrap_or(0);
            self.transport.send_rtp(packet)?;
        }
        Ok(())
    }

    /// Asks for what is missing.
    fn ask_again(&mut self, now: Instant) -> Result<()> {
        let mut compound = Vec::new();
        for (ssrc, stream) in &mut self.streams {
            let (numbers, wants_keyframe) = (stream.wanted(now), stream.wants_keyframe(now));
            if numbers.is_empty() && !wants_keyframe {
                continue;
            }
            if compound.is_empty() {
                compound = rtcp::report(self.own, None, &[], &self.cname);
            }
            if !numbers.is_empty() {
                self.outcome.nacks_sent += 1;
                rtcp::push_nack(&mut compound, self.own, *ssrc, &numbers);
            }
            if wants_keyframe {
                self.outcome.plis_sent += 1;
                rtcp::push_pli(&mut compound, self.own, *ssrc);
            }
        }
        if compound.is_empty() { Ok(()) } else { self.transport.send_rtcp(&compound) }
    }

    /// Sender and receiver reports.
    fn report(&mut self, now: Instant) -> Result<()> {
        let blocks: Vec<_> = self.streams.values_mut().filter_map(|stream| stream.report(now)).collect();
        if let Some(sources) = &self.sources {
            for info in sources.infos(ntp_now()) {
                let compound = rtcp::report(self.own, Some(info), &[], &self.cname);
                self.transport.send_rtcp(&compound)?;
            }
        }
        for some in blocks.chunks(rtcp::MAX_BLOCKS) {
            self.transport.send_rtcp(&rtcp::report(self.own, None, some, &self.cname))?;
        }
        Ok(())
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) -> Result<()> {
        let now = Instant::now();
        match self.transport.receive(datagram, from, now)? {
            Received::Rtp(packet) => self.take(&packet, now),
            Received::Rtcp(compound) => self.listen(&compound, now)?,
            Received::Repeated => self.outcome.repeated += 1,
            Received::Undecryptable => self.outcome.undecryptable += 1,
            Received::Other => {}
        }
        Ok(())
    }

    fn take(&mut self, packet: &[u8], now: Instant) {
        let Some(header) = Header::parse(packet) else { return };
        let payload = packet.get(header.len..).unwrap_or_default();
        let original = self.originals.get(&header.ssrc).copied();
        match (original, self.streams.get_mut(&original.unwrap_or(header.ssrc))) {
            (Some(_), Some(stream)) if header.pt == RTX => {
                if let Some(number) = rtp::original_number(payload) {
                    stream.take_again(number, packet.len(), now);
                }
            }
            (None, Some(stream)) => {
                stream.take(&header, packet, now);
                self.outcome.media_after.get_or_insert(now - self.started);
            }
            _ => self.outcome.strange += 1,
        }
    }

    fn listen(&mut self, compound: &[u8], now: Instant) -> Result<()> {
        let told = rtcp::read(compound).ok_or_else(|| anyhow!("a damaged report from the server"))?;
        let mut packets = Vec::new();
        for said in told {
            match (said, &mut self.sources) {
                (Told::SenderReport { ssrc, ntp_middle }, _) => {
                    if let Some(stream) = self.streams.get_mut(&ssrc) {
                        stream.sender_report(ntp_middle, now);
                    }
                }
                (Told::KeyframeWanted { ssrc }, Some(sources)) => {
                    self.outcome.keyframes_asked += 1;
                    sources.keyframe_wanted(ssrc);
                }
                (Told::Wanted { ssrc, numbers }, Some(sources)) => sources.wanted(ssrc, &numbers, &mut packets),
                (Told::KeyframeWanted { .. } | Told::Wanted { .. }, None) => {}
            }
        }
        self.send_media(&packets)
    }

    /// A message of the server.
    async fn hear(&mut self, message: &Value) -> Result<()> {
        if self.subscribing.is_some() && message["id"].as_u64() == self.subscribing {
            self.subscribing = None;
            if message["type"] == "error" {
                bail!("subscribe: {} {}", message["code"], message["message"]);
            }
            for refused in message["refused"].as_array().into_iter().flatten() {
                self.room.refused(refused["mid"].as_str().unwrap_or_default());
            }
        }
        if message["type"] == "transport" && message["state"] == "failed" {
            bail!("the transport failed: {}", message["message"]);
        }
        self.room.hear(message);
        self.subscribe().await
    }

    /// Fills slots; one request at a time.
    async fn subscribe(&mut self) -> Result<()> {
        if self.subscribing.is_none()
            && self.client.is_some()
            && let Some(request) = self.room.fill()
        {
            match &mut self.client {
                Some(client) => self.subscribing = Some(client.send("subscribe", request).await?),
                None => bail!("nobody to ask"),
            }
        }
        Ok(())
    }

    /// The WebSocket is lost; media goes on while another one is made.
    fn resume_later(&mut self) {
        self.client = None;
        self.subscribing = None;
        let (shared, token) = (Arc::clone(&self.shared), self.token.clone());
        let resuming = async move { connect_and_join(&shared, &json!({"resume": token})).await };
        self.resuming = Some(tokio::spawn(resuming));
    }

    /// The room goes on as the server has it.
    async fn resumed(&mut self, (client, joined): (Client, Value)) -> Result<()> {
        if joined["transport"] != "kept" {
            bail!("resumed, but the transport is {}", joined["transport"]);
        }
        self.outcome.resumed += 1;
        self.client = Some(client);
        joined["resume"].as_str().unwrap_or_default().clone_into(&mut self.token);
        self.room.refresh(&joined);
        self.subscribe().await
    }

    async fn flush(&mut self) {
        while let Some((to, datagram)) = self.transport.next_datagram() {
            // A datagram that the kernel has no room for is lost, as on any network.
            if self.socket.try_send_to(&datagram, to).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            {
                let _ = self.socket.send_to(&datagram, to).await;
            }
        }
    }

    fn sum_up(mut self) -> Outcome {
        for stream in self.streams.values() {
            self.outcome.counts.add(&stream.counts());
            self.outcome.alive += usize::from(stream.first_at().is_some());
        }
        if let Some(sources) = &self.sources {
            self.outcome.sent_keyframes = sources.keyframes;
            self.outcome.resent = sources.resent;
        }
        self.outcome.shown = self.room.shown();
        self.outcome
    }
}

/// The next message; never, without a connection.
async fn next_of(client: &mut Option<Client>) -> Result<Value> {
    match client {
        Some(client) => client.next().await,
        None => std::future::pending().await,
    }
}

/// What a connection that resumes came to; never, where there is none.
async fn finish(resuming: &mut Option<Resuming>) -> Result<(Client, Value)> {
    match resuming {
        Some(running) => {
            let result = running.await;
            *resuming = None;
            result.context("resume")?
        }
        None => std::future::pending().await,
    }
}

async fn join(shared: &Shared, number: usize, name: &str) -> Result<(Client, Value)> {
    let room = shared.rooms.get(number).context("a bot without a room")?;
    connect_and_join(shared, &json!({"room": room, "name": name, "token": shared.token})).await
}

/// Connects and joins; a server that is busy or away is asked again.
async fn connect_and_join(shared: &Shared, request: &Value) -> Result<(Client, Value)> {
    let mut tries = 0;
    loop {
        let error = match Client::connect(&shared.place).await {
            Ok(mut client) => match client.ask("join", request.clone()).await {
                Ok(joined) => return Ok((client, joined)),
                Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.code != "rate_limited") => {
                    return Err(error.context("join"));
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        tries += 1;
        if tries >= JOIN_TRIES {
            return Err(error.context("join"));
        }
        tokio::time::sleep(JOIN_AGAIN).await;
    }
}

/// Now as NTP writes it (RFC 5905 §6).
fn ntp_now() -> u64 {
    const TO_1970: u64 = 2_208_988_800;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + TO_1970) << 32) | fraction
}

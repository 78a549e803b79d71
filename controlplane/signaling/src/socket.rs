// SPDX-License-Identifier: Apache-2.0
//! `GET /api/v1/ws`: one task per WebSocket, between its client and the session core (docs/PROTOCOL.md).
//!
//! It must never wait for the core, hold more than its bounds, or let a client that does not read slow anybody else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use futures_util::SinkExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite;

use crate::access::Rights;
use crate::admission::{AddressLimits, Admission, Waiting};
use crate::code::{CloseCode, ErrorCode, Refused};
use crate::event::{Encoded, ServerMessage};
use crate::message::{self, Join, Message};
use crate::outbox::{ConnectionId, Inbox, Outbox, Outgoing};
use crate::problem::{Problem, ProblemKind};
use crate::request::{Ask, Entry, Request};
use crate::router::Signaling;

/// The subprotocol.
const PROTOCOL: &str = "millrace.v1";
/// Longest message of a client, in bytes: an offer with 49 slots of each kind in Chromium's words.
pub const MAX_MESSAGE_LEN: usize = 512 * 1024;
/// The socket's buffers, each way; tungstenite's own default is 128 KiB.
const BUFFER_LEN: usize = 4 * 1024;
/// Until when the first message must have led to a participant.
const JOIN_TIME: Duration = Duration::from_secs(10);
/// Between two pings of the server.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Without anything from the client for so long it is taken as lost; so long may a message take to be taken.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages per second of a client, on average.
const RATE: f64 = 50.0;
/// Messages at once.
const BURST: f64 = 200.0;

/// What the WebSockets need beside the core.
#[derive(Clone, Debug)]
pub struct Sockets {
    allowed_origins: Arc<[String]>,
    admission: Admission,
    next: Arc<AtomicU64>,
    stopping: watch::Receiver<bool>,
    #[expect(dead_code, reason = "held so that its other end knows when the last connection has gone")]
    open: mpsc::Sender<()>,
}

/// Knows when the last WebSocket has gone.
#[derive(Debug)]
pub struct OpenSockets(mpsc::Receiver<()>);

impl OpenSockets {
    /// Ends when no connection and no router is left.
    pub async fn closed(mut self) {
        // Nothing is ever sent: the channel ends with its last sender.
        self.0.recv().await;
    }
}

impl Sockets {
    /// `stopping` becomes true when the server stops: every client is told then, and closed.
    #[must_use]
    pub fn new(
        allowed_origins: &[String],
        limits: AddressLimits,
        stopping: watch::Receiver<bool>,
    ) -> (Self, OpenSockets) {
        let (open, is_open) = mpsc::channel(1);
        let sockets = Self {
            allowed_origins: allowed_origins.into(),
            admission: Admission::new(limits),
            next: Arc::new(AtomicU64::new(1)),
            stopping,
            open,
        };
        (sockets, OpenSockets(is_open))
    }
}

/// Answers the upgrade: origin, subprotocol, connections of the address, in this order.
pub(crate) async fn upgrade(
    State(signaling): State<Arc<Signaling>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let sockets = &signaling.sockets;
    if !is_allowed_origin(&headers, &sockets.allowed_origins) {
        let detail = "a page of another origin may not connect (allowed_origins lists those that may)";
        return Err(Problem::new(ProblemKind::Forbidden, detail).at("Origin"));
    }
    let socket = socket
        .map_err(|refused| Problem::new(ProblemKind::BadParameter, refused.body_text()).at("Upgrade"))?
        .protocols([PROTOCOL]);
    if socket.selected_protocol().is_none() {
        let detail = format!("the subprotocol {PROTOCOL} is needed");
        return Err(Problem::new(ProblemKind::BadParameter, detail).at("Sec-WebSocket-Protocol"));
    }
    let Some(waiting) = sockets.admission.enter(Instant::now(), peer.ip()) else {
        let detail = "too many connections of this address have not joined";
        return Err(Problem::new(ProblemKind::TooManyPending, detail));
    };
    let socket = socket.read_buffer_size(BUFFER_LEN).write_buffer_size(BUFFER_LEN);
    let socket = socket.max_message_size(MAX_MESSAGE_LEN).max_frame_size(MAX_MESSAGE_LEN);
    let rights = signaling.access.is_open_to(peer, &headers).then_some(Rights::ALL);
    let (outbox, inbox) = Outbox::channel();
    let connection = Connection {
        // Relaxed: only that no number comes twice matters.
        id: ConnectionId(sockets.next.fetch_add(1, Ordering::Relaxed)),
        signaling: Arc::clone(&signaling),
        peer: peer.ip(),
        open_rights: rights,
        outbox,
        waiting: Some(waiting),
        asked: false,
        rate: Rate { tokens: BURST, at: Instant::now() },
    };
    Ok(socket.on_upgrade(move |socket| connection.run(socket, inbox)))
}

/// Whether a browser's page may connect: one of the server's own, or of an origin that is listed. Who sends no `Origin` is
/// no browser.
fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let uri = origin.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    matches!((authority, host), (Some(authority), Some(host)) if authority.as_str().eq_ignore_ascii_case(host))
}

/// A token bucket: how fast a client may talk.
#[derive(Debug)]
struct Rate {
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn takes(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        self.at = now;
        self.tokens -= 1.0;
        self.tokens >= 0.0
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed, or its connection broke.
    Gone,
    /// We close.
    Close(CloseCode),
}

/// One client.
#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    signaling: Arc<Signaling>,
    peer: IpAddr,
    /// What it may without a token.
    open_rights: Option<Rights>,
    outbox: Outbox,
    /// Counts against its address until it is a participant's.
    waiting: Option<Waiting>,
    /// Whether the core has heard of it.
    asked: bool,
    rate: Rate,
}

impl Connection {
    async fn run(mut self, mut socket: WebSocket, mut inbox: Inbox) {
        let end = self.serve(&mut socket, &mut inbox).await;
        if self.asked && end != End::Close(CloseCode::Restarting) {
            self.signaling.client.tell(Request::Disconnected { connection: self.id }).await;
        }
        if let End::Close(code) = end {
            let _ = timeout(FAREWELL, farewell(socket, inbox, code)).await;
        }
    }

    /// Carries messages both ways until one side ends it.
    async fn serve(&mut self, socket: &mut WebSocket, inbox: &mut Inbox) -> End {
        let start = tokio::time::Instant::now();
        let mut heard = start;
        let mut pings = interval_at(start + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = self.signaling.sockets.stopping.clone();
        let mut overflow = inbox.overflow();
        loop {
            let outgoing = tokio::select! {
                biased;
                // A sender that is gone means that the server ends, too.
                _ = stopping.wait_for(|stopping| *stopping) => return End::Close(CloseCode::Restarting),
                _ = overflow.wait_for(|overflowed| *overflowed) => return End::Close(CloseCode::TooSlow),
                () = sleep_until(start + JOIN_TIME), if self.waiting.is_some() => return End::Close(CloseCode::NoJoin),
                () = sleep_until(heard + SILENCE) => return End::Gone,
                next = inbox.next() => match next {
                    Some(outgoing) => Some(outgoing),
                    None => return End::Gone,
                },
                _ = pings.tick() => None,
                frame = socket.recv() => {
                    heard = tokio::time::Instant::now();
                    if let Some(end) = self.take(frame) {
                        return end;
                    }
                    continue;
                }
            };
            let sent = tokio::select! {
                biased;
                sent = self.send(socket, inbox, outgoing) => sent,
                _ = overflow.wait_for(|overflowed| *overflowed) => Some(End::Close(CloseCode::TooSlow)),
                () = sleep_until(tokio::time::Instant::now() + SILENCE) => Some(End::Gone),
            };
            if let Some(end) = sent {
                return end;
            }
        }
    }

    /// Sends a message, or a ping for `None`, and what waits behind it.
    async fn send(&mut self, socket: &mut WebSocket, inbox: &mut Inbox, first: Option<Outgoing>) -> Option<End> {
        let mut next = first;
        if next.is_none() && socket.feed(Frame::Ping(axum::body::Bytes::new())).await.is_err() {
            return Some(End::Gone);
        }
        while let Some(outgoing) = next {
            let text = match outgoing {
                Outgoing::Text(text) => text,
                Outgoing::Welcome(text) => {
                    self.waiting = None;
                    text
                }
                Outgoing::Close(code) => {
                    let _ = socket.flush().await;
                    return Some(End::Close(code));
                }
            };
            if socket.feed(Frame::Text(text.0.clone())).await.is_err() {
                return Some(End::Gone);
            }
            inbox.taken(&text);
            next = inbox.try_next();
        }
        socket.flush().await.is_err().then_some(End::Gone)
    }

    /// Looks at what the client sent.
    fn take(&mut self, frame: Option<Result<Frame, axum::Error>>) -> Option<End> {
        let frame = match frame {
            None => return Some(End::Gone),
            Some(Err(error)) => {
                return Some(if is_too_long(error) { End::Close(CloseCode::TooLong) } else { End::Gone });
            }
            Some(Ok(frame)) => frame,
        };
        if !self.rate.takes(Instant::now()) {
            return Some(End::Close(CloseCode::TooFast));
        }
        match frame {
            Frame::Text(text) => self.answer(text.as_str()),
            Frame::Binary(_) => Some(End::Close(CloseCode::Binary)),
            Frame::Ping(_) | Frame::Pong(_) => None,
            Frame::Close(_) => Some(End::Gone),
        }
    }

    /// Passes a request on, or answers what the core need not hear.
    fn answer(&mut self, text: &str) -> Option<End> {
        let parsed = message::parse(text);
        let (Some(id), Ok(message)) = (parsed.id, parsed.message.clone()) else {
            let refused = parsed.message.err().unwrap_or_else(|| Refused::new(ErrorCode::BadMessage, "no id"));
            return self.refuse(parsed.id, refused);
        };
        let ask = match message {
            Message::Ping => return self.reply(&ServerMessage::Pong { id }),
            Message::Join(join) => self.entry(join).map(Ask::Join),
            Message::Resume(token) => self.may_try().map(|()| Ask::Resume(token)),
            Message::Offer(offer) => Ok(Ask::Offer(offer)),
            Message::Subscribe(slots) => Ok(Ask::Subscribe(slots)),
            Message::Mute { track, muted } => Ok(Ask::Mute { track, muted }),
            Message::Leave => Ok(Ask::Leave),
        };
        let asked = ask.and_then(|ask| {
            let (connection, outbox, peer) = (self.id, self.outbox.clone(), self.peer);
            let request = Request::Participant { connection, id, ask, peer, outbox };
            self.signaling.client.try_tell(request).map_err(Refused::from)
        });
        match asked {
            Ok(()) => {
                self.asked = true;
                None
            }
            Err(refused) => self.refuse(Some(id), refused),
        }
    }

    /// Judges a join by its token, or by what is open to this peer.
    fn entry(&self, join: Join) -> Result<Entry, Refused> {
        self.may_try()?;
        let Join { room, name, token } = join;
        let token = token.as_ref().map(|token| token.as_str());
        let (rights, bound) = self.signaling.access.admit(&room, token, self.open_rights)?;
        let name = match (bound, name) {
            (Some(bound), Some(asked)) if bound != asked => {
                return Err(Refused::new(ErrorCode::Forbidden, "the token is for another name").at("name"));
            }
            (bound, asked) => bound.or(asked),
        };
        let name = name.ok_or_else(|| Refused::new(ErrorCode::BadName, "a name is needed").at("name"))?;
        Ok(Entry { room, name, rights })
    }

    /// Whether the address may try to join once more. Who has joined is told so by the core.
    fn may_try(&self) -> Result<(), Refused> {
        if self.waiting.is_none() || self.signaling.sockets.admission.may_join(Instant::now(), self.peer) {
            return Ok(());
        }
        Err(Refused::new(ErrorCode::RateLimited, "too many joins from this address; try again in a few seconds"))
    }

    fn refuse(&self, id: Option<u64>, refused: Refused) -> Option<End> {
        self.reply(&ServerMessage::error(id, refused))
    }

    fn reply(&self, message: &ServerMessage) -> Option<End> {
        // One that does not fit raises the overflow, which the loop sees next.
        let _ = self.outbox.reply(message);
        None
    }
}

/// Whether reading failed because a message was longer than it may be.
fn is_too_long(error: axum::Error) -> bool {
    let inner = error.into_inner();
    matches!(inner.downcast_ref::<tungstenite::Error>(), Some(tungstenite::Error::Capacity(_)))
}

/// Sends what waits, says why, and reads until the client has closed: a socket closed over unread bytes would take the close
/// frame with it.
async fn farewell(mut socket: WebSocket, mut inbox: Inbox, code: CloseCode) {
    if code == CloseCode::Restarting {
        while let Some(Outgoing::Text(text) | Outgoing::Welcome(text)) = inbox.try_next() {
            let _ = socket.feed(Frame::Text(text.0)).await;
        }
        let closing: Encoded = ServerMessage::Closing { reason: "restarting", retry_after_s: 1 }.encode();
        let _ = socket.feed(Frame::Text(closing.0)).await;
    }
    let frame = CloseFrame { code: code.number(), reason: code.reason().into() };
    if socket.send(Frame::Close(Some(frame))).await.is_err() {
        return;
    }
    loop {
        match socket.recv().await {
            Some(Ok(_)) => {}
            // Nothing can be read any more (a message was too long): the client has a moment to read the close.
            Some(Err(_)) | None if code == CloseCode::TooLong => return std::future::pending().await,
            Some(Err(_)) | None => return,
        }
    }
}

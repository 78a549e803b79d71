// SPDX-License-Identifier: Apache-2.0
//! The WebSocket as clients meet it: a real listener, a real client, and a session core that the test plays.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use controlplane_signaling::{
    Access, AddressLimits, Ask, Claims, Client, CloseCode, Grant, Joined, LimitsView, MAX_MESSAGE_LEN, OpenSockets,
    Outbox, Request, Rights, ServerMessage, Signaling, Sockets, TokenKey, TransportHeld, router,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Nothing here should take so long.
const PATIENCE: Duration = Duration::from_secs(10);

fn key() -> TokenKey {
    TokenKey::new(&[7; 32]).expect("long enough")
}

/// A listening server whose core is the test.
struct Bed {
    address: SocketAddr,
    requests: mpsc::Receiver<Request>,
    stopping: watch::Sender<bool>,
    open: Option<OpenSockets>,
    server: tokio::task::JoinHandle<()>,
}

impl Bed {
    async fn new() -> Self {
        Self::with(true, &[], AddressLimits { unjoined: 16, joins_per_s: 50 }, 64).await
    }

    async fn with(open_rooms: bool, origins: &[&str], limits: AddressLimits, queue: usize) -> Self {
        let (client, requests) = Client::channel(queue);
        let (stopping, told) = watch::channel(false);
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let (sockets, open) = Sockets::new(&origins, limits, told);
        let access = Access { key: key(), open_rooms, viewers_need_token: false };
        let router = router(Signaling { client, access, sockets });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        });
        Self { address, requests, stopping, open: Some(open), server }
    }

    async fn connect_with(&self, headers: &[(&str, &str)]) -> Result<Person, Error> {
        let mut request = format!("ws://{}/api/v1/ws", self.address).into_client_request()?;
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let stream = TcpStream::connect(self.address).await?;
        let (socket, response) = client_async(request, stream).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "millrace.v1");
        Ok(Person { socket })
    }

    async fn connect(&self) -> Person {
        self.connect_with(&[("sec-websocket-protocol", "millrace.v1")]).await.expect("connects")
    }

    /// The status with which an upgrade is refused.
    async fn refusal(&self, headers: &[(&str, &str)]) -> u16 {
        match self.connect_with(headers).await {
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(other) => panic!("{other}"),
            Ok(_) => 101,
        }
    }

    async fn asked(&mut self) -> (u64, Ask, Outbox) {
        let request = tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("in time");
        let Some(Request::Participant { id, ask, outbox, .. }) = request else { panic!("{request:?}") };
        (id, ask, outbox)
    }

    async fn disconnected(&mut self) {
        let request = tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("in time");
        assert!(matches!(request, Some(Request::Disconnected { .. })), "{request:?}");
    }

    /// Takes a join and welcomes it.
    async fn welcome(&mut self) -> Outbox {
        let (id, ask, outbox) = self.asked().await;
        assert!(matches!(ask, Ask::Join(_)), "{ask:?}");
        outbox.welcome(&joined(id)).expect("fits");
        outbox
    }
}

fn joined(id: u64) -> ServerMessage {
    ServerMessage::Joined(Box::new(Joined {
        id,
        room: "standup".into(),
        own: "ada".into(),
        resume: "00".repeat(16),
        resume_ttl_s: 60,
        resumed: false,
        transport: TransportHeld::None,
        slots: None,
        tracks: None,
        participants: Vec::new(),
        limits: LimitsView { message_bytes: 1, slots_per_kind: 1, tracks: 1, name_bytes: 1 },
        server: "millrace test".into(),
    }))
}

struct Person {
    socket: WebSocketStream<TcpStream>,
}

impl Person {
    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    async fn join(&mut self) {
        self.send(json!({"type": "join", "id": 1, "room": "standup", "name": "Ada"})).await;
    }

    /// The next message, pings passed over; a close as `close N`.
    async fn next(&mut self) -> Value {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => break serde_json::from_str(text.as_str()).expect("JSON"),
                    Some(Ok(Message::Close(frame))) => {
                        break frame
                            .map_or_else(|| json!("close"), |frame| json!(format!("close {}", u16::from(frame.code))));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => break json!(format!("{other:?}")),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("in time")
    }

    async fn expect_close(&mut self, code: CloseCode) {
        assert_eq!(self.next().await, json!(format!("close {}", code.number())));
    }
}

#[tokio::test]
async fn replies_and_events_come_in_the_order_in_which_they_were_given() {
    let mut bed = Bed::new().await;
    let mut ada = bed.connect().await;
    ada.join().await;
    let outbox = bed.welcome().await;
    for id in 2..5 {
        let muted = ServerMessage::Ok { id };
        outbox.reply(&muted).expect("fits");
        outbox
            .send(
                ServerMessage::ParticipantLeft {
                    participant: format!("p{id}"),
                    reason: controlplane_signaling::LeftReason::Left,
                }
                .encode(),
            )
            .expect("fits");
    }
    outbox.close(CloseCode::Left);
    let first = ada.next().await;
    assert_eq!((&first["type"], &first["id"], &first["self"]), (&json!("joined"), &json!(1), &json!("ada")));
    for id in 2..5 {
        assert_eq!(ada.next().await, json!({"type": "ok", "id": id}));
        assert_eq!(ada.next().await["participant"], format!("p{id}"));
    }
    ada.expect_close(CloseCode::Left).await;
    bed.disconnected().await;
}

#[tokio::test]
async fn requests_reach_the_core_in_order_and_the_rest_is_answered_here() {
    let mut bed = Bed::new().await;
    let mut ada = bed.connect().await;
    ada.join().await;
    ada.send(json!({"type": "ping", "id": 2})).await;
    ada.send(json!({"type": "fly", "id": 3})).await;
    ada.socket.send(Message::text("junk")).await.expect("sent");
    ada.send(json!({"type": "leave", "id": 4, "unknown": [1]})).await;
    let (_, ask, _) = bed.asked().await;
    let Ask::Join(entry) = ask else { panic!("{ask:?}") };
    assert_eq!((entry.room.as_str(), entry.name.as_str(), entry.rights), ("standup", "Ada", Rights::ALL));
    let (id, ask, _) = bed.asked().await;
    assert_eq!((id, ask), (4, Ask::Leave));
    assert_eq!(ada.next().await, json!({"type": "pong", "id": 2}));
    let unknown = ada.next().await;
    assert_eq!((&unknown["id"], &unknown["code"]), (&json!(3), &json!("unknown_type")));
    let junk = ada.next().await;
    assert_eq!((junk.get("id"), &junk["code"]), (None, &json!("bad_message")));
    drop(ada);
    bed.disconnected().await;
}

#[tokio::test]
async fn an_upgrade_needs_the_subprotocol_and_an_allowed_origin() {
    let limits = AddressLimits { unjoined: 16, joins_per_s: 50 };
    let bed = Bed::with(true, &["https://meet.example"], limits, 8).await;
    let own = format!("http://{}", bed.address);
    let version = ("sec-websocket-protocol", "millrace.v1");
    for (headers, status) in [
        (vec![], 400),
        (vec![("sec-websocket-protocol", "millrace.v2")], 400),
        (vec![version, ("origin", "https://evil.example")], 403),
        (vec![version, ("origin", "null")], 403),
        (vec![version, ("origin", "http://127.0.0.1:1")], 403),
        (vec![version, ("origin", own.as_str())], 101),
        (vec![version, ("origin", "https://meet.example")], 101),
        (vec![("sec-websocket-protocol", "millrace.v2, millrace.v1")], 101),
        (vec![version], 101),
    ] {
        assert_eq!(bed.refusal(&headers).await, status, "{headers:?}");
    }
}

#[tokio::test]
async fn an_address_has_16_connections_that_have_not_joined() {
    let mut bed = Bed::new().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(bed.connect().await);
    }
    let headers = [("sec-websocket-protocol", "millrace.v1")];
    assert_eq!(bed.refusal(&headers).await, 429);
    held[0].join().await;
    let _outbox = bed.welcome().await;
    assert_eq!(held[0].next().await["type"], "joined");
    held.push(bed.connect().await);
    assert_eq!(bed.refusal(&headers).await, 429);
    drop(held.pop());
    // The server hears of it in its own time.
    for _ in 0..100 {
        if bed.refusal(&headers).await == 101 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place of one that has gone stays taken");
}

#[tokio::test]
async fn joins_of_one_address_are_counted() {
    let mut bed = Bed::with(true, &[], AddressLimits { unjoined: 16, joins_per_s: 1 }, 64).await;
    let mut ada = bed.connect().await;
    for id in 1..=5 {
        ada.send(json!({"type": "join", "resume": "00".repeat(16), "id": id})).await;
    }
    for _ in 1..=4 {
        assert!(matches!(bed.asked().await.1, Ask::Resume(_)));
    }
    let refused = ada.next().await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!(5), &json!("rate_limited")));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let bed = Bed::new().await;
    let mut binary = bed.connect().await;
    binary.socket.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    binary.expect_close(CloseCode::Binary).await;
    let mut long = bed.connect().await;
    long.socket.send(Message::text("x".repeat(MAX_MESSAGE_LEN + 1))).await.expect("sent");
    long.expect_close(CloseCode::TooLong).await;
    let mut just = bed.connect().await;
    just.socket.send(Message::text("x".repeat(MAX_MESSAGE_LEN))).await.expect("sent");
    assert_eq!(just.next().await["code"], "bad_message");
    let mut fast = bed.connect().await;
    for id in 1..=300 {
        let ping = json!({"type": "ping", "id": id}).to_string();
        if fast.socket.send(Message::text(ping)).await.is_err() {
            break;
        }
    }
    let mut pongs = 0;
    let mut last = fast.next().await;
    while last["type"] == "pong" {
        pongs += 1;
        last = fast.next().await;
    }
    assert_eq!(last, "close 4008");
    assert!((200..230).contains(&pongs), "{pongs} were answered");
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_nobody_waits_for_it() {
    let mut bed = Bed::new().await;
    let mut sly = bed.connect().await;
    sly.join().await;
    let outbox = bed.welcome().await;
    let long = ServerMessage::Closing { reason: "restarting", retry_after_s: 1 };
    let long = ServerMessage::Answer {
        id: long.encode().as_str().len() as u64,
        sdp: "x".repeat(100_000),
        tracks: Vec::new(),
        slots: Vec::new(),
        rejected: Vec::new(),
    };
    let mut sent = 0;
    // What the kernel's buffers take is taken; then 1 MiB waits, then it is over.
    while outbox.reply(&long).is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 1000, "the bound is never reached");
    }
    assert!(outbox.reply(&ServerMessage::Ok { id: 1 }).is_err(), "nothing more is taken");
    let mut last = Value::Null;
    while !last.is_string() {
        last = sly.next().await;
    }
    assert_eq!(last, "close 4002");
    bed.disconnected().await;
}

#[tokio::test]
async fn who_does_not_join_in_time_is_closed() {
    let bed = Bed::new().await;
    let mut ada = bed.connect().await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let next = ada.socket.next().await;
    let Some(Ok(Message::Close(Some(frame)))) = next else { panic!("{next:?}") };
    assert_eq!((u16::from(frame.code), start.elapsed().as_secs_f64().round()), (4001, 10.0));
}

#[tokio::test]
async fn the_server_pings_and_who_is_silent_for_30_s_is_lost() {
    let mut bed = Bed::new().await;
    let mut ada = bed.connect().await;
    ada.join().await;
    let _outbox = bed.welcome().await;
    assert_eq!(ada.next().await["type"], "joined");
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    // Its library answers pings while it is read, and nobody reads it.
    let told = bed.requests.recv().await;
    assert!(matches!(told, Some(Request::Disconnected { .. })), "{told:?}");
    assert_eq!(start.elapsed().as_secs_f64().round(), 30.0);
    let mut pings = 0;
    while let Some(Ok(Message::Ping(_))) = ada.socket.next().await {
        pings += 1;
    }
    assert_eq!(pings, 2, "one each 10 s");
}

#[tokio::test]
async fn a_stop_is_told_and_closes_every_socket() {
    let mut bed = Bed::new().await;
    let mut ada = bed.connect().await;
    ada.join().await;
    let outbox = bed.welcome().await;
    outbox.reply(&ServerMessage::Ok { id: 9 }).expect("fits");
    bed.stopping.send_replace(true);
    assert_eq!(ada.next().await["type"], "joined");
    assert_eq!(ada.next().await["type"], "ok", "what was answered is not lost");
    assert_eq!(ada.next().await, json!({"type": "closing", "reason": "restarting", "retry_after_s": 1}));
    ada.expect_close(CloseCode::Restarting).await;
    drop(ada);
    bed.server.abort();
    let open = bed.open.take().expect("there");
    tokio::time::timeout(PATIENCE, open.closed()).await.expect("the last one has gone");
    assert!(bed.requests.try_recv().is_err(), "the core is not told that its clients have gone");
}

#[tokio::test]
async fn a_core_that_is_full_or_gone_is_an_answer() {
    let mut bed = Bed::with(true, &[], AddressLimits { unjoined: 16, joins_per_s: 50 }, 1).await;
    let mut ada = bed.connect().await;
    ada.join().await;
    ada.send(json!({"type": "leave", "id": 2})).await;
    let refused = ada.next().await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!(2), &json!("server_full")));
    bed.requests.close();
    while bed.requests.try_recv().is_ok() {}
    ada.send(json!({"type": "leave", "id": 3})).await;
    let refused = ada.next().await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!(3), &json!("server_full")));
}

#[tokio::test]
async fn a_token_opens_its_room_for_what_it_grants() {
    let mut bed = Bed::with(false, &[], AddressLimits { unjoined: 16, joins_per_s: 50 }, 64).await;
    // Not a page of this host: nothing is open to it.
    let headers = [("sec-websocket-protocol", "millrace.v1"), ("x-forwarded-for", "192.0.2.1")];
    let mut ada = bed.connect_with(&headers).await.expect("connects");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let sign = |room: &str, name: Option<&str>, grants: &[Grant], exp| {
        let claims = Claims { room: room.into(), name: name.map(str::to_owned), grants: grants.to_vec(), exp };
        key().sign(&claims).expect("signed")
    };
    let both = [Grant::Publish, Grant::Subscribe];
    for (token, code, field) in [
        (None, "unauthorized", "token"),
        (Some("x.y.z".to_owned()), "unauthorized", "token"),
        (Some(sign("standup", None, &both, now - 60)), "unauthorized", "token"),
        (Some(sign("other", None, &both, now + 60)), "forbidden", "room"),
        (Some(sign("standup", None, &[], now + 60)), "forbidden", "token"),
        (Some(sign("standup", Some("Bob"), &both, now + 60)), "forbidden", "name"),
    ] {
        ada.send(json!({"type": "join", "id": 1, "room": "standup", "name": "Ada", "token": token})).await;
        let refused = ada.next().await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!(code), &json!(field)), "{token:?}");
        assert!(!token.is_some_and(|token| refused.to_string().contains(&token)), "a token is not repeated");
    }
    let watch = sign("standup", Some("Ada"), &[Grant::Subscribe], now + 60);
    ada.send(json!({"type": "join", "id": 2, "room": "standup", "token": watch})).await;
    let (_, ask, _) = bed.asked().await;
    let Ask::Join(entry) = ask else { panic!("{ask:?}") };
    assert_eq!((entry.name.as_str(), entry.rights), ("Ada", Rights { publish: false, subscribe: true }));
    let mut local = bed.connect().await;
    local.join().await;
    assert!(matches!(bed.asked().await.1, Ask::Join(entry) if entry.rights == Rights::ALL), "this host is open");
}

// SPDX-License-Identifier: Apache-2.0
//! Every route, status and header, asked as a client would, with a session core that answers by rote.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request as HttpRequest, Response, StatusCode};
use controlplane_room::{PublisherSummary, RoomSummary};
use controlplane_signaling::{
    Accepted, Access, AddressLimits, Claims, Client, Grant, Problem, ProblemKind, Request, ResourceId, SdpText,
    Signaling, Sockets, TokenKey, router,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

const OFFER: &str = "v=0\r\n";
const LOCAL: &str = "127.0.0.1:50000";
const FAR: &str = "192.0.2.7:50000";
const RESOURCE: ResourceId = ResourceId([0xab; 16]);

fn key(byte: u8) -> TokenKey {
    TokenKey::new(&[byte; 32]).expect("long enough")
}

/// What the rote core has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Publish(String, Option<String>, String),
    Watch(String, Option<String>),
    Leave(String, String),
}

/// A router with a core that accepts everything, except what `refusal` says.
struct Bed {
    router: Router,
    seen: mpsc::UnboundedReceiver<Seen>,
}

fn accepted(participant: &str) -> Accepted {
    Accepted {
        resource: RESOURCE,
        etag: "e1".into(),
        participant: participant.parse().expect("an id"),
        answer: SdpText("v=0\r\ns=answer\r\n".into()),
    }
}

fn summary() -> RoomSummary {
    RoomSummary {
        room: "demo".parse().expect("a room"),
        publishers: vec![PublisherSummary {
            participant: "ann".parse().expect("an id"),
            name: "Ann <b>".parse().expect("a name"),
            audio_tracks: 1,
            video_tracks: 1,
            live: true,
        }],
        viewers: 3,
    }
}

async fn answer_by_rote(
    mut requests: mpsc::Receiver<Request>,
    seen: mpsc::UnboundedSender<Seen>,
    refusal: Option<Problem>,
) {
    let verdict = |participant: &str| refusal.clone().map_or_else(|| Ok(accepted(participant)), Err);
    while let Some(request) = requests.recv().await {
        match request {
            Request::Publish { room, name, offer, reply, .. } => {
                let _ = seen.send(Seen::Publish(room.to_string(), name.map(|name| name.to_string()), offer.0));
                let _ = reply.send(verdict("ann"));
            }
            Request::Watch { room, participant, reply, .. } => {
                let _ = seen.send(Seen::Watch(room.to_string(), participant.map(|id| id.to_string())));
                let _ = reply.send(verdict("ben"));
            }
            Request::Leave { room, resource, reply } => {
                let _ = seen.send(Seen::Leave(room.to_string(), resource.to_hex()));
                let _ = reply.send(refusal.clone().map_or(Ok(()), Err));
            }
            Request::Rooms { reply } => {
                let _ = reply.send(vec![summary()]);
            }
            Request::Participant { .. } | Request::Disconnected { .. } => panic!("no WebSocket here"),
        }
    }
}

fn bed_with(access: Access, refusal: Option<Problem>) -> Bed {
    let (client, requests) = Client::channel(8);
    let (seen_by, seen) = mpsc::unbounded_channel();
    tokio::spawn(answer_by_rote(requests, seen_by, refusal));
    Bed { router: router(Signaling { client, access, sockets: sockets() }), seen }
}

fn sockets() -> Sockets {
    Sockets::new(&[], AddressLimits { unjoined: 16, joins_per_s: 50 }, tokio::sync::watch::channel(false).1).0
}

fn closed() -> Access {
    Access { key: key(1), open_rooms: false, viewers_need_token: false }
}

fn bed() -> Bed {
    bed_with(closed(), None)
}

fn request(method: &str, uri: &str, peer: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> HttpRequest<Body> {
    let mut builder = HttpRequest::builder().method(method).uri(uri);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        builder = builder.header("host", "localhost:8080");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let peer: SocketAddr = peer.parse().expect("an address");
    builder.extension(ConnectInfo(peer)).body(body.into()).expect("a request")
}

impl Bed {
    async fn send(&self, request: HttpRequest<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("infallible")
    }

    async fn post(&self, uri: &str, peer: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let headers = [&[("content-type", "application/sdp")], headers].concat();
        self.send(request("POST", uri, peer, &headers, OFFER)).await
    }

    async fn get(&self, uri: &str) -> Response<Body> {
        self.send(request("GET", uri, FAR, &[], Body::empty())).await
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Asserts that a response is this problem and gives its JSON.
async fn problem(response: Response<Body>, status: u16, field: Option<&str>) -> Value {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(response.status().as_u16(), status);
    let body: Value = serde_json::from_str(&text(response).await).expect("JSON");
    assert_eq!(body["status"], status);
    assert_eq!(body["field"].as_str(), field, "{body}");
    assert!(body["type"].as_str().is_some_and(|kind| kind.starts_with("urn:problem:millrace:")), "{body}");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    body
}

fn token(claims: &Claims) -> String {
    format!("Bearer {}", key(1).sign(claims).expect("signed"))
}

fn in_seconds(offset: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now.saturating_add_signed(offset)
}

fn claims(grants: &[Grant]) -> Claims {
    Claims { room: "demo".into(), name: None, grants: grants.to_vec(), exp: in_seconds(60) }
}

// RFC 9725 §4.2
#[tokio::test]
async fn an_accepted_publisher_gets_201_location_etag_and_the_answer() {
    let mut bed = bed();
    let response = bed.post("/whip/demo?name=Ann%20B&x=1", LOCAL, &[]).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "content-type"), "application/sdp");
    assert_eq!(header(&response, "location"), format!("/whip/demo/{}", "ab".repeat(16)));
    assert_eq!(header(&response, "etag"), "\"e1\"");
    assert_eq!(header(&response, "millrace-participant"), "ann");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    assert!(header(&response, "access-control-expose-headers").contains("location"));
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(text(response).await, "v=0\r\ns=answer\r\n");
    assert_eq!(bed.seen.recv().await, Some(Seen::Publish("demo".into(), Some("Ann B".into()), OFFER.into())));
}

#[tokio::test]
async fn viewers_name_a_participant_or_take_the_latest() {
    let mut bed = bed();
    let response = bed.post("/whep/demo", FAR, &[]).await;
    assert_eq!((response.status(), header(&response, "location")), (StatusCode::CREATED, location().as_str()));
    assert_eq!(bed.seen.recv().await, Some(Seen::Watch("demo".into(), None)));
    let response = bed.post("/whep/demo/ann", FAR, &[]).await;
    assert_eq!((response.status(), header(&response, "location")), (StatusCode::CREATED, location().as_str()));
    assert_eq!(bed.seen.recv().await, Some(Seen::Watch("demo".into(), Some("ann".into()))));
}

fn location() -> String {
    format!("/whep/demo/{}", "ab".repeat(16))
}

#[tokio::test]
async fn delete_ends_a_session_without_a_token() {
    let mut bed = bed();
    for protocol in ["whip", "whep"] {
        let uri = format!("/{protocol}/demo/{}", RESOURCE.to_hex());
        let response = bed.send(request("DELETE", &uri, FAR, &[], Body::empty())).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(bed.seen.recv().await, Some(Seen::Leave("demo".into(), RESOURCE.to_hex())));
    }
    for bad in ["ann", &"AB".repeat(16), &"ab".repeat(17), &"é".repeat(16)] {
        let uri = format!("/whep/demo/{}", bad.replace('é', "%C3%A9"));
        problem(bed.send(request("DELETE", &uri, FAR, &[], Body::empty())).await, 404, None).await;
    }
    assert!(bed.seen.try_recv().is_err(), "what cannot be an id never reaches the core");
}

#[tokio::test]
async fn what_the_core_refuses_becomes_its_problem() {
    for (kind, status, retry) in [
        (ProblemKind::BadOffer, 400, ""),
        (ProblemKind::UnsupportedOffer, 422, ""),
        (ProblemKind::NotPublished, 404, "1"),
        (ProblemKind::NameTaken, 409, ""),
        (ProblemKind::TooManyPending, 429, "5"),
        (ProblemKind::Full, 503, "5"),
    ] {
        let bed = bed_with(closed(), Some(Problem::new(kind, "because").at("a=field")));
        for uri in ["/whip/demo", "/whep/demo/ann"] {
            let response = bed.post(uri, LOCAL, &[]).await;
            assert_eq!(header(&response, "retry-after"), retry);
            assert_eq!(problem(response, status, Some("a=field")).await["detail"], "because");
        }
    }
}

#[tokio::test]
async fn the_body_must_be_sdp_of_at_most_64_kib() {
    let bed = bed();
    for wrong in ["application/json", "text/plain", "application/sdpx"] {
        let response = bed.send(request("POST", "/whip/demo", LOCAL, &[("content-type", wrong)], OFFER)).await;
        problem(response, 415, Some("Content-Type")).await;
    }
    problem(bed.send(request("POST", "/whip/demo", LOCAL, &[], OFFER)).await, 415, Some("Content-Type")).await;
    for right in ["application/sdp", "Application/SDP; charset=utf-8"] {
        let response = bed.send(request("POST", "/whip/demo", LOCAL, &[("content-type", right)], OFFER)).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{right}");
    }
    let sdp = [("content-type", "application/sdp")];
    let largest = bed.send(request("POST", "/whip/demo", LOCAL, &sdp, "x".repeat(65_536))).await;
    assert_eq!(largest.status(), StatusCode::CREATED);
    let response = bed.send(request("POST", "/whip/demo", LOCAL, &sdp, "x".repeat(65_537))).await;
    problem(response, 413, Some("Content-Length")).await;
    let declared = [sdp[0], ("content-length", "65537")];
    let response = bed.send(request("POST", "/whip/demo", LOCAL, &declared, OFFER)).await;
    problem(response, 413, Some("Content-Length")).await;
    let response = bed.send(request("POST", "/whip/demo", LOCAL, &sdp, vec![0xff, 0xfe])).await;
    problem(response, 400, Some("body")).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_waited_for_10_s() {
    let bed = bed();
    let body = Body::from_stream(futures_util::stream::pending::<Result<&[u8], std::io::Error>>());
    let started = tokio::time::Instant::now();
    let response = bed.send(request("POST", "/whip/demo", LOCAL, &[("content-type", "application/sdp")], body)).await;
    problem(response, 408, None).await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn bad_names_are_named() {
    let mut bed = bed();
    for (uri, field) in [
        ("/whip/Demo", "room"),
        ("/whip/a_b", "room"),
        ("/whep/a%20b", "room"),
        ("/whep/demo/Ann", "participant"),
        ("/whip/demo?name=", "name"),
        ("/whip/demo?name=%ff", "name"),
        ("/whip/demo?name=%zz", "name"),
        ("/whip/demo?name=%", "name"),
        ("/whip/demo?name=a%0ab", "name"),
    ] {
        problem(bed.post(uri, LOCAL, &[]).await, 400, Some(field)).await;
    }
    let long = format!("/whip/demo?name={}", "x".repeat(65));
    problem(bed.post(&long, LOCAL, &[]).await, 400, Some("name")).await;
    assert!(bed.seen.try_recv().is_err());
    assert_eq!(bed.post("/whip/demo?name=Jos%C3%A9+X", LOCAL, &[]).await.status(), StatusCode::CREATED);
    assert_eq!(bed.seen.recv().await, Some(Seen::Publish("demo".into(), Some("José X".into()), OFFER.into())));
    assert_eq!(bed.post("/whip/demo", LOCAL, &[]).await.status(), StatusCode::CREATED);
    assert_eq!(bed.seen.recv().await, Some(Seen::Publish("demo".into(), None, OFFER.into())));
}

#[tokio::test]
async fn publishing_without_a_token_is_for_this_host_only() {
    let bed = bed();
    for local in [LOCAL, "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        assert_eq!(bed.post("/whip/demo", local, &[]).await.status(), StatusCode::CREATED, "{local}");
    }
    for far in [FAR, "[2001:db8::1]:9", "10.0.0.1:9"] {
        let response = bed.post("/whip/demo", far, &[]).await;
        assert_eq!(header(&response, "www-authenticate"), "Bearer realm=\"millrace\"");
        problem(response, 401, Some("Authorization")).await;
        assert_eq!(bed.post("/whep/demo", far, &[]).await.status(), StatusCode::CREATED, "watching is open");
    }
    let open = bed_with(Access { open_rooms: true, ..closed() }, None);
    assert_eq!(open.post("/whip/demo", FAR, &[]).await.status(), StatusCode::CREATED);
    let strict = bed_with(Access { viewers_need_token: true, ..closed() }, None);
    problem(strict.post("/whep/demo", FAR, &[]).await, 401, Some("Authorization")).await;
    assert_eq!(strict.post("/whep/demo", LOCAL, &[]).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn who_speaks_through_a_local_peer_is_not_local() {
    let bed = bed();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:9"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("via", "1.1 proxy"),
    ] {
        problem(bed.post("/whip/demo", LOCAL, &[(name, value)]).await, 401, Some("Authorization")).await;
        problem(bed.post("/whep/demo", LOCAL, &[(name, value)]).await, 401, Some("Authorization")).await;
    }
    let rebound = [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")];
    problem(bed.post("/whip/demo", LOCAL, &rebound).await, 401, Some("Authorization")).await;
    for (host, origin) in [
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("millrace.localhost", "http://millrace.localhost"),
    ] {
        let response = bed.post("/whip/demo", LOCAL, &[("host", host), ("origin", origin)]).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{host}");
    }
}

#[tokio::test]
async fn a_token_opens_its_room_for_what_it_grants() {
    let mut bed = bed();
    let both = token(&claims(&[Grant::Publish, Grant::Subscribe]));
    let auth = [("authorization", both.as_str()), ("origin", "https://another.example")];
    assert_eq!(bed.post("/whip/demo", FAR, &auth).await.status(), StatusCode::CREATED);
    assert_eq!(bed.post("/whep/demo/ann", FAR, &auth).await.status(), StatusCode::CREATED);
    problem(bed.post("/whip/other", FAR, &auth).await, 403, Some("room")).await;
    let watch_only = token(&claims(&[Grant::Subscribe]));
    let auth = [("authorization", watch_only.as_str())];
    problem(bed.post("/whip/demo", FAR, &auth).await, 403, Some("grants")).await;
    problem(bed.post("/whip/demo", LOCAL, &auth).await, 403, Some("grants")).await;
    assert_eq!(bed.post("/whep/demo", FAR, &auth).await.status(), StatusCode::CREATED);
    while bed.seen.try_recv().is_ok() {}
    let named = token(&Claims { name: Some("Ann".into()), ..claims(&[Grant::Publish]) });
    let auth = [("authorization", named.as_str())];
    problem(bed.post("/whip/demo?name=Ben", FAR, &auth).await, 403, Some("name")).await;
    for uri in ["/whip/demo", "/whip/demo?name=Ann"] {
        assert_eq!(bed.post(uri, FAR, &auth).await.status(), StatusCode::CREATED);
        assert_eq!(bed.seen.recv().await, Some(Seen::Publish("demo".into(), Some("Ann".into()), OFFER.into())));
    }
}

// RELIABILITY S16: a bad credential is refused even where none is needed, and touches nobody.
#[tokio::test]
async fn a_bad_token_is_refused_everywhere_and_never_repeated() {
    let mut bed = bed();
    let forged = key(2).sign(&claims(&[Grant::Publish])).expect("signed");
    let expired = key(1).sign(&Claims { exp: in_seconds(-60), ..claims(&[Grant::Publish]) }).expect("signed");
    let bad_room = key(1).sign(&Claims { room: "Not A Room".into(), ..claims(&[]) }).expect("signed");
    let valid = key(1).sign(&claims(&[Grant::Publish])).expect("signed");
    let (head, tail) = valid.rsplit_once('.').expect("three parts");
    // {"alg":"none"}: RFC 8725 §2.1.
    let none = format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').expect("two parts").1);
    let cut = format!("{head}.{}", &tail[..tail.len() - 2]);
    let huge = "x".repeat(5000);
    let tokens = [&forged, &expired, &bad_room, &none, &cut, &huge, "", "a.b.c", "é"];
    for (token, peer) in tokens.iter().flat_map(|token| [(token, LOCAL), (token, FAR)]) {
        let value = format!("Bearer {token}");
        for uri in ["/whip/demo", "/whep/demo"] {
            let response = bed.post(uri, peer, &[("authorization", &value)]).await;
            let body = problem(response, 401, Some("Authorization")).await.to_string();
            assert!(token.len() < 8 || !body.contains(*token), "the token is not repeated");
        }
    }
    for malformed in ["", "Bearer", "Basic dXNlcjpwYXNz", "bearer"] {
        problem(bed.post("/whip/demo", LOCAL, &[("authorization", malformed)]).await, 401, Some("Authorization")).await;
    }
    let twice = format!("Bearer {valid}");
    let twice = [("authorization", twice.as_str()), ("authorization", twice.as_str())];
    problem(bed.post("/whip/demo", LOCAL, &twice).await, 401, Some("Authorization")).await;
    assert!(bed.seen.try_recv().is_err(), "nothing of it reaches the core");
}

#[tokio::test]
async fn claims_that_are_missing_or_unknown_are_seen() {
    let bed = bed();
    let sign = |claims: Value| {
        let key = jsonwebtoken::EncodingKey::from_secret(&[1; 32]);
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signed")
    };
    let exp = in_seconds(60);
    let extended = sign(serde_json::json!({
        "room": "demo", "grants": ["publish", "fly"], "exp": exp, "sub": "x", "aud": "y", "iss": "z"
    }));
    let response = bed.post("/whip/demo", FAR, &[("authorization", &format!("Bearer {extended}"))]).await;
    assert_eq!(response.status(), StatusCode::CREATED, "unknown grants and claims are passed over");
    for claims in [
        serde_json::json!({"room": "demo", "grants": ["publish"]}),
        serde_json::json!({"grants": ["publish"], "exp": exp}),
        serde_json::json!({"room": "demo", "grants": "publish", "exp": exp}),
        serde_json::json!({"room": "demo", "grants": ["publish"], "exp": "soon"}),
        serde_json::json!({"room": "demo", "grants": ["publish"], "exp": exp, "nbf": exp}),
        serde_json::json!({"room": "demo", "grants": ["publish"], "exp": exp, "name": ""}),
    ] {
        let value = format!("Bearer {}", sign(claims));
        problem(bed.post("/whip/demo", FAR, &[("authorization", &value)]).await, 401, Some("Authorization")).await;
    }
    let no_grants = format!("Bearer {}", sign(serde_json::json!({"room": "demo", "exp": exp})));
    problem(bed.post("/whip/demo", FAR, &[("authorization", &no_grants)]).await, 403, Some("grants")).await;
}

#[tokio::test]
async fn trickle_is_refused_with_allow_and_says_so() {
    let bed = bed();
    let resource = RESOURCE.to_hex();
    for (method, uri, allow) in [
        ("PATCH", format!("/whip/demo/{resource}"), "DELETE, OPTIONS"),
        ("PATCH", format!("/whep/demo/{resource}"), "POST, DELETE, OPTIONS"),
        ("GET", "/whip/demo".into(), "POST, OPTIONS"),
        ("PUT", "/whep/demo".into(), "POST, OPTIONS"),
        ("DELETE", "/whip/demo".into(), "POST, OPTIONS"),
        ("POST", format!("/whip/demo/{resource}"), "DELETE, OPTIONS"),
        ("POST", "/api/v1/rooms".into(), "GET, HEAD"),
        ("DELETE", "/".into(), "GET, HEAD"),
    ] {
        let response = bed.send(request(method, &uri, LOCAL, &[], Body::empty())).await;
        assert_eq!(header(&response, "allow"), allow, "{method} {uri}");
        let body = problem(response, 405, None).await;
        assert_eq!(body["detail"].as_str().expect("text").contains("trickle"), method == "PATCH");
    }
}

#[tokio::test]
async fn other_origins_may_ask_first() {
    let bed = bed();
    for uri in ["/whip/demo", "/whep/demo", "/whep/demo/ann", "/whip/demo/x"] {
        let asked = [("origin", "https://another.example"), ("access-control-request-method", "POST")];
        let response = bed.send(request("OPTIONS", uri, FAR, &asked, Body::empty())).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert!(header(&response, "access-control-allow-methods").contains("DELETE"));
        assert!(header(&response, "access-control-allow-headers").contains("authorization"));
        assert_eq!(header(&response, "accept-post"), "application/sdp");
    }
    let refused = bed.post("/whip/demo", FAR, &[]).await;
    assert_eq!(header(&refused, "access-control-allow-origin"), "*", "a page can read why it was refused");
    assert_eq!(header(&bed.get("/api/v1/rooms").await, "access-control-allow-origin"), "", "the list is not shared");
}

#[tokio::test]
async fn the_list_of_rooms_is_json() {
    let response = bed().get("/api/v1/rooms").await;
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), "no-store");
    let body: Value = serde_json::from_str(&text(response).await).expect("JSON");
    let expected = serde_json::json!({"rooms": [{"room": "demo", "viewers": 3, "publishers": [
        {"participant": "ann", "name": "Ann <b>", "audio": 1, "video": 1, "live": true}]}]});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_full_queue_is_an_answer_and_not_a_wait() {
    let (client, requests) = Client::channel(1);
    let router = router(Signaling { client, access: closed(), sockets: sockets() });
    let bed = Bed { router: router.clone(), seen: mpsc::unbounded_channel().1 };
    let waits = tokio::spawn(router.oneshot(request("GET", "/api/v1/rooms", LOCAL, &[], Body::empty())));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let response = tokio::time::timeout(Duration::from_secs(1), bed.post("/whip/demo", LOCAL, &[])).await;
    let response = response.expect("at once");
    assert_eq!(header(&response, "retry-after"), "1");
    problem(response, 503, None).await;
    drop(requests);
    let stopped = waits.await.expect("ends").expect("infallible");
    problem(stopped, 503, None).await;
    problem(bed.get("/api/v1/rooms").await, 503, None).await;
}

/// Every file of the page that browsers load, with its text where it has one.
fn page_files() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../web");
    let entries = std::fs::read_dir(folder).expect("is there").map(|entry| entry.expect("readable").path());
    let files = entries.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let (stem, extension) = name.rsplit_once('.')?;
        let loads = ["html", "js", "css", "svg"].contains(&extension) && !stem.ends_with(".test");
        loads.then(|| (name.clone(), std::fs::read_to_string(&path).expect("text")))
    });
    files.collect()
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_strict_headers() {
    let bed = bed();
    let mut asked = vec![
        ("/".to_owned(), "text/html; charset=utf-8", "<title>Millrace</title>".to_owned()),
        ("/r/demo".into(), "text/html; charset=utf-8", "<title>Millrace</title>".into()),
    ];
    for (name, body) in page_files() {
        let kind = match name.rsplit_once('.').expect("an extension").1 {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        asked.push((format!("/{name}"), kind, body));
    }
    for (uri, kind, part) in asked {
        let response = bed.get(&uri).await;
        assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, kind), "{uri}");
        let etag = header(&response, "etag").to_owned();
        assert!(text(response).await.contains(&part), "{uri}");
        let again = bed.send(request("GET", &uri, FAR, &[("if-none-match", &etag)], Body::empty())).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(text(again).await, "");
        let head = bed.send(request("HEAD", &uri, FAR, &[], Body::empty())).await;
        assert_eq!((head.status(), text(head).await.len()), (StatusCode::OK, 0));
    }
    let health = bed.get("/healthz").await;
    assert_eq!((health.status(), text(health).await.as_str()), (StatusCode::OK, "ok\n"));
    for hidden in ["/jsconfig.json", "/package.json", "/../Cargo.toml"] {
        problem(bed.get(hidden).await, 404, None).await;
    }
    let wrong_link = bed.get("/r/Not%20A%20Room").await;
    assert_eq!(wrong_link.status(), StatusCode::NOT_FOUND);
    assert!(text(wrong_link).await.contains("<title>Millrace</title>"), "the page says what is wrong with a link");
    problem(bed.get("/nothing/here").await, 404, None).await;
}

#[tokio::test]
async fn every_response_is_hardened() {
    let bed = bed();
    for uri in ["/", "/nothing", "/healthz", "/api/v1/rooms", "/whip/demo"] {
        let response = bed.get(uri).await;
        let policy = header(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{uri}: {policy}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{uri}");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{uri}");
    }
}

/// Not every browser takes `'self'` for its own WebSocket, and what the client wrote may not end the directive.
#[tokio::test]
async fn the_page_may_connect_to_its_own_socket_only() {
    let bed = bed();
    for (host, expected) in [
        ("meet.example:8443", "connect-src 'self' ws://meet.example:8443 wss://meet.example:8443"),
        ("[::1]:8080", "connect-src 'self'"),
        ("a; script-src *", "connect-src 'self'"),
        ("*", "connect-src 'self'"),
    ] {
        let response = bed.send(request("GET", "/", FAR, &[("host", host)], Body::empty())).await;
        assert!(header(&response, "content-security-policy").ends_with(expected), "{host}");
    }
}

/// The policy forbids inline scripts and styles and other origins, so the files may hold none.
#[test]
fn the_page_keeps_to_its_own_policy() {
    let files = page_files();
    let index = &files.iter().find(|(name, _)| name == "index.html").expect("is there").1;
    assert!(!index.contains(" style=") && !index.contains(" onclick") && !index.contains("<style"));
    assert_eq!(index.matches("<script").count(), index.matches("<script type=\"module\" src=\"/").count());
    for (name, file) in &files {
        for forbidden in ["\"https://", "(https://", "innerHTML", "@import", "eval("] {
            assert!(!file.contains(forbidden), "{name}: {forbidden}");
        }
    }
}

#[test]
fn nothing_secret_prints() {
    let accepted = accepted("ann");
    let shown = format!("{accepted:?} {:?} {:?}", key(0x41), SdpText("a=ice-pwd:secret".into()));
    assert!(
        !shown.contains("abab") && !shown.contains("AAAA") && !shown.contains("65, 65") && !shown.contains("secret")
    );
    assert!(!shown.contains("s=answer"), "{shown}");
}

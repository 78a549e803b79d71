// SPDX-License-Identifier: Apache-2.0
//! The routes: WHIP, WHEP, the list of rooms, health, and the plain page.
//!
//! Order of judgement for an offer: path, access, body type, body length, query, then the core. What is refused
//! early costs little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, on};
use axum::{Json, extract::Request as HttpRequest, routing::MethodFilter};
use controlplane_room::{DisplayName, ParticipantId, RoomName, RoomSummary};
use serde::Serialize;

use crate::access::Access;
use crate::page;
use crate::problem::{Problem, ProblemKind};
use crate::request::{Accepted, Client, Request, ResourceId, SdpText};
use crate::socket::{self, Sockets};
use crate::token::Grant;

/// Longest offer, in bytes.
const MAX_OFFER_LEN: usize = 64 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The SDP media type.
const SDP: &str = "application/sdp";
/// Carries the participant's id beside an answer.
const PARTICIPANT: HeaderName = HeaderName::from_static("millrace-participant");
/// What the page may load: its own files and nothing else. Where it may connect to comes last.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; media-src 'self' blob: mediastream:; \
    object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'";

/// What the routes need.
#[derive(Clone, Debug)]
pub struct Signaling {
    /// The way to the session core.
    pub client: Client,
    /// Who may do what.
    pub access: Access,
    /// What WebSockets need.
    pub sockets: Sockets,
}

/// All routes. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: access depends on the peer.
pub fn router(signaling: Signaling) -> Router {
    let page = page::ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(async |headers: HeaderMap| asset.respond(&headers)).fallback(only_get))
    });
    page.route("/", get(async |headers: HeaderMap| page::index(&headers)).fallback(only_get))
        .route("/r/{room}", get(room_page).fallback(only_get))
        .route("/api/v1/ws", any(socket::upgrade))
        .route("/healthz", get(healthz).fallback(only_get))
        .route("/api/v1/rooms", get(rooms).fallback(only_get))
        .route("/whip/{room}", endpoint(on(MethodFilter::POST, publish)))
        .route("/whip/{room}/{session}", endpoint(on(MethodFilter::DELETE, leave)))
        .route("/whep/{room}", endpoint(on(MethodFilter::POST, watch_latest)))
        // One pattern for two things that methods tell apart: POST names a participant, DELETE a session.
        .route("/whep/{room}/{tail}", endpoint(on(MethodFilter::POST, watch).on(MethodFilter::DELETE, leave)))
        .fallback(any(async || Problem::new(ProblemKind::NotFound, "there is nothing at this path")))
        .layer(middleware::from_fn(harden))
        .with_state(Arc::new(signaling))
}

type Shared = State<Arc<Signaling>>;

/// A WHIP or WHEP route with preflight, and 405 for what is left.
fn endpoint(routes: MethodRouter<Arc<Signaling>>) -> MethodRouter<Arc<Signaling>> {
    routes.options(preflight).patch(patch).fallback(refuse_method).layer(middleware::from_fn(share))
}

async fn room_page(Path(room): Path<String>, headers: HeaderMap) -> Response {
    let mut response = page::index(&headers);
    if parse_room(&room).is_err() && response.status() == StatusCode::OK {
        // A person who follows a wrong link gets the page, which says so.
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

async fn healthz() -> Response {
    ([(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n").into_response()
}

#[derive(Serialize)]
struct PublisherBody {
    participant: String,
    name: String,
    audio: usize,
    video: usize,
    live: bool,
}

#[derive(Serialize)]
struct RoomBody {
    room: String,
    viewers: usize,
    publishers: Vec<PublisherBody>,
}

#[derive(Serialize)]
struct RoomsBody {
    rooms: Vec<RoomBody>,
}

impl From<RoomSummary> for RoomBody {
    fn from(summary: RoomSummary) -> Self {
        let publishers = summary.publishers.into_iter().map(|held| PublisherBody {
            participant: held.participant.to_string(),
            name: held.name.to_string(),
            audio: held.audio_tracks,
            video: held.video_tracks,
            live: held.live,
        });
        Self { room: summary.room.to_string(), viewers: summary.viewers, publishers: publishers.collect() }
    }
}

async fn rooms(State(signaling): Shared) -> Result<Response, Problem> {
    let rooms = signaling.client.ask(|reply| Request::Rooms { reply }).await?;
    let body = RoomsBody { rooms: rooms.into_iter().map(RoomBody::from).collect() };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

async fn publish(
    State(signaling): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(room): Path<String>,
    RawQuery(query): RawQuery,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let room = parse_room(&room)?;
    let bound = signaling.access.check(Grant::Publish, &room, peer, request.headers())?;
    let name = publisher_name(query.as_deref(), bound)?;
    let offer = read_offer(request).await?;
    let ask = |reply| Request::Publish { room: room.clone(), name, offer, peer: peer.ip(), reply };
    let accepted = signaling.client.ask(ask).await??;
    created("whip", &room, accepted)
}

async fn watch_latest(
    state: Shared,
    peer: ConnectInfo<SocketAddr>,
    Path(room): Path<String>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    watch_participant(state, peer, &room, None, request).await
}

async fn watch(
    state: Shared,
    peer: ConnectInfo<SocketAddr>,
    Path((room, participant)): Path<(String, String)>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    watch_participant(state, peer, &room, Some(participant), request).await
}

async fn watch_participant(
    State(signaling): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    room: &str,
    participant: Option<String>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let room = parse_room(room)?;
    let participant = participant.map(|text| text.parse::<ParticipantId>()).transpose();
    let participant =
        participant.map_err(|bad| Problem::new(ProblemKind::BadParameter, bad.to_string()).at("participant"))?;
    signaling.access.check(Grant::Subscribe, &room, peer, request.headers())?;
    let offer = read_offer(request).await?;
    let ask = |reply| Request::Watch { room: room.clone(), participant, offer, peer: peer.ip(), reply };
    let accepted = signaling.client.ask(ask).await??;
    created("whep", &room, accepted)
}

/// Ends a session. Its id is 128 random bits and is the permission (RFC 9725 §4.2 leaves the choice): a token may
/// have expired during a call, and leaving must still work.
async fn leave(State(signaling): Shared, Path((room, session)): Path<(String, String)>) -> Result<StatusCode, Problem> {
    let room = parse_room(&room)?;
    let resource: ResourceId = session.parse()?;
    signaling.client.ask(|reply| Request::Leave { room, resource, reply }).await??;
    Ok(StatusCode::OK)
}

async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, DELETE, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, if-match"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    headers.insert(HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
    response
}

async fn patch(request: HttpRequest) -> Response {
    let detail = "trickle ICE and ICE restarts are not served; the answer carries all candidates of the server";
    not_allowed(request.uri().path(), detail)
}

async fn refuse_method(request: HttpRequest) -> Response {
    not_allowed(request.uri().path(), "this method is not served here")
}

async fn only_get() -> Response {
    with_allow(Problem::new(ProblemKind::MethodNotAllowed, "only GET is served here"), "GET, HEAD")
}

fn not_allowed(path: &str, detail: &str) -> Response {
    let segments = path.split('/').filter(|part| !part.is_empty()).count();
    let allow = match (path.starts_with("/whep/"), segments) {
        (true, 3) => "POST, DELETE, OPTIONS",
        (false, 3) => "DELETE, OPTIONS",
        _ => "POST, OPTIONS",
    };
    with_allow(Problem::new(ProblemKind::MethodNotAllowed, detail), allow)
}

fn with_allow(problem: Problem, allow: &'static str) -> Response {
    ([(header::ALLOW, allow)], problem).into_response()
}

fn parse_room(text: &str) -> Result<RoomName, Problem> {
    text.parse().map_err(|bad: controlplane_room::NameError| {
        Problem::new(ProblemKind::BadParameter, bad.to_string()).at("room")
    })
}

/// The name to publish under: the token's if it binds one, else the query's, else none: the core finds one.
fn publisher_name(query: Option<&str>, bound: Option<DisplayName>) -> Result<Option<DisplayName>, Problem> {
    let asked = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("name=")));
    let bad = |detail: String| Problem::new(ProblemKind::BadParameter, detail).at("name");
    let asked = match asked {
        Some(text) => {
            let text =
                decode_component(text).ok_or_else(|| bad("the name is not valid percent-encoded UTF-8".into()))?;
            Some(text.parse::<DisplayName>().map_err(|refused| bad(refused.to_string()))?)
        }
        None => None,
    };
    match (bound, asked) {
        (Some(bound), Some(asked)) if bound != asked => {
            Err(Problem::new(ProblemKind::Forbidden, "the token is for another name").at("name"))
        }
        (bound, asked) => Ok(bound.or(asked)),
    }
}

/// Decodes one component of a query (`application/x-www-form-urlencoded`).
fn decode_component(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?];
                u8::try_from(digits[0] * 16 + digits[1]).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Reads the body as an offer: type, length and time are bounded.
async fn read_offer(request: HttpRequest) -> Result<SdpText, Problem> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(SDP)) {
        return Err(
            Problem::new(ProblemKind::UnsupportedMediaType, "the body must be application/sdp").at("Content-Type")
        );
    }
    let text = read_body(&parts.headers, body).await?;
    let text = String::from_utf8(text.into());
    let text = text.map_err(|_| Problem::new(ProblemKind::BadOffer, "the body is not UTF-8").at("body"))?;
    Ok(SdpText(text))
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(ProblemKind::TooLarge, format!("an offer has at most {MAX_OFFER_LEN} bytes")).at("Content-Length")
    };
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if declared.and_then(|text| text.parse::<usize>().ok()).is_some_and(|len| len > MAX_OFFER_LEN) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_OFFER_LEN));
    let read = read.await.map_err(|_| Problem::new(ProblemKind::Timeout, "the body did not come within 10 s"))?;
    read.map_err(|_| too_large())
}

/// 201 with everything that RFC 9725 §4.2 asks for.
fn created(protocol: &str, room: &RoomName, accepted: Accepted) -> Result<Response, Problem> {
    let Accepted { resource, etag, participant, answer } = accepted;
    let internal = |_| Problem::new(ProblemKind::Stopping, "the answer could not be written");
    let location = HeaderValue::from_str(&format!("/{protocol}/{room}/{}", resource.to_hex())).map_err(internal)?;
    let etag = HeaderValue::from_str(&format!("\"{etag}\"")).map_err(internal)?;
    let participant = HeaderValue::from_str(participant.as_str()).map_err(internal)?;
    let mut response = (StatusCode::CREATED, answer.0).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(header::LOCATION, location);
    headers.insert(header::ETAG, etag);
    headers.insert(PARTICIPANT, participant);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Lets pages of other origins read WHIP and WHEP answers. They hold no cookies; access asks them for a token.
async fn share(request: HttpRequest, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("location, etag, retry-after, millrace-participant"),
    );
    response
}

/// The policy, with the server's own WebSocket: not every browser takes `'self'` for it.
fn security_policy(request: &HeaderMap) -> HeaderValue {
    let fixed = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    let host = request.get(header::HOST).and_then(|host| host.to_str().ok());
    // What stands in the header is what the client wrote: nothing in it may end the directive.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    match host.filter(|host| host.bytes().all(is_plain)) {
        Some(host) => {
            HeaderValue::from_str(&format!("{CONTENT_SECURITY_POLICY} ws://{host} wss://{host}")).unwrap_or(fixed)
        }
        None => fixed,
    }
}

/// Headers of every response.
async fn harden(request: HttpRequest, next: Next) -> Response {
    let policy = security_policy(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self)"),
    );
    response
}

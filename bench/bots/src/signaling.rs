// SPDX-License-Identifier: Apache-2.0
//! A client of millrace.v1 (docs/PROTOCOL.md): requests with numbers, replies, events. It must never wait for a reply
//! without a limit.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

const PROTOCOL: &str = "millrace.v1";
const PATH: &str = "/api/v1/ws";
/// For a reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `host:port`.
    pub(crate) authority: String,
    url: String,
}

impl Place {
    /// Reads `ws://host:port`, with or without the path.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("ws://").context("--url: it starts with ws:// (TLS is not spoken here)")?;
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        if authority.is_empty() {
            bail!("--url: no host");
        }
        let path = if path.is_empty() { PATH.to_owned() } else { format!("/{path}") };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { url: format!("ws://{authority}{path}"), authority })
    }
}

/// One participant's WebSocket.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
    /// Events that came while a reply was waited for.
    waiting: VecDeque<Value>,
}

/// A refusal with its code.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: String,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// Connects.
    pub(crate) async fn connect(place: &Place) -> Result<Self> {
        let stream =
            TcpStream::connect(&place.authority).await.with_context(|| format!("connect {}", place.authority))?;
        stream.set_nodelay(true)?;
        let mut request = place.url.as_str().into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        let (socket, response) = client_async(request, stream).await.context("open the WebSocket")?;
        let chosen = response.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok());
        if chosen != Some(PROTOCOL) {
            bail!("the server does not speak {PROTOCOL}");
        }
        Ok(Self { socket, next_id: 0, waiting: VecDeque::new() })
    }

    /// Sends a request and does not wait; its number.
    pub(crate) async fn send(&mut self, kind: &str, mut request: Value) -> Result<u64> {
        self.next_id += 1;
        request["type"] = json!(kind);
        request["id"] = json!(self.next_id);
        self.socket.send(Message::text(request.to_string())).await.with_context(|| format!("send {kind}"))?;
        Ok(self.next_id)
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn ask(&mut self, kind: &str, request: Value) -> Result<Value> {
        let id = self.send(kind, request).await?;
        let reply = tokio::time::timeout(PATIENCE, async {
            loop {
                let message = self.read().await?;
                if message["id"] == id {
                    return anyhow::Ok(message);
                }
                self.waiting.push_back(message);
            }
        });
        let reply = reply.await.map_err(|_| anyhow!("no reply to {kind} within {} s", PATIENCE.as_secs()))??;
        if reply["type"] == "error" {
            let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
            return Err(Refused { code: text("code"), message: text("message") }.into());
        }
        Ok(reply)
    }

    /// The next event or reply. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        match self.waiting.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Value> {
        loop {
            match self.socket.next().await.context("the server hung up")?? {
                Message::Text(text) => return serde_json::from_str(&text).context("a message that is not JSON"),
                Message::Close(frame) => {
                    let code = frame.map_or(0, |frame| u16::from(frame.code));
                    bail!("the server closed the WebSocket with {code}");
                }
                Message::Binary(_) => bail!("a binary message"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_with_and_without_path_and_port() {
        let read = |url: &str| Place::parse(url).map(|place| (place.authority, place.url));
        let whole = ("h:1".to_owned(), "ws://h:1/api/v1/ws".to_owned());
        assert_eq!(read("ws://h:1").expect("a place"), whole);
        assert_eq!(read("ws://h:1/").expect("a place"), whole);
        assert_eq!(read("ws://h:1/api/v1/ws").expect("a place"), whole);
        assert_eq!(read("ws://h").expect("a place").0, "h:80");
        assert_eq!(read("ws://[::1]:9/x").expect("a place"), ("[::1]:9".to_owned(), "ws://[::1]:9/x".to_owned()));
        assert!(read("wss://h:1").is_err() && read("ws://").is_err());
    }
}

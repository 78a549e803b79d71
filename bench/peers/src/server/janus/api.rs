// SPDX-License-Identifier: Apache-2.0
//! Janus's JSON protocol over its WebSocket: one session, a handle for each client. It must never wait for a reply without
//! a limit.

use std::net::TcpStream as StdStream;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

/// For a reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// One client's place in Janus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(u64);

/// A session.
pub(super) struct Api {
    socket: WebSocketStream<TcpStream>,
    session: u64,
    transactions: u64,
}

impl Api {
    /// Opens a session over a connection.
    pub(super) async fn open(stream: StdStream, url: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("janus-protocol"));
        let (socket, _) = client_async(request, TcpStream::from_std(stream)?).await.context("open the WebSocket")?;
        let mut api = Self { socket, session: 0, transactions: 0 };
        api.session = id(&api.exchange(json!({"janus": "create"})).await?)?;
        Ok(api)
    }

    /// A handle of a plugin.
    pub(super) async fn attach(&mut self, plugin: &str) -> Result<Handle> {
        let request = json!({"janus": "attach", "plugin": plugin});
        id(&self.exchange(request).await?).map(Handle)
    }

    /// Asks the plugin; what it says, and the description that comes with it.
    pub(super) async fn ask(
        &mut self,
        handle: Handle,
        body: Value,
        jsep: Option<Value>,
    ) -> Result<(Value, Option<String>)> {
        let mut request = json!({"janus": "message", "handle_id": handle.0, "body": body});
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        let reply = self.exchange(request).await?;
        let data = &reply["plugindata"]["data"];
        if !data["error"].is_null() {
            bail!("{} ({})", data["error"], data["error_code"]);
        }
        Ok((data.clone(), reply["jsep"]["sdp"].as_str().map(str::to_owned)))
    }

    /// Sends a request and waits for what answers it: an acknowledgement is not enough.
    async fn exchange(&mut self, mut request: Value) -> Result<Value> {
        self.transactions += 1;
        let transaction = self.transactions.to_string();
        request["transaction"] = json!(transaction);
        if self.session != 0 {
            request["session_id"] = json!(self.session);
        }
        let wait = async {
            self.socket.send(Message::text(request.to_string())).await?;
            loop {
                let Message::Text(text) = self.socket.next().await.context("janus hung up")?? else { continue };
                let reply: Value = serde_json::from_str(&text)?;
                if reply["transaction"] == transaction && reply["janus"] != "ack" {
                    return anyhow::Ok(reply);
                }
            }
        };
        let reply = tokio::time::timeout(PATIENCE, wait).await.map_err(|_| anyhow!("no reply from janus"))??;
        if reply["janus"] == "error" {
            bail!("janus: {}", reply["error"]);
        }
        Ok(reply)
    }
}

fn id(reply: &Value) -> Result<u64> {
    reply["data"]["id"].as_u64().context("a reply without an id")
}

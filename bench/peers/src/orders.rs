// SPDX-License-Identifier: Apache-2.0
//! How units are told of clients: one line of JSON over TCP for each, answered by one line. What is asked and answered is
//! what SDP would say: ICE credentials, fingerprint, streams. Both ends are here. They must never be heard while media flows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_bots::sdp::Remote;
use serde_json::{Value, json};

use crate::client::endpoint::Endpoint;
use crate::client::media::Source;

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// It publishes the sources, else it receives them.
    pub is_publisher: bool,
    /// Its ICE username fragment.
    pub ufrag: String,
    /// Its ICE password.
    pub pwd: String,
    /// `sha-256 AA:BB…` of its certificate.
    pub fingerprint: String,
    /// What is published.
    pub sources: Vec<Source>,
}

/// The server's side of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// ICE username fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// `sha-256 AA:BB…` of the server's certificate.
    pub fingerprint: String,
    /// Where the server is.
    pub address: SocketAddr,
}

/// Something asked, and where the answer goes.
pub struct Order {
    /// What.
    pub asked: Asked,
    /// Where to.
    pub reply: Sender<Result<Accepted>>,
}

impl Asked {
    /// What a client asks for with its own side of the transport.
    #[must_use]
    pub fn of(endpoint: &mut Endpoint, is_publisher: bool, sources: &[Source]) -> Self {
        let fingerprint = endpoint.fingerprint().to_owned();
        let (ufrag, pwd) = endpoint.transport().credentials();
        Self { is_publisher, ufrag: ufrag.to_owned(), pwd: pwd.to_owned(), fingerprint, sources: sources.to_vec() }
    }

    /// As a line says it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let source = |source: &Source| json!({"video": source.is_video, "ssrc": source.ssrc, "pt": source.pt});
        json!({
            "publisher": self.is_publisher, "ufrag": self.ufrag, "pwd": self.pwd, "fingerprint": self.fingerprint,
            "sources": self.sources.iter().map(source).collect::<Vec<_>>(),
        })
    }

    /// From a line.
    #[must_use]
    pub fn from_json(line: &Value) -> Option<Self> {
        let text = |key: &str| Some(line[key].as_str()?.to_owned());
        let source = |source: &Value| {
            Some(Source {
                is_video: source["video"].as_bool()?,
                ssrc: source["ssrc"].as_u64()?.try_into().ok()?,
                pt: source["pt"].as_u64()?.try_into().ok()?,
            })
        };
        Some(Self {
            is_publisher: line["publisher"].as_bool()?,
            ufrag: text("ufrag")?,
            pwd: text("pwd")?,
            fingerprint: text("fingerprint")?,
            sources: line["sources"].as_array()?.iter().map(source).collect::<Option<_>>()?,
        })
    }
}

impl Accepted {
    /// As a description would have said it, with one host candidate.
    #[must_use]
    pub fn into_remote(self) -> Remote {
        let (ip, port) = (self.address.ip(), self.address.port());
        Remote {
            ufrag: self.ufrag,
            pwd: self.pwd,
            fingerprint: self.fingerprint,
            candidates: vec![format!("candidate:1 1 udp 2130706431 {ip} {port} typ host")],
        }
    }

    /// As a line says it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { ufrag, pwd, fingerprint, address } = self;
        json!({"ufrag": ufrag, "pwd": pwd, "fingerprint": fingerprint, "address": address})
    }

    /// From a line.
    ///
    /// # Errors
    /// When it says why it was refused, or something is missing.
    pub fn from_json(line: &Value) -> Result<Self> {
        if let Some(error) = line["error"].as_str() {
            return Err(anyhow!("{error}"));
        }
        let text = |key: &str| line[key].as_str().map(str::to_owned).with_context(|| format!("a reply without {key}"));
        Ok(Self {
            ufrag: text("ufrag")?,
            pwd: text("pwd")?,
            fingerprint: text("fingerprint")?,
            address: text("address")?.parse()?,
        })
    }
}

/// The end of who asks.
pub struct Line(BufReader<TcpStream>);

impl Line {
    /// On a connection to a unit.
    ///
    /// # Errors
    /// When the connection is of no use.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the unit refuses, hangs up, or takes too long.
    pub fn ask(&mut self, asked: &Asked) -> Result<Accepted> {
        writeln!(self.0.get_mut(), "{}", asked.to_json())?;
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let slow = || format!("no answer within {} s", PATIENCE.as_secs());
        ensure!(read.with_context(slow)? > 0, "the unit hung up");
        Accepted::from_json(&serde_json::from_str(&line)?)
    }
}

/// Takes orders in a thread of its own; each wakes whoever reads `media` by an empty datagram.
///
/// # Errors
/// When the thread cannot be started.
pub fn take(listener: TcpListener, media: SocketAddr) -> Result<Receiver<Order>> {
    let (orders, taken) = channel();
    let bell = UdpSocket::bind((media.ip(), 0))?;
    bell.connect(media)?;
    let serve = move || {
        while let Ok((stream, _)) = listener.accept() {
            // A connection that breaks ends its client only.
            let _ = answer(&stream, &orders, &bell);
        }
    };
    std::thread::Builder::new().name("orders".into()).spawn(serve)?;
    Ok(taken)
}

fn answer(mut stream: &TcpStream, orders: &Sender<Order>, bell: &UdpSocket) -> Result<()> {
    stream.set_nodelay(true)?;
    for line in BufReader::new(stream).lines() {
        let asked = Asked::from_json(&serde_json::from_str(&line?)?).context("an order that says too little")?;
        let (reply, replied) = channel();
        orders.send(Order { asked, reply }).map_err(|_| anyhow!("the unit has ended"))?;
        bell.send(&[0])?;
        let said = match replied.recv()? {
            Ok(accepted) => accepted.to_json(),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        writeln!(stream, "{said}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_was_asked_and_answered() {
        let asked = Asked {
            is_publisher: true,
            ufrag: "u".to_owned(),
            pwd: "p".to_owned(),
            fingerprint: "sha-256 AA".to_owned(),
            sources: vec![Source { is_video: true, ssrc: 7, pt: 96 }, Source { is_video: false, ssrc: 8, pt: 111 }],
        };
        assert_eq!(Asked::from_json(&asked.to_json()), Some(asked));
        assert_eq!(Asked::from_json(&json!({"publisher": true})), None);
        let accepted = Accepted {
            ufrag: "u".to_owned(),
            pwd: "p".to_owned(),
            fingerprint: "sha-256 BB".to_owned(),
            address: "10.0.0.1:9".parse().expect("an address"),
        };
        assert_eq!(Accepted::from_json(&accepted.to_json()).expect("whole"), accepted);
        let refused = Accepted::from_json(&json!({"error": "full"})).expect_err("refused");
        assert_eq!(refused.to_string(), "full");
    }
}

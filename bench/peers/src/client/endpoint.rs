// SPDX-License-Identifier: Apache-2.0
//! A socket with a transport behind it: what a description says of it, and one turn of its loop. It must never hold a
//! packet back: what the kernel does not take is lost.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bench_bots::sdp::Remote;
use bench_bots::transport::{IceRole, Identity, Received, Transport};
use tokio::net::UdpSocket;

/// Between two looks at the clock where no timer runs.
const IDLE: Duration = Duration::from_millis(500);

/// One client's transport on its own socket.
pub struct Endpoint {
    socket: UdpSocket,
    transport: Transport,
    local: SocketAddr,
    fingerprint: String,
    buffer: Vec<u8>,
}

impl Endpoint {
    /// On a bound socket.
    ///
    /// # Errors
    /// When the socket cannot be driven.
    pub fn new(socket: StdSocket, identity: &Identity, role: IceRole) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            transport: Transport::new(identity, local, role, Instant::now())?,
            local,
            fingerprint: identity.fingerprint(),
            buffer: vec![0; 2048],
        })
    }

    /// The attributes of one section: credentials, certificate, DTLS client, one host candidate (RFC 8839, RFC 8842).
    #[must_use]
    pub fn attributes(&self) -> String {
        let (ufrag, pwd) = self.transport.credentials();
        let (ip, port) = (self.local.ip(), self.local.port());
        format!(
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:{}\r\na=setup:active\r\na=rtcp-mux\r\n\
             a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\na=end-of-candidates\r\n",
            self.fingerprint
        )
    }

    /// As `a=fingerprint` writes it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The transport, for what is sent through it.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Connects: ICE, then DTLS.
    ///
    /// # Errors
    /// When one of them fails, or `limit` passes.
    pub async fn connect(&mut self, remote: &Remote, limit: Duration) -> Result<()> {
        self.transport.start(remote, Instant::now())?;
        let secure = async {
            while !self.transport.is_secured() {
                self.turn(Instant::now() + IDLE).await?;
            }
            // What DTLS says last.
            self.flush().await;
            anyhow::Ok(())
        };
        tokio::time::timeout(limit, secure).await.map_err(|_| anyhow!("no keys within {} s", limit.as_secs()))?
    }

    /// Sends what is due, then waits for a datagram, a timer or `until`.
    ///
    /// # Errors
    /// When DTLS fails.
    pub async fn turn(&mut self, until: Instant) -> Result<Received> {
        self.flush().await;
        let timer = self.transport.deadline().unwrap_or(until).min(until);
        let received = tokio::select! {
            received = self.socket.recv_from(&mut self.buffer) => received.ok(),
            () = tokio::time::sleep_until(timer.into()) => None,
        };
        let now = Instant::now();
        let meant = match received {
            Some((len, from)) => {
                let datagram = self.buffer.get(..len).context("a datagram longer than its buffer")?;
                self.transport.receive(datagram, from, now)?
            }
            None => Received::Other,
        };
        if self.transport.deadline().is_some_and(|at| at <= now) {
            self.transport.advance(now)?;
        }
        Ok(meant)
    }

    /// Sends what the transport has queued.
    pub async fn flush(&mut self) {
        while let Some((to, datagram)) = self.transport.next_datagram() {
            let _ = self.socket.send_to(&datagram, to).await;
        }
    }
}

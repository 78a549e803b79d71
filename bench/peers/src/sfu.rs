// SPDX-License-Identifier: Apache-2.0
//! A selective forwarding unit of `str0m`: one publisher, any number of receivers, one thread, one UDP socket, no reports
//! but the library's own. Written to be cheap with what the library gives: packets are forwarded without depacketizing (its
//! RTP mode) and without header extensions, a datagram finds its client by its address, and timers run only where they are
//! due. It must never do work that other servers here are spared, nor spare any that they do.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use str0m::crypto::{CryptoProvider, Fingerprint, from_feature_flags};
use str0m::media::{MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig};

use crate::orders::{Accepted, Asked, Order};

/// The program's version with the library's, which has no name for it.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " on str0m 0.25.0");
/// Longest sleep.
const SLEEP: Duration = Duration::from_millis(100);
/// Bytes of a datagram at most.
const DATAGRAM: usize = 2048;

struct Client {
    rtc: Rtc,
    due: Instant,
    is_publisher: bool,
}

/// The program's state.
pub struct Sfu {
    socket: UdpSocket,
    address: SocketAddr,
    crypto: Arc<CryptoProvider>,
    orders: Receiver<Order>,
    clients: Vec<Client>,
    by_remote: HashMap<SocketAddr, usize>,
    incoming: Vec<RtpPacket>,
}

impl Sfu {
    /// Serves `socket`, bound to the address that clients are told.
    ///
    /// # Errors
    /// When the socket cannot be driven.
    pub fn new(socket: UdpSocket, orders: Receiver<Order>) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let crypto = Arc::new(from_feature_flags());
        let (clients, by_remote, incoming) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(Self { socket, address, crypto, orders, clients, by_remote, incoming })
    }

    /// One turn: clients that join, datagrams, timers, forwarding.
    ///
    /// # Errors
    /// When the socket is of no use.
    pub fn serve(&mut self) -> Result<()> {
        while let Ok(order) = self.orders.try_recv() {
            let accepted = self.accept(&order.asked);
            // Who asked may have gone.
            let _ = order.reply.send(accepted);
        }
        let now = Instant::now();
        let next = self.clients.iter().map(|client| client.due).min().unwrap_or(now + SLEEP);
        let wait = next.saturating_duration_since(now).min(SLEEP);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut watched = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        // A signal is an answer like any other.
        let _ = poll(&mut watched, Some(&timeout));
        let mut buffer = [0; DATAGRAM];
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            self.receive(buffer.get(..len).context("a datagram longer than its buffer")?, from);
            self.forward();
        }
        let now = Instant::now();
        for at in 0..self.clients.len() {
            if self.clients.get(at).is_some_and(|client| client.due <= now) {
                self.input(at, Input::Timeout(now));
            }
        }
        self.forward();
        Ok(())
    }

    fn receive(&mut self, datagram: &[u8], source: SocketAddr) {
        let Ok(contents) = datagram.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
        let input = Input::Receive(Instant::now(), receive);
        let known = self.by_remote.get(&source).copied();
        let found = known.or_else(|| self.clients.iter().position(|client| client.rtc.accepts(&input)));
        let Some(at) = found else { return };
        self.by_remote.insert(source, at);
        self.input(at, input);
    }

    fn input(&mut self, at: usize, input: Input<'_>) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.rtc.handle_input(input).is_err() {
            client.rtc.disconnect();
        }
        client.poll(&self.socket, &mut self.incoming);
    }

    /// Gives the publisher's packets to everybody else.
    fn forward(&mut self) {
        let Self { socket, clients, incoming, .. } = self;
        let mut none = Vec::new();
        for packet in incoming.drain(..) {
            let now = Instant::now();
            for client in clients.iter_mut().filter(|client| !client.is_publisher) {
                let mut direct = client.rtc.direct_api();
                let Some(stream) = direct.stream_tx(&packet.header.ssrc) else { continue };
                let (pt, time) = (packet.header.payload_type, packet.header.timestamp);
                let write = RtpWrite::new(pt, packet.seq_no, time, now, Arc::clone(&packet.payload));
                stream.write_rtp(write.marker(packet.header.marker));
                client.poll(socket, &mut none);
            }
        }
    }

    /// Makes the server's side of a client's transport: ICE-lite, DTLS server.
    fn accept(&mut self, asked: &Asked) -> Result<Accepted> {
        let is_first = !self.clients.iter().any(|client| client.is_publisher);
        ensure!(asked.is_publisher == is_first, "one publisher, and it comes first");
        let config = RtcConfig::new().set_crypto_provider(Arc::clone(&self.crypto));
        let config = config.set_ice_lite(true).set_rtp_mode(true).clear_extension_map();
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(self.address, "udp").context("a candidate")?);
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(false);
        direct.set_remote_ice_credentials(IceCreds { ufrag: asked.ufrag.clone(), pass: asked.pwd.clone() });
        let fingerprint: Fingerprint = asked.fingerprint.parse().map_err(|_| anyhow::anyhow!("a=fingerprint"))?;
        direct.set_remote_fingerprint(fingerprint);
        for source in &asked.sources {
            let kind = if source.is_video { MediaKind::Video } else { MediaKind::Audio };
            let mid: Mid = if source.is_video { "vid" } else { "aud" }.into();
            direct.declare_media(mid, kind);
            if asked.is_publisher {
                direct.expect_stream_rx(source.ssrc.into(), None, mid, None);
            } else {
                direct.declare_stream_tx(source.ssrc.into(), None, mid, None);
            }
        }
        direct.start_dtls(false).context("DTLS")?;
        let IceCreds { ufrag, pass } = direct.local_ice_credentials();
        let fingerprint = direct.local_dtls_fingerprint().to_string();
        let mut client = Client { rtc, due: Instant::now(), is_publisher: asked.is_publisher };
        client.poll(&self.socket, &mut self.incoming);
        self.clients.push(client);
        Ok(Accepted { ufrag, pwd: pass, fingerprint, address: self.address })
    }
}

impl Client {
    /// Sends what is to be sent and keeps what has come, until a timer is named.
    fn poll(&mut self, socket: &UdpSocket, incoming: &mut Vec<RtpPacket>) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => send(socket, &transmit.contents, transmit.destination),
                Ok(Output::Event(Event::RtpPacket(packet))) if self.is_publisher => incoming.push(packet),
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(due)) => {
                    self.due = due;
                    return;
                }
                Err(_) => {
                    self.rtc.disconnect();
                    self.due = Instant::now() + SLEEP;
                    return;
                }
            }
        }
    }
}

/// Waits while the kernel's buffer is full, which a frame to 50 receivers fills; what fails otherwise is lost.
fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) {
    let is_full = |sent: std::io::Result<usize>| sent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let until = Instant::now() + SLEEP;
    while is_full(socket.send_to(datagram, to)) && Instant::now() < until {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let mut watched = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
        let _ = poll(&mut watched, Some(&timeout));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use bench_bots::profile::Profile;
    use bench_bots::transport::{IceRole, Identity, Received};

    use super::*;
    use crate::client::endpoint::Endpoint;
    use crate::client::media::{Source, Stream};
    use crate::orders::{self, Line};
    use bench_bots::rtp::Header;

    const SOURCES: [Source; 2] =
        [Source { is_video: false, ssrc: 2, pt: 111 }, Source { is_video: true, ssrc: 1, pt: 96 }];
    const LIMIT: Duration = Duration::from_secs(10);

    /// A unit in a thread, and what it is told of clients by.
    fn unit() -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let socket = UdpSocket::bind(address).expect("the same port");
        let mut sfu = Sfu::new(socket, orders::take(listener, address).expect("a thread")).expect("a socket");
        std::thread::spawn(move || while sfu.serve().is_ok() {});
        Line::new(TcpStream::connect(address).expect("the unit")).expect("a line")
    }

    async fn client(unit: &mut Line, is_publisher: bool) -> Result<Endpoint> {
        let identity = Identity::generate(Some(Profile::Gcm128))?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let mut endpoint = Endpoint::new(socket, &identity, IceRole::Controlling)?;
        let accepted = unit.ask(&Asked::of(&mut endpoint, is_publisher, &SOURCES))?;
        endpoint.connect(&accepted.into_remote(), LIMIT).await?;
        assert_eq!(endpoint.transport().profile(), Some(Profile::Gcm128));
        Ok(endpoint)
    }

    /// The next media packet.
    async fn received(endpoint: &mut Endpoint) -> Result<Vec<u8>> {
        let until = Instant::now() + LIMIT;
        loop {
            ensure!(Instant::now() < until, "no media");
            if let Received::Rtp(packet) = endpoint.turn(until).await? {
                return Ok(packet);
            }
        }
    }

    /// Marker and payload type, then what a receiver reads of the header, and the payload. The library writes an extension
    /// without elements where the publisher had none.
    fn media(packet: &[u8]) -> (u8, [u32; 3], &[u8]) {
        let header = Header::parse(packet).expect("an RTP packet");
        (packet[1], [header.seq.into(), header.timestamp, header.ssrc], &packet[header.len..])
    }

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let locked = lock.split("[[package]]\n").find_map(|one| one.strip_prefix("name = \"str0m\"\nversion = \""));
        let version = locked.and_then(|rest| rest.split('"').next()).expect("str0m is locked");
        assert!(VERSION.ends_with(&format!(" str0m {version}")), "{VERSION} but {version}");
    }

    #[test]
    fn each_packet_comes_to_each_receiver_as_it_was_published() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut unit = unit();
        runtime.block_on(async {
            let early = client(&mut unit, false).await.err().expect("nothing is published yet");
            assert!(early.to_string().contains("one publisher"), "{early:#}");
            let mut publisher = client(&mut unit, true).await.expect("a publisher");
            let mut receivers = [client(&mut unit, false).await, client(&mut unit, false).await];
            let mut streams = SOURCES.map(|source| Stream::new(source, Instant::now()));
            for nth in 0..20 {
                let stream = &mut streams[nth % 2];
                for packet in stream.frame(stream.due()).0 {
                    publisher.transport().send_rtp(&packet).expect("a packet");
                    publisher.flush().await;
                    for receiver in &mut receivers {
                        let receiver = receiver.as_mut().expect("a receiver");
                        assert_eq!(media(&received(receiver).await.expect("media")), media(&packet));
                    }
                }
            }
        });
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Two browsers in small: WHIP and WHEP by hand, ICE checks, DTLS, SRTP with VP8, one packet per frame.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use controlplane_dtls::{Association, Event, Fingerprint, FingerprintAlgorithm, Identity, KeyHalf, Role};
use dataplane_srtp::{MasterKey, Profile, RxContext, TxContext};
use dataplane_wire::demux::{self, Class};
use dataplane_wire::rtcp::{Compound, Packet};
use dataplane_wire::rtp::{HeaderWriter, RtpHeader};
use dataplane_wire::seq;
use dataplane_wire::stun::{self, BindingRequest};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::server::Server;

const SSRC: u32 = 0x00C0_FFEE;
const PT: u8 = 96;
/// Between two frames.
const FRAME: Duration = Duration::from_millis(10);
/// Between two checks.
const CHECK: Duration = Duration::from_millis(100);

fn offer(identity: &Identity, direction: &str, ufrag: &str) -> String {
    let fingerprint = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, identity.parts().0);
    let source = if direction == "sendonly" { format!("a=ssrc:{SSRC} cname:test\r\n") } else { String::new() };
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF {PT}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
         a=fingerprint:{fingerprint}\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\na=rtcp-mux\r\n\
         a=rtpmap:{PT} VP8/90000\r\na=rtcp-fb:{PT} nack\r\na=rtcp-fb:{PT} nack pli\r\n{source}",
        pwd = "p".repeat(24),
    )
}

/// Posts an offer; the answer.
fn post(server: &Server, path: &str, offer: &str) -> String {
    let mut stream = TcpStream::connect((server.place.host, server.http_port)).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{offer}",
        offer.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    answer
}

/// The value of an attribute's first line.
fn attribute<'a>(answer: &'a str, name: &str) -> &'a str {
    answer.lines().find_map(|line| line.strip_prefix(&format!("a={name}:"))).unwrap()
}

pub(crate) struct Peer {
    socket: UdpSocket,
    /// The path that ends its session.
    pub(crate) resource: String,
    username: String,
    pwd: String,
    association: Option<Association>,
    keys: Option<(TxContext, RxContext)>,
    next_check: Instant,
    /// Answers to its checks.
    answers: u32,
    /// It was asked for a keyframe.
    wants_keyframe: bool,
    /// Index of the next packet that it sends, and its number.
    next: u64,
    highest: Option<u64>,
    indices: BTreeSet<u64>,
    /// Packets whose index had come before.
    pub(crate) replayed: u32,
    /// Numbers of the frames that it has got.
    got: BTreeSet<u64>,
}

impl Peer {
    pub(crate) fn new(server: &Server, path: &str, direction: &str, ufrag: &str) -> Self {
        let identity = Identity::generate().unwrap();
        let answer = post(server, path, &offer(&identity, direction, ufrag));
        let expected = Fingerprint::parse(attribute(&answer, "fingerprint")).unwrap();
        let association = Association::new(&identity, Role::Client, vec![expected], Instant::now());
        let username = format!("{}:{ufrag}", attribute(&answer, "ice-ufrag"));
        let peer = Self::with(server, username, attribute(&answer, "ice-pwd").to_owned(), Some(association));
        let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        Self { resource: location.to_owned(), ..peer }
    }

    /// Somebody who has never signalled.
    pub(crate) fn stranger(server: &Server) -> Self {
        Self::with(server, "nobody00:else".into(), "q".repeat(24), None)
    }

    fn with(server: &Server, username: String, pwd: String, association: Option<Association>) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((server.place.host, server.media_port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            resource: String::new(),
            username,
            pwd,
            association,
            keys: None,
            next_check: Instant::now(),
            answers: 0,
            wants_keyframe: true,
            next: 1000,
            highest: None,
            indices: BTreeSet::new(),
            replayed: 0,
            got: BTreeSet::new(),
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A full buffer or a port between two owners loses it, as a network would.
        let _ = self.socket.send(datagram);
    }

    /// Something that looks like RTP.
    pub(crate) fn send_media(&self) {
        self.send(&[[0x80, PT].as_slice(), &[0; 40]].concat());
    }

    fn check(&mut self) {
        let transaction_id = std::array::from_fn(|at| u8::try_from(at).unwrap() ^ self.next.to_be_bytes()[7]);
        let request = BindingRequest {
            transaction_id,
            username: self.username.as_bytes(),
            priority: 0x6E00_01FF,
            use_candidate: true,
            role: stun::Role::Controlling(7),
        };
        let mut out = [0; 512];
        let mac = |parts: &[&[u8]]| {
            let mut mac = Hmac::<Sha1>::new_from_slice(self.pwd.as_bytes()).unwrap();
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().into()
        };
        let len = request.emit(&mut out, mac).unwrap();
        self.send(&out[..len]);
    }

    /// Checks, reads, shakes hands.
    pub(crate) fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + CHECK;
            self.check();
        }
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.receive(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        let Some(association) = &mut self.association else { return };
        while let Some(event) = association.poll(now) {
            match event {
                Event::Transmit(datagram) if self.answers > 0 => {
                    let _ = self.socket.send(&datagram);
                }
                Event::Transmit(_) => {}
                Event::Connected { profile, local, remote } => {
                    let profile = Profile::from_iana(profile.0).unwrap();
                    let master = |half: &KeyHalf| MasterKey::new(profile, &half.key, &half.salt).unwrap();
                    self.keys = Some((TxContext::new(&master(&local)), RxContext::new(&master(&remote))));
                }
                Event::Failed(reason) => panic!("{reason}"),
            }
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        match demux::classify(datagram) {
            Class::Stun => self.answers += 1,
            Class::Dtls => {
                if let Some(association) = &mut self.association {
                    association.receive(datagram, Instant::now());
                }
            }
            Class::RtpOrRtcp if demux::is_rtcp(datagram) => self.rtcp(datagram),
            Class::RtpOrRtcp => self.rtp(datagram),
            Class::Zrtp | Class::TurnChannel | Class::Unknown => panic!("nobody sends that"),
        }
    }

    fn rtcp(&mut self, datagram: &[u8]) {
        let Some((_, rx)) = &self.keys else { return };
        let mut plain = [0; 2048];
        let opened = rx.unprotect_rtcp(datagram, &mut plain).unwrap();
        let compound = Compound::parse(&plain[..opened.len]).unwrap();
        for packet in compound.packets() {
            if matches!(packet, Ok(Packet::Pli(_) | Packet::Fir(_))) {
                self.wants_keyframe = true;
            }
        }
    }

    fn rtp(&mut self, datagram: &[u8]) {
        let Some((_, rx)) = &self.keys else { return };
        let number = RtpHeader::parse(datagram).unwrap().seq();
        let index = self.highest.map_or_else(|| u64::from(number), |highest| seq::unroll(highest, number));
        let mut plain = [0; 2048];
        let opened = rx.unprotect_rtp(datagram, index, &mut plain).unwrap();
        self.highest = self.highest.max(Some(index));
        if !self.indices.insert(index) {
            self.replayed += 1;
        }
        let payload = &plain[..opened.payload_len];
        if let Some(frame) = payload.last_chunk::<8>() {
            self.got.insert(u64::from_be_bytes(*frame));
        }
    }

    /// One VP8 frame of one packet (RFC 7741 §4.2).
    fn frame(&mut self) {
        let Some((tx, _)) = &self.keys else { return };
        let is_keyframe = std::mem::take(&mut self.wants_keyframe);
        let picture = 0x8000 | u16::try_from(self.next & 0x7fff).unwrap();
        let low = self.next.to_be_bytes()[7];
        let mut payload = vec![0x90, 0xF0];
        payload.extend_from_slice(&picture.to_be_bytes());
        payload.extend_from_slice(&[low, 0, if is_keyframe { 0x10 } else { 0x11 }]);
        payload.extend_from_slice(&[0; 100]);
        payload.extend_from_slice(&self.next.to_be_bytes());
        let header = HeaderWriter {
            marker: true,
            has_padding: false,
            pt: PT,
            seq: seq::low16(self.next),
            timestamp: u32::try_from(self.next * 900).unwrap(),
            ssrc: SSRC,
        };
        let mut out = [0; 2048];
        let head = header.emit(&mut out, std::iter::empty()).unwrap().header_len;
        let len = tx.protect_rtp(self.next, &mut out, head, 0, &payload[..]).unwrap();
        self.send(&out[..len]);
        self.next += 1;
    }

    /// Frames that it has got.
    pub(crate) fn frames(&self) -> usize {
        self.got.len()
    }

    pub(crate) fn check_is_answered(&mut self) -> bool {
        self.turn();
        self.answers > 0
    }
}

/// A publisher and its viewer.
pub(crate) struct Call {
    pub(crate) publisher: Peer,
    pub(crate) viewer: Peer,
    next_frame: Instant,
    first: u64,
}

impl Call {
    /// Both connect.
    pub(crate) fn start(server: &Server) -> Self {
        let publisher = Peer::new(server, "/whip/demo?name=ann", "sendonly", "pubs");
        let viewer = Peer::new(server, "/whep/demo/ann", "recvonly", "view");
        let first = publisher.next;
        let mut call = Self { publisher, viewer, next_frame: Instant::now(), first };
        let end = Instant::now() + Duration::from_secs(5);
        while call.publisher.keys.is_none() || call.viewer.keys.is_none() {
            assert!(Instant::now() < end, "the handshakes do not complete");
            call.step();
        }
        call
    }

    pub(crate) fn step(&mut self) {
        self.publisher.turn();
        self.viewer.turn();
        let now = Instant::now();
        if now >= self.next_frame && self.viewer.keys.is_some() {
            self.next_frame = now + FRAME;
            self.publisher.frame();
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
        }
    }

    /// Whether ten frames that are sent from now on arrive within `limit`.
    pub(crate) fn flows(&mut self, limit: Duration) -> bool {
        let (from, end) = (self.publisher.next, Instant::now() + limit);
        while self.viewer.got.range(from..).count() < 10 {
            if Instant::now() > end {
                return false;
            }
            self.step();
        }
        true
    }

    /// Number of the frame that is sent next.
    pub(crate) fn next_frame_number(&self) -> u64 {
        self.publisher.next
    }

    /// Frames since number `first` that did not arrive; those of the last moment may still be on their way.
    pub(crate) fn lost_since(&mut self, first: u64) -> usize {
        let last = self.publisher.next;
        self.run(Duration::from_millis(200));
        (first..last).filter(|number| !self.viewer.got.contains(number)).count()
    }

    pub(crate) fn forget_answers(&mut self) {
        (self.publisher.answers, self.viewer.answers) = (0, 0);
    }

    pub(crate) fn both_answered(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.publisher.answers == 0 || self.viewer.answers == 0 {
            if Instant::now() > end {
                return false;
            }
            self.step();
        }
        true
    }

    /// What became of the frames.
    pub(crate) fn account(&self) -> String {
        format!("{} of {} frames arrived", self.viewer.got.len(), self.publisher.next - self.first)
    }
}

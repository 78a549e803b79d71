// SPDX-License-Identifier: Apache-2.0
//! Handshakes between our own associations over a simulated network with a virtual clock: roles, loss, forgeries,
//! mismatches, ends. No sockets, no sleeping.
#![allow(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::time::{Duration, Instant};

use controlplane_dtls::{
    Association, Event, Fingerprint, FingerprintAlgorithm, HANDSHAKE_TIMEOUT, HELLO_TIMEOUT, Identity, KeyHalf, LINGER,
    Reason, Role, SrtpProfileId,
};

/// xorshift64*: seeded, so that a failure can be replayed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// What one side reported.
#[derive(Default)]
struct Seen {
    keys: Option<(SrtpProfileId, KeyHalf, KeyHalf)>,
    failed: Option<Reason>,
    sent: Vec<Vec<u8>>,
    connected_at: Option<Duration>,
}

struct Peer {
    association: Association,
    seen: Seen,
}

impl Peer {
    fn new(identity: &Identity, role: Role, expected: &[Fingerprint], now: Instant) -> Self {
        Self { association: Association::new(identity, role, expected.to_vec(), now), seen: Seen::default() }
    }

    /// Polls until empty; returns the datagrams.
    fn drain(&mut self, now: Instant, start: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(event) = self.association.poll(now) {
            match event {
                Event::Transmit(bytes) => out.push(bytes),
                Event::Connected { profile, local, remote } => {
                    assert!(self.seen.keys.is_none() && self.seen.failed.is_none(), "connected twice");
                    self.seen.keys = Some((profile, local, remote));
                    self.seen.connected_at = Some(now - start);
                }
                Event::Failed(reason) => {
                    assert!(self.seen.keys.is_none() && self.seen.failed.is_none(), "failed twice or after keys");
                    self.seen.failed = Some(reason);
                }
            }
        }
        self.seen.sent.extend(out.iter().cloned());
        out
    }
}

/// A call: `peers[0]` is the server, `peers[1]` the client; datagrams take 20 ms.
struct Call {
    peers: [Peer; 2],
    wire: Vec<(Instant, usize, Vec<u8>)>,
    start: Instant,
    now: Instant,
}

const DELAY: Duration = Duration::from_millis(20);

fn print(identity: &Identity) -> Fingerprint {
    Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, identity.parts().0)
}

impl Call {
    fn new() -> Self {
        let (server, client) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
        let (to_client, to_server) = ([print(&client)], [print(&server)]);
        Self::with(&server, &to_client, &client, &to_server)
    }

    fn with(server: &Identity, of_client: &[Fingerprint], client: &Identity, of_server: &[Fingerprint]) -> Self {
        let now = Instant::now();
        let peers = [Peer::new(server, Role::Server, of_client, now), Peer::new(client, Role::Client, of_server, now)];
        Self { peers, wire: Vec::new(), start: now, now }
    }

    /// Runs until `until` after the start, or until both have ended; `tamper` sees every datagram and says what
    /// arrives instead.
    fn run(&mut self, until: Duration, mut tamper: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>) {
        loop {
            for from in 0..2 {
                for bytes in self.peers[from].drain(self.now, self.start) {
                    for arriving in tamper(from, bytes) {
                        self.wire.push((self.now + DELAY, 1 - from, arriving));
                    }
                }
            }
            let is_over = |peer: &Peer| peer.seen.keys.is_some() || peer.seen.failed.is_some();
            if self.peers.iter().all(is_over) && self.wire.is_empty() {
                return;
            }
            let timers = self.peers.iter().filter(|p| p.seen.failed.is_none()).map(|p| p.association.deadline());
            let next = self.wire.iter().map(|(at, ..)| *at).chain(timers).min();
            let Some(next) = next.filter(|at| *at <= self.start + until) else { return };
            assert!(
                next >= self.now || self.peers.iter().all(|p| p.association.deadline() >= self.now),
                "time runs back"
            );
            self.now = self.now.max(next);
            let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|(at, ..)| *at <= self.now);
            self.wire = later;
            let due: Vec<(Instant, usize, Vec<u8>)> = due;
            for (_, to, bytes) in due {
                self.peers[to].association.receive(&bytes, self.now);
            }
        }
    }

    fn assert_keys_agree(&self) {
        for Peer { association, seen } in &self.peers {
            assert!(seen.keys.is_some(), "after {:?}: {:?} {association:?}", self.now - self.start, seen.failed);
        }
        let [(server_profile, server_local, server_remote), (client_profile, client_local, client_remote)] =
            self.peers.each_ref().map(|p| p.seen.keys.as_ref().expect("connected"));
        assert_eq!(server_profile, client_profile);
        let raw = |half: &KeyHalf| (half.key.to_vec(), half.salt.to_vec());
        assert_eq!(raw(server_local), raw(client_remote));
        assert_eq!(raw(server_remote), raw(client_local));
        assert_ne!(raw(server_local), raw(server_remote));
        let (key_len, salt_len) = server_profile.key_and_salt_len().expect("known profile");
        assert_eq!((server_local.key.len(), server_local.salt.len()), (key_len, salt_len));
    }

    fn assert_no_keys(&self) {
        assert!(self.peers.iter().all(|p| p.seen.keys.is_none()), "keys were handed out");
    }
}

fn deliver(_: usize, bytes: Vec<u8>) -> Vec<Vec<u8>> {
    vec![bytes]
}

fn record(content_type: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![content_type, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 9];
    out.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    out.extend(body);
    out
}

fn handshake(kind: u8, seq: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("short").to_be_bytes();
    let mut out = vec![kind, len[1], len[2], len[3]];
    out.extend(seq.to_be_bytes());
    out.extend([0, 0, 0, len[1], len[2], len[3]]);
    out.extend(body);
    record(22, 0, &out)
}

/// The first handshake message type of a datagram, 0 if it is none.
fn first_kind(bytes: &[u8]) -> u8 {
    if bytes[0] == 22 && bytes[4] == 0 { bytes[13] } else { 0 }
}

#[test]
fn both_roles_connect_with_a_gcm_profile_in_two_round_trips() {
    let mut call = Call::new();
    call.run(Duration::from_secs(5), deliver);
    call.assert_keys_agree();
    let profile = call.peers[0].seen.keys.as_ref().expect("connected").0;
    assert_eq!(profile, SrtpProfileId::AEAD_AES_256_GCM);
    assert_eq!(call.peers[0].seen.connected_at, Some(3 * DELAY));
    assert_eq!(call.peers[1].seen.connected_at, Some(4 * DELAY));
    assert!(call.peers.iter().flat_map(|p| &p.seen.sent).all(|bytes| bytes.len() <= 1200), "MTU");
}

#[test]
fn two_servers_and_two_clients_fail_without_keys() {
    let identity = Identity::generate().expect("identity");
    for role in [Role::Server, Role::Client] {
        let now = Instant::now();
        let mut call = Call::new();
        call.start = now;
        call.now = now;
        call.peers = [0, 1].map(|_| Peer::new(&identity, role, &[print(&identity)], now));
        call.run(Duration::from_secs(100), deliver);
        call.assert_no_keys();
        for peer in &call.peers {
            assert_eq!(peer.seen.failed, Some(Reason::Timeout { alert: None }), "{role:?}");
        }
    }
}

// S10
#[test]
fn a_fingerprint_mismatch_fails_at_once_and_yields_no_key() {
    let (server, client) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
    let other = Identity::generate().expect("identity");
    let mut call = Call::with(&server, &[print(&other)], &client, &[print(&server)]);
    call.run(Duration::from_secs(100), deliver);
    call.assert_no_keys();
    assert_eq!(call.peers[0].seen.failed, Some(Reason::FingerprintMismatch));
    assert!(call.peers[0].association.is_disposable(call.now));

    let mut call = Call::with(&server, &[print(&client)], &client, &[print(&other)]);
    call.run(Duration::from_secs(100), deliver);
    call.assert_no_keys();
    assert_eq!(call.peers[1].seen.failed, Some(Reason::FingerprintMismatch));

    let mut call = Call::with(&server, &[], &client, &[print(&server)]);
    call.run(Duration::from_secs(100), deliver);
    call.assert_no_keys();
    assert_eq!(call.peers[0].seen.failed, Some(Reason::FingerprintMismatch), "nothing signalled, nothing trusted");
}

// RFC 8122 §5: the strongest signalled hash counts
#[test]
fn fingerprints_of_every_hash_are_compared_and_the_strongest_counts() {
    let (server, client) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
    let of = |algorithm| Fingerprint::of_certificate(algorithm, client.parts().0);
    for algorithm in [FingerprintAlgorithm::Sha256, FingerprintAlgorithm::Sha384, FingerprintAlgorithm::Sha512] {
        let mut call = Call::with(&server, &[of(algorithm)], &client, &[print(&server)]);
        call.run(Duration::from_secs(5), deliver);
        call.assert_keys_agree();
    }
    let wrong = Fingerprint::of_certificate(FingerprintAlgorithm::Sha512, server.parts().0);
    let mut call = Call::with(&server, &[print(&client), wrong], &client, &[print(&server)]);
    call.run(Duration::from_secs(100), deliver);
    assert_eq!(call.peers[0].seen.failed, Some(Reason::FingerprintMismatch));
    let two = [print(&server), print(&client)];
    let mut call = Call::with(&server, &two, &client, &[print(&server)]);
    call.run(Duration::from_secs(5), deliver);
    call.assert_keys_agree();
}

// S10: SRTP failure blocks media
#[test]
fn a_peer_without_srtp_never_gets_keys_or_an_answer() {
    let mut call = Call::new();
    call.run(Duration::from_secs(100), |from, bytes| {
        if from != 1 || first_kind(&bytes) != 1 {
            return vec![bytes];
        }
        // use_srtp becomes an unknown extension
        let at = bytes.windows(4).position(|w| w == [0, 14, 0, 9]).expect("use_srtp of three profiles");
        let mut bytes = bytes;
        bytes[at] = 0xEE;
        vec![bytes]
    });
    call.assert_no_keys();
    assert_eq!(call.peers[0].seen.failed, Some(Reason::NoSrtpProfile));
    assert!(call.peers[0].seen.sent.is_empty());
}

// S11
#[test]
fn handshakes_survive_20_percent_loss_within_5_seconds() {
    let mut slowest = Duration::ZERO;
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut call = Call::new();
        call.run(Duration::from_secs(5), |_, bytes| if random.below(5) == 0 { Vec::new() } else { vec![bytes] });
        call.assert_keys_agree();
        slowest = slowest.max(call.peers[1].seen.connected_at.expect("connected"));
    }
    println!("slowest of 100 handshakes at 20 % loss: {slowest:?}");
}

/// Cuts every plaintext handshake record of a datagram into fragments of at most `size` bytes, one datagram each.
fn refragment(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let [content_type, .., high, low] = rest[..13.min(rest.len())] {
        let (one, tail) = rest.split_at(13 + usize::from(u16::from_be_bytes([high, low])));
        rest = tail;
        let is_plain = content_type == 22 && one[4] == 0;
        if !is_plain || one.len() <= 25 {
            out.push(one.to_vec());
            continue;
        }
        for (index, part) in one[25..].chunks(size).enumerate() {
            let offset = u32::try_from(index * size).expect("short").to_be_bytes();
            let len = u32::try_from(part.len()).expect("short").to_be_bytes();
            let body = [&one[13..19], &offset[1..], &len[1..], part].concat();
            out.push(record(22, 0, &body));
        }
    }
    out
}

// S11: fragment sizes 200 to 1200, reordered, duplicated, 20 % lost
#[test]
fn small_fragments_survive_loss_reordering_and_duplication() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut call = Call::new();
        call.run(Duration::from_secs(5), |_, bytes| {
            let size = 200 + usize::try_from(random.below(1001)).expect("small");
            let mut parts: Vec<_> = refragment(&bytes, size).into_iter().filter(|_| random.below(5) != 0).collect();
            if let Some(first) = parts.first().cloned() {
                parts.push(first);
            }
            for at in (1..parts.len()).rev() {
                parts.swap(at, usize::try_from(random.below(at as u64 + 1)).expect("small"));
            }
            parts
        });
        call.assert_keys_agree();
    }
}

#[test]
fn duplicated_and_reordered_datagrams_do_not_matter() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut held: [Option<Vec<u8>>; 2] = [None, None];
        let mut call = Call::new();
        call.run(Duration::from_secs(5), |from, bytes| match random.below(3) {
            0 => vec![bytes.clone(), bytes],
            1 => held[from].replace(bytes).into_iter().collect(),
            _ => [Some(bytes), held[from].take()].into_iter().flatten().collect(),
        });
        call.assert_keys_agree();
    }
}

/// Things that someone who can send from the peer's address, but sees nothing, can send.
fn forgery(random: &mut Random, hello: &[u8]) -> Vec<u8> {
    let len = 1 + random.below(200);
    let seq = u16::try_from(random.below(6)).expect("small");
    match random.below(12) {
        0 => random.bytes(len),
        1 => record(21, 0, &[2, 40]),
        2 => record(21, 1, &random.bytes(len)),
        3 => record(22, 1, &random.bytes(24 + len)),
        4 => record(20, 0, &[1]),
        5 => record(23, 1, &random.bytes(len)),
        6 => handshake(
            [1, 2, 3, 11, 12, 13, 14, 15, 16, 20][usize::try_from(random.below(10)).expect("small")],
            seq,
            &random.bytes(len),
        ),
        7 => {
            let body = certificate_body(&Identity::generate().expect("identity"));
            handshake(11, seq, &body)
        }
        8 => {
            // a hello that nobody could serve: NULL cipher
            let mut body = vec![0xFE, 0xFD];
            body.extend(random.bytes(32));
            body.extend([0, 0, 0, 2, 0, 0, 1, 0, 0, 4, 0, 23, 0, 0]);
            handshake(1, 0, &body)
        }
        9 => {
            // a good hello with another random, after the genuine one
            let mut copy = hello.to_vec();
            if copy.len() > 60 {
                copy[27..59].copy_from_slice(&random.bytes(32));
            }
            copy
        }
        10 => {
            let mut copy = hello.to_vec();
            let at = usize::try_from(random.next()).unwrap_or(0) % copy.len();
            copy[at] ^= 0x55;
            copy
        }
        _ => hello.to_vec(),
    }
}

// S4: 200 handshakes under a flood; here 10,000 datagrams into one handshake, in both directions
#[test]
fn ten_thousand_forged_datagrams_do_not_stop_a_handshake() {
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let mut call = Call::new();
        let hello = call.peers[1].drain(call.now, call.start).remove(0);
        call.wire.push((call.now, 0, hello.clone()));
        let mut forged = 0;
        call.run(Duration::from_secs(5), |_, bytes| {
            let before: Vec<_> = (0..1700).map(|_| forgery(&mut random, &hello)).collect();
            let after: Vec<_> = (0..1700).map(|_| forgery(&mut random, &hello)).collect();
            forged += 3400;
            before.into_iter().chain([bytes]).chain(after).collect()
        });
        assert!(forged >= 10_000, "{forged}");
        call.assert_keys_agree();
        for peer in &call.peers {
            assert!(peer.seen.sent.iter().all(|bytes| bytes[0] != 21), "an alert was sent");
        }
    }
}

/// A Certificate message with this certificate.
fn certificate_body(identity: &Identity) -> Vec<u8> {
    let der = identity.parts().0;
    let length = |len: usize| u32::try_from(len).expect("short").to_be_bytes()[1..].to_vec();
    [length(der.len() + 3), length(der.len()), der.to_vec()].concat()
}

// S4: only a signature over our random makes a flight genuine
#[test]
fn forged_key_exchanges_and_signatures_wait_beside_the_genuine_ones() {
    let stranger = Identity::generate().expect("identity");
    let mut random = Random::new(11);
    let mut call = Call::new();
    call.run(Duration::from_secs(5), |from, bytes| {
        let point = [&[65, 4][..], &random.bytes(64)].concat();
        let verify = [&[4, 3, 0, 70][..], &random.bytes(70)].concat();
        // curve, group, point, hash, algorithm, signature
        let exchange = [&[3, 0, 23][..], &point, &verify].concat();
        let hello = [&[0xFE, 0xFD][..], &random.bytes(32), &[0, 0xC0, 0x2B, 0, 0, 4, 0, 23, 0, 0]].concat();
        let forged = match from {
            1 => [(11, 1, certificate_body(&stranger)), (16, 2, point), (15, 3, verify)],
            _ => [(2, 0, hello), (11, 1, certificate_body(&stranger)), (12, 2, exchange)],
        };
        let forged = || forged.iter().map(|(kind, seq, body)| handshake(*kind, *seq, body));
        // before, between and after the genuine messages
        let genuine = refragment(&bytes, 4096).into_iter().flat_map(|part| forged().chain([part]));
        genuine.collect::<Vec<_>>().into_iter().chain(forged()).collect()
    });
    call.assert_keys_agree();
}

// S4, S2: what nobody could serve costs no answer
#[test]
fn unacceptable_hellos_are_met_with_silence() {
    let identity = Identity::generate().expect("identity");
    let now = Instant::now();
    let mut random = Random::new(7);
    let mut server = Peer::new(&identity, Role::Server, &[print(&identity)], now);
    for _ in 0..10_000 {
        let mut body = vec![0xFE, 0xFD];
        body.extend(random.bytes(32));
        body.extend([0, 0, 0, 2, 0, 0, 1, 0, 0, 4, 0, 23, 0, 0]);
        server.association.receive(&handshake(1, 0, &body), now);
    }
    assert!(server.drain(now, now).is_empty());
    let later = now + HANDSHAKE_TIMEOUT;
    server.drain(later, now);
    assert!(matches!(server.seen.failed, Some(Reason::Handshake(_))), "{:?}", server.seen.failed);
}

#[test]
fn a_plaintext_alert_is_a_hint_and_nothing_more() {
    let identity = Identity::generate().expect("identity");
    let now = Instant::now();
    let mut client = Peer::new(&identity, Role::Client, &[print(&identity)], now);
    client.drain(now, now);
    client.association.receive(&record(21, 0, &[2, 40]), now);
    client.drain(now + HANDSHAKE_TIMEOUT - Duration::from_millis(1), now);
    assert_eq!(client.seen.failed, None);
    client.drain(now + HANDSHAKE_TIMEOUT, now);
    assert_eq!(client.seen.failed, Some(Reason::Timeout { alert: Some(40) }));
}

#[test]
fn a_silent_peer_fails_at_the_deadline() {
    let identity = Identity::generate().expect("identity");
    let now = Instant::now();
    let mut server = Peer::new(&identity, Role::Server, &[print(&identity)], now);
    assert_eq!(server.association.deadline(), now + HELLO_TIMEOUT);
    server.drain(now + HELLO_TIMEOUT - Duration::from_millis(1), now);
    assert!(server.seen.failed.is_none() && !server.association.is_disposable(now));
    server.drain(now + HELLO_TIMEOUT, now);
    assert_eq!(server.seen.failed, Some(Reason::Timeout { alert: None }));
    assert!(server.association.is_disposable(now + HELLO_TIMEOUT));

    let mut call = Call::new();
    call.run(Duration::from_secs(100), |from, bytes| if from == 0 { Vec::new() } else { vec![bytes] });
    call.assert_no_keys();
    assert_eq!(call.peers[1].seen.failed, Some(Reason::Timeout { alert: None }));
    assert!(call.now - call.start <= HANDSHAKE_TIMEOUT + DELAY);
    assert!(call.peers[1].seen.sent.len() >= 6, "the hello was repeated");
}

// RFC 6347 §4.2.4; CONTRACTS 11
#[test]
fn a_lost_last_flight_is_sent_again_until_the_association_is_disposable() {
    let mut call = Call::new();
    let mut is_first = true;
    call.run(Duration::from_secs(5), |from, bytes| {
        let is_last_flight = from == 0 && first_kind(&bytes) == 0;
        if is_last_flight && std::mem::take(&mut is_first) { Vec::new() } else { vec![bytes] }
    });
    assert!(!is_first, "the last flight was lost once");
    call.assert_keys_agree();

    let client_flight: Vec<_> = call.peers[1].seen.sent.clone();
    let server = &mut call.peers[0];
    let done = call.start + server.seen.connected_at.expect("connected");
    assert!(!server.association.is_disposable(done + LINGER - Duration::from_millis(1)));
    let late = done + LINGER - Duration::from_secs(1);
    client_flight.iter().for_each(|bytes| server.association.receive(bytes, late));
    assert!(!server.drain(late, call.start).is_empty(), "a stale flight is answered");
    assert!(server.association.deadline() <= done + LINGER);
    let over = done + LINGER;
    client_flight.iter().for_each(|bytes| server.association.receive(bytes, over));
    assert!(server.drain(over, call.start).is_empty(), "nothing is sent, no close_notify either");
    assert!(server.association.is_disposable(over));
}

#[test]
fn garbage_after_completion_is_ignored() {
    let mut random = Random::new(3);
    let mut call = Call::new();
    call.run(Duration::from_secs(5), deliver);
    let hello = call.peers[1].seen.sent[0].clone();
    let (now, start) = (call.now + Duration::from_secs(1), call.start);
    for peer in &mut call.peers {
        let before = peer.seen.sent.len();
        for _ in 0..2000 {
            peer.association.receive(&forgery(&mut random, &hello), now);
        }
        peer.drain(now, start);
        assert_eq!(peer.seen.sent.len(), before, "answered");
        assert!(peer.seen.failed.is_none());
    }
}

#[test]
fn associations_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Association>();
    is_send::<Event>();
}

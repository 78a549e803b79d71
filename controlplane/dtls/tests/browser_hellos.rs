// SPDX-License-Identifier: Apache-2.0
//! The fragmented post-quantum ClientHellos of real browsers (testdata), in every order the network may choose.
#![allow(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::time::{Duration, Instant};

use controlplane_dtls::{Association, Event, Fingerprint, FingerprintAlgorithm, Identity, Role};

const BROWSERS: [(&str, &str); 2] = [
    ("chromium", include_str!("testdata/hello-chromium.hex")),
    ("firefox", include_str!("testdata/hello-firefox.hex")),
];

fn datagrams(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

struct Server {
    association: Association,
    start: Instant,
}

impl Server {
    fn new() -> Self {
        let identity = Identity::generate().expect("identity");
        let print = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, identity.parts().0);
        let start = Instant::now();
        Self { association: Association::new(&identity, Role::Server, vec![print], start), start }
    }

    /// Types of the plaintext handshake messages that answer, after `datagrams` arrive at `at`.
    fn answer<'a>(&mut self, datagrams: impl IntoIterator<Item = &'a Vec<u8>>, at: Duration) -> Vec<u8> {
        let now = self.start + at;
        let mut kinds = Vec::new();
        for bytes in datagrams {
            self.association.receive(bytes, now);
            while let Some(event) = self.association.poll(now) {
                let Event::Transmit(bytes) = event else { panic!("{event:?}") };
                assert!(bytes.len() <= 1200, "MTU");
                let mut rest = &bytes[..];
                while let [22, _, _, 0, 0, _, _, _, _, _, _, high, low, kind, ..] = *rest {
                    kinds.push(kind);
                    rest = &rest[13 + usize::from(u16::from_be_bytes([high, low]))..];
                }
            }
        }
        kinds
    }
}

/// ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone.
const FLIGHT: [u8; 5] = [2, 11, 12, 13, 14];

// S11
#[test]
fn the_recorded_hellos_are_fragmented() {
    for (browser, text) in BROWSERS {
        let datagrams = datagrams(text);
        assert_eq!(datagrams.len(), 2, "{browser}");
        let total = |bytes: &[u8]| u32::from_be_bytes([0, bytes[14], bytes[15], bytes[16]]);
        assert!(total(&datagrams[0]) > 1400 && total(&datagrams[0]) == total(&datagrams[1]), "{browser}");
    }
}

// S11
#[test]
fn fragments_in_order_and_reversed_are_answered_once() {
    for (browser, text) in BROWSERS {
        let parts = datagrams(text);
        assert_eq!(Server::new().answer(&parts, Duration::ZERO), FLIGHT, "{browser} in order");
        assert_eq!(Server::new().answer(parts.iter().rev(), Duration::ZERO), FLIGHT, "{browser} reversed");
    }
}

// S11
#[test]
fn duplicated_fragments_are_answered_once() {
    for (browser, text) in BROWSERS {
        let parts = datagrams(text);
        let twice: Vec<_> = parts.iter().flat_map(|part| [part, part]).collect();
        let mut server = Server::new();
        let kinds = server.answer(twice.into_iter().take(3), Duration::ZERO);
        assert_eq!(kinds, FLIGHT, "{browser}");
        assert!(server.answer([&parts[1]], Duration::ZERO).is_empty(), "{browser}: the answer is not repeated at once");
    }
}

// S11
#[test]
fn a_lost_fragment_is_completed_by_the_retransmission() {
    for (browser, text) in BROWSERS {
        let parts = datagrams(text);
        for lost in 0..2 {
            let mut server = Server::new();
            assert!(server.answer([&parts[1 - lost]], Duration::ZERO).is_empty(), "{browser}: half a hello");
            assert_eq!(server.answer(&parts, Duration::from_secs(1)), FLIGHT, "{browser} lost {lost}");
        }
    }
}

// RFC 6347 §4.2.4: the repeated hello of a client that lost our flight is answered again, after a cool-down
#[test]
fn a_repeated_hello_is_answered_with_the_same_flight() {
    for (browser, text) in BROWSERS {
        let parts = datagrams(text);
        let mut server = Server::new();
        assert_eq!(server.answer(&parts, Duration::ZERO), FLIGHT);
        assert_eq!(server.answer(&parts, Duration::from_millis(99)), [], "{browser}: cool-down");
        assert_eq!(server.answer(&parts, Duration::from_millis(230)), FLIGHT, "{browser}");
        assert!(server.answer(&parts, Duration::from_millis(231)).is_empty(), "{browser}: cool-down");
    }
}

// S4: forged fragments beside the genuine ones
#[test]
fn contradicting_fragments_do_not_spoil_the_hello() {
    for (browser, text) in BROWSERS {
        let parts = datagrams(text);
        let mut forged = parts[0].clone();
        // high byte of the cipher suites' length: version 2, random 32, empty session id and cookie
        assert_eq!(std::mem::replace(&mut forged[25 + 36], 0xFF), 0, "{browser}");
        let mut server = Server::new();
        assert!(server.answer([&forged, &parts[1], &parts[0]], Duration::ZERO).is_empty(), "{browser}: malformed");
        assert_eq!(server.answer([&parts[1]], Duration::ZERO), FLIGHT, "{browser}");
        let mut server = Server::new();
        assert_eq!(server.answer([&parts[0], &forged, &parts[1]], Duration::ZERO), FLIGHT, "{browser}");
    }
}

#[test]
fn every_truncation_of_a_hello_is_met_with_silence() {
    for (_, text) in BROWSERS {
        let parts = datagrams(text);
        let mut server = Server::new();
        for len in 0..parts[1].len() {
            let short = [parts[0].clone(), parts[1][..len].to_vec()];
            assert!(server.answer(&short, Duration::ZERO).is_empty());
        }
        assert_eq!(server.answer(&parts, Duration::ZERO), FLIGHT);
    }
}

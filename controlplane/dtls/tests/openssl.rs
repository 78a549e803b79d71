// SPDX-License-Identifier: Apache-2.0
//! Handshakes with the openssl command over loopback UDP: an implementation that is not ours, and its exporter bytes
//! equal to our keys. Without the command the tests say so and pass.
#![allow(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controlplane_dtls::{
    Association, Event, Fingerprint, FingerprintAlgorithm, Identity, KeyHalf, Role, SrtpProfileId,
};

/// Ends the process it holds.
struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-dtls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("scratch directory");
        Self(path)
    }

    /// Writes an identity as PEM; returns (certificate, key).
    fn write(&self, identity: &Identity) -> (PathBuf, PathBuf) {
        let pem = |file: &str, label: &str, der: &[u8]| {
            let lines: Vec<_> = STANDARD.encode(der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
            let text = String::from_utf8(lines.join(&b'\n')).expect("base64");
            let path = self.0.join(file);
            std::fs::write(&path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).expect("write");
            path
        };
        let (cert, key) = identity.parts();
        (pem("cert.pem", "CERTIFICATE", cert), pem("key.pem", "PRIVATE KEY", key))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_there() -> bool {
    let is_there = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !is_there {
        // Past the capture of the test harness, so that the runner counts it.
        let _ = writeln!(std::io::stdout(), "SKIPPED: openssl interoperation: the openssl command is not installed");
    }
    is_there
}

fn print(identity: &Identity) -> Vec<Fingerprint> {
    vec![Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, identity.parts().0)]
}

/// A length of 0 leaves SRTP out.
fn openssl(command: &str, address: &[&str], cert: &Path, key: &Path, (profile, len): (&str, usize)) -> Openssl {
    let len_text = len.to_string();
    let srtp = ["-use_srtp", profile, "-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", &len_text];
    let child = Command::new("openssl")
        .args([command, "-dtls1_2"])
        .args(srtp.iter().filter(|_| len > 0))
        .args(address)
        .arg("-cert")
        .arg(cert)
        .arg("-key")
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn openssl");
    Openssl(child)
}

type Keys = (SrtpProfileId, KeyHalf, KeyHalf);

/// Drives our side over a socket until it ends or 10 s pass.
fn drive(association: &mut Association, socket: &UdpSocket) -> Result<Keys, String> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut keys = None;
    let mut quiet_until = end;
    let mut buffer = [0; 4096];
    while Instant::now() < quiet_until.min(end) {
        while let Some(event) = association.poll(Instant::now()) {
            match event {
                Event::Transmit(bytes) => drop(socket.send(&bytes)),
                Event::Connected { profile, local, remote } => {
                    keys = Some((profile, local, remote));
                    quiet_until = Instant::now() + Duration::from_millis(300);
                }
                Event::Failed(reason) => return Err(reason.to_string()),
            }
        }
        if let Ok(len) = socket.recv(&mut buffer) {
            association.receive(&buffer[..len], Instant::now());
        }
    }
    keys.ok_or_else(|| "10 s passed".to_owned())
}

fn exported(mut process: Openssl) -> String {
    drop(process.0.stdin.take());
    let mut out = process.0.stdout.take().expect("piped");
    let _ = process.0.kill();
    let mut text = String::new();
    out.read_to_string(&mut text).expect("openssl prints text");
    let found = text.lines().find_map(|line| line.trim().strip_prefix("Keying material: "));
    found.unwrap_or_else(|| panic!("no keying material in: {text}")).to_owned()
}

fn hex(client: &KeyHalf, server: &KeyHalf) -> String {
    let parts = [&client.key, &server.key, &client.salt, &server.salt];
    parts.iter().flat_map(|part| part.iter()).map(|b| format!("{b:02X}")).collect()
}

const PROFILES: [(&str, usize, SrtpProfileId); 3] = [
    ("SRTP_AES128_CM_SHA1_80", 60, SrtpProfileId::AES_CM_128_HMAC_SHA1_80),
    ("SRTP_AEAD_AES_128_GCM", 56, SrtpProfileId::AEAD_AES_128_GCM),
    ("SRTP_AEAD_AES_256_GCM", 88, SrtpProfileId::AEAD_AES_256_GCM),
];

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("timeout");
    socket
}

// RFC 5764 §4.2
#[test]
fn an_openssl_client_exports_the_keys_we_hand_out() {
    if !is_there() {
        return;
    }
    for (name, len, profile) in PROFILES {
        let scratch = Scratch::new(name);
        let (ours, theirs) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
        let (cert, key) = scratch.write(&theirs);
        let socket = socket();
        let address = socket.local_addr().expect("bound").to_string();
        let process = openssl("s_client", &["-connect", &address], &cert, &key, (name, len));
        let mut first = [0; 4096];
        let end = Instant::now() + Duration::from_secs(10);
        let (size, from) = loop {
            if let Ok(found) = socket.recv_from(&mut first) {
                break found;
            }
            assert!(Instant::now() < end, "openssl sends no hello");
        };
        socket.connect(from).expect("connect");
        let mut association = Association::new(&ours, Role::Server, print(&theirs), Instant::now());
        association.receive(&first[..size], Instant::now());
        let (seen, local, remote) = drive(&mut association, &socket).expect("connected");
        assert_eq!(seen, profile);
        assert_eq!(exported(process), hex(&remote, &local), "{name}");
    }
}

// ffmpeg's WHIP muxer offers setup:passive and chooses AES_CM_128_HMAC_SHA1_80: the client takes the server's profile
#[test]
fn an_openssl_server_exports_the_keys_we_hand_out() {
    if !is_there() {
        return;
    }
    for (name, len, profile) in PROFILES {
        for extra in [&["-verify", "1"][..], &["-verify", "1", "-listen"], &[]] {
            let scratch = Scratch::new(&format!("server-{name}"));
            let (ours, theirs) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
            let (cert, key) = scratch.write(&theirs);
            let port = socket().local_addr().expect("bound").port().to_string();
            let arguments = [&["-accept", &port, "-4"], extra].concat();
            let process = openssl("s_server", &arguments, &cert, &key, (name, len));
            let socket = socket();
            socket.connect(format!("127.0.0.1:{port}")).expect("connect");
            let mut association = Association::new(&ours, Role::Client, print(&theirs), Instant::now());
            let (seen, local, remote) = drive(&mut association, &socket).expect("connected");
            assert_eq!(seen, profile);
            assert_eq!(exported(process), hex(&local, &remote), "{name} {extra:?}");
        }
    }
}

/// Our client against a server with these settings; why it failed.
fn failure(name: &str, len: usize, is_expected: bool) -> (String, bool) {
    let scratch = Scratch::new(name);
    let (ours, theirs) = (Identity::generate().expect("identity"), Identity::generate().expect("identity"));
    let (cert, key) = scratch.write(&theirs);
    let port = socket().local_addr().expect("bound").port().to_string();
    let _process = openssl("s_server", &["-accept", &port, "-4"], &cert, &key, (PROFILES[0].0, len));
    let socket = socket();
    socket.connect(format!("127.0.0.1:{port}")).expect("connect");
    let expected = print(if is_expected { &theirs } else { &ours });
    let mut association = Association::new(&ours, Role::Client, expected, Instant::now());
    let reason = drive(&mut association, &socket).map(|(profile, ..)| profile).expect_err("no keys");
    (reason, association.is_disposable(Instant::now()))
}

// S10: fingerprint and SRTP are checked, and failures come at once, not by a deadline
#[test]
fn openssl_servers_with_another_certificate_or_without_srtp_yield_no_keys() {
    if !is_there() {
        return;
    }
    let (reason, is_over) = failure("mismatch", 60, false);
    assert_eq!((&reason[..], is_over), ("the peer's certificate does not match the signalled fingerprint", true));
    let (reason, is_over) = failure("no-srtp", 0, true);
    assert_eq!((&reason[..], is_over), ("no SRTP protection profile was negotiated", true));
}

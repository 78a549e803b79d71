// SPDX-License-Identifier: Apache-2.0
//! rtpengine (Debian's package, user space): publish and subscribe by its ng protocol, SRTP keys by SDES (RFC 4568): its
//! plainest way to fan a source out under a key for each receiver, without ICE and DTLS.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use dataplane_table::{Cipher, Keys};
use tools_netlab::netns::Namespace;
use tools_netlab::process::Process;

use super::bencode::Value;
use super::sdp::sections;
use crate::client::media::Source;

/// The Debian package.
pub const PACKAGE: &str = "rtpengine-daemon";
const NG_PORT: u16 = 2223;
const CALL: &str = "bench";
const PUBLISHER: &str = "publisher";
/// For a reply, and how often it is asked again: UDP.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
const START_LIMIT: Duration = Duration::from_secs(15);

/// A running rtpengine.
pub struct Rtpengine {
    process: Process,
    command: String,
    ng: UdpSocket,
    cookies: u64,
    address: Ipv4Addr,
    cipher: Cipher,
}

/// One stream of a client, as both sides have agreed: where to, and under which keys (`rx` is what rtpengine receives).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Where rtpengine takes it.
    pub server: SocketAddrV4,
    /// Keys of both directions.
    pub keys: Keys,
}

impl Rtpengine {
    /// Starts it in `server` on core `cpu` with one thread; it is told what to do from `clients`. Its log is in `folder`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(
        (server, clients): (&Namespace, &Namespace),
        address: &str,
        cpu: usize,
        cipher: Cipher,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = server.command("taskset");
        command.args(["-c", &cpu.to_string(), "rtpengine", "--config-file=none", "--table=-1", "--num-threads=1"]);
        command.args(["--foreground", "--log-stderr", "--log-level=5", "--port-min=20000", "--port-max=60000"]);
        command.args([&format!("--interface={address}"), &format!("--listen-ng={address}:{NG_PORT}")]);
        let line = super::words(&command);
        let process = Process::spawn(command, &folder.join("rtpengine.log"), false)?;
        let ng = clients.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect((address, NG_PORT))?;
            Ok(socket)
        })?;
        ng.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut rtpengine = Self { process, command: line, ng, cookies: 0, address: address.parse()?, cipher };
        let until = std::time::Instant::now() + START_LIMIT;
        while let Err(error) = rtpengine.ask("ping", BTreeMap::new()) {
            ensure!(std::time::Instant::now() < until, "rtpengine: {error:#}: {}", rtpengine.process.log_tail(5));
        }
        rtpengine.ng.set_read_timeout(Some(PATIENCE))?;
        Ok(rtpengine)
    }

    /// How it was started.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Publishes what comes from `address`, the n-th source from port `port + 2 n`.
    ///
    /// # Errors
    /// When rtpengine refuses.
    pub fn publish(&mut self, sources: &[Source], address: Ipv4Addr, port: u16) -> Result<Vec<Agreed>> {
        let own = own_keys(self.cipher, sources.len())?;
        let sdp = description(sources, (address, port), "sendonly", self.cipher, (&own, &[1, 1]));
        let reply = self.ask(
            "publish",
            BTreeMap::from([
                ("from-tag".to_owned(), Value::text(PUBLISHER)),
                ("sdp".to_owned(), Value::text(&sdp)),
                (
                    "codec".to_owned(),
                    Value::Map(BTreeMap::from([("accept".to_owned(), Value::texts(&["opus", "VP8"]))])),
                ),
                ("ICE".to_owned(), Value::text("remove")),
            ]),
        )?;
        let answer = reply.get("sdp").context("publish: no description")?;
        own.iter()
            .zip(self.theirs(answer)?)
            .map(|((key, salt), (server, (tx_key, tx_salt), _))| {
                Ok(Agreed { server, keys: Keys { rx_key: key.clone(), rx_salt: salt.clone(), tx_key, tx_salt } })
            })
            .collect()
    }

    /// Subscribes a receiver at `address`, the n-th source at port `port + 2 n`.
    ///
    /// # Errors
    /// When rtpengine refuses, or does not offer the profile.
    pub fn subscribe(&mut self, sources: &[Source], address: Ipv4Addr, port: u16) -> Result<Vec<Agreed>> {
        let tag = format!("receiver-{address}");
        let reply = self.ask(
            "subscribe request",
            BTreeMap::from([
                ("from-tag".to_owned(), Value::text(PUBLISHER)),
                ("to-tag".to_owned(), Value::text(&tag)),
                ("transport-protocol".to_owned(), Value::text("RTP/SAVP")),
                ("ICE".to_owned(), Value::text("remove")),
                ("DTLS".to_owned(), Value::text("off")),
            ]),
        )?;
        let offer = reply.get("sdp").context("subscribe: no description")?;
        let theirs = self.theirs(offer)?;
        ensure!(theirs.len() == sources.len(), "subscribe: {} streams", theirs.len());
        let own = own_keys(self.cipher, sources.len())?;
        // RFC 4568 §5.1.3: the answer names the offer's line.
        let lines: Vec<u32> = theirs.iter().map(|(_, _, line)| *line).collect();
        let sdp = description(sources, (address, port), "recvonly", self.cipher, (&own, &lines));
        let to = reply.get("to-tag").unwrap_or(&tag).to_owned();
        self.ask(
            "subscribe answer",
            BTreeMap::from([
                ("to-tag".to_owned(), Value::text(&to)),
                ("sdp".to_owned(), Value::text(&sdp)),
                ("ICE".to_owned(), Value::text("remove")),
            ]),
        )?;
        Ok(own
            .into_iter()
            .zip(theirs)
            .map(|((rx_key, rx_salt), (server, (tx_key, tx_salt), _))| Agreed {
                server,
                keys: Keys { rx_key, rx_salt, tx_key, tx_salt },
            })
            .collect())
    }

    /// Where to, key with salt, and number of the crypto line of our profile, for each section.
    fn theirs(&self, sdp: &str) -> Result<Vec<Theirs>> {
        let mut found = Vec::new();
        for section in sections(sdp)? {
            let (line, keys) =
                section.crypto.iter().find_map(|line| crypto(line, self.cipher)).with_context(|| {
                    format!("rtpengine does not offer {}: {:?}", self.cipher.name(), section.crypto)
                })?;
            found.push((SocketAddrV4::new(self.address, section.port), keys, line));
        }
        Ok(found)
    }

    fn ask(&mut self, command: &str, mut map: BTreeMap<String, Value>) -> Result<Value> {
        map.insert("command".to_owned(), Value::text(command));
        map.insert("call-id".to_owned(), Value::text(CALL));
        self.cookies += 1;
        let cookie = self.cookies.to_string();
        let mut request = format!("{cookie} ").into_bytes();
        Value::Map(map).write(&mut request);
        let mut buffer = vec![0; 65_536];
        for _ in 0..TRIES {
            // A refused datagram (nobody listens yet) is one that gets no reply.
            let _ = self.ng.send(&request);
            while let Ok(len) = self.ng.recv(&mut buffer) {
                let Some(reply) = reply(&buffer[..len], &cookie) else { continue };
                let result = reply.get("result").unwrap_or_default();
                let why = reply.get("error-reason").unwrap_or_default();
                ensure!(result == "ok" || result == "pong", "{command}: {result} {why}");
                return Ok(reply);
            }
        }
        anyhow::bail!("{command}: no reply from rtpengine")
    }
}

/// Master key and master salt.
type Master = (Vec<u8>, Vec<u8>);

/// Where to, what it seals with, and the number of its crypto line.
type Theirs = (SocketAddrV4, Master, u32);

/// The reply with that cookie.
fn reply(datagram: &[u8], cookie: &str) -> Option<Value> {
    Value::read(datagram.strip_prefix(cookie.as_bytes())?.strip_prefix(b" ")?)
}

fn own_keys(cipher: Cipher, count: usize) -> Result<Vec<Master>> {
    let fresh = |len: usize| {
        let mut bytes = vec![0; len];
        rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
        anyhow::Ok(bytes)
    };
    (0..count).map(|_| Ok((fresh(cipher.key_len())?, fresh(cipher.salt_len())?))).collect()
}

/// A description with SDES keys and the numbers of their lines.
fn description(
    sources: &[Source],
    (address, port): (Ipv4Addr, u16),
    direction: &str,
    cipher: Cipher,
    (keys, lines): (&[Master], &[u32]),
) -> String {
    let mut text = format!("v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n");
    let ports = (port..).step_by(2);
    for (((source, (key, salt)), line), port) in sources.iter().zip(keys).zip(lines).zip(ports) {
        let Source { is_video, pt, .. } = source;
        let kind = if *is_video { "video" } else { "audio" };
        let codec = if *is_video { "VP8/90000" } else { "opus/48000/2" };
        let inline = STANDARD.encode([&key[..], salt].concat());
        let _ = write!(
            text,
            "m={kind} {port} RTP/SAVP {pt}\r\na=rtpmap:{pt} {codec}\r\na={direction}\r\na=crypto:{line} {} inline:{inline}\r\n",
            sdes_name(cipher)
        );
    }
    text
}

/// As RFC 4568 §6.2 and RFC 7714 §14.1 write it.
fn sdes_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::AeadAes128Gcm => "AEAD_AES_128_GCM",
        Cipher::AeadAes256Gcm => "AEAD_AES_256_GCM",
        Cipher::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
    }
}

/// Number, key and salt of a crypto line, if it is of that profile.
fn crypto(line: &str, cipher: Cipher) -> Option<(u32, Master)> {
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok()?;
    if words.next()? != sdes_name(cipher) {
        return None;
    }
    let inline = words.next()?.strip_prefix("inline:")?.split('|').next()?;
    let bytes = STANDARD_NO_PAD.decode(inline.trim_end_matches('=')).ok()?;
    let (key, salt) = bytes.split_at_checked(cipher.key_len())?;
    (salt.len() == cipher.salt_len()).then(|| (number, (key.to_vec(), salt.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_description_read_as_they_were_written() {
        let sources = [Source { is_video: true, ssrc: 1, pt: 96 }];
        for cipher in [Cipher::AeadAes128Gcm, Cipher::AeadAes256Gcm, Cipher::AesCm128HmacSha1_80] {
            let keys = own_keys(cipher, 1).expect("keys");
            let text = description(&sources, ([10, 0, 0, 1].into(), 6000), "recvonly", cipher, (&keys, &[1]));
            let read = sections(&text).expect("sections");
            assert_eq!((read[0].port, read[0].codec.as_str()), (6000, "VP8/90000"));
            assert_eq!(crypto(&read[0].crypto[0], cipher), Some((1, keys[0].clone())));
        }
        assert!(crypto("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA", Cipher::AesCm128HmacSha1_80).is_none(), "too short");
    }

    #[test]
    fn a_reply_is_taken_by_its_cookie() {
        assert_eq!(reply(b"7 d6:result4:ponge", "7").expect("a reply").get("result"), Some("pong"));
        assert!(reply(b"8 d6:result4:ponge", "7").is_none());
    }
}

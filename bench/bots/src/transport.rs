// SPDX-License-Identifier: Apache-2.0
//! One bundled transport: ICE (`is`, controlling), DTLS (`dimpl`, client) and SRTP (`webrtc-srtp`). Datagrams and time in,
//! datagrams and packets out. It must never take keys from a peer whose certificate is not the one that was signalled.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use aws_lc_rs::digest::{SHA256, digest};
use dimpl::{Config, Dtls, DtlsCertificate, SrtpProfile};
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

use crate::profile::Profile;
use crate::rtcp;
use crate::sdp::Remote;

/// First repetition of a DTLS flight.
const DTLS_REPEAT: Duration = Duration::from_millis(150);
/// Packets that may come late before they count as repeated.
const REPLAY_WINDOW: usize = 1024;

/// One certificate for all bots: making one costs more than a handshake.
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<Config>,
    profile: Option<Profile>,
}

impl Identity {
    /// Makes a certificate; with `profile`, no other SRTP profile is offered.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn generate(profile: Option<Profile>) -> Result<Self> {
        let mut builder = Config::builder().flight_start_rto(DTLS_REPEAT);
        if let Some(profile) = profile {
            builder = builder.with_crypto_provider(profile.provider());
        }
        let config = Arc::new(builder.build().map_err(|error| anyhow!("DTLS: {error}"))?);
        let made = dimpl::certificate::generate_self_signed_certificate();
        Ok(Self { certificate: made.map_err(|error| anyhow!("a certificate: {error}"))?, config, profile })
    }

    /// As `a=fingerprint` writes it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate.certificate)
    }
}

fn fingerprint(der: &[u8]) -> String {
    let hash: Vec<String> = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    format!("sha-256 {}", hash.join(":"))
}

/// What a datagram was.
pub enum Received {
    /// A packet of media, opened.
    Rtp(Vec<u8>),
    /// A report, opened.
    Rtcp(Vec<u8>),
    /// A packet that had come before.
    Repeated,
    /// SRTP or SRTCP that does not open.
    Undecryptable,
    /// ICE or DTLS, or nothing that is known.
    Other,
}

/// Who nominates (RFC 8445 §6.1.1): whoever offers, and whoever meets an ICE-lite server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceRole {
    /// This side.
    Controlling,
    /// The other side.
    Controlled,
}

/// The transport of one bot.
pub struct Transport {
    ice: IceAgent,
    dtls: Dtls,
    local: SocketAddr,
    expected_fingerprint: String,
    remote: Option<SocketAddr>,
    dtls_started: bool,
    dtls_at: Option<Instant>,
    certificate_matches: bool,
    narrow: Option<Profile>,
    profile: Option<Profile>,
    keys: Option<(Context, Context)>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Transport {
    /// Before the offer: credentials are chosen here.
    ///
    /// # Errors
    /// When `local` cannot be a candidate.
    pub fn new(identity: &Identity, local: SocketAddr, ice_role: IceRole, now: Instant) -> Result<Self> {
        let mut ice = IceAgent::new(IceCreds::new());
        ice.set_controlling(ice_role == IceRole::Controlling);
        let candidate = Candidate::host(local, "udp").map_err(|error| anyhow!("a candidate: {error}"))?;
        ice.add_local_candidate(candidate);
        let certificate = DtlsCertificate {
            certificate: identity.certificate.certificate.clone(),
            private_key: identity.certificate.private_key.clone(),
        };
        let mut dtls = Dtls::new_12(Arc::clone(&identity.config), certificate, now);
        dtls.set_active(true);
        Ok(Self {
            ice,
            dtls,
            local,
            expected_fingerprint: String::new(),
            remote: None,
            dtls_started: false,
            dtls_at: None,
            certificate_matches: false,
            narrow: identity.profile,
            profile: None,
            keys: None,
            out: VecDeque::new(),
        })
    }

    /// Username fragment and password of the offer.
    #[must_use]
    pub fn credentials(&self) -> (&str, &str) {
        let held = self.ice.local_credentials();
        (&held.ufrag, &held.pass)
    }

    /// Takes what the server's description says about its transport.
    ///
    /// # Errors
    /// When it has no candidate, or one that cannot be read.
    pub fn start(&mut self, answer: &Remote, now: Instant) -> Result<()> {
        if answer.candidates.is_empty() {
            bail!("the description has no candidate");
        }
        self.expected_fingerprint.clone_from(&answer.fingerprint);
        self.ice.set_remote_credentials(IceCreds { ufrag: answer.ufrag.clone(), pass: answer.pwd.clone() });
        for line in &answer.candidates {
            let candidate = Candidate::from_sdp_string(line).map_err(|error| anyhow!("{line}: {error}"))?;
            self.ice.add_remote_candidate(candidate);
        }
        self.advance(now)
    }

    /// The SRTP profile that was negotiated; `None` before.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// True from when media can flow.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.keys.is_some()
    }

    /// When [`Self::advance`] is to be called next.
    pub fn deadline(&mut self) -> Option<Instant> {
        let dtls = self.dtls_at.filter(|_| self.dtls_started);
        self.ice.poll_timeout().into_iter().chain(dtls).min()
    }

    /// The next datagram to send.
    pub fn next_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// Lets timers run out.
    ///
    /// # Errors
    /// When DTLS fails; the transport is of no use then.
    pub fn advance(&mut self, now: Instant) -> Result<()> {
        self.ice.handle_timeout(now);
        self.drain_ice();
        if self.remote.is_some() && (!self.dtls_started || self.dtls_at.is_some_and(|at| now >= at)) {
            self.dtls_started = true;
            self.dtls.handle_timeout(now).map_err(|error| anyhow!("DTLS: {error}"))?;
            self.drain_dtls()?;
        }
        Ok(())
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// When DTLS fails; the transport is of no use then.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Result<Received> {
        match datagram.first() {
            Some(0..=3) => {
                if let Ok(message) = StunMessage::parse(datagram) {
                    let (source, destination) = (from, self.local);
                    self.ice.handle_packet(now, StunPacket { proto: Protocol::Udp, source, destination, message });
                    self.advance(now)?;
                }
                Ok(Received::Other)
            }
            Some(20..=63) => {
                self.dtls.handle_packet(datagram).map_err(|error| anyhow!("DTLS: {error}"))?;
                self.drain_dtls()?;
                Ok(Received::Other)
            }
            Some(128..=191) => Ok(self.open(datagram)),
            _ => Ok(Received::Other),
        }
    }

    fn open(&mut self, datagram: &[u8]) -> Received {
        let Some((_, rx)) = &mut self.keys else { return Received::Other };
        let is_rtcp = rtcp::is_rtcp(datagram);
        let opened = if is_rtcp { rx.decrypt_rtcp(datagram) } else { rx.decrypt_rtp(datagram) };
        match opened {
            Ok(plain) if is_rtcp => Received::Rtcp(plain.to_vec()),
            Ok(plain) => Received::Rtp(plain.to_vec()),
            Err(webrtc_srtp::Error::SrtpSsrcDuplicated(..) | webrtc_srtp::Error::SrtcpSsrcDuplicated(..)) => {
                Received::Repeated
            }
            Err(_) => Received::Undecryptable,
        }
    }

    /// Seals and queues a packet of media.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn send_rtp(&mut self, packet: &[u8]) -> Result<()> {
        let (Some((tx, _)), Some(remote)) = (&mut self.keys, self.remote) else { return Ok(()) };
        let sealed = tx.encrypt_rtp(packet).context("seal a packet")?;
        self.out.push_back((remote, sealed.to_vec()));
        Ok(())
    }

    /// Seals and queues a report.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn send_rtcp(&mut self, packet: &[u8]) -> Result<()> {
        let (Some((tx, _)), Some(remote)) = (&mut self.keys, self.remote) else { return Ok(()) };
        let sealed = tx.encrypt_rtcp(packet).context("seal a report")?;
        self.out.push_back((remote, sealed.to_vec()));
        Ok(())
    }

    fn drain_ice(&mut self) {
        while let Some(transmit) = self.ice.poll_transmit() {
            self.out.push_back((transmit.destination, transmit.contents.into()));
        }
        while let Some(event) = self.ice.poll_event() {
            if let IceAgentEvent::NominatedSend { destination, .. } = event {
                self.remote = Some(destination);
            }
        }
    }

    fn drain_dtls(&mut self) -> Result<()> {
        let mut buffer = vec![0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(bytes) => {
                    if let Some(remote) = self.remote {
                        let bytes = self.narrow.map_or(Cow::Borrowed(bytes), |profile| profile.narrowed(bytes));
                        self.out.push_back((remote, bytes.into_owned()));
                    }
                }
                dimpl::Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                dimpl::Output::Timeout(at) => {
                    self.dtls_at = Some(at);
                    return Ok(());
                }
                dimpl::Output::PeerCert(der) => {
                    if !fingerprint(der).eq_ignore_ascii_case(&self.expected_fingerprint) {
                        bail!("the server's certificate is not the one of its description");
                    }
                    self.certificate_matches = true;
                }
                dimpl::Output::KeyingMaterial(material, profile) => {
                    if !self.certificate_matches {
                        bail!("keys without a certificate");
                    }
                    self.profile = Profile::of(profile);
                    self.keys = Some(contexts(&material, profile)?);
                }
                dimpl::Output::CloseNotify => bail!("the server closed DTLS"),
                dimpl::Output::Connected | dimpl::Output::ApplicationData(_) | _ => {}
            }
        }
    }
}

/// What we seal with and what we open with (RFC 5764 §4.2: client's key, server's key, then the salts).
fn contexts(material: &[u8], profile: SrtpProfile) -> Result<(Context, Context)> {
    let profile = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AEAD_AES_128_GCM => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => ProtectionProfile::AeadAes256Gcm,
        _ => bail!("an SRTP profile that is not known"),
    };
    let (key, salt) = (profile.key_len(), profile.salt_len());
    if material.len() != 2 * (key + salt) {
        bail!("keying material of {} bytes", material.len());
    }
    let (keys, salts) = material.split_at(2 * key);
    let context = |key: &[u8], salt: &[u8]| {
        let replay = (srtp_replay_protection(REPLAY_WINDOW), srtcp_replay_protection(REPLAY_WINDOW));
        Context::new(key, salt, profile, Some(replay.0), Some(replay.1)).context("SRTP keys")
    };
    Ok((context(&keys[..key], &salts[..salt])?, context(&keys[key..], &salts[salt..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_written_as_sdp_does() {
        let identity = Identity::generate(None).expect("an identity");
        let text = identity.fingerprint();
        assert_eq!(text.len(), "sha-256 ".len() + 32 * 3 - 1);
        assert!(text.starts_with("sha-256 "));
    }

    #[test]
    fn keys_are_split_as_client_and_server() {
        let material: Vec<u8> = (0..56).collect();
        let (mut ours, _) = contexts(&material, SrtpProfile::AEAD_AES_128_GCM).expect("keys");
        let mirrored: Vec<u8> = (16..32).chain(0..16).chain(44..56).chain(32..44).collect();
        let (_, mut theirs) = contexts(&mirrored, SrtpProfile::AEAD_AES_128_GCM).expect("keys");
        let packet = crate::rtp::packet(96, true, 1, 2, 3, &[b"media"]);
        let sealed = ours.encrypt_rtp(&packet).expect("sealed");
        assert_eq!(theirs.decrypt_rtp(&sealed).expect("opened")[..], packet[..]);
        assert!(contexts(&material[..55], SrtpProfile::AEAD_AES_128_GCM).is_err());
    }

    #[test]
    fn a_packet_counts_once_and_damage_is_seen() {
        let material: Vec<u8> = (0..56).collect();
        let mirrored: Vec<u8> = (16..32).chain(0..16).chain(44..56).chain(32..44).collect();
        let (mut theirs, _) = contexts(&mirrored, SrtpProfile::AEAD_AES_128_GCM).expect("keys");
        let identity = Identity::generate(None).expect("an identity");
        let local: SocketAddr = ([127, 0, 0, 1], 9).into();
        let mut transport =
            Transport::new(&identity, local, IceRole::Controlling, Instant::now()).expect("a transport");
        transport.keys = Some(contexts(&material, SrtpProfile::AEAD_AES_128_GCM).expect("keys"));
        let packet = crate::rtp::packet(96, true, 1, 2, 3, &[b"media"]);
        let sealed = theirs.encrypt_rtp(&packet).expect("sealed");
        assert!(matches!(transport.open(&sealed), Received::Rtp(plain) if plain == packet));
        assert!(matches!(transport.open(&sealed), Received::Repeated));
        let mut damaged =
            theirs.encrypt_rtp(&crate::rtp::packet(96, true, 2, 2, 3, &[b"media"])).expect("sealed").to_vec();
        damaged[14] ^= 1;
        assert!(matches!(transport.open(&damaged), Received::Undecryptable));
    }
}

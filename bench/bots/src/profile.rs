// SPDX-License-Identifier: Apache-2.0
//! Offers one SRTP profile only, so that every server under measurement seals with the same cipher. `dimpl` always offers
//! three; the offer is narrowed to one where it leaves (the ClientHello) and wherever the handshake is hashed or signed, which
//! keeps both sides' transcripts equal. It must never be on unless it is asked for.

use std::borrow::Cow;

use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm, SigningKey,
};
use dimpl::{CryptoError, SrtpProfile};

/// The profiles that are told apart, by their IANA numbers ("DTLS-SRTP Protection Profiles").
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 §14.2).
    #[value(name = "gcm128")]
    Gcm128,
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714 §14.2).
    #[value(name = "gcm256")]
    Gcm256,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2).
    #[value(name = "sha1_80")]
    Sha1x80,
}

/// The extension as `dimpl` writes it (RFC 5764 §4.1.1): type 14, 9 bytes, 6 bytes of profiles, no MKI.
const OFFERED: [u8; 13] = [0, 14, 0, 9, 0, 6, 0, 8, 0, 7, 0, 1, 0];

impl Profile {
    fn number(self) -> u8 {
        match self {
            Self::Sha1x80 => 1,
            Self::Gcm128 => 7,
            Self::Gcm256 => 8,
        }
    }

    /// As the tables name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcm128 => "AEAD_AES_128_GCM",
            Self::Gcm256 => "AEAD_AES_256_GCM",
            Self::Sha1x80 => "AES128_CM_HMAC_SHA1_80",
        }
    }

    /// What DTLS came to; `None` if it is not one of ours.
    #[must_use]
    pub fn of(negotiated: SrtpProfile) -> Option<Self> {
        match negotiated {
            SrtpProfile::AES128_CM_SHA1_80 => Some(Self::Sha1x80),
            SrtpProfile::AEAD_AES_128_GCM => Some(Self::Gcm128),
            SrtpProfile::AEAD_AES_256_GCM => Some(Self::Gcm256),
            _ => None,
        }
    }

    /// `bytes` with the offer narrowed to this profile, three times over: its length stays.
    pub(crate) fn narrowed(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let Some(at) = bytes.windows(OFFERED.len()).position(|window| window == OFFERED) else {
            return Cow::Borrowed(bytes);
        };
        let mut narrowed = bytes.to_vec();
        for low in [7, 9, 11] {
            if let Some(byte) = narrowed.get_mut(at + low) {
                *byte = self.number();
            }
        }
        Cow::Owned(narrowed)
    }

    /// A provider that hashes and signs the narrowed offer.
    pub(crate) fn provider(self) -> CryptoProvider {
        let narrow: &'static Narrow = match self {
            Self::Gcm128 => &Narrow(Self::Gcm128),
            Self::Gcm256 => &Narrow(Self::Gcm256),
            Self::Sha1x80 => &Narrow(Self::Sha1x80),
        };
        CryptoProvider { hash_provider: narrow, key_provider: narrow, ..default_provider() }
    }
}

/// `dimpl`'s own hashes and keys, fed with the narrowed offer.
#[derive(Debug)]
struct Narrow(Profile);

#[derive(Debug)]
struct Hash(Profile, Box<dyn HashContext>);

#[derive(Debug)]
struct Key(Profile, Box<dyn SigningKey>);

impl HashProvider for Narrow {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Hash(self.0, default_provider().hash_provider.create_hash(algorithm)))
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.1.update(&self.0.narrowed(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.1.clone_and_finalize(out);
    }
}

impl KeyProvider for Narrow {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Key(self.0, default_provider().key_provider.load_private_key(key_der)?)))
    }
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        self.1.sign(&self.0.narrowed(data), hash_alg, out)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.1.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.1.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.1.supported_hash_algorithms()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use dimpl::{Config, Dtls, Output};

    use super::*;

    #[test]
    fn the_offer_is_narrowed_and_nothing_else() {
        let hello = [&[1, 2, 3][..], &OFFERED, &[4, 5]].concat();
        let narrowed = Profile::Gcm128.narrowed(&hello);
        assert_eq!(narrowed[..], [1, 2, 3, 0, 14, 0, 9, 0, 6, 0, 7, 0, 7, 0, 7, 0, 4, 5]);
        assert!(matches!(Profile::Gcm128.narrowed(&hello[..9]), Cow::Borrowed(_)));
    }

    /// A whole handshake with a server that would choose AES-256: what both sides came to.
    fn handshake(profile: Profile) -> [Option<SrtpProfile>; 2] {
        let now = Instant::now();
        let certificate = || dimpl::certificate::generate_self_signed_certificate().expect("a certificate");
        let config = Config::builder().with_crypto_provider(profile.provider()).build().expect("a configuration");
        let mut client = Dtls::new_12(Arc::new(config), certificate(), now);
        client.set_active(true);
        let mut server = Dtls::new_12(Arc::new(Config::default()), certificate(), now);
        let mut came_to = [None, None];
        for _ in 0..10 {
            client.handle_timeout(now).expect("a client");
            for packet in drain(&mut client, &mut came_to[0]) {
                let _ = server.handle_packet(&profile.narrowed(&packet));
            }
            server.handle_timeout(now).expect("a server");
            for packet in drain(&mut server, &mut came_to[1]) {
                client.handle_packet(&packet).expect("a server's packet");
            }
        }
        came_to
    }

    fn drain(dtls: &mut Dtls, came_to: &mut Option<SrtpProfile>) -> Vec<Vec<u8>> {
        let (mut packets, mut buffer) = (Vec::new(), vec![0; 4096]);
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => packets.push(bytes.to_vec()),
                Output::KeyingMaterial(_, profile) => *came_to = Some(profile),
                Output::Timeout(_) => return packets,
                Output::BufferTooSmall { .. }
                | Output::Connected
                | Output::PeerCert(_)
                | Output::ApplicationData(_)
                | Output::CloseNotify
                | _ => {}
            }
        }
    }

    #[test]
    fn both_sides_of_a_handshake_come_to_the_profile_that_is_asked_for() {
        for (profile, expected) in [
            (Profile::Gcm128, SrtpProfile::AEAD_AES_128_GCM),
            (Profile::Gcm256, SrtpProfile::AEAD_AES_256_GCM),
            (Profile::Sha1x80, SrtpProfile::AES128_CM_SHA1_80),
        ] {
            assert_eq!(handshake(profile), [Some(expected); 2]);
        }
    }
}

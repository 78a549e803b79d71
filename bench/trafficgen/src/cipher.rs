// SPDX-License-Identifier: Apache-2.0
//! SRTP with a cipher library as anyone would write it: AES-GCM (RFC 7714) and AES-CM with HMAC-SHA1-80 (RFC 3711), keys
//! expanded once, one call per packet. It must never share code with the server's own kernels: publishers use it, and floor
//! programs, which the server is held against.

use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use dataplane_table::Cipher as Suite;

/// Bytes of a master salt at most.
const SALT: usize = 14;
/// Bytes of a GCM tag.
const GCM_TAG: usize = 16;
/// Bytes of a tag of `SHA1_80`.
const SHA1_TAG: usize = 10;
/// Labels of RFC 3711 §4.3.2.
const LABEL_KEY: u8 = 0;
const LABEL_AUTH: u8 = 1;
const LABEL_SALT: u8 = 2;

/// Which stream a packet belongs to, and where in it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// SSRC on the wire.
    pub ssrc: u32,
    /// Roll-over counter and sequence number: 48 bits (RFC 3711 §3.3.1).
    pub index: u64,
    /// Bytes of the RTP header with its extension.
    pub header: usize,
}

enum Kind {
    Gcm(LessSafeKey),
    Sha1x80(Box<(EncryptingKey, hmac::Key)>),
}

/// One direction of one SRTP session.
pub struct Cipher {
    kind: Kind,
    salt: [u8; SALT],
}

impl Cipher {
    /// From a master key and a master salt.
    ///
    /// # Errors
    /// When their lengths are not the suite's.
    pub fn new(suite: Suite, key: &[u8], salt: &[u8]) -> Result<Self> {
        ensure!(
            (key.len(), salt.len()) == (suite.key_len(), suite.salt_len()),
            "key and salt of {} and {} bytes",
            key.len(),
            salt.len()
        );
        let mut master_salt = [0; SALT];
        master_salt[..salt.len()].copy_from_slice(salt);
        let derived =
            |label: u8, len: usize| derive(key, master_salt, label, len).map_err(|_| anyhow!("key derivation"));
        let session_key = derived(LABEL_KEY, key.len())?;
        let mut session_salt = [0; SALT];
        session_salt[..salt.len()].copy_from_slice(&derived(LABEL_SALT, salt.len())?);
        let unusable = |_: Unspecified| anyhow!("a key that the library refuses");
        let kind = match suite {
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => {
                let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                Kind::Gcm(LessSafeKey::new(UnboundKey::new(algorithm, &session_key).map_err(unusable)?))
            }
            Suite::AesCm128HmacSha1_80 => {
                let key = UnboundCipherKey::new(&AES_128, &session_key).map_err(unusable)?;
                let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derived(LABEL_AUTH, 20)?);
                Kind::Sha1x80(Box::new((EncryptingKey::ctr(key).map_err(unusable)?, mac)))
            }
        };
        Ok(Self { kind, salt: session_salt })
    }

    /// Bytes that sealing adds.
    #[must_use]
    pub fn tag_len(&self) -> usize {
        match self.kind {
            Kind::Gcm(_) => GCM_TAG,
            Kind::Sha1x80(_) => SHA1_TAG,
        }
    }

    /// Seals `packet` in place: RTP header, payload, and room for the tag at its end.
    ///
    /// # Errors
    /// When the packet is shorter than its header and tag.
    pub fn seal(&self, place: Place, packet: &mut [u8]) -> Result<(), Unspecified> {
        let (header, rest) = packet.split_at_mut_checked(place.header).ok_or(Unspecified)?;
        let (payload, room) = rest.split_last_part(self.tag_len()).ok_or(Unspecified)?;
        match &self.kind {
            Kind::Gcm(key) => {
                let tag = key.seal_in_place_separate_tag(self.gcm_nonce(place), Aad::from(&*header), payload)?;
                room.copy_from_slice(tag.as_ref());
            }
            Kind::Sha1x80(keys) => {
                let (ctr, mac) = &**keys;
                ctr.less_safe_encrypt(payload, self.cm_context(place))?;
                room.copy_from_slice(&sha1_tag(mac, header, payload, place)[..SHA1_TAG]);
            }
        }
        Ok(())
    }

    /// Opens `packet` in place; the length of header and payload.
    ///
    /// # Errors
    /// When it is not what was sealed.
    pub fn open(&self, place: Place, packet: &mut [u8]) -> Result<usize, Unspecified> {
        let plain_len = packet.len().checked_sub(self.tag_len()).ok_or(Unspecified)?;
        let (header, sealed) = packet.split_at_mut_checked(place.header).ok_or(Unspecified)?;
        match &self.kind {
            Kind::Gcm(key) => {
                key.open_in_place(self.gcm_nonce(place), Aad::from(&*header), sealed)?;
            }
            Kind::Sha1x80(keys) => {
                let (ctr, mac) = &**keys;
                let (payload, tag) = sealed.split_last_part(SHA1_TAG).ok_or(Unspecified)?;
                let expected = sha1_tag(mac, header, payload, place);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected[..SHA1_TAG], tag)?;
                // In counter mode, opening is sealing.
                ctr.less_safe_encrypt(payload, self.cm_context(place))?;
            }
        }
        Ok(plain_len)
    }

    /// RFC 7714 §8.1.
    fn gcm_nonce(&self, place: Place) -> Nonce {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.salt[..12]);
        xor(&mut nonce[2..6], &place.ssrc.to_be_bytes());
        xor(&mut nonce[6..], &place.index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// RFC 3711 §4.1.1.
    fn cm_context(&self, place: Place) -> EncryptionContext {
        let mut iv = [0; 16];
        iv[..SALT].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &place.ssrc.to_be_bytes());
        xor(&mut iv[8..14], &place.index.to_be_bytes()[2..]);
        EncryptionContext::Iv128(FixedLength::from(iv))
    }
}

/// The end of a packet, apart from what is before it.
trait SplitLast {
    fn split_last_part(&mut self, len: usize) -> Option<(&mut [u8], &mut [u8])>;
}

impl SplitLast for [u8] {
    fn split_last_part(&mut self, len: usize) -> Option<(&mut [u8], &mut [u8])> {
        self.split_at_mut_checked(self.len().checked_sub(len)?)
    }
}

fn xor(into: &mut [u8], with: &[u8]) {
    into.iter_mut().zip(with).for_each(|(byte, other)| *byte ^= other);
}

/// RFC 3711 §4.2: header, ciphertext and roll-over counter.
fn sha1_tag(mac: &hmac::Key, header: &[u8], payload: &[u8], place: Place) -> [u8; 20] {
    let mut context = hmac::Context::with_key(mac);
    context.update(header);
    context.update(payload);
    context.update(&place.index.to_be_bytes()[2..6]);
    let mut tag = [0; 20];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// RFC 3711 §4.3.3, with a key derivation rate of 0.
fn derive(key: &[u8], mut salt: [u8; SALT], label: u8, len: usize) -> Result<Vec<u8>, Unspecified> {
    salt[7] ^= label;
    let mut iv = [0; 16];
    iv[..SALT].copy_from_slice(&salt);
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let mut stream = vec![0; len];
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)?
        .less_safe_encrypt(&mut stream, EncryptionContext::Iv128(FixedLength::from(iv)))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use webrtc_srtp::context::Context;
    use webrtc_srtp::protection_profile::ProtectionProfile;

    use super::*;

    const SUITES: [(Suite, ProtectionProfile); 3] = [
        (Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (Suite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
        (Suite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ];

    fn packet(seq: u16, len: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&seq.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 1, 0x11, 0x22, 0x33, 0x44]);
        packet.extend((0..len).map(|at| u8::try_from(at % 251).expect("a byte")));
        packet
    }

    #[test]
    fn every_suite_seals_and_opens_as_the_independent_library_does() {
        for (suite, theirs) in SUITES {
            let (key_len, salt_len) = (suite.key_len(), suite.salt_len());
            let key: Vec<u8> = (1..).take(key_len).collect();
            let salt: Vec<u8> = (101..).take(salt_len).collect();
            let ours = Cipher::new(suite, &key, &salt).expect("keys");
            let mut context = Context::new(&key, &salt, theirs, None, None).expect("keys");
            // Across the wrap, so that the roll-over counter is in the nonce.
            for (index, len) in (65_530_u64..65_550).zip([0, 1, 15, 16, 17, 160, 1200].into_iter().cycle()) {
                let seq = u16::try_from(index & 0xffff).expect("16 bits");
                let place = Place { ssrc: 0x1122_3344, index, header: 12 };
                let plain = packet(seq, len);
                let expected = context.encrypt_rtp(&plain).expect("sealed");
                let mut sealed = plain.clone();
                sealed.resize(plain.len() + ours.tag_len(), 0);
                ours.seal(place, &mut sealed).expect("sealed");
                assert_eq!(sealed, expected, "{suite:?} {index}");
                assert_eq!(ours.open(place, &mut sealed).expect("opened"), plain.len());
                assert_eq!(sealed[..plain.len()], plain[..]);
                let mut damaged = expected.to_vec();
                damaged[12] ^= 1;
                assert!(ours.open(place, &mut damaged).is_err(), "{suite:?}");
            }
        }
    }
}

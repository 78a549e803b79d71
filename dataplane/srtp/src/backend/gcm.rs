// SPDX-License-Identifier: Apache-2.0
//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714) on `aws-lc-rs`. One nonce, one call: the nonce is
//! built from the index that the caller spent and is never remembered.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::{E_FLAG, RTCP_HEAD_LEN, RtpPlace, rtcp_aad};
use crate::derive::{Label, derive};
use crate::{MasterKey, Plaintext, Profile, SrtpError};

const TAG_LEN: usize = 16;

/// Session key and salt for RTP.
pub(crate) struct GcmSession {
    rtp: GcmKey,
    profile: Profile,
}

/// Session key and salt for RTCP.
pub(crate) struct GcmRtcp(GcmKey);

/// A key schedule with its salt. The schedule lies on the C heap and is wiped by the library when
/// freed; it is absent only if that heap was exhausted, and then every packet is refused.
struct GcmKey {
    key: Option<LessSafeKey>,
    salt: [u8; 12],
}

impl Drop for GcmKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

impl GcmKey {
    fn new(key: &[u8], salt: [u8; 12]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Self { key: UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new), salt }
    }

    fn derived(master: &MasterKey, key_label: Label, salt_label: Label) -> Self {
        let mut key = Zeroizing::new([0u8; 32]);
        let mut salt = [0u8; 12];
        derive(master, salt_label, &mut salt);
        let made = match key.get_mut(..master.key().len()) {
            Some(key) => {
                derive(master, key_label, key);
                Self::new(key, salt)
            }
            None => Self { key: None, salt },
        };
        salt.zeroize();
        made
    }

    /// RFC 7714 §8.1: 00 00 ‖ SSRC ‖ ROC ‖ SEQ, and §9.1: 00 00 ‖ SSRC ‖ 00 00 ‖ 0 ‖ index; XOR salt.
    /// The RTCP index fills the same 48 bits with leading zeros.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let [_, _, i0, i1, i2, i3, i4, i5] = index.to_be_bytes();
        let [s0, s1, s2, s3] = ssrc.to_be_bytes();
        let mut iv = [0, 0, s0, s1, s2, s3, i0, i1, i2, i3, i4, i5];
        for (byte, salt) in iv.iter_mut().zip(&self.salt) {
            *byte ^= salt;
        }
        Nonce::assume_unique_for_key(iv)
    }

    fn schedule(&self) -> Result<&LessSafeKey, SrtpError> {
        self.key.as_ref().ok_or(SrtpError::NoKey)
    }
}

impl GcmSession {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self { rtp: GcmKey::derived(master, Label::RtpKey, Label::RtpSalt), profile: master.profile() }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        let key = self.rtp.schedule()?;
        let (head, body) = packet.split_at_mut_checked(place.head_len).ok_or(SrtpError::NoRoom)?;
        let (payload, tag_out) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        rest.copy_to(payload.get_mut(prefix_len..).ok_or(SrtpError::NoRoom)?);
        let nonce = self.rtp.nonce(place.ssrc, place.index);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*head), payload).map_err(|_| SrtpError::NoKey)?;
        copy_tag(tag_out, tag.as_ref());
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let key = self.rtp.schedule()?;
        let (head, body) = packet.split_at_checked(place.head_len).ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let nonce = self.rtp.nonce(place.ssrc, place.index);
        key.open_separate_gather(nonce, Aad::from(head), sealed, tag, payload).map_err(|_| SrtpError::AuthFailed)
    }
}

impl GcmRtcp {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self(GcmKey::derived(master, Label::RtcpKey, Label::RtcpSalt))
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        let key = self.0.schedule()?;
        let (head, body) = packet.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let (body, word_out) = body.split_last_chunk_mut::<4>().ok_or(SrtpError::NoRoom)?;
        let (payload, tag_out) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let word = index | E_FLAG;
        let nonce = self.0.nonce(ssrc, u64::from(index));
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(rtcp_aad(*head, word)), payload)
            .map_err(|_| SrtpError::NoKey)?;
        copy_tag(tag_out, tag.as_ref());
        *word_out = word.to_be_bytes();
        Ok(())
    }

    pub(super) fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        let key = self.0.schedule()?;
        let (head, body) = packet.split_first_chunk::<RTCP_HEAD_LEN>().ok_or(SrtpError::TooShort)?;
        let (body, word) = body.split_last_chunk::<4>().ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let word = u32::from_be_bytes(*word);
        if word & E_FLAG == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let index = word & !E_FLAG;
        let (head_out, payload) = plain.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let nonce = self.0.nonce(ssrc, u64::from(index));
        key.open_separate_gather(nonce, Aad::from(rtcp_aad(*head, word)), sealed, tag, payload)
            .map_err(|_| SrtpError::AuthFailed)?;
        *head_out = *head;
        Ok(index)
    }
}

fn copy_tag(out: &mut [u8; TAG_LEN], tag: &[u8]) {
    for (to, from) in out.iter_mut().zip(tag) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f";
    const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
                       69736120 696e2070 61727465 73207472 6573";
    const RTP_PLACE: RtpPlace = RtpPlace { ssrc: 0x5501_a0b2, index: 0xf17b, head_len: 12 };
    const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                        deadbeef deadbeef deadbeef deadbeef deadbeef";

    fn key(key_len: usize) -> GcmKey {
        let salt: [u8; 12] = hex("517569642070726f2071756f").try_into().unwrap();
        GcmKey::new(&hex(KEY)[..key_len], salt)
    }

    fn both_ways_rtp(key_len: usize, sealed: &str) {
        let session = GcmSession { rtp: key(key_len), profile: Profile::AeadAes128Gcm };
        let (plain, sealed) = (hex(RTP), hex(sealed));
        let mut out = plain.clone();
        out.resize(plain.len() + TAG_LEN, 0xee);
        out[20..].fill(0xee);
        session.seal_rtp(RTP_PLACE, &mut out, 8, &plain[20..]).unwrap();
        assert_eq!(out, sealed);
        let mut payload = vec![0; plain.len() - 12];
        session.open_rtp(RTP_PLACE, &sealed, &mut payload).unwrap();
        assert_eq!(payload, plain[12..]);
    }

    fn both_ways_rtcp(key_len: usize, sealed: &str, tag_only: &str) {
        let (session, plain, sealed) = (GcmRtcp(key(key_len)), hex(RTCP), hex(sealed));
        let mut out = plain.clone();
        out.resize(plain.len() + TAG_LEN + 4, 0xee);
        session.seal_rtcp(0x4d61_7273, 0x5d4, &mut out).unwrap();
        assert_eq!(out, sealed);
        let mut back = vec![0; plain.len()];
        assert_eq!(session.open_rtcp(0x4d61_7273, &sealed, &mut back), Ok(0x5d4));
        assert_eq!(back, plain);

        // RFC 7714 §17.3, §17.4: a genuine packet with E = 0 is refused, and nothing is written.
        let unencrypted = [plain, hex(tag_only)].concat();
        back.fill(0xee);
        assert_eq!(session.open_rtcp(0x4d61_7273, &unencrypted, &mut back), Err(SrtpError::Unencrypted));
        assert!(back.iter().all(|byte| *byte == 0xee));
    }

    // RFC 7714 §16.1
    #[test]
    fn rtp_with_a_128_bit_key_is_that_of_the_rfc() {
        both_ways_rtp(
            16,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a
             51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        );
    }

    // RFC 7714 §16.2
    #[test]
    fn rtp_with_a_256_bit_key_is_that_of_the_rfc() {
        both_ways_rtp(
            32,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02
             76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        );
    }

    // RFC 7714 §17.1, §17.3
    #[test]
    fn rtcp_with_a_128_bit_key_is_that_of_the_rfc() {
        both_ways_rtcp(
            16,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda
             4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
            "841dd968 3dd78ec9 2ae58790 125f62b3 000005d4",
        );
    }

    // RFC 7714 §17.2, §17.4
    #[test]
    fn rtcp_with_a_256_bit_key_is_that_of_the_rfc() {
        both_ways_rtcp(
            32,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be
             8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
            "91db4afb feee5a97 8fab4393 ed2615fe 000005d4",
        );
    }
}

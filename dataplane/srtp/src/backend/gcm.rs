// SPDX-License-Identifier: Apache-2.0
//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714) on `aws-lc-rs`. One nonce, one call: the nonce is
//! built from the index that the caller spent and is never remembered.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::RtpPlace;
use crate::derive::{Label, derive};
use crate::{MasterKey, Plaintext, SrtpError};

const TAG_LEN: usize = 16;
const RTCP_HEAD_LEN: usize = 8;
const E_FLAG: u32 = 1 << 31;

/// Session keys and salts for RTP and RTCP.
pub(crate) struct GcmSession {
    rtp: GcmKey,
    rtcp: GcmKey,
}

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

/// AAD of SRTCP: the first eight bytes and the E‖index word (RFC 7714 §9.2).
fn rtcp_aad(head: [u8; RTCP_HEAD_LEN], word: u32) -> [u8; 12] {
    let [h0, h1, h2, h3, h4, h5, h6, h7] = head;
    let [w0, w1, w2, w3] = word.to_be_bytes();
    [h0, h1, h2, h3, h4, h5, h6, h7, w0, w1, w2, w3]
}

impl GcmSession {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self {
            rtp: GcmKey::derived(master, Label::RtpKey, Label::RtpSalt),
            rtcp: GcmKey::derived(master, Label::RtcpKey, Label::RtcpSalt),
        }
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

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        let key = self.rtcp.schedule()?;
        let (head, body) = packet.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let (body, word_out) = body.split_last_chunk_mut::<4>().ok_or(SrtpError::NoRoom)?;
        let (payload, tag_out) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let word = index | E_FLAG;
        let nonce = self.rtcp.nonce(ssrc, u64::from(index));
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(rtcp_aad(*head, word)), payload)
            .map_err(|_| SrtpError::NoKey)?;
        copy_tag(tag_out, tag.as_ref());
        *word_out = word.to_be_bytes();
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let key = self.rtp.schedule()?;
        let (head, body) = packet.split_at_checked(place.head_len).ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let nonce = self.rtp.nonce(place.ssrc, place.index);
        key.open_separate_gather(nonce, Aad::from(head), sealed, tag, payload).map_err(|_| SrtpError::AuthFailed)
    }

    pub(super) fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        let key = self.rtcp.schedule()?;
        let (head, body) = packet.split_first_chunk::<RTCP_HEAD_LEN>().ok_or(SrtpError::TooShort)?;
        let (body, word) = body.split_last_chunk::<4>().ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let word = u32::from_be_bytes(*word);
        if word & E_FLAG == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let index = word & !E_FLAG;
        let (head_out, payload) = plain.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let nonce = self.rtcp.nonce(ssrc, u64::from(index));
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

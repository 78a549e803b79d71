// SPDX-License-Identifier: Apache-2.0
//! AES_CM_128_HMAC_SHA1_80 (RFC 3711) on `RustCrypto`, and on the kernels where those have lanes. The keyed HMAC state of
//! RTP is made once and cloned per packet. Opening verifies before it writes a byte.

use aes::Aes128Enc;
use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{E_FLAG, RTCP_HEAD_LEN, RtpPlace};
use crate::derive::{Label, derive};
#[cfg(target_arch = "x86_64")]
use crate::kernels;
use crate::{MasterKey, Plaintext, SrtpError};

const TAG_LEN: usize = 10;

/// Session keys and salt for RTP.
pub(crate) struct CmSession(CmKey);

/// Session keys and salt for RTCP, as bytes: schedules have fifteen times as many, and a receiver few such packets.
pub(crate) struct CmRtcp(Secret);

/// Session keys and salt for RTP, packets one by one with the vector kernel, sixteen at once in lanes. What a batch reads
/// comes first.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
pub(crate) struct CmLanes {
    key: kernels::CmKey,
    hmac: Hmac<Sha1>,
}

/// Session keys and their salt; wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Secret {
    key: [u8; 16],
    auth: [u8; 20],
    salt: [u8; 14],
}

/// Round keys, keyed HMAC state and salt; all wiped on drop.
struct CmKey {
    aes: Aes128Enc,
    hmac: Hmac<Sha1>,
    salt: [u8; 14],
}

impl Drop for CmKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

impl Secret {
    fn derived(master: &MasterKey, [key_label, auth_label, salt_label]: [Label; 3]) -> Self {
        let mut secret = Self { key: [0; 16], auth: [0; 20], salt: [0; 14] };
        derive(master, key_label, &mut secret.key);
        derive(master, auth_label, &mut secret.auth);
        derive(master, salt_label, &mut secret.salt);
        secret
    }

    fn of_rtp(master: &MasterKey) -> Self {
        Self::derived(master, [Label::RtpKey, Label::RtpAuth, Label::RtpSalt])
    }

    fn schedule(&self) -> CmKey {
        CmKey { aes: Aes128Enc::new((&self.key).into()), hmac: keyed(&self.auth), salt: self.salt }
    }
}

fn keyed(auth: &[u8; 20]) -> Hmac<Sha1> {
    // HMAC pads a key that is shorter than a SHA-1 block with zeros, so a whole block with the
    // same zeros is the same key, and this constructor has no error.
    let mut block = Zeroizing::new([0u8; 64]);
    for (to, from) in block.iter_mut().zip(auth) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

/// First 80 bits of HMAC-SHA1 over `authenticated` and `suffix` (RFC 3711 §4.2).
fn tag(keyed: &Hmac<Sha1>, authenticated: &[u8], suffix: &[u8]) -> [u8; TAG_LEN] {
    let mut mac = keyed.clone();
    mac.update(authenticated);
    mac.update(suffix);
    let mut tag = [0; TAG_LEN];
    for (to, from) in tag.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
    tag
}

impl CmKey {
    /// RFC 3711 §4.1.1: (salt << 16) XOR (SSRC << 64) XOR (index << 16).
    fn keystream(&self, ssrc: u32, index: u64) -> StreamCipherCoreWrapper<CtrCore<&Aes128Enc, Ctr128BE>> {
        let [_, _, i0, i1, i2, i3, i4, i5] = index.to_be_bytes();
        let [s0, s1, s2, s3] = ssrc.to_be_bytes();
        let mut iv = [0, 0, 0, 0, s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, 0, 0];
        for (byte, salt) in iv.iter_mut().zip(&self.salt) {
            *byte ^= salt;
        }
        StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(&self.aes, &iv.into()))
    }
}

/// The ROC as HMAC suffix (RFC 3711 §4.2: M = authenticated portion ‖ ROC).
fn roc_bytes(index: u64) -> [u8; 4] {
    let [_, _, r0, r1, r2, r3, _, _] = index.to_be_bytes();
    [r0, r1, r2, r3]
}

/// The sealed payload of an RTP packet, once its tag was found right.
fn verified<'p>(keyed: &Hmac<Sha1>, place: RtpPlace, packet: &'p [u8]) -> Result<&'p [u8], SrtpError> {
    let (authenticated, received) = packet.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
    let sealed = authenticated.get(place.head_len..).ok_or(SrtpError::TooShort)?;
    let is_right = bool::from(tag(keyed, authenticated, &roc_bytes(place.index)).ct_eq(received));
    if is_right { Ok(sealed) } else { Err(SrtpError::AuthFailed) }
}

impl CmSession {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self(Secret::of_rtp(master).schedule())
    }

    pub(super) fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        let (authenticated, tag_out) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let payload = authenticated.get_mut(place.head_len..).ok_or(SrtpError::NoRoom)?;
        rest.copy_to(payload.get_mut(prefix_len..).ok_or(SrtpError::NoRoom)?);
        self.0.keystream(place.ssrc, place.index).try_apply_keystream(payload).map_err(|_| SrtpError::NoKey)?;
        *tag_out = tag(&self.0.hmac, authenticated, &roc_bytes(place.index));
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let sealed = verified(&self.0.hmac, place, packet)?;
        let mut keystream = self.0.keystream(place.ssrc, place.index);
        keystream.apply_keystream_b2b_checked(sealed, payload)
    }
}

impl CmRtcp {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self(Secret::derived(master, [Label::RtcpKey, Label::RtcpAuth, Label::RtcpSalt]))
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        let (authenticated, tag_out) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let (plain, word_out) = authenticated.split_last_chunk_mut::<4>().ok_or(SrtpError::NoRoom)?;
        let payload = plain.get_mut(RTCP_HEAD_LEN..).ok_or(SrtpError::NoRoom)?;
        let key = self.0.schedule();
        key.keystream(ssrc, u64::from(index)).try_apply_keystream(payload).map_err(|_| SrtpError::NoKey)?;
        *word_out = (index | E_FLAG).to_be_bytes();
        *tag_out = tag(&key.hmac, authenticated, &[]);
        Ok(())
    }

    pub(super) fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        let (authenticated, received) = packet.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let (sealed, word) = authenticated.split_last_chunk::<4>().ok_or(SrtpError::TooShort)?;
        let (head, sealed) = sealed.split_first_chunk::<RTCP_HEAD_LEN>().ok_or(SrtpError::TooShort)?;
        let word = u32::from_be_bytes(*word);
        if word & E_FLAG == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let key = self.0.schedule();
        if !bool::from(tag(&key.hmac, authenticated, &[]).ct_eq(received)) {
            return Err(SrtpError::AuthFailed);
        }
        let index = word & !E_FLAG;
        let (head_out, payload) = plain.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let mut keystream = key.keystream(ssrc, u64::from(index));
        keystream.apply_keystream_b2b_checked(sealed, payload)?;
        *head_out = *head;
        Ok(index)
    }
}

#[cfg(target_arch = "x86_64")]
impl CmLanes {
    /// `isa` has AVX-512.
    pub(super) fn new(isa: kernels::Isa, master: &MasterKey) -> Self {
        let secret = Secret::of_rtp(master);
        Self { key: kernels::CmKey::new(isa, &secret.key, &secret.auth, &secret.salt), hmac: keyed(&secret.auth) }
    }

    #[inline]
    pub(super) fn key(&self) -> &kernels::CmKey {
        &self.key
    }

    pub(super) fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        let (authenticated, tag_out) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let payload = authenticated.get_mut(place.head_len..).ok_or(SrtpError::NoRoom)?;
        let shared = rest.shared();
        if shared.is_none() {
            rest.copy_to(payload.get_mut(prefix_len..).ok_or(SrtpError::NoRoom)?);
        }
        self.key.encrypt(place, payload, prefix_len, shared).ok_or(SrtpError::NoRoom)?;
        *tag_out = tag(&self.hmac, authenticated, &roc_bytes(place.index));
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let sealed = verified(&self.hmac, place, packet)?;
        self.key.decrypt(place, sealed, payload).ok_or(SrtpError::NoRoom)
    }
}

/// Decrypting from source to target without a panic when lengths differ.
trait CheckedKeystream {
    fn apply_keystream_b2b_checked(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), SrtpError>;
}

impl CheckedKeystream for StreamCipherCoreWrapper<CtrCore<&Aes128Enc, Ctr128BE>> {
    fn apply_keystream_b2b_checked(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), SrtpError> {
        if from.len() != to.len() {
            return Err(SrtpError::NoRoom);
        }
        self.try_apply_keystream_b2b(from, to).map_err(|_| SrtpError::NoKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;

    // RFC 3711 §B.2
    #[test]
    fn the_keystream_is_that_of_the_rfc_from_the_first_to_the_last_block() {
        let key: [u8; 16] = hex("2B7E151628AED2A6ABF7158809CF4F3C").try_into().unwrap();
        let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let session = Secret { key, auth: [0; 20], salt }.schedule();
        let mut keystream = vec![0; 1_044_512];
        session.keystream(0, 0).apply_keystream(&mut keystream);
        let first =
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
        let last = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44";
        assert_eq!(keystream[..48], hex(first));
        assert_eq!(keystream[keystream.len() - 48..], hex(last));
    }

    // RFC 3711 §4.1.1, §B.2: the IV of B.2 has SSRC and index zero; this one places both.
    #[test]
    fn ssrc_and_index_meet_their_bytes_of_the_iv() {
        let key = [0x11; 16];
        let placed = Secret { key, auth: [0; 20], salt: [0; 14] }.schedule();
        let shifted = hex("00000000 A1A2A3A4 B1B2B3B4B5B6").try_into().unwrap();
        let salted = Secret { key, auth: [0; 20], salt: shifted }.schedule();
        let (mut one, mut two) = ([0; 40], [0; 40]);
        placed.keystream(0xA1A2_A3A4, 0xB1B2_B3B4_B5B6).apply_keystream(&mut one);
        salted.keystream(0, 0).apply_keystream(&mut two);
        assert_eq!(one, two);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714) on the kernels. Opening decrypts while it hashes and wipes what it
//! wrote when the tag is wrong.

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Backend, E_FLAG, RTCP_HEAD_LEN, RtpPlace, rtcp_aad};
use crate::derive::{Label, derive};
use crate::kernels::{GcmKey, Isa, Work};
use crate::{MasterKey, Plaintext, Profile, SrtpError};

const TAG_LEN: usize = 16;
/// Bytes in front of SSRC and index in the nonce.
const SHIFT: u32 = 2;

/// Session key and salt for RTP; wiped on drop.
#[repr(C)]
pub(crate) struct GcmSession {
    key: GcmKey,
    isa: Isa,
}

/// Session key and salt for RTCP, as bytes: a schedule has ten times as many, and a receiver few such packets. Wiped on drop.
pub(crate) struct GcmRtcp {
    secret: Secret,
    isa: Isa,
}

/// A session key and its salt.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Secret {
    key: [u8; 32],
    key_len: u8,
    salt: [u8; 12],
}

impl Secret {
    fn derived(master: &MasterKey, key_label: Label, salt_label: Label) -> Self {
        let key_len = master.profile().key_len();
        let mut secret = Self { key: [0; 32], key_len: u8::try_from(key_len).unwrap_or(0), salt: [0; 12] };
        derive(master, salt_label, &mut secret.salt);
        derive(master, key_label, secret.key.get_mut(..key_len).unwrap_or_default());
        secret
    }

    fn schedule(&self, isa: Isa) -> GcmKey {
        GcmKey::new(isa, self.key.get(..usize::from(self.key_len)).unwrap_or_default(), &self.salt)
    }
}

fn open(key: &GcmKey, isa: Isa, work: Option<Work<'_>>, tag: &[u8; TAG_LEN]) -> Result<(), SrtpError> {
    let expected = key.open(isa, &work.ok_or(SrtpError::NoRoom)?);
    if bool::from(expected.ct_eq(tag)) { Ok(()) } else { Err(SrtpError::AuthFailed) }
}

impl GcmSession {
    pub(super) fn new(isa: Isa, master: &MasterKey) -> Self {
        Self { key: Secret::derived(master, Label::RtpKey, Label::RtpSalt).schedule(isa), isa }
    }

    pub(super) fn backend(&self) -> Backend {
        self.isa.backend()
    }

    pub(super) fn profile(&self) -> Profile {
        if self.key.aes().is_256() { Profile::AeadAes256Gcm } else { Profile::AeadAes128Gcm }
    }

    #[inline]
    pub(super) fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        let (head, body) = packet.split_at_mut_checked(place.head_len).ok_or(SrtpError::NoRoom)?;
        let (payload, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let shared = rest.shared();
        if shared.is_none() {
            rest.copy_to(payload.get_mut(prefix_len..).ok_or(SrtpError::NoRoom)?);
        }
        let nonce = self.key.aes().nonce(place.ssrc, place.index, SHIFT);
        let work = Work::seal(nonce, head, payload, prefix_len, shared).ok_or(SrtpError::NoRoom)?;
        *tag = self.key.seal(self.isa, &work);
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let (head, body) = packet.split_at_checked(place.head_len).ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let nonce = self.key.aes().nonce(place.ssrc, place.index, SHIFT);
        let opened = open(&self.key, self.isa, Work::open(nonce, head, sealed, payload), tag);
        if opened.is_err() {
            payload.zeroize();
        }
        opened
    }
}

impl GcmRtcp {
    pub(super) fn new(isa: Isa, master: &MasterKey) -> Self {
        Self { secret: Secret::derived(master, Label::RtcpKey, Label::RtcpSalt), isa }
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        let (head, body) = packet.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let (body, word_out) = body.split_last_chunk_mut::<4>().ok_or(SrtpError::NoRoom)?;
        let (payload, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let word = index | E_FLAG;
        let key = self.secret.schedule(self.isa);
        let nonce = key.aes().nonce(ssrc, u64::from(index), SHIFT);
        let aad = rtcp_aad(*head, word);
        let work = Work::seal(nonce, &aad, payload, 0, None).ok_or(SrtpError::NoRoom)?;
        *tag = key.seal(self.isa, &work);
        *word_out = word.to_be_bytes();
        Ok(())
    }

    pub(super) fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        let (head, body) = packet.split_first_chunk::<RTCP_HEAD_LEN>().ok_or(SrtpError::TooShort)?;
        let (body, word) = body.split_last_chunk::<4>().ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let word = u32::from_be_bytes(*word);
        if word & E_FLAG == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let index = word & !E_FLAG;
        let (head_out, payload) = plain.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let key = self.secret.schedule(self.isa);
        let nonce = key.aes().nonce(ssrc, u64::from(index), SHIFT);
        let aad = rtcp_aad(*head, word);
        if let Err(error) = open(&key, self.isa, Work::open(nonce, &aad, sealed, payload), tag) {
            payload.zeroize();
            return Err(error);
        }
        *head_out = *head;
        Ok(index)
    }
}

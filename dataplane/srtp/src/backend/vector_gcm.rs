// SPDX-License-Identifier: Apache-2.0
//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714) on the kernels. Opening decrypts while it hashes and wipes what it
//! wrote when the tag is wrong.

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Backend, E_FLAG, RTCP_HEAD_LEN, RtpPlace, rtcp_aad};
use crate::derive::{Label, derive};
use crate::kernels::{GcmKey, Isa, Work};
use crate::{MasterKey, Plaintext, SrtpError};

const TAG_LEN: usize = 16;
/// Bytes in front of SSRC and index in the nonce.
const SHIFT: u32 = 2;

/// Session keys and salts for RTP and RTCP; all wiped on drop. What RTP reads comes first.
#[repr(C)]
pub(crate) struct GcmSession {
    rtp: GcmKey,
    isa: Isa,
    rtcp: GcmKey,
}

fn derived(isa: Isa, master: &MasterKey, key_label: Label, salt_label: Label) -> GcmKey {
    let mut key = Zeroizing::new([0u8; 32]);
    let mut salt = Zeroizing::new([0u8; 12]);
    derive(master, salt_label, salt.as_mut_slice());
    let key = key.get_mut(..master.key().len()).unwrap_or_default();
    derive(master, key_label, key);
    GcmKey::new(isa, key, salt.as_slice())
}

fn open(key: &GcmKey, isa: Isa, work: Option<Work<'_>>, tag: &[u8; TAG_LEN]) -> Result<(), SrtpError> {
    let expected = key.open(isa, &work.ok_or(SrtpError::NoRoom)?);
    if bool::from(expected.ct_eq(tag)) { Ok(()) } else { Err(SrtpError::AuthFailed) }
}

impl GcmSession {
    pub(super) fn new(isa: Isa, master: &MasterKey) -> Self {
        Self {
            rtp: derived(isa, master, Label::RtpKey, Label::RtpSalt),
            rtcp: derived(isa, master, Label::RtcpKey, Label::RtcpSalt),
            isa,
        }
    }

    pub(super) fn backend(&self) -> Backend {
        self.isa.backend()
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
        let nonce = self.rtp.aes().nonce(place.ssrc, place.index, SHIFT);
        let work = Work::seal(nonce, head, payload, prefix_len, shared).ok_or(SrtpError::NoRoom)?;
        *tag = self.rtp.seal(self.isa, &work);
        Ok(())
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        let (head, body) = packet.split_first_chunk_mut::<RTCP_HEAD_LEN>().ok_or(SrtpError::NoRoom)?;
        let (body, word_out) = body.split_last_chunk_mut::<4>().ok_or(SrtpError::NoRoom)?;
        let (payload, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let word = index | E_FLAG;
        let nonce = self.rtcp.aes().nonce(ssrc, u64::from(index), SHIFT);
        let aad = rtcp_aad(*head, word);
        let work = Work::seal(nonce, &aad, payload, 0, None).ok_or(SrtpError::NoRoom)?;
        *tag = self.rtcp.seal(self.isa, &work);
        *word_out = word.to_be_bytes();
        Ok(())
    }

    pub(super) fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        let (head, body) = packet.split_at_checked(place.head_len).ok_or(SrtpError::TooShort)?;
        let (sealed, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(SrtpError::TooShort)?;
        let nonce = self.rtp.aes().nonce(place.ssrc, place.index, SHIFT);
        let opened = open(&self.rtp, self.isa, Work::open(nonce, head, sealed, payload), tag);
        if opened.is_err() {
            payload.zeroize();
        }
        opened
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
        let nonce = self.rtcp.aes().nonce(ssrc, u64::from(index), SHIFT);
        let aad = rtcp_aad(*head, word);
        if let Err(error) = open(&self.rtcp, self.isa, Work::open(nonce, &aad, sealed, payload), tag) {
            payload.zeroize();
            return Err(error);
        }
        *head_out = *head;
        Ok(index)
    }
}

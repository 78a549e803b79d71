// SPDX-License-Identifier: Apache-2.0
//! AES_CM_128_HMAC_SHA1_80 (RFC 3711) for sixteen receivers at once: each packet is encrypted by the vector kernel, then
//! all are hashed in step, which takes as many blocks for each.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::aes::AesKey;
use super::sha1::{self, LANES, State};
use super::{Isa, Work, avx512};
use crate::SharedBytes;
use crate::backend::RtpPlace;

const TAG_LEN: usize = 10;
/// Bytes in front of the SSRC in the counter block.
const SHIFT: u32 = 4;

/// Session keys for RTP; wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct CmKey {
    aes: AesKey,
    inner: State,
    outer: State,
}

impl CmKey {
    /// `isa` has AVX-512.
    pub(crate) fn new(isa: Isa, key: &[u8; 16], auth: &[u8; 20], salt: &[u8; 14]) -> Self {
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; 64]);
            for (to, from) in block.iter_mut().zip(auth) {
                *to ^= from;
            }
            // SAFETY: the instructions exist because a lane key is made for `Backend::Avx512` alone.
            unsafe { sha1::after(&block) }
        };
        Self { aes: AesKey::new(isa, key, salt), inner: padded(0x36), outer: padded(0x5c) }
    }

    /// Encrypts one payload, which starts with `prefix` bytes of plaintext; `rest` are the others, which are in it already when
    /// absent. Nothing when the lengths do not fit together.
    pub(crate) fn encrypt(
        &self,
        place: RtpPlace,
        payload: &mut [u8],
        prefix: usize,
        rest: Option<SharedBytes<'_>>,
    ) -> Option<()> {
        let nonce = self.aes.nonce(place.ssrc, place.index, SHIFT);
        self.run(&Work::seal(nonce, &[], payload, prefix, rest)?);
        Some(())
    }

    /// Decrypts one payload into a place of the same length, else nothing.
    pub(crate) fn decrypt(&self, place: RtpPlace, sealed: &[u8], payload: &mut [u8]) -> Option<()> {
        let nonce = self.aes.nonce(place.ssrc, place.index, SHIFT);
        self.run(&Work::open(nonce, &[], sealed, payload)?);
        Some(())
    }

    fn run(&self, work: &Work<'_>) {
        // SAFETY: the instructions exist because a lane key is made for `Backend::Avx512` alone.
        unsafe { avx512::ctr(&self.aes, work) };
    }
}

/// One packet of a batch.
pub(crate) struct CmLane<'a> {
    key: &'a CmKey,
    work: Work<'a>,
    /// The authenticated part, which the tag follows.
    start: *mut u8,
    len: usize,
    roc: [u8; 4],
}

impl<'a> CmLane<'a> {
    /// `packet` is exactly header, prefix, `rest` and tag long, else nothing.
    pub(crate) fn new(
        key: &'a CmKey,
        place: RtpPlace,
        packet: &'a mut [u8],
        prefix: usize,
        rest: SharedBytes<'a>,
    ) -> Option<Self> {
        let len = packet.len().checked_sub(TAG_LEN)?;
        let payload_len = len.checked_sub(place.head_len)?;
        let start = packet.as_mut_ptr();
        // SAFETY: the payload lies in the packet by the subtractions above, and both are lent until the lane is dropped;
        // it is made from `start`, so that both stay valid side by side.
        let payload = unsafe { core::slice::from_raw_parts_mut(start.wrapping_add(place.head_len), payload_len) };
        let nonce = key.aes.nonce(place.ssrc, place.index, SHIFT);
        let [_, _, r0, r1, r2, r3, _, _] = place.index.to_be_bytes();
        let work = Work::seal(nonce, &[], payload, prefix, Some(rest))?;
        Some(Self { key, work, start, len, roc: [r0, r1, r2, r3] })
    }

    /// Blocks that are hashed of it.
    pub(crate) const fn blocks(&self) -> usize {
        lane_blocks(self.len)
    }
}

/// Blocks that are hashed of an authenticated part of `len` bytes.
pub(crate) const fn lane_blocks(len: usize) -> usize {
    sha1::message_blocks(len)
}

/// Seals all lanes of so many blocks; the others are left out.
pub(crate) fn seal_lanes(lanes: &[Option<CmLane<'_>>; LANES], blocks: usize) {
    let lanes = || lanes.iter().flatten().filter(|lane| lane.blocks() == blocks);
    let Some(first) = lanes().next() else { return };
    // Lanes without a packet hash the first one's again; nobody looks at the result.
    let mut messages = [(first.start.cast_const(), first.len); LANES];
    let mut keys = [(&first.key.inner, &first.key.outer); LANES];
    let mut suffixes = [first.roc; LANES];
    for (((lane, message), key), suffix) in lanes().zip(&mut messages).zip(&mut keys).zip(&mut suffixes) {
        lane.key.run(&lane.work);
        *message = (lane.start.cast_const(), lane.len);
        *key = (&lane.key.inner, &lane.key.outer);
        *suffix = lane.roc;
    }
    // SAFETY: each length can be read at its place because each lane was made from a longer slice that is still lent, and
    // each has `blocks` blocks because the others were left out above.
    let tags = unsafe { sha1::hmac(&keys, &messages, blocks, &suffixes) };
    for (lane, tag) in lanes().zip(&tags) {
        // SAFETY: the tag lies in the packet because the packet was that much longer than `len`.
        unsafe { core::ptr::copy_nonoverlapping(tag.as_ptr(), lane.start.wrapping_add(lane.len), TAG_LEN) };
    }
}

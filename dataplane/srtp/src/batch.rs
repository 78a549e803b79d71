// SPDX-License-Identifier: Apache-2.0
//! One plaintext, many receivers, one call: lanes of a vector unit work on as many packets.

#[cfg(target_arch = "x86_64")]
use crate::kernels::{CmLane, seal_lanes};
use crate::{Plaintext, SrtpError, TxContext};

/// Packets that one call seals together at most (lanes of the widest kernel).
pub const BATCH: usize = 16;

/// One packet of a batch: the arguments of [`TxContext::protect_rtp`] without the shared payload.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The receiver's keys.
    pub context: &'a TxContext,
    /// ROC << 16 | sequence number, spent by the caller.
    pub index: u64,
    /// The lent frame: header and `prefix_len` payload bytes in place, room for the rest and the tag.
    pub out: &'a mut [u8],
    /// Bytes of header with CSRCs and extension.
    pub head_len: usize,
    /// Payload bytes in place.
    pub prefix_len: usize,
    /// What became of it: the packet's length, or why nothing of `out` may be sent.
    /// [`Sealing::new`] sets [`SrtpError::NoKey`].
    pub sealed: Result<usize, SrtpError>,
}

impl<'a> Sealing<'a> {
    /// A packet to be sealed.
    #[must_use]
    pub fn new(context: &'a TxContext, index: u64, out: &'a mut [u8], head_len: usize, prefix_len: usize) -> Self {
        Self { context, index, out, head_len, prefix_len, sealed: Err(SrtpError::NoKey) }
    }
}

/// Seals `rest` for every packet of `batch` and leaves each outcome in [`Sealing::sealed`]; packets do not
/// affect each other's outcome. Each result is that of [`TxContext::protect_rtp`], byte for byte.
///
/// What the caller guarantees is what `protect_rtp` demands, for each packet: `index` is spent before the call and
/// unique for its key and SSRC, whatever the outcome. `rest` is the same payload for all, hence packets whose patched
/// prefix has another length go into another batch. Any number of packets is right; what makes it *fast*:
///
/// - [`BATCH`] packets per call (with AES-CM and HMAC-SHA1; four are worth a call too), one after the other the
///   packets of *one* stored packet for different receivers;
/// - equal `head_len + prefix_len`: lanes work in step, so packets of other lengths than their neighbours' run on
///   their own. Order the members of a cohort by profile and header length once, not per packet;
/// - frames that are already in cache, and [`TxContext::prefetch`] for the next call's contexts.
///
/// AES-GCM gains nothing from lanes: there the call is a loop, so one code path serves all profiles.
pub fn protect_rtp_batch<P: Plaintext>(batch: &mut [Sealing<'_>], rest: &P) {
    for chunk in batch.chunks_mut(BATCH) {
        #[cfg(target_arch = "x86_64")]
        if in_lanes(chunk, rest) {
            continue;
        }
        for packet in chunk {
            let Sealing { context, index, head_len, prefix_len, .. } = *packet;
            packet.sealed = context.protect_rtp(index, packet.out, head_len, prefix_len, rest);
        }
    }
}

/// Seals the chunk in lanes when it fills them, all its contexts have such keys, and all lengths are equal.
#[cfg(target_arch = "x86_64")]
fn in_lanes<P: Plaintext>(chunk: &mut [Sealing<'_>], rest: &P) -> bool {
    let Ok(chunk) = <&mut [Sealing<'_>; BATCH]>::try_from(chunk) else { return false };
    let Some(shared) = rest.shared() else { return false };
    let clear = |packet: &Sealing<'_>| packet.head_len.checked_add(packet.prefix_len);
    let [first, ..] = &*chunk;
    let common = clear(first);
    if chunk.iter().any(|packet| clear(packet) != common || packet.context.lane_key().is_none()) {
        return false;
    }
    let mut lanes = [const { None }; BATCH];
    for (lane, packet) in lanes.iter_mut().zip(chunk.iter_mut()) {
        let Sealing { context, index, head_len, prefix_len, .. } = *packet;
        let Some(key) = context.lane_key() else { return false };
        match context.rtp_layout(index, packet.out, head_len, prefix_len, shared.len()) {
            Ok((place, packet)) => *lane = CmLane::new(key, place, packet, prefix_len, shared),
            Err(_) => return false,
        }
    }
    let Some(len) = seal_lanes(lanes) else { return false };
    for packet in chunk {
        packet.sealed = Ok(len);
    }
    true
}

// SPDX-License-Identifier: Apache-2.0
//! Many receivers, one call: lanes of a vector unit work on as many packets.

#[cfg(target_arch = "x86_64")]
use crate::kernels::{CmLane, lane_blocks, seal_lanes};
use crate::{Plaintext, SrtpError, TxContext};

/// Packets that one call seals together at most (lanes of the widest kernel).
pub const BATCH: usize = 16;

/// Fewer packets than these go one by one: all lanes are hashed whether a packet is in them or not.
pub const BATCH_LEAST: usize = 5;

/// One packet of a batch: the arguments of [`TxContext::protect_rtp`].
#[derive(Debug)]
pub struct Sealing<'a, P> {
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
    /// The payload's other bytes, shared and left unchanged.
    pub rest: P,
    /// What became of it: the packet's length, or why nothing of `out` may be sent.
    /// [`Sealing::new`] sets [`SrtpError::NoKey`].
    pub sealed: Result<usize, SrtpError>,
}

impl<'a, P: Plaintext> Sealing<'a, P> {
    /// A packet to be sealed; `lens` are `head_len` and `prefix_len`.
    #[must_use]
    pub fn new(context: &'a TxContext, index: u64, out: &'a mut [u8], lens: (usize, usize), rest: P) -> Self {
        let (head_len, prefix_len) = lens;
        Self { context, index, out, head_len, prefix_len, rest, sealed: Err(SrtpError::NoKey) }
    }

    /// On its own.
    fn seal(&mut self) {
        let Self { context, index, out, head_len, prefix_len, rest, sealed } = self;
        *sealed = context.protect_rtp(*index, out, *head_len, *prefix_len, &*rest);
    }

    /// Blocks that are hashed of it; nothing where it is not for the lanes.
    #[cfg(target_arch = "x86_64")]
    fn blocks(&self) -> Option<usize> {
        let rest = self.rest.shared().filter(|_| self.context.has_lanes())?;
        Some(lane_blocks(self.head_len.checked_add(self.prefix_len)?.checked_add(rest.len())?))
    }

    /// Its lane among others of so many blocks. What is not right with it is said in `sealed`, and so is its length.
    #[cfg(target_arch = "x86_64")]
    fn lane(&mut self, blocks: usize) -> Option<CmLane<'_>> {
        let Self { context, index, out, head_len, prefix_len, rest, sealed } = self;
        let (key, rest) = (context.lane_key()?, rest.shared()?);
        match context.rtp_layout(*index, out, *head_len, *prefix_len, rest.len()) {
            Ok((place, packet)) => {
                let len = packet.len();
                let lane = CmLane::new(key, place, packet, *prefix_len, rest).filter(|lane| lane.blocks() == blocks)?;
                *sealed = Ok(len);
                Some(lane)
            }
            Err(error) => {
                *sealed = Err(error);
                None
            }
        }
    }
}

/// Seals the packets of `batch` and leaves each outcome in [`Sealing::sealed`]; packets do not affect each other's outcome.
/// Each result is that of [`TxContext::protect_rtp`], byte for byte.
///
/// What the caller guarantees is what `protect_rtp` demands, for each packet: `index` is spent before the call and
/// unique for its key and SSRC, whatever the outcome. Any packets in any order are right; what makes it *fast*:
///
/// - contexts that have lanes ([`TxContext::has_lanes`]), [`BATCH`] packets per call, [`BATCH_LEAST`] at least;
/// - lengths that are equal, or nearly: lanes work in step, so those run together whose SHA-1 has as many blocks of
///   64 bytes. Few of one such length run one by one;
/// - frames that are in the nearest cache, none at the same distance from a multiple of 4096 as all the others.
///
/// AES-GCM gains nothing from lanes: there the call is a loop.
pub fn protect_rtp_batch<'b, 'a: 'b, P: Plaintext + 'b>(batch: impl IntoIterator<Item = &'b mut Sealing<'a, P>>) {
    let mut batch = batch.into_iter().fuse();
    loop {
        let mut chunk: [Option<&mut Sealing<'_, P>>; BATCH] = core::array::from_fn(|_| batch.next());
        if chunk.iter().all(Option::is_none) {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        take_lanes(&mut chunk);
        chunk.iter_mut().flatten().for_each(|packet| packet.seal());
    }
}

/// Takes out of the chunk what fills lanes, and seals it.
#[cfg(target_arch = "x86_64")]
fn take_lanes<P: Plaintext>(chunk: &mut [Option<&mut Sealing<'_, P>>; BATCH]) {
    let blocks = chunk.each_ref().map(|packet| packet.as_ref().and_then(|packet| packet.blocks()));
    for (at, one) in blocks.iter().enumerate() {
        let Some(count) = *one else { continue };
        let is_seen = blocks.iter().take(at).any(|before| before == one);
        if is_seen || blocks.iter().filter(|other| *other == one).count() < BATCH_LEAST {
            continue;
        }
        let mates = chunk.iter_mut().zip(&blocks).filter(|(_, blocks)| *blocks == one);
        let mut lanes = [const { None }; BATCH];
        for (lane, packet) in lanes.iter_mut().zip(mates.filter_map(|(packet, _)| packet.take())) {
            *lane = packet.lane(count);
        }
        seal_lanes(&lanes, count);
    }
}

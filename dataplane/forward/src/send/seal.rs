// SPDX-License-Identifier: Apache-2.0
//! Where the send half meets the cipher. A build with `--cfg null_cipher`, for benches only, can leave the cipher out while
//! it runs, so that the pipeline's own cost is seen; no other build has such a way.

use dataplane_srtp::{BATCH, Sealing, SrtpError, TxContext, protect_rtp_batch};

use crate::send::rewrite::{Shared, Written};

/// Seals a frame whose head was written; its length.
///
/// # Errors
/// Those of [`TxContext::protect_rtp`].
#[inline]
pub(crate) fn seal(
    tx: &TxContext,
    index: u64,
    frame: &mut [u8],
    written: Written,
    rest: Shared<'_>,
) -> Result<usize, SrtpError> {
    #[cfg(null_cipher)]
    if null::is_on() {
        let clear_len = written.head_len.saturating_add(written.in_place).saturating_add(rest.0.len());
        return Ok(clear_len.saturating_add(tx.profile().rtp_overhead()));
    }
    tx.protect_rtp(index, frame, written.head_len, written.in_place, rest)
}

/// Seals frames whose heads were written, together.
#[inline]
pub(crate) fn seal_all(batch: &mut [Option<Sealing<'_, Shared<'_>>>; BATCH]) {
    #[cfg(null_cipher)]
    if null::is_on() {
        for packet in batch.iter_mut().flatten() {
            let clear_len = packet.head_len.saturating_add(packet.prefix_len).saturating_add(packet.rest.0.len());
            packet.sealed = Ok(clear_len.saturating_add(packet.context.profile().rtp_overhead()));
        }
        return;
    }
    protect_rtp_batch(batch.iter_mut().flatten());
}

/// Leaving the cipher out.
#[cfg(null_cipher)]
pub(crate) mod null {
    use core::sync::atomic::{AtomicBool, Ordering};

    static IS_ON: AtomicBool = AtomicBool::new(false);

    /// From here on frames are committed without their payload and tag, or sealed again.
    pub fn leave_out_cipher(is_on: bool) {
        IS_ON.store(is_on, Ordering::Relaxed);
    }

    pub(super) fn is_on() -> bool {
        IS_ON.load(Ordering::Relaxed)
    }
}

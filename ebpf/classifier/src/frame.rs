// SPDX-License-Identifier: Apache-2.0
//! A frame as an XDP program may touch it: every read behind a comparison with its end, which the verifier checks.
//!
//! Must never keep a pointer over a helper that moves the frame's ends.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_meta};
use aya_ebpf::programs::XdpContext;
use dataplane_abi::xdp::STAMP_BYTES;
use dataplane_wire::Window;

/// The bytes between the context's two pointers.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
    /// The same as `end`, loaded again so that the compiler does not know. It would leave out the comparison in front of a read that
    /// an earlier `reaches` makes unnecessary, and the verifier does not follow such a proof over a sum of lengths.
    limit: usize,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Self {
        // SAFETY: as below; only the place is taken.
        let data_end = unsafe { &raw const (*ctx.ctx).data_end };
        // SAFETY: the kernel gives the program a context that is valid as long as it runs.
        let [end, limit] = unsafe { [data_end.read_volatile(), data_end.read_volatile()] };
        Self { start: ctx.data(), end: end as usize, limit: limit as usize }
    }
}

impl Window for Frame {
    #[inline(always)]
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let start = self.start + at;
        if start + N > self.end {
            return None;
        }
        // SAFETY: the bytes are there because `start + N` does not reach beyond the frame's end.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn reaches(self, end: usize) -> bool {
        self.start + end <= self.limit
    }
}

/// Writes the arrival stamp in front of the frame; says whether the driver has room for it.
#[inline(always)]
pub fn stamp(ctx: &XdpContext) -> bool {
    // SAFETY: the context is the program's own; pointers into the frame that were taken before are not used again.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(STAMP_BYTES as i32)) } != 0 {
        return false;
    }
    let at = ctx.metadata();
    if at + STAMP_BYTES > ctx.data() {
        return false;
    }
    // SAFETY: the helper has no precondition because it only reads the clock.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: eight bytes of metadata lie there because the comparison above holds; the kernel keeps metadata aligned to 4.
    unsafe { (at as *mut u64).write_unaligned(now_ns) };
    true
}

// SPDX-License-Identifier: Apache-2.0
//! The heap is never touched: not per packet, and not by Rust code when a context is made.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    use dataplane_srtp::{Direct, Profile, RxContext, TxContext};

    use crate::packets::{Cells, SSRC, Shape, master};

    thread_local! {
        static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    }

    /// The system allocator with a count per thread.
    struct Counting;

    // SAFETY: each call goes to `System` unchanged, because counting touches a `const`-initialised
    // thread-local cell without a destructor, which itself allocates nothing.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.with(|count| count.set(count.get() + 1));
            // SAFETY: the layout is the caller's, because it is handed on as it came.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: `memory` came from `System` with this layout, because `alloc` gives nothing else.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn allocations_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = ALLOCATIONS.with(Cell::get);
        let result = work();
        (ALLOCATIONS.with(Cell::get) - before, result)
    }

    #[test]
    fn the_count_sees_an_allocation() {
        assert_eq!(allocations_of(|| Box::new(7)).0, 1);
    }

    #[test]
    fn neither_packets_nor_contexts_allocate() {
        for profile in Profile::ALL {
            let key = master(profile, 1);
            let (made, (tx, rx)) = allocations_of(|| (TxContext::new(&key), RxContext::new(&key)));
            assert_eq!(made, 0, "{profile:?} context");

            let cells = Cells::zero();
            let rtcp_cells = Cells::zero();
            let plain = Shape::plain(1200).packet(SSRC, 0);
            let report = [&[0x80u8, 201, 0, 1][..], &SSRC.to_be_bytes()].concat();
            let (mut sealed, mut out) = ([0u8; 1500], [0u8; 1500]);
            let (used, ()) = allocations_of(|| {
                // The step is a prime, so that all words of the window are cleared and wraps happen.
                for round in 0..5000u64 {
                    let index = round * 101;
                    sealed[..12].copy_from_slice(&plain[..12]);
                    sealed[2..4].copy_from_slice(&index.to_be_bytes()[6..]);
                    let len = tx.protect_rtp(index, &mut sealed, 12, 0, &plain[12..]).unwrap();
                    assert!(rx.receive_rtp(&sealed[..len], cells.window(), &Direct, &mut out).is_ok());
                    assert!(rx.receive_rtp(&sealed[..len], cells.window(), &Direct, &mut out).is_err());
                    sealed[len - 1] ^= 1;
                    assert!(rx.unprotect_rtp(&sealed[..len], index, &mut out).is_err());
                    let index = u32::try_from(round).unwrap();
                    let len = tx.protect_rtcp(index, &report, &mut sealed).unwrap();
                    assert!(rx.receive_rtcp(&sealed[..len], rtcp_cells.window(), &Direct, &mut out).is_ok());
                    sealed[len - 1] ^= 1;
                    assert!(rx.unprotect_rtcp(&sealed[..len], &mut out).is_err());
                }
            });
            assert_eq!(used, 0, "{profile:?} packets");
        }
    }
}

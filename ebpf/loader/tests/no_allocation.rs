// SPDX-License-Identifier: Apache-2.0
//! Updates of the maps never touch the heap: a worker makes them between its batches.

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::time::Instant;

    use dataplane_abi::flow::{FlowKey, map_v4};
    use dataplane_abi::xdp::FAILURE_WINDOW_NS;
    use ebpf_loader::{Classifier, MapError, Maps, Object, Sizes};

    thread_local! {
        static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    }

    /// The system allocator with a count per thread.
    struct Counting;

    // SAFETY: each call goes to `System` unchanged, because counting touches a `const`-initialised thread-local cell without
    // a destructor, which itself allocates nothing.
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

    fn flow(port: u16) -> FlowKey {
        let (local, remote) = (map_v4([10, 0, 0, 1]), map_v4([192, 0, 2, 1]));
        FlowKey { local, remote, local_port: 3478, remote_port: port, reserve: 0 }
    }

    const FLOWS: u16 = 1000;

    fn updates(maps: &mut Maps) -> Result<bool, MapError> {
        for port in 0..FLOWS {
            maps.flows.insert(&flow(port), 1)?;
        }
        let full = matches!(maps.flows.insert(&flow(FLOWS), 1), Err(MapError::Full));
        for port in 0..FLOWS {
            maps.flows.remove(&flow(port))?;
        }
        let missing = !maps.flows.remove(&flow(0))?;
        maps.failures.record(map_v4([192, 0, 2, 1]), 1, FAILURE_WINDOW_NS)?;
        maps.strangers.set(0, 1)?;
        Ok(full && missing)
    }

    #[test]
    fn updates_allocate_nothing_whether_they_succeed_or_not() {
        assert_eq!(allocations_of(|| Box::new(7)).0, 1, "the count sees an allocation");
        if !rustix::process::geteuid().is_root() {
            tools_netlab::console::line("skipped: loading the classifier needs root");
            return;
        }
        let classifier = Classifier::load(&Object::embedded(), Sizes { flows: FLOWS.into() }).expect("loaded");
        let mut maps = classifier.maps().expect("maps");
        let start = Instant::now();
        let (allocations, done) = allocations_of(|| updates(&mut maps));
        let per_update_ns = start.elapsed().as_nanos() / u128::from(2 * FLOWS);
        tools_netlab::console::line(&format!("{per_update_ns} ns for an insert or a remove"));
        assert!(done.expect("updated"), "full and missing are told");
        assert_eq!(allocations, 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! No socket port allocates per packet.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "an integration test is a test module")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::net::UdpSocket;

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::open::{Backend, open_socket_port};
use dataplane_io::port::{Ecn, Port};
use dataplane_io::socket::{self, SocketConfig};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: because every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: because the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: because the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_socket_port_allocates_nothing_per_packet() {
    for backend in [Backend::Auto, Backend::Sockets] {
        let socket = socket::bind_group(0, 1).unwrap().remove(0);
        let number = UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
        let (mut port, fallback) = open_socket_port(socket, backend, SocketConfig::default()).unwrap();
        if let Some(fallback) = fallback {
            // Past the capture of the test harness, so that the runner counts it.
            let _ = writeln!(std::io::stdout(), "SKIPPED: no allocation on io_uring: {fallback}");
        }
        let local = map_v4([127, 0, 0, 1]);
        let flow = FlowKey { local, remote: local, local_port: number, remote_port: number, reserve: 0 };
        let before = ALLOCATIONS.get();
        let mut received = 0;
        for _ in 0..200 {
            // Paths too: their table is taken at the beginning.
            let path = port.open_path(&flow, 46, Ecn(1)).unwrap();
            for _ in 0..50 {
                port.reserve(path, 1200).unwrap().fill(1);
                port.commit(1200);
            }
            assert_eq!(port.flush().frames, 50);
            port.close_path(path);
            for _ in 0..4 {
                received += port.receive(64);
                port.release();
            }
            port.reap();
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{backend:?}");
        assert_eq!(received, 10_000, "{backend:?}");
        drop(Box::new(1_u8));
        assert!(ALLOCATIONS.get() > before, "the counter counts");
    }
}

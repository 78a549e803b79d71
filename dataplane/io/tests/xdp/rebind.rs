// SPDX-License-Identifier: Apache-2.0
//! A successor on fresh sockets: after a death in the middle of traffic, and while the predecessor's sockets still live.

use std::time::Duration;

use dataplane_io::port::Port;
use dataplane_io::xdp::{Mode, PortParts, XdpConfig, XdpError, open};

use crate::bed::{FAR_V4, NEAR_V4, PORT, Side, assert_conserved, eventually, flow, on_a_bed, payload, settle};
use crate::packets::open_served;

#[test]
fn a_successor_starts_with_every_frame() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let peer = bed.far_socket("10.9.0.2:0");
        let back = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
        for life in 0..4 {
            let mut opened = side.open();
            let port = &mut opened.ports[0];
            let path = open_served(port, &back, 0, 0);
            for number in 0..100 {
                peer.send_to(&payload(number), ("10.9.0.1", PORT)).unwrap();
                let _ = port.reserve(path, 50).unwrap();
                port.commit(50);
            }
            eventually("something is received", || port.receive(32) != 0);
            if life % 2 == 0 {
                port.flush();
            }
            // Dies with a batch in its hands, frames committed and frames on their way.
        }
        let mut opened = side.open();
        settle(&mut opened);
        assert_conserved(&opened);
        let port = &mut opened.ports[0];
        let path = open_served(port, &back, 0, 0);
        port.reserve(path, 5).unwrap().copy_from_slice(b"alive");
        port.commit(5);
        port.flush();
        let mut bytes = [0; 64];
        eventually("it arrives", || peer.recv(&mut bytes).unwrap() == 5);
        assert_eq!(&bytes[..5], b"alive");
    });
}

#[test]
fn a_busy_queue_is_waited_for_and_not_for_ever() {
    on_a_bed(1, |_| {
        let side = Side::raise(Mode::Native, 1, 1);
        let first = side.open();
        let Err(XdpError::System { source, .. }) = side.try_open() else { panic!("two ports on one queue") };
        assert_eq!(source.raw_os_error(), Some(libc::EBUSY));
        let leaver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        let second = side.open();
        assert!(second.status.waited >= Duration::from_millis(50), "{:?}", second.status.waited);
        leaver.join().unwrap();
    });
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    on_a_bed(1, |_| {
        let side = Side::raise(Mode::Native, 1, 1);
        let parts = |umem: &dataplane_io::xdp::PortMemory, frames: &dataplane_io::xdp::PortMemory, sockets| PortParts {
            umem: umem.umem.try_clone().unwrap(),
            frames: frames.frames.try_clone().unwrap(),
            sockets,
        };
        let (memory, config) = (&side.memory, XdpConfig::default());
        let found = open(parts(memory, memory, Vec::new()), &side.next_hops, config);
        assert!(matches!(found, Err(XdpError::Sockets { found: 0, expected: 1 })), "{found:?}");
        let larger = dataplane_io::xdp::Geometry::new(memory.geometry.interface, Mode::Native, 1, 2).unwrap();
        let larger = dataplane_io::xdp::PortMemory::create(larger).unwrap();
        let found = open(parts(memory, &larger, larger.sockets().unwrap()), &side.next_hops, config);
        assert!(matches!(found, Err(XdpError::NoGeometry)), "{found:?}");
        let mut swapped = parts(memory, memory, memory.sockets().unwrap());
        std::mem::swap(&mut swapped.umem, &mut swapped.frames);
        assert!(open(swapped, &side.next_hops, config).is_err());
    });
}

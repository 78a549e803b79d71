// SPDX-License-Identifier: Apache-2.0
//! One worker: what comes in, what goes out, and what becomes of the frames.

use std::time::{Duration, Instant};

use dataplane_abi::flow::FlowKey;
use dataplane_io::port::{Ecn, PathSlot, Port};
use dataplane_io::wait::Wait;
use dataplane_io::xdp::{CopyMode, Mode, Opened, XdpPort};
use std::os::fd::AsFd;

use crate::bed::{
    Bed, FAR_V4, FAR_V6, NEAR_V4, NEAR_V6, PORT, Side, assert_conserved, eventually, flow, on_a_bed, payload, send,
    send_raw, settle,
};

const PACKETS: u32 = 300;

/// Opens a path and waits until its next hop is known.
pub(crate) fn open_served(port: &mut XdpPort, flow: &FlowKey, dscp: u8, ecn: u8) -> PathSlot {
    let path = port.open_path(flow, dscp, Ecn(ecn)).unwrap();
    eventually("the next hop is resolved", || port.reserve(path, 1).is_some());
    path
}

/// Receives `count` payloads in their order, checking flow, ECN and arrival.
fn expect(port: &mut XdpPort, count: u32, from: &FlowKey, ecn: u8) {
    let mut next = 0;
    eventually("everything is received", || {
        let received = port.receive(64);
        for index in 0..received {
            let (bytes, meta) = port.packet(index).unwrap();
            assert_eq!(bytes, payload(next), "packet {next}");
            assert_eq!((meta.flow, meta.ecn), (*from, Ecn(ecn)));
            let now_ns = now_ns();
            assert!(meta.arrival_ns <= now_ns && now_ns - meta.arrival_ns < 20_000_000_000, "{meta:?} {now_ns}");
            next += 1;
        }
        assert!(port.packet(received).is_none());
        if received != 0 {
            port.release();
        }
        next == count
    });
}

fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// Both ways between the port and a peer of one family.
fn both_ways(bed: &Bed, port: &mut XdpPort, (near, far): ([u8; 16], [u8; 16])) {
    let (mut peer, peer_port) = bed.peer();
    let (towards, back) = (flow(far, near, peer_port, PORT), flow(near, far, PORT, peer_port));
    for number in 0..PACKETS {
        send(&mut peer, &towards, 10, 2, &payload(number));
    }
    expect(port, PACKETS, &back, 2);
    let path = open_served(port, &back, 46, 1);
    let mut next = 0;
    for number in 0..PACKETS {
        let bytes = payload(number);
        port.reserve(path, bytes.len()).unwrap().copy_from_slice(&bytes);
        port.commit(bytes.len());
        if number % 7 == 0 || number + 1 == PACKETS {
            assert_ne!(port.flush().frames, 0);
            port.reap();
        }
    }
    // The peer is the kernel: it has checked the checksums of both headers.
    eventually("everything arrives", || {
        for index in 0..peer.receive(64) {
            let (bytes, meta) = peer.packet(index).unwrap();
            assert_eq!(bytes, payload(next), "packet {next}");
            assert_eq!((meta.flow, meta.ecn), (towards, Ecn(1)));
            next += 1;
        }
        peer.release();
        next == PACKETS
    });
    port.close_path(path);
}

fn one_worker(mode: Mode) {
    on_a_bed(1, move |bed| {
        let side = Side::raise(mode, 1, 1);
        let mut opened = side.open();
        assert_eq!(opened.status.copy_mode, CopyMode::Copy, "veth has no zero-copy");
        assert!(opened.status.why_copy.is_some());
        for ends in [(NEAR_V4, FAR_V4), (NEAR_V6, FAR_V6)] {
            both_ways(bed, &mut opened.ports[0], ends);
        }
        settle(&mut opened);
        assert_conserved(&opened);
        for counted in opened.statistics.read() {
            assert_eq!(
                (counted.rx_dropped, counted.rx_ring_full, counted.tx_invalid, counted.rx_invalid),
                (0, 0, 0, 0)
            );
        }
    });
}

#[test]
fn both_families_go_both_ways_in_native_mode() {
    one_worker(Mode::Native);
}

#[test]
fn both_families_go_both_ways_in_generic_mode() {
    one_worker(Mode::Generic);
}

#[test]
fn a_worker_of_two_queues_receives_from_both() {
    on_a_bed(2, |bed| {
        let side = Side::raise(Mode::Native, 2, 1);
        let mut opened = side.open();
        let peers: Vec<_> = (0..32).map(|_| bed.far_socket("10.9.0.2:0")).collect();
        for peer in &peers {
            peer.send_to(&payload(1), ("10.9.0.1", PORT)).unwrap();
        }
        let mut received = 0;
        eventually("every peer's packet is received", || {
            received += opened.ports[0].receive(64);
            opened.ports[0].release();
            received == peers.len()
        });
        let path = open_served(
            &mut opened.ports[0],
            &flow(NEAR_V4, FAR_V4, PORT, peers[0].local_addr().unwrap().port()),
            0,
            0,
        );
        opened.ports[0].reserve(path, 4).unwrap().copy_from_slice(b"back");
        opened.ports[0].commit(4);
        opened.ports[0].flush();
        let mut bytes = [0; 8];
        assert_eq!(peers[0].recv(&mut bytes).unwrap(), 4);
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

#[test]
fn an_arrival_stamp_is_the_programs_and_not_the_readers() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let peer = bed.far_socket("10.9.0.2:0");
        peer.send_to(&payload(1), ("10.9.0.1", PORT)).unwrap();
        let sent_ns = now_ns();
        std::thread::sleep(Duration::from_millis(50));
        eventually("it is received", || port.receive(1) == 1);
        let (_, meta) = port.packet(0).unwrap();
        let late = now_ns() - sent_ns;
        assert!(
            late >= 50_000_000 && meta.arrival_ns < sent_ns + late - 25_000_000,
            "{late} {sent_ns} {}",
            meta.arrival_ns
        );
        port.release();
    });
}

#[test]
fn a_full_port_lends_nothing_and_comes_back() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let peer = bed.far_socket("10.9.0.2:0");
        let back = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
        let entries = opened.status.geometry.tx_ring as usize;
        let path = open_served(&mut opened.ports[0], &back, 0, 0);
        let port = &mut opened.ports[0];
        for number in 0..entries {
            assert_eq!(port.tx_room(), entries - number);
            assert!(port.reserve(path, 100).is_some(), "{number}");
            port.commit(100);
        }
        assert_eq!(port.tx_room(), 0);
        assert!(port.reserve(path, 100).is_none());
        assert_eq!(port.flush().frames as usize, entries);
        eventually("there is room", || {
            port.reap();
            port.tx_room() == entries
        });
        assert!(port.reserve(path, 100).is_some());
        port.commit(100);
        assert_eq!(port.flush().frames, 1);
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

#[test]
fn a_worker_that_stands_still_loses_packets_and_no_frame() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let peer = bed.far_socket("10.9.0.2:0");
        let full = |opened: &Opened| opened.statistics.read().map(|found| found.rx_ring_full).sum::<u64>();
        eventually("the rx ring is full", || {
            for _ in 0..500 {
                peer.send_to(&payload(1), ("10.9.0.1", PORT)).unwrap();
            }
            full(&opened) != 0
        });
        let port = &mut opened.ports[0];
        eventually("what comes later is received", || {
            peer.send_to(&payload(7), ("10.9.0.1", PORT)).unwrap();
            let received = port.receive(64);
            let is_here = (0..received).any(|index| port.packet(index).unwrap().0 == payload(7));
            port.release();
            is_here
        });
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

#[test]
fn nothing_is_allocated_per_packet() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let peer = bed.far_socket("10.9.0.2:0");
        let back = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
        let path = open_served(port, &back, 0, 0);
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let (bytes, here) = (payload(1), std::net::SocketAddr::from(([10, 9, 0, 1], PORT)));
        let before = crate::allocations();
        let mut received = 0;
        for _ in 0..200 {
            peer.send_to(&bytes, here).unwrap();
            let another = port.open_path(&back, 0, Ecn(0)).unwrap();
            for _ in 0..20 {
                assert!(port.reserve(path, 1000).is_some());
                port.commit(1000);
            }
            assert_eq!(port.flush().frames, 20);
            port.close_path(another);
            port.reap();
            received += port.receive(64);
            port.release();
            port.wait(Duration::from_millis(1), wake.as_fd());
        }
        assert_eq!(crate::allocations(), before);
        assert!(received > 0);
    });
}

#[test]
fn what_is_no_datagram_is_discarded_and_its_frame_kept() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        // A UDP length beyond the packet: the program redirects it, the parser does not believe it.
        let mut frame = vec![0_u8; 80];
        frame[..6].copy_from_slice(&opened.status.geometry.interface.mac);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..34].copy_from_slice(&[0x45, 0, 0, 66, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
        frame[34..42].copy_from_slice(&[0x12, 0x34, 0x1b, 0x58, 0xff, 0xff, 0, 0]);
        bed.in_far(|| send_raw("far", &frame));
        let port = &mut opened.ports[0];
        eventually("it is discarded", || {
            assert_eq!(port.receive(64), 0);
            port.rx_discarded() == 1
        });
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

#[test]
fn a_sleeping_worker_is_woken_by_a_packet_and_by_the_eventfd() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let long = Duration::from_secs(60);
        let started = Instant::now();
        rustix::io::write(&wake, &1_u64.to_ne_bytes()).unwrap();
        port.wait(long, wake.as_fd());
        assert!(rustix::io::read(&wake, &mut [0; 8]).is_err(), "the eventfd is drained");
        let peer = bed.far_socket("10.9.0.2:0");
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            peer.send_to(&payload(1), ("10.9.0.1", PORT)).unwrap();
            peer
        });
        while port.receive(1) == 0 {
            port.wait(long, wake.as_fd());
        }
        port.wait(long, wake.as_fd());
        assert!(started.elapsed() < long);
        port.release();
        let _peer = sender.join().unwrap();
    });
}

// SPDX-License-Identifier: Apache-2.0
//! Several workers: on one queue, whose rings one of them keeps, and on a queue each.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dataplane_io::port::Port;
use dataplane_io::wait::Wait;
use dataplane_io::xdp::{Mode, XdpPort};

use crate::bed::{
    Bed, FAR_V4, NEAR_V4, PORT, Side, assert_conserved, eventually, flow, on_a_bed, payload, run, settle,
};
use crate::packets::open_served;

const PACKETS: u32 = 20_000;

/// A far socket whose number is even or odd: the program chooses the worker by it.
fn peer_of(bed: &Bed, worker: u16) -> UdpSocket {
    loop {
        let socket = bed.far_socket("10.9.0.2:0");
        if socket.local_addr().unwrap().port() % 2 == worker {
            return socket;
        }
    }
}

/// A worker's life: sends all it gets back, until as many packets as there are have been seen.
fn echo(port: &mut XdpPort, peer_port: u16, seen: &AtomicU32, all: u32) {
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let path = open_served(port, &flow(NEAR_V4, FAR_V4, PORT, peer_port), 0, 0);
    // A first one, so that the peer knows that everybody is ready.
    port.commit(1);
    port.flush();
    while seen.load(Ordering::Relaxed) < all {
        port.reap();
        let received = port.receive(64);
        let mut held = Vec::new();
        for index in 0..received {
            let (bytes, meta) = port.packet(index).unwrap();
            assert_eq!(meta.flow.remote_port, peer_port, "the program chooses the worker");
            held.push(bytes.to_vec());
        }
        if received != 0 {
            port.release();
        }
        for bytes in held {
            eventually("there is room", || {
                let room = port.reserve(path, bytes.len()).map(|frame| frame.copy_from_slice(&bytes)).is_some();
                if !room {
                    port.flush();
                    port.reap();
                }
                room
            });
            port.commit(bytes.len());
        }
        port.flush();
        if received == 0 {
            port.wait(Duration::from_millis(1), wake.as_fd());
        }
    }
}

/// Sends packets one window at a time and counts what comes back.
fn converse(peer: &UdpSocket, seen: &AtomicU32) {
    let mut bytes = [0; 2048];
    assert_eq!(peer.recv(&mut bytes).unwrap(), 1);
    for first in (0..PACKETS).step_by(32) {
        for number in first..first + 32 {
            peer.send_to(&payload(number), ("10.9.0.1", PORT)).unwrap();
        }
        for number in first..first + 32 {
            let len = peer.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..len], payload(number), "{number}");
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn two_workers(queues: u16) {
    on_a_bed(queues, move |bed| {
        if queues > 1 {
            // The program cannot choose the queue: the peer's queue decides, so only the count of packets is checked there.
            return two_queues(bed);
        }
        let side = Side::raise(Mode::Native, queues, 2);
        let mut opened = side.open();
        let seen = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for (worker, port) in (0..).zip(&mut opened.ports) {
                let peer = peer_of(bed, worker);
                let (peer_port, seen) = (peer.local_addr().unwrap().port(), &seen);
                scope.spawn(move || converse(&peer, seen));
                scope.spawn(move || echo(port, peer_port, seen, 2 * PACKETS));
            }
        });
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

fn two_queues(bed: &Bed) {
    let side = Side::raise(Mode::Native, 2, 2);
    let mut opened = side.open();
    let peers: Vec<UdpSocket> = (0..64).map(|_| bed.far_socket("10.9.0.2:0")).collect();
    for peer in &peers {
        peer.send_to(&payload(3), ("10.9.0.1", PORT)).unwrap();
    }
    let mut by_worker = [0; 2];
    eventually("every peer's packet is received", || {
        for (count, port) in by_worker.iter_mut().zip(&mut opened.ports) {
            *count += port.receive(64);
            port.release();
        }
        by_worker.iter().sum::<usize>() == peers.len()
    });
    assert!(by_worker.iter().all(|count| *count > 0), "{by_worker:?}: a flow's queue follows from its ports");
    for port in &mut opened.ports {
        let path = open_served(port, &flow(NEAR_V4, FAR_V4, PORT, peers[0].local_addr().unwrap().port()), 0, 0);
        port.reserve(path, 4).unwrap().copy_from_slice(b"back");
        port.commit(4);
        port.flush();
        assert_eq!(peers[0].recv(&mut [0; 8]).unwrap(), 4);
    }
    settle(&mut opened);
    assert_conserved(&opened);
}

#[test]
fn two_workers_share_a_queue_and_its_frames() {
    two_workers(1);
}

#[test]
fn two_workers_have_a_queue_each() {
    two_workers(2);
}

struct Over<'o>(&'o std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_sharer_goes_on_while_the_keeper_of_its_queue_sleeps() {
    on_a_bed(1, |bed| {
        assert!(run("true"));
        let side = Side::raise(Mode::Native, 1, 2);
        let mut opened = side.open();
        let peer = peer_of(bed, 1);
        let back = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
        let frames = opened.status.geometry.tx_frames;
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let [keeper, sharer] = &mut opened.ports[..] else { unreachable!() };
        std::thread::scope(|scope| {
            // However this ends, the keeper's thread ends too.
            let _over = Over(&is_over);
            scope.spawn(|| {
                let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // Nothing but the sharer's need wakes it in time.
                    keeper.wait(Duration::from_secs(10), wake.as_fd());
                    keeper.reap();
                }
            });
            let path = open_served(sharer, &back, 0, 0);
            let started = std::time::Instant::now();
            for number in 0..3 * frames {
                eventually("there is room", || {
                    sharer.reap();
                    sharer.reserve(path, 10).is_some()
                });
                sharer.commit(10);
                if number % 32 == 31 {
                    sharer.flush();
                }
            }
            sharer.flush();
            assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
            is_over.store(true, Ordering::Relaxed);
            // The keeper's last sleep ends with a packet of its own.
            let own = peer_of(bed, 0);
            own.send_to(b"an end to it, and long enough", ("10.9.0.1", PORT)).unwrap();
        });
        settle(&mut opened);
        assert_conserved(&opened);
    });
}

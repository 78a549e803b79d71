// SPDX-License-Identifier: Apache-2.0
//! What loopback does not show, in network namespaces of the test's own threads; they vanish with the threads.
//!
//! ```text
//!  namespace of the port   10.9.0.1 ── veth ── 10.9.0.2   namespace of the peer
//! ```
//!
//! Over loopback a send buffer is never full. Between the two namespaces the peer's address is missing at first: what is
//! sent waits in the kernel for the neighbour and fills the buffer. And a loopback interface has one IPv6 address only.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "an integration test is a test module")]

use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::open::{Backend, open_socket_port};
use dataplane_io::port::{Ecn, Port};
use dataplane_io::socket::SocketConfig;
use dataplane_io::wait::Wait;

const FRAMES: u32 = 40;

fn skipped(reason: &str) {
    // Straight to the file descriptor: the test harness swallows what `println!` writes.
    let _ = writeln!(std::fs::OpenOptions::new().append(true).open("/proc/self/fd/1").unwrap(), "SKIPPED: {reason}");
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// Moves the calling thread into a network namespace of its own; says where it lies.
fn isolate() -> Option<String> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
    Some(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid()))
}

/// The port's side; `resolve` gives the peer its address.
fn send(backend: Backend, resolve: &mpsc::Sender<()>) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let number = socket.local_addr().unwrap().port();
    let bytes = 8192_i32;
    // SAFETY: because `bytes` outlives the call and its length is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const bytes).cast(), 4)
    };
    assert_eq!(result, 0);
    let (mut port, _) = open_socket_port(socket.into(), backend, SocketConfig::default()).unwrap();
    let all = port.tx_room();
    let flow = FlowKey {
        local: map_v4([10, 9, 0, 1]),
        remote: map_v4([10, 9, 0, 2]),
        local_port: number,
        remote_port: 7777,
        reserve: 0,
    };
    let path = port.open_path(&flow, 0, Ecn(0)).unwrap();
    let mut frames = 0;
    for number in 0..FRAMES {
        let payload = port.reserve(path, 1200).unwrap();
        payload[..4].copy_from_slice(&number.to_be_bytes());
        port.commit(1200);
        if number % 10 == 9 {
            let flushed = port.flush();
            assert_eq!(flushed.errors, 0, "a full buffer is no error");
            frames += flushed.frames;
        }
    }
    assert!(frames > 0 && frames < FRAMES, "{backend:?}: {frames} of {FRAMES} were taken");
    assert_eq!(port.tx_room(), all - usize::try_from(FRAMES - frames).unwrap());
    // One more that is not flushed: trying the others again must not send it.
    port.reserve(path, 1200).unwrap()[..4].copy_from_slice(&FRAMES.to_be_bytes());
    port.commit(1200);
    resolve.send(()).unwrap();
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while port.tx_room() != all - 1 {
        assert!(Instant::now() < deadline, "{backend:?}: {} frames stay", all - port.tx_room());
        port.wait(Duration::from_millis(50), wake.as_fd());
        port.reap();
    }
    port.reap();
    assert_eq!(port.tx_room(), all - 1);
    let flushed = port.flush();
    assert_eq!((frames + flushed.frames, flushed.errors), (FRAMES + 1, 0));
}

/// The peer's side: takes its address when it is told to, then expects every frame in order.
fn receive(resolve: &mpsc::Receiver<()>) {
    resolve.recv().unwrap();
    assert!(ip("addr add 10.9.0.2/24 dev far"));
    let socket = UdpSocket::bind("10.9.0.2:7777").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for number in 0..=FRAMES {
        let mut payload = [0; 2048];
        assert_eq!(socket.recv(&mut payload).unwrap(), 1200);
        assert_eq!(payload[..4], number.to_be_bytes());
    }
}

fn fill_and_resolve(backend: Backend) {
    let (place, placed) = mpsc::channel();
    let (link, linked) = mpsc::channel::<()>();
    let (resolve, resolved) = mpsc::channel();
    let peer = std::thread::spawn(move || {
        place.send(isolate()).unwrap();
        if linked.recv().is_ok() {
            assert!(ip("link set far up"));
            receive(&resolved);
        }
    });
    let port = std::thread::spawn(move || {
        let (own, peer) = (isolate(), placed.recv().unwrap());
        let (Some(_), Some(peer)) = (own, peer) else { return skipped("a network namespace needs root") };
        if !ip("link add near type veth peer name far") || !ip(&format!("link set far netns {peer}")) {
            return skipped("no veth device, or no `ip` program");
        }
        assert!(ip("link set near up") && ip("addr add 10.9.0.1/24 dev near"));
        link.send(()).unwrap();
        send(backend, &resolve);
    });
    assert!(port.join().is_ok());
    assert!(peer.join().is_ok());
}

fn each(test: impl Fn(Backend)) {
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    match open_socket_port(probe.into(), Backend::Uring, SocketConfig::default()) {
        Ok(_) => test(Backend::Uring),
        Err(error) => skipped(&format!("the io_uring half of this test: {error}")),
    }
    test(Backend::Sockets);
}

#[test]
fn a_full_send_buffer_loses_and_reorders_nothing() {
    each(fill_and_resolve);
}

#[test]
fn an_answer_comes_from_the_ipv6_address_that_was_addressed() {
    let test = || {
        if isolate().is_none() {
            return skipped("a network namespace needs root");
        }
        if !ip("link set lo up") || !ip("addr add fd00::1/128 dev lo") || !ip("addr add fd00::2/128 dev lo") {
            return skipped("no IPv6, or no `ip` program");
        }
        each(|backend| {
            let socket = dataplane_io::socket::bind_group(0, 1).unwrap().remove(0);
            let number = UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
            let (mut port, _) = open_socket_port(socket, backend, SocketConfig::default()).unwrap();
            for address in ["fd00::1", "fd00::2"] {
                let peer = UdpSocket::bind("[::1]:0").unwrap();
                peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                peer.send_to(b"to", (address, number)).unwrap();
                while port.receive(64) == 0 {}
                let (_, meta) = port.packet(0).unwrap();
                port.release();
                let path = port.open_path(&meta.flow, 0, Ecn(0)).unwrap();
                port.reserve(path, 4).unwrap().copy_from_slice(b"from");
                port.commit(4);
                assert_eq!(port.flush().frames, 1);
                let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
                assert_eq!(from.to_string(), format!("[{address}]:{number}"), "{backend:?}");
            }
        });
    };
    assert!(std::thread::spawn(test).join().is_ok());
}

// CONTRACTS 8: where a segment is longer than the way's MTU, the kernel refuses the train, and takes its datagrams
#[test]
fn a_train_that_the_way_does_not_take_goes_datagram_by_datagram() {
    let test = || {
        if isolate().is_none() {
            return skipped("a network namespace needs root");
        }
        if !ip("link set lo up") || !ip("link set lo mtu 1000") {
            return skipped("no `ip` program");
        }
        each(|backend| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let number = socket.local_addr().unwrap().port();
            let (mut port, _) = open_socket_port(socket.into(), backend, SocketConfig::default()).unwrap();
            let all = port.tx_room();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let local = map_v4([127, 0, 0, 1]);
            let remote_port = peer.local_addr().unwrap().port();
            let flow = FlowKey { local, remote: local, local_port: number, remote_port, reserve: 0 };
            let path = port.open_path(&flow, 0, Ecn(0)).unwrap();
            for (len, segmented) in [(1200, 0), (200, 3), (1200, 3)] {
                for nth in 0..4_u8 {
                    port.reserve(path, len).unwrap().fill(nth);
                    port.commit(len);
                }
                let mut flushed = port.flush();
                let deadline = Instant::now() + Duration::from_secs(5);
                while port.tx_room() != all && Instant::now() < deadline {
                    port.reap();
                }
                let late = port.flush();
                (flushed.frames, flushed.errors) = (flushed.frames + late.frames, flushed.errors + late.errors);
                assert_eq!((flushed.frames, flushed.errors), (4, 0), "{backend:?} {len}");
                for nth in 0..4_u8 {
                    let mut bytes = [9; 2048];
                    assert_eq!(peer.recv(&mut bytes).unwrap(), len);
                    assert!(bytes[..len].iter().all(|byte| *byte == nth), "{backend:?} {len}");
                }
                assert_eq!((port.tx_room(), port.segmented()), (all, segmented), "{backend:?} {len}");
            }
        });
    };
    assert!(std::thread::spawn(test).join().is_ok());
}

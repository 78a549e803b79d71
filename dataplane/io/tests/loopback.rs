// SPDX-License-Identifier: Apache-2.0
//! Both socket ports on the loopback interface, through the same tests.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "an integration test is a test module")]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use dataplane_abi::flow::{FlowKey, as_v4, map_v4};
use dataplane_io::open::{Backend, SocketPort, open_socket_port};
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_io::socket::{self, SocketConfig};
use dataplane_io::wait::Wait;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SIX: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

const SMALL: SocketConfig = SocketConfig { rx_frames: 256, tx_frames: 256, paths: 64 };

fn skipped(reason: &str) {
    // Straight to the file descriptor: the test harness swallows what `println!` writes.
    let _ = writeln!(std::fs::OpenOptions::new().append(true).open("/proc/self/fd/1").unwrap(), "SKIPPED: {reason}");
}

fn backends() -> Vec<Backend> {
    let probe = UdpSocket::bind((ONE, 0)).unwrap();
    match open_socket_port(probe.into(), Backend::Uring, SMALL) {
        Ok(_) => vec![Backend::Uring, Backend::Sockets],
        Err(error) => {
            skipped(&format!("the io_uring half of this test: {error}"));
            vec![Backend::Sockets]
        }
    }
}

struct Machine {
    port: SocketPort,
    number: u16,
}

impl Machine {
    /// A port on all addresses, IPv4 only or dual stack.
    fn new(backend: Backend, is_v6: bool, config: SocketConfig) -> Self {
        let socket: OwnedFd = if is_v6 {
            socket::bind_group(0, 1).unwrap().remove(0)
        } else {
            UdpSocket::bind("0.0.0.0:0").unwrap().into()
        };
        let number = UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
        let (port, fallback) = open_socket_port(socket, backend, config).unwrap();
        assert!(fallback.is_none(), "{fallback:?}");
        Self { port, number }
    }

    /// Receives until `count` packets are there.
    fn receive(&mut self, count: usize) -> Vec<(Vec<u8>, RxMeta)> {
        let mut all = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while all.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} packets", all.len());
            for index in 0..self.port.receive(64) {
                let (payload, meta) = self.port.packet(index).unwrap();
                all.push((payload.to_vec(), meta));
            }
            self.port.release();
        }
        all
    }

    fn path(&mut self, local: IpAddr, remote: SocketAddr) -> PathSlot {
        self.port.open_path(&key(local, self.number, remote), 0, Ecn(0)).unwrap()
    }

    fn put(&mut self, path: PathSlot, payload: &[u8]) -> bool {
        let Some(frame) = self.port.reserve(path, payload.len()) else { return false };
        frame.copy_from_slice(payload);
        self.port.commit(payload.len());
        true
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => map_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn key(local: IpAddr, local_port: u16, remote: SocketAddr) -> FlowKey {
    FlowKey { local: mapped(local), remote: mapped(remote.ip()), local_port, remote_port: remote.port(), reserve: 0 }
}

fn peer(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn set(socket: impl AsFd, level: i32, name: i32, value: i32) {
    // SAFETY: because `value` outlives the call and its length is given.
    let result = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(result, 0);
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn each(mut test: impl FnMut(Backend, bool)) {
    for backend in backends() {
        for is_v6 in [false, true] {
            test(backend, is_v6);
        }
    }
}

/// The addresses that a machine of this family answers on.
fn addresses(is_v6: bool) -> &'static [IpAddr] {
    if is_v6 { &[ONE, TWO, SIX] } else { &[ONE, TWO] }
}

#[test]
fn a_received_packet_tells_addresses_ecn_and_arrival() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let mut last_ns = now_ns();
        for (address, ecn) in addresses(is_v6).iter().zip([1, 2, 3]) {
            let peer = peer(if address.is_ipv4() { ONE } else { SIX });
            if address.is_ipv4() {
                set(&peer, libc::IPPROTO_IP, libc::IP_TOS, 0xb8 | ecn);
            } else {
                set(&peer, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0xb8 | ecn);
            }
            let sent_ns = now_ns();
            for byte in 0..5 {
                peer.send_to(&[byte; 700], (*address, machine.number)).unwrap();
            }
            let packets = machine.receive(5);
            for (byte, (payload, meta)) in (0..).zip(packets) {
                assert_eq!(payload, [byte; 700]);
                assert_eq!(meta.flow, key(*address, machine.number, peer.local_addr().unwrap()), "{backend:?} {is_v6}");
                assert_eq!(i32::from(meta.ecn.0), ecn, "{backend:?} {address}");
                assert!(meta.arrival_ns >= last_ns && meta.arrival_ns <= now_ns(), "ordered, not in the future");
                assert!(meta.arrival_ns + 50_000_000 > sent_ns && meta.arrival_ns < sent_ns + 5_000_000_000);
                last_ns = meta.arrival_ns;
            }
        }
        assert_eq!(machine.port.rx_overflow(), 0);
    });
}

#[test]
fn arrival_is_when_the_packet_came_not_when_it_was_read() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peer = peer(ONE);
        // The first packets after the switch of the stamps may be stamped late (they are enabled by deferred kernel work).
        peer.send_to(b"first", (ONE, machine.number)).unwrap();
        machine.receive(1);
        std::thread::sleep(Duration::from_millis(20));
        peer.send_to(b"early", (ONE, machine.number)).unwrap();
        let sent_ns = now_ns();
        std::thread::sleep(Duration::from_millis(200));
        let (_, meta) = machine.receive(1).remove(0);
        assert!(meta.arrival_ns < sent_ns + 100_000_000, "stamped {} ns late", meta.arrival_ns - sent_ns);
    });
}

#[test]
fn packets_leave_in_the_order_of_their_commits() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peer = peer(ONE);
        let path = machine.path(ONE, peer.local_addr().unwrap());
        let mut next = 0_u32;
        for burst in [1, 64, 3, 200, 100] {
            for number in next..next + burst {
                assert!(machine.put(path, &number.to_be_bytes()));
            }
            assert_eq!(machine.port.flush(), Flushed { frames: burst, errors: 0 });
            machine.port.reap();
            for number in next..next + burst {
                let mut buffer = [0; 16];
                assert_eq!(peer.recv(&mut buffer).unwrap(), 4);
                assert_eq!(buffer[..4], number.to_be_bytes());
            }
            next += burst;
        }
    });
}

#[test]
fn nothing_leaves_before_the_flush() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peer = peer(ONE);
        let path = machine.path(ONE, peer.local_addr().unwrap());
        assert!(machine.put(path, b"held"));
        peer.send_to(b"in", (ONE, machine.number)).unwrap();
        machine.receive(1);
        machine.port.reap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        machine.port.wait(Duration::from_millis(1), wake.as_fd());
        peer.set_nonblocking(true).unwrap();
        assert!(peer.recv(&mut [0; 8]).is_err(), "{backend:?}");
        drop(machine);
        assert!(peer.recv(&mut [0; 8]).is_err(), "{backend:?}");
    });
}

#[test]
fn an_answer_comes_from_the_address_that_was_addressed() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        for address in addresses(is_v6) {
            let peer = peer(if address.is_ipv4() { ONE } else { SIX });
            peer.send_to(b"to", (*address, machine.number)).unwrap();
            let (_, meta) = machine.receive(1).remove(0);
            let path = machine.port.open_path(&meta.flow, 46, Ecn(1)).unwrap();
            assert!(machine.put(path, b"from"));
            assert_eq!(machine.port.flush(), Flushed { frames: 1, errors: 0 });
            let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from, SocketAddr::new(*address, machine.number), "{backend:?} {is_v6}");
        }
    });
}

/// The TOS or traffic class byte of the next datagram.
fn receive_tos(socket: &UdpSocket) -> i32 {
    let (mut payload, mut control) = ([0_u8; 64], [0_u64; 16]);
    let mut vector = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: because all fields are integers and raw pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: because the message points to the three locals above, which outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    assert!(len > 0 && message.msg_controllen >= 17, "{len} {}", message.msg_controllen);
    i32::from(control[2].to_ne_bytes()[0])
}

#[test]
fn a_path_marks_its_packets_with_dscp_and_ecn() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        for address in addresses(is_v6) {
            let peer = peer(if address.is_ipv4() { ONE } else { SIX });
            if address.is_ipv4() {
                set(&peer, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
            } else {
                set(&peer, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
            }
            for (dscp, ecn) in [(46, 1), (34, 0), (0, 0), (0, 2)] {
                let flow = key(*address, machine.number, peer.local_addr().unwrap());
                let path = machine.port.open_path(&flow, dscp, Ecn(ecn)).unwrap();
                assert!(machine.put(path, b"marked"));
                machine.port.flush();
                assert_eq!(receive_tos(&peer), i32::from(dscp << 2 | ecn), "{backend:?} {address}");
            }
        }
    });
}

#[test]
fn ten_thousand_paced_packets_make_the_round_trip_without_loss() {
    for backend in backends() {
        for address in [ONE, SIX] {
            let mut near = Machine::new(backend, true, SMALL);
            let mut far = Machine::new(backend, true, SMALL);
            let path = near.path(address, SocketAddr::new(address, far.number));
            let mut back = None;
            for tile in 0..10_000_u32 / 50 {
                for number in tile * 50..(tile + 1) * 50 {
                    let mut payload = [0_u8; 1200];
                    payload[..4].copy_from_slice(&number.to_be_bytes());
                    assert!(near.put(path, &payload));
                }
                assert_eq!(near.port.flush(), Flushed { frames: 50, errors: 0 });
                for (payload, meta) in far.receive(50) {
                    let back = *back.get_or_insert_with(|| far.port.open_path(&meta.flow, 0, Ecn(0)).unwrap());
                    assert!(far.put(back, &payload));
                }
                assert_eq!(far.port.flush(), Flushed { frames: 50, errors: 0 });
                for (number, (payload, _)) in (tile * 50..).zip(near.receive(50)) {
                    assert_eq!(payload[..4], number.to_be_bytes());
                    assert_eq!(payload.len(), 1200);
                }
            }
        }
    }
}

#[test]
fn receiving_goes_on_after_all_buffers_were_in_use() {
    each(|backend, is_v6| {
        let config = SocketConfig { rx_frames: 8, ..SMALL };
        let mut machine = Machine::new(backend, is_v6, config);
        let peer = peer(ONE);
        for round in 0..5 {
            for byte in 0..100 {
                peer.send_to(&[byte], (ONE, machine.number)).unwrap();
            }
            // The batch holds buffers while more packets come.
            let mut first = machine.port.receive(8);
            while first == 0 {
                first = machine.port.receive(8);
            }
            assert_eq!(machine.port.receive(8), 0, "the batch before has not been released");
            assert_eq!(machine.port.packet(0).unwrap().0, [0], "{backend:?} {round}");
            machine.port.release();
            let rest: Vec<u8> = machine.receive(100 - first).iter().map(|(payload, _)| payload[0]).collect();
            assert_eq!(rest, (u8::try_from(first).unwrap()..100).collect::<Vec<_>>());
        }
        assert_eq!(machine.port.rx_overflow(), 0);
    });
}

#[test]
fn an_exhausted_pool_lends_nothing_and_recovers() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SocketConfig { tx_frames: 4, ..SMALL });
        let peer = peer(ONE);
        let path = machine.path(ONE, peer.local_addr().unwrap());
        for _ in 0..100 {
            assert_eq!(machine.port.tx_room(), 4);
            assert!((0..4).all(|byte| machine.put(path, &[byte])));
            assert!(!machine.put(path, &[9]) && machine.port.tx_room() == 0);
            machine.port.flush();
            machine.port.reap();
            assert!((0..4).all(|_| peer.recv(&mut [0; 4]).is_ok()));
        }
        assert!(machine.port.reserve(path, 2049).is_none(), "longer than a frame");
        assert_eq!(machine.port.reserve(path, 2048).map(|frame| frame.len()), Some(2048));
    });
}

#[test]
fn a_refused_send_is_counted_and_harms_no_other() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peer = peer(ONE);
        let good = machine.path(ONE, peer.local_addr().unwrap());
        // EACCES: a broadcast without SO_BROADCAST.
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let bad = machine.path(unspecified, SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), 9));
        for path in [bad, good, bad, good, bad] {
            assert!(machine.put(path, b"x"));
        }
        assert_eq!(machine.port.flush(), Flushed { frames: 2, errors: 3 }, "{backend:?} {is_v6}");
        assert_eq!(machine.port.tx_room(), 256);
        assert!(peer.recv(&mut [0; 4]).is_ok() && peer.recv(&mut [0; 4]).is_ok());
    });
}

#[test]
fn a_closed_port_at_the_peer_does_not_stop_receiving() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let closed = peer(ONE).local_addr().unwrap();
        let peer = peer(ONE);
        let (dead, alive) = (machine.path(ONE, closed), machine.path(ONE, peer.local_addr().unwrap()));
        for _ in 0..20 {
            assert!(machine.put(dead, b"icmp port unreachable") && machine.put(alive, b"out"));
            machine.port.flush();
            peer.send_to(b"in", (ONE, machine.number)).unwrap();
            assert_eq!(machine.receive(1)[0].0, b"in");
            assert!(peer.recv(&mut [0; 8]).is_ok());
        }
        assert_eq!(machine.port.tx_room(), 256);
    });
}

#[test]
fn a_datagram_longer_than_a_frame_is_discarded_alone() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peer = peer(ONE);
        for len in [2048, 2049, 0, 60_000, 5] {
            peer.send_to(&vec![1; len], (ONE, machine.number)).unwrap();
        }
        let lengths: Vec<usize> = machine.receive(3).iter().map(|(payload, _)| payload.len()).collect();
        assert_eq!(lengths, [2048, 0, 5], "{backend:?}");
        assert_eq!(machine.port.rx_discarded(), 2);
    });
}

#[test]
fn a_path_of_another_port_is_unreachable_and_a_table_ends() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SocketConfig { paths: 2, ..SMALL });
        let remote = SocketAddr::new(ONE, 9);
        let other = key(ONE, machine.number ^ 1, remote);
        assert_eq!(machine.port.open_path(&other, 0, Ecn(0)), Err(PathError::Unreachable));
        let flow = key(ONE, machine.number, remote);
        let first = machine.port.open_path(&flow, 0, Ecn(0)).unwrap();
        let second = machine.port.open_path(&flow, 0, Ecn(0)).unwrap();
        assert_ne!(first, second);
        assert_eq!(machine.port.open_path(&flow, 0, Ecn(0)), Err(PathError::Full));
        machine.port.close_path(first);
        assert!(machine.port.reserve(first, 1).is_none());
        assert!(machine.port.reserve(second, 1).is_some());
        assert!(machine.port.open_path(&flow, 0, Ecn(0)).is_ok());
    });
}

#[test]
fn lost_datagrams_are_counted_as_overflow() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SocketConfig { rx_frames: 8, ..SMALL });
        let peer = peer(ONE);
        // At 768 B of kernel memory each more than any receive buffer here (16 MiB).
        let sent = 60_000;
        for _ in 0..sent {
            let _ = peer.send_to(&[1; 100], (ONE, machine.number));
        }
        let mut received = 0;
        let mut idle = 0;
        while idle < 1000 {
            let count = machine.port.receive(64);
            idle = if count == 0 { idle + 1 } else { 0 };
            received += count;
            machine.port.release();
        }
        peer.send_to(&[2], (ONE, machine.number)).unwrap();
        machine.receive(1);
        assert!(received < sent);
        assert_eq!(received as u64 + machine.port.rx_overflow(), sent as u64, "{backend:?}");
    });
}

#[test]
fn waiting_ends_by_a_packet_an_eventfd_or_the_time() {
    const LONG: Duration = Duration::from_secs(5);
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        let peer = peer(ONE);
        let start = Instant::now();
        for round in 0..3 {
            machine.port.wait(Duration::from_millis(1), wake.as_fd());
            // Written before and during the sleep.
            rustix::io::write(&wake, &1_u64.to_ne_bytes()).unwrap();
            machine.port.wait(LONG, wake.as_fd());
            let writer = wake.try_clone().unwrap();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                rustix::io::write(&writer, &1_u64.to_ne_bytes()).unwrap();
            });
            machine.port.wait(LONG, wake.as_fd());
            thread.join().unwrap();
            let mut state = [rustix::event::PollFd::new(&wake, rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            // A wait that ended early for another reason leaves the eventfd to the next one.
            while rustix::event::poll(&mut state, Some(&now)).unwrap() != 0 {
                assert!(start.elapsed() < LONG, "{backend:?} {round}: the eventfd is not drained");
                machine.port.wait(LONG, wake.as_fd());
            }
            let (number, sender) = (machine.number, peer.try_clone().unwrap());
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                sender.send_to(b"wake", (ONE, number)).unwrap();
            });
            while machine.port.receive(64) == 0 {
                assert!(start.elapsed() < LONG, "{backend:?} {round}: slept over it");
                machine.port.wait(LONG, wake.as_fd());
            }
            machine.port.release();
            thread.join().unwrap();
            assert!(start.elapsed() < LONG, "{backend:?} {round}");
        }
    });
}

#[test]
fn a_group_of_two_receives_everything_and_shares_it() {
    for backend in backends() {
        let sockets = socket::bind_group(0, 2).unwrap();
        let buffers = socket::buffers(&sockets[0]).unwrap();
        assert!(buffers.receive_bytes > 0 && buffers.send_bytes > 0, "{buffers:?}");
        if rustix::process::geteuid().is_root() {
            assert_eq!(buffers.receive_bytes, 2 * socket::BUFFER_BYTES);
        }
        let number = UdpSocket::from(sockets[0].try_clone().unwrap()).local_addr().unwrap().port();
        let mut ports: Vec<SocketPort> =
            sockets.into_iter().map(|socket| open_socket_port(socket, backend, SMALL).unwrap().0).collect();
        let peers: Vec<UdpSocket> = (0..100).map(|_| peer(ONE)).collect();
        let mut counts = [0; 2];
        for _ in 0..10 {
            peers.iter().for_each(|peer| assert!(peer.send_to(b"any", (ONE, number)).is_ok()));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while counts.iter().sum::<usize>() < 1000 {
            assert!(Instant::now() < deadline, "{counts:?}");
            for (port, count) in ports.iter_mut().zip(&mut counts) {
                *count += port.receive(64);
                port.release();
            }
        }
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
        let error = socket::bind_group(number, 1).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::EADDRINUSE), "a second group must not share the port");
    }
}

#[test]
fn ports_come_and_go_while_packets_come() {
    each(|backend, is_v6| {
        let socket: OwnedFd = if is_v6 {
            socket::bind_group(0, 1).unwrap().remove(0)
        } else {
            UdpSocket::bind("0.0.0.0:0").unwrap().into()
        };
        let number = UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
        let peer = peer(ONE);
        for round in 0..30_u8 {
            peer.send_to(&[round], (ONE, number)).unwrap();
            let mut port = open_socket_port(socket.try_clone().unwrap(), backend, SMALL).unwrap().0;
            let deadline = Instant::now() + Duration::from_secs(5);
            while port.receive(64) == 0 {
                assert!(Instant::now() < deadline, "{backend:?} {round}");
            }
            assert_eq!(port.packet(0).unwrap().0, [round]);
            assert_eq!(as_v4(port.packet(0).unwrap().1.flow.local), Some([127, 0, 0, 1]));
        }
    });
}

#[test]
fn the_kind_says_which_port_it_is() {
    for backend in backends() {
        let machine = Machine::new(backend, true, SMALL);
        let expected = if backend == Backend::Uring { PortKind::Uring } else { PortKind::Sockets };
        assert_eq!(machine.port.kind(), expected);
    }
}

// CONTRACTS 8: runs of one length leave as one message, and end where a packet is longer
#[test]
fn runs_of_one_length_leave_together_and_arrive_as_they_were() {
    each(|backend, is_v6| {
        let mut machine = Machine::new(backend, is_v6, SMALL);
        let peers = [peer(ONE), peer(if is_v6 { SIX } else { TWO })];
        let paths = [ONE, if is_v6 { SIX } else { TWO }]
            .into_iter()
            .zip(&peers)
            .map(|(local, peer)| machine.path(local, peer.local_addr().unwrap()))
            .collect::<Vec<_>>();
        let lens = [1200, 1200, 1200, 1200, 1201, 1201, 700, 1200, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 5];
        let mut expected = [Vec::new(), Vec::new()];
        for round in 0..40_u8 {
            for (to, at) in [(0, 0_u8), (1, 1), (0, 2)] {
                for (nth, len) in (0_u8..).zip(lens) {
                    let payload = vec![round ^ (at << 6) ^ nth; len];
                    assert!(machine.put(paths[to], &payload));
                    expected[to].push(payload);
                }
            }
            let flushed = machine.port.flush();
            assert_eq!((flushed.frames as usize, flushed.errors), (3 * lens.len(), 0), "{backend:?} {is_v6}");
            machine.port.reap();
            assert_eq!(machine.port.tx_room(), 256);
            for (peer, expected) in peers.iter().zip(&mut expected) {
                for payload in expected.drain(..) {
                    let mut bytes = [0; 2048];
                    let len = peer.recv(&mut bytes).unwrap();
                    assert_eq!(bytes[..len], payload, "{backend:?} {is_v6}");
                }
            }
        }
        // Behind the first of a train in each run: 3, 2 behind the longer one, 1, and 7 of the shortest.
        assert_eq!(machine.port.segmented(), 40 * 3 * (3 + 2 + 1 + 7), "{backend:?} {is_v6}");
    });
}

// SPDX-License-Identifier: Apache-2.0
//! The set of ports: which of them serves a path, packet by packet, and that neither starves.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::open::{Backend, open_socket_port};
use dataplane_io::port::{Ecn, PathSlot, Port, PortKind};
use dataplane_io::set::PortSet;
use dataplane_io::socket::{self, SocketConfig};
use dataplane_io::wait::Wait;
use dataplane_io::xdp::{Mode, XdpPort};

use crate::bed::{FAR_V4, NEAR_V4, PATHS, PORT, Side, eventually, flow, on_a_bed, payload, run};

fn set_of(xdp: Option<XdpPort>, backend: Backend) -> PortSet {
    let socket = socket::bind_group(PORT, 1).unwrap().remove(0);
    let config = SocketConfig { paths: PATHS, ..SocketConfig::default() };
    let (socket, _) = open_socket_port(socket, backend, config).unwrap();
    PortSet::new(socket, xdp, PATHS)
}

fn send(set: &mut PortSet, path: PathSlot, bytes: &[u8]) {
    set.reap();
    set.reserve(path, bytes.len()).unwrap().copy_from_slice(bytes);
    set.commit(bytes.len());
    assert_eq!(set.flush().frames, 1);
}

/// Sends until a packet leaves by the port that is wanted.
fn send_until(what: &str, set: &mut PortSet, path: PathSlot, is_xdp: bool) {
    eventually(what, || {
        let before = set.counts();
        send(set, path, &payload(1));
        let after = set.counts();
        assert_eq!(after.tx_xdp + after.tx_socket, before.tx_xdp + before.tx_socket + 1);
        (after.tx_xdp != before.tx_xdp) == is_xdp
    });
}

fn path_to(set: &mut PortSet, peer: &UdpSocket) -> PathSlot {
    let flow: FlowKey = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
    set.open_path(&flow, 0, Ecn(0)).unwrap()
}

fn falls_back_and_comes_back(backend: Backend) {
    on_a_bed(1, move |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let mut set = set_of(opened.ports.pop(), backend);
        assert_eq!(set.kind(), PortKind::Xdp);
        let peer = bed.far_socket("10.9.0.2:0");
        peer.set_nonblocking(true).unwrap();
        let path = path_to(&mut set, &peer);
        // The neighbour is not known yet: the socket port sends, whatever the resolver does meanwhile.
        send(&mut set, path, &payload(1));
        send_until("the xdp port takes over", &mut set, path, true);
        let mut bytes = [0; 8192];
        let mut arrived = 0;
        let mut all_arrive = |set: &PortSet, peer: &UdpSocket| {
            let sent = set.counts().tx_xdp + set.counts().tx_socket;
            eventually("everything arrives", || {
                while peer.recv(&mut bytes).is_ok() {
                    arrived += 1;
                }
                arrived == sent
            });
        };
        all_arrive(&set, &peer);
        // Longer than the way's MTU: the kernel makes fragments of it, this port does not.
        let before = set.counts();
        send(&mut set, path, &vec![7; 1473]);
        send(&mut set, path, &vec![7; 1472]);
        let after = set.counts();
        assert_eq!((after.tx_socket - before.tx_socket, after.tx_xdp - before.tx_xdp), (1, 1));
        all_arrive(&set, &peer);
        bed.far("ip link set far arp off");
        assert!(run("ip neigh del 10.9.0.2 dev near"));
        send_until("the socket port serves a neighbour that is gone", &mut set, path, false);
        bed.far("ip link set far arp on");
        send_until("the xdp port serves it again", &mut set, path, true);
        set.close_path(path);
        assert!(set.reserve(path, 10).is_none());
        let again = path_to(&mut set, &peer);
        assert!(set.reserve(path, 10).is_none());
        send_until("another path in the same place", &mut set, again, true);
    });
}

#[test]
fn a_path_falls_back_to_plain_sockets_and_comes_back() {
    falls_back_and_comes_back(Backend::Sockets);
}

#[test]
fn a_path_falls_back_to_io_uring_and_comes_back() {
    falls_back_and_comes_back(Backend::Auto);
}

/// Packets that the program redirects come by the xdp port; those of this host itself by the socket port.
fn receives_from_both(backend: Backend) {
    on_a_bed(1, move |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let mut set = set_of(opened.ports.pop(), backend);
        let far = bed.far_socket("10.9.0.2:0");
        let here = UdpSocket::bind("10.9.0.1:0").unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        // More than a batch waits at the xdp port, and more comes all the time.
        for number in 0..500 {
            far.send_to(&payload(number), ("10.9.0.1", PORT)).unwrap();
        }
        for number in 0..20 {
            here.send_to(&payload(number), ("10.9.0.1", PORT)).unwrap();
        }
        let (mut by_far, mut by_here, mut batches) = (0, 0, 0);
        while by_here < 20 {
            assert!(batches < 100, "{by_far} {by_here}");
            set.wait(Duration::from_secs(5), wake.as_fd());
            let received = set.receive(16);
            for index in 0..received {
                let (bytes, meta) = set.packet(index).unwrap();
                let next = if meta.flow.remote == FAR_V4 { &mut by_far } else { &mut by_here };
                assert_eq!(bytes, payload(*next));
                assert_eq!((meta.flow.local, meta.flow.local_port), (NEAR_V4, PORT));
                *next += 1;
            }
            set.release();
            batches += 1;
            for number in 500 + batches * 16..500 + batches * 16 + 16 {
                far.send_to(&payload(number - 16), ("10.9.0.1", PORT)).unwrap();
            }
        }
        assert!(by_far > 0);
        let counts = set.counts();
        assert_eq!((counts.rx_xdp, counts.rx_socket), (u64::from(by_far), u64::from(by_here)));
        // A local peer is answered by the socket port.
        let back = flow(NEAR_V4, NEAR_V4, PORT, here.local_addr().unwrap().port());
        let path = set.open_path(&back, 0, Ecn(0)).unwrap();
        for _ in 0..3 {
            send(&mut set, path, b"back");
            assert_eq!(here.recv(&mut [0; 8]).unwrap(), 4);
        }
        assert_eq!(set.counts().tx_xdp, 0);
    });
}

#[test]
fn neither_port_starves_beside_plain_sockets() {
    receives_from_both(Backend::Sockets);
}

#[test]
fn neither_port_starves_beside_io_uring() {
    receives_from_both(Backend::Auto);
}

#[test]
fn a_set_of_one_is_its_socket_port() {
    on_a_bed(1, |bed| {
        let mut set = set_of(None, Backend::Sockets);
        assert_eq!(set.kind(), PortKind::Sockets);
        let far = bed.far_socket("10.9.0.2:0");
        far.send_to(&payload(1), ("10.9.0.1", PORT)).unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        eventually("it is received", || {
            set.wait(Duration::from_secs(1), wake.as_fd());
            set.receive(16) == 1
        });
        set.release();
        let path = path_to(&mut set, &far);
        send(&mut set, path, b"back");
        assert_eq!(far.recv(&mut [0; 8]).unwrap(), 4);
        assert_eq!((set.counts().rx_socket, set.counts().tx_socket), (1, 1));
    });
}

// CONTRACTS 8: a socket port that is full is no matter of those whom the xdp port serves
#[test]
fn a_full_socket_port_takes_no_room_from_the_xdp_port() {
    on_a_bed(1, move |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let socket = socket::bind_group(PORT, 1).unwrap().remove(0);
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 8192).unwrap();
        let config = SocketConfig { paths: PATHS, tx_frames: 16, ..SocketConfig::default() };
        let (socket, _) = open_socket_port(socket, Backend::Sockets, config).unwrap();
        let mut set = PortSet::new(socket, opened.ports.pop(), PATHS);
        let peer = bed.far_socket("10.9.0.2:0");
        peer.set_nonblocking(true).unwrap();
        let path = path_to(&mut set, &peer);
        send_until("the xdp port serves the peer", &mut set, path, true);
        // Nobody has this address: what is sent to it waits in the kernel for an answer to ARP.
        let nowhere = set.open_path(&flow(NEAR_V4, map_v4([10, 9, 0, 77]), PORT, 9), 0, Ecn(0)).unwrap();
        let mut committed = 0;
        while set.room_for(nowhere, 1200) > 0 {
            set.reserve(nowhere, 1200).unwrap();
            set.commit(1200);
            set.flush();
            committed += 1;
            assert!(committed < 1000, "the socket port takes everything");
        }
        assert!(set.reserve(nowhere, 1200).is_none());
        assert!(set.room_for(path, 1200) > 0 && set.tx_room() > 0);
        let before = set.counts().tx_xdp;
        for number in 0..100 {
            set.reap();
            set.reserve(path, 8).unwrap().copy_from_slice(b"by-xdp.\n");
            set.commit(8);
            assert_eq!(set.flush().frames, 1, "{number}");
        }
        assert_eq!(set.counts().tx_xdp, before + 100);
    });
}

// SPDX-License-Identifier: Apache-2.0
//! Next hops: who is reached, who is not and why, and what a change of neighbours, routes and addresses does.

use dataplane_abi::flow::map_v4;
use dataplane_io::nexthop::{NextHops, Unserved};
use dataplane_io::port::{Ecn, PathSlot, Port};
use dataplane_io::xdp::{Mode, XdpPort, setup};

use crate::bed::{FAR_V4, NEAR_V4, NEAR_V6, PORT, Side, eventually, flow, on_a_bed, output, run};
use crate::packets::open_served;

/// Where frames of a path go: what a raw look at the far end would say, told by the far end's socket.
fn unserved(hops: &NextHops, reason: Unserved) -> u64 {
    let at = Unserved::ALL.iter().position(|other| *other == reason).unwrap();
    hops.census().unserved[at]
}

fn serves(port: &mut XdpPort, path: PathSlot) -> bool {
    port.reserve(path, 100).is_some()
}

#[test]
fn a_peer_that_is_not_behind_the_interface_is_not_served() {
    on_a_bed(1, |_| {
        assert!(run("ip link add other type veth peer name other2") && run("ip link set other2 up"));
        assert!(run("ip addr add 10.10.0.1/24 dev other") && run("ip link set other up"));
        assert!(run("ip route add blackhole 10.11.0.0/24"));
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let cases = [
            (NEAR_V4, NEAR_V4, Unserved::Local),
            (NEAR_V4, map_v4([127, 0, 0, 1]), Unserved::Local),
            (NEAR_V6, NEAR_V6, Unserved::Local),
            (NEAR_V4, map_v4([10, 10, 0, 9]), Unserved::OtherInterface),
            (NEAR_V4, map_v4([10, 11, 0, 9]), Unserved::Unreachable),
            (NEAR_V4, map_v4([192, 0, 2, 9]), Unserved::Unreachable),
            (NEAR_V4, map_v4([10, 9, 0, 99]), Unserved::NoNeighbour),
        ];
        let mut expected = [0; 6];
        for (number, (local, remote, reason)) in (1..).zip(cases) {
            let path = port.open_path(&flow(local, remote, PORT, number), 0, Ecn(0)).unwrap();
            let at = Unserved::ALL.iter().position(|other| *other == reason).unwrap();
            expected[at] += 1;
            eventually(reason.name(), || side.next_hops.census().unserved == expected);
            assert!(!serves(port, path), "{reason:?}");
        }
        // An address that we do not have is nothing that a packet may come from.
        let path = port.open_path(&flow(map_v4([10, 9, 0, 77]), FAR_V4, PORT, 9), 0, Ecn(0)).unwrap();
        eventually("refused", || unserved(&side.next_hops, Unserved::Unreachable) == 3);
        assert!(!serves(port, path));
        assert_eq!(side.next_hops.census().served, 0);
    });
}

#[test]
fn a_neighbour_that_changes_or_goes_is_followed() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let peer = bed.far_socket("10.9.0.2:0");
        let back = flow(NEAR_V4, FAR_V4, PORT, peer.local_addr().unwrap().port());
        let path = open_served(port, &back, 0, 0);
        assert_eq!(side.next_hops.census().served, 1);
        // The far end gets another address and does not say so: the kernel here is told, we hear it from the kernel.
        bed.far("ip link set far address 02:00:00:00:00:77");
        assert!(run("ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:77 dev near nud permanent"));
        let mut bytes = [0; 64];
        peer.set_nonblocking(true).unwrap();
        eventually("frames go to the new address", || {
            port.reserve(path, 4).unwrap().copy_from_slice(b"here");
            port.commit(4);
            port.flush();
            port.reap();
            peer.recv(&mut bytes).is_ok()
        });
        assert!(run("ip neigh del 10.9.0.2 dev near"));
        // The kernel forgets it, and is asked for it again: both are seen, in their order or as one.
        eventually("the neighbour is back", || side.next_hops.census().served == 1 && serves(port, path));
        bed.far("ip link set far arp off");
        assert!(run("ip neigh flush dev near") || run("ip neigh del 10.9.0.2 dev near"));
        eventually("a neighbour that does not answer is not served", || !serves(port, path));
        bed.far("ip link set far arp on");
        eventually("it answers again", || serves(port, path));
    });
}

#[test]
fn a_permanent_neighbour_stays_permanent() {
    on_a_bed(1, |bed| {
        bed.far("ip link set far address 02:00:00:00:00:78");
        // The far end would not answer if it were asked.
        bed.far("ip link set far arp off");
        assert!(run("ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:78 dev near nud permanent"));
        let is_permanent = || output("ip neigh show 10.9.0.2 dev near").contains("PERMANENT");
        {
            let side = Side::raise(Mode::Native, 1, 1);
            let mut opened = side.open();
            open_served(&mut opened.ports[0], &flow(NEAR_V4, FAR_V4, PORT, 9), 0, 0);
            assert!(is_permanent(), "while it is used");
        }
        assert!(is_permanent(), "when it is let go");
    });
}

#[test]
fn a_gateway_stands_for_all_behind_it_and_may_change() {
    on_a_bed(1, |bed| {
        assert!(run("ip route add 192.0.2.0/24 via 10.9.0.2 mtu 1400"));
        bed.far("ip addr add 192.0.2.9/32 dev lo");
        bed.far("ip addr add 10.9.0.3/24 dev far");
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let remote = map_v4([192, 0, 2, 9]);
        let peer = bed.far_socket("192.0.2.9:0");
        let back = flow(NEAR_V4, remote, PORT, peer.local_addr().unwrap().port());
        let path = open_served(port, &back, 0, 0);
        assert_eq!(side.next_hops.census().hops, 1);
        assert!(port.reserve(path, 1372).is_some() && port.reserve(path, 1373).is_none(), "the way's MTU");
        assert!(run("ip route replace 192.0.2.0/24 via 10.9.0.3"));
        eventually("the new way", || side.next_hops.census().hops == 2 && port.reserve(path, 1373).is_some());
        port.commit(10);
        port.flush();
        assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 10);
        assert!(run("ip route replace blackhole 192.0.2.0/24"));
        eventually("no way", || !serves(port, path));
        assert_eq!(unserved(&side.next_hops, Unserved::Unreachable), 1);
        assert!(run("ip route replace 192.0.2.0/24 via 10.9.0.2"));
        eventually("a way again", || serves(port, path));
    });
}

#[test]
fn a_path_that_is_closed_leaves_nothing() {
    on_a_bed(1, |bed| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        bed.far("ip addr add 10.9.0.3/24 dev far");
        let first = open_served(port, &flow(NEAR_V4, FAR_V4, PORT, 9), 0, 0);
        port.close_path(first);
        assert!(!serves(port, first));
        let second = open_served(port, &flow(NEAR_V4, map_v4([10, 9, 0, 3]), PORT, 9), 0, 0);
        assert!(!serves(port, first) && serves(port, second));
        eventually("its next hop is forgotten", || side.next_hops.census().hops == 1);
        assert!(serves(port, second));
    });
}

#[test]
fn addresses_and_a_lost_interface_are_told() {
    on_a_bed(1, |_| {
        let side = Side::raise(Mode::Native, 1, 1);
        let mut opened = side.open();
        let port = &mut opened.ports[0];
        let path = open_served(port, &flow(NEAR_V4, FAR_V4, PORT, 9), 0, 0);
        let before = side.next_hops.address_epoch();
        assert!(run("ip addr add 10.9.0.50/24 dev near"));
        eventually("the address is seen", || side.next_hops.address_epoch() != before);
        assert!(!port.is_lost());
        assert!(setup::interface("near").is_ok());
        assert!(run("ip link set near down"));
        eventually("a link that is down is not served", || !serves(port, path));
        assert!(run("ip link set near up"));
        eventually("it comes back", || serves(port, path));
        assert!(run("ip link del near"));
        eventually("the port is lost", || port.is_lost());
        assert!(setup::interface("near").is_err());
    });
}

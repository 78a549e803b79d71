// SPDX-License-Identifier: Apache-2.0
//! What the resolver asks the kernel and what the kernel tells it, by route netlink.
//!
//! Two sockets: one for questions, answered one by one, and one that listens. It must never wait longer than a second,
//! nor believe a message that the kernel did not send.
#![expect(clippy::wildcard_enum_match_arm, reason = "the kernel's messages and attributes, open lists by nature")]

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with, sockopt};

use crate::socket::SetupError;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one read: the kernel's netlink datagrams are at most this long (NLMSG_GOODSIZE, and 32 KiB of a dump).
const BUFFER_BYTES: usize = 64 * 1024;
/// Receive buffer of the listening socket.
const WATCH_BYTES: usize = 1024 * 1024;
/// `RTMGRP_*` (Linux include/uapi/linux/rtnetlink.h): links, neighbours, addresses and routes of both families.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;

/// Where a packet to an address goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// To this host.
    Local,
    /// Nowhere.
    Unreachable,
    /// To a neighbour.
    Via {
        /// By this interface.
        interface: u32,
        /// The neighbour's address, v4-mapped.
        neighbour: [u8; 16],
        /// The path's MTU, where it is known to be smaller than the interface's.
        mtu: Option<u32>,
    },
}

/// What is known of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Link {
    /// The interface that this one is a VLAN of, and its id there.
    pub(super) vlan: Option<(u32, u16)>,
    pub(super) mtu: u32,
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A neighbour has (or has no longer) this address.
    Neighbour { interface: u32, neighbour: [u8; 16], mac: Option<[u8; 6]> },
    /// A route, or something that routes depend on.
    Routes,
    /// One of this host's addresses; routes with it.
    Addresses,
    /// An interface is gone.
    LinkGone(u32),
}

/// The two sockets.
#[derive(Debug)]
pub(super) struct Netlink {
    ask: OwnedFd,
    watch: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

impl Netlink {
    /// Opens both in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, SetupError> {
        let open = |groups| {
            let (family, flags) = (rustix::net::AddressFamily::NETLINK, SocketFlags::CLOEXEC);
            // No protocol is protocol 0, NETLINK_ROUTE.
            let socket = socket_with(family, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok(socket)
        };
        let refused = |error: Errno| SetupError { what: "socket(NETLINK_ROUTE)", source: error.into() };
        let (ask, watch) = (open(0).map_err(refused)?, open(GROUPS).map_err(refused)?);
        sockopt::set_socket_timeout(&ask, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(SetupError::errno("setsockopt(SO_RCVTIMEO)"))?;
        // A wish: with a small one we ask for everything anew more often.
        let forced = sockopt::set_socket_recv_buffer_size_force(&watch, WATCH_BYTES);
        let _ = forced.or_else(|_| sockopt::set_socket_recv_buffer_size(&watch, WATCH_BYTES));
        Ok(Self { ask, watch, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Readable when something has changed.
    pub(super) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Takes what has changed; false where the kernel could not tell us everything.
    pub(super) fn events(&mut self, mut each: impl FnMut(Event)) -> bool {
        loop {
            let (length, from) = match recvfrom(&self.watch, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => (length, from),
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => return false,
                Err(_) => return true,
            };
            let of_kernel = from.and_then(|from| SocketAddrNetlink::try_from(from).ok()).is_some_and(|a| a.pid() == 0);
            if of_kernel {
                messages(self.buffer.get(..length).unwrap_or_default()).filter_map(event).for_each(&mut each);
            }
        }
    }

    /// Asks one question; none for a bare acknowledgement.
    fn request(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.ask, &bytes, SendFlags::empty())?;
        // An answer to an earlier question, which came too late, is passed over.
        for _ in 0..16 {
            let (length, _, _) = recvfrom(&self.ask, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let (header, payload) = message.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(answer) => return Ok(Some(answer)),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => return Ok(None),
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Where a packet from `local` (all zero: from anywhere) to `remote` goes.
    pub(super) fn route(&mut self, local: [u8; 16], remote: [u8; 16]) -> Route {
        let mut question = RouteMessage::default();
        let (family, destination) = route_address(remote);
        let bits = if family == AddressFamily::Inet { 32 } else { 128 };
        question.header.address_family = family;
        question.header.destination_prefix_length = bits;
        question.attributes.push(RouteAttribute::Destination(destination));
        if local != [0; 16] {
            question.header.source_prefix_length = bits;
            question.attributes.push(RouteAttribute::Source(route_address(local).1));
        }
        match self.request(RouteNetlinkMessage::GetRoute(question), 0) {
            Ok(Some(RouteNetlinkMessage::NewRoute(answer))) => read_route(&answer, remote),
            _ => Route::Unreachable,
        }
    }

    /// What the kernel knows of a neighbour now.
    pub(super) fn neighbour(&mut self, interface: u32, neighbour: [u8; 16]) -> Option<[u8; 6]> {
        self.neighbour_entry(interface, neighbour).as_ref().and_then(link_address)
    }

    fn neighbour_entry(&mut self, interface: u32, neighbour: [u8; 16]) -> Option<NeighbourMessage> {
        let mut question = neighbour_message(interface, neighbour);
        question.header.state = NeighbourState::None;
        match self.request(RouteNetlinkMessage::GetNeighbour(question), 0) {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(answer))) => Some(answer),
            _ => None,
        }
    }

    /// Asks the kernel to find the neighbour and to go on asking for it (NTF_EXT_MANAGED, Linux ≥ 5.16), or no longer to. A
    /// kernel that cannot is asked once (NTF_USE): the caller asks again from time to time.
    ///
    /// An operator's permanent entry stays as it is. Both requests would take its permanence, and its address is then no longer
    /// believed (Linux net/core/neighbour.c `__neigh_update`: `new = old & ~NUD_PERMANENT`): until an answer to ARP, sockets lose
    /// what the neighbour's queue does not hold.
    pub(super) fn manage(&mut self, interface: u32, neighbour: [u8; 16], is_managed: bool) -> io::Result<()> {
        let entry = self.neighbour_entry(interface, neighbour);
        if entry.is_some_and(|entry| entry.header.state == NeighbourState::Permanent) {
            return Ok(());
        }
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut wish = neighbour_message(interface, neighbour);
        if is_managed {
            wish.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
            if self.request(RouteNetlinkMessage::NewNeighbour(wish), flags).is_ok() {
                return Ok(());
            }
            wish = neighbour_message(interface, neighbour);
        }
        wish.header.flags = NeighbourFlags::Use;
        self.request(RouteNetlinkMessage::NewNeighbour(wish), flags).map(drop)
    }

    /// What an interface is.
    pub(super) fn link(&mut self, interface: u32) -> Option<Link> {
        let mut question = LinkMessage::default();
        question.header.index = interface;
        match self.request(RouteNetlinkMessage::GetLink(question), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(answer))) => Some(read_link(&answer)),
            _ => None,
        }
    }
}

/// The messages of a datagram; one that cannot be read is passed over.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message> + '_ {
    core::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?);
            let length = usize::try_from(length).ok().filter(|length| *length >= 16)?;
            let message = bytes.get(..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = Message::deserialize(message) {
                return Some(message);
            }
        }
    })
}

fn event(message: Message) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        RouteNetlinkMessage::NewNeighbour(message) => Some(Event::Neighbour {
            interface: message.header.ifindex,
            neighbour: neighbour_address(&message)?,
            mac: link_address(&message),
        }),
        RouteNetlinkMessage::DelNeighbour(message) => Some(Event::Neighbour {
            interface: message.header.ifindex,
            neighbour: neighbour_address(&message)?,
            mac: None,
        }),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) | RouteNetlinkMessage::NewLink(_) => {
            Some(Event::Routes)
        }
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(Event::Addresses),
        RouteNetlinkMessage::DelLink(message) => Some(Event::LinkGone(message.header.index)),
        _ => None,
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn unmapped(address: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

fn route_address(address: [u8; 16]) -> (AddressFamily, RouteAddress) {
    match unmapped(address) {
        IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6)),
    }
}

fn read_route(answer: &RouteMessage, remote: [u8; 16]) -> Route {
    match answer.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Route::Local,
        _ => return Route::Unreachable,
    }
    let (mut interface, mut neighbour, mut mtu) = (0, remote, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                neighbour = mapped(IpAddr::V4(*v4));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                neighbour = mapped(IpAddr::V6(*v6));
            }
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) if *bytes != 0 => Some(*bytes),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if interface == 0 { Route::Unreachable } else { Route::Via { interface, neighbour, mtu } }
}

fn neighbour_message(interface: u32, neighbour: [u8; 16]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match unmapped(neighbour) {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

fn neighbour_address(message: &NeighbourMessage) -> Option<[u8; 16]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(mapped(IpAddr::V4(*v4))),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(mapped(IpAddr::V6(*v6))),
        _ => None,
    })
}

/// The MAC address of a neighbour that may be sent to (NUD_VALID in Linux include/net/neighbour.h).
fn link_address(message: &NeighbourMessage) -> Option<[u8; 6]> {
    let is_valid = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    // No unicast address: NOARP entries of interfaces without addresses are all zero.
    address.filter(|mac| is_valid && mac.first().is_some_and(|first| first & 1 == 0) && *mac != [0; 6])
}

fn read_link(answer: &LinkMessage) -> Link {
    let (mut parent, mut id, mut mtu) = (None, None, 0);
    for attribute in &answer.attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::LinkInfo(infos) => {
                id = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Vlan(vlan)) => vlan.iter().find_map(|field| match field {
                        InfoVlan::Id(id) => Some(*id),
                        _ => None,
                    }),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Link { vlan: parent.zip(id), mtu }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn answer(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_route_names_the_neighbour_that_stands_for_the_peer() {
        let peer = mapped(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let direct = answer(vec![RouteAttribute::Oif(3)]);
        assert_eq!(read_route(&direct, peer), Route::Via { interface: 3, neighbour: peer, mtu: None });
        let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]);
        let behind =
            answer(vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(3), metrics]);
        let neighbour = mapped(IpAddr::V4(gateway));
        assert_eq!(read_route(&behind, peer), Route::Via { interface: 3, neighbour, mtu: Some(1400) });
        let v6 = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let via = answer(vec![RouteAttribute::Via(RouteVia::Inet6(v6)), RouteAttribute::Oif(3)]);
        assert_eq!(read_route(&via, peer), Route::Via { interface: 3, neighbour: v6.octets(), mtu: None });
        for (kind, expected) in [(RouteType::Local, Route::Local), (RouteType::Multicast, Route::Unreachable)] {
            let mut message = answer(vec![RouteAttribute::Oif(3)]);
            message.header.kind = kind;
            assert_eq!(read_route(&message, peer), expected);
        }
        assert_eq!(read_route(&answer(Vec::new()), peer), Route::Unreachable, "no interface");
    }

    #[test]
    fn a_neighbour_without_a_usable_address_has_none() {
        let with = |state, bytes: &[u8]| {
            let mut message = neighbour_message(3, [1; 16]);
            message.header.state = state;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(bytes.to_vec()));
            link_address(&message)
        };
        let mac = [2, 0, 0, 0, 0, 1];
        assert_eq!(with(NeighbourState::Reachable, &mac), Some(mac));
        assert_eq!(with(NeighbourState::Stale, &mac), Some(mac));
        assert_eq!(with(NeighbourState::Failed, &mac), None);
        assert_eq!(with(NeighbourState::Incomplete, &mac), None);
        assert_eq!(with(NeighbourState::Noarp, &[0; 6]), None);
        assert_eq!(with(NeighbourState::Permanent, &[0xff; 6]), None, "broadcast");
        assert_eq!(with(NeighbourState::Permanent, &mac[..4]), None, "a tunnel's address");
    }

    #[test]
    fn a_vlan_is_one_of_its_parent() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Link(3));
        message.attributes.push(LinkAttribute::Mtu(1500));
        assert_eq!(read_link(&message), Link { vlan: None, mtu: 1500 }, "a veth has a link too");
        let data = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(7)]));
        message.attributes.push(LinkAttribute::LinkInfo(vec![data]));
        assert_eq!(read_link(&message), Link { vlan: Some((3, 7)), mtu: 1500 });
    }

    #[test]
    fn a_datagram_that_is_cut_ends_the_reading() {
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour_message(3, [1; 16]))),
        );
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let twice = [bytes.as_slice(), bytes.as_slice()].concat();
        assert_eq!(messages(&twice).count(), 2);
        for cut in 0..bytes.len() {
            assert_eq!(messages(&bytes[..cut]).count(), 0, "{cut}");
            assert_eq!(messages(&twice[..bytes.len() + cut]).count(), 1, "{cut}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}

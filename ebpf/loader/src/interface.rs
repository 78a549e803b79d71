// SPDX-License-Identifier: Apache-2.0
//! What rtnetlink says about one interface, asked once. Never changes anything.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Room for one answer: an interface with many attributes takes about 2 KiB.
const ANSWER_BYTES: usize = 32 * 1024;

/// One network interface as it was when it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its Ethernet address; zeros when it has none.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Id of the XDP program that is attached.
    pub xdp_program: Option<u32>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of that name.
    #[error("there is no interface `{name}`; `ip link` lists them")]
    Missing {
        /// The name.
        name: String,
    },
    /// rtnetlink refused or answered something else.
    #[error("rtnetlink does not describe `{name}`: {source}")]
    System {
        /// The name.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl Interface {
    /// Asks for the interface of that name in the network namespace of this thread.
    ///
    /// # Errors
    /// [`InterfaceError`].
    pub fn named(name: &str) -> Result<Self, InterfaceError> {
        let system = |source| InterfaceError::System { name: name.to_owned(), source };
        match ask(name).map_err(system)? {
            Some(link) => Ok(from_link(name, &link)),
            None => Err(InterfaceError::Missing { name: name.to_owned() }),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it is, it is no answer")]
fn ask(name: &str) -> io::Result<Option<LinkMessage>> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, &bytes, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = vec![0; ANSWER_BYTES];
    let (len, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..len]).map_err(io::Error::other)?;
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
        NetlinkPayload::Error(error) => {
            let error = error.to_io();
            // ENODEV; a name that is too long is ERANGE.
            let missing = [19, 34].iter().any(|errno| error.raw_os_error() == Some(*errno));
            if missing { Ok(None) } else { Err(error) }
        }
        _ => Err(io::Error::other("an answer of another kind")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rtnetlink has a hundred attributes")]
fn from_link(name: &str, link: &LinkMessage) -> Interface {
    let mut interface = Interface { name: name.to_owned(), index: link.header.index, ..Interface::default() };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) => interface.rx_queues = *queues,
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Xdp(facts) => interface.xdp_program = program_of(facts),
            _ => {}
        }
    }
    if let Some(queues) = queues_in_use(&interface) {
        interface.rx_queues = queues;
    }
    interface
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other facts say how, not which")]
fn program_of(facts: &[LinkXdp]) -> Option<u32> {
    facts.iter().find_map(|fact| match fact {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    })
}

/// rtnetlink tells how many queues were allocated, sysfs how many are in use; sysfs may show another namespace.
fn queues_in_use(interface: &Interface) -> Option<u32> {
    let dir = std::path::Path::new("/sys/class/net").join(&interface.name);
    let index = std::fs::read_to_string(dir.join("ifindex")).ok()?;
    let mac = std::fs::read_to_string(dir.join("address")).ok()?;
    let ours: Vec<String> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    if index.trim() != interface.index.to_string() || mac.trim() != ours.join(":") {
        return None;
    }
    let names = std::fs::read_dir(dir.join("queues")).ok()?.filter_map(Result::ok).map(|entry| entry.file_name());
    let count = names.filter(|name| name.to_string_lossy().starts_with("rx-")).count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

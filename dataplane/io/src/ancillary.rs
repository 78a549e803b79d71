// SPDX-License-Identifier: Apache-2.0
//! Addresses and control messages as the kernel lays them out: read from received datagrams, written for paths.
//!
//! ```text
//!  cmsghdr   len usize | level i32 | type i32 | data …, padded to 8 bytes
//!  in        family u16 | port be16 | address 4 | zero 8
//!  in6       family u16 | port be16 | flow label 4 | address 16 | scope u32
//! ```
//!
//! Everything is bytes: no layout is trusted, nothing panics on any of them.

use dataplane_abi::flow::map_v4;

const _: () = assert!(size_of::<usize>() == 8, "control messages are laid out for 64-bit kernels");

/// Bytes before a control message's data.
const HEAD_BYTES: usize = 16;
/// Longest socket address in use (`sockaddr_in6`).
pub(crate) const NAME_BYTES: usize = 28;
/// Control bytes that one sent datagram needs at most: `in6_pktinfo` and the traffic class.
pub(crate) const SEND_CONTROL_BYTES: usize = 64;
/// Control bytes that are received at most: stamp 32, packet info 40 and 32, TOS and traffic class 24 each, overflow 24.
pub(crate) const RECEIVE_CONTROL_BYTES: usize = 208;

/// What the control messages of a received datagram say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Received {
    /// Address that the datagram was sent to.
    pub(crate) local: Option<[u8; 16]>,
    /// Wall-clock arrival, ns.
    pub(crate) wall_ns: Option<u64>,
    /// TOS or traffic class byte.
    pub(crate) tos: u8,
    /// Datagrams that the socket has lost so far, modulo 2^32; absent where none.
    pub(crate) overflow: Option<u32>,
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Reads the control messages of a received datagram; unknown ones are passed over.
pub(crate) fn parse(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while let (Some(len), Some(level), Some(kind)) = (word(control, 0), word(control, 8), word(control, 12)) {
        let len = usize::from_ne_bytes(len);
        let Some(data) = control.get(HEAD_BYTES..len) else { break };
        take(&mut received, i32::from_ne_bytes(level), i32::from_ne_bytes(kind), data);
        let Some(rest) = len.checked_next_multiple_of(8).and_then(|next| control.get(next..)) else { break };
        control = rest;
    }
    received
}

fn take(received: &mut Received, level: i32, kind: i32, data: &[u8]) {
    match (level, kind) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
            if let (Some(seconds), Some(nanoseconds)) = (word(data, 0), word(data, 8)) {
                let (seconds, nanoseconds) = (i64::from_ne_bytes(seconds), i64::from_ne_bytes(nanoseconds));
                let ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanoseconds));
                received.wall_ns = ns.and_then(|ns| u64::try_from(ns).ok());
            }
        }
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.overflow = word(data, 0).map(u32::from_ne_bytes),
        // in_pktinfo: interface, address of ours that answers, destination of the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => received.local = word(data, 8).map(map_v4).or(received.local),
        // in6_pktinfo: destination, interface. For IPv4 on an IPv6 socket the destination is v4-mapped.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => received.local = word(data, 0).or(received.local),
        // One byte for IPv4, an int for IPv6 (Linux net/ipv4/ip_sockglue.c, net/ipv6/datagram.c).
        (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = word(data, 0).map_or(0, |[tos]: [u8; 1]| tos),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            received.tos = word(data, 0).map_or(0, |class| i32::from_ne_bytes(class).to_le_bytes()[0]);
        }
        _ => {}
    }
}

/// Reads a socket address: the address in its v4-mapped form and the port.
pub(crate) fn parse_name(name: &[u8]) -> Option<([u8; 16], u16)> {
    let family = i32::from(u16::from_ne_bytes(word(name, 0)?));
    let port = u16::from_be_bytes(word(name, 2)?);
    match family {
        libc::AF_INET => Some((map_v4(word(name, 4)?), port)),
        libc::AF_INET6 => Some((word(name, 8)?, port)),
        _ => None,
    }
}

/// Bytes written one after the other; what does not fit is left out and reported by `len`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitter<const N: usize> {
    pub(crate) bytes: [u8; N],
    pub(crate) len: usize,
}

impl<const N: usize> Emitter<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn align(&mut self) {
        self.len = self.len.next_multiple_of(8).min(N);
    }

    fn put_head(&mut self, data_bytes: usize, level: i32, kind: i32) {
        self.put(&(HEAD_BYTES + data_bytes).to_ne_bytes());
        self.put(&level.to_ne_bytes());
        self.put(&kind.to_ne_bytes());
    }

    /// `sockaddr_in`.
    pub(crate) fn put_name_v4(&mut self, address: [u8; 4], port: u16) {
        self.put(&family(libc::AF_INET));
        self.put(&port.to_be_bytes());
        self.put(&address);
        self.put(&[0; 8]);
    }

    /// `sockaddr_in6`.
    pub(crate) fn put_name_v6(&mut self, address: [u8; 16], port: u16) {
        self.put(&family(libc::AF_INET6));
        self.put(&port.to_be_bytes());
        self.put(&[0; 4]);
        self.put(&address);
        self.put(&[0; 4]);
    }

    /// IP_PKTINFO: the source address.
    pub(crate) fn put_source_v4(&mut self, address: [u8; 4]) {
        self.put_head(12, libc::IPPROTO_IP, libc::IP_PKTINFO);
        self.put(&[0; 4]);
        self.put(&address);
        self.put(&[0; 4]);
        self.align();
    }

    /// IPV6_PKTINFO: the source address.
    pub(crate) fn put_source_v6(&mut self, address: [u8; 16]) {
        self.put_head(20, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
        self.put(&address);
        self.put(&[0; 4]);
        self.align();
    }

    /// IP_TOS.
    pub(crate) fn put_tos_v4(&mut self, tos: u8) {
        self.put_head(4, libc::IPPROTO_IP, libc::IP_TOS);
        self.put(&i32::from(tos).to_ne_bytes());
        self.align();
    }

    /// UDP_SEGMENT: the kernel cuts the message into datagrams of so many bytes.
    pub(crate) fn put_segment(&mut self, bytes: u16) {
        self.put_head(2, libc::SOL_UDP, libc::UDP_SEGMENT);
        self.put(&bytes.to_ne_bytes());
        self.align();
    }

    /// IPV6_TCLASS.
    pub(crate) fn put_tos_v6(&mut self, tos: u8) {
        self.put_head(4, libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
        self.put(&i32::from(tos).to_ne_bytes());
        self.align();
    }
}

fn family(family: i32) -> [u8; 2] {
    u16::try_from(family).unwrap_or(0).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_emitted_is_parsed() {
        let mut control = Emitter::<SEND_CONTROL_BYTES>::new();
        control.put_source_v6([7; 16]);
        control.put_tos_v6(0xb9);
        assert_eq!(control.len, SEND_CONTROL_BYTES);
        let received = parse(&control.bytes[..control.len]);
        assert_eq!(received, Received { local: Some([7; 16]), tos: 0xb9, ..Received::default() });

        let mut name = Emitter::<NAME_BYTES>::new();
        name.put_name_v4([1, 2, 3, 4], 5);
        assert_eq!((name.len, parse_name(&name.bytes)), (16, Some((map_v4([1, 2, 3, 4]), 5))));
        let mut name = Emitter::<NAME_BYTES>::new();
        name.put_name_v6([9; 16], 0xabcd);
        assert_eq!((name.len, parse_name(&name.bytes)), (NAME_BYTES, Some(([9; 16], 0xabcd))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..256), len in 0_usize..64) {
            let mut control = len.to_ne_bytes().to_vec();
            control.extend(bytes);
            let _ = parse(&control);
            let _ = parse_name(&control);
        }
    }
}

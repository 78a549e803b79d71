// SPDX-License-Identifier: Apache-2.0
//! Frames straight onto a wire, many in one call: six hundred publishers that each have a socket, a route and a hop of their own
//! fill a core at 60,000 packets/s, most of it in the kernel. What they hear still comes to their sockets.
//!
//! It must never say that a frame has left which the kernel did not take.

use std::io::IoSlice;
use std::net::SocketAddrV4;

use anyhow::Result;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use tools_netlab::packet::{PacketSocket, Tap};

/// Frames of one call.
pub(crate) const BATCH: usize = 32;
/// Ethernet, IPv4, UDP.
const HEAD: usize = 14 + IPV4 + UDP;
const IPV4: usize = 20;
const UDP: usize = 8;
const FRAME: usize = 2048;

/// An interface that frames leave by.
pub struct Link {
    socket: PacketSocket,
    macs: [u8; 12],
    frames: Vec<u8>,
    lens: Vec<usize>,
}

impl Link {
    /// An interface of a namespace, and who is at its other end.
    ///
    /// # Errors
    /// When not root, or there is no such interface.
    pub fn open(namespace: &str, interface: &str, to: [u8; 6]) -> Result<Self> {
        let socket = PacketSocket::open(namespace, interface, Tap::Nothing)?;
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&to);
        macs[6..].copy_from_slice(&socket.hardware_address());
        Ok(Self { socket, macs, frames: vec![0; BATCH * FRAME], lens: Vec::with_capacity(BATCH) })
    }

    /// Puts a datagram behind those that wait; false where there is no room, or it is too long.
    pub(crate) fn push(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> bool {
        let len = HEAD + payload.len();
        let place = self.frames.chunks_mut(FRAME).nth(self.lens.len()).and_then(|frame| frame.get_mut(..len));
        let Some((head, body)) = place.and_then(<[u8]>::split_first_chunk_mut::<HEAD>) else { return false };
        *head = write_head(self.macs, from, to, payload.len());
        body.copy_from_slice(payload);
        self.lens.push(len);
        true
    }

    /// Sends what waits; which of it the kernel took, by place.
    pub(crate) fn flush(&mut self) -> [bool; BATCH] {
        let mut taken = [false; BATCH];
        let mut done = 0;
        while done < self.lens.len() {
            let frames = self.frames.chunks(FRAME).zip(&self.lens).skip(done);
            match send(&self.socket, frames.map(|(frame, len)| frame.get(..*len).unwrap_or(&[]))) {
                Ok(count) if count > 0 => {
                    taken.iter_mut().skip(done).take(count).for_each(|one| *one = true);
                    done += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                // The first of them was refused.
                Ok(_) | Err(_) => done += 1,
            }
        }
        self.lens.clear();
        taken
    }
}

/// Gives frames to the kernel; how many it took, the first ones.
fn send<'f>(socket: &PacketSocket, frames: impl Iterator<Item = &'f [u8]>) -> rustix::io::Result<usize> {
    let mut slices: [_; BATCH] = std::array::from_fn(|_| [IoSlice::new(&[])]);
    let mut count = 0;
    for (slice, frame) in slices.iter_mut().zip(frames) {
        *slice = [IoSlice::new(frame)];
        count += 1;
    }
    let mut controls: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
    let mut messages: Vec<_> =
        slices.iter().zip(&mut controls).take(count).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    sendmmsg(socket, &mut messages, SendFlags::empty())
}

/// The headers of a datagram: no fragments, no options, and no checksum over the payload, which IPv4 may leave out (RFC 768).
fn write_head(macs: [u8; 12], from: SocketAddrV4, to: SocketAddrV4, payload: usize) -> [u8; HEAD] {
    let len = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut head = [0; HEAD];
    let (ether, rest) = head.split_at_mut(14);
    let (ip, udp) = rest.split_at_mut(IPV4);
    ether[..12].copy_from_slice(&macs);
    ether[12] = 0x08;
    (ip[0], ip[6], ip[8], ip[9]) = (0x45, 0x40, 64, 17);
    ip[2..4].copy_from_slice(&len(IPV4 + UDP + payload));
    ip[12..16].copy_from_slice(&from.ip().octets());
    ip[16..].copy_from_slice(&to.ip().octets());
    let sum = checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    udp[..2].copy_from_slice(&from.port().to_be_bytes());
    udp[2..4].copy_from_slice(&to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&len(UDP + payload));
    head
}

/// RFC 791 §3.1.
fn checksum(ip: &[u8]) -> u16 {
    let sum: u32 = ip.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_a_datagram() {
        let (from, to) = ("10.32.0.1:5000".parse().expect("one"), "10.77.0.1:10000".parse().expect("one"));
        let head = write_head([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2], from, to, 1228);
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(&[&head[..], &[0; 1228]].concat()).map(|p| {
            let Some(etherparse::NetHeaders::Ipv4(ip, _)) = p.net else { return None };
            let udp = p.transport?.udp()?;
            Some((ip.header_checksum == ip.calc_header_checksum(), ip.source, udp.length, udp.destination_port))
        });
        assert_eq!(parsed.expect("a frame"), Some((true, [10, 32, 0, 1], 1236, 10_000)));
    }
}

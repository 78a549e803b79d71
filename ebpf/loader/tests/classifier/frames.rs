// SPDX-License-Identifier: Apache-2.0
//! Frames byte by byte, so that a fixture does not depend on the parser that it tests.

use dataplane_abi::flow::{FlowKey, map_v4};

/// Our UDP port in all fixtures.
pub(crate) const PORT: u16 = 3478;
/// Our addresses.
pub(crate) const OUR_V4: [u8; 4] = [10, 9, 0, 1];
pub(crate) const OUR_V6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Who sends a frame to whom, and how it is wrapped.
#[derive(Clone)]
pub(crate) struct Shape {
    /// Source and destination, v4-mapped.
    pub(crate) from: [u8; 16],
    pub(crate) to: [u8; 16],
    pub(crate) from_port: u16,
    pub(crate) to_port: u16,
    /// Tag protocol ids, outer first.
    pub(crate) tags: Vec<u16>,
    /// IPv4 options, in whole words.
    pub(crate) options: Vec<u8>,
    /// IPv4: flags and fragment offset.
    pub(crate) fragment: u16,
    /// IPv6: a header of this type between IP and UDP, 8 bytes.
    pub(crate) extension: Option<(u8, [u8; 8])>,
    /// The protocol, UDP unless a fixture says otherwise.
    pub(crate) protocol: u8,
    /// Added to the UDP length.
    pub(crate) udp_len_off_by: i16,
}

impl Shape {
    pub(crate) fn v4(last: u8, port: u16) -> Self {
        Self {
            from: map_v4([192, 0, 2, last]),
            to: map_v4(OUR_V4),
            from_port: port,
            to_port: PORT,
            tags: Vec::new(),
            options: Vec::new(),
            fragment: 0x4000,
            extension: None,
            protocol: 17,
            udp_len_off_by: 0,
        }
    }

    pub(crate) fn v6(last: u8, port: u16) -> Self {
        let mut from = [0x20; 16];
        from[15] = last;
        Self { from, to: OUR_V6, ..Self::v4(last, port) }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn flow(&self) -> FlowKey {
        FlowKey { local: self.to, remote: self.from, local_port: self.to_port, remote_port: self.from_port, reserve: 0 }
    }

    fn is_v4(&self) -> bool {
        self.to[..12] == map_v4([0; 4])[..12]
    }

    /// The whole frame.
    pub(crate) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (id, tag) in self.tags.iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 100 + u8::try_from(id).expect("few tags")]);
        }
        let mut udp = Vec::new();
        udp.extend(self.from_port.to_be_bytes());
        udp.extend(self.to_port.to_be_bytes());
        let udp_len = i16::try_from(8 + payload.len()).expect("short") + self.udp_len_off_by;
        udp.extend(udp_len.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        if self.is_v4() {
            self.ipv4(&mut frame, &udp)
        } else {
            self.ipv6(&mut frame, &udp)
        }
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, udp: &[u8]) {
        let header = 20 + self.options.len();
        frame.extend([8, 0, 0x40 | u8::try_from(header / 4).expect("at most 60"), 0]);
        frame.extend(u16::try_from(header + udp.len()).expect("short").to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(&self.from[12..]);
        frame.extend(&self.to[12..]);
        frame.extend(&self.options);
        frame.extend(udp);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, udp: &[u8]) {
        let extension = self.extension.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(u16::try_from(extension.len() + udp.len()).expect("short").to_be_bytes());
        frame.extend([self.extension.map_or(self.protocol, |(kind, _)| kind), 64]);
        frame.extend(self.from);
        frame.extend(self.to);
        frame.extend(extension);
        frame.extend(udp);
    }
}

/// A STUN message whose body has `body` bytes.
pub(crate) fn stun(body: u16) -> Vec<u8> {
    let mut message = vec![0, 1];
    message.extend(body.to_be_bytes());
    message.extend(0x2112_A442_u32.to_be_bytes());
    message.resize(20 + usize::from(body), 7);
    message
}

/// A datagram of 40 bytes that begins with these two.
pub(crate) fn datagram(first: u8, second: u8) -> Vec<u8> {
    let mut bytes = vec![9; 40];
    bytes[0] = first;
    bytes[1] = second;
    bytes
}

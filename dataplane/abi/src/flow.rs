// SPDX-License-Identifier: Apache-2.0
//! A 5-tuple (the protocol is UDP), exact: never a hash (MEDIA_RULES T4).

/// Local and remote address and port. IPv4 addresses are v4-mapped (`::ffff:a.b.c.d`). Bytes and ports in network order of
/// significance: ports are plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(C)]
pub struct FlowKey {
    /// Our address: the destination of received packets, the source of sent ones.
    pub local: [u8; 16],
    /// The peer's address.
    pub remote: [u8; 16],
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Zero; keeps the size a multiple of 8.
    pub reserve: u32,
}

crate::pod::impl_pod!(FlowKey { [u8; 16], [u8; 16], u16, u16, u32 });

impl crate::layout::Zero for FlowKey {
    const ZERO: Self = Self { local: [0; 16], remote: [0; 16], local_port: 0, remote_port: 0, reserve: 0 };
}

const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);

/// Writes an IPv4 address in its v4-mapped form.
#[must_use]
pub const fn map_v4(octets: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, octets[0], octets[1], octets[2], octets[3]]
}

/// The IPv4 address of a v4-mapped one.
#[must_use]
pub const fn as_v4(address: [u8; 16]) -> Option<[u8; 4]> {
    let mut i = 0;
    while i < 10 {
        if address[i] != 0 {
            return None;
        }
        i += 1;
    }
    if address[10] != 0xff || address[11] != 0xff {
        return None;
    }
    Some([address[12], address[13], address[14], address[15]])
}

impl FlowKey {
    /// The key as five words, for atomic storage.
    #[must_use]
    pub fn to_words(&self) -> [u64; 5] {
        let half = |bytes: &[u8; 16], at: usize| {
            let mut word = [0_u8; 8];
            let mut i = 0;
            while i < 8 {
                word[i] = bytes[at + i];
                i += 1;
            }
            u64::from_be_bytes(word)
        };
        [
            half(&self.local, 0),
            half(&self.local, 8),
            half(&self.remote, 0),
            half(&self.remote, 8),
            (u64::from(self.local_port) << 16) | u64::from(self.remote_port),
        ]
    }

    /// The inverse of [`Self::to_words`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "ports are the low 32 bits")]
    pub fn from_words(words: [u64; 5]) -> Self {
        let join = |high: u64, low: u64| {
            let mut bytes = [0_u8; 16];
            let (h, l) = (high.to_be_bytes(), low.to_be_bytes());
            let mut i = 0;
            while i < 8 {
                bytes[i] = h[i];
                bytes[8 + i] = l[i];
                i += 1;
            }
            bytes
        };
        Self {
            local: join(words[0], words[1]),
            remote: join(words[2], words[3]),
            local_port: (words[4] >> 16) as u16,
            remote_port: words[4] as u16,
            reserve: 0,
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! RTP headers (RFC 3550 §5.1) and retransmissions (RFC 4588). It must never take a length from a packet unchecked.

/// Bytes of a header without CSRCs and extension.
pub const HEADER: usize = 12;

/// What a receiver reads of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload type.
    pub pt: u8,
    /// Sequence number.
    pub seq: u16,
    /// In ticks of the media clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Bytes before the payload.
    pub len: usize,
}

impl Header {
    /// Reads the header of a packet; `None` if it is none.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (&fixed, rest) = packet.split_first_chunk::<HEADER>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = fixed;
        if first >> 6 != 2 {
            return None;
        }
        let csrcs = usize::from(first & 0x0f) * 4;
        let mut len = HEADER + csrcs;
        if first & 0x10 != 0 {
            let &[_, _, high, low] = rest.get(csrcs..)?.first_chunk::<4>()?;
            len += 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
        }
        (len <= packet.len()).then_some(Self {
            pt: second & 0x7f,
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            len,
        })
    }
}

/// A packet without extension.
#[must_use]
pub fn packet(pt: u8, marker: bool, seq: u16, timestamp: u32, ssrc: u32, payload: &[&[u8]]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + payload.iter().map(|part| part.len()).sum::<usize>());
    packet.extend_from_slice(&[0x80, pt | (u8::from(marker) << 7)]);
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    for part in payload {
        packet.extend_from_slice(part);
    }
    packet
}

/// A retransmission of `original` under another payload type, number and SSRC.
#[must_use]
pub fn retransmission(original: &[u8], pt: u8, seq: u16, ssrc: u32) -> Option<Vec<u8>> {
    let header = Header::parse(original)?;
    let marker = original.get(1)? & 0x80 != 0;
    Some(packet(pt, marker, seq, header.timestamp, ssrc, &[&header.seq.to_be_bytes(), original.get(header.len..)?]))
}

/// The number that a retransmission brings back; `None` for padding that probes.
#[must_use]
pub fn original_number(payload: &[u8]) -> Option<u16> {
    payload.first_chunk::<2>().map(|&number| u16::from_be_bytes(number))
}

/// The index nearest to `reference` that ends in `seq`.
#[must_use]
pub fn unroll(reference: u64, seq: u16) -> u64 {
    let [.., high, low] = reference.to_be_bytes();
    let ahead = seq.wrapping_sub(u16::from_be_bytes([high, low]));
    if ahead < 0x8000 {
        reference + u64::from(ahead)
    } else {
        reference.saturating_sub(u64::from(ahead.wrapping_neg()))
    }
}

/// The sixteen bits of an index that a packet carries.
#[must_use]
pub fn low16(index: u64) -> u16 {
    let [.., high, low] = index.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_reads_as_it_was_written() {
        let written = packet(96, true, 7, 1234, 99, &[&[1, 2], &[3]]);
        let header = Header::parse(&written).expect("a header");
        assert_eq!(header, Header { pt: 96, seq: 7, timestamp: 1234, ssrc: 99, len: 12 });
        assert_eq!(written[header.len..], [1, 2, 3]);
        assert!(Header::parse(&written[..11]).is_none());
        let mut extended = written;
        extended[0] |= 0x10;
        assert!(Header::parse(&extended).is_none(), "an extension that is not there");
    }

    #[test]
    fn a_retransmission_carries_the_first_number() {
        let original = packet(96, true, 65_535, 1234, 99, &[&[7; 20]]);
        let again = retransmission(&original, 97, 3, 100).expect("a packet");
        let header = Header::parse(&again).expect("a header");
        assert_eq!((header.pt, header.seq, header.ssrc, header.timestamp), (97, 3, 100, 1234));
        assert_eq!(original_number(&again[header.len..]), Some(65_535));
        assert_eq!(again[header.len + 2..], original[12..]);
    }

    #[test]
    fn numbers_unroll_over_the_wrap_in_both_directions() {
        assert_eq!(unroll(0x1_FFFE, 1), 0x2_0001);
        assert_eq!(unroll(0x2_0001, 0xFFFF), 0x1_FFFF);
        assert_eq!(unroll(5, 0xFFFF), 0, "nothing came before the beginning");
    }
}

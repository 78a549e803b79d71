// SPDX-License-Identifier: Apache-2.0
//! The RTCP that a simple client speaks: SR, RR, SDES, NACK and PLI out; the same and FIR in (RFC 3550 §6, RFC 4585). It
//! must never read beyond a packet's own length.

/// One receiver's view of a stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) ssrc: u32,
    pub(crate) fraction_lost: u8,
    pub(crate) lost: u32,
    pub(crate) highest: u32,
    pub(crate) jitter: u32,
    pub(crate) last_sr: u32,
    pub(crate) delay: u32,
}

/// What a sender says of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderInfo {
    pub(crate) ssrc: u32,
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
}

/// What a peer said that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The middle 32 bits of a sender report's time.
    SenderReport { ssrc: u32, ntp_middle: u32 },
    /// A keyframe is wanted.
    KeyframeWanted { ssrc: u32 },
    /// Packets are wanted again.
    Wanted { ssrc: u32, numbers: Vec<u16> },
}

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const NACK: u8 = 1;
const PLI: u8 = 1;
const FIR: u8 = 4;
/// Report blocks in one packet (five bits).
pub(crate) const MAX_BLOCKS: usize = 31;

/// Appends a packet; its body is a multiple of four bytes.
fn push(out: &mut Vec<u8>, count: u8, packet_type: u8, body: &[u8]) {
    let words = u16::try_from(body.len() / 4).unwrap_or(0);
    out.extend_from_slice(&[0x80 | count, packet_type]);
    out.extend_from_slice(&words.to_be_bytes());
    out.extend_from_slice(body);
}

/// A report with its CNAME: what every compound packet starts with. Blocks beyond [`MAX_BLOCKS`] are left out.
pub(crate) fn report(own: u32, sender: Option<SenderInfo>, blocks: &[ReportBlock], cname: &str) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
    let mut body = sender.map_or(own, |info| info.ssrc).to_be_bytes().to_vec();
    if let Some(info) = sender {
        body.extend_from_slice(&info.ntp.to_be_bytes());
        for word in [info.timestamp, info.packets, info.bytes] {
            body.extend_from_slice(&word.to_be_bytes());
        }
    }
    for block in blocks {
        body.extend_from_slice(&block.ssrc.to_be_bytes());
        body.push(block.fraction_lost);
        body.extend_from_slice(&block.lost.min(0x7F_FFFF).to_be_bytes()[1..]);
        for word in [block.highest, block.jitter, block.last_sr, block.delay] {
            body.extend_from_slice(&word.to_be_bytes());
        }
    }
    let mut out = Vec::new();
    let count = u8::try_from(blocks.len()).unwrap_or(0);
    push(&mut out, count, if sender.is_some() { SR } else { RR }, &body);
    let mut chunk = sender.map_or(own, |info| info.ssrc).to_be_bytes().to_vec();
    chunk.extend_from_slice(&[1, u8::try_from(cname.len()).unwrap_or(0)]);
    chunk.extend_from_slice(cname.as_bytes());
    // RFC 3550 §6.5: ended by at least one zero.
    chunk.resize(chunk.len() / 4 * 4 + 4, 0);
    push(&mut out, 1, SDES, &chunk);
    out
}

/// Asks for packets again; `numbers` are in order.
pub(crate) fn push_nack(out: &mut Vec<u8>, own: u32, ssrc: u32, numbers: &[u16]) {
    let mut body = [own.to_be_bytes(), ssrc.to_be_bytes()].concat();
    let mut rest = numbers;
    while let Some((&first, others)) = rest.split_first() {
        let mut mask = 0_u16;
        rest = others;
        while let Some((&next, others)) = rest.split_first() {
            let behind = next.wrapping_sub(first);
            if !(1..=16).contains(&behind) {
                break;
            }
            mask |= 1 << (behind - 1);
            rest = others;
        }
        body.extend_from_slice(&first.to_be_bytes());
        body.extend_from_slice(&mask.to_be_bytes());
    }
    push(out, NACK, TRANSPORT_FEEDBACK, &body);
}

/// Asks for a keyframe.
pub(crate) fn push_pli(out: &mut Vec<u8>, own: u32, ssrc: u32) {
    push(out, PLI, PAYLOAD_FEEDBACK, &[own.to_be_bytes(), ssrc.to_be_bytes()].concat());
}

/// Reads a compound packet; `None` if it is damaged.
pub(crate) fn read(mut compound: &[u8]) -> Option<Vec<Told>> {
    let mut told = Vec::new();
    while !compound.is_empty() {
        let (&[first, packet_type, high, low], _) = compound.split_first_chunk::<4>()?;
        let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let packet = compound.get(..len)?;
        compound = compound.get(len..)?;
        if first >> 6 != 2 {
            return None;
        }
        let word = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|&bytes| u32::from_be_bytes(bytes));
        match (packet_type, first & 0x1f) {
            (SR, _) => {
                let (ssrc, high, low) = (word(4)?, word(8)?, word(12)?);
                told.push(Told::SenderReport { ssrc, ntp_middle: (high << 16) | (low >> 16) });
            }
            (PAYLOAD_FEEDBACK, PLI) => told.push(Told::KeyframeWanted { ssrc: word(8)? }),
            (PAYLOAD_FEEDBACK, FIR) => told.push(Told::KeyframeWanted { ssrc: word(12)? }),
            (TRANSPORT_FEEDBACK, NACK) => {
                let entries = packet.get(12..)?.chunks_exact(4).filter_map(|entry| entry.first_chunk::<4>());
                let mut numbers = Vec::new();
                for &[n0, n1, m0, m1] in entries {
                    let (number, mask) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([m0, m1]));
                    numbers.push(number);
                    let later = (0..16_u16).filter(|bit| mask & (1 << bit) != 0);
                    numbers.extend(later.map(|bit| number.wrapping_add(bit + 1)));
                }
                told.push(Told::Wanted { ssrc: word(8)?, numbers });
            }
            _ => {}
        }
    }
    Some(told)
}

/// True if a datagram of RTP or RTCP is RTCP (RFC 5761 §4).
pub(crate) fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|packet_type| (192..=223).contains(packet_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_reads_as_it_was_written() {
        let mut out = report(5, None, &[ReportBlock { ssrc: 9, ..ReportBlock::default() }], "bot-1");
        push_nack(&mut out, 5, 9, &[65_535, 0, 15, 40]);
        push_pli(&mut out, 5, 9);
        let told = read(&out).expect("a compound packet");
        assert_eq!(
            told,
            [Told::Wanted { ssrc: 9, numbers: vec![65_535, 0, 15, 40] }, Told::KeyframeWanted { ssrc: 9 },]
        );
        assert!(read(&out[..out.len() - 1]).is_none());
    }

    #[test]
    fn a_sender_report_tells_its_time() {
        let info = SenderInfo { ssrc: 3, ntp: 0x1122_3344_5566_7788, timestamp: 1, packets: 2, bytes: 3 };
        let out = report(0, Some(info), &[], "x");
        assert_eq!(read(&out).expect("a packet"), [Told::SenderReport { ssrc: 3, ntp_middle: 0x3344_5566 }]);
        assert_eq!(out.len() % 4, 0);
    }
}

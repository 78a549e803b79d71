// SPDX-License-Identifier: Apache-2.0
//! The seeded mix of datagrams that no honest client sends: what each is, and how its bytes are made.

use crate::random::Random;

/// One sort of hostile datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    /// STUN with lengths, attributes or types that contradict each other.
    MalformedStun,
    /// A whole binding request for a ufrag that nobody has.
    UnknownUfrag,
    /// A whole binding request for a ufrag in use, with a wrong MESSAGE-INTEGRITY.
    BadIntegrity,
    /// A DTLS record with a `ClientHello` or a fragment of one.
    DtlsHello,
    /// The first byte of DTLS, then noise.
    DtlsGarbage,
    /// RTP with a plausible header and noise behind.
    RtpJunk,
    /// RTP whose header extension, CSRC count or padding run over its end.
    RtpOverrun,
    /// RTCP with a plausible header and noise behind.
    RtcpJunk,
    /// The first bytes of any of them, down to none.
    Truncated,
    /// A datagram that a participant really sent, again.
    Replay,
    /// A first byte that belongs to no protocol here.
    Noise,
}

/// All sorts; each is drawn equally often.
pub(crate) const SORTS: [Sort; 11] = [
    Sort::MalformedStun,
    Sort::UnknownUfrag,
    Sort::BadIntegrity,
    Sort::DtlsHello,
    Sort::DtlsGarbage,
    Sort::RtpJunk,
    Sort::RtpOverrun,
    Sort::RtcpJunk,
    Sort::Truncated,
    Sort::Replay,
    Sort::Noise,
];

/// A header extension of 0xBEDE, one word, whose element claims 16 bytes where 4 are.
const OVERRUNNING_EXTENSION: [u8; 21] = [
    0x90, 0x60, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xbe, 0xde, 0x00, 0x01, 0x1f, 0x1f, 0x1f,
    0x1f, 0x1f,
];
/// RFC 8489 §5.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What was seen of the call and goes into the attack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loot {
    /// USERNAME attributes of the participants' own binding requests.
    pub(crate) usernames: Vec<Vec<u8>>,
    /// SRTP, SRTCP and DTLS datagrams that the participants sent (no STUN: a repeated valid request is answered).
    pub(crate) datagrams: Vec<Vec<u8>>,
}

/// Makes the payload of one datagram of the given sort.
pub(crate) fn datagram(sort: Sort, random: &mut Random, loot: &Loot) -> Vec<u8> {
    match sort {
        Sort::MalformedStun => malformed_stun(random),
        Sort::UnknownUfrag => {
            let name: Vec<u8> = (0..17).map(|at| if at == 8 { b':' } else { b'a' + random.byte() % 26 }).collect();
            binding_request(&name, random)
        }
        Sort::BadIntegrity => pick(&loot.usernames, random).map_or_else(Vec::new, |name| binding_request(name, random)),
        Sort::DtlsHello => dtls_hello(random),
        Sort::DtlsGarbage => with_first(20 + random.byte() % 44, random),
        Sort::RtpJunk => rtp(random, 0x80),
        Sort::RtpOverrun => rtp_overrun(random),
        Sort::RtcpJunk => rtcp(random),
        Sort::Truncated => truncated(random, loot),
        Sort::Replay => pick(&loot.datagrams, random).cloned().unwrap_or_default(),
        Sort::Noise => {
            let first = if random.chance_ppm(500_000) { 64 + random.byte() % 64 } else { 192 + random.byte() % 64 };
            with_first(first, random)
        }
    }
}

fn pick<'a>(from: &'a [Vec<u8>], random: &mut Random) -> Option<&'a Vec<u8>> {
    let count = u64::try_from(from.len()).ok()?;
    from.get(usize::try_from(random.below(count)).ok()?)
}

fn length(random: &mut Random, most: u64) -> usize {
    usize::try_from(random.below(most)).unwrap_or(0)
}

fn with_first(first: u8, random: &mut Random) -> Vec<u8> {
    let length = length(random, 1200);
    let mut bytes = random.bytes(length + 1);
    bytes[0] = first;
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn stun(kind: u16, attributes: &[u8], claimed: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(claimed).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(STUN_COOKIE);
    bytes.extend(random.bytes(12));
    bytes.extend(attributes);
    bytes
}

/// A binding request as a browser makes it, except that its MESSAGE-INTEGRITY is noise; the FINGERPRINT is right.
fn binding_request(username: &[u8], random: &mut Random) -> Vec<u8> {
    let mut attributes = attribute(0x0006, username);
    attributes.extend(attribute(0x802a, &random.bytes(8)));
    attributes.extend(attribute(0x0025, &[]));
    attributes.extend(attribute(0x0024, &random.bytes(4)));
    attributes.extend(attribute(0x0008, &random.bytes(20)));
    // RFC 8489 §14.7: the length already counts the FINGERPRINT when the CRC is taken.
    let mut bytes = stun(0x0001, &attributes, attributes.len() + 8, random);
    let crc = crc32(&bytes) ^ 0x5354_554e;
    bytes.extend(attribute(0x8028, &crc.to_be_bytes()));
    bytes
}

fn malformed_stun(random: &mut Random) -> Vec<u8> {
    let inner = length(random, 40);
    let body = random.bytes(inner * 4);
    match random.below(4) {
        // A length that is not what follows.
        0 => {
            let claimed = length(random, 65_536);
            stun(0x0001, &body, claimed, random)
        }
        // An attribute that runs over the end.
        1 => stun(0x0001, &[&[0x00, 0x06, 0xff, 0xff][..], &body].concat(), body.len() + 4, random),
        // Any type, any attributes.
        2 => {
            let kind = u16::from_be_bytes([random.byte() & 0x3f, random.byte()]);
            stun(kind, &body, body.len(), random)
        }
        // Many empty attributes.
        _ => stun(0x0001, &attribute(0x7f00, &[]).repeat(200), 800, random),
    }
}

/// A DTLS record of the handshake with `ClientHello`: sometimes a fragment, sometimes with lengths that lie.
fn dtls_hello(random: &mut Random) -> Vec<u8> {
    let inner = length(random, 400) + 40;
    let mut hello = vec![0xfe, 0xfd];
    hello.extend(random.bytes(inner));
    let [_, _, high, low] = u32::try_from(hello.len()).unwrap_or(0).to_be_bytes();
    let mut fragment = vec![1, 0, high, low, 0, random.byte() % 3, 0, 0, 0, 0, high, low];
    if random.chance_ppm(300_000) {
        // A fragment offset and length that do not fit the message.
        fragment[6..12].copy_from_slice(&random.bytes(6));
    }
    fragment.extend(hello);
    let mut record = vec![22, 0xfe, if random.chance_ppm(500_000) { 0xff } else { 0xfd }, 0, 0, 0, 0, 0, 0];
    record.extend(random.bytes(2));
    record.extend(u16::try_from(fragment.len()).unwrap_or(0).to_be_bytes());
    record.extend(fragment);
    record
}

fn rtp(random: &mut Random, first: u8) -> Vec<u8> {
    let mut bytes = with_first(first, random);
    bytes.resize(bytes.len().max(24), 0);
    // Payload types 96..=127, so that it is no RTCP (RFC 5761 §4).
    bytes[1] = (bytes[1] & 0x80) | 96 | (bytes[1] & 31);
    bytes
}

fn rtp_overrun(random: &mut Random) -> Vec<u8> {
    match random.below(3) {
        0 => OVERRUNNING_EXTENSION.to_vec(),
        1 => {
            let mut bytes = rtp(random, 0x9f);
            bytes.truncate(40);
            bytes
        }
        _ => {
            let mut bytes = rtp(random, 0xa0);
            if let Some(last) = bytes.last_mut() {
                *last = 255;
            }
            bytes.truncate(30);
            bytes
        }
    }
}

fn rtcp(random: &mut Random) -> Vec<u8> {
    let mut bytes = with_first(0x80 | (random.byte() & 0x3f), random);
    bytes.resize(bytes.len().max(8), 0);
    bytes[1] = 200 + random.byte() % 8;
    bytes
}

fn truncated(random: &mut Random, loot: &Loot) -> Vec<u8> {
    let whole = [Sort::UnknownUfrag, Sort::DtlsHello, Sort::RtpJunk, Sort::RtcpJunk, Sort::RtpOverrun];
    let sort = whole[usize::from(random.byte()) % whole.len()];
    let mut bytes = datagram(sort, random, loot);
    bytes.truncate(length(random, 20));
    bytes
}

/// CRC-32 of ISO 3309, as FINGERPRINT uses it (RFC 8489 §14.7).
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_one_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_same_seed_makes_the_same_datagrams_of_every_sort() {
        let loot = Loot { usernames: vec![b"known:name".to_vec()], datagrams: vec![vec![0x80; 40]] };
        let run = |seed| {
            let mut random = Random::new(seed);
            SORTS.map(|sort| datagram(sort, &mut random, &loot))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_request_for_a_known_ufrag_carries_it_and_a_length_that_fits() {
        let loot = Loot { usernames: vec![b"known:name".to_vec()], datagrams: Vec::new() };
        let bytes = datagram(Sort::BadIntegrity, &mut Random::new(1), &loot);
        assert!(bytes.windows(10).any(|part| part == b"known:name"));
        assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 20);
    }

    #[test]
    fn no_datagram_exceeds_what_a_veth_carries_unfragmented() {
        let mut random = Random::new(9);
        for round in 0..2000 {
            let bytes = datagram(SORTS[round % SORTS.len()], &mut random, &Loot::default());
            assert!(bytes.len() <= 1400, "{} bytes", bytes.len());
        }
    }
}

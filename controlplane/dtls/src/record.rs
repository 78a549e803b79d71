// SPDX-License-Identifier: Apache-2.0
//! DTLS 1.2 records and handshake fragments (RFC 6347 §4.1, §4.2.2), read without trust: nothing here can panic on
//! network bytes, and nothing malformed reaches the library.

/// Largest datagram taken from the network.
pub(crate) const MAX_DATAGRAM: usize = 2048;
/// Largest handshake message that is reassembled: certificates of WebRTC have 300 to 1000 bytes, hellos 1500.
pub(crate) const MAX_MESSAGE: usize = 8192;

/// Content types (RFC 5246 §6.2.1).
pub(crate) mod content {
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// Handshake message types (RFC 5246 §7.4, RFC 6347 §4.3.2).
pub(crate) mod message {
    pub(crate) const CLIENT_HELLO: u8 = 1;
    pub(crate) const SERVER_HELLO: u8 = 2;
    pub(crate) const HELLO_VERIFY_REQUEST: u8 = 3;
    pub(crate) const CERTIFICATE: u8 = 11;
    pub(crate) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(crate) const CERTIFICATE_REQUEST: u8 = 13;
    pub(crate) const SERVER_HELLO_DONE: u8 = 14;
    pub(crate) const CERTIFICATE_VERIFY: u8 = 15;
    pub(crate) const CLIENT_KEY_EXCHANGE: u8 = 16;
}

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;

/// One record of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) content_type: u8,
    pub(crate) epoch: u16,
    pub(crate) body: &'a [u8],
    /// Header and body as they arrived.
    pub(crate) bytes: &'a [u8],
}

/// Splits a datagram; `None` if any part of it is malformed (RFC 6347 §4.1.2.7: discard silently).
///
/// Accepted are content types 20 to 23, versions DTLS 1.0 and 1.2, epochs 0 and 1, and lengths that fit exactly.
pub(crate) fn split(datagram: &[u8]) -> Option<Vec<Record<'_>>> {
    if datagram.len() > MAX_DATAGRAM {
        return None;
    }
    let mut records = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let header = rest.first_chunk::<RECORD_HEADER>()?;
        let [content_type, v0, v1, e0, e1, .., l0, l1] = *header;
        let (version, epoch) = (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([e0, e1]));
        let is_known = (content::CHANGE_CIPHER_SPEC..=content::APPLICATION_DATA).contains(&content_type);
        if !is_known || !matches!(version, 0xFEFF | 0xFEFD) || epoch > 1 {
            return None;
        }
        let end = RECORD_HEADER + usize::from(u16::from_be_bytes([l0, l1]));
        let (bytes, tail) = rest.split_at_checked(end)?;
        records.push(Record { content_type, epoch, body: bytes.get(RECORD_HEADER..)?, bytes });
        rest = tail;
    }
    Some(records)
}

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: u8,
    pub(crate) seq: u16,
    /// Length of the whole message body.
    pub(crate) total: usize,
    pub(crate) offset: usize,
    pub(crate) data: &'a [u8],
}

/// The fragments of a plaintext handshake record; `None` if any is malformed or larger than [`MAX_MESSAGE`].
pub(crate) fn fragments(mut body: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let [kind, t0, t1, t2, s0, s1, o0, o1, o2, l0, l1, l2] = *body.first_chunk::<HANDSHAKE_HEADER>()?;
        let (total, offset, len) = (u24([t0, t1, t2]), u24([o0, o1, o2]), u24([l0, l1, l2]));
        let is_empty_part = len == 0 && total != 0;
        if total > MAX_MESSAGE || offset + len > total || is_empty_part {
            return None;
        }
        let (data, rest) = body.get(HANDSHAKE_HEADER..)?.split_at_checked(len)?;
        found.push(Fragment { kind, seq: u16::from_be_bytes([s0, s1]), total, offset, data });
        body = rest;
    }
    Some(found)
}

fn u24([a, b, c]: [u8; 3]) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

/// A whole handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) seq: u16,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The message as one unfragmented handshake structure: the form that enters the transcript (RFC 6347 §4.2.6).
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&[self.kind, len[1], len[2], len[3]]);
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, len[1], len[2], len[3]]);
        out.extend_from_slice(&self.body);
    }

    /// The message as one plaintext record; record numbers carry no meaning in epoch 0.
    pub(crate) fn to_record(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HANDSHAKE_HEADER + self.body.len());
        self.emit(&mut body);
        plaintext_record(content::HANDSHAKE, &body)
    }
}

/// A record of epoch 0 and number 0.
pub(crate) fn plaintext_record(content_type: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![content_type, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Gives the plaintext records of a datagram of ours fresh numbers from `next` on: a repeated record must not look like
/// a replay (RFC 6347 §4.2.4). Protected records keep theirs, which the cipher covers.
pub(crate) fn renumber(datagram: &mut [u8], next: &mut u64) {
    let mut rest = datagram;
    while let Some((header, tail)) = rest.split_first_chunk_mut::<RECORD_HEADER>() {
        let [_, _, _, e0, e1, n0, n1, n2, n3, n4, n5, l0, l1] = header;
        if (*e0, *e1) == (0, 0) {
            let [_, _, b0, b1, b2, b3, b4, b5] = next.to_be_bytes();
            (*n0, *n1, *n2, *n3, *n4, *n5) = (b0, b1, b2, b3, b4, b5);
            *next += 1;
        }
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some((_, after)) = tail.split_at_mut_checked(len) else { return };
        rest = after;
    }
}

/// Reads vectors and integers off the front of a message body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    /// A vector with a length of one byte.
    pub(crate) fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// A vector with a length of two bytes.
    pub(crate) fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A vector with a length of three bytes.
    pub(crate) fn vec24(&mut self) -> Option<&'a [u8]> {
        let len = u24(*self.take(3)?.first_chunk()?);
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, content, fragments, plaintext_record, renumber, split};

    #[test]
    fn a_message_survives_emit_and_split() {
        let message = Message { kind: 1, seq: 3, body: vec![7; 300] };
        let bytes = message.to_record();
        let records = split(&bytes).expect("well formed");
        assert_eq!((records.len(), records[0].content_type, records[0].epoch), (1, content::HANDSHAKE, 0));
        let parts = fragments(records[0].body).expect("well formed");
        assert_eq!((parts[0].kind, parts[0].seq, parts[0].total, parts[0].offset), (1, 3, 300, 0));
        assert_eq!(parts[0].data, &message.body[..]);
    }

    // RFC 6347 §4.1.2.7
    #[test]
    fn malformed_datagrams_are_discarded_whole() {
        let good = plaintext_record(content::HANDSHAKE, &[0; 12]);
        assert!(split(&good).is_some());
        let broken = |position: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[position] = value;
            split(&bytes).is_none()
        };
        assert!(broken(0, 24) && broken(0, 19), "content type");
        assert!(broken(1, 3) && broken(2, 0xFC), "version");
        assert!(broken(4, 2), "epoch");
        assert!(broken(12, 11) && broken(12, 13), "length");
        assert!(split(&good[..12]).is_none(), "truncated header");
        assert!(split(&vec![22; super::MAX_DATAGRAM + 1]).is_none(), "too large");
    }

    // RFC 6347 §4.2.4
    #[test]
    fn repeated_plaintext_records_get_fresh_numbers() {
        let mut protected = plaintext_record(content::HANDSHAKE, &[5; 20]);
        protected[4] = 1;
        let plain = plaintext_record(content::HANDSHAKE, &[7; 12]);
        let mut datagram = [plain.clone(), plain, protected.clone()].concat();
        let mut next = 0x0102;
        renumber(&mut datagram, &mut next);
        assert_eq!((&datagram[5..11], &datagram[30..36]), (&[0, 0, 0, 0, 1, 2][..], &[0, 0, 0, 0, 1, 3][..]));
        assert_eq!((&datagram[50..], next), (&protected[..], 0x0104));
    }

    #[test]
    fn fragments_outside_their_message_are_refused() {
        let part = |total: u8, offset: u8, len: u8| {
            let mut bytes = vec![1, 0, 0, total, 0, 0, 0, 0, offset, 0, 0, len];
            bytes.resize(12 + usize::from(len), 9);
            fragments(&bytes).is_some()
        };
        assert!(part(10, 0, 10) && part(10, 5, 5) && part(0, 0, 0));
        assert!(!part(10, 5, 6), "past the end");
        assert!(!part(10, 5, 0), "empty part");
        let huge = [1, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        assert!(fragments(&huge).is_none(), "8193 bytes");
    }
}

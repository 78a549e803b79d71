// SPDX-License-Identifier: Apache-2.0
//! RTP headers and extension elements.

use crate::hex;
use dataplane_wire::EmitError;
use dataplane_wire::rtp::{HeaderWriter, RtpError, RtpHeader, RtpPacket};
use proptest::prelude::*;

fn elements(header: &RtpHeader<'_>) -> Vec<(u8, Vec<u8>)> {
    header.extensions().map(|element| (element.id, element.data.to_vec())).collect()
}

/// A packet with one extension block of this profile.
fn with_block(profile: &str, block: &str) -> Vec<u8> {
    let block = hex(block);
    assert_eq!(block.len() % 4, 0);
    let words = u16::try_from(block.len() / 4).unwrap();
    [hex("90e0 0102 03040506 0708090a"), hex(profile), words.to_be_bytes().to_vec(), block, vec![0xAA]].concat()
}

// RFC 3550 §5.1
#[test]
fn every_field_of_a_full_header_is_found() {
    let bytes = hex("b2ef 1234 89abcdef 01020304 11111111 22222222 abcd0001 cafebabe 5555 000003");
    let packet = RtpPacket::parse(&bytes).unwrap();
    assert_eq!((packet.pt(), packet.marker(), packet.seq()), (111, true, 0x1234));
    assert_eq!((packet.timestamp(), packet.ssrc()), (0x89AB_CDEF, 0x0102_0304));
    assert_eq!(packet.header().csrcs().collect::<Vec<_>>(), [0x1111_1111, 0x2222_2222]);
    assert_eq!((packet.header_len(), packet.padding_len()), (28, 3));
    assert_eq!(packet.payload(), [0x55, 0x55]);
    assert_eq!(packet.header().ext_profile(), Some(0xABCD));
    assert_eq!((packet.header().ext_bytes(), packet.header().ext_offset()), (hex("cafebabe").as_slice(), 24));
    assert_eq!(packet.extensions().count(), 0, "neither form of RFC 8285");
    for len in 0..28 {
        assert_eq!(RtpHeader::parse(&bytes[..len]), Err(RtpError::Truncated), "{len} bytes");
    }
}

#[test]
fn other_versions_are_refused() {
    for first in [0x00, 0x40, 0xC0] {
        assert_eq!(RtpHeader::parse(&[first; 12]), Err(RtpError::Version));
    }
}

// RFC 3550 §5.1
#[test]
fn padding_is_at_least_one_and_at_most_the_payload() {
    let fixed = hex("a060 0001 00000000 00000001");
    let parse = |tail: &[u8]| {
        let bytes = [fixed.as_slice(), tail].concat();
        RtpPacket::parse(&bytes).map(|packet| (packet.payload().to_vec(), packet.padding_len()))
    };
    assert_eq!(parse(&[]), Err(RtpError::Padding));
    assert_eq!(parse(&[0]), Err(RtpError::Padding));
    assert_eq!(parse(&[9, 3]), Err(RtpError::Padding));
    assert_eq!(parse(&[9, 2]), Ok((vec![], 2)), "padding only");
    assert_eq!(parse(&[9, 8, 1]), Ok((vec![9, 8], 1)));
    assert!(RtpHeader::parse(&fixed).unwrap().has_padding(), "encrypted packets are not judged");
}

// RFC 8285 §4.2
#[test]
fn one_byte_elements_follow_each_other_with_padding_between() {
    let bytes = with_block("bede", "10aa0000 22bbccdd");
    let header = RtpHeader::parse(&bytes).unwrap();
    assert_eq!(elements(&header), [(1, vec![0xAA]), (2, vec![0xBB, 0xCC, 0xDD])]);
    let second = header.extension(2).unwrap();
    assert_eq!(&bytes[second.offset..][..3], second.data);
    assert_eq!(header.extension(3), None);
}

// C33, RFC 8285 §4.2
#[test]
fn id_fifteen_ends_the_block() {
    let bytes = with_block("bede", "10aaf0bb 20cc0000");
    assert_eq!(elements(&RtpHeader::parse(&bytes).unwrap()), [(1, vec![0xAA])]);
}

// C33, RFC 8285 §4.2
#[test]
fn id_zero_with_a_length_ends_the_block() {
    let bytes = with_block("bede", "10aa01bb 20cc0000");
    assert_eq!(elements(&RtpHeader::parse(&bytes).unwrap()), [(1, vec![0xAA])]);
}

#[test]
fn an_element_beyond_the_block_ends_it() {
    let bytes = with_block("bede", "10aa00 3f");
    assert_eq!(elements(&RtpHeader::parse(&bytes).unwrap()), [(1, vec![0xAA])]);
    let bytes = with_block("1000", "01010a02");
    assert_eq!(elements(&RtpHeader::parse(&bytes).unwrap()), [(1, vec![0x0A])]);
}

// RFC 8285 §4.3
#[test]
fn two_byte_elements_may_be_empty_and_have_any_id() {
    for profile in ["1000", "100f"] {
        let bytes = with_block(profile, "0100 000f 02aabb ff 01cc 0000");
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(elements(&header), [(1, vec![]), (15, vec![0xAA, 0xBB]), (255, vec![0xCC])], "{profile}");
    }
    let bytes = with_block("1010", "01000000");
    assert_eq!(RtpHeader::parse(&bytes).unwrap().extensions().count(), 0);
}

#[test]
fn the_datagram_whose_element_is_longer_than_its_block_is_harmless() {
    let bytes = hex("906000010000000000000001bede00011f1f1f1f1f");
    assert_eq!(bytes.len(), 21);
    let packet = RtpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.extensions().count(), 0);
    assert_eq!(packet.extension(1), None);
    assert_eq!((packet.header_len(), packet.payload()), (20, [0x1F].as_slice()));
}

#[test]
fn the_form_follows_ids_and_lengths() {
    let writer = HeaderWriter { pt: 96, ..HeaderWriter::default() };
    let profile = |elements: &[(u8, &[u8])]| {
        let mut out = [0; 400];
        writer.emit(&mut out, elements.iter().copied()).unwrap();
        RtpHeader::parse(&out).unwrap().ext_profile()
    };
    assert_eq!(profile(&[]), None);
    assert_eq!(profile(&[(14, &[0; 16])]), Some(0xBEDE));
    assert_eq!(profile(&[(15, &[0; 16])]), Some(0x1000));
    assert_eq!(profile(&[(1, &[0; 17])]), Some(0x1000));
    assert_eq!(profile(&[(1, &[])]), Some(0x1000));
}

#[test]
fn values_without_a_form_are_refused() {
    let writer = HeaderWriter::default();
    let mut out = [0; 600];
    let mut emit = |writer: &HeaderWriter, elements: &[(u8, &'static [u8])]| {
        writer.emit(&mut out, elements.iter().copied()).map(|emitted| emitted.header_len)
    };
    assert_eq!(emit(&writer, &[(0, &[1])]), Err(EmitError::InvalidValue));
    assert_eq!(emit(&writer, &[(1, &[0; 256])]), Err(EmitError::InvalidValue));
    assert_eq!(emit(&writer, &[(1, b"x".as_slice()); 17]), Err(EmitError::TooMany));
    assert_eq!(emit(&HeaderWriter { pt: 128, ..writer }, &[]), Err(EmitError::InvalidValue));
    assert_eq!(emit(&writer, &[(1, b"x".as_slice()); 16]), Ok(12 + 4 + 32));
}

proptest! {
    #[test]
    fn a_header_that_is_emitted_is_parsed(
        marker: bool, pt in 0_u8..128, seq: u16, timestamp: u32, ssrc: u32, room in 0_usize..200,
        list in prop_oneof![
            proptest::collection::vec((1_u8..15, proptest::collection::vec(any::<u8>(), 1..17)), 0..8),
            proptest::collection::vec((1_u8..=255, proptest::collection::vec(any::<u8>(), 0..30)), 0..8),
        ],
    ) {
        let writer = HeaderWriter { marker, has_padding: false, pt, seq, timestamp, ssrc };
        let given = || list.iter().map(|(id, data)| (*id, data.as_slice()));
        let mut out = [0xEE; 400];
        let emitted = writer.emit(&mut out, given()).unwrap();
        prop_assert_eq!(emitted.header_len % 4, 0);
        let packet = RtpPacket::parse(&out[..emitted.header_len + 5]).unwrap();
        prop_assert_eq!((packet.marker(), packet.pt(), packet.seq()), (marker, pt, seq));
        prop_assert_eq!((packet.timestamp(), packet.ssrc()), (timestamp, ssrc));
        prop_assert_eq!(packet.payload(), [0xEE; 5]);
        let found = elements(packet.header());
        prop_assert_eq!(&found, &list);
        prop_assert_eq!(emitted.element_count, list.len());
        for ((_, data), offset) in given().zip(emitted.element_offsets) {
            prop_assert_eq!(&out[usize::from(offset)..][..data.len()], data);
        }
        prop_assert_eq!(writer.emit(&mut vec![0; room], given()).is_ok(), room >= emitted.header_len);
    }
}

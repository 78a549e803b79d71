// SPDX-License-Identifier: Apache-2.0
//! STUN: the vectors of RFC 5769 and round trips.

use crate::hex;
use dataplane_wire::stun::{
    Address, BindingError, BindingRequest, BindingSuccess, Class, METHOD_BINDING, Message, Role, StunError, crc32,
};
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha1::Sha1;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae
    802200105354554e207465737420636c69656e74 002400046e0001ff 80290008932ff9b151263b36
    00060009 6576746a3a68367659202020
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004e57a3bcf";
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220 002000080001a147e112a643
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96";
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220 002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41 80280004c8fb0b4c";

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn is_authentic(message: &Message<'_>, key: &[u8]) -> bool {
    let (header, body) = message.integrity_input().unwrap();
    hmac(key, &[&header, body]) == message.integrity.unwrap().value
}

// RFC 5769 §2.1
#[test]
fn the_sample_request_is_understood_and_authentic() {
    let bytes = hex(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, METHOD_BINDING));
    assert_eq!(message.transaction_id, *hex("b7e7a701bc34d686fa87dfae").as_slice());
    assert_eq!(message.ufrags(), Some((b"evtj".as_slice(), b"h6vY".as_slice())));
    assert_eq!(message.priority, Some(0x6E00_01FF));
    assert_eq!(message.role, Some(Role::Controlled(0x932F_F9B1_5126_3B36)));
    assert!(!message.use_candidate && message.unknown.is_empty());
    assert!(is_authentic(&message, PASSWORD) && !is_authentic(&message, b"other"));
    assert_eq!(message.fingerprint_matches(), Some(true));
}

// RFC 5769 §2.2 and §2.3
#[test]
fn the_sample_responses_are_understood_and_authentic() {
    for (text, ip) in
        [(RESPONSE_V4, "00000000000000000000ffffc0000201"), (RESPONSE_V6, "20010db8123456780011223344556677")]
    {
        let bytes = hex(text);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.class, Class::Success);
        let address = message.xor_mapped_address.unwrap();
        assert_eq!((address.ip.as_slice(), address.port), (hex(ip).as_slice(), 32853));
        assert!(is_authentic(&message, PASSWORD));
        assert_eq!(message.fingerprint_matches(), Some(true));
    }
}

#[test]
fn a_changed_bit_breaks_the_fingerprint_or_the_parse() {
    let good = hex(REQUEST);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let matches = Message::parse(&bytes).ok().and_then(|message| message.fingerprint_matches());
        assert_ne!(matches, Some(true), "byte {at}");
    }
}

#[test]
fn lengths_must_match_the_datagram() {
    let good = hex(REQUEST);
    for len in 0..good.len() {
        assert!(Message::parse(&good[..len]).is_err(), "{len} bytes");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(Message::parse(&longer).unwrap_err(), StunError::Length);
    let mut other = good.clone();
    other[4] = 0;
    assert_eq!(Message::parse(&other).unwrap_err(), StunError::NotStun);
    let mut odd = good;
    odd[3] = 0x57;
    assert_eq!(Message::parse(&odd).unwrap_err(), StunError::Length);
}

/// A request with these attributes.
fn message_of(attributes: &str) -> Vec<u8> {
    let attributes = hex(attributes);
    let len = u16::try_from(attributes.len()).unwrap();
    [hex("0001"), len.to_be_bytes().to_vec(), hex("2112a442000102030405060708090a0b"), attributes].concat()
}

// RFC 8489 §6.3.1
#[test]
fn unknown_attributes_that_must_be_understood_are_reported() {
    let bytes = message_of("7777 0000 c0570004 00000000 1234 0002 aabb0000");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.unknown.kinds(), [0x7777, 0x1234]);
    let many = message_of(&"77770000".repeat(12));
    let message = Message::parse(&many).unwrap();
    assert_eq!((message.unknown.count(), message.unknown.kinds().len()), (12, 8));
}

// RFC 8489 §14.5
#[test]
fn attributes_behind_message_integrity_are_not_believed() {
    let integrity = format!("00080014{}", "00".repeat(20));
    let bytes = message_of(&format!("{integrity} 00250000 002400047fffffff 77770000"));
    let message = Message::parse(&bytes).unwrap();
    assert!(message.integrity.is_some());
    assert!(!message.use_candidate && message.priority.is_none() && message.unknown.is_empty());
    assert_eq!(message.integrity.unwrap().offset, 20);
}

// RFC 8489 §14
#[test]
fn the_first_of_repeated_attributes_counts() {
    let bytes = message_of("0024000400000001 0024000400000002 0006000161000000 0006000162000000");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.priority, message.username), (Some(1), Some(b"a".as_slice())));
    assert_eq!(message.ufrags(), None, "no colon");
}

#[test]
fn attribute_walks_are_bounded_and_checked() {
    assert!(Message::parse(&message_of(&"80220000".repeat(32))).is_ok());
    assert_eq!(Message::parse(&message_of(&"80220000".repeat(33))).unwrap_err(), StunError::TooManyAttributes);
    for bad in
        ["80220005 00000000", "0024000300000000", "0024000800000000 00000000", "002000080003000000000000", "8022ffff"]
    {
        assert_eq!(Message::parse(&message_of(bad)).unwrap_err(), StunError::Attribute, "{bad}");
    }
}

#[test]
fn mapped_address_and_error_code_are_decoded() {
    let bytes = message_of("00010008 0001 0050 c0000201 0009 0006 00000457 6f6b 0000");
    let message = Message::parse(&bytes).unwrap();
    let mapped = message.mapped_address.unwrap();
    assert_eq!((&mapped.ip[12..], mapped.port), ([192, 0, 2, 1].as_slice(), 80));
    let code = message.error_code.unwrap();
    assert_eq!((code.code, code.reason), (487, b"ok".as_slice()));
    assert_eq!(Message::parse(&message_of("0009000400000700")).unwrap_err(), StunError::Attribute);
}

#[test]
fn the_four_classes_are_told_apart() {
    for (kind, class) in
        [("0001", Class::Request), ("0011", Class::Indication), ("0101", Class::Success), ("0111", Class::Error)]
    {
        let bytes = hex(&format!("{kind}0000 2112a442000102030405060708090a0b"));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method), (class, METHOD_BINDING));
    }
    let bytes = hex("3eef0000 2112a442000102030405060708090a0b");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, 0xFFF));
}

#[test]
fn an_error_without_integrity_ends_with_a_fingerprint() {
    let mut out = [0; 128];
    let error = BindingError { transaction_id: [7; 12], code: 401, reason: "Unauthorized", unknown: &[] };
    let len = error.emit_unauthenticated(&mut out).unwrap();
    let message = Message::parse(&out[..len]).unwrap();
    assert!(message.integrity.is_none());
    assert_eq!(message.fingerprint_matches(), Some(true));
    assert_eq!(message.error_code.unwrap().code, 401);
    assert!(BindingError { code: 299, ..error }.emit_unauthenticated(&mut out).is_err());
    assert!(BindingError { code: 700, ..error }.emit_unauthenticated(&mut out).is_err());
}

#[test]
fn a_v4_mapped_address_is_emitted_as_family_one() {
    let mut out = [0; 96];
    let mapped = Address { ip: dataplane_wire::ip::map_v4([127, 0, 0, 1]), port: 5000 };
    let success = BindingSuccess { transaction_id: [9; 12], mapped };
    let len = success.emit(&mut out, |_| [0; 20]).unwrap();
    assert_eq!(&out[20..26], [0, 0x20, 0, 8, 0, 1]);
    assert_eq!(len, 20 + 12 + 24 + 8);
}

#[test]
fn the_checksum_is_crc32_iso_hdlc() {
    assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
}

proptest! {
    #[test]
    fn a_request_that_is_emitted_is_parsed(
        transaction_id: [u8; 12], username in "[a-zA-Z0-9+/]{4,40}:[a-zA-Z0-9+/]{4,40}", priority: u32,
        use_candidate: bool, tie_breaker: u64, is_controlling: bool, room in 0_usize..300, key: [u8; 24],
    ) {
        let role = if is_controlling { Role::Controlling(tie_breaker) } else { Role::Controlled(tie_breaker) };
        let request = BindingRequest { transaction_id, username: username.as_bytes(), priority, use_candidate, role };
        let mut out = [0; 300];
        let len = request.emit(&mut out, |parts| hmac(&key, parts)).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        prop_assert_eq!((message.class, message.method), (Class::Request, METHOD_BINDING));
        prop_assert_eq!(message.transaction_id, transaction_id);
        prop_assert_eq!(message.username, Some(username.as_bytes()));
        prop_assert_eq!(message.priority, Some(priority));
        prop_assert_eq!(message.use_candidate, use_candidate);
        prop_assert_eq!(message.role, Some(role));
        prop_assert!(is_authentic(&message, &key));
        prop_assert_eq!(message.fingerprint_matches(), Some(true));
        let fits = request.emit(&mut vec![0; room], |_| [0; 20]).is_ok();
        prop_assert_eq!(fits, room >= len);
    }

    #[test]
    fn a_success_that_is_emitted_is_parsed(
        transaction_id: [u8; 12], is_ipv4: bool, raw: [u8; 16], port: u16, room in 0_usize..100, key: [u8; 24],
    ) {
        let ip = if is_ipv4 { dataplane_wire::ip::map_v4([raw[0], raw[1], raw[2], raw[3]]) } else { raw };
        let success = BindingSuccess { transaction_id, mapped: Address { ip, port } };
        let mut out = [0; 96];
        let len = success.emit(&mut out, |parts| hmac(&key, parts)).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        prop_assert_eq!(message.class, Class::Success);
        prop_assert_eq!(message.xor_mapped_address, Some(Address { ip, port }));
        prop_assert!(is_authentic(&message, &key));
        prop_assert_eq!(message.fingerprint_matches(), Some(true));
        prop_assert_eq!(success.emit(&mut vec![0; room], |_| [0; 20]).is_ok(), room >= len);
    }

    #[test]
    fn an_error_that_is_emitted_is_parsed(
        transaction_id: [u8; 12], code in 300_u16..700, reason in "[ -~]{0,40}",
        unknown in proptest::collection::vec(any::<u16>(), 0..6), key: [u8; 24],
    ) {
        let error = BindingError { transaction_id, code, reason: &reason, unknown: &unknown };
        let mut out = [0; 200];
        let len = error.emit(&mut out, |parts| hmac(&key, parts)).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        prop_assert_eq!(message.class, Class::Error);
        let found = message.error_code.unwrap();
        prop_assert_eq!((found.code, found.reason), (code, reason.as_bytes()));
        prop_assert!(message.unknown.is_empty() && is_authentic(&message, &key));
        prop_assert_eq!(message.fingerprint_matches(), Some(true));
    }
}

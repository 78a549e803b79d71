// SPDX-License-Identifier: Apache-2.0
//! Ethernet, IP and UDP.

use crate::hex;
use dataplane_wire::{FrameError, parse_frame};

const MACS: &str = "020000000001 020000000002";
const V4: &str = "4502 0021 0000 4000 40 11 0000 c0000201 c6336402";
const UDP: &str = "1f90 2710 000d 0000 68656c6c6f";

fn v4_frame(tags: &str) -> Vec<u8> {
    hex(&format!("{MACS}{tags}0800{V4}{UDP}"))
}

#[test]
fn an_ipv4_datagram_gives_mapped_addresses_ports_and_payload() {
    let frame = v4_frame("");
    let udp = parse_frame(&frame).unwrap();
    assert_eq!(udp.src_ip, *hex("00000000000000000000ffffc0000201").as_slice());
    assert_eq!(udp.dst_ip, *hex("00000000000000000000ffffc6336402").as_slice());
    assert_eq!((udp.src_port, udp.dst_port), (8080, 10000));
    assert_eq!((udp.payload, udp.payload_offset), (b"hello".as_slice(), 42));
    assert!(udp.is_ipv4);
    assert_eq!(udp.ecn, 2);
}

#[test]
fn trailing_ethernet_padding_is_cut() {
    let mut frame = v4_frame("");
    frame.extend([0; 13]);
    assert_eq!(parse_frame(&frame).unwrap().payload, b"hello");
}

#[test]
fn one_and_two_vlan_tags_are_passed_and_three_are_not() {
    assert_eq!(parse_frame(&v4_frame("81000064")).unwrap().payload_offset, 46);
    let two = v4_frame("88a800c881000064");
    assert_eq!(parse_frame(&two).unwrap().payload_offset, 50);
    assert_eq!(dataplane_wire::eth::parse(&two).unwrap().vlan_ids, [Some(200), Some(100)]);
    assert_eq!(parse_frame(&v4_frame("88a800c88100006481000064")), Err(FrameError::TooManyTags));
}

#[test]
fn ipv4_options_are_skipped() {
    let frame = hex(&format!("{MACS}0800 4600 0025 0000 4000 40 11 0000 c0000201 c6336402 01010101 {UDP}"));
    let udp = parse_frame(&frame).unwrap();
    assert_eq!((udp.payload, udp.payload_offset), (b"hello".as_slice(), 46));
}

#[test]
fn fragments_are_left_to_the_kernel() {
    for flags in ["2000", "0001", "3fff"] {
        let v4 = V4.replacen("4000", flags, 1);
        assert_eq!(parse_frame(&hex(&format!("{MACS}0800{v4}{UDP}"))), Err(FrameError::Fragment), "{flags}");
    }
}

#[test]
fn lengths_that_contradict_the_bytes_are_refused() {
    let good = v4_frame("");
    for (at, value, wanted) in [
        (14, 0x44, FrameError::BadIp),     // four words of header
        (14, 0x65, FrameError::BadIp),     // version 6 behind the type of version 4
        (17, 0x13, FrameError::BadIp),     // total below the header
        (17, 0x22, FrameError::Truncated), // total beyond the frame
        (39, 0x07, FrameError::BadUdp),    // UDP below its header
        (39, 0x0e, FrameError::Truncated), // UDP beyond IP
        (23, 0x06, FrameError::NotUdp),
        (13, 0x06, FrameError::NotIp),
    ] {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(parse_frame(&frame), Err(wanted), "byte {at}");
    }
    for len in 0..good.len() {
        assert!(parse_frame(&good[..len]).is_err(), "{len} bytes");
    }
}

const V6_ADDRESSES: &str = "20010db8000000000000000000000001 20010db8000000000000000000000002";

#[test]
fn an_ipv6_datagram_is_parsed() {
    let frame = hex(&format!("{MACS}86dd 60300000 000d 11 40 {V6_ADDRESSES} {UDP}"));
    let udp = parse_frame(&frame).unwrap();
    assert_eq!(udp.src_ip, *hex("20010db8000000000000000000000001").as_slice());
    assert_eq!((udp.payload, udp.payload_offset, udp.is_ipv4, udp.ecn), (b"hello".as_slice(), 62, false, 3));
    for len in 0..frame.len() {
        assert!(parse_frame(&frame[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn an_ipv6_fragment_is_flagged_and_an_atomic_one_is_read() {
    let with = |fragment: &str| hex(&format!("{MACS}86dd 60000000 0015 2c 40 {V6_ADDRESSES} {fragment} {UDP}"));
    assert_eq!(parse_frame(&with("1100000100000000")), Err(FrameError::Fragment));
    assert_eq!(parse_frame(&with("1100000800000000")), Err(FrameError::Fragment));
    // RFC 6946 §4
    assert_eq!(parse_frame(&with("1100000000000000")).unwrap().payload_offset, 70);
    assert_eq!(parse_frame(&with("3c00000000000000")), Err(FrameError::NotUdp));
}

#[test]
fn other_ipv6_extension_headers_are_not_ours() {
    let frame = hex(&format!("{MACS}86dd 60000000 0015 00 40 {V6_ADDRESSES} 1100000000000000 {UDP}"));
    assert_eq!(parse_frame(&frame), Err(FrameError::NotUdp));
}

// SPDX-License-Identifier: Apache-2.0
//! Payload descriptors, made by hand from the RFC layouts.

use crate::hex;
use dataplane_wire::codec::{Codec, CodecError, Field, FrameInfo, PictureId, Resolution, parse, vp8};
use proptest::prelude::*;

fn info(codec: Codec, payload: &str) -> FrameInfo {
    parse(codec, &hex(payload), None).unwrap()
}

/// 640x480 with scaling bits set, which do not count.
const VP8_KEYFRAME: &str = "500100 9d012a 8042 e0c1";

// V1, RFC 7741 §4.2
#[test]
fn a_vp8_descriptor_without_extensions_is_legal() {
    let found = info(Codec::Vp8, &format!("10{VP8_KEYFRAME}"));
    assert!(found.keyframe_start && found.frame_start && !found.discardable && !found.has_layer_ids);
    assert_eq!(found.resolution, Some(Resolution { width: 640, height: 480 }));
    assert_eq!((found.picture_id, found.tl0_pic_idx, found.keyidx, found.descriptor_len), (None, None, None, 1));
}

// V1
#[test]
fn a_full_vp8_descriptor_gives_every_number_with_its_place() {
    // X N S PID=0 | I L T K | M 15-bit id | TL0PICIDX | TID=2 Y KEYIDX=17
    let found = info(Codec::Vp8, &format!("b0 f0 9234 56 b1 {VP8_KEYFRAME}"));
    assert!(found.keyframe_start && found.discardable && found.has_layer_ids && found.layer_sync);
    assert_eq!(found.picture_id, Some(PictureId { value: 0x1234, is_15_bit: true, offset: 2 }));
    assert_eq!(found.tl0_pic_idx, Some(Field { value: 0x56, offset: 4 }));
    assert_eq!(found.keyidx, Some(Field { value: 17, offset: 5 }));
    assert_eq!((found.temporal_id, found.descriptor_len), (2, 6));
}

// V1
#[test]
fn vp8_fields_come_alone_too() {
    let found = info(Codec::Vp8, "90 80 12 01");
    assert_eq!(found.picture_id, Some(PictureId { value: 0x12, is_15_bit: false, offset: 2 }));
    assert!(found.frame_start && !found.keyframe_start, "P bit of the frame tag");
    let found = info(Codec::Vp8, "90 20 ff 00");
    assert_eq!((found.temporal_id, found.keyidx), (3, None));
    let found = info(Codec::Vp8, "90 10 ff 00");
    assert_eq!((found.temporal_id, found.has_layer_ids, found.keyidx.unwrap().value), (0, false, 31));
}

// V1
#[test]
fn only_the_first_partition_starts_a_vp8_frame() {
    assert!(!info(Codec::Vp8, "00 00").frame_start, "S clear");
    assert!(!info(Codec::Vp8, "11 00").frame_start, "partition 1");
    assert!(!info(Codec::Vp8, "11 00").keyframe_start);
}

#[test]
fn cut_vp8_descriptors_are_refused() {
    let whole = hex("b0 f0 9234 56 b1 01");
    for len in 0..whole.len() {
        assert_eq!(parse(Codec::Vp8, &whole[..len], None), Err(CodecError::Truncated), "{len} bytes");
    }
    assert!(parse(Codec::Vp8, &whole, None).is_ok());
}

#[test]
fn a_vp8_patch_outside_the_prefix_changes_nothing() {
    let mut bytes = hex("b0 f0 9234 56 b1 01");
    let found = parse(Codec::Vp8, &bytes, None).unwrap();
    let before = bytes.clone();
    assert_eq!(vp8::patch(&mut bytes[..5], &found, 1, 1, 1), Err(CodecError::OutOfBounds));
    assert_eq!(bytes, before);
    let mut only_id = hex("90 80 9234 01");
    let id_info = parse(Codec::Vp8, &only_id, None).unwrap();
    assert_eq!(vp8::patch(&mut only_id[..3], &id_info, 1, 1, 1), Err(CodecError::OutOfBounds));
    assert_eq!(only_id, hex("90 80 9234 01"));
    vp8::patch(&mut bytes[..6], &found, 0xFFFF, 2, 0xFF).unwrap();
    assert_eq!(bytes, hex("b0 f0 ffff 02 bf 01"));
}

// N1, RFC 9628 §4.2
#[test]
fn a_vp9_keyframe_with_a_structure_is_read() {
    // I L B E V, id 15 bit, TID 1 U SID 0, TL0, SS: 2 layers with sizes and one picture with 1 reference
    let found = info(Codec::Vp9, "ae 8123 30 44 38 0140 00f0 0280 01e0 01 04 01 ff");
    assert!(found.keyframe_start && found.frame_start && found.frame_end_hint && found.layer_sync);
    assert_eq!(found.picture_id, Some(PictureId { value: 0x123, is_15_bit: true, offset: 1 }));
    assert_eq!((found.temporal_id, found.spatial_id), (1, 0));
    assert_eq!(found.tl0_pic_idx, Some(Field { value: 0x44, offset: 4 }));
    assert_eq!(found.resolution, Some(Resolution { width: 640, height: 480 }));
    assert_eq!(found.descriptor_len, 17);
}

// N1
#[test]
fn a_vp9_flexible_inter_frame_has_references_and_no_tl0() {
    // I P L F, id 7 bit, TID 2 SID 1 D, two references
    let found = info(Codec::Vp9, "f1 05 43 03 04 ff");
    assert_eq!((found.temporal_id, found.spatial_id, found.inter_layer, found.tl0_pic_idx), (2, 1, true, None));
    assert!(found.inter_picture && found.not_upper_reference && !found.keyframe_start && !found.frame_start);
    assert_eq!(found.descriptor_len, 5);
    assert_eq!(parse(Codec::Vp9, &hex("f0 05 43 03 03 03 02 ff"), None), Err(CodecError::Malformed));
    assert_eq!(parse(Codec::Vp9, &hex("10 ff"), None), Err(CodecError::Malformed), "F without I");
}

// N1
#[test]
fn an_upper_vp9_layer_is_not_a_keyframe_start() {
    assert!(!info(Codec::Vp9, "a8 05 03 44 ff").keyframe_start, "SID 1 with D");
    assert!(info(Codec::Vp9, "a8 05 00 44 ff").keyframe_start);
    assert!(!info(Codec::Vp9, "e8 05 00 44 ff").keyframe_start, "P");
    assert!(!info(Codec::Vp9, "a0 05 00 44 ff").keyframe_start, "no B");
}

#[test]
fn cut_vp9_descriptors_are_refused() {
    let whole = hex("ae 8123 30 44 38 0140 00f0 0280 01e0 01 04 01 ff");
    for len in 0..whole.len() {
        assert_eq!(parse(Codec::Vp9, &whole[..len], None), Err(CodecError::Truncated), "{len} bytes");
    }
}

/// Bits to bytes, for parameter sets.
#[derive(Default)]
struct BitWriter(Vec<bool>);

impl BitWriter {
    fn bits(mut self, value: u32, count: u32) -> Self {
        self.0.extend((0..count).rev().map(|bit| (value >> bit) & 1 == 1));
        self
    }

    fn ue(self, value: u32) -> Self {
        let len = (value + 1).ilog2();
        self.bits(0, len).bits(value + 1, len + 1)
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.push(true);
        while !self.0.len().is_multiple_of(8) {
            self.0.push(false);
        }
        self.0.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }
}

/// 1920x1080: 120 x 68 macroblocks, 8 lines cropped.
fn sps(profile: u32) -> Vec<u8> {
    let mut sps = BitWriter::default().bits(0x67, 8).bits(profile, 8).bits(0, 8).bits(31, 8).ue(0);
    if profile == 100 {
        // 4:2:0, 8 bit, a scaling matrix whose first list has one step back to zero (delta -8).
        sps = sps.ue(1).ue(0).ue(0).bits(0, 1).bits(1, 1).bits(1, 1).ue(16).bits(0, 7);
    }
    sps.ue(0)
        .ue(2)
        .ue(1)
        .bits(0, 1)
        .ue(119)
        .ue(67)
        .bits(1, 1)
        .bits(1, 1)
        .bits(1, 1)
        .ue(0)
        .ue(0)
        .ue(0)
        .ue(4)
        .bits(0, 1)
        .bytes()
}

// H1, RFC 6184 §5.4
#[test]
fn an_h264_parameter_set_or_idr_starts_a_keyframe() {
    for profile in [66, 100] {
        let found = parse(Codec::H264, &sps(profile), None).unwrap();
        assert!(found.keyframe_start && found.frame_start && !found.discardable);
        assert_eq!(found.resolution, Some(Resolution { width: 1920, height: 1080 }), "profile {profile}");
    }
    assert!(info(Codec::H264, "68 ce 3c 80").keyframe_start, "PPS");
    assert!(info(Codec::H264, "65 88 84").keyframe_start, "IDR");
    let slice = info(Codec::H264, "41 9a 00");
    assert!(!slice.keyframe_start && slice.frame_start && !slice.discardable);
    assert!(!info(Codec::H264, "41 1a 00").frame_start, "a later slice");
    assert!(info(Codec::H264, "01 9a 00").discardable, "nal_ref_idc 0");
}

// H1, RFC 6184 §5.7.1
#[test]
fn an_h264_aggregate_is_searched() {
    let sps = sps(66);
    let stap = [vec![0x78, 0, u8::try_from(sps.len()).unwrap()], sps, hex("0004 68ce3c80")].concat();
    let found = parse(Codec::H264, &stap, None).unwrap();
    assert!(found.keyframe_start && found.frame_start && !found.discardable);
    assert_eq!(found.resolution.unwrap().width, 1920);
    assert!(!info(Codec::H264, "78 0003 419a00 0003 411a00").keyframe_start);
    assert_eq!(parse(Codec::H264, &hex("78 0004 419a00"), None), Err(CodecError::Truncated));
    assert_eq!(parse(Codec::H264, &hex("78 0000"), None), Err(CodecError::Truncated));
}

// H1, RFC 6184 §5.8
#[test]
fn only_the_first_h264_fragment_starts() {
    let first = info(Codec::H264, "7c 85 88");
    assert!(first.keyframe_start && first.frame_start);
    for payload in ["7c 05 88", "7c 45 88"] {
        let later = info(Codec::H264, payload);
        assert!(!later.keyframe_start && !later.frame_start, "{payload}");
    }
    let inter = info(Codec::H264, "5c 81 9a");
    assert!(!inter.keyframe_start && inter.frame_start);
    assert_eq!(parse(Codec::H264, &hex("7c 85"), None), Err(CodecError::Truncated));
    assert_eq!(parse(Codec::H264, &hex("e5 88"), None), Err(CodecError::Malformed), "forbidden bit");
    assert_eq!(parse(Codec::H264, &hex("79 88"), None), Err(CodecError::Malformed), "STAP-B");
}

/// A reduced or full AV1 sequence header of 1280x720 (AV1 §5.5.1).
fn sequence_header(is_reduced: bool) -> Vec<u8> {
    let mut bits = BitWriter::default().bits(0, 3).bits(u32::from(is_reduced), 1).bits(u32::from(is_reduced), 1);
    if is_reduced {
        bits = bits.bits(8, 5);
    } else {
        // No timing, no display delay, two operating points, the first with a tier bit.
        bits = bits.bits(0, 1).bits(0, 1).bits(1, 5).bits(0x101, 12).bits(8, 5).bits(0, 1).bits(0x102, 12).bits(4, 5);
    }
    bits.bits(10, 4).bits(9, 4).bits(1279, 11).bits(719, 10).bytes()
}

// AOM RTP 1.0 §4.4
#[test]
fn an_av1_sequence_header_with_n_starts_a_keyframe() {
    for is_reduced in [false, true] {
        let obu = [vec![0x08], sequence_header(is_reduced)].concat();
        let element = [vec![u8::try_from(obu.len()).unwrap()], obu.clone()].concat();
        let resolution = Some(Resolution { width: 1280, height: 720 });
        // W = 2: the first element has a length; W = 0: every element has one; W = 1: none has.
        for (aggregation, body) in
            [(0x28, [element.clone(), hex("3000")].concat()), (0x08, [element, hex("02 3000")].concat()), (0x18, obu)]
        {
            let payload = [vec![aggregation], body].concat();
            let found = parse(Codec::Av1, &payload, None).unwrap();
            assert!(found.keyframe_start && found.frame_start, "{aggregation:02x}");
            assert_eq!((found.resolution, found.descriptor_len), (resolution, 1));
            let mut without_n = payload.clone();
            without_n[0] &= !0x08;
            assert!(!parse(Codec::Av1, &without_n, None).unwrap().keyframe_start);
            let mut continued = payload;
            continued[0] |= 0x80;
            let found = parse(Codec::Av1, &continued, None).unwrap();
            assert!(!found.keyframe_start && !found.frame_start);
        }
    }
}

#[test]
fn av1_layers_come_from_the_obu_extension() {
    let found = info(Codec::Av1, "10 34 48 00");
    assert_eq!((found.temporal_id, found.spatial_id, found.has_layer_ids), (2, 1, true));
    assert!(found.frame_start && !found.keyframe_start);
    for cut in ["", "10", "20", "20 05 30", "20 80"] {
        assert_eq!(parse(Codec::Av1, &hex(cut), None), Err(CodecError::Truncated), "{cut}");
    }
}

// A1, AOM RTP 1.0 §A.8
#[test]
fn the_dependency_descriptor_decides() {
    let with = |payload: &str, descriptor: &str| parse(Codec::Av1, &hex(payload), Some(&hex(descriptor)));
    let found = with("10 30 00", "c5 1234").unwrap();
    let descriptor = found.dependency.unwrap();
    assert!(found.frame_start && found.frame_end_hint && !found.keyframe_start);
    assert_eq!((descriptor.template_id, descriptor.frame_number), (5, 0x1234));
    assert!(!descriptor.has_structure);
    let found = with("10 30 00", "80 0001 80").unwrap();
    assert!(found.keyframe_start && found.dependency.unwrap().has_structure && !found.frame_end_hint);
    assert!(!with("10 30 00", "00 0001 80").unwrap().keyframe_start, "not the first packet");
    assert!(with("", "80 0001 80").unwrap().keyframe_start, "an encrypted payload does not matter");
    assert!(with("10 30 00", "80 0001 40").unwrap().dependency.unwrap().has_active_targets);
    assert_eq!(with("10 30 00", "8000"), Err(CodecError::Truncated));
}

// O1
#[test]
fn every_opus_packet_is_a_frame_and_dtx_is_discardable() {
    let found = info(Codec::Opus, "780011");
    assert!(found.keyframe_start && found.frame_start && found.frame_end_hint && !found.discardable);
    assert!(info(Codec::Opus, "78").discardable);
    assert_eq!(parse(Codec::Opus, &[], None), Err(CodecError::Truncated));
}

#[test]
fn codec_numbers_and_names_are_stable() {
    for (number, name, codec) in [
        (1, "OPUS", Codec::Opus),
        (2, "vp8", Codec::Vp8),
        (3, "VP9", Codec::Vp9),
        (4, "H264", Codec::H264),
        (5, "AV1", Codec::Av1),
    ] {
        assert_eq!((Codec::from_u8(number), Codec::from_name(name), codec as u8), (Some(codec), Some(codec), number));
    }
    assert_eq!((Codec::from_u8(0), Codec::from_u8(6), Codec::from_name("rtx")), (None, None, None));
}

proptest! {
    // V3, V4
    #[test]
    fn a_vp8_patch_changes_the_numbers_and_nothing_else(
        flags in 0_u8..16, is_15_bit: bool, raw: [u8; 5], picture_id: u16, tl0: u8, keyidx: u8,
    ) {
        let mut payload = vec![0x90, flags << 4];
        if flags & 8 != 0 {
            payload.push(if is_15_bit { raw[0] | 0x80 } else { raw[0] & 0x7F });
            if is_15_bit {
                payload.push(raw[1]);
            }
        }
        payload.extend(&raw[2..2 + usize::from(flags & 4 != 0) + usize::from(flags & 3 != 0)]);
        payload.extend([0x01, 0xAA]);
        let before = parse(Codec::Vp8, &payload, None).unwrap();
        let mut patched = payload.clone();
        vp8::patch(&mut patched, &before, picture_id, tl0, keyidx).unwrap();
        let after = parse(Codec::Vp8, &patched, None).unwrap();
        let mask = if is_15_bit { 0x7FFF } else { 0x7F };
        let wanted = FrameInfo {
            picture_id: before.picture_id.map(|id| PictureId { value: picture_id & mask, ..id }),
            tl0_pic_idx: before.tl0_pic_idx.map(|field| Field { value: tl0, ..field }),
            keyidx: before.keyidx.map(|field| Field { value: keyidx & 31, ..field }),
            ..before
        };
        prop_assert_eq!(after, wanted);
        let old = |info: &FrameInfo, bytes: &mut [u8]| {
            let id = info.picture_id.map_or(0, |id| id.value);
            let (tl0, key) = (info.tl0_pic_idx.map_or(0, |f| f.value), info.keyidx.map_or(0, |f| f.value));
            vp8::patch(bytes, info, id, tl0, key).unwrap();
        };
        old(&before, &mut patched);
        prop_assert_eq!(patched, payload);
    }
}

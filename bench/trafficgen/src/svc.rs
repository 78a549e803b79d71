// SPDX-License-Identifier: Apache-2.0
//! Spatial and temporal layers in one SSRC: which part of a picture a packet belongs to, and VP9's payload descriptor for it
//! (RFC 9628 §4.2), in both of its modes. Written from the RFC and read by nothing of the server's, so that each checks the
//! other.

use std::str::FromStr;

use anyhow::{Error, bail};

use crate::fragment::{Bytes, LONGEST};
use crate::payload::Layer;

/// Size of the topmost layer; each one below has half of both sides.
const TOP: [u16; 2] = [1280, 720];

/// A scalability mode (W3C WebRTC SVC): `L1T1` to `L3T3`, and `L2T1_KEY` to `L3T3_KEY`, where a layer builds on the one below
/// in keyframes only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Svc {
    /// Spatial layers, 1 to 3.
    pub spatial: u8,
    /// Temporal layers, 1 to 3.
    pub temporal: u8,
    /// Spatial layers build on each other in keyframes only.
    pub is_key: bool,
    /// References are in each packet, in place of a structure in keyframes.
    pub is_flexible: bool,
}

impl Svc {
    /// One layer.
    pub const NONE: Self = Self { spatial: 1, temporal: 1, is_key: false, is_flexible: false };

    /// Of `packets` of a picture, at least one for each layer, the first of a spatial layer: each has twice those of the one
    /// below.
    fn first_of(self, layer: u8, packets: u64) -> u64 {
        let (layer, layers) = (u64::from(layer), u64::from(self.spatial));
        let first = packets * ((1 << layer) - 1) / ((1 << layers) - 1);
        first.clamp(layer, packets.max(layers) - (layers - layer))
    }

    /// The part that packet `nth` of a picture belongs to.
    pub(crate) fn part(self, nth: u64, packets: u64) -> Part {
        let of = |layer: &u8| self.first_of(*layer, packets) <= nth;
        let spatial = (0..self.spatial).rev().find(of).unwrap_or(0);
        Part {
            spatial,
            begins: nth == self.first_of(spatial, packets),
            ends: nth + 1 == self.first_of(spatial + 1, packets) || nth + 1 == packets,
        }
    }

    /// How many pictures before each of a round the one is that it builds on; which temporal layers they have says [`Layer::of`].
    const fn references(self) -> &'static [u8] {
        match self.temporal {
            0 | 1 => &[1],
            2 => &[2, 1],
            _ => &[4, 1, 2, 1],
        }
    }

    /// Writes the descriptor of a packet; its length. `since` says how many pictures ago the keyframe was.
    pub(crate) fn describe(self, out: &mut [u8; LONGEST], picture: u64, since: u64, part: Part, layer: Layer) -> usize {
        let mut bytes = Bytes::new(out);
        let is_keyframe = since == 0;
        let has_layers = self.spatial > 1 || self.temporal > 1;
        let has_structure = is_keyframe && part.spatial == 0 && part.begins;
        // Nothing above builds on the topmost layer, nor between keyframes on any where they are independent.
        let is_unused = part.spatial + 1 == self.spatial || (self.is_key && !is_keyframe);
        let flags = [
            (0x80, true),
            (0x40, !is_keyframe),
            (0x20, has_layers),
            (0x10, self.is_flexible),
            (0x08, part.begins),
            (0x04, part.ends),
            (0x02, has_structure),
            (0x01, is_unused),
        ];
        bytes.push(flags.iter().filter(|(_, is_set)| *is_set).fold(0, |byte, (bit, _)| byte | bit));
        let [high, low] = (0x8000 | u16::try_from(picture & 0x7fff).unwrap_or(0)).to_be_bytes();
        bytes.push(high);
        bytes.push(low);
        if has_layers {
            let builds_below = part.spatial > 0 && (is_keyframe || !self.is_key);
            let can_switch = layer.id > 0;
            bytes.push(layer.id << 5 | u8::from(can_switch) << 4 | part.spatial << 1 | u8::from(builds_below));
            if !self.is_flexible {
                bytes.push(layer.base);
            }
        }
        if self.is_flexible && !is_keyframe {
            bytes.push(self.reference(since) << 1);
        }
        if has_structure {
            self.structure(&mut bytes);
        }
        bytes.len()
    }

    fn reference(self, since: u64) -> u8 {
        let round = self.references();
        let at = usize::try_from(since % round.len() as u64).unwrap_or(0);
        round.get(at).copied().unwrap_or(1)
    }

    /// The scalability structure: the sizes, and in non-flexible mode the pictures of a round.
    fn structure(self, bytes: &mut Bytes<'_>) {
        bytes.push((self.spatial - 1) << 5 | 0x10 | u8::from(!self.is_flexible) << 3);
        for layer in (0..self.spatial).rev() {
            TOP.iter().flat_map(|side| (side >> layer).to_be_bytes()).for_each(|byte| bytes.push(byte));
        }
        if self.is_flexible {
            return;
        }
        let round = self.references();
        bytes.push(u8::try_from(round.len()).unwrap_or(0));
        for (at, reference) in (0..).zip(round) {
            let layer = Layer::of(at, self.temporal, 0);
            bytes.push(layer.id << 5 | u8::from(layer.id > 0) << 4 | 1 << 2);
            bytes.push(*reference);
        }
    }
}

impl FromStr for Svc {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, is_key) = text.strip_suffix("_KEY").map_or((text, false), |name| (name, true));
        let (spatial, temporal) = match name.as_bytes() {
            [b'L', spatial @ b'1'..=b'3', b'T', temporal @ b'1'..=b'3'] => (spatial - b'0', temporal - b'0'),
            _ => bail!("{text:?} is no mode: L1T1 to L3T3, L2T1_KEY to L3T3_KEY"),
        };
        if is_key && spatial == 1 {
            bail!("{text:?}: one spatial layer builds on no other, in keyframes or elsewhere");
        }
        Ok(Self { spatial, temporal, is_key, is_flexible: false })
    }
}

/// A packet's part of its picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// Spatial layer.
    pub(crate) spatial: u8,
    /// First packet of that layer.
    pub(crate) begins: bool,
    /// Last packet of that layer.
    pub(crate) ends: bool,
}

/// Bytes of the descriptor in front of a payload; `None` where it is cut.
#[must_use]
pub fn descriptor_len(payload: &[u8]) -> Option<usize> {
    let flags = *payload.first()?;
    let has = |bit: u8| flags & bit != 0;
    let mut at = 1;
    if has(0x80) {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    if has(0x20) {
        at += if has(0x10) { 1 } else { 2 };
    }
    if has(0x40) && has(0x10) {
        while payload.get(at)? & 1 != 0 {
            at += 1;
        }
        at += 1;
    }
    if has(0x02) {
        let head = *payload.get(at)?;
        at += 1;
        if head & 0x10 != 0 {
            at += 4 * (usize::from(head >> 5) + 1);
        }
        if head & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at += 1;
            for _ in 0..pictures {
                at += 1 + usize::from(payload.get(at)? >> 2 & 3);
            }
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> Svc {
        text.parse().expect("a mode")
    }

    #[test]
    fn modes_are_read_by_their_names() {
        assert_eq!(mode("L3T2_KEY"), Svc { spatial: 3, temporal: 2, is_key: true, is_flexible: false });
        assert_eq!(mode("L1T1"), Svc::NONE);
        for wrong in ["L4T1", "L1T0", "L1T2_KEY", "S3T3", "l1t1", ""] {
            assert!(wrong.parse::<Svc>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_layer_of_a_picture_begins_and_ends_once() {
        for (svc, packets) in [("L3T1", 7), ("L3T1", 3), ("L2T1", 2), ("L3T3", 20), ("L1T1", 1)] {
            let svc = mode(svc);
            let parts: Vec<Part> = (0..packets).map(|nth| svc.part(nth, packets)).collect();
            for layer in 0..svc.spatial {
                let own: Vec<_> = parts.iter().filter(|part| part.spatial == layer).collect();
                assert!(own.first().is_some_and(|part| part.begins) && own.last().is_some_and(|part| part.ends));
                assert_eq!(own.iter().filter(|part| part.begins).count() + own.iter().filter(|p| p.ends).count(), 2);
            }
            assert!(parts.is_sorted_by_key(|part| part.spatial), "{parts:?}");
        }
    }

    // RFC 9628 §4.2, by hand.
    #[test]
    fn descriptors_are_as_the_rfc_draws_them() {
        let part = |spatial, begins, ends| Part { spatial, begins, ends };
        let written = |svc: Svc, since, part| {
            let mut out = [0; LONGEST];
            let len = svc.describe(&mut out, 5, since, part, Layer::of(since, svc.temporal, 9));
            assert_eq!(descriptor_len(&out), Some(len));
            out[..len].to_vec()
        };
        let key = [0xAA, 0x80, 5, 0, 9, 0x38, 2, 128, 1, 104, 5, 0, 2, 208, 2, 0x04, 2, 0x34, 1];
        assert_eq!(written(mode("L2T2"), 0, part(0, true, false)), key);
        assert_eq!(written(mode("L2T2"), 0, part(1, false, true)), [0xA5, 0x80, 5, 0x03, 9]);
        assert_eq!(written(mode("L2T2"), 1, part(1, true, false)), [0xE9, 0x80, 5, 0x33, 9]);
        assert_eq!(written(mode("L2T2_KEY"), 1, part(1, true, false)), [0xE9, 0x80, 5, 0x32, 9], "D only in keyframes");
        assert_eq!(written(mode("L2T2_KEY"), 1, part(0, true, true))[0] & 1, 1, "Z: nothing above builds on it");
        let flexible = Svc { is_flexible: true, ..mode("L1T3") };
        assert_eq!(written(flexible, 6, part(0, true, true)), [0xFD, 0x80, 5, 0x30, 4], "T1 of the second round");
        assert_eq!(written(Svc::NONE, 3, part(0, true, true)), [0xCD, 0x80, 5]);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a publisher sends: Opus, and video of each codec (VP8 and VP9 with picture ids), keyframes on request, retransmissions, simulcast by RID.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use dataplane_srtp::TxContext;
use dataplane_wire::codec::Codec;
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;

use super::dice::Dice;

/// Bytes in front of what names a packet: of a VP8 descriptor with X, I L T K, a 15-bit picture id, TL0PICIDX, TID and KEYIDX
/// and the frame's first byte; of a VP9 descriptor with I, L, a 15-bit picture id, layer and TL0PICIDX; of an AV1 aggregation
/// header and an OBU header; of a NAL unit's header; of an Opus TOC.
pub(crate) const fn descriptor_len(codec: Codec) -> usize {
    match codec {
        Codec::Vp8 => 7,
        Codec::Vp9 => 5,
        Codec::Av1 => 2,
        Codec::H264 | Codec::Opus => 1,
    }
}

/// One packet as it was published.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    pub(crate) payload: Vec<u8>,
    pub(crate) codec: Codec,
    pub(crate) rtp_ts: u32,
    pub(crate) marker: bool,
    pub(crate) is_keyframe_start: bool,
    pub(crate) sent_ns: u64,
}

/// Everything ever published: (tag of the stream, index) → packet.
pub(crate) type World = Rc<RefCell<BTreeMap<(u32, u64), Truth>>>;

/// Extension ids on the publisher's leg.
pub(crate) mod ids {
    pub(crate) const AUDIO_LEVEL: u8 = 1;
    pub(crate) const ABS_SEND_TIME: u8 = 2;
    pub(crate) const TRANSPORT_SEQ: u8 = 3;
    pub(crate) const MID: u8 = 4;
    pub(crate) const RID: u8 = 10;
    pub(crate) const REPAIRED_RID: u8 = 11;
}

/// One SSRC of a publisher.
pub(crate) struct Outgoing {
    /// Written into each payload, so that a receiver knows whose it is.
    pub(crate) tag: u32,
    pub(crate) is_video: bool,
    pub(crate) codec: Codec,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) pt: u8,
    pub(crate) rtx_pt: u8,
    pub(crate) mid: String,
    pub(crate) rid: String,
    /// Index of the next packet.
    pub(crate) next: u64,
    pub(crate) rtx_next: u64,
    pub(crate) rtp_ts: u32,
    pub(crate) picture_id: u16,
    pub(crate) tl0: u8,
    pub(crate) keyidx: u8,
    /// Packets of a delta frame, and of a keyframe.
    pub(crate) frame_packets: usize,
    pub(crate) keyframe_packets: usize,
    pub(crate) wants_keyframe: bool,
    pub(crate) is_paused: bool,
    pub(crate) next_frame_ns: u64,
    pub(crate) frame_ns: u64,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    /// When keyframes were asked for.
    pub(crate) requests: Vec<u64>,
    /// Numbers that were NACKed.
    pub(crate) nacked: Vec<u16>,
    pub(crate) keyframes: u64,
    /// Payload bytes of each packet, roughly.
    pub(crate) packet_bytes: usize,
}

impl Outgoing {
    fn ticks(&self) -> u32 {
        let rate: u64 = if self.is_video { 90_000 } else { 48_000 };
        u32::try_from(self.frame_ns * rate / 1_000_000_000).unwrap()
    }

    /// The packets of the next frame, protected: (plain header's index, bytes).
    pub(crate) fn frame(
        &mut self,
        tx: &TxContext,
        transport_seq: &mut u16,
        world: &World,
        dice: &mut Dice,
        now_ns: u64,
    ) -> Vec<Vec<u8>> {
        let is_keyframe = self.is_video && std::mem::take(&mut self.wants_keyframe);
        let count = match (self.is_video, is_keyframe) {
            (false, _) => 1,
            (true, false) => self.frame_packets,
            (true, true) => self.keyframe_packets,
        };
        if is_keyframe {
            self.keyframes += 1;
            self.keyidx = (self.keyidx + 1) & 31;
        }
        if self.is_video {
            self.picture_id = (self.picture_id + 1) & 0x7fff;
            self.tl0 = self.tl0.wrapping_add(1);
        }
        self.rtp_ts = self.rtp_ts.wrapping_add(self.ticks());
        let frame: Vec<Vec<u8>> = (0..count)
            .map(|at| {
                let payload = self.payload(is_keyframe, at == 0, at + 1 == count, dice);
                let truth = Truth {
                    payload,
                    codec: self.codec,
                    rtp_ts: self.rtp_ts,
                    marker: self.is_video && at + 1 == count,
                    is_keyframe_start: is_keyframe && at == 0,
                    sent_ns: now_ns,
                };
                let index = self.next;
                self.next += 1;
                self.packets += 1;
                self.octets += u32::try_from(truth.payload.len()).unwrap();
                let bytes = self.protect(tx, index, &truth, transport_seq);
                world.borrow_mut().insert((self.tag, index), truth);
                bytes
            })
            .collect();
        frame
    }

    fn payload(&self, is_keyframe: bool, is_first: bool, is_last: bool, dice: &mut Dice) -> Vec<u8> {
        let mut payload = Vec::new();
        match self.codec {
            Codec::Opus => payload.push(0x78),
            Codec::Vp8 => {
                payload.push(if is_first { 0x90 } else { 0x80 });
                payload.push(0xF0);
                payload.extend_from_slice(&(0x8000 | self.picture_id).to_be_bytes());
                payload.push(self.tl0);
                payload.push(self.keyidx);
                payload.push(if is_keyframe && is_first { 0x10 } else { 0x11 });
            }
            Codec::Vp9 => {
                let inter = if is_keyframe { 0 } else { 0x40 };
                payload.push(0xA0 | inter | (u8::from(is_first) << 3) | (u8::from(is_last) << 2));
                payload.extend_from_slice(&(0x8000 | self.picture_id).to_be_bytes());
                payload.push(0);
                payload.push(self.tl0);
            }
            // A sequence header, alone in front of a keyframe's other packets.
            Codec::Av1 if is_first => payload.extend(if is_keyframe { [0x18, 0x08] } else { [0x10, 0x30] }),
            Codec::Av1 => payload.extend([0x90, 0x30]),
            Codec::H264 => payload.push(if !is_keyframe {
                0x41
            } else if is_first {
                0x67
            } else {
                0x65
            }),
        }
        assert_eq!(payload.len(), descriptor_len(self.codec));
        payload.extend_from_slice(&self.tag.to_be_bytes());
        payload.extend_from_slice(&self.next.to_be_bytes());
        let len = if self.is_video { self.packet_bytes + dice.below(32) } else { 60 + dice.below(60) };
        payload.extend(dice.bytes(len));
        payload
    }

    fn elements<'a>(&'a self, abs: &'a [u8; 3], transport: &'a [u8; 2], is_rtx: bool) -> Vec<(u8, &'a [u8])> {
        let mut elements: Vec<(u8, &[u8])> = vec![(ids::MID, self.mid.as_bytes()), (ids::ABS_SEND_TIME, abs)];
        elements.push((ids::TRANSPORT_SEQ, transport));
        if !self.rid.is_empty() {
            elements.push((if is_rtx { ids::REPAIRED_RID } else { ids::RID }, self.rid.as_bytes()));
        }
        if !self.is_video {
            elements.push((ids::AUDIO_LEVEL, &[0x85]));
        }
        elements
    }

    fn protect(&self, tx: &TxContext, index: u64, truth: &Truth, transport_seq: &mut u16) -> Vec<u8> {
        let number = transport_seq.to_be_bytes();
        *transport_seq = transport_seq.wrapping_add(1);
        let header = HeaderWriter {
            marker: truth.marker,
            has_padding: false,
            pt: self.pt,
            seq: seq::low16(index),
            timestamp: truth.rtp_ts,
            ssrc: self.ssrc,
        };
        seal(tx, index, header, &self.elements(&[1, 2, 3], &number, false), &truth.payload)
    }

    /// The retransmission of a number, if it was ever sent.
    pub(crate) fn retransmission(
        &mut self,
        tx: &TxContext,
        number: u16,
        transport_seq: &mut u16,
        world: &World,
    ) -> Option<Vec<u8>> {
        let index = seq::unroll(self.next.checked_sub(1)?, number);
        let truth = world.borrow().get(&(self.tag, index))?.clone();
        let twcc = transport_seq.to_be_bytes();
        *transport_seq = transport_seq.wrapping_add(1);
        let rtx_index = self.rtx_next;
        self.rtx_next += 1;
        let header = HeaderWriter {
            marker: truth.marker,
            has_padding: false,
            pt: self.rtx_pt,
            seq: seq::low16(rtx_index),
            timestamp: truth.rtp_ts,
            ssrc: self.rtx_ssrc,
        };
        let payload = [&number.to_be_bytes()[..], &truth.payload].concat();
        Some(seal(tx, rtx_index, header, &self.elements(&[1, 2, 3], &twcc, true), &payload))
    }
}

/// A protected RTP packet.
pub(crate) fn seal(
    tx: &TxContext,
    index: u64,
    header: HeaderWriter,
    elements: &[(u8, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; 2048];
    let head = header.emit(&mut out, elements.iter().copied()).unwrap().header_len;
    let len = tx.protect_rtp(index, &mut out, head, 0, payload).unwrap();
    out.truncate(len);
    out
}

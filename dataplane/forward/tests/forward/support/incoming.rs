// SPDX-License-Identifier: Apache-2.0
//! What a receiver gets of one sent stream: decrypts everything, compares it with what was published, keeps the numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use dataplane_srtp::{Direct, ReplayWindow, RxContext};
use dataplane_wire::codec::{Codec, vp8, vp9};
use dataplane_wire::rtp::RtpHeader;
use dataplane_wire::seq;

use super::outgoing::{Truth, World, descriptor_len};

/// A replay window of our own.
pub(crate) struct Windowed {
    top: AtomicU64,
    bits: [AtomicU64; 32],
}

impl Windowed {
    pub(crate) fn new() -> Self {
        Self { top: AtomicU64::new(0), bits: [const { AtomicU64::new(0) }; 32] }
    }

    pub(crate) fn window(&self) -> ReplayWindow<'_> {
        ReplayWindow::new(&self.top, &self.bits)
    }
}

/// One packet as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) codec: Codec,
    pub(crate) tag: u32,
    pub(crate) source_index: u64,
    pub(crate) rtp_ts: u32,
    pub(crate) marker: bool,
    pub(crate) is_keyframe_start: bool,
    pub(crate) picture_id: u16,
    pub(crate) tl0: u8,
    pub(crate) keyidx: u8,
    pub(crate) is_rtx: bool,
    pub(crate) at_ns: u64,
    pub(crate) sent_ns: u64,
    /// Place in the order of arrival.
    pub(crate) order: usize,
}

/// Payload types of a codec on a receiver's leg: of media, and of retransmissions.
pub(crate) const fn payload_types(codec: Codec) -> (u8, u8) {
    match codec {
        Codec::Opus => (109, 0xff),
        Codec::Vp8 => (100, 101),
        Codec::H264 => (102, 103),
        Codec::Vp9 => (104, 105),
        Codec::Av1 => (106, 107),
    }
}

/// The codec of a payload type.
fn codec_of(pt: u8, is_rtx: bool) -> Codec {
    let all = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];
    let pt_of = |codec: &Codec| if is_rtx { payload_types(*codec).1 } else { payload_types(*codec).0 };
    all.into_iter().find(|codec| pt_of(codec) == pt).unwrap_or_else(|| panic!("payload type {pt} was not agreed"))
}

/// What is expected of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) is_video: bool,
    pub(crate) mid: String,
    /// Ids of MID, abs-send-time, audio level on the receiver's leg.
    pub(crate) ids: [u8; 3],
}

/// One received stream.
pub(crate) struct Incoming {
    pub(crate) expected: Expected,
    media: Windowed,
    rtx: Windowed,
    /// By index of the media stream; retransmissions under the original's index.
    pub(crate) got: BTreeMap<u64, Got>,
    pub(crate) duplicates: u64,
    /// Indices of the retransmission stream.
    pub(crate) rtx_indices: BTreeSet<u64>,
    pub(crate) nack_tries: BTreeMap<u64, (u8, u64)>,
    pub(crate) has_keyframe: bool,
    pub(crate) last_pli_ns: u64,
    /// (NTP, RTP) of the last sender report.
    pub(crate) report: Option<(u64, u32, u64)>,
    pub(crate) cname: Vec<u8>,
    /// Numbers to be lost on the way here, by wire number.
    pub(crate) lose: BTreeSet<u16>,
    pub(crate) last_at_ns: u64,
    /// The publisher sends junk: whatever decrypts is fine.
    pub(crate) is_lenient: bool,
    /// Every index of the media SSRC that ever arrived.
    pub(crate) indices: BTreeSet<u64>,
}

impl Incoming {
    pub(crate) fn new(expected: Expected) -> Self {
        Self {
            expected,
            media: Windowed::new(),
            rtx: Windowed::new(),
            got: BTreeMap::new(),
            duplicates: 0,
            rtx_indices: BTreeSet::new(),
            nack_tries: BTreeMap::new(),
            has_keyframe: false,
            last_pli_ns: 0,
            report: None,
            cname: Vec::new(),
            lose: BTreeSet::new(),
            last_at_ns: 0,
            is_lenient: false,
            indices: BTreeSet::new(),
        }
    }

    pub(crate) fn highest(&self) -> Option<u64> {
        self.got.last_key_value().map(|(index, _)| *index)
    }

    /// Takes a packet of one of the two SSRCs; panics where anything is not as it was agreed.
    pub(crate) fn take(&mut self, rx: &RxContext, bytes: &[u8], world: &World, now_ns: u64) {
        let header = RtpHeader::parse(bytes).unwrap();
        let is_rtx = header.ssrc() == self.expected.rtx_ssrc;
        if !is_rtx && self.lose.remove(&header.seq()) {
            return;
        }
        let mut out = vec![0; 2048];
        let window = if is_rtx { self.rtx.window() } else { self.media.window() };
        let opened = rx.receive_rtp(bytes, window, &Direct, &mut out);
        let opened = opened.unwrap_or_else(|error| panic!("{error}: ssrc {} seq {}", header.ssrc(), header.seq()));
        // G12: whatever was sent, an index is used once.
        assert!(is_rtx || self.indices.insert(opened.index), "index {} was used twice", opened.index);
        if self.is_lenient {
            self.last_at_ns = now_ns;
            return;
        }
        let codec = codec_of(header.pt(), is_rtx);
        self.check_extensions(&header);
        let mut payload = &out[..opened.payload_len];
        let mut index = opened.index;
        if is_rtx {
            assert!(self.rtx_indices.insert(opened.index), "a retransmission's index was used twice");
            let original = u16::from_be_bytes([payload[0], payload[1]]);
            index = seq::unroll(self.highest().unwrap_or(0), original);
            payload = &payload[2..];
        }
        let (tag, source_index) = name(codec, payload);
        let truth = world.borrow().get(&(tag, source_index)).cloned().expect("published by somebody");
        assert_eq!(truth.codec, codec, "the payload type is that of the packet's codec");
        let mut got = self.compare(payload, &truth, &header);
        (got.tag, got.source_index, got.is_rtx, got.at_ns) = (tag, source_index, is_rtx, now_ns);
        got.order = self.got.len();
        self.last_at_ns = now_ns;
        self.has_keyframe |= got.is_keyframe_start;
        if let Some(before) = self.got.get(&index) {
            self.duplicates += 1;
            assert_eq!((before.tag, before.source_index), (tag, source_index), "one number means two packets");
        } else {
            self.got.insert(index, got);
        }
    }

    fn compare(&self, payload: &[u8], truth: &Truth, header: &RtpHeader<'_>) -> Got {
        assert_eq!(header.marker(), truth.marker, "G8: the marker is the publisher's");
        let mut got = Got {
            codec: truth.codec,
            tag: 0,
            source_index: 0,
            rtp_ts: header.timestamp(),
            marker: truth.marker,
            is_keyframe_start: truth.is_keyframe_start,
            picture_id: 0,
            tl0: 0,
            keyidx: 0,
            is_rtx: false,
            at_ns: 0,
            sent_ns: truth.sent_ns,
            order: 0,
        };
        // Only picture id, TL0PICIDX and KEYIDX may differ.
        let (numbers, info) = match truth.codec {
            Codec::Vp8 => (2..6, vp8::parse(payload).unwrap()),
            Codec::Vp9 => (1..5, vp9::parse(payload).unwrap()),
            Codec::Opus | Codec::H264 | Codec::Av1 => {
                assert_eq!(payload, truth.payload);
                return got;
            }
        };
        assert_eq!(payload[..numbers.start], truth.payload[..numbers.start]);
        assert_eq!(payload[numbers.end..], truth.payload[numbers.end..]);
        got.picture_id = info.picture_id.unwrap().value;
        got.tl0 = info.tl0_pic_idx.unwrap().value;
        got.keyidx = info.keyidx.map_or(0, |field| field.value);
        got
    }

    /// G9: MID is the receiver's, RID is gone, ids are those of the receiver's m-line.
    fn check_extensions(&self, header: &RtpHeader<'_>) {
        let [mid, send_time, level] = self.expected.ids;
        let listed: Vec<(u8, usize)> = header.extensions().map(|element| (element.id, element.data.len())).collect();
        assert_eq!(header.extension(mid).map(|element| element.data), Some(self.expected.mid.as_bytes()));
        assert_eq!(header.extension(send_time).map(|element| element.data.len()), Some(3), "{listed:?}");
        let has_level = header.extension(level).map(|element| element.data) == Some(&[0x85]);
        assert_eq!(has_level, !self.expected.is_video, "{listed:?}");
        assert_eq!(listed.len(), if self.expected.is_video { 2 } else { 3 }, "{listed:?}");
    }

    /// Numbers that are missing between the first and the highest.
    pub(crate) fn missing(&self) -> Vec<u64> {
        let Some((first, _)) = self.got.first_key_value() else { return Vec::new() };
        let highest = self.highest().unwrap();
        (*first..highest).filter(|index| !self.got.contains_key(index)).collect()
    }

    /// The (tag, index) pairs in the order of the receiver's numbers.
    pub(crate) fn sources(&self) -> Vec<(u32, u64)> {
        self.got.values().map(|got| (got.tag, got.source_index)).collect()
    }
}

/// Which packet it is: (tag of the stream, index).
fn name(codec: Codec, payload: &[u8]) -> (u32, u64) {
    let at = descriptor_len(codec);
    let tag = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    (tag, u64::from_be_bytes(payload[at + 4..at + 12].try_into().unwrap()))
}

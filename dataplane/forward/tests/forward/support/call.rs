// SPDX-License-Identifier: Apache-2.0
//! A call: clients, tracks and subscriptions programmed into the segment, and the loop that runs them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use dataplane_abi::codec::{Cipher, EgressMode, MediaKind, NO_PT, TransportKind, feedback_flags, transport_flags};
use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{Credential, KeyIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::limits::EXTENSIONS;
use dataplane_srtp::{MasterKey, Profile, RxContext, TxContext};
use dataplane_wire::codec::Codec;
use dataplane_wire::ext::ExtKind;

use super::bed::Bed;
use super::client::{Client, flow};
use super::incoming::{Expected, Incoming, payload_types};
use super::outgoing::{Outgoing, World, ids};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Names a client in [`Call::clients`].
pub(crate) type Who = usize;

/// A track as the test knows it.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) track: TrackRef,
    pub(crate) is_video: bool,
    pub(crate) codec: Codec,
    pub(crate) publisher: Who,
    /// Tags of its encodings, lowest quality first.
    pub(crate) tags: Vec<u32>,
}

/// Sees what the server sends.
pub(crate) type Watch = Box<dyn FnMut(&dataplane_io::simulated::Sent)>;

/// How a call behaves.
pub(crate) struct Call {
    pub(crate) bed: Bed,
    pub(crate) clients: Vec<Client>,
    pub(crate) world: World,
    /// Worker that a flow's packets arrive at, where a test decides it.
    pub(crate) steer: BTreeMap<FlowKey, usize>,
    pub(crate) profile: Profile,
    /// Everything the server sent to addresses that nobody has.
    pub(crate) strays: Vec<dataplane_io::simulated::Sent>,
    pub(crate) tick_ns: u64,
    /// Sees every datagram that the server sends.
    pub(crate) watch: Option<Watch>,
    /// What clients sent, where a test wants it.
    pub(crate) captured: Option<Vec<(FlowKey, Vec<u8>)>>,
    next_tag: u32,
    next_ssrc: u32,
}

fn put(target: &mut [u8], bytes: &[u8]) -> u8 {
    target[..bytes.len()].copy_from_slice(bytes);
    u8::try_from(bytes.len()).unwrap()
}

fn extension_ids(pairs: &[(ExtKind, u8)]) -> [u8; EXTENSIONS] {
    let mut table = [0; EXTENSIONS];
    for (kind, id) in pairs {
        table[*kind as usize] = *id;
    }
    table
}

pub(crate) fn credential(ufrag: &str, pwd: &str, remote: &str) -> Credential {
    let mut credential = Credential::zeroed();
    credential.local_ufrag_len = put(&mut credential.local_ufrag, ufrag.as_bytes());
    credential.local_pwd_len = put(&mut credential.local_pwd, pwd.as_bytes());
    credential.remote_ufrag_len = put(&mut credential.remote_ufrag, remote.as_bytes());
    credential
}

fn set_shown(record: &mut SubscriptionIntent, track: Option<&Track>) {
    record.track = track.map_or(TrackRef::NONE, |track| track.track);
    (record.pt, record.rtx_pt) = track.map_or((NO_PT, NO_PT), |track| payload_types(track.codec));
}

impl Call {
    pub(crate) fn new(seed: u64, workers: u32) -> Self {
        Self::over(Bed::new(seed, workers))
    }

    pub(crate) fn over(bed: Bed) -> Self {
        Self {
            bed,
            clients: Vec::new(),
            world: Rc::new(RefCell::new(BTreeMap::new())),
            steer: BTreeMap::new(),
            profile: Profile::AeadAes128Gcm,
            strays: Vec::new(),
            tick_ns: MS,
            watch: None,
            captured: None,
            next_tag: 1,
            next_ssrc: 1000,
        }
    }

    fn keys(&mut self) -> (KeyIntent, TxContext, RxContext) {
        let profile = self.profile;
        let mut half = || {
            let (key, salt) = (self.bed.dice.bytes(profile.key_len()), self.bed.dice.bytes(profile.salt_len()));
            (MasterKey::new(profile, &key, &salt).unwrap(), key, salt)
        };
        let ((up, up_key, up_salt), (down, down_key, down_salt)) = (half(), half());
        let mut record = KeyIntent::zeroed();
        record.cipher = match profile {
            Profile::AeadAes128Gcm => Cipher::AeadAes128Gcm,
            Profile::AeadAes256Gcm => Cipher::AeadAes256Gcm,
            Profile::AesCm128HmacSha1_80 => Cipher::AesCm128HmacSha1_80,
        }
        .code();
        record.key_len = put(&mut record.rx_key, &up_key);
        record.salt_len = put(&mut record.rx_salt, &up_salt);
        put(&mut record.tx_key, &down_key);
        put(&mut record.tx_salt, &down_salt);
        (record, TxContext::new(&up), RxContext::new(&down))
    }

    /// A participant whose transport is programmed, with keys, and who begins to send checks.
    pub(crate) fn join(&mut self, worker: usize) -> Who {
        let who = self.clients.len();
        let host = u8::try_from(who % 250 + 1).unwrap();
        let address = flow(host, u16::try_from(20_000 + who).unwrap());
        self.steer.insert(address, worker);
        let (key, tx, rx) = self.keys();
        let intent = &mut self.bed.intent;
        let transport = intent.allocate_transport().unwrap();
        let key_ref = intent.allocate_key().unwrap();
        intent.write_key(key_ref, &key).unwrap();
        let (ufrag, pwd) = (format!("srv{who:05}"), format!("password-of-server-{who:06}"));
        let remote = format!("cli{who}");
        let mut record = self.transport_record(transport);
        record.key = key_ref;
        record.cipher = key.cipher;
        record.credentials = [credential(&ufrag, &pwd, &remote), Credential::zeroed()];
        self.bed.intent.publish_transport(transport.slot, &record).unwrap();
        self.clients.push(Client::new(transport, address, (tx, rx), [&ufrag, &pwd, &remote]));
        who
    }

    pub(crate) fn transport_record(&self, transport: TransportRef) -> TransportIntent {
        let mut record = TransportIntent::zeroed();
        record.generation = transport.generation;
        record.kind = TransportKind::Webrtc.code();
        record.flags = transport_flags::TRANSPORT_CC | transport_flags::REDUCED_SIZE;
        record.rtcp_ssrc = 0x0B00_0000 | transport.slot;
        record.extension_ids = extension_ids(&[
            (ExtKind::AudioLevel, ids::AUDIO_LEVEL),
            (ExtKind::AbsSendTime, ids::ABS_SEND_TIME),
            (ExtKind::TransportSeq, ids::TRANSPORT_SEQ),
            (ExtKind::Mid, ids::MID),
            (ExtKind::Rid, ids::RID),
            (ExtKind::RepairedRid, ids::REPAIRED_RID),
        ]);
        record
    }

    /// A track of `who`: one encoding, SSRC signalled.
    pub(crate) fn publish(&mut self, who: Who, is_video: bool) -> Track {
        self.publish_as(who, is_video, &[""], true)
    }

    /// A track with one encoding per RID (`""` = none), SSRCs signalled or to be learned.
    pub(crate) fn publish_as(&mut self, who: Who, is_video: bool, rids: &[&str], is_signalled: bool) -> Track {
        self.publish_codec(who, if is_video { Codec::Vp8 } else { Codec::Opus }, rids, is_signalled)
    }

    /// A track of any codec.
    pub(crate) fn publish_codec(&mut self, who: Who, codec: Codec, rids: &[&str], is_signalled: bool) -> Track {
        let is_video = codec != Codec::Opus;
        let track = self.bed.intent.allocate_track().unwrap();
        let mid = self.clients[who].outgoing.len().to_string();
        let mut record = TrackIntent::zeroed();
        record.generation = track.generation;
        record.transport = self.clients[who].transport;
        record.kind = if is_video { MediaKind::Video } else { MediaKind::Audio }.code();
        record.codec = codec as u8;
        record.pt = if is_video { 96 } else { 111 };
        record.rtx_pt = if is_video { 97 } else { NO_PT };
        record.clock_rate = if is_video { 90_000 } else { 48_000 };
        record.feedback = if is_video { feedback_flags::NACK | feedback_flags::PLI | feedback_flags::FIR } else { 0 };
        record.mid_len = put(&mut record.mid, mid.as_bytes());
        record.cname_len = put(&mut record.cname, format!("cname{who}").as_bytes());
        record.encoding_count = u8::try_from(rids.len()).unwrap();
        let mut tags = Vec::new();
        for (at, rid) in rids.iter().enumerate() {
            let outgoing = self.outgoing(codec, &mid, rid, at);
            let encoding = &mut record.encodings[at];
            encoding.rid_len = put(&mut encoding.rid, rid.as_bytes());
            if is_signalled {
                encoding.ssrc = outgoing.ssrc;
                encoding.rtx_ssrc = outgoing.rtx_ssrc;
            }
            tags.push(outgoing.tag);
            self.clients[who].outgoing.push(outgoing);
        }
        self.bed.intent.publish_track(track.slot, &record).unwrap();
        Track { track, is_video, codec, publisher: who, tags }
    }

    fn outgoing(&mut self, codec: Codec, mid: &str, rid: &str, at: usize) -> Outgoing {
        let is_video = codec != Codec::Opus;
        let tag = self.next_tag;
        self.next_tag += 1;
        let ssrc = self.fresh_ssrc();
        let rtx_ssrc = if is_video { self.fresh_ssrc() } else { 0 };
        let dice = &mut self.bed.dice;
        Outgoing {
            tag,
            is_video,
            codec,
            ssrc,
            rtx_ssrc,
            pt: if is_video { 96 } else { 111 },
            rtx_pt: 97,
            mid: mid.to_owned(),
            rid: rid.to_owned(),
            next: dice.next() & 0x7FFF,
            rtx_next: dice.next() & 0x7FFF,
            rtp_ts: u32::try_from(dice.next() & 0xFFFF_FFFF).unwrap(),
            picture_id: u16::try_from(dice.next() & 0x7FFF).unwrap(),
            tl0: dice.byte(),
            keyidx: dice.byte() & 31,
            frame_packets: 1 + at,
            keyframe_packets: 4 + 3 * at,
            wants_keyframe: true,
            is_paused: false,
            next_frame_ns: 0,
            frame_ns: if is_video { 33_333_333 } else { 20 * MS },
            packets: 0,
            octets: 0,
            requests: Vec::new(),
            nacked: Vec::new(),
            keyframes: 0,
            packet_bytes: 300,
        }
    }

    pub(crate) fn fresh_ssrc(&mut self) -> u32 {
        self.next_ssrc += 1;
        self.next_ssrc
    }

    /// Lets `who` receive a track.
    pub(crate) fn subscribe(&mut self, who: Who, track: &Track) -> SubscriptionRef {
        self.add_slot_with(who, track.is_video, Some(track))
    }

    /// A slot of `who` that shows nothing.
    pub(crate) fn add_slot(&mut self, who: Who, is_video: bool) -> SubscriptionRef {
        self.add_slot_with(who, is_video, None)
    }

    fn add_slot_with(&mut self, who: Who, is_video: bool, track: Option<&Track>) -> SubscriptionRef {
        let subscription = self.bed.intent.allocate_subscription().unwrap();
        let mid = format!("r{}", self.clients[who].incoming.len());
        let (ssrc, rtx_ssrc) = (self.fresh_ssrc(), self.fresh_ssrc());
        let rtx_ssrc = if is_video { rtx_ssrc } else { 0 };
        let mut record = SubscriptionIntent::zeroed();
        record.generation = subscription.generation;
        record.transport = self.clients[who].transport;
        record.ssrc = ssrc;
        record.rtx_ssrc = rtx_ssrc;
        set_shown(&mut record, track);
        record.mode = EgressMode::Rewrite.code();
        record.max_encoding = 3;
        record.feedback = feedback_flags::NACK | feedback_flags::PLI;
        record.mid_len = put(&mut record.mid, mid.as_bytes());
        record.extension_ids = extension_ids(&[(ExtKind::Mid, 9), (ExtKind::AbsSendTime, 2), (ExtKind::AudioLevel, 5)]);
        self.bed.intent.publish_subscription(subscription.slot, &record).unwrap();
        self.clients[who].incoming.push(Incoming::new(Expected { ssrc, rtx_ssrc, is_video, mid, ids: [9, 2, 5] }));
        subscription
    }

    /// What a slot shows from here on.
    pub(crate) fn show(&mut self, slot: SubscriptionRef, track: Option<&Track>) {
        let mut record = self.bed.segment.intent_subscription(slot.slot).unwrap();
        set_shown(&mut record, track);
        self.bed.intent.publish_subscription(slot.slot, &record).unwrap();
    }

    pub(crate) fn incoming(&self, who: Who, at: usize) -> &Incoming {
        &self.clients[who].incoming[at]
    }

    pub(crate) fn deliver(&mut self, from: FlowKey, bytes: &[u8]) {
        let now = self.bed.now.mono_ns;
        if let Some(captured) = self.captured.as_mut() {
            captured.push((from, bytes.to_vec()));
        }
        match self.steer.get(&from) {
            Some(worker) => self.bed.network.deliver_to(*worker, from, bytes, now),
            None => self.bed.network.deliver(from, bytes, now),
        }
    }

    /// A receiver's subscription and transport are taken away; it is not there any more.
    pub(crate) fn leave(&mut self, who: Who, subscriptions: &[SubscriptionRef]) {
        for subscription in subscriptions {
            self.bed.intent.retract_subscription(subscription.slot).unwrap();
        }
        let client = &mut self.clients[who];
        client.is_dead = true;
        let key = self.bed.segment.intent_transport(client.transport.slot).unwrap().key;
        self.bed.intent.retract_transport(client.transport.slot).unwrap();
        self.bed.intent.zeroise_key(key).unwrap();
    }

    /// One step of the clock: clients send, workers turn, clients get.
    pub(crate) fn step(&mut self) {
        self.bed.advance(self.tick_ns);
        self.send_clients();
        self.bed.turn();
        self.take_sent();
    }

    pub(crate) fn send_clients(&mut self) {
        let now = self.bed.now;
        for who in 0..self.clients.len() {
            let client = &mut self.clients[who];
            let from = client.flow;
            for packet in client.tick(&self.world, &mut self.bed.dice, now.mono_ns, now.ntp) {
                self.deliver(from, &packet);
            }
        }
    }

    pub(crate) fn take_sent(&mut self) {
        for sent in self.bed.network.take_sent() {
            if let Some(watch) = self.watch.as_mut() {
                watch(&sent);
            }
            let host = usize::from(sent.flow.remote[15]).wrapping_sub(1);
            // Other ports of the same host belong to the same client.
            let who = (0..self.clients.len()).find(|who| {
                self.clients[*who].flow == sent.flow || (who % 250 == host && sent.flow.remote_port >= 40_000)
            });
            let Some(who) = who else {
                self.strays.push(sent);
                continue;
            };
            let (world, now) = (Rc::clone(&self.world), self.bed.now.mono_ns);
            let client = &mut self.clients[who];
            let from = client.flow;
            for answer in client.take(sent.flow, &sent.bytes, &world, now) {
                self.deliver(from, &answer);
            }
        }
    }

    pub(crate) fn run(&mut self, ns: u64) {
        let end = self.bed.now.mono_ns + ns;
        while self.bed.now.mono_ns < end {
            self.step();
        }
    }

    /// Nobody sends media any more; what is under way arrives.
    pub(crate) fn drain(&mut self) {
        for client in &mut self.clients {
            client.outgoing.iter_mut().for_each(|stream| stream.is_paused = true);
        }
        self.run(SECOND);
        self.bed.turn();
        self.bed.turn();
        assert_eq!(self.bed.under_way(), 0, "what was handed over was taken");
        self.bed.assert_frames();
        assert!(self.strays.is_empty(), "{} packets to nobody", self.strays.len());
    }

    /// Every packet of a stream from the first one that a receiver got, once each, in order of its numbers without a gap.
    pub(crate) fn assert_complete(&self, who: Who, at: usize, tag: u32) {
        let stream = self.incoming(who, at);
        let sources = stream.sources();
        assert!(!sources.is_empty(), "client {who} stream {at} got nothing");
        assert_eq!(stream.missing(), Vec::<u64>::new(), "client {who} stream {at} has gaps");
        assert_eq!(stream.duplicates, 0);
        let (_, first) = sources[0];
        let wanted: Vec<(u32, u64)> = {
            let world = self.world.borrow();
            world.range((tag, first)..(tag + 1, 0)).map(|(name, _)| *name).collect()
        };
        assert_eq!(sources.len(), wanted.len(), "client {who} stream {at}");
        assert_eq!(sources, wanted, "client {who} stream {at}");
        let stamps: Vec<u32> = stream.got.values().map(|got| got.rtp_ts).collect();
        for pair in stamps.windows(2) {
            assert!(!dataplane_wire::seq::newer32(pair[0], pair[1]), "RTP time goes back");
        }
    }
}

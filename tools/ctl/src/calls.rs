// SPDX-License-Identifier: Apache-2.0
//! `millrace rooms | participants | streams`: who is in which room, over which path, and what goes to whom, read from intent
//! and durable records. Needs neither plane alive.
//!
//! The names of the JSON's fields are an interface: add, never rename. It must never read a credential or a key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dataplane_abi::codec::{Cipher, MediaKind, TransportKind};
use dataplane_abi::durable::{IngressDurable, PathDurable, TransportDurable, transport_state};
use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{IngressId, RoomRef, TransportRef};
use dataplane_abi::intent::{SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_shm::Segment;
use dataplane_wire::codec::Codec;
use serde::Serialize;

use crate::ledger::load;
use crate::why;

/// A stream that has been silent for so long has stopped, ms. The data plane takes the next lower encoding then.
pub(crate) const SILENT_MS: u64 = 1500;

/// A room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Room {
    /// Its name.
    pub(crate) room: String,
    /// Names of those who publish or hold slots, sorted.
    pub(crate) participants: Vec<String>,
    /// Transports, those of viewers without a name included.
    pub(crate) transports: u64,
    /// Transports with keys and consent.
    pub(crate) live: u64,
    /// Audio tracks.
    pub(crate) audio_tracks: u64,
    /// Video tracks.
    pub(crate) video_tracks: u64,
    /// Subscriptions that show a track.
    pub(crate) subscriptions: u64,
}

/// A participant's transport.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Participant {
    /// Its room.
    pub(crate) room: String,
    /// Its id; empty for a viewer that came by WHEP.
    pub(crate) participant: String,
    /// Slot and generation, `12.3`: what workers and the other commands call it.
    pub(crate) transport: String,
    /// `waiting` (no valid check), `keyless` (no DTLS yet), `live`, or `silent` (no consent).
    pub(crate) state: &'static str,
    /// `webrtc`, …
    pub(crate) kind: &'static str,
    /// SRTP profile, once there are keys.
    pub(crate) cipher: Option<&'static str>,
    /// The worker that owns it.
    pub(crate) worker: Option<u64>,
    /// The peer's address and port on the path in use.
    pub(crate) remote: Option<String>,
    /// Ours.
    pub(crate) local: Option<String>,
    /// Validated paths, that in use included.
    pub(crate) paths: u64,
    /// Since the last valid check, ms.
    pub(crate) consent_age_ms: Option<u64>,
    /// Round trip from RTCP, ms.
    pub(crate) rtt_ms: Option<f64>,
    /// Packets received that passed authentication.
    pub(crate) rx_packets: u64,
    /// Their bytes.
    pub(crate) rx_bytes: u64,
    /// Packets sent.
    pub(crate) tx_packets: u64,
    /// Their bytes.
    pub(crate) tx_bytes: u64,
    /// Packets that failed authentication.
    pub(crate) auth_failures: u64,
    /// Tracks that it publishes.
    pub(crate) tracks: u64,
    /// Tracks that it is shown.
    pub(crate) subscriptions: u64,
}

/// One encoding of a published track.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Encoding {
    /// From the lowest quality, 0.
    pub(crate) encoding: u8,
    /// RID; empty without simulcast.
    pub(crate) rid: String,
    /// SSRC that it comes with; none before the first packet.
    pub(crate) ssrc: Option<u32>,
    /// A packet has come within the last 1.5 s.
    pub(crate) alive: bool,
    /// Since its last packet, ms.
    pub(crate) silent_ms: Option<u64>,
    /// Packets received.
    pub(crate) packets: u64,
    /// Payload bytes received.
    pub(crate) bytes: u64,
    /// Packets repaired by retransmission.
    pub(crate) repaired: u64,
    /// Packets given up.
    pub(crate) lost: u64,
    /// Sequence numbers that were asked for again.
    pub(crate) nacks: u64,
    /// Keyframes seen.
    pub(crate) keyframes: u64,
    /// Keyframes asked for.
    pub(crate) keyframe_requests: u64,
    /// Since the newest keyframe, ms.
    pub(crate) keyframe_age_ms: Option<u64>,
}

/// A track on its way to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Receiver {
    /// Its id; empty for a viewer that came by WHEP.
    pub(crate) participant: String,
    /// Its transport.
    pub(crate) transport: String,
    /// Its media section.
    pub(crate) mid: String,
    /// SSRC that we send with.
    pub(crate) ssrc: u32,
    /// Encoding that it gets.
    pub(crate) encoding: Option<u8>,
    /// Highest that its subscription allows.
    pub(crate) max_encoding: u8,
    /// Packets sent.
    pub(crate) packets: u64,
    /// Payload bytes sent.
    pub(crate) bytes: u64,
    /// Retransmissions sent.
    pub(crate) retransmitted: u64,
    /// Sequence numbers that it asked for again.
    pub(crate) nacked: u64,
    /// Keyframes that it asked for.
    pub(crate) keyframe_requests: u64,
    /// Loss in its last receiver report, percent.
    pub(crate) loss_percent: f64,
    /// Switches of source or of numbering.
    pub(crate) switches: u64,
    /// Why it gets what it gets, for people.
    pub(crate) why: String,
}

/// A published track and everybody who gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stream {
    /// Its room.
    pub(crate) room: String,
    /// Who publishes it.
    pub(crate) participant: String,
    /// 128-bit id, hexadecimal.
    pub(crate) track: String,
    /// `audio` or `video`.
    pub(crate) kind: &'static str,
    /// Codec.
    pub(crate) codec: &'static str,
    /// The publisher's media section.
    pub(crate) mid: String,
    /// Its encodings, the lowest quality first.
    pub(crate) encodings: Vec<Encoding>,
    /// Who gets it.
    pub(crate) receivers: Vec<Receiver>,
}

/// Everything, read once.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Calls {
    /// By name.
    pub(crate) rooms: Vec<Room>,
    /// By room and name.
    pub(crate) participants: Vec<Participant>,
    /// By room, publisher and media section.
    pub(crate) streams: Vec<Stream>,
}

/// What is published, by slot.
struct Published {
    transports: BTreeMap<u32, TransportIntent>,
    tracks: BTreeMap<u32, TrackIntent>,
    subscriptions: BTreeMap<u32, SubscriptionIntent>,
    rooms: BTreeMap<u32, (u32, String)>,
}

impl Published {
    fn read(segment: &Segment) -> Self {
        let most = segment.capacities();
        let rooms = (0..most.rooms).filter_map(|slot| {
            let room = segment.intent_room(slot)?;
            Some((slot, (room.generation, text(&room.name))))
        });
        Self {
            transports: (0..most.transports).filter_map(|slot| Some((slot, segment.intent_transport(slot)?))).collect(),
            tracks: (0..most.tracks).filter_map(|slot| Some((slot, segment.intent_track(slot)?))).collect(),
            subscriptions: (0..most.subscriptions)
                .filter_map(|slot| Some((slot, segment.intent_subscription(slot)?)))
                .collect(),
            rooms: rooms.collect(),
        }
    }

    fn room(&self, room: RoomRef) -> String {
        let found = self.rooms.get(&room.slot).filter(|(generation, _)| *generation == room.generation);
        found.map(|(_, name)| name.clone()).unwrap_or_default()
    }

    fn transport(&self, transport: TransportRef) -> Option<&TransportIntent> {
        self.transports.get(&transport.slot).filter(|intent| intent.generation == transport.generation)
    }

    fn name_of(&self, transport: TransportRef) -> String {
        self.transport(transport).map(|intent| text(&intent.participant)).unwrap_or_default()
    }

    /// Subscriptions that show a track of a living transport, with their slots.
    fn shown(&self) -> impl Iterator<Item = (u32, &SubscriptionIntent)> {
        let is_shown = |intent: &SubscriptionIntent| {
            let track = self.tracks.get(&intent.track.slot);
            self.transport(intent.transport).is_some()
                && track.is_some_and(|track| track.generation == intent.track.generation)
        };
        self.subscriptions.iter().map(|(slot, intent)| (*slot, intent)).filter(move |(_, intent)| is_shown(intent))
    }
}

impl Calls {
    /// Reads everything; `now_ns` is monotonic.
    pub(crate) fn collect(segment: &Segment, now_ns: u64) -> Self {
        let published = Published::read(segment);
        let mut participants: Vec<Participant> = published
            .transports
            .iter()
            .map(|(slot, intent)| participant(segment, &published, TransportRef::at(*slot, intent.generation), now_ns))
            .collect();
        participants
            .sort_by(|a, b| (&a.room, &a.participant, &a.transport).cmp(&(&b.room, &b.participant, &b.transport)));
        let mut streams: Vec<Stream> = published
            .tracks
            .iter()
            .map(|(slot, intent)| stream(segment, &published, (*slot, intent), now_ns))
            .collect();
        streams.sort_by(|a, b| (&a.room, &a.participant, &a.mid).cmp(&(&b.room, &b.participant, &b.mid)));
        Self { rooms: rooms(&published, &participants, &streams), participants, streams }
    }

    /// Only what belongs to a room and a participant, where they are named.
    pub(crate) fn only(mut self, room: Option<&str>, participant: Option<&str>) -> Self {
        let of_room = |name: &str| room.is_none_or(|room| room == name);
        let is_named = |name: &str| participant.is_none_or(|participant| participant == name);
        self.rooms.retain(|held| of_room(&held.room));
        self.participants.retain(|held| of_room(&held.room) && is_named(&held.participant));
        self.streams.retain(|held| of_room(&held.room));
        for stream in &mut self.streams {
            if !is_named(&stream.participant) {
                stream.receivers.retain(|receiver| is_named(&receiver.participant));
            }
        }
        self.streams.retain(|held| is_named(&held.participant) || !held.receivers.is_empty());
        self
    }
}

fn rooms(published: &Published, participants: &[Participant], streams: &[Stream]) -> Vec<Room> {
    let mut rooms: BTreeMap<String, Room> = published
        .rooms
        .values()
        .map(|(_, name)| (name.clone(), Room { room: name.clone(), ..Room::default() }))
        .collect();
    for held in participants {
        let Some(room) = rooms.get_mut(&held.room) else { continue };
        room.transports += 1;
        room.live += u64::from(held.state == "live");
        if !held.participant.is_empty() && !room.participants.contains(&held.participant) {
            room.participants.push(held.participant.clone());
        }
    }
    for stream in streams {
        let Some(room) = rooms.get_mut(&stream.room) else { continue };
        let tracks =
            if stream.kind == MediaKind::Video.name() { &mut room.video_tracks } else { &mut room.audio_tracks };
        *tracks += 1;
        room.subscriptions += stream.receivers.len() as u64;
    }
    rooms.into_values().collect()
}

fn participant(segment: &Segment, published: &Published, transport: TransportRef, now_ns: u64) -> Participant {
    let Some(intent) = published.transport(transport) else { return Participant::default() };
    let count = |of: &dyn Fn() -> usize| of() as u64;
    let mut held = Participant {
        room: published.room(intent.room),
        participant: text(&intent.participant),
        transport: name(transport),
        state: "waiting",
        kind: TransportKind::from_code(intent.kind).map_or("unknown", TransportKind::name),
        cipher: if intent.key.is_none() { None } else { Cipher::from_code(intent.cipher).map(Cipher::name) },
        tracks: count(&|| published.tracks.values().filter(|track| track.transport == transport).count()),
        subscriptions: count(&|| published.shown().filter(|(_, shown)| shown.transport == transport).count()),
        ..Participant::default()
    };
    let durable = segment.transport(transport.slot);
    let Some(durable) = durable.filter(|durable| load32(&durable.generation) == transport.generation) else {
        return held;
    };
    fill_transport(&mut held, durable, now_ns);
    held
}

fn fill_transport(held: &mut Participant, durable: &TransportDurable, now_ns: u64) {
    held.state = match (load32(&durable.state), held.cipher) {
        (transport_state::SILENT, _) => "silent",
        (transport_state::VALIDATED, Some(_)) => "live",
        (transport_state::VALIDATED, None) => "keyless",
        _ => "waiting",
    };
    held.worker = (load(&durable.owner) & u64::from(u32::MAX)).checked_sub(1);
    let flows = durable.paths.each_ref().map(flow_of);
    held.paths = flows.iter().flatten().count() as u64;
    let active = usize::try_from(load32(&durable.active_path)).ok().and_then(|index| index.checked_sub(1));
    if let Some(flow) = active.and_then(|index| flows.get(index).copied().flatten()) {
        held.remote = Some(address(flow.remote, flow.remote_port));
        held.local = Some(address(flow.local, flow.local_port));
    }
    held.consent_age_ms = age_ms(load(&durable.consent_ns), now_ns);
    held.rtt_ms = Some(load(&durable.rtt_us)).filter(|rtt| *rtt > 0).map(|rtt| ratio(rtt, 1000));
    held.rx_packets = load(&durable.rx_packets);
    held.rx_bytes = load(&durable.rx_bytes);
    held.tx_packets = load(&durable.tx_packets);
    held.tx_bytes = load(&durable.tx_bytes);
    held.auth_failures = load(&durable.auth_failures);
}

fn flow_of(path: &PathDurable) -> Option<FlowKey> {
    let words = path.flow.each_ref().map(load);
    (words[4] != 0).then(|| FlowKey::from_words(words))
}

fn stream(segment: &Segment, published: &Published, (slot, intent): (u32, &TrackIntent), now_ns: u64) -> Stream {
    let encodings: Vec<Encoding> =
        (0..intent.encoding_count).map(|encoding| encoding_of(segment, (slot, intent), encoding, now_ns)).collect();
    let mut stream = Stream {
        room: published.room(intent.room),
        participant: published.name_of(intent.transport),
        track: intent.global_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        kind: MediaKind::from_code(intent.kind).map_or("unknown", MediaKind::name),
        codec: codec_name(intent.codec),
        mid: text(&intent.mid),
        encodings,
        receivers: Vec::new(),
    };
    let to = published.shown().filter(|(_, shown)| shown.track.slot == slot);
    let receivers: Vec<Receiver> =
        to.map(|(subscription, shown)| receiver(segment, published, (subscription, shown), &stream)).collect();
    stream.receivers = receivers;
    stream
        .receivers
        .sort_by(|a, b| (&a.participant, &a.transport, &a.mid).cmp(&(&b.participant, &b.transport, &b.mid)));
    stream
}

fn encoding_of(segment: &Segment, (slot, intent): (u32, &TrackIntent), encoding: u8, now_ns: u64) -> Encoding {
    let rid = intent.encodings.get(usize::from(encoding)).map(|signalled| text(&signalled.rid)).unwrap_or_default();
    let mut held = Encoding { encoding, rid, ..Encoding::default() };
    let durable = segment.ingress(IngressId::of(slot, encoding));
    let is_it = |durable: &&IngressDurable| load32(&durable.generation) == intent.generation;
    let Some(durable) = durable.filter(is_it) else { return held };
    held.ssrc = Some(load32(&durable.ssrc)).filter(|ssrc| *ssrc != 0);
    held.silent_ms = age_ms(load(&durable.last_arrival_ns), now_ns);
    held.alive = held.silent_ms.is_some_and(|silent| silent <= SILENT_MS);
    held.packets = load(&durable.packets);
    held.bytes = load(&durable.bytes);
    held.repaired = load(&durable.repaired);
    held.lost = load(&durable.lost);
    held.nacks = load(&durable.nacks);
    held.keyframes = load(&durable.keyframes);
    held.keyframe_requests = load(&durable.keyframe_requests);
    held.keyframe_age_ms = age_ms(load(&durable.keyframe_ns), now_ns);
    held
}

fn receiver(
    segment: &Segment,
    published: &Published,
    (slot, intent): (u32, &SubscriptionIntent),
    stream: &Stream,
) -> Receiver {
    let mut held = Receiver {
        participant: published.name_of(intent.transport),
        transport: name(intent.transport),
        mid: text(&intent.mid),
        ssrc: intent.ssrc,
        max_encoding: intent.max_encoding,
        ..Receiver::default()
    };
    if let Some(durable) = segment.egress(slot)
        && load32(&durable.generation) == intent.generation
    {
        let source = u32::try_from(load(&durable.source) & u64::from(u32::MAX))
            .ok()
            .and_then(|source| source.checked_sub(1))
            .map(IngressId);
        held.encoding = source.filter(|source| source.track_slot() == intent.track.slot).map(IngressId::encoding);
        held.packets = load(&durable.packets);
        held.bytes = load(&durable.octets);
        held.retransmitted = load(&durable.retransmitted);
        held.nacked = load(&durable.nacked);
        held.keyframe_requests = load(&durable.keyframe_requests);
        held.loss_percent = ratio((load(&durable.report) & 0xff) * 100, 256);
        held.switches = load(&durable.segment_count).saturating_sub(1);
    }
    let transport = segment.transport(intent.transport.slot);
    let is_silent = transport.is_some_and(|durable| load32(&durable.state) != transport_state::VALIDATED);
    let has_keys = published.transport(intent.transport).is_some_and(|transport| !transport.key.is_none());
    held.why = why::explain(stream, &held, is_silent, has_keys);
    held
}

const fn codec_name(code: u8) -> &'static str {
    match Codec::from_u8(code) {
        Some(Codec::Opus) => "opus",
        Some(Codec::Vp8) => "VP8",
        Some(Codec::Vp9) => "VP9",
        Some(Codec::H264) => "H264",
        Some(Codec::Av1) => "AV1",
        None => "unknown",
    }
}

fn name(transport: TransportRef) -> String {
    format!("{}.{}", transport.slot, transport.generation)
}

/// A zero-padded name; what is not text shows as such.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or(&[]));
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn address(bytes: [u8; 16], port: u16) -> String {
    let ip = IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
    SocketAddr::new(ip, port).to_string()
}

/// Age of a monotonic stamp; none where it was never set.
fn age_ms(at_ns: u64, now_ns: u64) -> Option<u64> {
    (at_ns > 0).then(|| now_ns.saturating_sub(at_ns) / 1_000_000)
}

fn load32(cell: &std::sync::atomic::AtomicU32) -> u32 {
    cell.load(std::sync::atomic::Ordering::Acquire)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(value: u64, of: u64) -> f64 {
    value as f64 / of as f64
}

#[cfg(test)]
mod tests;

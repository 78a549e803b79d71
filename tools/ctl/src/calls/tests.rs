// SPDX-License-Identifier: Apache-2.0
//! A call between ada, who sends three encodings, and bob, who watches, as a segment holds it.

use std::sync::atomic::Ordering::Relaxed;

use dataplane_abi::flow::map_v4;
use dataplane_abi::ids::KeyRef;
use dataplane_abi::intent::{EncodingIntent, RoomIntent};
use dataplane_abi::limits::Capacities;
use dataplane_shm::{Access, IntentWriter, SegmentFds};
use serde_json::json;

use super::*;
use crate::calls_text;
use crate::golden;

const NOW_NS: u64 = 60_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// Publishes the call; what the workers know of it is the callers' to fill.
fn call() -> (SegmentFds, Segment) {
    let (fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut intent = IntentWriter::attach(&segment).unwrap();
    let room = intent.allocate_room().unwrap();
    let record = RoomIntent { generation: room.generation, name: padded("standup"), ..RoomIntent::zeroed() };
    intent.publish_room(room.slot, &record).unwrap();
    let mut transport = |name: &str| {
        let at = intent.allocate_transport().unwrap();
        let record = TransportIntent {
            generation: at.generation,
            kind: TransportKind::Webrtc.code(),
            cipher: Cipher::AeadAes128Gcm.code(),
            room,
            key: KeyRef::at(0, 1),
            participant: padded(name),
            ..TransportIntent::zeroed()
        };
        intent.publish_transport(at.slot, &record).unwrap();
        at
    };
    let (ada, bob) = (transport("ada"), transport("bob"));
    let track = intent.allocate_track().unwrap();
    let mut record = TrackIntent {
        generation: track.generation,
        transport: ada,
        room,
        global_id: [0xab; 16],
        kind: MediaKind::Video.code(),
        codec: Codec::Vp8 as u8,
        encoding_count: 3,
        mid: padded("1"),
        ..TrackIntent::zeroed()
    };
    for (encoding, rid) in record.encodings.iter_mut().zip(["l", "m", "h"]) {
        *encoding = EncodingIntent { rid: padded(rid), rid_len: 1, ..EncodingIntent::zeroed() };
    }
    intent.publish_track(track.slot, &record).unwrap();
    let subscription = intent.allocate_subscription().unwrap();
    let record = SubscriptionIntent {
        generation: subscription.generation,
        transport: bob,
        track,
        ssrc: 7,
        max_encoding: 2,
        mid: padded("3"),
        ..SubscriptionIntent::zeroed()
    };
    intent.publish_subscription(subscription.slot, &record).unwrap();
    fill(&segment, [ada, bob], track.slot, subscription.slot);
    (fds, segment)
}

/// What the owner workers know: `h` fell silent 9.4 s ago, bob gets `m`.
fn fill(segment: &Segment, transports: [TransportRef; 2], track: u32, subscription: u32) {
    for (transport, host) in transports.into_iter().zip([2_u8, 3]) {
        let durable = segment.transport(transport.slot).unwrap();
        durable.generation.store(transport.generation, Relaxed);
        durable.owner.store((u64::from(transport.generation) << 32) | u64::from(host - 1), Relaxed);
        durable.state.store(transport_state::VALIDATED, Relaxed);
        durable.active_path.store(1, Relaxed);
        durable.consent_ns.store(NOW_NS - 2 * SECOND, Relaxed);
        durable.rtt_us.store(1_500, Relaxed);
        durable.rx_packets.store(1000 * u64::from(host), Relaxed);
        durable.tx_bytes.store(5_000_000, Relaxed);
        let flow = FlowKey {
            local: map_v4([10, 77, 0, 1]),
            remote: map_v4([10, 77, 0, host]),
            local_port: 10_000,
            remote_port: 40_000,
            reserve: 0,
        };
        for (cell, word) in durable.paths[0].flow.iter().zip(flow.to_words()) {
            cell.store(word, Relaxed);
        }
    }
    for (encoding, age_ms) in [(0_u8, 30), (1, 20), (2, 9_400)] {
        let durable = segment.ingress(IngressId::of(track, encoding)).unwrap();
        let generation = segment.intent_track(track).unwrap().generation;
        durable.generation.store(generation, Relaxed);
        durable.ssrc.store(100 + u32::from(encoding), Relaxed);
        durable.packets.store(5_000, Relaxed);
        durable.bytes.store(4_000_000, Relaxed);
        durable.keyframes.store(6, Relaxed);
        durable.last_arrival_ns.store(NOW_NS - age_ms * 1_000_000, Relaxed);
        durable.keyframe_ns.store(NOW_NS - 12 * SECOND, Relaxed);
    }
    let durable = segment.egress(subscription).unwrap();
    durable.generation.store(segment.intent_subscription(subscription).unwrap().generation, Relaxed);
    durable.source.store(u64::from(IngressId::of(track, 1).0) + 1, Relaxed);
    durable.packets.store(4_800, Relaxed);
    durable.octets.store(3_900_000, Relaxed);
    durable.nacked.store(12, Relaxed);
    durable.retransmitted.store(11, Relaxed);
    durable.segment_count.store(3, Relaxed);
}

fn read(fds: &SegmentFds) -> Calls {
    let reader = Segment::attach(fds.borrow_for(Access::Reader), Access::Reader).unwrap();
    Calls::collect(&reader, NOW_NS)
}

#[test]
fn a_call_shows_with_its_path_its_encodings_and_the_cause_of_a_blurred_picture() {
    let (fds, _segment) = call();
    let calls = read(&fds);
    let shown = serde_json::to_value(&calls).unwrap();
    assert_eq!(
        shown["rooms"],
        json!([{"room": "standup", "participants": ["ada", "bob"], "transports": 2, "live": 2, "audio_tracks": 0,
            "video_tracks": 1, "subscriptions": 1}])
    );
    let ada = &shown["participants"][0];
    for (field, value) in [
        ("participant", json!("ada")),
        ("state", json!("live")),
        ("cipher", json!("AEAD_AES_128_GCM")),
        ("worker", json!(0)),
        ("remote", json!("10.77.0.2:40000")),
        ("local", json!("10.77.0.1:10000")),
        ("consent_age_ms", json!(2000)),
        ("rtt_ms", json!(1.5)),
        ("tracks", json!(1)),
        ("subscriptions", json!(0)),
    ] {
        assert_eq!(ada[field], value, "{field}");
    }
    let stream = &shown["streams"][0];
    assert_eq!((&stream["codec"], &stream["track"]), (&json!("VP8"), &json!("ab".repeat(16))));
    assert_eq!(stream["encodings"][2]["alive"], json!(false));
    let bob = &stream["receivers"][0];
    assert_eq!((&bob["participant"], &bob["encoding"], &bob["switches"]), (&json!("bob"), &json!(1), &json!(2)));
    assert_eq!(
        bob["why"],
        json!("gets encoding \"m\" because the publisher does not send encoding \"h\": silent for 9.4 s")
    );
}

#[test]
fn the_text_is_the_committed_one() {
    let (fds, _segment) = call();
    let calls = read(&fds);
    let text = [
        calls_text::rooms(&calls.rooms),
        calls_text::participants(&calls.participants),
        calls_text::streams(&calls.streams),
    ];
    golden::compare(&format!("{}/testdata/calls.txt", env!("CARGO_MANIFEST_DIR")), &text.join("\n"));
}

#[test]
fn lists_narrow_to_a_room_and_to_a_participant_on_either_end() {
    let (fds, _segment) = call();
    let of = |room, participant| read(&fds).only(room, participant);
    assert!(of(Some("elsewhere"), None).rooms.is_empty() && of(Some("elsewhere"), None).streams.is_empty());
    assert_eq!(of(Some("standup"), Some("ada")).participants.len(), 1);
    assert_eq!(of(None, Some("bob")).streams[0].receivers.len(), 1, "what she gets");
    assert!(of(None, Some("carl")).streams.is_empty());
}

#[test]
fn a_stale_record_of_a_worker_is_not_shown_for_a_fresh_one() {
    let (fds, segment) = call();
    let durable = segment.transport(0).unwrap();
    durable.generation.store(durable.generation.load(Relaxed) + 1, Relaxed);
    let calls = read(&fds);
    assert_eq!((calls.participants[0].state, calls.participants[0].rx_packets), ("waiting", 0));
}

#[test]
fn a_subscription_that_shows_nothing_is_no_receiver() {
    let (fds, segment) = call();
    let mut intent = IntentWriter::attach(&segment).unwrap();
    let shown = segment.intent_subscription(0).unwrap();
    let empty = SubscriptionIntent { track: dataplane_abi::ids::TrackRef::NONE, ..shown };
    intent.publish_subscription(0, &empty).unwrap();
    assert!(read(&fds).streams[0].receivers.is_empty());
}

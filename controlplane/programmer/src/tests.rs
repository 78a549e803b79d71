// SPDX-License-Identifier: Apache-2.0
//! What a command publishes, read back as a worker reads it.

use super::*;
use controlplane_room::{Codec, CodecMap, Direction, Encoding, Extension, Extensions, IceCredentials, MediaKind};
use dataplane_abi::limits::Capacities;

mod adopt;

fn programmer() -> (Programmer, Segment) {
    let (_, segment) = Segment::create(&Capacities::SMALL).unwrap();
    (Programmer::attach(&segment).unwrap(), segment)
}

fn transport(id: u64) -> Command {
    let spec = TransportSpec {
        id: TransportId(id),
        direction: Direction::Publisher,
        local: IceCredentials { ufrag: "ourfrag1".into(), pwd: "a".repeat(24) },
        remote: IceCredentials { ufrag: "them".into(), pwd: "b".repeat(24) },
        cname: "0011223344556677".into(),
        transport_cc: true,
        participant: "ann".into(),
        rtcp_ssrc: 1,
        rtcp_rsize: true,
    };
    Command::AddTransport { room: RoomKey(1), name: "standup".parse().unwrap(), spec }
}

fn codec() -> CodecMap {
    CodecMap { codec: Codec::Vp8, fmtp: String::new(), pt: 96, rtx_pt: Some(97), clock_rate_hz: 90_000 }
}

fn track(transport: u64) -> Command {
    let spec = TrackSpec {
        id: TrackId([7; 16]),
        transport: TransportId(transport),
        mid: "1".into(),
        kind: MediaKind::Video,
        codecs: vec![codec()],
        extensions: Extensions(vec![(Extension::Mid, 4), (Extension::RtpStreamId, 10)]),
        encodings: vec![Encoding { rid: Some("l".into()), ssrc: None, rtx_ssrc: None }, Encoding::default()],
        nack: true,
        pli: true,
        fir: false,
    };
    Command::AddTrack { room: RoomKey(1), spec }
}

fn subscription(id: u64, transport: u64) -> Command {
    let spec = SubscriptionSpec {
        track: TrackId([7; 16]),
        transport: TransportId(transport),
        mid: "0".into(),
        kind: MediaKind::Video,
        ssrc: 0xAABB,
        rtx_ssrc: Some(0xCCDD),
        codecs: vec![codec()],
        extensions: Extensions(vec![(Extension::Mid, 9)]),
        nack: true,
        pli: true,
        max_encoding: None,
    };
    Command::AddSubscription { room: RoomKey(1), id: SubscriptionId(id), spec }
}

#[test]
fn a_worker_reads_what_the_commands_say() {
    let (mut programmer, segment) = programmer();
    programmer.apply(transport(1)).unwrap();
    programmer.apply(transport(2)).unwrap();
    programmer.apply(track(1)).unwrap();
    programmer.apply(subscription(5, 2)).unwrap();
    let publisher = programmer.reference_of(TransportId(1)).unwrap();
    let record = segment.intent_transport(publisher.slot).unwrap();
    assert_eq!(record.generation, publisher.generation);
    assert_eq!(&record.credentials[0].local_ufrag[..8], b"ourfrag1");
    let room = segment.intent_room(record.room.slot).unwrap();
    assert!(room.name.starts_with(b"standup\0"), "the room's name, for `millrace participants --room standup`");
    assert_eq!(record.extension_ids[usize::from(dataplane_wire::ext::ExtKind::Rid as u8)], 10);
    let reference = programmer.tracks[&TrackId([7; 16])];
    let track = segment.intent_track(reference.slot).unwrap();
    assert_eq!((track.transport, track.encoding_count, track.pt, track.rtx_pt), (publisher, 2, 96, 97));
    let wish = programmer.subscriptions[&SubscriptionId(5)];
    let record = segment.intent_subscription(wish.slot).unwrap();
    assert_eq!((record.track, record.ssrc, record.rtx_ssrc), (reference, 0xAABB, 0xCCDD));
}

#[test]
fn keys_are_installed_once_and_wiped_with_the_transport() {
    let (mut programmer, segment) = programmer();
    programmer.apply(transport(1)).unwrap();
    let material = KeyMaterial { profile: 8, local: (&[1; 32], &[2; 12]), remote: (&[3; 32], &[4; 12]) };
    programmer.install_keys(TransportId(1), &material).unwrap();
    let slot = programmer.reference_of(TransportId(1)).unwrap().slot;
    let reference = segment.intent_transport(slot).unwrap().key;
    let key = segment.key(reference).unwrap();
    assert_eq!((key.tx_key, key.rx_key[0], key.rx_salt[0]), ([1; 32], 3, 4));
    let short = KeyMaterial { profile: 8, local: (&[1; 16], &[2; 12]), remote: (&[3; 16], &[4; 12]) };
    // More often than there are slots: a refusal takes none.
    for _ in 0..=dataplane_abi::segment::key_records(&Capacities::SMALL) {
        assert_eq!(programmer.install_keys(TransportId(1), &short), Err(KeyRefused::Unusable { profile: 8 }));
    }
    programmer.install_keys(TransportId(1), &material).unwrap();
    let reference = {
        assert!(segment.key(reference).is_none_or(|key| key.tx_key == [0; 32]), "the old ones are wiped");
        segment.intent_transport(slot).unwrap().key
    };
    programmer.apply(Command::RemoveTransport { transport: TransportId(1) }).unwrap();
    assert!(segment.intent_transport(slot).is_none());
    assert!(segment.key(reference).is_none_or(|key| key.tx_key == [0; 32]));
}

#[test]
fn a_full_table_refuses_and_everything_removed_leaves_room() {
    let (mut programmer, _segment) = programmer();
    let capacity = u64::from(Capacities::SMALL.transports);
    for id in 0..capacity {
        programmer.apply(transport(id)).unwrap();
    }
    assert_eq!(programmer.apply(transport(capacity)).unwrap_err().table, "transports");
    for id in 0..capacity {
        programmer.apply(Command::RemoveTransport { transport: TransportId(id) }).unwrap();
    }
    assert!(programmer.rooms.is_empty() && programmer.by_slot.is_empty());
}

#[test]
fn a_slot_shows_another_track_under_the_same_numbers() {
    let (mut programmer, segment) = programmer();
    programmer.apply(transport(1)).unwrap();
    programmer.apply(transport(2)).unwrap();
    programmer.apply(track(1)).unwrap();
    programmer.apply(subscription(5, 2)).unwrap();
    let reference = programmer.subscriptions[&SubscriptionId(5)];
    let set = |programmer: &mut Programmer, shown| {
        programmer.apply(Command::SetSubscription { id: SubscriptionId(5), transport: TransportId(2), shown }).unwrap();
    };
    let read = || segment.intent_subscription(reference.slot).unwrap();
    set(&mut programmer, None);
    assert!(read().track.is_none());
    let bare = CodecMap { codec: Codec::H264, pt: 102, rtx_pt: None, ..codec() };
    let shown = Shown { track: TrackId([7; 16]), codec: bare, max_encoding: Some(0) };
    set(&mut programmer, Some(shown.clone()));
    let record = read();
    assert_eq!((record.generation, record.ssrc, record.mid[0]), (reference.generation, 0xAABB, b'0'));
    assert_eq!((record.pt, record.rtx_pt, record.max_encoding), (102, dataplane_abi::codec::NO_PT, 0));
    assert_eq!(record.rtx_ssrc, 0xCCDD, "stays for the codec that has retransmissions");
    set(&mut programmer, Some(Shown { codec: codec(), max_encoding: None, ..shown }));
    assert_eq!((read().pt, read().rtx_pt, read().max_encoding), (96, 97, 3));
    assert_eq!(read().track, programmer.tracks[&TrackId([7; 16])]);
}

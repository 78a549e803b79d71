// SPDX-License-Identifier: Apache-2.0
//! The bridge against a segment whose workers the test plays.

use controlplane_room::{Direction, IceCredentials, KnownTransport, RoomKey, TransportSpec};
use dataplane_abi::limits::Capacities;
use rustix::event::{EventfdFlags, eventfd};

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn bridge() -> (Bridge, Segment) {
    let (_, segment) = Segment::create(&Capacities { workers: 2, ..Capacities::SMALL }).expect("made");
    let wake = || eventfd(0, EventfdFlags::NONBLOCK).expect("made");
    let (bridge, _) = Bridge::over(segment.clone(), vec![wake(), wake()], wake(), &Known::default()).expect("attached");
    (bridge, segment)
}

fn spec(id: u64) -> TransportSpec {
    let credentials = |ufrag: &str| IceCredentials { ufrag: ufrag.into(), pwd: "p".repeat(24) };
    TransportSpec {
        id: TransportId(id),
        direction: Direction::Publisher,
        local: credentials(&format!("our{id:05}")),
        remote: credentials("them"),
        cname: "c".into(),
        transport_cc: false,
        participant: "ann".into(),
        rtcp_ssrc: 1,
        rtcp_rsize: false,
    }
}

fn add(bridge: &mut Bridge, id: u64) -> TransportRef {
    bridge
        .apply(Command::AddTransport { room: RoomKey(1), name: "standup".parse().expect("a name"), spec: spec(id) })
        .expect("fits");
    bridge.programmer.reference_of(TransportId(id)).expect("is there")
}

fn punt(transport: TransportRef, at_ns: u64, byte: u8) -> Datagram {
    let mut packet = Datagram { transport, at_ns, len: 1, ..Datagram::zeroed() };
    packet.bytes[0] = byte;
    packet
}

fn event(transport: TransportRef, kind: u32) -> Event {
    Event { kind, transport, ..Event::zeroed() }
}

/// First byte of the datagrams that are told, in order.
fn told(bridge: &mut Bridge) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(told) = bridge.poll() {
        if let PlaneEvent::Punted { bytes: datagram, .. } = told {
            bytes.push(datagram[0]);
        }
    }
    bytes
}

#[test]
fn old_datagrams_are_dropped_at_attach_and_every_fresh_one_is_kept() {
    // CONTRACTS 12
    let (mut bridge, segment) = bridge();
    let transport = add(&mut bridge, 1);
    let mut ring = segment.punt_producer(WorkerId(0)).expect("is there");
    let attached = bridge.attached_ns;
    let ages = [3 * SECOND_NS, 2 * SECOND_NS, SECOND_NS / 2, SECOND_NS / 4];
    for (byte, age) in (0..).zip(ages) {
        ring.push(&punt(transport, attached - age, byte)).expect("fits");
    }
    ring.push(&punt(transport, attached + 5 * SECOND_NS, 4)).expect("fits");
    assert_eq!(told(&mut bridge), [2, 3, 4]);
}

#[test]
fn what_is_about_a_transport_that_is_gone_is_not_told() {
    let (mut bridge, segment) = bridge();
    let gone = add(&mut bridge, 1);
    bridge.apply(Command::RemoveTransport { transport: TransportId(1) }).expect("removed");
    add(&mut bridge, 2);
    let mut punts = segment.punt_producer(WorkerId(0)).expect("is there");
    punts.push(&punt(gone, now_ns(), 1)).expect("fits");
    let mut events = segment.event_producer(WorkerId(0)).expect("is there");
    events.push(&event(gone, event_kind::VALIDATED)).expect("fits");
    assert_eq!(bridge.poll(), None);
}

#[test]
fn a_worker_with_much_to_tell_does_not_silence_the_others() {
    let (mut bridge, segment) = bridge();
    let transport = add(&mut bridge, 1);
    for (worker, count) in [(0, 20), (1, 1)] {
        let mut ring = segment.punt_producer(WorkerId(worker)).expect("is there");
        for _ in 0..count {
            ring.push(&punt(transport, now_ns(), u8::try_from(worker).expect("small"))).expect("fits");
        }
    }
    let order = told(&mut bridge);
    assert_eq!(order.len(), 21);
    assert!(order.iter().position(|worker| *worker == 1).expect("told") <= 1, "{order:?}");
}

#[test]
fn a_check_is_told_before_the_datagram_that_followed_it() {
    let (mut bridge, segment) = bridge();
    let transport = add(&mut bridge, 1);
    let mut punts = segment.punt_producer(WorkerId(0)).expect("is there");
    punts.push(&punt(transport, now_ns(), 1)).expect("fits");
    let mut events = segment.event_producer(WorkerId(0)).expect("is there");
    events.push(&event(transport, event_kind::VALIDATED)).expect("fits");
    assert_eq!(bridge.poll(), Some(PlaneEvent::Validated { transport: TransportId(1) }));
    assert!(matches!(bridge.poll(), Some(PlaneEvent::Punted { .. })));
}

#[test]
fn another_data_plane_is_told_once() {
    let (mut bridge, segment) = bridge();
    let starts = &segment.state().dataplane_starts;
    starts.store(1, Ordering::Release);
    assert_eq!(bridge.poll(), None, "the first one is no restart");
    starts.store(3, Ordering::Release);
    assert_eq!(bridge.poll(), Some(PlaneEvent::DataPlaneRestarted));
    assert_eq!(bridge.poll(), None);
}

// An event that a predecessor had taken and not yet written down when it was killed.
#[test]
fn a_successor_is_told_who_has_lost_consent_after_what_waits_in_the_rings() {
    let (mut first, segment) = bridge();
    let references = [1, 2, 3].map(|id| add(&mut first, id));
    drop(first);
    let states = [transport_state::SILENT, transport_state::VALIDATED, transport_state::WAITING];
    for (reference, state) in references.into_iter().zip(states) {
        let durable = segment.transport(reference.slot).expect("is there");
        durable.generation.store(reference.generation, Ordering::Release);
        durable.state.store(state, Ordering::Release);
    }
    let mut events = segment.event_producer(WorkerId(1)).expect("is there");
    events.push(&event(references[0], event_kind::CONSENT_BACK)).expect("fits");
    let known = [1, 2, 3].map(|id| KnownTransport { room: RoomKey(1), spec: spec(id) });
    let known = Known { transports: known.to_vec(), ..Known::default() };
    let wake = || eventfd(0, EventfdFlags::NONBLOCK).expect("made");
    let (mut second, found) = Bridge::over(segment, vec![wake(), wake()], wake(), &known).expect("attached");
    assert_eq!(found.transports.len(), 3);
    let told: Vec<_> = std::iter::from_fn(|| second.poll()).collect();
    let [first, rest @ ..] = &told[..] else { panic!("nothing is told") };
    assert_eq!(*first, PlaneEvent::ConsentBack { transport: TransportId(1) }, "the older news come first");
    assert_eq!(rest.len(), 2);
    assert!(rest.contains(&PlaneEvent::ConsentLost { transport: TransportId(1) }));
    assert!(rest.contains(&PlaneEvent::ConsentBack { transport: TransportId(2) }));
}

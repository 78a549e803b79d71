// SPDX-License-Identifier: Apache-2.0
//! Checks, consent, paths, and DTLS on its way between the planes.

use std::sync::atomic::Ordering;

use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::intent::Credential;
use dataplane_abi::ring::{Datagram, event_kind};
use dataplane_wire::stun::{Class, Message, Role, crc32};

use crate::support::call::{Call, MS, SECOND, credential};
use crate::support::client::{check, flow, hmac_sha1};

/// A call of one client that sends nothing by itself.
fn quiet(seed: u64, workers: u32) -> Call {
    let mut call = Call::new(seed, workers);
    call.join(0);
    call.clients[0].keeps_consent = false;
    call.step();
    call
}

/// Sends a check from a port of client 0's host; what came back, parsed by `look`.
fn ask<R>(call: &mut Call, port: u16, bytes: &[u8], look: impl Fn(&Message<'_>) -> R) -> Vec<R> {
    let before = call.clients[0].answers.len();
    call.deliver(flow(1, port), bytes);
    call.step();
    call.step();
    call.clients[0].answers[before..].iter().map(|bytes| look(&Message::parse(bytes).unwrap())).collect()
}

fn good(call: &mut Call, nominates: bool) -> Vec<u8> {
    let (name, pwd) = (call.clients[0].username(), call.clients[0].server_pwd.clone());
    let transaction = call.bed.dice.bytes(12).try_into().unwrap();
    check(&name, &pwd, transaction, nominates, Role::Controlling(1))
}

/// Adds an attribute in front of MESSAGE-INTEGRITY, and makes both tags anew.
fn with_attribute(call: &Call, kind: u16, transaction: u8) -> Vec<u8> {
    let client = &call.clients[0];
    let plain = check(&client.username(), &client.server_pwd, [transaction; 12], false, Role::Controlling(1));
    let mut bytes = plain[..plain.len() - 32].to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
    let set_len = |bytes: &mut Vec<u8>, upcoming: usize| {
        let len = u16::try_from(bytes.len() + upcoming - 20).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
    };
    set_len(&mut bytes, 24);
    let tag = hmac_sha1(&client.server_pwd, &[&bytes]);
    bytes.extend_from_slice(&[0, 8, 0, 20]);
    bytes.extend_from_slice(&tag);
    set_len(&mut bytes, 8);
    let fingerprint = crc32(&[&bytes]) ^ 0x5354_554E;
    bytes.extend_from_slice(&[0x80, 0x28, 0, 4]);
    bytes.extend_from_slice(&fingerprint.to_be_bytes());
    bytes
}

// RFC 8445 §7.3, RFC 8489 §14.2
#[test]
fn a_check_is_answered_with_the_address_that_it_came_from() {
    let mut call = quiet(1, 1);
    let request = good(&mut call, true);
    let answers = ask(&mut call, 20_000, &request, |message| {
        (message.class, message.transaction_id, message.xor_mapped_address.map(|address| (address.ip, address.port)))
    });
    let transaction = Message::parse(&request).unwrap().transaction_id;
    let from = flow(1, 20_000);
    assert_eq!(answers, vec![(Class::Success, transaction, Some((from.remote, from.remote_port)))]);
    let events: Vec<u32> = call.bed.take_events().iter().map(|event| event.kind).collect();
    assert_eq!(events, vec![event_kind::STARTED, event_kind::VALIDATED]);
    let durable = call.bed.segment.transport(call.clients[0].transport.slot).unwrap();
    assert_eq!(durable.owner.load(Ordering::Relaxed) & 0xFFFF_FFFF, 1);
    assert_eq!(durable.version.load(Ordering::Relaxed), 1, "the record carries its version");
}

// RFC 8445 §7.3.1.1
#[test]
fn a_peer_that_says_it_is_controlled_gets_487() {
    let mut call = quiet(2, 1);
    let (name, pwd) = (call.clients[0].username(), call.clients[0].server_pwd.clone());
    let request = check(&name, &pwd, [7; 12], false, Role::Controlled(1));
    let codes = ask(&mut call, 20_000, &request, |message| message.error_code.map(|error| error.code));
    assert_eq!(codes, vec![Some(487)]);
    let dtls = [&[22, 0xfe, 0xfd][..], &[0; 40]].concat();
    call.deliver(flow(1, 20_000), &dtls);
    call.step();
    assert_eq!(call.bed.dropped(DropReason::UnknownFlow), 1, "a refused check admits nothing");
}

// RFC 8489 §6.3.1
#[test]
fn an_attribute_that_must_be_understood_and_is_not_gets_420() {
    let mut call = quiet(3, 1);
    let request = with_attribute(&call, 0x0077, 9);
    let codes = ask(&mut call, 20_000, &request, |message| message.error_code.map(|error| error.code));
    assert_eq!(codes, vec![Some(420)]);
    let request = with_attribute(&call, 0xC057, 10);
    let classes = ask(&mut call, 20_000, &request, |message| message.class);
    assert_eq!(classes, vec![Class::Success], "one that may be ignored is ignored");
}

// S12
#[test]
fn strangers_get_silence() {
    let mut call = quiet(4, 2);
    let (name, pwd) = (call.clients[0].username(), call.clients[0].server_pwd.clone());
    let mut unfingered = good(&mut call, true);
    unfingered.truncate(unfingered.len() - 8);
    let len = u16::try_from(unfingered.len() - 20).unwrap();
    unfingered[2..4].copy_from_slice(&len.to_be_bytes());
    let mut indication = good(&mut call, true);
    indication[1] |= 0x10;
    let cases = [
        check("nobody:cli0", &pwd, [1; 12], true, Role::Controlling(1)),
        check(&name.replace(':', "x:"), &pwd, [2; 12], true, Role::Controlling(1)),
        check("srv00000:other", &pwd, [3; 12], true, Role::Controlling(1)),
        check("nocolon", &pwd, [4; 12], true, Role::Controlling(1)),
        check(&name, b"wrong", [5; 12], true, Role::Controlling(1)),
        unfingered,
        indication,
    ];
    for (at, bytes) in cases.iter().enumerate() {
        let answers = ask(&mut call, 20_000, bytes, |message| message.class);
        assert!(answers.is_empty(), "case {at} was answered");
    }
    assert!(call.strays.is_empty());
    assert_eq!(call.bed.total(|counters| counters.tx_packets.load(Ordering::Relaxed)), 0);
    assert_eq!(call.bed.total(|counters| counters.flows.load(Ordering::Relaxed)), 0);
}

// CONTRACTS 12: an ICE restart keeps the old credentials until the fresh pair is nominated
#[test]
fn both_credential_slots_are_served_during_a_restart() {
    let mut call = quiet(5, 1);
    let request = good(&mut call, true);
    assert_eq!(ask(&mut call, 20_000, &request, |message| message.class).len(), 1);
    let transport = call.clients[0].transport;
    let mut record = call.bed.segment.intent_transport(transport.slot).unwrap();
    record.credentials[1] = record.credentials[0];
    record.credentials[0] = credential("fresh", "password-of-the-restart-0", "cli0");
    call.bed.intent.publish_transport(transport.slot, &record).unwrap();
    call.step();
    call.bed.take_events();
    let old = good(&mut call, false);
    assert_eq!(ask(&mut call, 20_000, &old, |message| message.class), vec![Class::Success]);
    assert!(call.bed.take_events().is_empty());
    call.clients[0].server_ufrag = "fresh".to_owned();
    call.clients[0].server_pwd = b"password-of-the-restart-0".to_vec();
    let fresh = good(&mut call, true);
    assert_eq!(ask(&mut call, 20_000, &fresh, |message| message.class), vec![Class::Success]);
    let events: Vec<u32> = call.bed.take_events().iter().map(|event| event.kind).collect();
    assert_eq!(events, vec![event_kind::CREDENTIALS_USED]);
    record.credentials[1] = Credential::zeroed();
    call.bed.intent.publish_transport(transport.slot, &record).unwrap();
    call.step();
    assert!(ask(&mut call, 20_000, &old, |message| message.class).is_empty(), "retired credentials name nobody");
}

// RFC 7675 §5.1, S14
#[test]
fn silence_of_thirty_seconds_stops_what_is_sent_and_a_check_brings_it_back() {
    let mut call = Call::new(6, 2);
    let publisher = call.join(0);
    let track = call.publish(publisher, false);
    let receiver = call.join(1);
    call.subscribe(receiver, &track);
    call.tick_ns = 5 * MS;
    call.run(2 * SECOND);
    call.clients[receiver].keeps_consent = false;
    call.bed.take_events();
    call.run(27 * SECOND);
    let before = call.clients[receiver].datagrams;
    call.run(SECOND);
    assert!(call.clients[receiver].datagrams > before, "one lost answer ends no call");
    call.run(5 * SECOND);
    let events: Vec<u32> = call.bed.take_events().iter().map(|event| event.kind).collect();
    assert_eq!(events, vec![event_kind::CONSENT_LOST]);
    let before = call.clients[receiver].datagrams;
    call.run(SECOND);
    assert_eq!(call.clients[receiver].datagrams, before, "nothing is sent without consent");
    call.clients[receiver].keeps_consent = true;
    call.clients[receiver].next_check_ns = 0;
    call.run(SECOND);
    assert!(call.clients[receiver].datagrams > before + 40);
    let events: Vec<u32> = call.bed.take_events().iter().map(|event| event.kind).collect();
    assert_eq!(events, vec![event_kind::CONSENT_BACK]);
}

// CONTRACTS 7, S3
#[test]
fn what_is_sent_follows_the_nominated_check_and_no_media_packet() {
    let mut call = Call::new(7, 1);
    let publisher = call.join(0);
    let track = call.publish(publisher, false);
    let receiver = call.join(0);
    call.subscribe(receiver, &track);
    call.run(SECOND);
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = std::rc::Rc::clone(&seen);
    call.watch = Some(Box::new(move |sent| {
        if sent.bytes[0] >= 128 {
            log.borrow_mut().push((sent.flow.remote[15], sent.flow.remote_port));
        }
    }));
    let ports = |seen: &std::rc::Rc<std::cell::RefCell<Vec<(u8, u16)>>>| {
        let mut ports: Vec<u16> =
            seen.borrow_mut().drain(..).filter(|(host, _)| *host == 2).map(|(_, port)| port).collect();
        ports.dedup();
        ports
    };
    // SRTP from elsewhere, under the right key, moves nothing.
    let report = call.clients[receiver].rtcp(|writer| writer.rr(5, &[]).unwrap());
    call.deliver(flow(2, 41_000), &report);
    call.run(100 * MS);
    assert_eq!(ports(&seen), vec![20_001]);
    // Nor does a check that nominates nothing.
    let (name, pwd) = (call.clients[receiver].username(), call.clients[receiver].server_pwd.clone());
    call.deliver(flow(2, 42_000), &check(&name, &pwd, [1; 12], false, Role::Controlling(7)));
    call.run(100 * MS);
    assert_eq!(ports(&seen), vec![20_001]);
    call.clients[receiver].keeps_consent = false;
    call.deliver(flow(2, 42_000), &check(&name, &pwd, [2; 12], true, Role::Controlling(7)));
    call.run(100 * MS);
    assert_eq!(ports(&seen).last(), Some(&42_000));
    call.run(100 * MS);
    assert_eq!(ports(&seen), vec![42_000]);
}

// CONTRACTS 12: at most 4 validated tuples, the least recently used goes
#[test]
fn a_fifth_path_takes_the_place_of_the_oldest_that_is_not_in_use() {
    for workers in [1, 2] {
        let mut call = quiet(8, workers);
        if workers == 2 {
            for port in [20_000, 40_001, 40_002, 40_003, 40_004] {
                call.steer.insert(flow(1, port), usize::from(port % 2));
            }
        }
        let nominated = good(&mut call, true);
        assert_eq!(ask(&mut call, 20_000, &nominated, |message| message.class).len(), 1);
        for port in 40_001..=40_004 {
            let request = good(&mut call, false);
            assert_eq!(ask(&mut call, port, &request, |message| message.class).len(), 1);
        }
        let dtls = [&[22, 0xfe, 0xfd][..], &[0; 40]].concat();
        for (port, is_known) in [(20_000, true), (40_001, false), (40_002, true), (40_003, true), (40_004, true)] {
            call.deliver(flow(1, port), &dtls);
            call.step();
            call.step();
            // Whatever another worker still hands over: the owner's table decides.
            assert_eq!(call.bed.take_punts().len() == 1, is_known, "port {port}, {workers} workers");
        }
        let durable = call.bed.segment.transport(call.clients[0].transport.slot).unwrap();
        let kept: Vec<u64> = durable.paths.iter().map(|path| path.flow[4].load(Ordering::Relaxed) & 0xFFFF).collect();
        assert_eq!(kept, vec![20_000, 40_004, 40_002, 40_003]);
        assert_eq!(durable.active_path.load(Ordering::Relaxed), 1);
    }
}

// S4, CONTRACTS 20
#[test]
fn dtls_is_punted_from_validated_flows_only_and_fifty_times_a_second() {
    let mut call = quiet(9, 1);
    let record = [&[22, 0xfe, 0xfd][..], &[0; 40]].concat();
    call.deliver(flow(1, 20_000), &record);
    call.step();
    assert!(call.bed.take_punts().is_empty());
    let request = good(&mut call, true);
    ask(&mut call, 20_000, &request, |message| message.class);
    let mut punted = 0;
    for _ in 0..2000 {
        call.deliver(flow(1, 20_000), &record);
        call.step();
        for packet in call.bed.take_punts() {
            assert_eq!(packet.transport, call.clients[0].transport);
            assert_eq!(&packet.bytes[..packet.len as usize], record);
            assert_eq!(packet.flow, flow(1, 20_000));
            punted += 1;
        }
    }
    assert!((100..=151).contains(&punted), "{punted} in two seconds");
    assert_eq!(call.bed.dropped(DropReason::PuntLimited), 2000 - punted);
    let malformed: [&[u8]; 2] = [&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[22, 0xfe]];
    for bytes in malformed {
        call.deliver(flow(1, 20_000), bytes);
    }
    call.step();
    assert_eq!(call.bed.dropped(DropReason::DtlsMalformed), 2);
}

#[test]
fn dtls_of_the_control_plane_goes_out_on_the_path_in_use() {
    let mut call = quiet(10, 2);
    let record = [&[22, 0xfe, 0xfd][..], &[9; 500]].concat();
    let mut packet = Datagram::zeroed();
    packet.transport = call.clients[0].transport;
    packet.len = u32::try_from(record.len()).unwrap();
    packet.bytes[..record.len()].copy_from_slice(&record);
    call.bed.injects[0].push(&packet).unwrap();
    call.step();
    assert!(call.clients[0].dtls.is_empty(), "no path is validated");
    let request = good(&mut call, true);
    ask(&mut call, 20_000, &request, |message| message.class);
    call.bed.injects[0].push(&packet).unwrap();
    call.step();
    assert_eq!(call.clients[0].dtls, vec![(flow(1, 20_000), record)]);
    packet.transport.generation += 1;
    call.bed.injects[0].push(&packet).unwrap();
    packet.len = u32::MAX;
    packet.transport.generation -= 1;
    call.bed.injects[0].push(&packet).unwrap();
    call.step();
    assert_eq!(call.clients[0].dtls.len(), 2, "a stale reference is ignored, a length that lies is cut");
}

// A check that arrives elsewhere is answered by the owner; the transport has one owner.
#[test]
fn two_workers_never_own_one_transport() {
    for seed in 0..20 {
        let mut call = quiet(seed, 2);
        for at in 0..6_u16 {
            let request = good(&mut call, true);
            call.steer.insert(flow(1, 40_000 + at), usize::from(at % 2));
            call.deliver(flow(1, 40_000 + at), &request);
        }
        call.step();
        call.step();
        assert_eq!(call.clients[0].answers.len(), 6);
        assert_eq!(call.bed.total(|counters| counters.transports_owned.load(Ordering::Relaxed)), 1);
        assert_eq!(call.bed.under_way(), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Damaged packets, junk under valid keys, and intent that lies: nothing panics, nothing grows, strangers hear nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ring::{Change, change_kind};
use dataplane_wire::rtcp::ReportBlock;
use dataplane_wire::rtp::HeaderWriter;

use crate::support::call::{Call, MS, SECOND, Track, Who};
use crate::support::client::flow;
use crate::support::dice::Dice;
use crate::support::outgoing::seal;

fn conference(call: &mut Call, workers: usize) -> (Vec<Track>, Vec<Who>) {
    let publisher = call.join(0);
    let tracks = vec![call.publish(publisher, false), call.publish_as(publisher, true, &[""], false)];
    let receivers: Vec<Who> = (0..2).map(|at| call.join(at % workers)).collect();
    for who in &receivers {
        for track in &tracks {
            call.subscribe(*who, track);
        }
    }
    (tracks, receivers)
}

/// Table entries and flows.
fn sizes(call: &Call) -> [u64; 3] {
    [
        call.bed.total(|counters| counters.flows.load(Ordering::Relaxed)),
        call.bed.total(|counters| counters.transports_owned.load(Ordering::Relaxed)),
        call.bed.total(|counters| counters.intent_refused.load(Ordering::Relaxed)),
    ]
}

fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + dice.below(4) {
        match dice.below(4) {
            0 => bytes.truncate(dice.below(bytes.len() + 1)),
            1 => {
                let len = dice.below(40);
                bytes.extend(dice.bytes(len));
            }
            _ if !bytes.is_empty() => {
                // Headers are where parsers look.
                let at = if dice.hits(700) { dice.below(bytes.len().min(40)) } else { dice.below(bytes.len()) };
                bytes[at] ^= 1 << dice.below(8);
            }
            _ => {}
        }
    }
    bytes
}

// S1, S2, S5, S12
#[test]
fn a_hundred_thousand_damaged_packets_change_nothing() {
    let mut call = Call::new(1, 2);
    let (tracks, receivers) = conference(&mut call, 2);
    call.captured = Some(Vec::new());
    call.run(3 * SECOND);
    let originals = call.captured.take().unwrap();
    let mut dtls = [&[22, 0xfe, 0xfd][..], &[7; 60]].concat();
    let (before, mut sent) = (sizes(&call), 0_u64);
    let known: Vec<FlowKey> = call.clients.iter().map(|client| client.flow).collect();
    while sent < 100_000 {
        for _ in 0..60 {
            let (from, bytes) = &originals[call.bed.dice.below(originals.len())];
            let source = if call.bed.dice.hits(20) { &mut dtls } else { &mut bytes.clone() };
            let bytes = mutate(source, &mut call.bed.dice);
            if bytes == *source {
                continue;
            }
            let from = match call.bed.dice.below(3) {
                0 => *from,
                1 => known[call.bed.dice.below(known.len())],
                _ => flow(200, u16::try_from(1000 + call.bed.dice.below(30_000)).unwrap()),
            };
            let worker = call.bed.dice.below(2);
            let now = call.bed.now.mono_ns;
            call.bed.network.deliver_to(worker, from, &bytes, now);
            sent += 1;
        }
        call.step();
        call.bed.take_punts();
    }
    assert!(call.strays.is_empty(), "{} answers to strangers", call.strays.len());
    assert_eq!(sizes(&call), before);
    call.run(SECOND);
    call.drain();
    for who in receivers {
        for (at, track) in tracks.iter().enumerate() {
            call.clients[who].incoming[at].duplicates = 0;
            call.assert_complete(who, at, track.tags[0]);
        }
    }
}

/// A random compound packet about SSRCs that exist and that do not.
fn junk_rtcp(call: &mut Call, who: Who) -> Vec<u8> {
    let mut dice = Dice(call.bed.dice.next());
    let mut ssrcs: Vec<u32> = call.clients[who].outgoing.iter().flat_map(|s| [s.ssrc, s.rtx_ssrc]).collect();
    ssrcs.extend(call.clients[who].incoming.iter().flat_map(|s| [s.expected.ssrc, s.expected.rtx_ssrc]));
    ssrcs.push(u32::try_from(dice.next() & 0xFFFF_FFFF).unwrap());
    let ssrc = |dice: &mut Dice| ssrcs[dice.below(ssrcs.len())];
    if dice.hits(200) {
        // Not even a chain of packets.
        let len = 8 + dice.below(200);
        let mut plain = dice.bytes(len);
        plain[0] = 0x80 | (plain[0] & 0x3F);
        plain[1] = 192 + plain[1] % 32;
        return call.clients[who].protect_rtcp(&plain);
    }
    let word = |dice: &mut Dice| u32::try_from(dice.next() & 0xFFFF_FFFF).unwrap();
    call.clients[who].rtcp(|writer| {
        for _ in 0..1 + dice.below(5) {
            let (a, b) = (ssrc(&mut dice), ssrc(&mut dice));
            let block = ReportBlock {
                ssrc: b,
                fraction_lost: dice.byte(),
                cumulative_lost: -5,
                highest_seq: word(&mut dice),
                jitter: word(&mut dice),
                last_sr: word(&mut dice),
                delay_since_last_sr: word(&mut dice),
            };
            let report = dataplane_wire::rtcp::SenderReport {
                ssrc: a,
                ntp: dice.next(),
                rtp_ts: word(&mut dice),
                packets: word(&mut dice),
                octets: word(&mut dice),
            };
            let numbers: Vec<u16> =
                (0..dice.below(200)).map(|_| u16::from_be_bytes([dice.byte(), dice.byte()])).collect();
            let _ = match dice.below(7) {
                0 => writer.sr(&report, &[block]),
                1 => writer.rr(a, &[block; 3]),
                2 => writer.nack(a, b, numbers).map(drop),
                3 => writer.pli(a, b),
                4 => writer.bye(&[a, b]),
                5 => writer.remb(a, dice.next() >> 20, &[b]),
                _ => writer.sdes_cname(a, &[7; 100]),
            };
        }
        if writer.is_empty() {
            writer.pli(1, 2).unwrap();
        }
    })
}

/// A random RTP packet under the right key, on a known SSRC most times.
fn junk_rtp(call: &mut Call, who: Who) -> Vec<u8> {
    let mut dice = Dice(call.bed.dice.next());
    let client = &mut call.clients[who];
    let at = dice.below(client.outgoing.len());
    let stream = &mut client.outgoing[at];
    let is_rtx = stream.rtx_ssrc != 0 && dice.hits(300);
    let (ssrc, pt) = if is_rtx { (stream.rtx_ssrc, stream.rtx_pt) } else { (stream.ssrc, stream.pt) };
    let next = if is_rtx { &mut stream.rtx_next } else { &mut stream.next };
    *next += 1 + if dice.hits(50) { dice.next() % 3000 } else { 0 };
    let index = *next;
    let header = HeaderWriter {
        marker: dice.hits(300),
        has_padding: dice.hits(300),
        pt: if dice.hits(900) { pt } else { dice.byte() & 0x7F },
        seq: dataplane_wire::seq::low16(index),
        timestamp: u32::try_from(dice.next() & 0xFFFF_FFFF).unwrap(),
        ssrc: if dice.hits(980) { ssrc } else { 0xDEAD_0000 | u32::from(dice.byte()) },
    };
    let elements: Vec<(u8, Vec<u8>)> = (0..dice.below(6))
        .map(|_| {
            let len = 1 + dice.below(20);
            (1 + dice.byte() % 15, dice.bytes(len))
        })
        .collect();
    let listed: Vec<(u8, &[u8])> = elements.iter().map(|(id, data)| (*id, data.as_slice())).collect();
    let len = if dice.hits(100) { dice.below(3) } else { dice.below(1500) };
    let payload = dice.bytes(len);
    let index = if header.ssrc == ssrc { index } else { index & 0xFFFF };
    seal(&client.tx, index, header, &listed, &payload)
}

// S1: junk under valid keys
#[test]
fn junk_of_an_authenticated_peer_harms_only_itself() {
    for seed in 0..3 {
        let mut call = Call::new(seed, 2);
        let (tracks, receivers) = conference(&mut call, 2);
        let villain = call.join(1);
        let junk = [call.publish(villain, false), call.publish_as(villain, true, &[""], false)];
        for track in &junk {
            for who in &receivers {
                call.subscribe(*who, track);
            }
        }
        for track in &tracks {
            call.subscribe(villain, track);
        }
        for who in &receivers {
            call.clients[*who].incoming[2].is_lenient = true;
            call.clients[*who].incoming[3].is_lenient = true;
        }
        call.clients[villain].incoming.iter_mut().for_each(|stream| stream.is_lenient = true);
        call.run(SECOND);
        call.clients[villain].outgoing.iter_mut().for_each(|stream| stream.is_paused = true);
        call.clients[villain].repairs = false;
        let before = sizes(&call);
        let from = call.clients[villain].flow;
        for _ in 0..1200 {
            for _ in 0..10 {
                let bytes =
                    if call.bed.dice.hits(500) { junk_rtp(&mut call, villain) } else { junk_rtcp(&mut call, villain) };
                call.deliver(from, &bytes);
            }
            call.step();
        }
        assert_eq!(sizes(&call)[..2], before[..2]);
        assert!(call.strays.is_empty());
        call.run(SECOND);
        call.drain();
        for who in receivers {
            for (at, track) in tracks.iter().enumerate() {
                call.clients[who].incoming[at].duplicates = 0;
                call.assert_complete(who, at, track.tags[0]);
            }
        }
    }
}

// S24: arbitrary bytes in the tables
#[test]
fn intent_that_lies_moves_no_packet_to_an_address_that_was_not_validated() {
    for seed in 0..6 {
        let mut call = Call::new(seed, 2);
        conference(&mut call, 2);
        call.run(SECOND);
        let validated: BTreeSet<FlowKey> = call.clients.iter().map(|client| client.flow).collect();
        let files = [
            std::fs::File::from(call.bed.fds.intent.try_clone().unwrap()),
            std::fs::File::from(call.bed.fds.keys.try_clone().unwrap()),
        ];
        call.bed.is_intent_lying = true;
        let mut rings: Vec<_> = call.bed.ids().map(|id| call.bed.segment.change_producer(id).unwrap()).collect();
        let layout = dataplane_abi::segment::intent_layout(call.bed.segment.capacities());
        let sections = [
            (layout.transports.heads, 64 * 8),
            (layout.transports.records, 40_000),
            (layout.tracks.heads, 64 * 8),
            (layout.tracks.records, 40_000),
            (layout.subscriptions.heads, 256 * 8),
            (layout.subscriptions.records, 20_000),
            (layout.change_rings, layout.bytes - layout.change_rings),
        ];
        for round in 0..1500 {
            for _ in 0..6 {
                let keys = call.bed.dice.hits(100);
                let (start, len) = if keys { (4096, 16_000) } else { sections[call.bed.dice.below(sections.len())] };
                let at = start + call.bed.dice.below(len);
                let count = 1 + call.bed.dice.below(12);
                let bytes = call.bed.dice.bytes(count);
                let at = u64::try_from(at).unwrap();
                files[usize::from(keys)].write_at(&bytes, at).unwrap();
            }
            for ring in &mut rings {
                for _ in 0..4 {
                    let slot = if call.bed.dice.hits(900) { call.bed.dice.next() % 300 } else { call.bed.dice.next() };
                    let slot = u32::try_from(slot & 0xFFFF_FFFF).unwrap();
                    let kind = 1 + u32::from(call.bed.dice.byte() % 6);
                    let _ = ring.push(&Change { kind, slot, generation: 1, reserve: 0 });
                }
            }
            assert!(change_kind::ROOM > 0 && round < 1500);
            call.bed.advance(MS);
            call.send_clients();
            call.bed.turn();
            for sent in call.bed.network.take_sent() {
                assert!(validated.contains(&sent.flow), "{:?}", sent.flow);
            }
        }
    }
}

// RTCP of a worker whose publisher leaves in the middle of everything
#[test]
fn people_come_and_go_and_every_table_is_as_it_was() {
    let mut call = Call::new(9, 2);
    let (tracks, _) = conference(&mut call, 2);
    call.run(SECOND);
    let before = sizes(&call);
    let chunks = |call: &Call| call.bed.segment.capacities().chunks;
    for round in 0..300 {
        let who = call.join(round % 2);
        let subscriptions: Vec<_> = tracks.iter().map(|track| call.subscribe(who, track)).collect();
        let own = call.publish(who, true);
        call.run(u64::try_from(5 + round % 120).unwrap() * MS);
        call.bed.intent.retract_track(own.track.slot).unwrap();
        call.leave(who, &subscriptions);
        call.run(5 * MS);
        call.bed.take_events();
    }
    assert_eq!(sizes(&call)[..2], before[..2]);
    assert!(chunks(&call) > 0);
    call.run(SECOND);
    call.strays.clear();
    call.drain();
    for who in [1, 2] {
        for (at, track) in tracks.iter().enumerate() {
            call.assert_complete(who, at, track.tags[0]);
        }
    }
}

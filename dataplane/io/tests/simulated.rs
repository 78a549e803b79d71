// SPDX-License-Identifier: Apache-2.0
//! The simulated network keeps its promises: frames conserved, crashes modelled, the same seed gives the same packets.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "an integration test is a test module")]

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::port::{Ecn, Flushed, Port};
use dataplane_io::simulated::{SimulatedNetwork, SimulatedPort, Weather};
use proptest::prelude::*;

fn flow(remote_port: u16) -> FlowKey {
    FlowKey { local: map_v4([10, 0, 0, 1]), remote: map_v4([10, 0, 0, 2]), local_port: 1, remote_port, reserve: 0 }
}

fn send(port: &mut SimulatedPort, byte: u8) -> bool {
    let path = port.open_path(&flow(9), 46, Ecn(1)).unwrap();
    let Some(frame) = port.reserve(path, 4) else { return false };
    frame.fill(byte);
    port.commit(3);
    true
}

fn bytes(network: &SimulatedNetwork) -> Vec<u8> {
    network.take_sent().iter().map(|sent| sent.bytes[0]).collect()
}

#[test]
fn a_delivered_packet_is_received_with_its_meta_at_its_worker() {
    let network = SimulatedNetwork::new(1, 2);
    network.deliver_to(1, flow(7), b"hello", 99);
    let (mut zero, mut one) = (network.port(0), network.port(1));
    assert_eq!((zero.receive(64), one.receive(64)), (0, 1));
    let (payload, meta) = one.packet(0).unwrap();
    assert_eq!((payload, meta.flow, meta.arrival_ns, meta.ecn), (b"hello".as_slice(), flow(7), 99, Ecn(0)));
    assert!(one.packet(1).is_none());
    one.release();
    assert_eq!(one.receive(64), 0);
}

#[test]
fn a_flow_is_steered_to_one_worker_and_flows_to_all() {
    let network = SimulatedNetwork::new(5, 3);
    let mut seen = [0; 3];
    for port in 1..100 {
        assert_eq!(network.steer(&flow(port)), network.steer(&flow(port)));
        seen[network.steer(&flow(port))] += 1;
    }
    assert!(seen.iter().all(|flows| *flows > 10), "{seen:?}");
}

#[test]
fn a_sent_frame_carries_path_and_payload() {
    let network = SimulatedNetwork::new(1, 1);
    let mut port = network.port(0);
    assert!(send(&mut port, 8));
    assert!(network.take_sent().is_empty(), "committed is not flushed");
    assert_eq!(port.flush(), Flushed { frames: 1, errors: 0 });
    let sent = network.take_sent();
    assert_eq!(
        (sent[0].flow, sent[0].bytes.as_slice(), sent[0].dscp, sent[0].ecn),
        (flow(9), &[8, 8, 8][..], 46, Ecn(1))
    );
}

#[test]
fn a_closed_path_takes_no_frame_and_sends_what_was_committed() {
    let network = SimulatedNetwork::new(1, 1);
    let mut port = network.port(0);
    let path = port.open_path(&flow(9), 0, Ecn(0)).unwrap();
    port.reserve(path, 1).unwrap()[0] = 5;
    port.commit(1);
    port.close_path(path);
    assert!(port.reserve(path, 1).is_none());
    port.flush();
    assert_eq!(bytes(&network), [5]);
}

#[test]
fn a_crash_before_the_flush_sends_nothing_and_after_it_everything() {
    let network = SimulatedNetwork::new(1, 1);
    let mut port = network.port(0);
    assert!(send(&mut port, 1));
    port.flush();
    assert!(send(&mut port, 2));
    drop(port);
    let mut successor = network.port(0);
    assert!(send(&mut successor, 3));
    successor.flush();
    assert_eq!(bytes(&network), [1, 3]);
}

#[test]
fn a_crash_before_the_release_delivers_again() {
    let network = SimulatedNetwork::new(1, 1);
    for byte in 0..4 {
        network.deliver_to(0, flow(7), &[byte], 0);
    }
    let mut port = network.port(0);
    assert_eq!(port.receive(1), 1);
    port.release();
    assert_eq!(port.receive(2), 2);
    drop(port);
    let mut successor = network.port(0);
    assert_eq!(successor.receive(64), 3);
    assert_eq!(successor.packet(0).unwrap().0, [1]);
}

#[test]
fn a_full_tx_ring_gives_no_frame_until_the_kernel_is_done_and_reaped() {
    let network = SimulatedNetwork::new(1, 1);
    network.set_tx_frames(2);
    network.hold_completions(true);
    let mut port = network.port(0);
    assert!(send(&mut port, 1) && send(&mut port, 2) && !send(&mut port, 3));
    assert_eq!(port.tx_room(), 0);
    port.flush();
    port.reap();
    assert!(!send(&mut port, 3), "in flight");
    network.complete(0, 1);
    assert!(!send(&mut port, 3), "completed, not reaped");
    drop(port);
    let mut successor = network.port(0);
    assert_eq!(successor.tx_room(), 0, "the kernel's frames stay the kernel's over a crash");
    successor.reap();
    assert_eq!(successor.tx_room(), 1);
    assert!(send(&mut successor, 3));
}

#[test]
fn a_frame_reserved_twice_is_one_frame() {
    let network = SimulatedNetwork::new(1, 1);
    network.set_tx_frames(1);
    let mut port = network.port(0);
    let path = port.open_path(&flow(9), 0, Ecn(0)).unwrap();
    port.reserve(path, 10).unwrap()[0] = 1;
    assert_eq!(port.tx_room(), 1);
    assert_eq!(port.reserve(path, 20).map(|frame| frame.len()), Some(20));
    port.commit(20);
    assert_eq!((port.tx_room(), network.frames(0).tx_lent), (0, 1));
}

#[test]
fn a_full_rx_queue_is_counted_as_overflow() {
    let network = SimulatedNetwork::new(1, 1);
    network.set_rx_frames(3);
    for _ in 0..5 {
        network.deliver_to(0, flow(1), &[0], 0);
    }
    let mut port = network.port(0);
    assert_eq!((port.receive(64), port.rx_overflow()), (3, 2));
}

#[test]
fn weather_loses_doubles_and_reorders_by_the_seed() {
    let run = |seed| {
        let network = SimulatedNetwork::new(seed, 1);
        network.set_inbound_weather(Weather { loss: 100, duplication: 50, reorder: 100 });
        network.set_outbound_weather(Weather { loss: 100, duplication: 50, reorder: 100 });
        let mut port = network.port(0);
        let mut received = Vec::new();
        for byte in 0..200 {
            network.deliver_to(0, flow(1), &[byte], 0);
            assert!(send(&mut port, byte));
        }
        port.flush();
        for _ in 0..5 {
            for index in 0..port.receive(64) {
                received.push(port.packet(index).unwrap().0[0]);
            }
            port.release();
        }
        (received, bytes(&network))
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    for way in [run(7).0, run(7).1] {
        assert!((0..200).any(|byte| !way.contains(&byte)), "none lost");
        assert!((0..200).any(|byte| way.iter().filter(|it| **it == byte).count() == 2), "none doubled");
        assert!(!way.is_sorted(), "none reordered");
    }
}

#[test]
fn an_early_packet_never_slips_into_a_batch_that_is_lent() {
    let network = SimulatedNetwork::new(3, 1);
    let mut port = network.port(0);
    (0..2).for_each(|byte| network.deliver_to(0, flow(1), &[byte], 0));
    assert_eq!(port.receive(64), 2);
    network.set_inbound_weather(Weather { reorder: 1000, ..Weather::default() });
    (2..6).for_each(|byte| network.deliver_to(0, flow(1), &[byte], 0));
    port.release();
    assert_eq!(port.receive(64), 4);
    let mut rest: Vec<u8> = (0..4).map(|index| port.packet(index).unwrap().0[0]).collect();
    rest.sort_unstable();
    assert_eq!(rest, [2, 3, 4, 5]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver,
    Receive(usize),
    Release,
    Reserve,
    Commit,
    Flush,
    Complete(u64),
    Reap,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Deliver),
        2 => (0_usize..8).prop_map(Step::Receive),
        2 => Just(Step::Release),
        4 => Just(Step::Reserve),
        4 => Just(Step::Commit),
        2 => Just(Step::Flush),
        2 => (0_u64..8).prop_map(Step::Complete),
        2 => Just(Step::Reap),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn frames_are_conserved_over_any_steps(steps in proptest::collection::vec(step(), 0..200), seed in any::<u64>()) {
        const FRAMES: usize = 8;
        let network = SimulatedNetwork::new(seed, 1);
        network.set_tx_frames(FRAMES);
        network.hold_completions(true);
        let mut port = network.port(0);
        let (mut delivered, mut consumed, mut lent) = (0, 0, 0);
        let (mut reserved, mut committed, mut flushed) = (0, 0, 0);
        let mut path = port.open_path(&flow(9), 0, Ecn(0)).unwrap();
        for step in steps {
            match step {
                Step::Deliver => { network.deliver(flow(1), &[1], 0); delivered += 1; }
                Step::Receive(max) => if lent == 0 { lent = port.receive(max) },
                Step::Release => { port.release(); consumed += lent; lent = 0; }
                Step::Reserve => if port.reserve(path, 1).is_some() { reserved = 1; },
                Step::Commit => { port.commit(1); committed += reserved; reserved = 0; }
                Step::Flush => {
                    prop_assert_eq!(port.flush().frames as usize, committed);
                    flushed += committed;
                    committed = 0;
                }
                Step::Complete(frames) => network.complete(0, frames),
                Step::Reap => port.reap(),
                Step::Crash => {
                    drop(port);
                    (lent, reserved, committed) = (0, 0, 0);
                    port = network.port(0);
                    path = port.open_path(&flow(9), 0, Ecn(0)).unwrap();
                }
            }
            let ledger = network.frames(0);
            let kernel = ledger.tx_in_flight + ledger.tx_completed;
            prop_assert_eq!(ledger.tx_lent - ledger.tx_returned, kernel + (reserved + committed) as u64);
            prop_assert_eq!(port.tx_room() + committed + usize::try_from(kernel).unwrap(), FRAMES);
            prop_assert_eq!(ledger.rx_lent - ledger.rx_returned, lent as u64);
            prop_assert_eq!(network.waiting(0), delivered - consumed);
        }
        prop_assert_eq!(network.take_sent().len(), flushed);
        drop(port);
        network.complete(0, FRAMES as u64);
        network.port(0).reap();
        prop_assert!(network.frames(0).is_balanced());
    }
}

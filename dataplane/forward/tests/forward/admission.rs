// SPDX-License-Identifier: Apache-2.0
//! What the classifier is told: who is admitted, in which order, and who failed (CONTRACTS 12 and 27). That the flow map holds
//! exactly the validated paths is checked by the bed after each turn of every test.

use std::sync::atomic::Ordering;

use dataplane_abi::ids::WorkerId;
use dataplane_abi::limits::{BATCH, Capacities};
use dataplane_forward::FlowChange;
use dataplane_io::port::Port;
use dataplane_wire::stun::Role;

use crate::support::bed::Bed;
use crate::support::call::{Call, MS, SECOND};
use crate::support::client::{check, flow};

/// A call of one client that sends nothing by itself.
fn quiet(call: &mut Call) {
    let who = call.join(0);
    call.clients[who].keeps_consent = false;
    call.step();
}

fn good(call: &mut Call, who: usize) -> Vec<u8> {
    let (name, pwd) = (call.clients[who].username(), call.clients[who].server_pwd.clone());
    let transaction = call.bed.dice.bytes(12).try_into().unwrap();
    check(&name, &pwd, transaction, true, Role::Controlling(1))
}

/// One batch for worker 0, and nothing behind the receive half.
fn receive(call: &mut Call) {
    let (worker, port) = (&mut call.bed.workers[0], &mut call.bed.ports[0]);
    let count = port.receive(BATCH);
    worker.receive(&*port, count, call.bed.now);
    port.release();
}

#[test]
fn the_durable_record_comes_first_then_the_flow_map_then_the_answer() {
    let mut call = Call::new(1, 1);
    quiet(&mut call);
    let (request, from) = (good(&mut call, 0), flow(1, 20_000));
    call.deliver(from, &request);
    receive(&mut call);
    let durable = call.bed.segment.transport(call.clients[0].transport.slot).unwrap();
    assert_ne!(durable.paths[0].flow[4].load(Ordering::Relaxed), 0, "the path is stored");
    let taken = call.bed.workers[0].take_admissions();
    assert_eq!(taken.changes, [FlowChange::Admit { flow: from, worker: WorkerId(0) }]);
    assert!(taken.failures.is_empty() && taken.failures_lost == 0 && !taken.is_incomplete);
    call.bed.flow_map.insert(from, WorkerId(0));
    assert!(call.bed.network.take_sent().is_empty(), "nothing has left before the tile");
    call.step();
    assert_eq!(call.clients[0].answers.len(), 1);
    assert!(call.bed.workers[0].take_admissions().changes.is_empty(), "said once");
}

#[test]
fn an_entry_that_was_lost_comes_back_with_a_later_check() {
    let mut call = Call::new(2, 1);
    quiet(&mut call);
    let from = flow(1, 20_000);
    let mut admitted = Vec::new();
    for _ in 0..25 {
        let request = good(&mut call, 0);
        call.deliver(from, &request);
        receive(&mut call);
        admitted.push(call.bed.workers[0].take_admissions().changes.len());
        call.bed.flow_map.insert(from, WorkerId(0));
        call.bed.advance(100 * MS);
        call.step();
    }
    let told: Vec<usize> = (0..25).filter(|at| admitted[*at] == 1).collect();
    assert_eq!(told, vec![0, 10, 20], "once a second at most: {admitted:?}");
}

// A check that arrives at another worker is handed on; the entry names the owner.
#[test]
fn the_flow_map_names_the_owner_whichever_worker_the_check_came_to() {
    for seed in 0..8 {
        let mut call = Call::new(seed, 2);
        call.join(0);
        call.run(200 * MS);
        let strange = flow(1, 40_000);
        call.steer.insert(strange, 1);
        let request = good(&mut call, 0);
        call.deliver(strange, &request);
        for _ in 0..4 {
            call.step();
        }
        assert_eq!(call.bed.flow_map.get(&strange), Some(&WorkerId(0)));
        assert_eq!(call.bed.flow_map.len(), 2);
    }
}

#[test]
fn flows_go_with_their_path_and_with_their_transport() {
    let mut call = Call::new(3, 1);
    call.join(0);
    call.run(200 * MS);
    call.clients[0].keeps_consent = false;
    for port in 40_000..40_006 {
        let request = good(&mut call, 0);
        call.deliver(flow(1, port), &request);
        call.run(20 * MS);
        assert!(call.bed.flow_map.len() <= 4, "{} entries", call.bed.flow_map.len());
    }
    assert!(call.bed.flow_map.contains_key(&flow(1, 40_005)) && !call.bed.flow_map.contains_key(&flow(1, 20_000)));
    call.leave(0, &[]);
    call.run(20 * MS);
    assert!(call.bed.flow_map.is_empty());
}

#[test]
fn checks_that_fail_are_reported_by_address_and_no_others() {
    let mut call = Call::new(4, 1);
    quiet(&mut call);
    let (name, pwd) = (call.clients[0].username(), call.clients[0].server_pwd.clone());
    let mut malformed = good(&mut call, 0);
    let last = malformed.len() - 1;
    malformed[last] ^= 1;
    let cases = [
        (check("nobody:cli0", &pwd, [1; 12], true, Role::Controlling(1)), true),
        (check("srv00000:other", &pwd, [2; 12], true, Role::Controlling(1)), true),
        (check("nocolon", &pwd, [3; 12], true, Role::Controlling(1)), true),
        (check(&name, b"wrong", [4; 12], true, Role::Controlling(1)), true),
        (malformed, false),
        (vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4], false),
        (good(&mut call, 0), false),
    ];
    for (at, (bytes, is_failure)) in (1_u8..).zip(cases) {
        let from = flow(at, 30_000);
        call.deliver(from, &bytes);
        call.bed.turn();
        let wanted = if is_failure { vec![from.remote] } else { Vec::new() };
        assert_eq!(std::mem::take(&mut call.bed.failures), wanted, "case {at}");
    }
}

// More admissions at a start than there is room for, and a map that a predecessor left behind.
#[test]
fn a_successor_brings_the_flow_map_in_line() {
    let capacities = Capacities { workers: 2, transports: 512, ..Capacities::SMALL };
    let mut call = Call::over(Bed::sized(5, capacities));
    let place = |who: usize| usize::from(who % 4 == 3);
    for at in 0..240 {
        let who = call.join(place(at));
        call.clients[who].keeps_consent = false;
    }
    call.tick_ns = 10 * MS;
    call.run(20 * MS);
    for port in 0..4_u16 {
        for who in 0..240_u16 {
            let request = good(&mut call, usize::from(who));
            let from = flow(u8::try_from(who + 1).unwrap(), 40_000 + port * 1000 + who);
            call.steer.insert(from, place(usize::from(who)));
            call.deliver(from, &request);
            if who % 50 == 49 {
                call.step();
            }
        }
    }
    call.step();
    let before = call.bed.flow_map.clone();
    assert_eq!(before.len(), 960);
    call.bed.kill();
    // What no successor admits: somebody of before, under either worker; and entries that were lost.
    call.bed.flow_map.retain(|flow, _| flow.remote_port % 3 != 0);
    call.bed.flow_map.insert(flow(9, 9), WorkerId(0));
    call.bed.flow_map.insert(flow(9, 10), WorkerId(1));
    call.bed.start();
    call.step();
    assert_eq!(call.bed.flow_map, before);
    call.run(SECOND);
    assert_eq!(call.bed.flow_map, before);
}

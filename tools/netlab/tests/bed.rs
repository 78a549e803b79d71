// SPDX-License-Identifier: Apache-2.0
//! The bed with real packets: namespaces, the switch, the relay. Needs root; says so and passes otherwise.
#![cfg(test)]

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use tools_netlab::console;
use tools_netlab::netns::{Bed, Endpoint, Namespace};
use tools_netlab::packet::{Direction, PacketSocket, Tap, UdpFrame};
use tools_netlab::registry;
use tools_netlab::relay::Impairment;

fn skipped() -> bool {
    let root = registry::is_root();
    if !root {
        console::line("SKIPPED: network namespaces need root");
    }
    !root
}

fn socket(endpoint: &Endpoint) -> UdpSocket {
    endpoint.namespace.inside(|| Ok(UdpSocket::bind((endpoint.address.as_str(), 4000))?)).expect("a socket inside")
}

fn exists(name: &str) -> bool {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).lines().any(|line| line.split_whitespace().next() == Some(name))
}

/// Sends `count` numbered datagrams from `a` to `b`: which arrived, in order, with the time that each took.
fn send_numbered(a: &Endpoint, b: &Endpoint, count: u32) -> Vec<(u32, Duration)> {
    let (from, to) = (socket(a), socket(b));
    to.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
    // Received while they are sent: the socket's own queue holds only some hundred.
    let receiver = std::thread::spawn(move || {
        let (mut arrived, mut bytes) = (Vec::new(), [0; 4]);
        while to.recv(&mut bytes).is_ok() {
            arrived.push((u32::from_be_bytes(bytes), Instant::now()));
        }
        arrived
    });
    let mut sent_at = Vec::new();
    for number in 0..count {
        sent_at.push(Instant::now());
        from.send_to(&number.to_be_bytes(), (b.address.as_str(), 4000)).expect("send");
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let arrived = receiver.join().expect("receiver");
    let took = |number: u32, at: Instant| at - sent_at[usize::try_from(number).expect("index")];
    arrived.into_iter().map(|(number, at)| (number, took(number, at))).collect()
}

fn bed_with(impairment: Impairment) -> (Bed, Endpoint, Endpoint) {
    let mut bed = Bed::create().expect("a bed");
    let a = bed.add_impaired("a", impairment, Impairment::default()).expect("an impaired endpoint");
    let b = bed.add("b").expect("an endpoint");
    (bed, a, b)
}

#[test]
fn a_dropped_namespace_is_gone_with_its_processes() {
    if skipped() {
        return;
    }
    let namespace = Namespace::create("gone").expect("a namespace");
    let name = namespace.name().to_owned();
    let mut child = namespace.command("sleep").arg("1000").spawn().expect("sleep inside");
    std::thread::sleep(Duration::from_millis(200));
    assert!(exists(&name));
    drop(namespace);
    assert!(!exists(&name));
    assert!(!child.wait().expect("the child was ended").success());
}

#[test]
fn the_sweep_takes_what_a_dead_lab_left_and_nothing_else() {
    if skipped() {
        return;
    }
    let alive = Namespace::create("alive").expect("a namespace");
    // A process number above the kernel's largest belongs to nobody.
    let stale = "mr-99999999-0-stale";
    assert!(Command::new("ip").args(["netns", "add", stale]).status().expect("ip").success());
    assert!(registry::sweep_stale().expect("sweep") >= 1);
    assert!(!exists(stale));
    assert!(exists(alive.name()));
}

#[test]
fn datagrams_cross_the_switch_and_an_unimpaired_relay_whole() {
    if skipped() {
        return;
    }
    let (bed, a, b) = bed_with(Impairment::default());
    let arrived: Vec<u32> = send_numbered(&a, &b, 2000).into_iter().map(|(number, _)| number).collect();
    assert!(arrived.iter().copied().eq(0..2000), "{} of 2000 arrived, or not in order", arrived.len());
    assert_eq!(bed.relays()[0].counters()[0].failed_frames.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn the_relay_loses_exactly_what_its_seed_says() {
    if skipped() {
        return;
    }
    let impairment = Impairment { seed: 42, loss_ppm: 100_000, ..Impairment::default() };
    let losses = || {
        let (bed, a, b) = bed_with(impairment);
        let arrived: Vec<u32> = send_numbered(&a, &b, 1000).into_iter().map(|(number, _)| number).collect();
        let lost = bed.relays()[0].counters()[0].lost_packets.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(arrived.len() + usize::try_from(lost).expect("count"), 1000);
        arrived
    };
    let first = losses();
    assert!((850..950).contains(&first.len()), "{} of 1000 arrived at 10 % loss", first.len());
    assert!(first == losses(), "the same seed lost other packets");
}

#[test]
fn the_relay_delays_and_reorders() {
    if skipped() {
        return;
    }
    let delay = Duration::from_millis(40);
    let impairment = Impairment { seed: 3, delay, reorder_ppm: 50_000, ..Impairment::default() };
    let (_bed, a, b) = bed_with(impairment);
    let arrived = send_numbered(&a, &b, 400);
    assert_eq!(arrived.len(), 400);
    let inversions = arrived.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    assert!(inversions > 0, "nothing was overtaken");
    let late = arrived.iter().filter(|(_, age)| *age >= delay).count();
    assert!(late > 300, "only {late} of 400 waited {delay:?}");
}

#[test]
fn a_capture_tells_what_an_endpoint_sends_from_what_it_receives() {
    if skipped() {
        return;
    }
    let (_bed, a, b) = bed_with(Impairment::default());
    let captures =
        [&a, &b].map(|end| PacketSocket::open(end.namespace.name(), end.interface, Tap::Both).expect("a capture"));
    assert_eq!(send_numbered(&a, &b, 10).len(), 10);
    let directions = captures.map(|capture| {
        let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
        while let Some((length, direction)) = capture.receive(&mut buffer).expect("receive") {
            let udp = UdpFrame::parse(&buffer[..length]);
            if udp.is_some_and(|udp| udp.to_port == 4000 && udp.payload.len() == 4) {
                seen.push(direction);
            }
        }
        seen
    });
    assert_eq!(directions, [vec![Direction::Outgoing; 10], vec![Direction::Incoming; 10]]);
}

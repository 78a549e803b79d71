// SPDX-License-Identifier: Apache-2.0
//! What a sent and a received 1200-byte packet cost over loopback, io_uring beside plain sockets, runs interleaved.
//!
//! `cargo run --release -p dataplane-io --example loopback_cost`. Sending over loopback includes the kernel's delivery to
//! the receiving socket; the figures compare the ports, they are not a NIC's.
#![expect(clippy::print_stdout, reason = "an example talks to its caller")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_io::open::{Backend, SocketPort, open_socket_port};
use dataplane_io::port::{Ecn, Port};
use dataplane_io::socket::{SetupError, SocketConfig, bind_group};

const TILE: u32 = 64;
const TILES: u32 = 1500;
const RUNS: usize = 9;

fn open(backend: Backend) -> Result<(SocketPort, u16), SetupError> {
    let socket = bind_group(0, 1)?.remove(0);
    let copy = socket.try_clone().map_err(|source| SetupError { what: "dup", source })?;
    let name = UdpSocket::from(copy).local_addr().map_err(|source| SetupError { what: "getsockname", source })?;
    Ok((open_socket_port(socket, backend, SocketConfig::default())?.0, name.port()))
}

/// ns per packet of `near` sending (reserve to flush) and of `far` receiving (receive to release).
fn run(near: Backend, far: Backend) -> Result<(u128, u128), SetupError> {
    let (mut near, near_port) = open(near)?;
    let (mut far, far_port) = open(far)?;
    let local = map_v4([127, 0, 0, 1]);
    let flow = FlowKey { local, remote: local, local_port: near_port, remote_port: far_port, reserve: 0 };
    let path = near.open_path(&flow, 0, Ecn(0)).ok();
    let (mut send, mut receive) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..TILES {
        let start = Instant::now();
        for _ in 0..TILE {
            if let Some(frame) = path.and_then(|path| near.reserve(path, 1200)) {
                frame.fill(7);
                near.commit(1200);
            }
        }
        near.flush();
        send += start.elapsed();
        let start = Instant::now();
        let mut missing = TILE as usize;
        while missing != 0 && start.elapsed() < Duration::from_secs(1) {
            missing = missing.saturating_sub(far.receive(64));
            far.release();
        }
        receive += start.elapsed();
        near.reap();
    }
    let packets = u128::from(TILE) * u128::from(TILES);
    Ok((send.as_nanos() / packets, receive.as_nanos() / packets))
}

fn print(name: &str, mut row: Vec<u128>) {
    row.sort_unstable();
    if let (Some(low), Some(middle), Some(high)) = (row.first(), row.get(row.len() / 2), row.last()) {
        println!("{name:18} median {middle:5} ns, best {low:5}, worst {high:5}");
    }
}

fn main() -> Result<(), SetupError> {
    let mut rows = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        // The other end is plain sockets, so that its part of the kernel's work is the same.
        let uring = (run(Backend::Uring, Backend::Sockets)?.0, run(Backend::Sockets, Backend::Uring)?.1);
        let sockets = run(Backend::Sockets, Backend::Sockets)?;
        for (row, figure) in rows.iter_mut().zip([uring.0, sockets.0, uring.1, sockets.1]) {
            row.push(figure);
        }
    }
    for (name, row) in ["send, uring", "send, sockets", "receive, uring", "receive, sockets"].into_iter().zip(rows) {
        print(name, row);
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! A control plane that is killed in the middle of a call: media does not notice, and its successor knows everybody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::peer::{Call, Peer};
use crate::server::{Server, signal, until};

/// Kills in one call.
const KILLS: usize = 3;

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect((server.place.host, server.http_port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// One request without a body; the status and the body of its answer.
fn ask(server: &Server, method: &str, path: &str) -> (String, String) {
    let mut stream = connect(server);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

/// Sends `join` over a WebSocket of its own, which then goes; what is answered.
fn join(server: &Server, join: &Value) -> Value {
    let mut stream = connect(server);
    write!(
        stream,
        "GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: millrace.v1\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // RFC 6455 §5.2: one text frame under a mask of zeroes.
    let text = join.to_string();
    let len = u8::try_from(text.len()).unwrap();
    assert!(len < 126);
    stream.write_all(&[&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()).unwrap();
    let mut start = [0; 2];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(start[0], 0x81, "one text frame");
    let len = match start[1] {
        126 => {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            usize::from(u16::from_be_bytes(long))
        }
        len => usize::from(len),
    };
    let mut text = vec![0; len];
    stream.read_exact(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Ids and states of the others.
fn others(joined: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = joined["participants"].as_array().unwrap_or_else(|| panic!("{joined}"));
    list.iter().map(|who| (text(&who["id"]), text(&who["state"]))).collect()
}

/// RELIABILITY F: control-plane death costs no media packet, and joins work again within 2 s.
#[test]
fn a_killed_control_plane_ends_no_call_and_its_successor_knows_everybody() {
    let Some(server) = Server::start(&[]) else { return };
    let mut call = Call::start(&server);
    assert!(call.flows(Duration::from_secs(1)), "{}", call.account());
    let mut eve = join(&server, &json!({"type": "join", "id": 1, "room": "demo", "name": "Eve"}));
    assert_eq!(others(&eve), [("ann".to_owned(), "live".to_owned())]);
    let data_plane = server.pid("dataplane");
    let mut viewers = Vec::new();
    for kill in 1..=KILLS {
        // What was answered last may not be on disk yet: its owner would join anew.
        call.run(Duration::from_millis(300));
        let first = call.next_frame_number();
        let before = server.pid("controlplane");
        signal(before, Signal::KILL);
        let killed = Instant::now();
        let is_back = || server.log().matches("Millrace is ready").count() == kill + 1;
        while !is_back() {
            assert!(killed.elapsed() < Duration::from_secs(10), "{}", server.log());
            call.run(Duration::from_millis(10));
        }
        let back = killed.elapsed();
        assert_ne!(server.pid("controlplane"), before);
        call.run(Duration::from_millis(1500));
        let lost = call.lost_since(first);
        eprintln!("control plane back after {} ms, {lost} frames lost, {}", back.as_millis(), call.account());
        assert_eq!(lost, 0);
        // Who was there comes back, and who comes new sees the others.
        eve = join(&server, &json!({"type": "join", "id": 1, "resume": eve["resume"]}));
        assert_eq!((&eve["self"], &eve["resumed"]), (&json!("eve"), &json!(true)), "{eve}");
        let new = join(&server, &json!({"type": "join", "id": 1, "room": "demo", "name": format!("New {kill}")}));
        let seen = others(&new);
        assert!(seen.contains(&("ann".to_owned(), "live".to_owned())), "{new}");
        assert!(seen.iter().any(|(id, _)| id == "eve"), "{new}");
        // And may watch them.
        let mut viewer = Peer::new(&server, "/whep/demo/ann", "recvonly", "next");
        let end = Instant::now() + Duration::from_secs(5);
        while viewer.frames() == 0 {
            assert!(Instant::now() < end, "a new viewer sees nothing");
            call.step();
            viewer.turn();
        }
        viewers.push(viewer);
    }
    assert_eq!(server.pid("dataplane"), data_plane);
    assert_eq!(call.viewer.replayed, 0, "no number is spent twice (CONTRACTS 3)");
    assert!(until(Duration::from_secs(3), || server.status() == 0));
    // What was made before the first kill ends by its URL.
    for resource in [call.viewer.resource.clone(), call.publisher.resource.clone()] {
        assert_eq!(ask(&server, "DELETE", &resource).0, "200");
        assert_eq!(ask(&server, "DELETE", &resource).0, "404", "once");
    }
    let (status, rooms) = ask(&server, "GET", "/api/v1/rooms");
    assert_eq!(status, "200");
    assert!(rooms.contains("demo") && !rooms.contains("ann"), "{rooms}");
}

// SPDX-License-Identifier: Apache-2.0
//! Samples that the sink let through are decrypted by `webrtc-srtp` and held against what was sent: nobody is fast by sending
//! garbage.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bench_trafficgen::payload;
use bench_trafficgen::session::{self, End};
use dataplane_table::{Plan, Receiver};
use serde_json::{Value, json};
use webrtc_srtp::context::Context;

const RTP_HEAD: usize = 12;
/// Between two looks at the sockets.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of the samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Decrypted, and the packet that they should be.
    pub right: u64,
    /// Not authentic, or not what was sent, or of a stream that the receiver does not have.
    pub wrong: u64,
    /// Receivers that were listened to.
    pub receivers: u64,
}

impl Verdict {
    /// For a report.
    #[must_use]
    pub fn figures(&self) -> Value {
        json!({ "right": self.right, "wrong": self.wrong, "receivers": self.receivers, "by": "webrtc-srtp" })
    }
}

struct Listener<'p> {
    socket: UdpSocket,
    session: Context,
    receiver: &'p Receiver,
}

/// Sockets of the sampled receivers.
pub struct Verifier<'p> {
    plan: &'p Plan,
    listeners: Vec<Listener<'p>>,
}

impl<'p> Verifier<'p> {
    /// Binds the addresses of every `stride`-th receiver in this thread's namespace.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn open(plan: &'p Plan, stride: u32) -> Result<Self> {
        let mut listeners = Vec::new();
        for receiver in plan.receivers.iter().step_by(stride.max(1) as usize) {
            let socket = UdpSocket::bind(receiver.remote).with_context(|| format!("bind {}", receiver.remote))?;
            socket.set_nonblocking(true)?;
            let session = session::open(plan.cipher, &receiver.keys, End::FromServer)?;
            listeners.push(Listener { socket, session, receiver });
        }
        Ok(Self { plan, listeners })
    }

    /// Decrypts until `stop` is set, and then what is left.
    pub fn run(mut self, stop: &AtomicBool) -> Verdict {
        let mut verdict = Verdict { receivers: self.listeners.len() as u64, ..Verdict::default() };
        loop {
            let is_last = stop.load(Ordering::Relaxed);
            for listener in &mut self.listeners {
                listener.take(self.plan, &mut verdict);
            }
            if is_last {
                return verdict;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Listener<'_> {
    fn take(&mut self, plan: &Plan, verdict: &mut Verdict) {
        let mut buffer = [0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let is_right = buffer.get(..len).is_some_and(|sealed| self.is_right(plan, sealed));
            *(if is_right { &mut verdict.right } else { &mut verdict.wrong }) += 1;
        }
    }

    /// Whether a packet is authentic and carries what the publisher of its stream has sent.
    fn is_right(&mut self, plan: &Plan, sealed: &[u8]) -> bool {
        let Ok(plain) = self.session.decrypt_rtp(sealed) else { return false };
        let (Some(ssrc), Some(body)) = (plain.get(8..12), plain.get(RTP_HEAD..)) else { return false };
        let stream = self.receiver.streams.iter().find(|stream| stream.ssrc.to_be_bytes() == *ssrc);
        let publisher = stream.and_then(|stream| plan.publishers.get(stream.publisher));
        let track = publisher.zip(stream).and_then(|(publisher, stream)| publisher.tracks.get(stream.track));
        track.is_some_and(|track| payload::read_of(track.codec, body).is_some_and(|said| said.ssrc == track.ssrc))
    }
}

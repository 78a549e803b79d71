// SPDX-License-Identifier: Apache-2.0
//! A plan becomes records: intent as a programmer would publish it, and the durable state that a first worker would have
//! left behind once every peer had been checked. Runs before the workers: nobody else writes durable state then.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use anyhow::Context;
use dataplane_abi::codec::{Cipher, EgressMode, MediaKind, NO_PT, TransportKind, feedback_flags, transport_flags};
use dataplane_abi::durable::{TransportDurable, transport_state};
use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_abi::ids::{TrackRef, TransportRef};
use dataplane_abi::intent::{Credential, KeyIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::layout::Layout;
use dataplane_shm::{IntentWriter, Segment};
use dataplane_table::{Keys, Plan, Track};
use dataplane_wire::codec::Codec;

/// SSRC of our RTCP about no stream of ours, plus the transport's slot.
const RTCP_SSRC: u32 = 0x0B00_0000;

/// Writes all of a plan.
pub(super) fn fill(segment: &Segment, plan: &Plan, now_ns: u64) -> anyhow::Result<()> {
    let mut writer = IntentWriter::attach(segment).context("the segment cannot be written")?;
    let workers = u16::try_from(segment.capacities().workers)?;
    let mut tracks: Vec<Vec<(TrackRef, Track)>> = Vec::new();
    let mut filler = Filler { writer: &mut writer, segment, plan, now_ns, workers, transports: 0 };
    for publisher in &plan.publishers {
        let transport = filler.transport(publisher.remote, &publisher.keys)?;
        let mut published = Vec::new();
        for (at, track) in publisher.tracks.iter().enumerate() {
            published.push((filler.track(transport, at, track)?, *track));
        }
        tracks.push(published);
    }
    for receiver in &plan.receivers {
        let transport = filler.transport(receiver.remote, &receiver.keys)?;
        for stream in &receiver.streams {
            let track = tracks.get(stream.publisher).and_then(|tracks| tracks.get(stream.track));
            let (track, entry) = track.context("a stream of no track")?;
            filler.subscription(transport, *track, entry.pt, stream.ssrc)?;
        }
    }
    Ok(())
}

struct Filler<'f> {
    writer: &'f mut IntentWriter,
    segment: &'f Segment,
    plan: &'f Plan,
    now_ns: u64,
    workers: u16,
    transports: usize,
}

impl Filler<'_> {
    /// A transport with keys whose remote address is validated; the workers get them in turn.
    fn transport(&mut self, remote: SocketAddr, keys: &Keys) -> anyhow::Result<TransportRef> {
        let transport = self.writer.allocate_transport().context("no room for a transport")?;
        let key = self.writer.allocate_key().context("no room for a key")?;
        let record = key_record(self.plan.cipher, keys)?;
        self.writer.write_key(key, &record)?;
        let mut intent = TransportIntent::zeroed();
        intent.generation = transport.generation;
        intent.kind = TransportKind::Webrtc.code();
        intent.cipher = record.cipher;
        intent.flags = transport_flags::REDUCED_SIZE;
        intent.rtcp_ssrc = RTCP_SSRC | transport.slot;
        intent.key = key;
        intent.credentials = [credential(transport)?, Credential::zeroed()];
        self.writer.publish_transport(transport.slot, &intent)?;
        let flow = flow(self.plan.server, remote);
        let worker = u64::try_from(self.transports % usize::from(self.workers.max(1)))?;
        let durable = self.segment.transport(transport.slot).context("no durable record for a transport")?;
        validate(durable, transport.generation, worker, &flow, self.now_ns)?;
        self.transports += 1;
        Ok(transport)
    }

    fn track(&mut self, transport: TransportRef, at: usize, track: &Track) -> anyhow::Result<TrackRef> {
        let slot = self.writer.allocate_track().context("no room for a track")?;
        let mut intent = TrackIntent::zeroed();
        intent.generation = slot.generation;
        intent.transport = transport;
        intent.kind = if track.is_video() { MediaKind::Video } else { MediaKind::Audio }.code();
        intent.codec = codec(track.codec)? as u8;
        intent.pt = track.pt;
        intent.rtx_pt = NO_PT;
        intent.clock_rate = track.clock_rate;
        // A camera is asked for a keyframe where receivers are too far behind to go on without one; a generator that does not
        // listen is sent a packet now and then, and no more.
        intent.feedback = if track.is_video() { feedback_flags::PLI } else { 0 };
        intent.encoding_count = 1;
        intent.mid_len = put(&mut intent.mid, at.to_string().as_bytes())?;
        intent.cname_len = put(&mut intent.cname, format!("table{}", transport.slot).as_bytes())?;
        if let Some(encoding) = intent.encodings.first_mut() {
            encoding.ssrc = track.ssrc;
        }
        self.writer.publish_track(slot.slot, &intent)?;
        Ok(slot)
    }

    fn subscription(&mut self, to: TransportRef, track: TrackRef, pt: u8, ssrc: u32) -> anyhow::Result<()> {
        let slot = self.writer.allocate_subscription().context("no room for a subscription")?;
        let mut intent = SubscriptionIntent::zeroed();
        intent.generation = slot.generation;
        intent.transport = to;
        intent.track = track;
        intent.ssrc = ssrc;
        intent.pt = pt;
        intent.rtx_pt = NO_PT;
        intent.mode = EgressMode::Rewrite.code();
        self.writer.publish_subscription(slot.slot, &intent)?;
        Ok(())
    }
}

/// Nobody knows the password: a table's peers do not check, and nobody else shall.
fn credential(transport: TransportRef) -> anyhow::Result<Credential> {
    let mut password = [0; 16];
    rustix::rand::getrandom(&mut password, rustix::rand::GetRandomFlags::empty()).context("cannot get random bytes")?;
    let text: String = password.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut credential = Credential::zeroed();
    credential.local_ufrag_len = put(&mut credential.local_ufrag, format!("table{:06}", transport.slot).as_bytes())?;
    credential.local_pwd_len = put(&mut credential.local_pwd, text.as_bytes())?;
    Ok(credential)
}

fn key_record(cipher: dataplane_table::Cipher, keys: &Keys) -> anyhow::Result<KeyIntent> {
    let mut record = KeyIntent::zeroed();
    record.cipher = match cipher {
        dataplane_table::Cipher::AeadAes128Gcm => Cipher::AeadAes128Gcm,
        dataplane_table::Cipher::AeadAes256Gcm => Cipher::AeadAes256Gcm,
        dataplane_table::Cipher::AesCm128HmacSha1_80 => Cipher::AesCm128HmacSha1_80,
    }
    .code();
    record.key_len = put(&mut record.rx_key, &keys.rx_key)?;
    record.salt_len = put(&mut record.rx_salt, &keys.rx_salt)?;
    put(&mut record.tx_key, &keys.tx_key)?;
    put(&mut record.tx_salt, &keys.tx_salt)?;
    Ok(record)
}

/// The record of a transport whose peer has been checked and does not need to check again.
fn validate(
    durable: &TransportDurable,
    generation: u32,
    worker: u64,
    flow: &FlowKey,
    now_ns: u64,
) -> anyhow::Result<()> {
    durable.version.store(TransportDurable::VERSION, Ordering::Relaxed);
    durable.size.store(u16::try_from(TransportDurable::SIZE)?, Ordering::Relaxed);
    let path = durable.paths.first().context("no place for a path")?;
    for (cell, word) in path.flow.iter().zip(flow.to_words()) {
        cell.store(word, Ordering::Relaxed);
    }
    path.checked_ns.store(now_ns, Ordering::Relaxed);
    durable.active_path.store(1, Ordering::Relaxed);
    durable.validated_ns.store(now_ns, Ordering::Relaxed);
    // Consent that never expires (RFC 7675 §5.1 has it end after 30 s): later than any time that comes.
    durable.consent_ns.store(u64::MAX, Ordering::Relaxed);
    durable.state.store(transport_state::VALIDATED, Ordering::Relaxed);
    durable.owner.store((u64::from(generation) << 32) | (worker + 1), Ordering::Relaxed);
    durable.generation.store(generation, Ordering::Release);
    Ok(())
}

fn flow(local: SocketAddr, remote: SocketAddr) -> FlowKey {
    FlowKey {
        local: address(local.ip()),
        remote: address(remote.ip()),
        local_port: local.port(),
        remote_port: remote.port(),
        reserve: 0,
    }
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => map_v4(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn codec(name: &str) -> anyhow::Result<Codec> {
    Ok(match name {
        "opus" => Codec::Opus,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        "h264" => Codec::H264,
        "av1" => Codec::Av1,
        other => anyhow::bail!("codec {other:?} is not known"),
    })
}

/// Copies bytes to the beginning of a field; their count.
fn put(field: &mut [u8], bytes: &[u8]) -> anyhow::Result<u8> {
    field.get_mut(..bytes.len()).context("a value is too long for its field")?.copy_from_slice(bytes);
    Ok(u8::try_from(bytes.len())?)
}

// SPDX-License-Identifier: Apache-2.0
//! Rooms, participants and streams as text, made from the same structure as the JSON. It must never compute a figure that
//! the JSON lacks.

use crate::calls::{Encoding, Participant, Receiver, Room, Stream};
use crate::text::{bytes, cells, number, optional, table};

/// `millrace rooms`.
pub(crate) fn rooms(rooms: &[Room]) -> String {
    if rooms.is_empty() {
        return "No room is open.\n".into();
    }
    let mut rows = vec![cells(["ROOM", "TRANSPORTS", "LIVE", "AUDIO", "VIDEO", "SUBSCRIPTIONS", "PARTICIPANTS"])];
    for room in rooms {
        let counts = [room.transports, room.live, room.audio_tracks, room.video_tracks, room.subscriptions];
        let mut row = vec![room.room.clone()];
        row.extend(counts.map(number));
        row.push(room.participants.join(", "));
        rows.push(row);
    }
    table(&rows)
}

/// `millrace participants`.
pub(crate) fn participants(participants: &[Participant]) -> String {
    if participants.is_empty() {
        return "Nobody is here.\n".into();
    }
    let mut rows = vec![cells(["ROOM", "PARTICIPANT", "STATE", "TRANSPORT", "WORKER", "REMOTE", "CIPHER"])];
    if let Some(head) = rows.first_mut() {
        head.extend(cells(["CHECK", "RTT", "RECEIVED", "SENT", "FORGED", "TRACKS", "GETS"]));
    }
    for held in participants {
        rows.push(vec![
            held.room.clone(),
            called(&held.participant),
            held.state.into(),
            held.transport.clone(),
            optional(held.worker),
            held.remote.clone().unwrap_or_else(|| "-".into()),
            held.cipher.unwrap_or("-").into(),
            held.consent_age_ms.map_or_else(|| "-".into(), ago),
            held.rtt_ms.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1} ms")),
            bytes(held.rx_bytes),
            bytes(held.tx_bytes),
            number(held.auth_failures),
            number(held.tracks),
            number(held.subscriptions),
        ]);
    }
    table(&rows)
}

/// `millrace streams`: each track with what arrives of it, then who gets it and why so.
pub(crate) fn streams(streams: &[Stream]) -> String {
    if streams.is_empty() {
        return "Nothing is published.\n".into();
    }
    streams.iter().map(stream).collect::<Vec<_>>().join("\n")
}

fn stream(stream: &Stream) -> String {
    let (room, participant) = (&stream.room, called(&stream.participant));
    let mut text =
        format!("{room}/{participant} {} {} (mid {}, track {})\n", stream.kind, stream.codec, stream.mid, stream.track);
    let mut rows =
        vec![cells(["  FROM", "STATE", "PACKETS", "BYTES", "REPAIRED", "LOST", "NACKS", "KEYFRAMES", "NEWEST"])];
    rows.extend(stream.encodings.iter().map(encoding));
    text.push_str(&table(&rows));
    if stream.receivers.is_empty() {
        text.push_str("  nobody gets it\n");
        return text;
    }
    let mut rows = vec![cells(["  TO", "GETS", "PACKETS", "LOSS", "NACKED", "SENT AGAIN", "SWITCHES", "WHY"])];
    rows.extend(stream.receivers.iter().map(|held| receiver(stream, held)));
    text.push_str(&table(&rows));
    text
}

fn encoding(held: &Encoding) -> Vec<String> {
    let name = if held.rid.is_empty() { "  -".into() } else { format!("  {}", held.rid) };
    let state = match (held.alive, held.silent_ms) {
        (true, _) => "arrives".into(),
        (false, Some(silent)) => format!("silent for {}", ago(silent)),
        (false, None) => "never came".into(),
    };
    let counts = [held.packets, held.repaired, held.lost, held.nacks, held.keyframes].map(number);
    let [packets, repaired, lost, nacks, keyframes] = counts;
    let newest = held.keyframe_age_ms.map_or_else(|| "-".into(), |age| format!("{} ago", ago(age)));
    vec![name, state, packets, bytes(held.bytes), repaired, lost, nacks, keyframes, newest]
}

fn receiver(stream: &Stream, held: &Receiver) -> Vec<String> {
    let encoding = held.encoding.and_then(|encoding| stream.encodings.get(usize::from(encoding)));
    let gets = match encoding {
        Some(encoding) if encoding.rid.is_empty() => "all".into(),
        Some(encoding) => encoding.rid.clone(),
        None => "nothing".into(),
    };
    vec![
        format!(
            "  {}",
            if held.participant.is_empty() { format!("viewer {}", held.transport) } else { held.participant.clone() }
        ),
        gets,
        number(held.packets),
        format!("{:.0} %", held.loss_percent),
        number(held.nacked),
        number(held.retransmitted),
        number(held.switches),
        held.why.clone(),
    ]
}

fn called(participant: &str) -> String {
    if participant.is_empty() { "(viewer)".into() } else { participant.into() }
}

fn ago(ms: u64) -> String {
    if ms < 10_000 { format!("{}.{} s", ms / 1000, ms % 1000 / 100) } else { format!("{} s", ms / 1000) }
}

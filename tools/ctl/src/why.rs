// SPDX-License-Identifier: Apache-2.0
//! Why a receiver gets the picture that it gets: the first cause that holds, in one sentence with what to look at next.

use crate::calls::{Encoding, Receiver, Stream};

/// Loss in a receiver report from which a picture suffers, percent.
const LOSSY_PERCENT: f64 = 2.0;
/// So many keyframes were asked for by one receiver, per keyframe that came, where its decoder does not follow.
const REQUESTS_PER_KEYFRAME: u64 = 3;

/// The sentence. `is_silent`: the receiver's transport has no consent or no path.
pub(crate) fn explain(stream: &Stream, receiver: &Receiver, is_silent: bool, has_keys: bool) -> String {
    if let Some(why) = not_sent(stream, receiver, is_silent, has_keys) {
        return why;
    }
    let Some(current) = receiver.encoding.and_then(|encoding| stream.encodings.get(usize::from(encoding))) else {
        return "waits for a keyframe of the source".into();
    };
    if !current.alive {
        return format!("the publisher has stopped sending {}: {}", called(current), silence(current));
    }
    if receiver.loss_percent >= LOSSY_PERCENT {
        let (loss, nacked) = (receiver.loss_percent, receiver.nacked);
        return format!("the way to the receiver loses {loss:.0} % ({nacked} packets asked for again)");
    }
    if current.lost > 0 && current.lost * 100 > current.packets {
        return format!("the publisher's own way loses packets: {} of {} never came", current.lost, current.packets);
    }
    let asked = receiver.keyframe_requests;
    if asked > 10 && asked > current.keyframes * REQUESTS_PER_KEYFRAME {
        return format!("its decoder asks for keyframes ({asked} times) and {} have come", current.keyframes);
    }
    match higher(stream, receiver, current) {
        Some(why) => why,
        None => "gets the best that is sent".into(),
    }
}

/// Why nothing at all goes out.
fn not_sent(stream: &Stream, receiver: &Receiver, is_silent: bool, has_keys: bool) -> Option<String> {
    if !has_keys {
        return Some("nothing is sent: no keys yet (DTLS has not finished)".into());
    }
    if is_silent {
        return Some("nothing is sent: the receiver's connectivity checks have stopped or never came".into());
    }
    if stream.encodings.iter().all(|encoding| encoding.packets == 0) {
        return Some("nothing to send: the publisher has sent no packet of this track".into());
    }
    if receiver.packets == 0 && !stream.encodings.iter().any(|encoding| encoding.alive) {
        return Some("nothing to send: the publisher has stopped (muted, or its camera is off)".into());
    }
    None
}

/// Why it is not a higher encoding, where one exists.
fn higher(stream: &Stream, receiver: &Receiver, current: &Encoding) -> Option<String> {
    let best = stream.encodings.iter().rev().find(|encoding| encoding.encoding > current.encoding)?;
    if receiver.max_encoding <= current.encoding {
        let asked = called(current);
        return Some(format!("gets {asked} because its subscription allows no more (a small tile, or max_height)"));
    }
    let mut allowed = stream
        .encodings
        .iter()
        .filter(|encoding| encoding.encoding > current.encoding && encoding.encoding <= receiver.max_encoding);
    let alive = allowed.rfind(|encoding| encoding.alive);
    Some(match alive {
        Some(alive) => format!("waits for a keyframe of {} and gets {} until then", called(alive), called(current)),
        None => {
            format!("gets {} because the publisher does not send {}: {}", called(current), called(best), silence(best))
        }
    })
}

fn called(encoding: &Encoding) -> String {
    if encoding.rid.is_empty() { "its one encoding".into() } else { format!("encoding {:?}", encoding.rid) }
}

fn silence(encoding: &Encoding) -> String {
    match encoding.silent_ms {
        Some(silent) => format!("silent for {}.{} s", silent / 1000, silent % 1000 / 100),
        None => "it never came".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(encoding: u8, rid: &str, alive: bool) -> Encoding {
        let silent_ms = Some(if alive { 20 } else { 9400 });
        Encoding { encoding, rid: rid.into(), alive, silent_ms, packets: 1000, keyframes: 4, ..Encoding::default() }
    }

    fn simulcast(highest_alive: u8) -> Stream {
        let encodings = [(0, "l"), (1, "m"), (2, "h")].map(|(at, rid)| encoding(at, rid, at <= highest_alive)).to_vec();
        Stream { encodings, ..Stream::default() }
    }

    fn gets(encoding: u8, max_encoding: u8) -> Receiver {
        Receiver { encoding: Some(encoding), max_encoding, packets: 900, ..Receiver::default() }
    }

    fn why(stream: &Stream, receiver: &Receiver) -> String {
        explain(stream, receiver, false, true)
    }

    #[test]
    fn each_cause_of_a_blurred_picture_has_its_sentence() {
        assert_eq!(why(&simulcast(2), &gets(2, 2)), "gets the best that is sent");
        assert!(why(&simulcast(2), &gets(0, 0)).contains("its subscription allows no more"));
        assert!(why(&simulcast(2), &gets(0, 2)).contains("waits for a keyframe of encoding \"h\""));
        let starved = why(&simulcast(0), &gets(0, 2));
        assert_eq!(starved, "gets encoding \"l\" because the publisher does not send encoding \"h\": silent for 9.4 s");
        assert!(why(&simulcast(2), &Receiver { loss_percent: 12.0, nacked: 7, ..gets(2, 2) }).contains("loses 12 %"));
        let mut lossy = simulcast(2);
        lossy.encodings[2].lost = 50;
        assert!(why(&lossy, &gets(2, 2)).contains("50 of 1000 never came"));
        assert!(why(&simulcast(2), &Receiver { keyframe_requests: 40, ..gets(2, 2) }).contains("asks for keyframes"));
    }

    #[test]
    fn what_is_not_sent_at_all_says_so_first() {
        let lossy = Receiver { loss_percent: 50.0, ..gets(2, 2) };
        assert!(explain(&simulcast(2), &lossy, true, true).contains("connectivity checks"));
        assert!(explain(&simulcast(2), &lossy, true, false).contains("no keys yet"));
        let mut unborn = simulcast(2);
        unborn.encodings.iter_mut().for_each(|encoding| encoding.packets = 0);
        assert!(why(&unborn, &gets(0, 2)).contains("has sent no packet"));
        let fresh = Receiver { encoding: None, packets: 0, ..gets(0, 2) };
        assert!(why(&simulcast(2), &fresh).contains("waits for a keyframe"));
    }
}

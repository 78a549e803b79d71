// SPDX-License-Identifier: Apache-2.0
//! Who is shown in a slot changes, and the receiver sees one stream that goes on: numbers, clock and pictures (MEDIA_RULES G1,
//! G4, G5, G10, G11, V3, V4, O1; CONTRACTS 3, 9).

use std::sync::atomic::Ordering;

use dataplane_abi::ids::SubscriptionRef;
use dataplane_wire::codec::Codec;
use dataplane_wire::seq;

use crate::support::call::{Call, MS, SECOND, Track, Who};
use crate::support::incoming::{Got, Incoming};

/// A receiver with one slot, and what it was told to show.
struct Stage {
    call: Call,
    tracks: Vec<Track>,
    receiver: Who,
    slot: SubscriptionRef,
    /// Since when, and the tag.
    shown: Vec<(u64, Option<u32>)>,
}

impl Stage {
    /// Publishers of these codecs, one at each worker in turn, and a receiver at `place`.
    fn new(seed: u64, codecs: &[Codec], place: usize) -> Self {
        let mut call = Call::new(seed, 2);
        let tracks: Vec<Track> = (0..)
            .zip(codecs)
            .map(|(at, codec)| {
                let publisher = call.join(at % 2);
                call.publish_codec(publisher, *codec, &[""], true)
            })
            .collect();
        let receiver = call.join(place);
        let slot = call.add_slot(receiver, codecs[0] != Codec::Opus);
        call.run(300 * MS);
        Self { call, tracks, receiver, slot, shown: Vec::new() }
    }

    fn show(&mut self, track: Option<usize>) {
        let track = track.map(|at| self.tracks[at].clone());
        self.call.show(self.slot, track.as_ref());
        self.shown.push((self.call.bed.now.mono_ns, track.map(|track| track.tags[0])));
    }

    fn stream(&self) -> &Incoming {
        self.call.incoming(self.receiver, 0)
    }

    fn video_rate(&self) -> u32 {
        if self.stream().expected.is_video { 90_000 } else { 48_000 }
    }

    /// Nothing is seen of what is not shown: from the next turn but one on.
    fn assert_only_what_is_shown(&self) {
        for got in self.stream().got.values().filter(|got| !got.is_rtx) {
            let since = |at: u64| self.shown.iter().rev().find(|(from, _)| *from < at).and_then(|(_, tag)| *tag);
            let allowed = [since(got.at_ns), since(got.at_ns - 2 * self.call.tick_ns)];
            assert!(allowed.contains(&Some(got.tag)), "{} at {}: {allowed:?}", got.tag, got.at_ns);
        }
    }

    /// Each time something was shown for long enough it was seen, from an entry on.
    fn assert_everything_was_seen(&self, within_ns: u64) -> usize {
        let ends = self.shown.iter().skip(1).map(|(at, _)| *at).chain([self.call.bed.now.mono_ns]);
        let mut seen = 0;
        for ((from, tag), end) in self.shown.iter().zip(ends) {
            let Some(tag) = tag.filter(|_| end - from > within_ns) else { continue };
            let first = self.stream().got.values().find(|got| got.tag == tag && got.at_ns > *from && !got.is_rtx);
            let first = first.unwrap_or_else(|| panic!("{tag} was not seen in {} ms", (end - from) / MS));
            assert!(first.at_ns - from <= within_ns, "{} ms until {tag} was seen", (first.at_ns - from) / MS);
            seen += 1;
        }
        seen
    }

    /// Two neighbours in the order of the receiver's numbers.
    fn assert_neighbours(&self, before: &Got, after: &Got) {
        assert!(!seq::newer32(before.rtp_ts, after.rtp_ts), "G5: time goes back: {before:?} {after:?}");
        let is_same = before.tag == after.tag && before.source_index + 1 == after.source_index;
        if is_same {
            return;
        }
        assert!(after.is_keyframe_start || after.codec == Codec::Opus, "G4: a stretch begins with a keyframe");
        let passed = seq::diff32(after.rtp_ts, before.rtp_ts);
        assert!(passed > 0, "G5: another frame has another time");
        let passed = i64::from(passed) * 1000 / i64::from(self.video_rate());
        let wall = (after.sent_ns.cast_signed() - before.sent_ns.cast_signed()) / 1_000_000;
        assert!((passed - wall).abs() < 120, "G5: {passed} ms of media in {wall} ms");
    }

    fn assert_stream(&self) {
        self.assert_only_what_is_shown();
        let stream = self.stream();
        assert_eq!(stream.duplicates, 0);
        let all: Vec<(u64, &Got)> = stream.got.iter().map(|(index, got)| (*index, got)).collect();
        for two in all.windows(2) {
            let ((left, before), (right, after)) = (two[0], two[1]);
            self.assert_neighbours(before, after);
            // G4: one number is left out where the frame before was cut, and nowhere else.
            let is_cut = before.codec != Codec::Opus && !before.marker && after.is_keyframe_start;
            assert_eq!(right - left, 1 + u64::from(is_cut), "{left} to {right}: {before:?} {after:?}");
        }
        self.assert_pictures();
    }

    /// V3, V4, N7: pictures are counted on over a switch, also where a codec without numbers was shown in between.
    fn assert_pictures(&self) {
        let numbered = self.stream().got.values().filter(|got| matches!(got.codec, Codec::Vp8 | Codec::Vp9));
        let numbered: Vec<&Got> = numbered.collect();
        for two in numbered.windows(2).filter(|two| two[0].tag != two[1].tag) {
            let (before, after) = (two[0], two[1]);
            assert_eq!(after.picture_id, (before.picture_id + 1) & 0x7FFF, "{before:?} {after:?}");
            assert_eq!(after.tl0, before.tl0.wrapping_add(1), "{before:?} {after:?}");
            let is_vp8 = (before.codec, after.codec) == (Codec::Vp8, Codec::Vp8);
            assert!(!is_vp8 || after.keyidx == (before.keyidx + 1) & 31, "{before:?} {after:?}");
        }
    }
}

// G1, G4, G5, V3, V4
#[test]
fn three_publishers_change_places_two_hundred_times_and_the_stream_goes_on() {
    for (seed, place) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut stage = Stage::new(seed, &[Codec::Vp8; 3], place);
        let mut at = 0;
        for _ in 0..200 {
            at = (at + 1 + stage.call.bed.dice.below(2)) % 3;
            stage.show(Some(at));
            let ms = 3 + stage.call.bed.dice.next() % if stage.call.bed.dice.hits(200) { 1500 } else { 100 };
            stage.call.run(ms * MS);
        }
        stage.call.run(SECOND);
        stage.call.drain();
        stage.assert_stream();
        assert!(stage.assert_everything_was_seen(650 * MS) > 10);
        for client in &stage.call.clients[..3] {
            for two in client.outgoing[0].requests.windows(2) {
                assert!(two[1] - two[0] >= 500 * MS, "S15: one request in 500 ms");
            }
        }
        assert!(stage.call.clients[stage.receiver].byes.is_empty());
    }
}

// G1: the payload type goes with the codec, H1, N7
#[test]
fn a_slot_shows_tracks_of_different_codecs() {
    let codecs = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1, Codec::Vp8, Codec::Vp9];
    for (seed, place) in [(11, 0), (12, 1)] {
        let mut stage = Stage::new(seed, &codecs, place);
        let mut at = 0;
        for _ in 0..120 {
            at = (at + 1 + stage.call.bed.dice.below(codecs.len() - 1)) % codecs.len();
            stage.show(Some(at));
            let ms = 20 + stage.call.bed.dice.next() % 900;
            stage.call.run(ms * MS);
        }
        stage.call.run(SECOND);
        stage.call.drain();
        stage.assert_stream();
        assert!(stage.assert_everything_was_seen(650 * MS) > 10);
        for codec in [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1] {
            assert!(stage.stream().got.values().any(|got| got.codec == codec), "{codec:?}");
        }
    }
}

// O1
#[test]
fn microphones_change_places_without_a_gap() {
    for (seed, place) in [(21, 0), (22, 1)] {
        let mut stage = Stage::new(seed, &[Codec::Opus; 3], place);
        for step in 0..200 {
            stage.show(Some(step % 3));
            let ms = 1 + stage.call.bed.dice.next() % 150;
            stage.call.run(ms * MS);
        }
        stage.call.run(100 * MS);
        stage.call.drain();
        stage.assert_stream();
        assert!(stage.assert_everything_was_seen(45 * MS) > 100);
        assert_eq!(stage.stream().missing(), Vec::<u64>::new());
    }
}

// G4: a frame that was cut is seen to be incomplete, and the number that says so is nobody's
#[test]
fn a_frame_that_is_cut_by_a_switch_leaves_one_number_out() {
    for (seed, place) in [(26, 0), (27, 1)] {
        let mut stage = Stage::new(seed, &[Codec::Vp8, Codec::Vp8], place);
        stage.show(Some(0));
        stage.call.run(SECOND);
        for round in 0..10 {
            let (from, to) = (round % 2, (round + 1) % 2);
            stage.call.clients[from].outgoing[0].is_paused = true;
            stage.call.run(50 * MS);
            let now = stage.call.bed.now.mono_ns;
            let client = &mut stage.call.clients[from];
            let stream = &mut client.outgoing[0];
            (stream.frame_packets, stream.wants_keyframe) = (4, false);
            let frame =
                stream.frame(&client.tx, &mut client.transport_seq, &stage.call.world, &mut stage.call.bed.dice, now);
            let address = client.flow;
            for packet in &frame[..2] {
                stage.call.deliver(address, packet);
            }
            stage.call.step();
            stage.call.step();
            let cut = stage.stream().highest().unwrap();
            assert!(!stage.stream().got[&cut].marker);
            stage.show(Some(to));
            for packet in &frame[2..] {
                stage.call.deliver(address, packet);
            }
            stage.call.clients[from].outgoing[0].is_paused = false;
            stage.call.clients[from].outgoing[0].next_frame_ns = 0;
            stage.call.run(700 * MS);
            let (next, got) = stage.stream().got.range(cut + 1..).next().unwrap();
            assert!(*next == cut + 2 && got.is_keyframe_start, "round {round}");
            // Whoever asks for it gets nothing: it would be somebody's who is shown no more.
            let sent = |call: &Call| call.bed.total(|counters| counters.rtx_sent.load(Ordering::Relaxed));
            let (before, ssrc) = (sent(&stage.call), stage.stream().expected.ssrc);
            let client = &mut stage.call.clients[stage.receiver];
            let nack = client.rtcp(|writer| {
                writer.nack(1, ssrc, [seq::low16(cut + 1)]).unwrap();
            });
            let address = client.flow;
            stage.call.deliver(address, &nack);
            stage.call.run(50 * MS);
            assert_eq!(sent(&stage.call), before, "round {round}");
        }
        stage.call.drain();
        stage.assert_stream();
    }
}

// G11: who is shown no more is still repaired, with the codec it had, while its stretch is kept
#[test]
fn what_was_lost_before_a_switch_is_sent_again_after_it() {
    for (seed, place) in [(31, 0), (32, 1)] {
        let mut stage = Stage::new(seed, &[Codec::Vp8, Codec::H264, Codec::Vp8], place);
        let receiver = stage.receiver;
        stage.show(Some(0));
        stage.call.run(SECOND);
        for round in 0..12 {
            stage.call.clients[receiver].nacks = false;
            let next = seq::low16(stage.stream().highest().unwrap()).wrapping_add(1);
            stage.call.clients[receiver].incoming[0].lose.insert(next);
            let lost = loop {
                stage.call.step();
                // Holes that a cut frame left are nobody's.
                let newest = stage.stream().highest().unwrap();
                let lost = stage
                    .stream()
                    .missing()
                    .into_iter()
                    .rfind(|index| newest - index < 20 && seq::low16(*index) == next);
                if let Some(lost) = lost {
                    break lost;
                }
            };
            // Away, and every other time back again: the numbers of the first stretch mean what they meant.
            let (from, other) = (round % 3, (round + 1) % 3);
            stage.show(Some(other));
            stage.call.run(700 * MS);
            if round % 2 == 1 {
                stage.show(Some(from));
                stage.call.run(700 * MS);
                stage.show(Some(other));
                stage.call.run(700 * MS);
            }
            stage.call.clients[receiver].nacks = true;
            stage.call.run(200 * MS);
            let again = stage.stream().got.get(&lost).unwrap_or_else(|| panic!("round {round}: not sent again"));
            assert!(again.is_rtx && again.tag == stage.tracks[from].tags[0]);
        }
    }
}

// G10
#[test]
fn an_empty_slot_is_silent_and_says_no_goodbye() {
    for place in [0, 1] {
        let mut stage = Stage::new(41, &[Codec::Vp8; 2], place);
        let receiver = stage.receiver;
        stage.call.run(2 * SECOND);
        assert!(stage.stream().got.is_empty() && stage.stream().report.is_none(), "nothing is shown yet");
        stage.show(Some(0));
        stage.call.run(3 * SECOND);
        assert!(stage.stream().report.is_some());
        assert_eq!(stage.stream().cname, b"cname0");
        stage.show(None);
        stage.call.run(20 * MS);
        let (count, report) = (stage.stream().got.len(), stage.stream().report);
        stage.call.run(5 * SECOND);
        assert_eq!((stage.stream().got.len(), stage.stream().report), (count, report), "silence");
        stage.show(Some(1));
        stage.call.run(3 * SECOND);
        assert!(stage.stream().got.len() > count + 50 && stage.stream().report != report);
        assert_eq!(stage.stream().cname, b"cname1");
        assert!(stage.call.clients[receiver].byes.is_empty());
        stage.call.drain();
        stage.assert_stream();
    }
}

// Its track ends: the slot is empty, and shows the next one, also one that has the place and the SSRC of the first.
#[test]
fn a_track_that_ends_leaves_its_slot_for_the_next() {
    for place in [0, 1] {
        let mut stage = Stage::new(51, &[Codec::Vp8; 2], place);
        stage.show(Some(0));
        stage.call.run(SECOND);
        for round in 0..6_u32 {
            let (ended, publisher) = (stage.tracks[0].track, stage.tracks[0].publisher);
            let mut record = stage.call.bed.segment.intent_track(ended.slot).unwrap();
            stage.call.bed.intent.retract_track(ended.slot).unwrap();
            let old = stage.call.clients[publisher].outgoing[0].tag;
            stage.call.run(100 * MS);
            let count = stage.stream().got.len();
            stage.call.run(500 * MS);
            assert_eq!(stage.stream().got.len(), count, "nothing comes of a track that ended");
            // The same SSRC says something new, with another clock and other pictures.
            let track = loop {
                let track = stage.call.bed.intent.allocate_track().unwrap();
                if track.slot == ended.slot {
                    break track;
                }
            };
            record.generation = track.generation;
            let client = &mut stage.call.clients[publisher].outgoing[0];
            client.tag = 1000 + round;
            client.rtp_ts = client.rtp_ts.wrapping_add(0x4000_0000);
            client.picture_id = (client.picture_id + 5000) & 0x7FFF;
            client.wants_keyframe = true;
            stage.call.bed.intent.publish_track(track.slot, &record).unwrap();
            stage.tracks[0].track = track;
            stage.tracks[0].tags = vec![1000 + round];
            assert_ne!(old, 1000 + round);
            if round % 2 == 0 {
                stage.show(Some(1));
                stage.call.run(700 * MS);
            }
            stage.show(Some(0));
            stage.call.run(SECOND);
            assert!(stage.stream().got.values().any(|got| got.tag == 1000 + round), "round {round}");
        }
        stage.call.drain();
        stage.assert_stream();
    }
}

// What never changes while a slot lives is refused, and nothing is sent to nobody's liking.
#[test]
fn a_slots_identity_does_not_change() {
    let mut stage = Stage::new(61, &[Codec::Vp8; 2], 0);
    stage.show(Some(0));
    stage.call.run(SECOND);
    let good = stage.call.bed.segment.intent_subscription(stage.slot.slot).unwrap();
    for change in 0..3 {
        let mut record = good;
        record.track = stage.tracks[1].track;
        match change {
            0 => record.ssrc += 1000,
            1 => record.rtx_ssrc += 1000,
            _ => record.mid[0] ^= 1,
        }
        let refused = |call: &Call| call.bed.total(|counters| counters.intent_refused.load(Ordering::Relaxed));
        let before = refused(&stage.call);
        stage.call.bed.intent.publish_subscription(stage.slot.slot, &record).unwrap();
        stage.call.run(100 * MS);
        assert!(refused(&stage.call) > before, "change {change}");
    }
    stage.call.drain();
    stage.assert_stream();
}

/// Slots of several receivers that change all the time.
struct Storm {
    call: Call,
    tracks: Vec<Track>,
    /// Client, stream, subscription, what is shown.
    slots: Vec<(Who, usize, SubscriptionRef, Option<usize>)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut call = Call::new(seed, 2);
        let codecs = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Vp8, Codec::Vp8, Codec::Av1];
        let mut tracks = Vec::new();
        for (at, codec) in codecs.into_iter().enumerate() {
            let publisher = call.join(at % 2);
            call.clients[publisher].loss = 20;
            tracks.push(call.publish_codec(publisher, codec, &[""], true));
        }
        let mut slots = Vec::new();
        for at in 0..4 {
            let who = call.join(at % 2);
            for stream in 0..3 {
                let slot = call.add_slot(who, true);
                slots.push((who, stream, slot, None));
            }
        }
        call.run(300 * MS);
        Self { call, tracks, slots }
    }

    fn show(&mut self, slot: usize, track: Option<usize>) {
        let entry = &mut self.slots[slot];
        entry.3 = track;
        let track = track.map(|at| self.tracks[at].clone());
        self.call.show(entry.2, track.as_ref());
    }
}

#[test]
fn a_storm_of_switches_under_loss_leaves_nobody_behind() {
    for seed in 71..75 {
        let mut storm = Storm::new(seed);
        for _ in 0..2000 {
            let (slot, track) = (storm.call.bed.dice.below(storm.slots.len()), storm.call.bed.dice.below(7));
            storm.show(slot, track.checked_sub(1));
            if storm.call.bed.dice.hits(30) {
                let (who, stream, ..) = storm.slots[slot];
                let lost = storm.call.bed.dice.next() & 0xFFFF;
                let highest = storm.call.incoming(who, stream).highest().map_or(0, seq::low16);
                let ahead = u16::try_from(lost % 20).unwrap();
                storm.call.clients[who].incoming[stream].lose.insert(highest.wrapping_add(1 + ahead));
            }
            if storm.call.bed.dice.hits(700) {
                storm.call.step();
            }
        }
        for client in &mut storm.call.clients {
            client.loss = 0;
            client.incoming.iter_mut().for_each(|stream| stream.lose.clear());
        }
        for slot in 0..storm.slots.len() {
            storm.show(slot, Some(slot % 6));
        }
        storm.call.run(2 * SECOND);
        for (who, stream, _, shown) in storm.slots.clone() {
            let stream = storm.call.incoming(who, stream);
            let wanted = storm.tracks[shown.unwrap()].tags[0];
            let newest = stream.got.values().next_back().unwrap();
            assert!(newest.tag == wanted && storm.call.bed.now.mono_ns - newest.at_ns < 60 * MS, "seed {seed}: stuck");
            for two in stream.got.values().collect::<Vec<_>>().windows(2) {
                assert!(!seq::newer32(two[0].rtp_ts, two[1].rtp_ts), "seed {seed}: RTP time goes back");
                assert!(two[0].tag == two[1].tag || two[1].is_keyframe_start, "seed {seed}: G4");
            }
            // The receivers' clock has not run away from the wall's.
            let first = stream.got.values().next().unwrap();
            let media = i64::from(newest.rtp_ts.wrapping_sub(first.rtp_ts)) / 90;
            let wall = i64::try_from((newest.sent_ns - first.sent_ns) / MS).unwrap();
            assert!((media - wall).abs() < 1000, "seed {seed}: {media} ms of media in {wall} ms");
        }
        storm.call.drain();
    }
}

// The mask of interested workers: where nobody receives, nobody is woken.
#[test]
fn a_worker_that_shows_nothing_is_left_in_peace() {
    let mut storm = Storm::new(81);
    for step in 0..600 {
        let slot = storm.call.bed.dice.below(storm.slots.len());
        storm.show(slot, Some(step % 6));
        storm.call.run(4 * MS);
    }
    storm.call.run(SECOND);
    for slot in 0..storm.slots.len() {
        storm.show(slot, None);
    }
    storm.call.run(100 * MS);
    storm.call.bed.wakes = 0;
    storm.call.run(SECOND);
    assert_eq!(storm.call.bed.wakes, 0, "doorbells about streams that nobody receives");
    storm.show(0, Some(1));
    storm.call.run(SECOND);
    let (who, stream, ..) = storm.slots[0];
    assert!(storm.call.bed.now.mono_ns - storm.call.incoming(who, stream).last_at_ns < 60 * MS);
    storm.call.drain();
}

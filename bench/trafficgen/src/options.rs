// SPDX-License-Identifier: Apache-2.0
//! How the senders send: shapes, what a network does to them, pauses, encodings, layers, and where payloads come from.

use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_table::{Plan, Publisher};

use crate::impairment::Impairment;
use crate::media::Shape;
use crate::recording::Recordings;
use crate::svc::Svc;

/// How the senders send.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// What cameras send.
    pub video: Shape,
    /// What microphones send.
    pub audio: Shape,
    /// Where the sequence numbers begin.
    pub first_seq: u16,
    /// Packets of a frame that leave together, the rest of it spread over the time until the next one; 0 = all of them.
    pub burst: u64,
    /// What a network between publisher and server does.
    pub impairment: Impairment,
    /// Publishers that go and come.
    pub churn: Option<Churn>,
    /// Bit rates of the encodings of a camera: its publisher's first video track has the first, and so on. Empty = no simulcast.
    pub encodings_bps: Vec<u64>,
    /// Temporal layers of video, 1 to 3 (VP8's descriptor names them).
    pub temporal_layers: u8,
    /// Spatial and temporal layers of VP9.
    pub svc: Svc,
    /// Cameras send more for a while.
    pub surge: Option<Surge>,
    /// Payloads and times from a recording, in place of [`Options::video`] and [`Options::audio`].
    pub recordings: Option<Recordings>,
    /// Each track begins at a random place of its rhythm, as people do who come one by one; else all of them evenly spread.
    pub has_random_phases: bool,
    /// Where what is random begins.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            video: Shape::VIDEO,
            audio: Shape::AUDIO,
            first_seq: 1000,
            burst: 0,
            impairment: Impairment::default(),
            churn: None,
            encodings_bps: Vec::new(),
            temporal_layers: 1,
            svc: Svc::NONE,
            surge: None,
            recordings: None,
            has_random_phases: false,
            seed: 1,
        }
    }
}

impl Options {
    /// Refuses what cannot be sent to this plan.
    ///
    /// # Errors
    /// What does not fit, and what would.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        ensure!(
            (1..=3).contains(&self.temporal_layers),
            "{} temporal layers: 1 to 3 are possible",
            self.temporal_layers
        );
        self.impairment.check()?;
        if let Some(churn) = self.churn {
            ensure!(!churn.sends.is_zero(), "a publisher that never sends cannot pause: give it a time to send");
        }
        for shape in [self.video, self.audio] {
            let fits = shape.frame_rate > 0.0 && shape.packet_rate > 0.0 && shape.payload <= LONGEST_PAYLOAD;
            ensure!(fits, "{shape:?}: rates must be above 0, payloads at most {LONGEST_PAYLOAD} bytes");
        }
        let is_vp9 = |publisher: &Publisher| publisher.tracks.iter().any(|track| track.codec == "vp9");
        ensure!(
            self.svc == Svc::NONE || plan.publishers.iter().any(is_vp9),
            "layers of VP9 for a table without a track of that codec"
        );
        let cameras = plan.publishers.iter().map(|p| p.tracks.iter().filter(|track| track.is_video()).count());
        let most = cameras.max().unwrap_or(0);
        ensure!(
            self.encodings_bps.is_empty() || most <= self.encodings_bps.len(),
            "{} encodings for a publisher with {most} video tracks: name one bit rate for each",
            self.encodings_bps.len()
        );
        Ok(())
    }
}

/// With header, tag and headers below it fits an MTU of 1500.
const LONGEST_PAYLOAD: usize = 1400;

/// A publisher sends for a while and pauses for a while, again and again; publishers take turns. Afterwards it goes on with the
/// numbers of an encoder that has started again: sequence numbers far ahead, a keyframe first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Churn {
    /// How long it sends.
    pub sends: Duration,
    /// How long it pauses.
    pub pauses: Duration,
}

impl Churn {
    /// Until when the publisher pauses at a time after the start, ns; `None` while it sends.
    #[must_use]
    pub fn pauses_until(&self, at_ns: u64, publisher: usize, publishers: usize) -> Option<u64> {
        let (sends, pauses) = (nanoseconds(self.sends), nanoseconds(self.pauses));
        let round = sends + pauses;
        let head_start = round * publisher as u64 / publishers.max(1) as u64;
        let into = (at_ns + head_start) % round.max(1);
        (into >= sends).then(|| at_ns + (round - into))
    }
}

/// Cameras send so many times the usual packets in a part of the run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Surge {
    /// Since the start.
    pub from: Duration,
    /// Since the start.
    pub until: Duration,
    /// How many times.
    pub factor: f64,
}

impl Surge {
    /// Whether it is on at a time after the start.
    #[must_use]
    pub fn is_on(&self, at_ns: u64) -> bool {
        (nanoseconds(self.from)..nanoseconds(self.until)).contains(&at_ns)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_and_each_pauses_for_its_time() {
        let churn = Churn { sends: Duration::from_secs(3), pauses: Duration::from_secs(1) };
        let at = |second: u64, publisher| churn.pauses_until(second * 1_000_000_000, publisher, 2);
        assert_eq!([0, 2, 3, 4, 7].map(|s| at(s, 0)), [None, None, Some(4_000_000_000), None, Some(8_000_000_000)]);
        assert_eq!([0, 1, 2].map(|s| at(s, 1)), [None, Some(2_000_000_000), None], "half a round ahead");
    }

    #[test]
    fn a_surge_is_on_from_its_beginning_until_its_end() {
        let surge = Surge { from: Duration::from_secs(1), until: Duration::from_secs(2), factor: 2.0 };
        assert_eq!(
            [999_999_999, 1_000_000_000, 1_999_999_999, 2_000_000_000].map(|at| surge.is_on(at)),
            [false, true, true, false]
        );
    }
}

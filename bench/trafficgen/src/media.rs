// SPDX-License-Identifier: Apache-2.0
//! When the frames of a stream are due, and of how many packets each is.

/// A stream's shape.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Frames per second.
    pub frame_rate: f64,
    /// Packets per second; those of one frame leave together, as an encoder gives them.
    pub packet_rate: f64,
    /// Bytes of an RTP payload.
    pub payload: usize,
    /// Every so many frames one can be decoded without others.
    pub keyframe_every: u64,
    /// Every so many frames one is a probe; 0 = none.
    pub probe_every: u64,
}

impl Shape {
    /// 1.5 Mbps of camera: 156.25 packets of 1200 bytes per second, 30 frames.
    pub const VIDEO: Self =
        Self { frame_rate: 30.0, packet_rate: 156.25, payload: 1200, keyframe_every: 300, probe_every: 64 };
    /// A microphone: 50 packets of 160 bytes per second.
    pub const AUDIO: Self =
        Self { frame_rate: 50.0, packet_rate: 50.0, payload: 160, keyframe_every: 1, probe_every: 64 };

    /// The same frames at so many bits of payload per second: fewer packets, and at one per frame shorter ones.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "far below 2^52"
    )]
    pub fn with_bitrate(self, bits_per_second: u64) -> Self {
        let bytes = bits_per_second as f64 / 8.0;
        let packet_rate = (bytes / self.payload.max(1) as f64).max(self.frame_rate);
        Self { packet_rate, payload: (bytes / packet_rate) as usize, ..self }
    }

    /// The same frames with so many times the packets.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { packet_rate: self.packet_rate * factor, ..self }
    }

    /// RTP ticks between two frames.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    pub fn step(&self, clock_rate: u32) -> u32 {
        (f64::from(clock_rate) / self.frame_rate).round() as u32
    }

    /// When frame `number` is due after the first, ns.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "exact for years"
    )]
    pub fn due_ns(&self, number: u64) -> u64 {
        (number as f64 * 1e9 / self.frame_rate) as u64
    }

    /// Packets of frame `number`; over time they make up the packet rate.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "exact for years"
    )]
    pub fn packets(&self, number: u64) -> u64 {
        let until = |frames: u64| (frames as f64 * self.packet_rate / self.frame_rate).floor() as u64;
        (until(number + 1) - until(number)).max(1)
    }

    /// Whether frame `number` is a probe. The first frames are none: their receivers are not there yet.
    #[must_use]
    pub const fn is_probe(&self, number: u64) -> bool {
        self.probe_every != 0 && number != 0 && number.is_multiple_of(self.probe_every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_make_up_the_packet_rate_and_come_in_time() {
        let packets: u64 = (0..2400).map(|frame| Shape::VIDEO.packets(frame)).sum();
        assert_eq!(packets, 12_500, "80 s of 156.25 packets");
        assert_eq!(Shape::VIDEO.due_ns(30), 1_000_000_000);
        assert_eq!((Shape::VIDEO.step(90_000), Shape::AUDIO.step(48_000)), (3000, 960));
        assert_eq!((Shape::AUDIO.packets(7), Shape::AUDIO.is_probe(0), Shape::AUDIO.is_probe(128)), (1, false, true));
    }

    #[test]
    fn an_encoding_has_the_bit_rate_that_was_asked_for() {
        for bits_per_second in [100_000, 500_000, 1_500_000, 6_000_000] {
            let shape = Shape::VIDEO.with_bitrate(bits_per_second);
            let packets: u64 = (0..3000).map(|frame| shape.packets(frame)).sum();
            let sent = packets * shape.payload as u64 * 8 / 100;
            assert!(sent.abs_diff(bits_per_second) * 50 < bits_per_second, "{bits_per_second}: {sent}");
        }
        assert_eq!((0..30).map(|frame| Shape::VIDEO.times(2.0).packets(frame)).sum::<u64>(), 312);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What was sent: what a measurement compares with.

/// A packet whose send time is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Of video.
    pub is_video: bool,
    /// From 1 to 600.
    pub id: u32,
    /// When it was given to the kernel, monotonic ns.
    pub sent_ns: u64,
}

/// What was sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Packets of each track of each publisher, that the kernel took.
    pub packets: Vec<Vec<u64>>,
    /// Packets that the kernel refused.
    pub refused: u64,
    /// Frames, or parts of one, that left more than 5 ms after they were due: the generator itself was held up.
    pub late: u64,
    /// Packets that were numbered and not sent, because a loss was asked for.
    pub lost: u64,
    /// Packets that left behind later ones, because that was asked for.
    pub reordered: u64,
    /// Keyframes that the server has asked for, and that cameras have sent for that.
    pub keyframes_asked: u64,
    /// Times that a track began again after a pause.
    pub restarts: u64,
    /// When the first packets were due, monotonic ns.
    pub began_ns: u64,
    /// Probes, in order.
    pub probes: Vec<Probe>,
    /// Why the pcap file that was asked for is not whole.
    pub capture_error: Option<String>,
}

impl Sent {
    /// Packets of all tracks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets.iter().flatten().sum()
    }

    pub(crate) fn count(&mut self, publisher: usize, track: usize) {
        if let Some(packets) = self.packets.get_mut(publisher).and_then(|tracks| tracks.get_mut(track)) {
            *packets += 1;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The reader of the sink: puts the program on an interface, native or not at all, and reads what it counted.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use tools_netlab::netns::Namespace;

use crate::layout;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ebpf/prebuilt/sink.bpf.o"));

/// Verdicts (`enum xdp_action` of the kernel's include/uapi/linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What the sink takes for a receiver, and what it does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Address of the first receiver; the others follow.
    pub first: Ipv4Addr,
    /// Receivers.
    pub receivers: u32,
    /// RTCP, STUN and DTLS go on to the stack: somebody answers there. Else they are counted and dropped.
    pub pass_control: bool,
    /// One in so many packets of each stream of a sampled receiver goes on to the stack; 0 = none.
    pub sample_every: u32,
    /// One in so many receivers is sampled.
    pub sample_stride: u32,
    /// RTP ticks between two frames of video and of audio: what is between `step + 1` and `step + 600` is a probe.
    pub steps: [u32; 2],
}

impl Config {
    /// For receivers from `first` on, with probes of 30 frames per second at 90 kHz and 20 ms at 48 kHz.
    #[must_use]
    pub const fn new(first: Ipv4Addr, receivers: u32) -> Self {
        Self { first, receivers, pass_control: false, sample_every: 512, sample_stride: 100, steps: [3000, 960] }
    }
}

/// What one receiver got of one SSRC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stream {
    /// The receiver, from 0.
    pub receiver: u32,
    /// SSRC.
    pub ssrc: u32,
    /// RTP packets.
    pub packets: u64,
    /// Bytes of their UDP payloads.
    pub bytes: u64,
    /// Numbers between the first and the highest that came, both included.
    pub numbers: u64,
    /// Packets behind a later one, or twice.
    pub backward: u64,
    /// Packets with the marker bit.
    pub markers: u64,
}

impl Stream {
    /// Numbers that did not come.
    #[must_use]
    pub const fn gaps(&self) -> u64 {
        self.numbers.saturating_sub(self.packets)
    }
}

/// Sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// RTP packets to receivers.
    pub rtp: u64,
    /// RTCP, STUN and DTLS to receivers.
    pub control: u64,
    /// Samples that went on to the stack.
    pub samples: u64,
    /// Frames to others.
    pub others: u64,
    /// Frames to receivers that are nothing of this.
    pub unknown: u64,
    /// RTP packets of streams that found no room.
    pub no_room: u64,
    /// Probes.
    pub probes: u64,
}

/// The arrival of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When, monotonic ns.
    pub at_ns: u64,
    /// Whose.
    pub receiver: u32,
    /// Of video.
    pub is_video: bool,
    /// From 1 to 600.
    pub id: u32,
}

/// The sink on its interface; gone when dropped.
pub struct Sink {
    ebpf: Ebpf,
}

impl Sink {
    /// Loads the sink, and puts it nowhere.
    ///
    /// # Errors
    /// When the kernel refuses: not root.
    pub fn load(config: &Config) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).context("load the sink")?;
        let words = words(config);
        let mut place: Array<_, [u64; layout::CONFIG_WORDS]> =
            ebpf.map_mut(layout::CONFIG).context("no CONFIG")?.try_into()?;
        place.set(0, words, 0)?;
        let program: &mut Xdp = ebpf.program_mut(layout::PROGRAM).context("no program")?.try_into()?;
        program.load().context("the kernel refuses the sink")?;
        Ok(Self { ebpf })
    }

    /// Puts the sink on an interface of a namespace, in the driver.
    ///
    /// # Errors
    /// When the kernel refuses: not root, or another program is there.
    pub fn attach(namespace: &Namespace, interface: &str, config: &Config) -> Result<Self> {
        let mut sink = Self::load(config)?;
        let program: &mut Xdp = sink.ebpf.program_mut(layout::PROGRAM).context("no program")?.try_into()?;
        namespace.inside(|| {
            program.attach(interface, XdpMode::Driver).with_context(|| format!("the sink on {interface}"))
        })?;
        Ok(sink)
    }

    /// Shows the sink one frame without any network (`BPF_PROG_TEST_RUN`); true where it lets it pass. For tests.
    ///
    /// # Errors
    /// When the kernel refuses, or the verdict is neither pass nor drop.
    pub fn shows_frame(&self, frame: &[u8]) -> Result<bool> {
        let program: &Xdp = self.ebpf.program(layout::PROGRAM).context("no program")?.try_into()?;
        let mut out = vec![0; frame.len() + 256];
        let run = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })?;
        ensure!(out.get(..frame.len()) == Some(frame), "the sink has changed a frame");
        match run.return_value {
            XDP_PASS => Ok(true),
            XDP_DROP => Ok(false),
            other => bail!("the sink's verdict is {other}: neither pass nor drop"),
        }
    }

    /// All streams, by receiver and SSRC.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn streams(&self) -> Result<Vec<Stream>> {
        let map: HashMap<&MapData, u64, [u64; layout::STREAM_WORDS]> =
            self.ebpf.map(layout::STREAMS).context("no STREAMS")?.try_into()?;
        let mut found = Vec::new();
        for entry in map.iter() {
            let (key, words) = entry?;
            found.push(stream(key, &words));
        }
        found.sort_unstable_by_key(|stream| (stream.receiver, stream.ssrc));
        Ok(found)
    }

    /// Sums over all receivers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn totals(&self) -> Result<Totals> {
        let map: Array<&MapData, u64> = self.ebpf.map(layout::TOTALS).context("no TOTALS")?.try_into()?;
        let get = |at: u32| map.get(&at, 0).map_err(|error| anyhow!("a sum of the sink: {error}"));
        Ok(Totals {
            rtp: get(layout::RTP)?,
            control: get(layout::CONTROL)?,
            samples: get(layout::SAMPLES)?,
            others: get(layout::OTHERS)?,
            unknown: get(layout::UNKNOWN)?,
            no_room: get(layout::NO_ROOM)?,
            probes: get(layout::PROBES_SEEN)?,
        })
    }

    /// Arrivals of probes, in order; those that found no room are missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn arrivals(&self) -> Result<Vec<Arrival>> {
        let count = u32::try_from(self.totals()?.probes).unwrap_or(u32::MAX).min(layout::PROBE_ENTRIES);
        let map: Array<&MapData, [u64; 2]> = self.ebpf.map(layout::PROBES).context("no PROBES")?.try_into()?;
        (0..count).map(|at| Ok(arrival(map.get(&at, 0)?))).collect()
    }

    /// A stream's sums at once, cheaper than all of [`Sink::streams`]: RTP packets to all receivers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rtp(&self) -> Result<u64> {
        Ok(self.totals()?.rtp)
    }
}

fn words(config: &Config) -> [u64; layout::CONFIG_WORDS] {
    let mut words = [0; layout::CONFIG_WORDS];
    for (place, value) in [
        (layout::BASE, u32::from(config.first)),
        (layout::COUNT, config.receivers),
        (layout::PASS_CONTROL, u32::from(config.pass_control)),
        (layout::SAMPLE_EVERY, config.sample_every),
        (layout::SAMPLE_STRIDE, config.sample_stride),
        (layout::STEPS[0], config.steps[0]),
        (layout::STEPS[1], config.steps[1]),
    ] {
        words[place] = u64::from(value);
    }
    words
}

const fn halves(word: u64) -> (u32, u32) {
    let bytes = word.to_le_bytes();
    (
        u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    )
}

fn stream(key: u64, words: &[u64; layout::STREAM_WORDS]) -> Stream {
    let (receiver, ssrc) = halves(key);
    Stream {
        receiver,
        ssrc,
        packets: words[layout::PACKETS],
        bytes: words[layout::BYTES],
        numbers: words[layout::TOP].wrapping_sub(words[layout::FIRST]) + 1,
        backward: words[layout::BACKWARD],
        markers: words[layout::MARKERS],
    }
}

const fn arrival(words: [u64; 2]) -> Arrival {
    let (receiver, what) = halves(words[1]);
    Arrival { at_ns: words[0], receiver, is_video: what >> 16 == 0, id: what & 0xffff }
}

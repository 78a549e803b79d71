// SPDX-License-Identifier: Apache-2.0
//! `millrace-trafficgen`: sends what the publishers of a table send, or receives what its receivers get.
#![forbid(unsafe_code)]

mod receive;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bench_trafficgen::impairment::Impairment;
use bench_trafficgen::media::Shape;
use bench_trafficgen::options::{Churn, Options, Surge};
use bench_trafficgen::recording::Recordings;
use bench_trafficgen::sender::{Sender, Sent};
use bench_trafficgen::svc::Svc;
use clap::{Parser, Subcommand};
use dataplane_table::Table;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends SRTP as the publishers of a table do: 1.5 Mbps of video in 30 bursts per second, 50 packets of audio.
#[derive(Parser)]
#[command(
    name = "millrace-trafficgen",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  millrace-trafficgen --table call.toml --seconds 10
  millrace-trafficgen --table call.toml --video-kbps 40000 --burst 4
  millrace-trafficgen --table call.toml --loss 1.5 --loss-run 3 --reorder 0.5 --reorder-by 5
  millrace-trafficgen --table call.toml --sends 8 --pauses 2              # publishers that go and come
  millrace-trafficgen --table simulcast.toml --encodings 150,500,1500     # three video tracks per publisher
  millrace-trafficgen --table call.toml --temporal-layers 3
  millrace-trafficgen --table vp9.toml --svc L3T3                         # or L3T3_KEY; with --flexible
  millrace-trafficgen --table call.toml --surge 5,10,2.0 --seconds 15     # twice the video from second 5 to 10
  millrace-trafficgen --table call.toml --pcap-in recorded.pcapng
  millrace-trafficgen --table call.toml --pcap-out sent.pcap --seconds 3  # plain RTP, for Wireshark
  millrace-trafficgen receive --table call.toml --json received.json      # first this, then the sender

The addresses of the table's publishers must be this host's. docs/TABLE.md describes tables and these options."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Mode>,
    /// The call; docs/TABLE.md describes it.
    #[arg(long, value_name = "FILE", required = true)]
    table: Option<PathBuf>,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Bit rate of a camera's payloads [default: 1500].
    #[arg(long, value_name = "N")]
    video_kbps: Option<u64>,
    /// Pictures per second.
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    fps: f64,
    /// Bytes of a video packet's payload, at most 1400; the data plane sends up to 1224 of them on.
    #[arg(long, value_name = "N", default_value_t = 1200)]
    payload: usize,
    /// Packets of a frame that leave together, the others spread over the frame's time [default: all].
    #[arg(long, value_name = "N")]
    burst: Option<u64>,
    /// Percent of the packets that are numbered and not sent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// How many are lost together.
    #[arg(long, value_name = "N", default_value_t = 1)]
    loss_run: u32,
    /// Percent of the packets that leave behind later ones.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reorder: f64,
    /// Behind how many later ones.
    #[arg(long, value_name = "N", default_value_t = 3)]
    reorder_by: u32,
    /// Seconds that a publisher sends before it pauses; publishers take turns.
    #[arg(long, value_name = "N", requires = "pauses")]
    sends: Option<f64>,
    /// Seconds that it pauses; then it begins with a keyframe and new sequence numbers.
    #[arg(long, value_name = "N", requires = "sends")]
    pauses: Option<f64>,
    /// Simulcast: kbps of a publisher's first, second, … video track, which are encodings of the same pictures.
    #[arg(long, value_name = "KBPS,…", value_delimiter = ',')]
    encodings: Vec<u64>,
    /// Temporal layers of VP8, 1 to 3.
    #[arg(long, value_name = "N", default_value_t = 1)]
    temporal_layers: u8,
    /// Spatial and temporal layers of VP9: L1T1 to L3T3, L2T1_KEY to L3T3_KEY.
    #[arg(long, value_name = "MODE", default_value = "L1T1")]
    svc: Svc,
    /// VP9 in flexible mode: references in each packet, no structure of pictures in keyframes.
    #[arg(long)]
    flexible: bool,
    /// Cameras send FACTOR times the packets from one second to another.
    #[arg(long, value_name = "FROM,UNTIL,FACTOR", value_delimiter = ',')]
    surge: Vec<f64>,
    /// Payloads, markers and times from this pcap or pcapng file: by payload type, encrypted again, over and over.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["video_kbps", "burst", "encodings", "surge"])]
    pcap_in: Option<PathBuf>,
    /// Writes what is sent to this pcap file, plain.
    #[arg(long, value_name = "FILE")]
    pcap_out: Option<PathBuf>,
    /// Where what is random begins: the same seed, the same losses.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Mode {
    /// Receives what the table's receivers get, opens it, and counts it.
    Receive(receive::Arguments),
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let mut video = Shape { frame_rate: self.fps, payload: self.payload, ..Shape::VIDEO };
        if let Some(kbps) = self.video_kbps {
            video = video.with_bitrate(kbps * 1000);
        }
        let churn = match self.sends.zip(self.pauses) {
            Some((sends, pauses)) => Some(Churn { sends: seconds(sends)?, pauses: seconds(pauses)? }),
            None => None,
        };
        let surge = match self.surge[..] {
            [] => None,
            [from, until, factor] if factor > 0.0 => {
                Some(Surge { from: seconds(from)?, until: seconds(until)?, factor })
            }
            _ => bail!("--surge takes three numbers: from and until in seconds, and a factor above 0 (5,10,2.0)"),
        };
        let recordings = self.pcap_in.as_deref().map(Recordings::read).transpose()?;
        Ok(Options {
            video,
            burst: self.burst.unwrap_or(0),
            impairment: Impairment {
                loss_ppm: parts_per_million(self.loss)?,
                loss_run: self.loss_run,
                reorder_ppm: parts_per_million(self.reorder)?,
                reorder_by: self.reorder_by,
            },
            churn,
            encodings_bps: self.encodings.iter().map(|kbps| kbps * 1000).collect(),
            temporal_layers: self.temporal_layers,
            svc: Svc { is_flexible: self.flexible, ..self.svc },
            surge,
            recordings,
            seed: self.seed,
            ..Options::default()
        })
    }
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{value} s is no time"))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
fn parts_per_million(percent: f64) -> Result<u32> {
    ensure!((0.0..=100.0).contains(&percent), "{percent} %: a share is from 0 to 100 %");
    Ok((percent * 10_000.0).round() as u32)
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Mode::Receive(arguments)) => receive::main(arguments),
        None => send(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn send(arguments: &Arguments) -> Result<()> {
    let table = arguments.table.as_deref().context("--table FILE is missing")?;
    let plan = Table::read(table)?.plan()?;
    let mut sender = Sender::open(&plan, &arguments.options()?)?;
    if let Some(path) = &arguments.pcap_out {
        sender.capture_to(path)?;
    }
    let (stop, count) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let flag = Arc::clone(&stop);
    let wait = Duration::from_secs(arguments.seconds);
    std::thread::spawn(move || {
        std::thread::sleep(wait);
        flag.store(true, Ordering::Relaxed);
    });
    let began = Instant::now();
    let sent = sender.run(&stop, &count);
    writeln!(std::io::stdout(), "{}", summary(&sent, began.elapsed()))?;
    match sent.capture_error {
        Some(error) => bail!("the pcap file is not whole: {error}"),
        None => Ok(()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn summary(sent: &Sent, time: Duration) -> String {
    format!(
        "sent {} packets ({:.0}/s), {} refused, {} late, {} lost and {} reordered on purpose, {} restarts, {} probes",
        sent.total(),
        sent.total() as f64 / time.as_secs_f64(),
        sent.refused,
        sent.late,
        sent.lost,
        sent.reordered,
        sent.restarts,
        sent.probes.len()
    )
}

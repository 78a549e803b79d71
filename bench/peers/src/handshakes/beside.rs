// SPDX-License-Identifier: Apache-2.0
//! Joins beside a webinar: the same server forwards one publisher to many receivers while crowds come and go.
//!
//! ```text
//!  core 0  publisher (FIFO) · the sink's NAPI (FIFO) · receivers · joining bots · keeper, control plane
//!  core 1  the data plane's worker, over XDP
//! ```
//!
//! What is judged is the data plane's own measure, from a packet's arrival at it to when its copies were given to the kernel:
//! the other cores' clients share theirs with the sink, and what they make it wait for is not the server's.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_bots::profile::Profile;
use bench_bots::transport::{IceRole, Identity};
use bench_scenarios::bed::{Bed, FIRST_PUBLISHER, FIRST_RECEIVER, Napi, SERVER_INTERFACE, SINK_INTERFACE, hurry};
use bench_scenarios::cpu;
use bench_scenarios::run::{OTHER_CPU, drain};
use bench_scenarios::sink::{Config, Sink};
use bench_scenarios::trace;
use bench_trafficgen::mono_ns;
use dataplane_abi::ids::WorkerId;
use dataplane_shm::Segment;
use dataplane_table::Cipher;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tools_netlab::report::Report;

use super::windows::{Evidence, Seen, Window};
use super::{join, joining, look, nanoseconds};
use crate::client::endpoint::Endpoint;
use crate::client::media::Published;
use crate::client::webrtc::{self, Samples, Stage};
use crate::measure::stride;
use crate::measure::webrtc::{SOURCES, same_profile, socket};
use crate::server::millrace::{self, Millrace};

const CIPHER: Cipher = Cipher::AeadAes128Gcm;
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// What joining and the first packets leave behind is over.
const WARM_UP: Duration = Duration::from_secs(3);
/// After a crowd has gone: its transports are taken away.
const SETTLE: Duration = Duration::from_secs(3);
/// One packet in so many of each stream of a sampled receiver is opened.
const SAMPLE_EVERY: u32 = 64;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'s> {
    /// Receivers of the webinar.
    pub receivers: u32,
    /// Bots of one crowd.
    pub crowd: u32,
    /// People in one of their rooms.
    pub rooms_of: u32,
    /// Quiet windows, each with a crowd behind it; one more is quiet at the end.
    pub windows: u32,
    /// Length of a quiet window.
    pub seconds: u64,
    /// Where our programs are.
    pub programs: &'s Path,
}

impl Setup<'_> {
    /// Receivers that are let in first: what the first ones bring into memory is not what one more takes.
    pub(super) const fn few(&self) -> u32 {
        self.receivers / 5
    }
}

/// The bed with everybody who is in the webinar.
struct Webinar<'w> {
    setup: &'w Setup<'w>,
    bed: &'w Bed,
    sink: &'w Sink,
    server: &'w Millrace,
    counters: &'w Segment,
    runtime: &'w Runtime,
    identity: Identity,
    stage: watch::Sender<Stage>,
    /// Packets that have left the publisher.
    count: Arc<AtomicU64>,
    samples: Arc<Samples>,
}

/// Runs it once; the figure in words.
///
/// # Errors
/// When something cannot be started or somebody cannot join; what was measured is never an error.
pub fn run(setup: &Setup<'_>, report: &mut Report) -> Result<String> {
    cpu::pin(OTHER_CPU)?;
    let bed = Bed::create()?;
    let config = Config {
        pass_control: true,
        sample_every: SAMPLE_EVERY,
        sample_stride: stride(setup.receivers),
        ..Config::new(FIRST_RECEIVER.parse()?, setup.receivers)
    };
    let sink = Sink::attach(&bed.sink, SINK_INTERFACE, &config)?;
    bed.place_napi(Napi::Thread(OTHER_CPU))?;
    bed.hurry_napi()?;
    let server = Millrace::start(&bed, setup.programs, &["--interface", SERVER_INTERFACE, "--xdp-mode", "native"])?;
    server.part()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let webinar = Webinar {
        setup,
        bed: &bed,
        sink: &sink,
        server: &server,
        counters: &server.counters()?,
        runtime: &runtime,
        identity: Identity::generate(Some(Profile::Gcm128))?,
        stage: watch::Sender::new(Stage::Waiting),
        count: Arc::default(),
        samples: Arc::default(),
    };
    let evidence = webinar.hold().with_context(|| format!("the server said:\n{}", server.log_tail()))?;
    evidence.judge(setup, report)
}

impl Webinar<'_> {
    /// Lets everybody in, sends, measures, and lets everybody go.
    fn hold(&self) -> Result<Evidence> {
        let (done, (ready, is_ready)) = (AtomicBool::new(false), mpsc::channel());
        std::thread::scope(|scope| {
            let publishing = scope.spawn(move || self.publish(&ready));
            let windows = is_ready.recv_timeout(CONNECT_LIMIT).context("no publisher").and_then(|()| {
                let few = self.setup.few();
                let mut receivers = self.runtime.block_on(self.let_in(0..few))?;
                let with_few = self.server.resident()?;
                receivers.extend(self.runtime.block_on(self.let_in(few..self.setup.receivers))?);
                let tracing = scope.spawn(|| trace::record(self.sink, &self.count, &done));
                let looking = scope.spawn(|| look(&|| self.see(), &done));
                self.stage.send_replace(Stage::Sending);
                std::thread::sleep(WARM_UP);
                let with_all = self.server.resident()?;
                let windows = self.windows();
                self.stage.send_replace(Stage::Draining);
                drain(self.sink);
                done.store(true, Ordering::Relaxed);
                self.stage.send_replace(Stage::Over);
                for receiver in receivers {
                    self.runtime.block_on(receiver)?.context("a receiver")?;
                }
                let trace = tracing.join().map_err(|_| anyhow!("the tracer panicked"))??;
                let looks = looking.join().map_err(|_| anyhow!("the meter panicked"))?;
                Ok((windows?, trace, looks, [with_few, with_all]))
            });
            done.store(true, Ordering::Relaxed);
            self.stage.send_replace(Stage::Over);
            let published = publishing.join().map_err(|_| anyhow!("the publisher panicked"))??;
            let (windows, trace, looks, resident) = windows?;
            let samples = [&self.samples.right, &self.samples.wrong, &self.samples.unopened];
            let [right, wrong, unopened] = samples.map(|counter| counter.load(Ordering::Relaxed));
            Ok(Evidence {
                windows,
                trace,
                looks,
                published,
                streams: self.sink.streams()?,
                arrivals: self.sink.arrivals()?,
                samples: [right, wrong + unopened],
                resident,
            })
        })
    }

    /// Publishes on a thread that nobody on its core makes wait: clients who join must not make the stream bursty.
    fn publish(&self, ready: &mpsc::Sender<()>) -> Result<Published> {
        hurry(u32::try_from(rustix::thread::gettid().as_raw_nonzero().get())?, 50)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let socket = socket(&self.bed.generator, FIRST_PUBLISHER.parse()?)?;
            let mut endpoint = Endpoint::new(socket, &self.identity, IceRole::Controlling)?;
            millrace::publish(&self.bed.generator, &mut endpoint, &SOURCES).await?;
            same_profile(&mut endpoint, CIPHER)?;
            ready.send(())?;
            webrtc::publish(endpoint, SOURCES.into(), Arc::clone(&self.count), self.stage.subscribe()).await
        })
    }

    /// Connects the receivers of these numbers, one after the other.
    async fn let_in(&self, numbers: Range<u32>) -> Result<Vec<JoinHandle<Result<()>>>> {
        let first: Ipv4Addr = FIRST_RECEIVER.parse()?;
        let mut receivers = Vec::new();
        for number in numbers {
            let socket = socket(&self.bed.sink, Ipv4Addr::from(u32::from(first) + number))?;
            let mut endpoint = Endpoint::new(socket, &self.identity, IceRole::Controlling)?;
            millrace::subscribe(&self.bed.sink, &mut endpoint, &SOURCES).await?;
            same_profile(&mut endpoint, CIPHER)?;
            let receiver = webrtc::receive(endpoint, SOURCES.into(), Arc::clone(&self.samples), self.stage.subscribe());
            receivers.push(tokio::spawn(receiver));
        }
        Ok(receivers)
    }

    /// Quiet and joining in turn, quiet at the end.
    fn windows(&self) -> Result<Vec<Window>> {
        let mut windows = Vec::new();
        for _ in 0..self.setup.windows {
            windows.push(self.quiet());
            let from_ns = mono_ns();
            let bots = join(self.bed, self.setup.crowd, self.setup.rooms_of, self.setup.programs)?;
            let joined = bots["joined"].as_u64().unwrap_or(0);
            windows.push(Window { from_ns, until_ns: from_ns + nanoseconds(joining(&bots)?), joined: Some(joined) });
            std::thread::sleep(SETTLE);
        }
        windows.push(self.quiet());
        Ok(windows)
    }

    fn quiet(&self) -> Window {
        let from_ns = mono_ns();
        std::thread::sleep(Duration::from_secs(self.setup.seconds));
        Window { from_ns, until_ns: mono_ns(), joined: None }
    }

    /// What the server shows of itself.
    fn see(&self) -> Result<Seen> {
        let counters = self.counters.counters(WorkerId(0)).context("no worker")?;
        let latency: Vec<u64> = counters.latency.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        ensure!(!latency.is_empty(), "no histogram");
        Ok(Seen { latency, cpu_ns: self.server.times()? })
    }
}

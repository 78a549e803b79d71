// SPDX-License-Identifier: Apache-2.0
//! The whole of Millrace: keeper and both planes, with clients that come by WHIP and WHEP. It must never be told anything that
//! an operator could not tell it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bench_bots::sdp::Remote;
use bench_scenarios::bed::{Bed, SERVER};
use bench_scenarios::cpu;
use bench_scenarios::memory::Resident;
use bench_scenarios::run::{OTHER_CPU, SERVER_CPU, part};
use dataplane_keeper::Role;
use dataplane_shm::{Access, AttachFds, Segment};
use tools_netlab::netns::Namespace;
use tools_netlab::process::{Process, run};

use super::sdp;
use crate::client::endpoint::Endpoint;
use crate::client::media::Source;

/// Where rooms are joined.
pub const HTTP_PORT: u16 = 8080;
const START_LIMIT: Duration = Duration::from_secs(20);
/// For an answer, and for ICE and DTLS of one client.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// All clients come from few addresses: what protects against one person does not apply.
const LIMITS: &str = "open_rooms = true\n[limits]\npending_per_address = 8192\nunjoined_per_address = 8192\njoins_per_address_s = 8192\nparticipants_per_room = 8192\n";
/// The planes whose CPU counts.
const PLANES: [&str; 2] = ["controlplane", "dataplane"];
const ROOM: &str = "bench";

/// A running server.
pub struct Millrace {
    process: Process,
    planes: [i32; 2],
    folder: PathBuf,
}

impl Millrace {
    /// Starts it on the server's core with further options of the keeper. Configuration, state and log are in a new folder.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(bed: &Bed, programs: &Path, options: &[&str]) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("millrace-handshakes-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("millrace.toml");
        std::fs::write(&config, LIMITS)?;
        let mut command = bed.server.command("taskset");
        command.args(["-c", &SERVER_CPU.to_string()]).arg(programs.join("millrace-keeper"));
        command.arg("--runtime-dir").arg(folder.join("run")).arg("--state-dir").arg(folder.join("state"));
        command.args(["--media-port", "10000", "--workers", "1", "--media-address", SERVER]).args(options);
        command.args(["--listen-plain", &format!("{SERVER}:{HTTP_PORT}")]).arg("--config").arg(&config);
        let mut process = Process::spawn(command, &folder.join("server.log"), false)?;
        process.wait_for_text("Millrace is ready", START_LIMIT)?;
        let pids = PLANES.map(|plane| {
            let file = folder.join(format!("run/{plane}.pid"));
            std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok())
        });
        let [Some(control), Some(data)] = pids else { return Err(anyhow!("no process ids:\n{}", process.log_tail(5))) };
        Ok(Self { process, planes: [control, data], folder })
    }

    /// Leaves the server's core to the data plane's worker: everything else goes to the other one, as in a deployment.
    ///
    /// # Errors
    /// When a thread cannot be moved.
    pub fn part(&self) -> Result<()> {
        for pid in [self.process.pid(), self.planes[0]] {
            run(Command::new("taskset").args(["-apc", &OTHER_CPU.to_string(), &pid.to_string()]))?;
        }
        part(self.planes[1])
    }

    /// CPU times of control plane and data plane, ns.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn times(&self) -> Result<[u64; 2]> {
        Ok([cpu::process_ns(self.planes[0])?, cpu::process_ns(self.planes[1])?])
    }

    /// What grows with listeners in control plane and data plane, bytes.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn resident(&self) -> Result<[u64; 2]> {
        Ok([Resident::of(self.planes[0])?.per_peer(), Resident::of(self.planes[1])?.per_peer()])
    }

    /// The counters, read-only.
    ///
    /// # Errors
    /// When the keeper does not hand them over.
    pub fn counters(&self) -> Result<Segment> {
        let handed = dataplane_keeper::request(&self.folder.join("run"), Role::Reader)?;
        let (intent, durable) = (Some(handed.borrow("intent")?), Some(handed.borrow("durable")?));
        Ok(Segment::attach(AttachFds { intent, durable, ..AttachFds::default() }, Access::Reader)?)
    }

    /// The last lines that it has printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail(5)
    }
}

impl Drop for Millrace {
    fn drop(&mut self) {
        let _ = self.process.end(Duration::from_secs(5));
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Publishes from a namespace, by WHIP (RFC 9725).
///
/// # Errors
/// When the server refuses, or nothing connects.
pub async fn publish(from: &Namespace, endpoint: &mut Endpoint, sources: &[Source]) -> Result<()> {
    let offer = sdp::offer(sources, &endpoint.attributes());
    connect(from, &format!("/whip/{ROOM}"), &offer, endpoint).await.context("the publisher")
}

/// Receives in a namespace what is published, by WHEP.
///
/// # Errors
/// When the server refuses, or nothing connects.
pub async fn subscribe(from: &Namespace, endpoint: &mut Endpoint, sources: &[Source]) -> Result<()> {
    let offer = sdp::wish(sources, &endpoint.attributes());
    connect(from, &format!("/whep/{ROOM}"), &offer, endpoint).await.context("a receiver")
}

async fn connect(from: &Namespace, path: &str, offer: &str, endpoint: &mut Endpoint) -> Result<()> {
    let answer = from.inside(|| post(path, offer))?;
    endpoint.connect(&Remote::parse(&answer)?, CONNECT_LIMIT).await
}

/// Posts an offer; the answer.
fn post(path: &str, offer: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(SERVER.parse()?, HTTP_PORT), CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {SERVER}:{HTTP_PORT}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{offer}",
        offer.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("an answer without a body")?;
    ensure!(head.starts_with("HTTP/1.1 201"), "POST {path}: {response}");
    Ok(body.to_owned())
}

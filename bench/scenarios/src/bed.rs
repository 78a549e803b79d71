// SPDX-License-Identifier: Apache-2.0
//! Three namespaces on two wires. Publishers reach the server through the sink's namespace, so that the server has one interface
//! as a host with one network card has. Every next hop is permanent, so that nobody resolves addresses while it is measured.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use bench_trafficgen::link::Link;
use tools_netlab::netns::Namespace;
use tools_netlab::process::run;

/// The server's address.
pub const SERVER: &str = "10.77.0.1";
/// The server's interface.
pub const SERVER_INTERFACE: &str = "eth0";
/// The end of the server's wire that the sink's program is put on.
pub const SINK_INTERFACE: &str = "snk0";
/// Receivers have addresses from here on, up to 10.31.255.254; the sink's stack takes packets to all of them.
pub const FIRST_RECEIVER: &str = "10.16.0.1";
const RECEIVERS: &str = "10.16.0.0/12";
/// Publishers have addresses from here on, up to 10.47.255.254.
pub const FIRST_PUBLISHER: &str = "10.32.0.1";
const PUBLISHERS: &str = "10.32.0.0/12";

const SERVER_MAC: &str = "02:00:00:00:77:01";
const SINK_MAC: &str = "02:00:00:00:77:02";
const SINK_GEN_MAC: &str = "02:00:00:00:98:01";
const GEN_MAC: &str = "02:00:00:00:98:02";

/// Where the sink's packets are taken from the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Napi {
    /// In a kernel thread on this core.
    Thread(usize),
    /// Where the sender sends: the server's own core pays for its receivers.
    SameCore,
}

/// The namespaces; everything goes when it is dropped.
pub struct Bed {
    /// Where publishers send from.
    pub generator: Namespace,
    /// Where receivers are.
    pub sink: Namespace,
    /// Where the server runs.
    pub server: Namespace,
}

impl Bed {
    /// Makes namespaces, wires and routes.
    ///
    /// # Errors
    /// When not root, or `ip` refuses.
    pub fn create() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        tools_netlab::registry::sweep_stale()?;
        let bed = Self {
            generator: Namespace::create("gen")?,
            sink: Namespace::create("sink")?,
            server: Namespace::create("server")?,
        };
        wire(
            &bed.sink,
            (SINK_INTERFACE, SINK_MAC, "10.77.0.2/24"),
            &bed.server,
            (SERVER_INTERFACE, SERVER_MAC, "10.77.0.1/24"),
        )?;
        wire(&bed.sink, ("gsw", SINK_GEN_MAC, "10.98.0.1/24"), &bed.generator, ("gen0", GEN_MAC, "10.98.0.2/24"))?;
        for (namespace, interface, address, mac) in [
            (&bed.server, SERVER_INTERFACE, "10.77.0.2", SINK_MAC),
            (&bed.sink, SINK_INTERFACE, SERVER, SERVER_MAC),
            (&bed.sink, "gsw", "10.98.0.2", GEN_MAC),
            (&bed.generator, "gen0", "10.98.0.1", SINK_GEN_MAC),
        ] {
            namespace.ip(&["neigh", "replace", address, "lladdr", mac, "dev", interface, "nud", "permanent"])?;
        }
        bed.server.ip(&["route", "add", "default", "via", "10.77.0.2"])?;
        // A veth without a queueing discipline drops what its peer's ring (256 frames) has no room for; with one it holds the
        // sender back, as a network card does (veth_xmit in drivers/net/veth.c, Linux ≥ 6.16). It is longer than what an 8-MiB send
        // buffer holds, so that sockets are held back too.
        let qdisc =
            ["-n", bed.server.name(), "qdisc", "replace", "dev", SERVER_INTERFACE, "root", "pfifo", "limit", "16384"];
        run(Command::new("tc").args(qdisc))?;
        bed.sink.ip(&["route", "add", "local", RECEIVERS, "dev", "lo"])?;
        bed.sink.ip(&["route", "add", PUBLISHERS, "via", "10.98.0.2"])?;
        bed.generator.ip(&["route", "add", "local", PUBLISHERS, "dev", "lo"])?;
        bed.generator.ip(&["route", "add", "default", "via", "10.98.0.1"])?;
        for setting in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"] {
            run(bed.sink.command("sysctl").args(["-qw", setting]))?;
        }
        Ok(bed)
    }

    /// The server's wire, for a generator: frames that it is given arrive as those do that have come by the publishers' sockets.
    ///
    /// # Errors
    /// When not root.
    pub fn link(&self) -> Result<Link> {
        Link::open(self.sink.name(), SINK_INTERFACE, octets(SERVER_MAC))
    }

    /// Frames that the server's wire has dropped: on the server's side when it sent, and on the sink's when it took them.
    ///
    /// # Errors
    /// When `ip` says nothing of them.
    pub fn dropped(&self) -> Result<[u64; 2]> {
        let ask = |namespace: &Namespace, interface: &str, way: &str| {
            let said = run(namespace.command("ip").args(["-s", "-j", "link", "show", "dev", interface]))?;
            let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
            let dropped = said.pointer(&format!("/0/stats64/{way}/dropped")).and_then(serde_json::Value::as_u64);
            dropped.with_context(|| format!("`ip -s link` has no {way} drops of {interface}"))
        };
        Ok([ask(&self.server, SERVER_INTERFACE, "tx")?, ask(&self.sink, SINK_INTERFACE, "rx")?])
    }

    /// Decides where the sink takes its packets. After a program is attached: before, the kernel refuses threads.
    ///
    /// # Errors
    /// When the kernel refuses, or the thread is not found.
    pub fn place_napi(&self, napi: Napi) -> Result<()> {
        let Napi::Thread(cpu) = napi else { return thread_napi(&self.sink, SINK_INTERFACE, None).map(drop) };
        for thread in thread_napi(&self.sink, SINK_INTERFACE, Some(cpu))? {
            // The generator waits by spinning on the same core: a wire does not wait for it.
            run(Command::new("renice").args(["-n", "-20", "-p", &thread.to_string()]))?;
        }
        Ok(())
    }

    /// The server's packets are taken from its wire on its workers' core, and before anything else there, as behind a network
    /// card that interrupts that core. After the server has attached its program.
    ///
    /// # Errors
    /// When the kernel refuses, or the thread is not found.
    pub fn place_server_napi(&self, cpu: usize) -> Result<()> {
        for thread in thread_napi(&self.server, SERVER_INTERFACE, Some(cpu))? {
            // Workers have priority 1 of this class.
            hurry(thread, 2)?;
        }
        Ok(())
    }

    /// Nobody on their core makes the sink's NAPI threads wait, not even clients who work at anything but the wire.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn hurry_napi(&self) -> Result<()> {
        for thread in napi_threads(SINK_INTERFACE)? {
            hurry(thread, 50)?;
        }
        Ok(())
    }
}

/// Puts a thread into the FIFO class: on its core it runs before all of a lower priority as soon as it has work.
///
/// # Errors
/// When the kernel refuses.
pub fn hurry(thread: u32, priority: u8) -> Result<()> {
    run(Command::new("chrt").args(["-f", "-p", &priority.to_string(), &thread.to_string()])).map(drop)
}

/// Has an interface's packets taken by kernel threads on a core, or by nobody's thread; the threads' ids.
fn thread_napi(namespace: &Namespace, interface: &str, cpu: Option<usize>) -> Result<Vec<u32>> {
    let (file, word) = (format!("/sys/class/net/{interface}/threaded"), u8::from(cpu.is_some()));
    run(namespace.command("sh").args(["-c", &format!("echo {word} > {file}")])).context("threaded NAPI")?;
    let Some(cpu) = cpu else { return Ok(Vec::new()) };
    let threads = napi_threads(interface)?;
    ensure!(!threads.is_empty(), "no kernel thread napi/{interface}-… is there");
    for thread in &threads {
        run(Command::new("taskset").args(["-pc", &cpu.to_string(), &thread.to_string()]))?;
    }
    Ok(threads)
}

/// Process ids of an interface's NAPI threads.
fn napi_threads(interface: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with(&format!("napi/{interface}-")) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The bytes of an Ethernet address.
fn octets(mac: &str) -> [u8; 6] {
    let mut octets = [0; 6];
    for (octet, part) in octets.iter_mut().zip(mac.split(':')) {
        *octet = u8::from_str_radix(part, 16).unwrap_or(0);
    }
    octets
}

/// One end of a wire: interface, its Ethernet address, its IPv4 address.
type End<'e> = (&'e str, &'e str, &'e str);

fn wire(here: &Namespace, near: End<'_>, there: &Namespace, far: End<'_>) -> Result<()> {
    let peer = ["peer", "name", far.0, "address", far.1, "numrxqueues", "1", "numtxqueues", "1", "netns", there.name()];
    let end = ["link", "add", near.0, "address", near.1, "numrxqueues", "1", "numtxqueues", "1", "type", "veth"];
    here.ip(&[&end[..], &peer].concat())?;
    for (namespace, (interface, _, address)) in [(here, near), (there, far)] {
        namespace.ip(&["addr", "add", address, "dev", interface])?;
        // Without IPv6 nobody sends router solicitations over the wire while it is measured.
        namespace.ip(&["link", "set", interface, "addrgenmode", "none"])?;
        namespace.ip(&["link", "set", interface, "up"])?;
        // Who sends computes checksums, as on a wire: a program that takes frames off the wire finds none otherwise.
        run(namespace.command("ethtool").args(["-K", interface, "tx", "off", "gro", "off"]))?;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, and the test bed of a switch with one namespace for each participant.
//!
//! ```text
//!   mr-…-server          mr-…-sw (bridge br0)            mr-…-p1
//!   eth0 10.77.0.1 ────── port1 ─ br0 ─ port2 ─────────── eth0 10.77.0.2
//!                                  └── wire3 ═relay═ port3 ── eth0 10.77.0.3   (impaired leg)
//! ```
//! It must never touch an interface outside the namespaces that it made.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::process::run;
use crate::registry;
use crate::relay::{Impairment, Relay};

/// Runs `work` on a thread inside the namespace called `name`; see [`Namespace::inside`].
///
/// # Errors
/// When there is no such namespace or it cannot be entered, or `work` fails or panics.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(format!("/run/netns/{name}")).with_context(|| format!("open the namespace {name}"))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
            work()
        });
        thread.join().map_err(|_| anyhow!("the thread inside {name} panicked"))?
    })
}

/// One network namespace; deleted, with the processes inside, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates `mr-<pid>-<number>-<label>` with its loopback up.
    ///
    /// # Errors
    /// When not root or iproute2 is missing.
    pub fn create(label: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        registry::ensure_not_ending()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}-{label}", registry::NAMESPACE_PREFIX, std::process::id());
        registry::add_namespace(&name);
        let namespace = Self { name };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip -n NAME …`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments)).map(drop)
    }

    /// A command that will run `program` inside the namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread inside the namespace: sockets opened there stay there wherever they are used later.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails or panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.name, work)
    }

    /// Firefox gathers no candidate at all without a default route; nothing answers behind this one.
    fn add_default_routes(&self) -> Result<()> {
        self.ip(&["route", "replace", "default", "via", "10.77.0.254"])?;
        self.ip(&["-6", "route", "replace", "default", "via", "fd77::254"])
    }

    /// Frames that were dropped between this end of a cable and the other.
    fn lost_on_cable(&self, interface: &str) -> Result<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/tx_dropped");
        let text = String::from_utf8(run(self.command("cat").arg(path))?.stdout)?;
        Ok(text.trim().parse()?)
    }

    /// Frames that were dropped in front of this end of a cable.
    fn lost_in_queue(&self, interface: &str) -> Result<u64> {
        let words = ["-s", "-j", "qdisc", "show", "dev", interface];
        let queues: serde_json::Value = serde_json::from_slice(&run(self.command("tc").args(words))?.stdout)?;
        queues[0]["drops"].as_u64().with_context(|| format!("{interface} has no queue"))
    }

    /// Gives a cable's end the queue of a network card: a veth holds 256 frames and drops the others.
    fn add_queue(&self, interface: &str) -> Result<()> {
        run(self.command("tc").args(["qdisc", "replace", "dev", interface, "root", "pfifo", "limit", "1000"])).map(drop)
    }

    /// Lets a thread of its own take in what arrives at `interface`, as a machine does whose interrupts are kept off the
    /// workers' cores: otherwise whoever sends, or was interrupted, pays for everybody's packets. It goes before
    /// everything but workers, so that a burst waits and is not lost.
    fn thread_reception(&self, interface: &str) -> Result<()> {
        // A veth has a NAPI to move only while GRO is on; without UDP_GRO sockets it merges no datagrams.
        run(self.command("ethtool").args(["-K", interface, "gro", "on"]))?;
        let script = format!("echo 1 > /sys/class/net/{interface}/threaded");
        let before = reception_threads(interface);
        run(self.command("sh").args(["-c", &script]))?;
        for thread in reception_threads(interface).difference(&before) {
            run(Command::new("renice").args(["-n", "-20", "-p", thread]))?;
        }
        Ok(())
    }

    /// Hands every packet's checksum and segmentation to the sender instead of the (virtual) hardware, so that what a
    /// raw socket sees on the veth is what a real wire would carry.
    fn turn_offloads_off(&self, interface: &str) -> Result<()> {
        let words = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        run(self.command("ethtool").args(words)).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        registry::delete_namespace(&self.name);
    }
}

/// Process ids of the kernel's threads that take in what arrives at interfaces of this name, in any namespace.
fn reception_threads(interface: &str) -> BTreeSet<String> {
    let start = format!("napi/{interface}-");
    let is_one =
        |folder: &Path| std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.starts_with(&start));
    let folders = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|folder| is_one(folder))
        .filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// A namespace with one interface `eth0` on the bed's switch.
#[derive(Debug)]
pub struct Endpoint {
    /// The namespace; `eth0` inside is the only way out.
    pub namespace: Namespace,
    /// Its IPv4 address (in 10.77.0.0/24).
    pub address: String,
    /// Its IPv6 address (in fd77::/64).
    pub address6: String,
    /// The interface inside the namespace.
    pub interface: &'static str,
    /// The other end of its cable, in the switch.
    port: String,
}

impl Endpoint {
    /// Takes the interface down, as a person does who walks out of reach: its routes go with it.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn unplug(&self) -> Result<()> {
        self.namespace.ip(&["link", "set", self.interface, "down"])
    }

    /// Brings the interface and what went with it back.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn plug(&self) -> Result<()> {
        self.namespace.ip(&["link", "set", self.interface, "up"])?;
        self.namespace.ip(&["addr", "replace", &format!("{}/64", self.address6), "dev", self.interface, "nodad"])?;
        self.namespace.add_default_routes()
    }
}

/// A switch and what hangs on it. Fields are dropped in order: relays stop before their interfaces go.
#[derive(Debug)]
pub struct Bed {
    relays: Vec<Relay>,
    switch: Namespace,
    endpoints: u8,
}

impl Bed {
    /// Creates the switch: a namespace with the bridge `br0`.
    ///
    /// # Errors
    /// When not root, or the kernel has no bridge.
    pub fn create() -> Result<Self> {
        let switch = Namespace::create("sw")?;
        switch.ip(&["link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { relays: Vec::new(), switch, endpoints: 0 })
    }

    /// Adds a namespace on an unimpaired cable.
    ///
    /// # Errors
    /// When an interface cannot be made.
    pub fn add(&mut self, label: &str) -> Result<Endpoint> {
        let (endpoint, port) = self.connect(label)?;
        self.switch.ip(&["link", "set", &port, "master", "br0", "up"])?;
        for (namespace, interface) in [(&endpoint.namespace, endpoint.interface), (&self.switch, port.as_str())] {
            namespace.add_queue(interface)?;
            namespace.thread_reception(interface)?;
        }
        Ok(endpoint)
    }

    /// Adds a namespace behind a relay which impairs UDP in both directions (`up` from the endpoint, `down` to it).
    ///
    /// # Errors
    /// When an interface or raw socket cannot be made.
    pub fn add_impaired(&mut self, label: &str, up: Impairment, down: Impairment) -> Result<Endpoint> {
        let (endpoint, port) = self.connect(label)?;
        let number = self.endpoints;
        let (wire, bridged) = (format!("wire{number}"), format!("wireb{number}"));
        self.switch.ip(&["link", "add", &wire, "type", "veth", "peer", "name", &bridged])?;
        for interface in [&port, &wire] {
            // Without an address of their own these two ends stay silent: only the relay speaks there.
            self.switch.ip(&["link", "set", interface, "addrgenmode", "none", "up"])?;
        }
        self.switch.ip(&["link", "set", &bridged, "master", "br0", "up"])?;
        for interface in [&wire, &bridged] {
            self.switch.turn_offloads_off(interface)?;
        }
        self.relays.push(Relay::start(self.switch.name(), (&port, up), (&wire, down))?);
        Ok(endpoint)
    }

    /// Frames that were dropped on the way to `endpoint` and from it. What its own queue refuses is not among them: its
    /// sender was told.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn lost_at(&self, endpoint: &Endpoint) -> Result<u64> {
        let own = endpoint.namespace.lost_on_cable(endpoint.interface)?;
        Ok(own + self.switch.lost_on_cable(&endpoint.port)? + self.switch.lost_in_queue(&endpoint.port)?)
    }

    /// The relays, in the order of the impaired endpoints.
    #[must_use]
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    fn connect(&mut self, label: &str) -> Result<(Endpoint, String)> {
        self.endpoints = self.endpoints.checked_add(1).context("a bed has at most 250 endpoints")?;
        let number = self.endpoints;
        let namespace = Namespace::create(label)?;
        let port = format!("port{number}");
        let switch = &self.switch;
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", namespace.name()];
        switch.ip(&[&["link", "add", port.as_str()][..], &peer].concat())?;
        let (address, address6) = (format!("10.77.0.{number}"), format!("fd77::{number}"));
        namespace.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        namespace.ip(&["addr", "add", &format!("{address6}/64"), "dev", "eth0", "nodad"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        namespace.turn_offloads_off("eth0")?;
        switch.turn_offloads_off(&port)?;
        namespace.add_default_routes()?;
        Ok((Endpoint { namespace, address, address6, interface: "eth0", port: port.clone() }, port))
    }
}

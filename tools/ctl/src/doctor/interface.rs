// SPDX-License-Identifier: Apache-2.0
//! The checks of the network interface that XDP is for. Without one they do not apply: the socket port serves.

use super::{Check, Host, Running, Verdict};

/// Largest MTU whose frames fit into one page beside XDP's head room and the kernel's tail (Linux `net/core/dev.c`, veth and
/// most drivers: 4096 − 256 − 320 − 22).
const MTU_MOST: u64 = 3498;

/// Drivers that are known to receive into AF_XDP memory without a copy (Linux `xsk_pool` users).
const ZERO_COPY: [&str; 8] = ["i40e", "ice", "igb", "igc", "ixgbe", "mlx5_core", "stmmac", "virtio_net"];

fn absent(check: &'static str, wanted: &'static str) -> Check {
    Check::new(check, wanted, Verdict::NotApplicable, "no interface is given to XDP (--interface NAME)")
}

/// The XDP mode that the running server has obtained.
pub(super) fn mode(host: &Host, running: &Running, interface: Option<&str>) -> Check {
    const WANTED: &str = "AF_XDP behind a native XDP program";
    let Some(name) = interface else {
        let found = running.port.as_ref().map_or_else(|| "no server runs".into(), |port| format!("workers use {port}"));
        return Check::new("XDP mode", WANTED, Verdict::NotApplicable, found);
    };
    if !host.exists(&format!("sys/class/net/{name}")) {
        return Check::new("XDP mode", WANTED, Verdict::Failed, format!("there is no interface {name}"))
            .fix("ip -br link");
    }
    match running.port.as_deref() {
        Some("xdp") => Check::new("XDP mode", WANTED, Verdict::Ok, "workers use xdp"),
        Some(port) => Check::new("XDP mode", WANTED, Verdict::Failed, format!("workers use {port}"))
            .fix(format!("start with --backend xdp --interface {name}; it says what hinders it")),
        None => Check::new("XDP mode", WANTED, Verdict::Unknown, "no server runs")
            .fix(format!("millrace-keeper --interface {name}")),
    }
}

/// The driver, and whether it is one of those with zero-copy.
pub(super) fn driver(host: &Host, interface: Option<&str>) -> Check {
    const WANTED: &str = "a driver with native XDP and zero-copy";
    let Some(name) = interface else { return absent("network driver", WANTED) };
    let driver = host.link(&format!("sys/class/net/{name}/device/driver"));
    match driver {
        Some(driver) if ZERO_COPY.contains(&driver.as_str()) => {
            Check::new("network driver", WANTED, Verdict::Ok, format!("{driver} (zero-copy)"))
        }
        Some(driver) => Check::new("network driver", WANTED, Verdict::Warning, format!("{driver}: packets are copied"))
            .fix("a card of another driver (ice, i40e, ixgbe, mlx5) receives without a copy"),
        None => {
            Check::new("network driver", WANTED, Verdict::Warning, format!("{name} is a virtual interface: copies"))
                .fix("name the physical interface where there is one")
        }
    }
}

/// The MTU.
pub(super) fn mtu(host: &Host, interface: Option<&str>) -> Check {
    const WANTED: &str = "at most 3498, or native XDP refuses it";
    let Some(name) = interface else { return absent("MTU", WANTED) };
    let mtu = host.number(&format!("sys/class/net/{name}/mtu"));
    let verdict = mtu.map_or(Verdict::Unknown, |mtu| if mtu > MTU_MOST { Verdict::Failed } else { Verdict::Ok });
    let found = mtu.map_or_else(|| "cannot be read".into(), |mtu| mtu.to_string());
    Check::new("MTU", WANTED, verdict, found).fix(format!("ip link set dev {name} mtu 1500"))
}

/// Receive offloads that merge packets before XDP sees them.
pub(super) fn offloads(host: &Host, interface: Option<&str>) -> Check {
    const WANTED: &str = "large-receive-offload and rx-gro-hw off";
    let Some(name) = interface else { return absent("receive offloads", WANTED) };
    let Some(features) = host.ethtool("-k", name) else {
        return Check::new("receive offloads", WANTED, Verdict::Unknown, "ethtool cannot say")
            .fix("apt install ethtool");
    };
    let on = |feature: &str| features.lines().any(|line| line.trim().starts_with(&format!("{feature}: on")));
    let merging: Vec<&str> = ["large-receive-offload", "rx-gro-hw"].into_iter().filter(|feature| on(feature)).collect();
    let (verdict, found) = if merging.is_empty() {
        (Verdict::Ok, "off".into())
    } else {
        (Verdict::Failed, format!("on: {}", merging.join(", ")))
    };
    Check::new("receive offloads", WANTED, verdict, found).fix(format!("ethtool -K {name} lro off rx-gro-hw off"))
}

/// Receive queues against workers.
pub(super) fn queues(host: &Host, running: &Running, interface: Option<&str>) -> Check {
    const WANTED: &str = "a receive queue for each worker";
    let Some(name) = interface else { return absent("receive queues", WANTED) };
    let queues = host.count(&format!("sys/class/net/{name}/queues"), "rx-");
    let workers = running.workers.map(|workers| workers as usize);
    let (verdict, found) = match (queues, workers) {
        (Some(queues), Some(workers)) if queues == workers => (Verdict::Ok, format!("{queues} for {workers} workers")),
        (Some(queues), Some(workers)) => (Verdict::Warning, format!("{queues} for {workers} workers: they share")),
        (Some(queues), None) => (Verdict::Ok, format!("{queues}; no server runs")),
        (None, _) => (Verdict::Unknown, "cannot be counted".into()),
    };
    let wanted = workers.unwrap_or(1);
    Check::new("receive queues", WANTED, verdict, found).fix(format!("ethtool -L {name} combined {wanted}"))
}

/// How flows are spread over the queues.
pub(super) fn steering(host: &Host, interface: Option<&str>) -> Check {
    const WANTED: &str = "UDP hashed by addresses and ports (sdfn)";
    let Some(name) = interface else { return absent("flow steering", WANTED) };
    if host.count(&format!("sys/class/net/{name}/queues"), "rx-") == Some(1) {
        return Check::new("flow steering", WANTED, Verdict::NotApplicable, "one queue");
    }
    let hash = host.ethtool("-n", name);
    let (verdict, found) = match hash.as_deref() {
        Some(text) if text.contains("L4 bytes 0 & 1") => (Verdict::Ok, "by addresses and ports"),
        Some(_) => (Verdict::Warning, "by addresses only: one peer's flows meet in one queue"),
        None => (Verdict::Unknown, "the driver does not say"),
    };
    Check::new("flow steering", WANTED, verdict, found).fix(format!("ethtool -N {name} rx-flow-hash udp4 sdfn"))
}

/// Whether the card's interrupts come to the cores of the workers.
pub(super) fn interrupts(host: &Host, running: &Running, interface: Option<&str>) -> Check {
    const WANTED: &str = "the card's interrupts on the workers' cores";
    let Some(name) = interface else { return absent("interrupt affinity", WANTED) };
    if running.cpus.is_empty() {
        return Check::new("interrupt affinity", WANTED, Verdict::NotApplicable, "workers are not pinned");
    }
    let table = host.text("proc/interrupts").unwrap_or_default();
    let numbers: Vec<&str> = table
        .lines()
        .filter(|line| line.split_whitespace().last().is_some_and(|last| last.contains(name)))
        .filter_map(|line| line.trim().split_once(':').map(|(number, _)| number))
        .collect();
    if numbers.is_empty() {
        return Check::new(
            "interrupt affinity",
            WANTED,
            Verdict::NotApplicable,
            format!("{name} has no interrupt of its own"),
        );
    }
    let lists = numbers.iter().filter_map(|number| host.text(&format!("proc/irq/{number}/smp_affinity_list")));
    let strays: Vec<String> = lists
        .map(|list| list.trim().to_owned())
        .filter(|list| !list.parse().is_ok_and(|cpu| running.cpus.contains(&cpu)))
        .collect();
    let (verdict, found) = if strays.is_empty() {
        (Verdict::Ok, format!("{} interrupts on the workers' cores", numbers.len()))
    } else {
        (Verdict::Warning, format!("{} of {} elsewhere (CPUs {})", strays.len(), numbers.len(), strays.join("; ")))
    };
    let (number, cpu) = (numbers[0], running.cpus[0]);
    Check::new("interrupt affinity", WANTED, verdict, found)
        .fix(format!("systemctl stop irqbalance; echo {cpu} > /proc/irq/{number}/smp_affinity_list, and so on"))
}

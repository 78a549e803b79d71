// SPDX-License-Identifier: Apache-2.0
//! `millrace doctor`: whether this machine lets Millrace do what it can, and the command that mends what does not.
//!
//! Every check looks at files below a root (`/` but in tests) and at what `ethtool` says. It must never change anything, and
//! what it cannot find out it says so: that is never "ok".

mod host;
mod interface;

use serde::Serialize;

pub(crate) use host::Host;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// Something will not work.
    Failed,
    /// It does not matter here.
    NotApplicable,
    /// It could not be found out.
    Unknown,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How it went.
    pub(crate) verdict: Verdict,
    /// What is there.
    pub(crate) found: String,
    /// What should be.
    pub(crate) wanted: &'static str,
    /// What to type; none where nothing is to be done.
    pub(crate) fix: Option<String>,
}

impl Check {
    fn new(check: &'static str, wanted: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), wanted, fix: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        if matches!(self.verdict, Verdict::Warning | Verdict::Failed | Verdict::Unknown) {
            self.fix = Some(fix.into());
        }
        self
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Nothing has failed.
    pub(crate) ok: bool,
    /// In the order in which they matter.
    pub(crate) checks: Vec<Check>,
}

/// What of the running server is of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// Workers; none where no server runs.
    pub(crate) workers: Option<u32>,
    /// What the workers' port is, in one word; none where no server runs.
    pub(crate) port: Option<String>,
    /// CPUs that workers are pinned to.
    pub(crate) cpus: Vec<u64>,
}

/// Looks at everything. `interface`: the one that XDP is for.
pub(crate) fn examine(host: &Host, running: &Running, interface: Option<&str>) -> Report {
    let mut checks = vec![
        kernel(host),
        btf(host),
        jit(host),
        interface::mode(host, running, interface),
        interface::driver(host, interface),
        interface::mtu(host, interface),
        interface::offloads(host, interface),
        interface::queues(host, running, interface),
        interface::steering(host, interface),
        interface::interrupts(host, running, interface),
        receive_buffers(host),
        send_buffers(host),
        io_uring(host),
        memlock(host),
        clock(host),
        governor(host),
        steal(host),
    ];
    checks.retain(|check| !check.check.is_empty());
    Report { ok: checks.iter().all(|check| check.verdict != Verdict::Failed), checks }
}

/// Oldest kernel that is served, and the oldest whose rings can be taken over from a dead process.
const OLDEST: (u32, u32) = (6, 1);
const TAKEOVER: (u32, u32) = (6, 4);

fn kernel(host: &Host) -> Check {
    let release = host.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    let version = parts.next().flatten().zip(parts.next().flatten());
    let verdict = match version {
        Some(version) if version >= TAKEOVER => Verdict::Ok,
        Some(version) if version >= OLDEST => Verdict::Warning,
        Some(_) => Verdict::Failed,
        None => Verdict::Unknown,
    };
    Check::new("kernel", "6.1 or later; 6.4 or later to take AF_XDP rings over after a crash", verdict, release.trim())
        .fix("boot a newer kernel, on Debian: apt install -t bookworm-backports linux-image-amd64")
}

fn btf(host: &Host) -> Check {
    let is_there = host.exists("sys/kernel/btf/vmlinux");
    let (verdict, found) = if is_there { (Verdict::Ok, "present") } else { (Verdict::Warning, "absent") };
    Check::new("kernel BTF", "/sys/kernel/btf/vmlinux", verdict, found)
        .fix("boot a kernel with CONFIG_DEBUG_INFO_BTF=y")
}

fn jit(host: &Host) -> Check {
    let (verdict, found) = match host.number("proc/sys/net/core/bpf_jit_enable") {
        Some(0) => (Verdict::Failed, "off: the classifier is interpreted"),
        Some(_) => (Verdict::Ok, "on"),
        None if host.exists("proc/sys/net/core/rmem_max") => (Verdict::Ok, "always on"),
        None => (Verdict::Unknown, "cannot be read"),
    };
    Check::new("BPF JIT", "on", verdict, found).fix("sysctl -w net.core.bpf_jit_enable=1")
}

/// What the keeper asks for per socket.
const SOCKET_BYTES: u64 = dataplane_keeper::SOCKET_BUFFER_BYTES as u64;

fn receive_buffers(host: &Host) -> Check {
    buffers(host, "UDP receive buffer", "proc/sys/net/core/rmem_max", "sysctl -w net.core.rmem_max=")
}

fn send_buffers(host: &Host) -> Check {
    buffers(host, "UDP send buffer", "proc/sys/net/core/wmem_max", "sysctl -w net.core.wmem_max=")
}

fn buffers(host: &Host, check: &'static str, path: &str, command: &str) -> Check {
    let most = host.number(path);
    let verdict = match most {
        Some(most) if most >= SOCKET_BYTES => Verdict::Ok,
        // The keeper forces it where it may (CAP_NET_ADMIN); elsewhere bursts are lost.
        Some(_) => Verdict::Warning,
        None => Verdict::Unknown,
    };
    let found = most.map_or_else(|| "cannot be read".into(), |most| format!("at most {} KiB without root", most >> 10));
    Check::new(check, "8192 KiB, so that bursts wait and are not lost", verdict, found)
        .fix(format!("{command}{SOCKET_BYTES}"))
}

fn io_uring(host: &Host) -> Check {
    let (verdict, found) = match host.number("proc/sys/kernel/io_uring_disabled") {
        Some(0) => (Verdict::Ok, "allowed"),
        Some(1) => (Verdict::Warning, "for members of io_uring_group only"),
        Some(_) => (Verdict::Warning, "forbidden: plain batched sockets are used"),
        None if host.exists("proc/sys/kernel/osrelease") => (Verdict::Ok, "allowed (this kernel has no switch for it)"),
        None => (Verdict::Unknown, "cannot be read"),
    };
    Check::new("io_uring", "allowed", verdict, found).fix("sysctl -w kernel.io_uring_disabled=0")
}

/// A worker's UMEM: 8192 frames of 2 KiB.
const UMEM_BYTES: u64 = 16 << 20;

fn memlock(host: &Host) -> Check {
    let limits = host.text("proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    let (verdict, found) = match soft {
        Some("unlimited") => (Verdict::Ok, "unlimited".to_owned()),
        Some(bytes) => match bytes.parse::<u64>() {
            Ok(bytes) if bytes >= UMEM_BYTES => (Verdict::Ok, format!("{} KiB", bytes >> 10)),
            Ok(bytes) => {
                (Verdict::Warning, format!("{} KiB: only a keeper with CAP_IPC_LOCK can use AF_XDP", bytes >> 10))
            }
            Err(_) => (Verdict::Unknown, bytes.to_owned()),
        },
        None => (Verdict::Unknown, "cannot be read".to_owned()),
    };
    Check::new("locked memory", "16 MiB per worker for AF_XDP, or CAP_IPC_LOCK", verdict, found)
        .fix("ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit")
}

fn clock(host: &Host) -> Check {
    let source = host.text("sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.as_deref().map(str::trim);
    let verdict = match source {
        Some("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page") => Verdict::Ok,
        Some(_) => Verdict::Warning,
        None => Verdict::Unknown,
    };
    Check::new(
        "clock source",
        "tsc, kvm-clock or alike, which is read without a system call",
        verdict,
        source.unwrap_or("cannot be read"),
    )
    .fix("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
}

fn governor(host: &Host) -> Check {
    let governor = host.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let (verdict, found) = match governor.as_deref().map(str::trim) {
        Some("performance") => (Verdict::Ok, "performance".to_owned()),
        Some(other) => (Verdict::Warning, format!("{other}: a sleeping core wakes up slowly")),
        None => (Verdict::NotApplicable, "no frequency scaling (a virtual machine, or fixed)".to_owned()),
    };
    Check::new("CPU governor", "performance", verdict, found).fix("cpupower frequency-set -g performance")
}

/// More time than this taken by other guests is felt in a call.
const STEAL_PER_MILLE: u64 = 10;

fn steal(host: &Host) -> Check {
    let stat = host.text("proc/stat").unwrap_or_default();
    let line = stat.lines().find(|line| line.starts_with("cpu "));
    let ticks: Vec<u64> =
        line.into_iter().flat_map(str::split_whitespace).skip(1).filter_map(|tick| tick.parse().ok()).collect();
    let (verdict, found) = match ticks.get(7) {
        Some(stolen) => {
            let per_mille = stolen.saturating_mul(1000) / ticks.iter().take(8).sum::<u64>().max(1);
            let verdict = if per_mille > STEAL_PER_MILLE { Verdict::Warning } else { Verdict::Ok };
            (verdict, format!("{}.{} % since boot", per_mille / 10, per_mille % 10))
        }
        None => (Verdict::Unknown, "cannot be read".into()),
    };
    Check::new("stolen CPU time", "at most 1 %: more means that other guests use this machine's cores", verdict, found)
        .fix("move to a host with cores of its own")
}

/// For people.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let word = match check.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "WARNING",
            Verdict::Failed => "FAILED ",
            Verdict::NotApplicable => "-      ",
            Verdict::Unknown => "?      ",
        };
        text.push_str(&format!("{word} {:<22} {}\n", check.check, check.found));
        if check.verdict != Verdict::Ok && check.verdict != Verdict::NotApplicable {
            text.push_str(&format!("        wanted: {}\n", check.wanted));
        }
        if let Some(fix) = &check.fix {
            text.push_str(&format!("        fix:    {fix}\n"));
        }
    }
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    text.push_str(&format!(
        "\n{} checks: {} failed, {} warnings, {} not known\n",
        report.checks.len(),
        count(Verdict::Failed),
        count(Verdict::Warning),
        count(Verdict::Unknown)
    ));
    text
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! A good machine has no finding; each planted fault has its own, with the line that mends it.

use std::path::{Path, PathBuf};

use super::*;

/// A folder that goes with the test.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A machine without a fault, with an interface `nic0`.
fn good(label: &str) -> Root {
    let root = Root(std::env::temp_dir().join(format!("millrace-doctor-{}-{label}", std::process::id())));
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.4-amd64\n"),
        ("sys/kernel/btf/vmlinux", ""),
        ("proc/sys/net/core/bpf_jit_enable", "1\n"),
        ("proc/sys/net/core/rmem_max", "8388608\n"),
        ("proc/sys/net/core/wmem_max", "8388608\n"),
        ("proc/sys/kernel/io_uring_disabled", "0\n"),
        ("proc/self/limits", "Max locked memory         67108864             67108864             bytes\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("proc/stat", "cpu  100 0 100 9800 0 0 0 10 0 0\n"),
        ("sys/class/net/nic0/mtu", "1500\n"),
        ("sys/class/net/nic0/queues/rx-0/rps_cpus", "0\n"),
        ("sys/class/net/nic0/queues/rx-1/rps_cpus", "0\n"),
        ("sys/bus/pci/drivers/ice/bind", ""),
        (
            "proc/interrupts",
            "           CPU0  CPU1\n 24:  1  0  PCI-MSI  nic0-TxRx-0\n 25:  0  1  PCI-MSI  nic0-TxRx-1\n",
        ),
        ("proc/irq/24/smp_affinity_list", "0\n"),
        ("proc/irq/25/smp_affinity_list", "1\n"),
    ] {
        write(&root.0, path, text);
    }
    let device = root.0.join("sys/class/net/nic0/device");
    std::fs::create_dir_all(&device).unwrap();
    std::os::unix::fs::symlink("../../../../bus/pci/drivers/ice", device.join("driver")).unwrap();
    root
}

fn ethtool(option: &str, _: &str) -> Option<String> {
    Some(match option {
        "-k" => "Features for nic0:\nlarge-receive-offload: off [fixed]\nrx-gro-hw: off\n".into(),
        _ => "UDP over IPV4 flows use these fields:\nIP SA\nIP DA\nL4 bytes 0 & 1 [TCP/UDP src port]\n".into(),
    })
}

fn merging(option: &str, interface: &str) -> Option<String> {
    if option == "-k" { Some("large-receive-offload: on\n".into()) } else { ethtool(option, interface) }
}

fn running() -> Running {
    Running { workers: Some(2), port: Some("xdp".into()), cpus: vec![0, 1] }
}

fn of<'r>(report: &'r Report, name: &str) -> &'r Check {
    report.checks.iter().find(|check| check.check == name).unwrap()
}

#[test]
fn a_good_machine_has_no_finding() {
    let root = good("good");
    let report = examine(&Host::planted(root.0.clone(), ethtool), &running(), Some("nic0"));
    let findings: Vec<&Check> = report.checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    assert!(report.ok && findings.is_empty(), "{findings:#?}");
    assert_eq!(report.checks.len(), 17);
    assert!(text(&report).ends_with("17 checks: 0 failed, 0 warnings, 0 not known\n"));
}

#[test]
fn each_planted_fault_is_found_with_the_line_that_mends_it() {
    let faults: [(&str, &str, &str, Verdict, &str); 13] = [
        ("proc/sys/kernel/osrelease", "5.10.0-23\n", "kernel", Verdict::Failed, "newer kernel"),
        ("proc/sys/kernel/osrelease", "6.1.0-23\n", "kernel", Verdict::Warning, "newer kernel"),
        ("proc/sys/net/core/bpf_jit_enable", "0\n", "BPF JIT", Verdict::Failed, "bpf_jit_enable=1"),
        ("proc/sys/net/core/rmem_max", "212992\n", "UDP receive buffer", Verdict::Warning, "rmem_max=8388608"),
        ("proc/sys/net/core/wmem_max", "212992\n", "UDP send buffer", Verdict::Warning, "wmem_max=8388608"),
        ("proc/sys/kernel/io_uring_disabled", "2\n", "io_uring", Verdict::Warning, "io_uring_disabled=0"),
        ("proc/self/limits", "Max locked memory 65536 65536 bytes\n", "locked memory", Verdict::Warning, "ulimit -l"),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
            "clock source",
            Verdict::Warning,
            "echo tsc",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
            "CPU governor",
            Verdict::Warning,
            "cpupower",
        ),
        ("proc/stat", "cpu  100 0 100 9800 0 0 0 1000 0 0\n", "stolen CPU time", Verdict::Warning, "cores of its own"),
        ("sys/class/net/nic0/mtu", "9000\n", "MTU", Verdict::Failed, "mtu 1500"),
        (
            "sys/class/net/nic0/queues/rx-2/rps_cpus",
            "0\n",
            "receive queues",
            Verdict::Warning,
            "ethtool -L nic0 combined 2",
        ),
        ("proc/irq/25/smp_affinity_list", "0-3\n", "interrupt affinity", Verdict::Warning, "irqbalance"),
    ];
    for (index, (path, planted, name, verdict, fix)) in faults.into_iter().enumerate() {
        let root = good(&format!("fault{index}"));
        write(&root.0, path, planted);
        let report = examine(&Host::planted(root.0.clone(), ethtool), &running(), Some("nic0"));
        let check = of(&report, name);
        assert_eq!(check.verdict, verdict, "{path}: {check:?}");
        assert!(check.fix.as_ref().is_some_and(|line| line.contains(fix)), "{path}: {check:?}");
        assert_eq!(report.ok, verdict != Verdict::Failed);
        let others = report.checks.iter().filter(|check| check.check != name && check.verdict != Verdict::Ok);
        assert_eq!(others.count(), 0, "{path} is one fault");
    }
}

#[test]
fn merging_offloads_and_a_server_beside_xdp_are_failures() {
    let root = good("offloads");
    let report = examine(&Host::planted(root.0.clone(), merging), &running(), Some("nic0"));
    assert_eq!(of(&report, "receive offloads").verdict, Verdict::Failed);
    let beside = Running { port: Some("uring".into()), ..running() };
    let report = examine(&Host::planted(root.0.clone(), ethtool), &beside, Some("nic0"));
    assert!(of(&report, "XDP mode").fix.as_ref().is_some_and(|fix| fix.contains("--interface nic0")));
    let report = examine(&Host::planted(root.0.clone(), ethtool), &running(), Some("nic7"));
    assert_eq!(of(&report, "XDP mode").found, "there is no interface nic7");
}

#[test]
fn what_cannot_be_found_out_is_never_ok() {
    let empty = Host::planted("/nonexistent".into(), |_, _| None);
    let report = examine(&empty, &Running::default(), None);
    let fine: Vec<&str> =
        report.checks.iter().filter(|check| check.verdict == Verdict::Ok).map(|check| check.check).collect();
    assert_eq!(fine, [""; 0]);
}

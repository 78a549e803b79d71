// SPDX-License-Identifier: Apache-2.0
//! Real processes: keeper, data plane and control plane, killed and started again, with a call by WHIP and WHEP over loopback.
//!
//! The siblings of the keeper's binary are built by `cargo build --release --workspace --bins`, which `cargo xtask test`
//! runs first. Where they are missing these tests say SKIPPED and why; where they are older than the sources, they test what
//! is there.
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, clippy::print_stderr, reason = "tests")]

mod bed;
mod peer;
mod powers;
mod server;
mod successor;
mod xdp;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use peer::{Call, Peer};
use server::{Server, ended, free_ports, signal, until};

/// Builds a server, or ends the test where a binary is missing.
macro_rules! server {
    ($($option:expr),* $(,)?) => {
        match Server::start(&[$($option),*]) {
            Some(server) => server,
            None => return,
        }
    };
}

#[test]
fn a_killed_keeper_leaves_no_orphan_and_its_successor_starts_at_once() {
    let mut server = server!();
    let planes = [server.pid("dataplane"), server.pid("controlplane")];
    // One that cannot answer a signal has to go too.
    signal(planes[1], Signal::STOP);
    server.kill();
    for pid in planes {
        assert!(until(Duration::from_secs(2), || ended(pid)), "{pid} is an orphan");
    }
    assert!(server.path("keeper.sock").exists(), "a stale socket is left, as after any SIGKILL");
    server.start_again();
    assert_eq!(server.status(), 0);
}

#[test]
fn a_killed_data_plane_is_replaced_and_the_call_goes_on() {
    let server = server!();
    let mut call = Call::start(&server);
    let published = Duration::from_secs(1);
    assert!(call.flows(published), "{}", call.account());
    for _ in 0..3 {
        let before = server.pid("dataplane");
        signal(before, Signal::KILL);
        call.forget_answers();
        let killed = Instant::now();
        assert!(call.flows(Duration::from_secs(3)), "after {:?}: {}", killed.elapsed(), call.account());
        assert_ne!(server.pid("dataplane"), before);
        assert!(call.both_answered(Duration::from_secs(2)), "checks of known transports are answered");
        eprintln!("call back after {} ms, {}", killed.elapsed().as_millis(), call.account());
        // Past the second that tells a served plane from a failed start.
        call.run(Duration::from_millis(1500));
    }
    assert_eq!(call.viewer.replayed, 0, "no number is spent twice (CONTRACTS 3)");
    assert!(until(Duration::from_secs(3), || server.status() == 0), "ledgers close again (CONTRACTS 15)");
    // What waited in the sockets meanwhile is no stranger's.
    assert_eq!(server.dropped("unknown_flow"), 0);
    // Strangers are still strangers: the successor knows who is admitted, and nobody else.
    let mut stranger = Peer::stranger(&server);
    assert!(!until(Duration::from_millis(300), || stranger.check_is_answered()));
}

#[test]
fn media_goes_on_while_the_control_plane_cannot_start() {
    let folder = server::scratch();
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("millrace.toml");
    std::fs::write(&config, "").unwrap();
    let server = server!("--config", config.to_str().unwrap());
    let mut call = Call::start(&server);
    assert!(call.flows(Duration::from_secs(1)), "{}", call.account());
    let data_plane = server.pid("dataplane");
    std::fs::write(&config, "no_such_key = 1\n").unwrap();
    signal(server.pid("controlplane"), Signal::KILL);
    // Longer than five tries take.
    call.run(Duration::from_secs(4));
    assert!(server.log().matches("controlplane ended").count() >= 5, "{}", server.log());
    assert!(call.flows(Duration::from_secs(1)), "{}", call.account());
    assert_eq!(server.pid("dataplane"), data_plane);
    std::fs::write(&config, "").unwrap();
    let is_back = || server.log().matches("Millrace is ready").count() == 2;
    assert!(until(Duration::from_secs(10), is_back), "{}", server.log());
    assert!(until(Duration::from_secs(2), || server.status() == 0));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_second_keeper_is_told_what_to_name() {
    let server = server!();
    let [media, http] = free_ports();
    let folder = server.path("").display().to_string();
    let same_folder = server::run(&["--runtime-dir", &folder, "--media-port", &media.to_string()]);
    assert_eq!(same_folder.code, Some(1));
    assert!(same_folder.says("another Millrace runs with") && same_folder.says("--runtime-dir"), "{same_folder:?}");
    let other = server::scratch();
    let other_folder = other.display().to_string();
    let same_port = server::run(&["--runtime-dir", &other_folder, "--media-port", &server.media_port.to_string()]);
    assert_eq!(same_port.code, Some(1));
    assert!(same_port.says("is taken") && same_port.says("--media-port"), "{same_port:?}");
    let state = other.join("state").display().to_string();
    let taken = format!("127.0.0.1:{}", server.http_port);
    let same_http = server::run(&[
        "--runtime-dir",
        &other_folder,
        "--media-port",
        &media.to_string(),
        "--state-dir",
        &state,
        "--listen-plain",
        &taken,
    ]);
    assert_eq!(same_http.code, Some(1));
    assert!(same_http.says(&format!("cannot listen on {taken}")) && same_http.says("could not be started"));
    assert_eq!(server.status(), 0, "the first one did not notice");
    assert_ne!(http, 0);
    std::fs::remove_dir_all(other).unwrap();
}

#[test]
fn sigterm_and_ctrl_c_end_everything_and_leave_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = server!();
    let mode = std::fs::metadata(server.path("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the runtime directory is private");
    let planes = [server.pid("dataplane"), server.pid("controlplane")];
    assert_eq!(server.terminate(), Some(0));
    assert!(planes.into_iter().all(ended));
    let left: Vec<_> = std::fs::read_dir(server.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["keeper.lock"]);
    assert!(!server.log().contains("started again"), "{}", server.log());
    server.start_again();
    assert_eq!(server.interrupt(), Some(0));
    assert!(!server.log().contains("started again"), "{}", server.log());
}

#[test]
fn planes_that_somebody_else_starts_get_their_descriptors_one_at_a_time() {
    if !server::has_planes() {
        return;
    }
    let mut server = Server::start_alone();
    let folder = server.path("").display().to_string();
    let mut first = server.spawn_beside("millrace-dataplane", &["--runtime-dir", &folder, "--no-pin"]);
    assert!(until(Duration::from_secs(5), || server.log().contains("data plane ready")), "{}", server.log());
    assert_eq!(server.pid("dataplane"), first.id());
    let second = server::run_beside("millrace-dataplane", &["--runtime-dir", &folder, "--no-pin"]);
    assert_eq!(second.code, Some(1));
    assert!(second.says("another process has that role and lives"), "{second:?}");
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = server.spawn_beside("millrace-dataplane", &["--runtime-dir", &folder, "--no-pin"]);
    assert!(
        until(Duration::from_secs(5), || server.log().matches("data plane ready").count() == 2),
        "{}",
        server.log()
    );
    // Who started it ends it.
    assert_eq!(server.terminate(), Some(0));
    assert!(third.try_wait().unwrap().is_none());
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn wrong_options_end_it_with_one_clear_message() {
    let folder = server::scratch();
    let (runtime, state) = (folder.join("run").display().to_string(), folder.join("state").display().to_string());
    let [media, _] = free_ports();
    let media = media.to_string();
    let base = ["--runtime-dir", &runtime, "--state-dir", &state, "--media-port", &media];
    for (option, value) in [("--media-port", "0"), ("--workers", "0"), ("--workers", "33"), ("--backend", "dpdk")] {
        let said = server::run(&[option, value]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.says(option), "{said:?}");
    }
    let help = server::run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.says("--runtime-dir") && help.says("Examples:") && help.says("Exit status:"));
    if !server::has_planes() {
        return;
    }
    let said = server::run(&[&base[..], &["--open-romms"]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.text.matches("unexpected argument '--open-romms'").count(), 1, "said once: {said:?}");
    assert!(said.says("does not serve with these options"), "{said:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

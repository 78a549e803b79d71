// SPDX-License-Identifier: Apache-2.0
//! Real processes with an AF_XDP port between network namespaces: killed, refused, left without their interface.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::bed::with_bed;
use crate::peer::{Call, Peer};
use crate::server::{Server, run_at, signal, until};
use crate::{powers, server};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_call_over_xdp_goes_on_after_a_killed_data_plane() {
    with_bed("a_call_over_xdp_goes_on_after_a_killed_data_plane", |bed| {
        let options = ["--backend", "xdp", "--interface", "eth0", "--open-rooms"];
        let mut server = Server::start_at(bed.place(), &options).unwrap();
        powers::are_least(&server);
        let mut call = Call::start(&server);
        assert!(call.flows(LIMIT), "{}", call.account());
        for start in 1..=2 {
            call.run(Duration::from_millis(2500));
            let report = server.report();
            let interface = &report["interfaces"][0];
            assert_eq!(interface["times_handed"], start, "{interface:#}");
            assert_eq!(interface["open"], true);
            let by_xdp =
                [&report["totals"]["rx_by_xdp"], &report["totals"]["tx_by_xdp"]].map(|it| it.as_u64().unwrap());
            assert!(by_xdp.into_iter().all(|packets| packets > 200 * start), "{by_xdp:?} {interface:#}");
            // The keeper reads these once a second.
            let redirected = || server.report()["interfaces"][0]["fates"]["redirect_flow"].as_u64().unwrap();
            assert!(until(LIMIT, || redirected() > 200 * start), "{interface:#}");
            assert!(interface["paths_by_xdp"].as_u64().unwrap() >= 2, "{interface:#}");
            if start == 1 {
                signal(server.pid("dataplane"), Signal::KILL);
                call.forget_answers();
                assert!(call.flows(LIMIT), "{}", call.account());
                assert!(call.both_answered(LIMIT));
            }
        }
        assert_eq!(server.log().matches("AF_XDP sockets bound").count(), 2, "{}", server.log());
        assert_eq!(call.viewer.replayed, 0, "no number is spent twice (CONTRACTS 3)");
        assert!(until(LIMIT, || server.status() == 0), "ledgers close again (CONTRACTS 15)");
        powers::are_least(&server);
        // RTP of somebody whom nobody knows ends in the driver.
        let mut stranger = Peer::stranger(&server);
        stranger.send_media();
        let dropped = || server.report()["interfaces"][0]["fates"]["drop_rtp"].as_u64().unwrap();
        assert!(until(LIMIT, || dropped() > 0));
        assert!(!until(Duration::from_millis(300), || stranger.check_is_answered()));
        assert_eq!(server.terminate(), Some(0));
        let show = ["-n", bed.server.name(), "-d", "link", "show", "eth0"];
        let link = Command::new("ip").args(show).output().unwrap();
        let link = String::from_utf8(link.stdout).unwrap();
        assert!(link.contains("eth0") && !link.contains("xdp"), "the classifier went with the keeper: {link}");
    });
}

#[test]
fn an_interface_that_goes_leaves_the_sockets() {
    with_bed("an_interface_that_goes_leaves_the_sockets", |bed| {
        let server = Server::start_at(bed.place(), &["--interface", "eth0", "--xdp-mode", "generic"]).unwrap();
        assert_eq!(server.report()["interfaces"][0]["mode"], "generic");
        let first = server.pid("dataplane");
        bed.cut();
        assert!(until(LIMIT, || server.log().contains("dataplane has lost its interface")), "{}", server.log());
        assert!(until(LIMIT, || server.log().matches("data plane ready").count() == 2), "{}", server.log());
        assert_ne!(server.pid("dataplane"), first);
        assert!(server.log().contains("the kernel's stack carries the packets: there is no interface `eth0`"));
        let report = server.report();
        assert_eq!(report["interfaces"][0]["attached"], false);
        assert!(report["problems"][0].as_str().unwrap().contains("eth0 is not served past the kernel's stack"));
        bed.wire();
        assert!(until(LIMIT, || server.report()["interfaces"][0]["open"] == true), "{}", server.log());
        assert!(server.log().contains("the interface has come back"));
        assert_eq!(server.report()["interfaces"][0]["times_attached"], 2);
    });
}

#[test]
fn without_the_interface_the_sockets_serve_or_the_keeper_says_what_to_do() {
    with_bed("without_the_interface_the_sockets_serve_or_the_keeper_says_what_to_do", |bed| {
        let place = bed.place();
        let folder = server::scratch().display().to_string();
        let run = |options: &[&str]| run_at(&place, &[&["--runtime-dir", folder.as_str()], options].concat());
        let said = run(&["--backend", "xdp", "--interface", "eth7"]);
        assert_eq!(said.code, Some(1));
        assert!(said.says("no AF_XDP port: there is no interface `eth7`; `ip link` lists them"), "{said:?}");
        let said = run(&["--backend", "xdp"]);
        assert!(said.says("--backend xdp needs --interface NAME") && said.code == Some(1), "{said:?}");
        let server = Server::start_at(place.clone(), &["--interface", "eth7", "--open-rooms"]).unwrap();
        let log = server.log();
        assert_eq!(
            log.matches("the kernel's stack carries the packets: there is no interface `eth7`").count(),
            1,
            "{log}"
        );
        let mut call = Call::start(&server);
        assert!(call.flows(LIMIT), "{}", call.account());
        assert_eq!(server.report()["totals"]["rx_by_xdp"], 0);
        drop(server);
        let first = Server::start_at(place.clone(), &["--interface", "eth0"]).unwrap();
        let said = run(&["--backend", "xdp", "--interface", "eth0"]);
        assert!(said.says("already has the XDP program") && said.says("ip link set dev eth0 xdp off"), "{said:?}");
        assert_eq!(first.status(), 0);
        let _ = std::fs::remove_dir_all(&folder);
    });
}

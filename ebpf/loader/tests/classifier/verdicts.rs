// SPDX-License-Identifier: Apache-2.0
//! Every fixture through a loaded program: verdict, counter, the one socket that gets the frame, and the stamp in front.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use dataplane_abi::xdp::{STAMP_BYTES, Verdict, XdpFate};
use ebpf_loader::{Classifier, Interface, Maps, Mode, Object, Sizes};
use rustix::net::{AddressFamily, SocketType};
use rustix::time::{ClockId, clock_gettime};

use crate::bed::{Bed, QUEUES, VETH};
use crate::fixtures::{self, Fixture, WORKERS};

/// The kernel's names of the verdicts.
const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// A wrong answer is wrong so many times.
const LOOKS: usize = 3;

/// A program on the bed's veth with all sockets in place, as it is when the planes run.
pub(crate) struct Stage {
    pub(crate) classifier: Classifier,
    pub(crate) maps: Maps,
    socket: OwnedFd,
    index: u32,
}

pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).expect("since boot") * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("below 1 s")
}

impl Stage {
    /// Runs `work` with the object attached to the bed's veth.
    pub(crate) fn with<T: Send>(
        bed: &Bed,
        object: &Object,
        work: impl FnOnce(&mut Self) -> Result<T> + Send,
    ) -> Result<T> {
        bed.server.inside(|| {
            let mut classifier = Classifier::load(object, Sizes::default())?;
            // A test run takes a queue that is up for XDP, which a veth's is while a program is attached.
            let attachment = classifier.attach(VETH, Mode::Native, QUEUES)?;
            let mut maps = classifier.maps()?;
            fixtures::prepare(&mut maps, monotonic_ns());
            let socket = rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None)?;
            for queue in 0..QUEUES {
                for worker in 0..WORKERS {
                    maps.xsks.insert(queue, worker, socket.as_fd())?;
                }
            }
            let mut stage = Self { classifier, maps, socket, index: Interface::named(VETH)?.index };
            let done = work(&mut stage);
            drop(attachment);
            done
        })
    }

    /// What is wrong with the program's answers, by the names of the fixtures.
    pub(crate) fn faults(&mut self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for fixture in fixtures::all() {
            if let Err(fault) = self.check(&fixture).with_context(|| fixture.name.clone()) {
                faults.push(format!("{fault:#}"));
            }
        }
        Ok(faults)
    }

    fn check(&mut self, fixture: &Fixture) -> Result<()> {
        self.check_fate(fixture, fixture.fate)?;
        if fixture.fate.verdict() == Verdict::Redirect {
            self.maps.xsks.remove(fixture.queue, fixture.worker)?;
            let elsewhere = self.check_fate(fixture, XdpFate::PassNoSocket);
            self.maps.xsks.insert(fixture.queue, fixture.worker, self.socket.as_fd())?;
            elsewhere.context("with its socket taken out")?;
        }
        Ok(())
    }

    /// The kernel's own traffic (IPv6 neighbours) comes in between now and then and counts as well: a look that it fell into
    /// is repeated. A program that counts twice does so each time.
    fn check_fate(&mut self, fixture: &Fixture, fate: XdpFate) -> Result<()> {
        let mut looked = self.look(fixture, fate);
        for _ in 1..LOOKS {
            if looked.is_ok() {
                break;
            }
            looked = self.look(fixture, fate);
        }
        looked
    }

    fn look(&mut self, fixture: &Fixture, fate: XdpFate) -> Result<()> {
        let counted = self.maps.counters.read_all()?;
        let (before_ns, run, after_ns) =
            (monotonic_ns(), self.classifier.test_run(&fixture.frame, self.index, fixture.queue, 1)?, monotonic_ns());
        let now = self.maps.counters.read_all()?;
        let changed: Vec<&str> = XdpFate::ALL
            .iter()
            .zip(now.iter().zip(counted))
            .filter_map(|(fate, (now, before))| (*now != before).then_some(fate.name()))
            .collect();
        let action = match fate.verdict() {
            Verdict::Pass => PASS,
            Verdict::Redirect => REDIRECT,
            Verdict::Drop => DROP,
        };
        anyhow::ensure!(run.action == action, "action {} and counters {changed:?} for {}", run.action, fate.name());
        anyhow::ensure!(now[fate.index()] == counted[fate.index()] + 1, "counted {changed:?} for {}", fate.name());
        if fate.verdict() != Verdict::Redirect {
            anyhow::ensure!(run.bytes == fixture.frame, "the frame has changed");
            return Ok(());
        }
        let (stamp, frame) = run.bytes.split_at_checked(STAMP_BYTES).context("no metadata")?;
        anyhow::ensure!(frame == fixture.frame, "the frame has changed, or has no metadata");
        let stamp = u64::from_ne_bytes(stamp.try_into()?);
        anyhow::ensure!((before_ns..=after_ns).contains(&stamp), "stamp {stamp} not in {before_ns}..={after_ns}");
        Ok(())
    }
}

#[test]
fn every_fixture_has_its_verdict_counter_socket_and_stamp() {
    let Some(bed) = Bed::create("the verdicts") else { return };
    let object = Object::from_environment().expect("the object");
    let faults = Stage::with(&bed, &object, Stage::faults).expect("carried out");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_fate_has_a_fixture() {
    let all = fixtures::all();
    for fate in XdpFate::ALL {
        // These two are states of the maps, not frames: `check` and the next test produce them.
        let is_state = matches!(fate, XdpFate::PassNoSocket | XdpFate::PassNotConfigured);
        assert!(is_state || all.iter().any(|fixture| fixture.fate == *fate), "{}", fate.name());
    }
}

#[test]
fn everything_passes_before_the_config_and_under_one_of_another_version() {
    let Some(bed) = Bed::create("the unconfigured classifier") else { return };
    let object = Object::from_environment().expect("the object");
    let done = Stage::with(&bed, &object, |stage| {
        let mut config = stage.maps.config.get()?;
        for version in [0, config.version + 1] {
            config.version = version;
            stage.maps.config.set(&config)?;
            for fixture in fixtures::all() {
                stage.check_fate(&fixture, XdpFate::PassNotConfigured).with_context(|| fixture.name.clone())?;
            }
        }
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn a_worker_that_cannot_exist_gets_nothing() {
    let Some(bed) = Bed::create("the worker out of range") else { return };
    let object = Object::from_environment().expect("the object");
    let done = Stage::with(&bed, &object, |stage| {
        let fixture = fixtures::all().into_iter().find(|f| f.fate == XdpFate::RedirectFlow).context("a known flow")?;
        let flow = crate::frames::Shape::v4(10, 40_000).flow();
        // Queue 0 and worker 64 would be the key of queue 1 and worker 0.
        stage.maps.flows.insert(&flow, 64)?;
        stage.check_fate(&fixture, XdpFate::PassNoSocket)
    });
    done.expect("carried out");
}

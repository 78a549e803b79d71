// SPDX-License-Identifier: Apache-2.0
//! What works after all capabilities are gone, as in a worker, and how the refusals read. Attaching is not among the refusals: the
//! kernel asks for capabilities when a program is loaded, and who has its descriptor may attach it.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use dataplane_abi::flow::map_v4;
use dataplane_abi::xdp::{FAILURE_WINDOW_NS, FailureEntry, HANDOVER, XdpConfig, XdpFate};
use ebpf_loader::{Classifier, LoadError, MapError, Maps, Object, Sizes};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::bed::Bed;
use crate::frames::{PORT, Shape};

/// Takes every capability from this thread; other threads keep theirs.
fn drop_capabilities() -> Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).context("capset")?;
    let left = rustix::thread::capabilities(None)?;
    anyhow::ensure!(left.effective.is_empty() && left.permitted.is_empty(), "some are left");
    Ok(())
}

/// Handles from descriptors that came under their handover names.
fn open(mut fds: Vec<(&'static str, OwnedFd)>) -> Result<Maps, MapError> {
    Maps::open(|map| {
        let name = HANDOVER.iter().find(|(known, _)| *known == map).map(|(_, name)| *name);
        let at = fds.iter().position(|(given, _)| Some(*given) == name).expect("handed over");
        Ok::<_, MapError>(fds.swap_remove(at).1)
    })
}

#[test]
fn every_map_is_opened_read_and_written_without_capabilities() {
    let Some(bed) = Bed::create("the maps without capabilities") else { return };
    let done = bed.server.inside(|| {
        let classifier = Classifier::load(&Object::from_environment()?, Sizes { flows: 2 })?;
        let fds = classifier.map_fds()?;
        drop_capabilities()?;
        let mut maps = open(fds)?;
        let [a, b, c] = [1, 2, 3].map(|port| Shape::v4(7, port).flow());
        maps.flows.insert(&a, 5)?;
        maps.flows.insert(&b, 6)?;
        maps.flows.insert(&b, 7)?;
        anyhow::ensure!(maps.flows.get(&a)? == Some(5) && maps.flows.get(&b)? == Some(7));
        anyhow::ensure!(matches!(maps.flows.insert(&c, 1), Err(MapError::Full)), "a third flow of two");
        let mut flows = maps.flows.flows()?;
        flows.sort();
        anyhow::ensure!(flows == [a, b]);
        anyhow::ensure!(maps.flows.remove(&a)? && !maps.flows.remove(&a)? && maps.flows.get(&a)?.is_none());

        maps.strangers.set(63, 9)?;
        anyhow::ensure!(maps.strangers.get(63)? == 9);
        anyhow::ensure!(matches!(maps.strangers.set(64, 0), Err(MapError::OutOfRange)));
        anyhow::ensure!(matches!(maps.strangers.set(0, 64), Err(MapError::OutOfRange)));

        let remote = map_v4([192, 0, 2, 1]);
        anyhow::ensure!(maps.failures.get(remote)? == FailureEntry { window_start_ns: 0, failures: 0 });
        maps.failures.record(remote, 10, FAILURE_WINDOW_NS)?;
        maps.failures.record(map_v4([192, 0, 2, 200]), 20, FAILURE_WINDOW_NS)?;
        anyhow::ensure!(maps.failures.get(remote)? == FailureEntry { window_start_ns: 10, failures: 2 });

        maps.locals.insert(remote)?;
        anyhow::ensure!(maps.locals.addresses()? == [remote] && maps.locals.remove(remote)?);
        anyhow::ensure!(!maps.locals.remove(remote)?);

        let config = XdpConfig { failure_limit: 7, ..XdpConfig::new(PORT, 3, 2) };
        maps.config.set(&config)?;
        anyhow::ensure!(maps.config.get()? == config);
        anyhow::ensure!(maps.counters.read_all()? == [0; XdpFate::COUNT] && maps.counters.unstamped()? == 0);
        maps.xsks.remove(0, 0)?;
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn a_descriptor_of_another_map_is_refused() {
    let Some(bed) = Bed::create("the exchanged descriptors") else { return };
    let done = bed.server.inside(|| {
        let fds = || Classifier::load(&Object::from_environment()?, Sizes::default())?.map_fds().context("descriptors");
        for exchanged in 1..HANDOVER.len() {
            let mut wrong = fds()?;
            let [(_, first), .., (_, other)] = &mut wrong[..=exchanged] else { continue };
            std::mem::swap(first, other);
            let refusal = open(wrong).err().context("a map was taken for another")?;
            anyhow::ensure!(matches!(refusal, MapError::NotThisMap { .. }), "{refusal}");
        }
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn loading_without_capabilities_says_what_is_missing() {
    let Some(bed) = Bed::create("the refusal without capabilities") else { return };
    let done = bed.server.inside(|| {
        drop_capabilities()?;
        let refusal = Classifier::load(&Object::embedded(), Sizes::default()).err().context("loaded")?;
        anyhow::ensure!(matches!(refusal, LoadError::NoPrivilege), "{refusal}");
        anyhow::ensure!(refusal.to_string().contains("CAP_BPF"), "{refusal}");
        Ok(())
    });
    done.expect("carried out");
}

#[test]
fn an_object_that_is_none_is_refused_with_its_name() {
    let Some(bed) = Bed::create("the broken object") else { return };
    let file = std::env::temp_dir().join(format!("not-a-classifier-{}", std::process::id()));
    std::fs::write(&file, b"\x7fELF, but not more").expect("written");
    let object = Object::from_file(file.clone()).expect("read");
    let refusal = bed.server.inside(|| Ok(Classifier::load(&object, Sizes::default()).err())).expect("carried out");
    std::fs::remove_file(&file).expect("removed");
    let refusal = refusal.expect("refused").to_string();
    assert!(refusal.contains("not-a-classifier") && refusal.contains("not a classifier"), "{refusal}");
    assert!(Object::from_file("/no/such/object".into()).is_err());
}

// SPDX-License-Identifier: Apache-2.0
//! The fixtures against wrong programs: each must be found, and by the fixture that is there for it. A fixture table that
//! finds nothing proves nothing.

use std::path::Path;

use ebpf_loader::Object;

use crate::bed::Bed;
use crate::verdicts::Stage;

/// Each wrong program and a fixture that must not survive it.
const MUTANTS: [(&str, &str); 5] = [
    ("any-address", "v4 other address, STUN"),
    ("any-stranger", "v6 first byte 22"),
    ("no-limit", "v4 prefix over the limit"),
    ("swapped-family", "v4 RTP of worker 2's flow at queue 0"),
    ("wrong-key", "v4 DTLS of worker 2's flow at queue 2"),
];

fn faults_of(bed: &Bed, name: &str) -> Vec<String> {
    let file = format!("../prebuilt/mutants/{name}.bpf.o");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let object = Object::from_file(path).expect("the committed mutant");
    Stage::with(bed, &object, Stage::faults).expect("carried out")
}

#[test]
fn every_wrong_program_is_found_by_its_fixture() {
    let Some(bed) = Bed::create("the wrong programs") else { return };
    for (name, fixture) in MUTANTS {
        let faults = faults_of(&bed, name);
        let found = faults.iter().any(|fault| fault.starts_with(&format!("{fixture}:")));
        assert!(found, "{name} is not found by `{fixture}` but by {} others: {faults:#?}", faults.len());
    }
}

#[test]
fn no_committed_mutant_is_left_out() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prebuilt/mutants");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the mutants")
        .map(|e| e.expect("one").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(files, MUTANTS.map(|(name, _)| format!("{name}.bpf.o")));
}

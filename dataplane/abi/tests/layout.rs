// SPDX-License-Identifier: Apache-2.0
//! The layout against its snapshot, and what every record keeps: a reserve, and no padding.
//!
//! `BLESS=1 cargo test -p dataplane-abi layout` writes `layout.snap` anew; `cargo xtask abi` then wants another `ABI_VERSION`.
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::fmt::Write as _;

use dataplane_abi::ABI_VERSION;
use dataplane_abi::layout::Record;
use dataplane_abi::limits::Capacities;
use dataplane_abi::migrate::MIGRATED;
use dataplane_abi::segment::{FINGERPRINT, RECORDS, sections};
use dataplane_abi::xdp;

/// Records that lie inside others, entries of rings, and the packet store: they are equal or refused, never migrated.
const WITHOUT_RESERVE_RULE: [&str; 11] = [
    "Credential",
    "EncodingIntent",
    "PathDurable",
    "RtcpSenderDurable",
    "SegmentDurable",
    "RingHeader",
    "Change",
    "Event",
    "Datagram",
    "LogSlot",
    "StoredHead",
];

fn render() -> String {
    let mut text = format!("abi version {ABI_VERSION}\nfingerprint {FINGERPRINT:#018x}\n");
    for record in RECORDS {
        render_record(&mut text, record);
    }
    text.push_str("\nsections for small capacities\n");
    for (name, offset) in sections(&Capacities::SMALL) {
        writeln!(text, "  {offset:>9}  {name}").unwrap();
    }
    write!(text, "\nxdp version {}\n", xdp::XDP_VERSION).unwrap();
    for record in xdp::RECORDS {
        render_record(&mut text, record);
    }
    for fate in xdp::XdpFate::ALL {
        writeln!(text, "  {:>5}  {}", fate.index(), fate.name()).unwrap();
    }
    text
}

fn render_record(text: &mut String, record: &Record) {
    write!(text, "\n{} version {} size {}\n", record.name, record.version, record.size).unwrap();
    for field in record.fields {
        writeln!(text, "  {:>5} {:>5}  {}", field.offset, field.size, field.name).unwrap();
    }
}

#[test]
fn layout_is_the_one_of_the_snapshot() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/layout.snap");
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(file, render()).unwrap();
    }
    let snapshot = std::fs::read_to_string(file).unwrap_or_default();
    let rendered = render();
    let changed = rendered.lines().filter(|line| !snapshot.lines().any(|other| other == *line));
    assert!(snapshot == rendered, "layout.snap differs; changed lines:\n{}", changed.collect::<Vec<_>>().join("\n"));
}

/// `docs/ABI.md`: every record with the comments of its source.
fn markdown() -> String {
    let mut text = String::from(HEAD);
    writeln!(
        text,
        "ABI version {ABI_VERSION}, fingerprint `{FINGERPRINT:#018x}`, map layout version {}.",
        xdp::XDP_VERSION
    )
    .unwrap();
    text.push_str("\n# The segment, rings and frame table\n");
    RECORDS.iter().for_each(|record| describe(&mut text, record));
    text.push_str("\n# BPF maps\n");
    xdp::RECORDS.iter().for_each(|record| describe(&mut text, record));
    text
}

const HEAD: &str = "<!-- Made from dataplane/abi/src: BLESS=1 cargo test --release -p dataplane-abi layout -->
# The shared memory, field by field

What processes share is here and nowhere else: little-endian integers and byte arrays at fixed offsets, no pointers. A record
that migrates begins with its version and size and keeps a reserve; zero means \"not known\". [ARCHITECTURE](ARCHITECTURE.md)
says who writes which record and when.

";

fn describe(text: &mut String, record: &Record) {
    let one_line = |doc: &str| doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    write!(text, "\n## {}\n\n", record.name).unwrap();
    write!(text, "{} Version {}, {} bytes.\n\n", one_line(record.doc), record.version, record.size).unwrap();
    text.push_str("| offset | bytes | field | |\n|---:|---:|---|---|\n");
    for field in record.fields {
        writeln!(text, "| {} | {} | `{}` | {} |", field.offset, field.size, field.name, one_line(field.doc)).unwrap();
    }
}

#[test]
fn layout_in_the_docs_is_the_one_of_the_code() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ABI.md");
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(file, markdown()).unwrap();
    }
    assert!(
        std::fs::read_to_string(file).unwrap_or_default() == markdown(),
        "docs/ABI.md differs; `cargo xtask abi --bless` writes it anew"
    );
    for record in RECORDS.iter().chain(xdp::RECORDS) {
        assert!(!record.doc.trim().is_empty(), "{} has no comment", record.name);
        assert!(
            record.fields.iter().all(|field| !field.doc.trim().is_empty()),
            "{}: a field without a comment",
            record.name
        );
    }
}

fn reserve_of(record: &Record) -> usize {
    record.fields.iter().filter(|field| field.name == "reserve").map(|field| field.size).sum()
}

// CONTRACTS 6
#[test]
fn layout_keeps_a_reserve_of_a_quarter_in_every_record_that_migrates() {
    for record in RECORDS.iter().filter(|record| !WITHOUT_RESERVE_RULE.contains(&record.name)) {
        let reserve = reserve_of(record);
        assert!(reserve * 4 >= record.size, "{}: {reserve} of {} bytes", record.name, record.size);
    }
    let known: Vec<_> = RECORDS.iter().map(|record| record.name).collect();
    assert!(WITHOUT_RESERVE_RULE.iter().all(|name| known.contains(name)), "an exception without a record");
}

#[test]
fn layout_has_no_padding_between_fields() {
    for record in RECORDS.iter().chain(xdp::RECORDS) {
        let mut end = 0;
        for field in record.fields {
            assert_eq!(field.offset, end, "{}.{}: padding before it", record.name, field.name);
            end += field.size;
        }
        assert_eq!(end, record.size, "{}: padding at its end", record.name);
        assert_eq!(record.size % 8, 0, "{}: not whole words", record.name);
    }
}

#[test]
fn layout_has_the_reserve_last_in_every_record_that_migrates() {
    for record in MIGRATED {
        assert_eq!(record.known_bytes() + reserve_of(record), record.size, "{}", record.name);
        let [version, size] = [0, 1].map(|field| record.fields[field]);
        assert_eq!((version.name, version.size, size.name, size.size), ("version", 2, "size", 2), "{}", record.name);
    }
}

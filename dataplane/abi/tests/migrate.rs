// SPDX-License-Identifier: Apache-2.0
//! Records to an invented version N + 1 and back (CONTRACTS 6).
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use dataplane_abi::durable::EgressDurable;
use dataplane_abi::layout::{Field, Layout, Record};
use dataplane_abi::migrate::{MIGRATED, Refused, migrate};

/// The next version of a record: 16 bytes of its reserve have got a meaning.
fn invented(record: &Record) -> Record {
    let reserve = record.known_bytes();
    let mut fields: Vec<_> = record.fields.iter().copied().filter(|field| field.name != "reserve").collect();
    fields.push(Field { name: "invented", offset: reserve, size: 16, doc: "" });
    fields.push(Field { name: "reserve", offset: reserve + 16, size: record.size - reserve - 16, doc: "" });
    Record { version: record.version + 1, fields: fields.leak(), ..*record }
}

fn stamp(bytes: &mut [u8], record: &Record) {
    bytes[..2].copy_from_slice(&record.version.to_ne_bytes());
    bytes[2..4].copy_from_slice(&u16::try_from(record.size).unwrap().to_ne_bytes());
}

/// A record with every known byte set.
fn sample(record: &Record) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..record.size)
        .map(|at| if at < record.known_bytes() { u8::try_from(at % 251).unwrap() + 1 } else { 0 })
        .collect();
    stamp(&mut bytes, record);
    bytes
}

#[test]
fn a_record_goes_to_the_next_version_and_back_unchanged() {
    for old in MIGRATED {
        let next = invented(old);
        let before = sample(old);
        let mut up = vec![0xff; old.size];
        migrate(&before, old, &mut up, &next).unwrap();
        let mut expected = before.clone();
        stamp(&mut expected, &next);
        assert_eq!(up, expected, "{}: what N knows stays, what it does not is zero", old.name);
        let mut down = vec![0xff; old.size];
        migrate(&up, &next, &mut down, old).unwrap();
        assert_eq!(down, before, "{}", old.name);
    }
}

#[test]
fn what_only_the_next_version_knows_is_zero_after_the_way_back() {
    for old in MIGRATED {
        let next = invented(old);
        let mut down = vec![0xff; old.size];
        migrate(&sample(&next), &next, &mut down, old).unwrap();
        assert_eq!(down, sample(old), "{}", old.name);
    }
}

#[test]
fn a_record_that_was_never_begun_stays_all_zero() {
    let old = Record::of::<EgressDurable>();
    let mut up = vec![0xff; old.size];
    migrate(&vec![0; old.size], &old, &mut up, &invented(&old)).unwrap();
    assert!(up.iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_known_is_refused_with_its_numbers_and_leaves_zeroes() {
    let old = Record::of::<EgressDurable>();
    let far = Record { version: old.version + 2, ..old };
    let large = Record { size: old.size + 64, ..old };
    let mut to = vec![0xff; old.size];
    let refused = migrate(&sample(&old), &old, &mut to, &far).unwrap_err();
    assert_eq!(refused, Refused::TooFar { from: EgressDurable::VERSION, to: EgressDurable::VERSION + 2 });
    assert!(to.iter().all(|byte| *byte == 0));
    assert!(matches!(migrate(&sample(&old), &old, &mut to, &large), Err(Refused::Size { from: 512, to: 576 })));
    let mut foreign = sample(&old);
    stamp(&mut foreign, &Record { version: 9, ..old });
    let refused = migrate(&foreign, &old, &mut to, &invented(&old)).unwrap_err();
    assert_eq!(refused.to_string(), "record says version 9, 512 bytes, which is not so");
}

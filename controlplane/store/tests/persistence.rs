// SPDX-License-Identifier: Apache-2.0
//! The store as its caller sees it: what is written stays, what is wrong is named.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use controlplane_store::{KeyPair, Pair, Store, StoreError};
use zeroize::Zeroizing;

/// A directory of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("controlplane.redb")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pair(byte: u8) -> KeyPair {
    KeyPair { cert_der: vec![byte; 300], key_der: Zeroizing::new(vec![byte ^ 0xff; 120]) }
}

fn open(path: &Path) -> Store {
    Store::open(path).expect("opens")
}

#[test]
fn what_is_made_once_is_found_again_and_never_made_twice() {
    let scratch = Scratch::new("again");
    {
        let store = open(&scratch.0);
        assert_eq!(store.key_pair(Pair::Dtls, || Ok::<_, StoreError>(pair(1))).expect("made"), pair(1));
        assert_eq!(store.key_pair(Pair::Tls, || Ok::<_, StoreError>(pair(2))).expect("made"), pair(2));
        store.token_key(|| Ok::<_, StoreError>(Zeroizing::new(vec![7; 32]))).expect("made");
    }
    let store = open(&scratch.0);
    let never = || -> Result<KeyPair, StoreError> { panic!("made a second time") };
    assert_eq!(store.key_pair(Pair::Dtls, never).expect("kept"), pair(1));
    assert_eq!(store.key_pair(Pair::Tls, never).expect("kept"), pair(2));
    let key = store.token_key(|| -> Result<_, StoreError> { panic!("made a second time") }).expect("kept");
    assert_eq!(*key, vec![7; 32]);
    store.replace_key_pair(Pair::Tls, &pair(3)).expect("replaced");
    assert_eq!(store.key_pair(Pair::Tls, never).expect("kept"), pair(3));
}

#[test]
fn a_failed_make_leaves_nothing_behind() {
    let scratch = Scratch::new("failed");
    let store = open(&scratch.0);
    let refused = store.key_pair(Pair::Dtls, || Err(StoreError::InUse { path: PathBuf::new() }));
    assert!(refused.is_err());
    assert_eq!(store.key_pair(Pair::Dtls, || Ok::<_, StoreError>(pair(4))).expect("made"), pair(4));
}

#[test]
fn transport_ids_are_never_given_twice_across_processes() {
    let scratch = Scratch::new("ids");
    assert_eq!(open(&scratch.0).reserve_transport_ids(100).expect("reserved"), 1..101);
    assert_eq!(open(&scratch.0).reserve_transport_ids(10).expect("reserved"), 101..111);
    let store = open(&scratch.0);
    assert!(matches!(store.reserve_transport_ids(u64::MAX), Err(StoreError::Exhausted { .. })));
    assert_eq!(store.reserve_transport_ids(1).expect("reserved"), 111..112);
}

#[test]
fn file_and_directory_are_for_their_owner_only() {
    let scratch = Scratch::new("mode");
    drop(open(&scratch.0));
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.file()), 0o600);
    assert_eq!(mode(&scratch.0), 0o700);
}

#[test]
fn an_exposed_file_is_refused_with_the_command_that_mends_it() {
    let scratch = Scratch::new("exposed");
    drop(open(&scratch.0));
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let text = Store::open(&scratch.0).expect_err("refused").to_string();
    assert!(text.contains("644") && text.contains(&format!("chmod 600 {}", scratch.file().display())), "{text}");
}

#[test]
fn a_second_process_is_told_that_the_first_holds_it() {
    let scratch = Scratch::new("held");
    let _held = open(&scratch.0);
    let refused = Store::open(&scratch.0).expect_err("refused");
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("--state-dir"));
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let scratch = Scratch::new("foreign");
    std::fs::create_dir_all(&scratch.0).expect("directory");
    std::fs::write(scratch.file(), b"not a database, but somebody's notes".repeat(200)).expect("written");
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let refused = Store::open(&scratch.0).expect_err("refused");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains(&scratch.file().display().to_string()));
    assert!(std::fs::read(scratch.file()).expect("is there").starts_with(b"not a database"));
}

#[test]
fn a_damaged_file_is_an_error_and_not_a_panic() {
    let scratch = Scratch::new("damaged");
    {
        let store = open(&scratch.0);
        store.key_pair(Pair::Dtls, || Ok::<_, StoreError>(pair(1))).expect("made");
    }
    let mut bytes = std::fs::read(scratch.file()).expect("is there");
    for byte in bytes.iter_mut().skip(4096).step_by(97) {
        *byte ^= 0x5a;
    }
    std::fs::write(scratch.file(), bytes).expect("written");
    let refused = Store::open(&scratch.0).expect_err("refused");
    assert!(matches!(refused, StoreError::Damaged { .. } | StoreError::Write { .. }), "{refused}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let text = Store::open(Path::new("/proc/millrace-state")).expect_err("refused").to_string();
    assert!(text.contains("/proc/millrace-state") && text.contains("--state-dir"), "{text}");
}

#[test]
fn secrets_do_not_print() {
    assert_eq!(format!("{:?}", pair(9)), "KeyPair(certificate of 300 bytes, key ..)");
}

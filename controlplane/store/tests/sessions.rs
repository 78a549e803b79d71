// SPDX-License-Identifier: Apache-2.0
//! Sessions as their caller sees them: what was written stays for its segment, through a kill as well.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use controlplane_store::{RecordBytes, Sessions, StoreError};
use zeroize::Zeroizing;

const BOOT: [u8; 16] = [7; 16];
const LONG: Duration = Duration::from_secs(60);
/// Where the child of `what_was_flushed_survives_a_kill` writes.
const CHILD: &str = "MILLRACE_TEST_SESSIONS";
/// Keys that the child writes in turn.
const KEYS: u64 = 50;

/// A directory of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-sessions-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("made");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions.redb")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(dir: &Path) -> (Sessions, BTreeMap<String, RecordBytes>) {
    Sessions::load(dir, &BOOT).expect("opens")
}

fn record(byte: u8) -> RecordBytes {
    Zeroizing::new(vec![byte; 500])
}

#[test]
fn the_latest_of_each_key_is_found_again() {
    let scratch = Scratch::new("again");
    {
        let (sessions, found) = load(&scratch.0);
        assert!(found.is_empty());
        for byte in 0..200 {
            sessions.put("ann".into(), record(byte));
            sessions.put("ben".into(), record(byte));
        }
        assert!(sessions.flush(LONG));
        sessions.remove("ben".into());
        sessions.put("cid".into(), record(1));
        // What is due is written at the end.
    }
    let (_, found) = load(&scratch.0);
    assert_eq!(found, BTreeMap::from([("ann".into(), record(199)), ("cid".into(), record(1))]));
    let mode = std::fs::metadata(scratch.file()).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn another_segments_sessions_are_over() {
    let scratch = Scratch::new("boot");
    load(&scratch.0).0.put("ann".into(), record(1));
    let (_, found) = Sessions::load(&scratch.0, &[8; 16]).expect("opens");
    assert!(found.is_empty());
    assert!(load(&scratch.0).1.is_empty(), "nor do they come back");
}

#[test]
fn a_damaged_file_begins_anew_and_an_exposed_one_is_refused() {
    let scratch = Scratch::new("damaged");
    load(&scratch.0).0.put("ann".into(), record(1));
    let len = std::fs::metadata(scratch.file()).expect("is there").len();
    std::fs::write(scratch.file(), vec![0x55; usize::try_from(len).expect("small")]).expect("written");
    {
        let (sessions, found) = load(&scratch.0);
        assert!(found.is_empty());
        sessions.put("ben".into(), record(2));
    }
    assert_eq!(load(&scratch.0).1.len(), 1, "and is used again");
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o640)).expect("changed");
    assert!(matches!(Sessions::load(&scratch.0, &BOOT), Err(StoreError::Exposed { .. })));
}

#[test]
fn records_do_not_print() {
    let scratch = Scratch::new("print");
    let (sessions, _) = load(&scratch.0);
    sessions.put("a-secret-key".into(), Zeroizing::new(b"a-secret-record".to_vec()));
    assert!(!format!("{sessions:?}").contains("a-secret"));
}

/// The child of the test below: writes records in turn, and says how far they are on disk, until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (sessions, _) = load(Path::new(&dir));
    for number in 0_u64.. {
        sessions.put((number % KEYS).to_string(), Zeroizing::new(number.to_le_bytes().to_vec()));
        if number % 7 == 0 && sessions.flush(LONG) {
            writeln!(std::io::stderr(), "flushed {number}").expect("the parent listens");
        }
    }
}

#[test]
fn what_was_flushed_survives_a_kill() {
    let scratch = Scratch::new("kill");
    for lines in [1, 2, 5, 20] {
        let mut child = Command::new(std::env::current_exe().expect("is a file"))
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, &scratch.0)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let flushed =
            said.map(|line| line.expect("text")).filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
        let last: u64 = flushed.take(lines).last().expect("said how far it is");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let (_, found) = load(&scratch.0);
        for number in last.saturating_sub(KEYS - 1)..=last {
            let value = found.get(&(number % KEYS).to_string()).expect("is there");
            let value = u64::from_le_bytes(value.as_slice().try_into().expect("eight bytes"));
            assert!(
                value >= number && value % KEYS == number % KEYS,
                "key {} has {value}, not {number}",
                number % KEYS
            );
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a restarted control plane needs of the sessions that go on without it.
//!
//! ```text
//!  core ── put, remove ──► what is due, by key (latest wins) ──► writer thread ── a transaction each 20 ms ──► sessions.redb
//! ```
//!
//! A file of its own: its writer never keeps the core from the other one, and whatever is wrong with it costs the sessions
//! of one restart, not the certificate. It belongs to one segment: with another boot id the sessions are over. It must never
//! make its caller wait; what was not written when the process dies is lost, and those sessions join anew.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

use crate::{StoreError, open_database};

/// The file's name in the state directory.
const FILE: &str = "sessions.redb";
/// What this version reads and writes: another format's sessions are not resumed.
const FORMAT: &[u8] = b"1";
/// Records by key.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// The format, and the boot id of the segment that the records belong to.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
/// Records that may wait for the disk; a session has one, so this is more than a segment has transports.
const DUE_LEN: usize = 32_768;
/// How long the writer waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// Time from one transaction to the next: a disk's wait and a tree's upper pages cost as much for one record as for many, and
/// hundreds join in a second. The first record after a quiet time is written at once.
const GATHER: Duration = Duration::from_millis(20);
/// Memory for cached pages, in bytes.
const CACHE_LEN: usize = 1024 * 1024;

/// A record's bytes; they hold passwords, and are wiped when they go.
pub type RecordBytes = Zeroizing<Vec<u8>>;

/// What is to be written: a record, or that there is none any more.
type Due = BTreeMap<String, Option<RecordBytes>>;

#[derive(Default)]
struct State {
    due: Due,
    /// Whether the writer has a batch in its hands.
    is_writing: bool,
    is_over: bool,
    trouble: Option<StoreError>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whoever pauses is woken by nothing but the end.
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A map of finished values is whole whatever happened to its other user.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits that long, or until it is over.
    fn pause(&self, state: MutexGuard<'_, State>, time: Duration) {
        drop(self.ended.wait_timeout_while(state, time, |state| !state.is_over));
    }
}

/// The open file of sessions, and the thread that writes it. Dropping it writes what is due.
pub struct Sessions {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.path.display())
    }
}

impl Sessions {
    /// Opens the sessions in `state_dir` and reads what a predecessor left for the segment of `boot_id`; with another boot
    /// id, another format or a damaged file there is nothing, and the file begins anew.
    ///
    /// # Errors
    /// [`StoreError`], each naming the file and what to do.
    pub fn load(state_dir: &Path, boot_id: &[u8; 16]) -> Result<(Self, BTreeMap<String, RecordBytes>), StoreError> {
        let path = state_dir.join(FILE);
        let database = match open_database(&path, CACHE_LEN) {
            Err(StoreError::Damaged { .. }) => {
                let removed = std::fs::remove_file(&path);
                removed.map_err(|why| StoreError::Access { path: path.clone(), why })?;
                open_database(&path, CACHE_LEN)?
            }
            opened => opened?,
        };
        let found = begin(&database, boot_id)
            .map_err(|source| StoreError::Write { path: path.clone(), source: Box::new(source) })?;
        let shared = Arc::new(Shared::default());
        let (own, own_path) = (Arc::clone(&shared), path.clone());
        let thread = std::thread::Builder::new().name("sessions".into());
        let thread = thread.spawn(move || write_all(&database, &own, &own_path));
        let thread = thread.map_err(|why| StoreError::Access { path: path.clone(), why })?;
        Ok((Self { shared, thread: Some(thread), path }, found))
    }

    /// Keeps a record in the place of the one that is there. Returns at once.
    pub fn put(&self, key: String, record: RecordBytes) {
        self.change(key, Some(record));
    }

    /// Lets go of a record. Returns at once.
    pub fn remove(&self, key: String) {
        self.change(key, None);
    }

    fn change(&self, key: String, record: Option<RecordBytes>) {
        let mut state = self.shared.lock();
        // Only a disk that does not write for long can let so many wait; the sessions beyond join anew.
        if state.due.len() < DUE_LEN || state.due.contains_key(&key) {
            state.due.insert(key, record);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// What went wrong since it was asked last; the writer goes on trying.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.shared.lock().trouble.take()
    }

    /// Waits until what was given before is on disk, or `timeout` is over; whether it is. For tests and for the end.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let state = self.shared.lock();
        let waits = |state: &mut State| !state.due.is_empty() || state.is_writing;
        let waited = self.shared.changed.wait_timeout_while(state, timeout, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.due.is_empty() && !state.is_writing
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A writer that has panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// What is there for this segment; the file is marked as its own.
fn begin(database: &Database, boot_id: &[u8; 16]) -> Result<BTreeMap<String, RecordBytes>, redb::Error> {
    let transaction = database.begin_write()?;
    let is_own = {
        let mut about = transaction.open_table(ABOUT)?;
        let holds = |about: &redb::Table<'_, &str, &[u8]>, name: &str, value: &[u8]| -> Result<bool, redb::Error> {
            Ok(about.get(name)?.is_some_and(|held| held.value() == value))
        };
        let is_own = holds(&about, "format", FORMAT)? && holds(&about, "boot_id", boot_id)?;
        about.insert("format", FORMAT)?;
        about.insert("boot_id", boot_id.as_slice())?;
        is_own
    };
    if !is_own {
        transaction.delete_table(RECORDS)?;
    }
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    let table = database.begin_read()?.open_table(RECORDS)?;
    let records = table.iter()?.map(|entry| {
        let (key, value) = entry?;
        Ok((key.value().to_owned(), Zeroizing::new(value.value().to_vec())))
    });
    records.collect()
}

/// Writes what is due, everything that has come meanwhile in one transaction, until it is over and nothing is due.
fn write_all(database: &Database, shared: &Shared, path: &Path) {
    loop {
        let mut state = shared.lock();
        while state.due.is_empty() {
            if state.is_over {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let batch = std::mem::take(&mut state.due);
        state.is_writing = true;
        drop(state);
        let written = write(database, &batch);
        let mut state = shared.lock();
        state.is_writing = false;
        if let Err(source) = written {
            state.trouble = Some(StoreError::Write { path: path.to_owned(), source: Box::new(source) });
            if state.is_over {
                return;
            }
            // What has come meanwhile is later than what could not be written.
            let later = std::mem::replace(&mut state.due, batch);
            state.due.extend(later);
            shared.pause(state, RETRY);
        } else {
            shared.changed.notify_all();
            shared.pause(state, GATHER);
        }
    }
}

fn write(database: &Database, batch: &Due) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (key, record) in batch {
            match record {
                Some(record) => drop(table.insert(key.as_str(), record.as_slice())?),
                None => drop(table.remove(key.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

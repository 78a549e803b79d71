// SPDX-License-Identifier: Apache-2.0
//! What outlives the process: the DTLS certificate, the token key, the TLS certificate, counters, and sessions.
//!
//! Two embedded files, mode 0600, changed by transactions only: after a crash each holds the old or the new, never a
//! half. Secrets are wiped from memory when they go, and never print. The store draws no random numbers and makes no
//! certificates: it keeps what its caller makes, once.
#![forbid(unsafe_code)]

mod error;
mod sessions;

pub use error::StoreError;
pub use sessions::{RecordBytes, Sessions};

use std::fmt;
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

/// The file's name in the state directory.
const FILE: &str = "controlplane.redb";
/// What this version reads and writes.
const FORMAT: u64 = 1;
/// Byte strings by name.
const BLOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("blobs");
/// Numbers by name: the format, and the next free value of each counter.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Where [`FORMAT`] is kept.
const FORMAT_NAME: &str = "format";
/// Memory for cached pages, in bytes: the file holds a few KiB.
const CACHE_LEN: usize = 256 * 1024;

/// A certificate and its private key, both DER.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate.
    pub cert_der: Vec<u8>,
    /// The private key, PKCS #8.
    pub key_der: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair(certificate of {} bytes, key ..)", self.cert_der.len())
    }
}

/// The key pairs that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// What DTLS presents; its fingerprint is in every answer.
    Dtls,
    /// What HTTPS presents when none is configured.
    Tls,
}

impl Pair {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dtls => ("dtls.cert", "dtls.key"),
            Self::Tls => ("tls.cert", "tls.key"),
        }
    }
}

/// The open store. One process at a time holds it.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store in `state_dir`, making directory (0700) and file (0600) if they are not there.
    ///
    /// # Errors
    /// [`StoreError`], each naming the file and what to do.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
        made.map_err(|why| StoreError::Access { path: state_dir.to_owned(), why })?;
        let path = state_dir.join(FILE);
        let database = open_database(&path, CACHE_LEN)?;
        let store = Self { database, path };
        store.check_format()?;
        Ok(store)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key pair, or what `make` makes when there is none; what is returned is on disk.
    ///
    /// # Errors
    /// [`StoreError`], or what `make` returned.
    pub fn key_pair<E: From<StoreError>>(
        &self,
        pair: Pair,
        make: impl FnOnce() -> Result<KeyPair, E>,
    ) -> Result<KeyPair, E> {
        let (cert_name, key_name) = pair.names();
        let cert_der = self.blob(cert_name)?;
        let key_der = self.blob(key_name)?;
        if let (Some(cert_der), Some(key_der)) = (cert_der, key_der) {
            return Ok(KeyPair { cert_der: cert_der.to_vec(), key_der });
        }
        let made = make()?;
        self.set_blobs(&[(cert_name, &made.cert_der), (key_name, &made.key_der)])?;
        Ok(made)
    }

    /// Puts a key pair in the place of the one that is there.
    ///
    /// # Errors
    /// [`StoreError`]; the old pair stays then.
    pub fn replace_key_pair(&self, pair: Pair, with: &KeyPair) -> Result<(), StoreError> {
        let (cert_name, key_name) = pair.names();
        self.set_blobs(&[(cert_name, &with.cert_der), (key_name, &with.key_der)])
    }

    /// The key that signs tokens, or what `make` makes when there is none; what is returned is on disk.
    ///
    /// # Errors
    /// [`StoreError`], or what `make` returned.
    pub fn token_key<E: From<StoreError>>(
        &self,
        make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Zeroizing<Vec<u8>>, E> {
        if let Some(key) = self.blob("token.key")? {
            return Ok(key);
        }
        let made = make()?;
        self.set_blobs(&[("token.key", &made)])?;
        Ok(made)
    }

    /// Takes `count` transport ids that no process of this state directory has taken or will take; the reservation
    /// is on disk before it is returned. The first id ever is 1.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was taken then.
    pub fn reserve_transport_ids(&self, count: u64) -> Result<Range<u64>, StoreError> {
        let failed = |source: redb::Error| StoreError::Write { path: self.path.clone(), source: Box::new(source) };
        let reserve = || -> Result<Option<Range<u64>>, redb::Error> {
            let transaction = self.database.begin_write()?;
            let range = {
                let mut table = transaction.open_table(NUMBERS)?;
                let first = table.get("transport")?.map_or(1, |held| held.value());
                let Some(next) = first.checked_add(count) else { return Ok(None) };
                table.insert("transport", next)?;
                first..next
            };
            transaction.commit()?;
            Ok(Some(range))
        };
        reserve().map_err(failed)?.ok_or_else(|| StoreError::Exhausted { path: self.path.clone() })
    }

    /// Marks a fresh file with the format; refuses one that a later version wrote.
    fn check_format(&self) -> Result<(), StoreError> {
        let failed = |source: redb::Error| StoreError::Write { path: self.path.clone(), source: Box::new(source) };
        let check = || -> Result<u64, redb::Error> {
            let transaction = self.database.begin_write()?;
            let found = {
                let mut table = transaction.open_table(NUMBERS)?;
                let found = table.get(FORMAT_NAME)?.map(|held| held.value());
                if found.is_none() {
                    table.insert(FORMAT_NAME, FORMAT)?;
                }
                transaction.open_table(BLOBS)?;
                found.unwrap_or(FORMAT)
            };
            transaction.commit()?;
            Ok(found)
        };
        match check().map_err(failed)? {
            FORMAT => Ok(()),
            found => Err(StoreError::Format { path: self.path.clone(), found, known: FORMAT }),
        }
    }

    fn blob(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let failed = |source: redb::Error| StoreError::Read { path: self.path.clone(), source: Box::new(source) };
        let read = || -> Result<Option<Zeroizing<Vec<u8>>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(BLOBS)?;
            Ok(table.get(name)?.map(|held| Zeroizing::new(held.value().to_vec())))
        };
        read().map_err(failed)
    }

    /// Writes all of `blobs` or none.
    fn set_blobs(&self, blobs: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let failed = |source: redb::Error| StoreError::Write { path: self.path.clone(), source: Box::new(source) };
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(BLOBS)?;
                for (name, bytes) in blobs {
                    table.insert(*name, *bytes)?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(failed)
    }
}

/// Opens a file of ours, made with mode 0600 if it is not there; refuses one that others may read.
fn open_database(path: &Path, cache_len: usize) -> Result<Database, StoreError> {
    let path = path.to_owned();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let access = |why| StoreError::Access { path: path.clone(), why };
    let file = file.map_err(access)?;
    let mode = file.metadata().map_err(access)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Exposed { path, mode });
    }
    let mut builder = Database::builder();
    let builder = builder.set_cache_size(cache_len).set_check_integrity_on_open(true);
    let database = FileBackend::new(file).and_then(|backend| builder.create_with_backend(backend));
    database.map_err(|source| StoreError::from_open(&path, source))
}

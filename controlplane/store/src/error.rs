// SPDX-License-Identifier: Apache-2.0
//! Why the store cannot be used: which file, and what to do about it.

use std::path::{Path, PathBuf};

/// Why the store cannot be used. The text names the file and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file cannot be made or opened.
    #[error(
        "cannot open {}: {why}; give --state-dir a directory that belongs to this user (without capabilities root, too, \
         writes only its own)",
        path.display()
    )]
    Access {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// Others may read the file, which holds private keys.
    #[error(
        "{} has mode {mode:03o}, so others may read the private keys in it; run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has it open.
    #[error(
        "{} is open in another process; stop the other millrace-controlplane, or give this one its own --state-dir",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not a store, or it is damaged.
    #[error(
        "{} is damaged or not a store ({reason}); move it away and start again: certificate and token key are then \
         made anew, and tokens made before are no longer valid",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the library found.
        reason: String,
    },
    /// A later version wrote it.
    #[error(
        "{} has format {found}, this version knows {known}; start the version that wrote it, or give --state-dir \
         another directory",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: u64,
        /// What this version reads.
        known: u64,
    },
    /// Reading failed.
    #[error("cannot read {}: {source}; check the disk", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: Box<redb::Error>,
    },
    /// Writing failed; nothing has changed.
    #[error("cannot write {}: {source}; check the disk's free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: Box<redb::Error>,
    },
    /// A counter has come to its end.
    #[error("the transport ids in {} are used up; give --state-dir another directory", path.display())]
    Exhausted {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// Sorts what opening can meet.
    pub(crate) fn from_open(path: &Path, source: redb::DatabaseError) -> Self {
        let path = path.to_owned();
        if matches!(source, redb::DatabaseError::DatabaseAlreadyOpen) {
            return Self::InUse { path };
        }
        if let redb::DatabaseError::Storage(redb::StorageError::Io(source)) = source {
            // A file of another kind is reported as invalid data.
            if source.kind() != std::io::ErrorKind::InvalidData {
                return Self::Access { path, why: source };
            }
            return Self::Damaged { path, reason: source.to_string() };
        }
        Self::Damaged { path, reason: source.to_string() }
    }
}

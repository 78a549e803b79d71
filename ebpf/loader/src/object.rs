// SPDX-License-Identifier: Apache-2.0
//! The compiled classifier: the committed one, or one from a file. Never builds anything.

use std::borrow::Cow;
use std::path::PathBuf;

/// Names a file that is loaded instead of the embedded object.
const OVERRIDE: &str = "MILLRACE_EBPF_OBJECT";

static EMBEDDED: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../prebuilt/classifier.bpf.o"));

/// A compiled classifier.
#[derive(Clone, Debug)]
pub struct Object {
    bytes: Cow<'static, [u8]>,
    origin: String,
}

/// The file named by `MILLRACE_EBPF_OBJECT` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("MILLRACE_EBPF_OBJECT={}: {source}", path.display())]
pub struct ObjectError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub source: std::io::Error,
}

impl Object {
    /// The object that this program was built with.
    #[must_use]
    pub fn embedded() -> Self {
        Self { bytes: Cow::Borrowed(EMBEDDED), origin: "embedded".to_owned() }
    }

    /// The file that `MILLRACE_EBPF_OBJECT` names, else the embedded one.
    ///
    /// # Errors
    /// When the variable is set and its file cannot be read.
    pub fn from_environment() -> Result<Self, ObjectError> {
        std::env::var_os(OVERRIDE).map_or_else(|| Ok(Self::embedded()), |path| Self::from_file(path.into()))
    }

    /// The object in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_file(path: PathBuf) -> Result<Self, ObjectError> {
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self { bytes: Cow::Owned(bytes), origin: path.display().to_string() }),
            Err(source) => Err(ObjectError { path, source }),
        }
    }

    /// `embedded`, or the file it was read from; for a line at start.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

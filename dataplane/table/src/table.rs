// SPDX-License-Identifier: Apache-2.0
//! What the file says.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::keys::Cipher;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither TOML nor JSON of this shape.
    #[error("{path}: {detail}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong where.
        detail: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Content(String),
}

/// A call: who sends what, and who receives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The server's address and UDP port, as the others send to it.
    pub server: SocketAddr,
    /// Protection profile of every transport.
    #[serde(default)]
    pub cipher: Cipher,
    /// Where keys that are not given come from.
    #[serde(default)]
    pub seed: u64,
    /// Who sends.
    #[serde(default, rename = "publisher")]
    pub publishers: Vec<PublisherGroup>,
    /// Who receives.
    #[serde(default, rename = "receiver")]
    pub receivers: Vec<ReceiverGroup>,
}

/// Publishers that differ in address, keys and SSRCs only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherGroup {
    /// What receivers call it.
    pub name: String,
    /// Address and port of the first; the address counts up.
    pub remote: SocketAddr,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Master key and salt in hex of what the server receives; of all in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_key: Option<String>,
    /// Master key and salt in hex of what the server sends; of all in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_key: Option<String>,
    /// What each of them sends.
    #[serde(rename = "track")]
    pub tracks: Vec<TrackEntry>,
}

/// A track of each publisher of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackEntry {
    /// `opus`, `vp8`, `vp9`, `h264` or `av1`.
    pub codec: String,
    /// Payload type.
    pub pt: u8,
    /// SSRC of the first publisher's; counts up.
    pub ssrc: u32,
    /// RTP clock, Hz; that of the codec (RFC 7587, RFC 7741) unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_rate: Option<u32>,
}

/// Receivers that differ in address, keys and SSRCs only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverGroup {
    /// Address and port of the first; the address counts up.
    pub remote: SocketAddr,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Name of the publishers that they receive.
    pub from: String,
    /// Publishers and receivers are dealt into so many rooms of equal size, in order; everybody receives the publishers
    /// of the own room.
    #[serde(default = "one")]
    pub rooms: u32,
    /// The n-th receiver and the n-th publisher are the same person, who does not receive what they send.
    #[serde(default)]
    pub except_own: bool,
    /// SSRC of the first stream of the first receiver; counts up over all streams.
    #[serde(default = "first_ssrc")]
    pub ssrc: u32,
    /// Master key and salt in hex of what the server receives; of all in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_key: Option<String>,
    /// Master key and salt in hex of what the server sends; of all in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_key: Option<String>,
}

const fn one() -> u32 {
    1
}

const fn first_ssrc() -> u32 {
    0x1000_0000
}

impl Table {
    /// Reads a file: JSON where its name ends so, else TOML.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| TableError::Read { path: name.clone(), source })?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        Self::parse(&text, is_json).map_err(|detail| TableError::Syntax { path: name, detail })
    }

    fn parse(text: &str, is_json: bool) -> Result<Self, String> {
        if is_json {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        }
    }

    /// The table as TOML.
    ///
    /// # Errors
    /// When a value cannot be written, which no table read from a file has.
    pub fn to_toml(&self) -> Result<String, TableError> {
        toml::to_string(self).map_err(|error| TableError::Content(error.to_string()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const WEBINAR: &str = r#"
server = "10.77.0.1:10000"
seed = 5

[[publisher]]
name = "speaker"
remote = "10.99.0.2:5000"
[[publisher.track]]
codec = "vp8"
pt = 96
ssrc = 1001
[[publisher.track]]
codec = "opus"
pt = 111
ssrc = 2001

[[receiver]]
from = "speaker"
remote = "10.10.0.1:6000"
count = 3000
"#;

    #[test]
    fn a_table_survives_being_written_and_read() {
        let table = Table::parse(WEBINAR, false).expect("read");
        assert_eq!(Table::parse(&table.to_toml().expect("written"), false), Ok(table.clone()));
        let json = serde_json::to_string(&table).expect("written");
        assert_eq!(Table::parse(&json, true), Ok(table));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let detail = Table::parse(&WEBINAR.replace("count", "cuont"), false).expect_err("refused");
        assert!(detail.contains("cuont") && detail.contains("line"), "{detail}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Random numbers from the operating system's generator: ids, SSRCs, keys.
//!
//! A failure is an error and never a weaker number.

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub(crate) struct NoEntropy;

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

/// 64 random bits.
pub(crate) fn number() -> Result<u64, NoEntropy> {
    bytes().map(u64::from_be_bytes)
}

/// A 256-bit key.
pub(crate) fn key() -> Result<Zeroizing<Vec<u8>>, NoEntropy> {
    let mut key = Zeroizing::new(vec![0; 32]);
    rand::fill(&mut key).map_err(|_| NoEntropy)?;
    Ok(key)
}

/// SSRCs of one transport: random, not 0, each given once (RFC 3550 §8.1, CONTRACTS 3).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SsrcSource {
    given: Vec<u32>,
}

impl SsrcSource {
    /// The next one.
    pub(crate) fn next(&mut self) -> Result<u32, NoEntropy> {
        loop {
            let ssrc = u32::from_be_bytes(bytes()?);
            if ssrc != 0 && !self.given.contains(&ssrc) {
                self.given.push(ssrc);
                return Ok(ssrc);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The seeded impairment relay between two interfaces: loss, delay, jitter, reordering.

use anyhow::Result;

/// Runs a relay in the foreground until SIGTERM: the hidden `xtask relay` subcommand.
///
/// # Errors
/// On unknown arguments or when the interfaces cannot be opened.
pub fn main(args: &[String]) -> Result<()> {
    anyhow::bail!("relay {args:?} is not there yet")
}

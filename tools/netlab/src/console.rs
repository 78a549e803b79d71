// SPDX-License-Identifier: Apache-2.0
//! Progress and result lines for the person at the terminal. Writes to stdout and never fails on a closed pipe.

use std::io::Write;

/// Writes one line to stdout and flushes it, so that progress is seen through a pipe as well.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed stdout must not end a lab before it has cleaned up.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

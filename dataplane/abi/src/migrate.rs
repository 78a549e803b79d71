// SPDX-License-Identifier: Apache-2.0
//! From one layout version to the next and back.
//!
//! Rings and frame tables are equal or refused. Intent and durable records carry (version, size) and grow only into their
//! reserve, so that a record of version N read as N + 1 has zeroes ("not known") in the fields that N does not have.

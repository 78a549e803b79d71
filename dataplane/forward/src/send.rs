// SPDX-License-Identifier: Apache-2.0
//! The send half: it pulls from the packet store in tiles of at most 128 frames. A full port stops a cursor, never the worker.

pub(crate) mod catchup;
pub(crate) mod cohorts;
pub(crate) mod doorbells;
pub(crate) mod fanout;
pub(crate) mod fates;
pub(crate) mod head;
pub(crate) mod keyframes;
pub(crate) mod lanes;
pub(crate) mod reports;
pub(crate) mod rewrite;
pub(crate) mod rtx;
pub(crate) mod seal;
pub(crate) mod select;
pub(crate) mod switch;
pub(crate) mod tile;

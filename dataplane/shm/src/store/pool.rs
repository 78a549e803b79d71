// SPDX-License-Identifier: Apache-2.0
//! A worker's own part of the chunks: a plain free list, no atomics.

use crate::segment::Segment;

/// Free chunks of one worker.
#[derive(Debug)]
pub struct ChunkPool {
    segment: Segment,
    free: Vec<u32>,
}

impl ChunkPool {
    /// The chunks `first_chunk .. first_chunk + count`, as far as they exist, all free: logs that a predecessor left in them
    /// are made unreadable first. None when store or durable state are not mapped writable.
    #[must_use]
    pub fn new(_segment: &Segment, _first_chunk: u32, _count: u32) -> Option<Self> {
        todo!()
    }

    /// Free chunks.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

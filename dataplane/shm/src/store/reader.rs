// SPDX-License-Identifier: Apache-2.0
//! Reading a log from any worker.

use core::marker::PhantomData;

use dataplane_abi::store::StoredHead;

use crate::store::{StoreMap, StoredInfo};

/// A log, to read.
#[derive(Clone, Copy, Debug)]
pub struct LogReader<'store> {
    store: &'store StoreMap,
}

impl<'store> LogReader<'store> {
    pub(crate) fn of(_store: &'store StoreMap, _log: u64) -> Option<Self> {
        todo!()
    }

    /// The packet `ext_seq`, if it is in the log.
    #[inline]
    #[must_use]
    pub fn get(&self, _ext_seq: u64) -> Option<Stored<'store>> {
        let _ = self.store;
        todo!()
    }
}

/// A packet in the store, as long as its tag holds.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'store> {
    info: StoredInfo,
    payload: StoreBytes<'store>,
}

impl<'store> Stored<'store> {
    /// Timestamp, flags and arrival.
    #[must_use]
    pub const fn info(&self) -> StoredInfo {
        self.info
    }

    /// A copy of the head; meaningless unless [`Self::still_valid`] says so afterwards.
    #[must_use]
    pub fn head(&self) -> StoredHead {
        todo!()
    }

    /// The payload, meaningless unless [`Self::still_valid`] says so after it was copied.
    #[must_use]
    pub const fn payload(&self) -> StoreBytes<'store> {
        self.payload
    }

    /// Whether everything copied from this packet so far is the packet.
    #[inline]
    #[must_use]
    pub fn still_valid(&self) -> bool {
        todo!()
    }
}

/// Shared plaintext: may change while it is copied, so it is never a slice.
#[derive(Clone, Copy, Debug)]
pub struct StoreBytes<'store> {
    len: usize,
    life: PhantomData<&'store StoreMap>,
}

impl StoreBytes<'_> {
    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies as much as fits into `dst`; returns how many bytes.
    #[inline]
    pub fn copy_to(&self, _dst: &mut [u8]) -> usize {
        todo!()
    }

    /// Copies at most `n` bytes; returns how many.
    #[inline]
    pub fn copy_prefix(&self, _n: usize, _dst: &mut [u8]) -> usize {
        todo!()
    }

    /// The bytes from `from` on; empty when there are none.
    #[inline]
    #[must_use]
    pub fn slice(&self, _from: usize) -> Self {
        todo!()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Containers of fixed capacity: everything that a worker remembers lies in one of these, allocated once.

pub(crate) mod map;
pub(crate) mod on_demand;
pub(crate) mod paged;
pub(crate) mod queue;
pub(crate) mod slab;
pub(crate) mod wheel;
pub(crate) mod window;

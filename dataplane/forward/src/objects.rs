// SPDX-License-Identifier: Apache-2.0
//! Derived state: a worker's private picture of what it owns, rebuilt from intent and durable records.

pub(crate) mod cohort;
pub(crate) mod egress;
pub(crate) mod gate;
pub(crate) mod ingress;
pub(crate) mod leg;
pub(crate) mod numbers;

/// "No object" in a slot field.
pub(crate) const NONE: u32 = u32::MAX;

// SPDX-License-Identifier: Apache-2.0
//! The receive half: one batch, to completion. It ends in the packet store, in a reply queue, in the punt ring or in a
//! drop counter; it never sends.

pub(crate) mod admission;
pub(crate) mod classify;
pub(crate) mod feedback;
pub(crate) mod ingress;
pub(crate) mod learn;
pub(crate) mod missing;
pub(crate) mod recorder;
pub(crate) mod rtx;
pub(crate) mod stun;

// SPDX-License-Identifier: Apache-2.0
//! Wrong programs on purpose, one for each feature: the fixtures of ebpf/loader/tests must find every one of them. Without
//! a feature everything here is the right answer and costs no instruction.

use dataplane_abi::xdp;

/// Frames for our port at any address are ours.
pub const ANY_ADDRESS: bool = cfg!(feature = "mutant-any-address");
/// Failed checks have no consequence.
pub const NO_LIMIT: bool = cfg!(feature = "mutant-no-limit");
/// Strangers may send anything.
pub const ANY_STRANGER: bool = cfg!(feature = "mutant-any-stranger");

/// The socket's key; the mutant forgets that a queue has a stride.
#[inline(always)]
pub const fn xsk_key(queue: u32, worker: u32) -> u32 {
    if cfg!(feature = "mutant-wrong-key") { queue.wrapping_add(worker) } else { xdp::xsk_key(queue, worker) }
}

/// The address as the flow map has it; the mutant leaves the mark of IPv4 out.
#[inline(always)]
pub const fn address(address: [u8; 16], is_ipv4: bool) -> [u8; 16] {
    if cfg!(feature = "mutant-swapped-family") && is_ipv4 {
        let [.., a, b, c, d] = address;
        return [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d];
    }
    address
}

// SPDX-License-Identifier: Apache-2.0
//! The servers that are measured: how each is installed, started, and given a publisher and receivers.

pub mod bencode;
pub mod janus;
pub mod rtpengine;
pub mod sdp;

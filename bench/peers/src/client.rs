// SPDX-License-Identifier: Apache-2.0
//! Clients that any server can be measured with: an endpoint of ICE, DTLS and SRTP, one that publishes the bed's media, and
//! ones that receive it.

pub mod endpoint;
pub mod media;
pub mod webrtc;

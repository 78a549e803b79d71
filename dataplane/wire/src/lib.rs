// SPDX-License-Identifier: Apache-2.0
//! The bytes: zero-copy views of Ethernet to RTP, RTCP and STUN.

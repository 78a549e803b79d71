// SPDX-License-Identifier: Apache-2.0
//! Offers in, answers out: SDP as WebRTC speaks it.

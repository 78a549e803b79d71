// SPDX-License-Identifier: Apache-2.0
//! How the planes and the tools reach the descriptors that the keeper holds.

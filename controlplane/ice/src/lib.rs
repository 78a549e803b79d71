// SPDX-License-Identifier: Apache-2.0
//! ICE policy: credentials, candidates, restarts.

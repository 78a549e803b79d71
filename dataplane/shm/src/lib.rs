// SPDX-License-Identifier: Apache-2.0
//! The segment: tables, publication, rings, packet store, counters.

// SPDX-License-Identifier: Apache-2.0
//! Sans-IO conference state: participants, tracks, subscriptions.

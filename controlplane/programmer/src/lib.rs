// SPDX-License-Identifier: Apache-2.0
//! The only writer of intent: commands become table entries.

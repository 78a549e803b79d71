// SPDX-License-Identifier: Apache-2.0
//! The contract: records in shared memory, their limits and drop reasons.

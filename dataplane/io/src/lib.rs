// SPDX-License-Identifier: Apache-2.0
//! The ports: where packets enter and leave a worker.

pub mod port;

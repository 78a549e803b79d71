// SPDX-License-Identifier: Apache-2.0
//! Tests over a segment made in this process.

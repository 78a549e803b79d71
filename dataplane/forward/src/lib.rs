// SPDX-License-Identifier: Apache-2.0
//! The pipeline: pure stages over a batch and tiles of frames.

// SPDX-License-Identifier: Apache-2.0
//! The crypto: SRTP and SRTCP from an unchanged source into a lent buffer.

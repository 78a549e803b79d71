// SPDX-License-Identifier: Apache-2.0
//! DTLS associations: a sans-IO wrapper with deadlines and bounds.

// SPDX-License-Identifier: Apache-2.0
//! WHIP, WHEP and the REST surface.

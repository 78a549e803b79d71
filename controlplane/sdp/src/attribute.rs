// SPDX-License-Identifier: Apache-2.0
//! The grammar of attribute lines.
use crate::error::{Place, SdpError, SdpErrorKind};
use crate::offer::Offer;

pub(crate) fn parse_offer(text: &str) -> Result<Offer, SdpError> {
    let _ = text;
    Err(SdpError::new(SdpErrorKind::Malformed, "m=", Place::Session))
}

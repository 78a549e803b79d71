// SPDX-License-Identifier: Apache-2.0
//! The plain page and its two scripts, embedded in the binary, with their caching.
//!
//! Nothing is read from disk at run time and nothing comes from another origin.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// One embedded file.
pub(crate) struct Asset {
    content_type: &'static str,
    body: &'static str,
}

/// `GET /` and `GET /r/{room}`.
pub(crate) const INDEX: Asset =
    Asset { content_type: "text/html; charset=utf-8", body: include_str!("../../web/index.html") };
/// The WHIP and WHEP client, for pages and labs.
pub(crate) const CLIENT: Asset =
    Asset { content_type: "text/javascript; charset=utf-8", body: include_str!("../../web/client.js") };
/// What the plain page does.
pub(crate) const PAGE: Asset =
    Asset { content_type: "text/javascript; charset=utf-8", body: include_str!("../../web/page.js") };
/// How the plain page looks.
pub(crate) const STYLE: Asset =
    Asset { content_type: "text/css; charset=utf-8", body: include_str!("../../web/style.css") };

impl Asset {
    /// Answers with the file, or with 304 if the caller holds this version.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        let etag = format!("\"{:016x}\"", self.fingerprint());
        let held = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let mut response = if held.is_some_and(|held| held.split(',').any(|tag| tag.trim() == etag)) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = self.body.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            response
        };
        let headers = response.headers_mut();
        // Asked for again each time, sent again only when it differs: a page and its script never mismatch.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(value) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, value);
        }
        response
    }

    /// 64-bit FNV-1a of the content: tells versions apart, guards nothing.
    fn fingerprint(&self) -> u64 {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.body.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold)
    }
}

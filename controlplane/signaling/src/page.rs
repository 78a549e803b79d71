// SPDX-License-Identifier: Apache-2.0
//! The page's files, embedded in the binary, with their caching.
//!
//! Nothing is read from disk at run time and nothing comes from another origin.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// One embedded file.
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

/// Every file of `controlplane/web` that browsers load; `build.rs` lists them.
pub(crate) const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));
/// What `/` and `/r/{room}` serve.
const INDEX: &str = "/index.html";

/// The page itself, wherever it is opened.
pub(crate) fn index(request: &HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.path == INDEX) {
        Some(asset) => asset.respond(request),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Asset {
    /// Answers with the file, or with 304 if the caller holds this version.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        let etag = format!("\"{:016x}\"", self.fingerprint());
        let held = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let mut response = if held.is_some_and(|held| held.split(',').any(|tag| tag.trim() == etag)) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Bytes::from_static(self.body).into_response();
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
        self.body.iter().fold(0xcbf2_9ce4_8422_2325, fold)
    }
}

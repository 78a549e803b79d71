// SPDX-License-Identifier: Apache-2.0
//! Errors as RFC 9457 says them: `application/problem+json` with the field that is at fault.
//!
//! A detail is written by this server; it never repeats a token or an SDP body.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The kinds of problem; each has one status, one title and one type URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A part of the URL or the query is not valid.
    BadParameter,
    /// The body is not an SDP offer.
    BadOffer,
    /// The offer is SDP, but nothing in it can be served.
    UnsupportedOffer,
    /// No token where one is needed, or not a valid one.
    Unauthorized,
    /// The token does not allow this.
    Forbidden,
    /// Nothing lives at this path.
    NotFound,
    /// The session is not there (any more).
    ResourceUnknown,
    /// The participant or the room has not published (yet).
    NotPublished,
    /// The method does not exist here.
    MethodNotAllowed,
    /// The body did not come in time.
    Timeout,
    /// The name is taken by a live publisher.
    NameTaken,
    /// The body is too long.
    TooLarge,
    /// The body is of another type than `application/sdp`.
    UnsupportedMediaType,
    /// Too many unfinished sessions from one address.
    TooManyPending,
    /// The request queue is full.
    Busy,
    /// A table or a limit is full.
    Full,
    /// The server is stopping.
    Stopping,
}

impl ProblemKind {
    /// Status, last part of the type URI, title.
    fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadParameter => (StatusCode::BAD_REQUEST, "bad-parameter", "A parameter is not valid"),
            Self::BadOffer => (StatusCode::BAD_REQUEST, "bad-offer", "The body is not a valid SDP offer"),
            Self::UnsupportedOffer => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unsupported-offer", "The offer cannot be served")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token does not allow this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is nothing here"),
            Self::ResourceUnknown => (StatusCode::NOT_FOUND, "session-unknown", "There is no such session"),
            Self::NotPublished => (StatusCode::NOT_FOUND, "not-published", "Nobody publishes here yet"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not come in time"),
            Self::NameTaken => (StatusCode::CONFLICT, "name-taken", "The name is taken"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body's type is not supported")
            }
            Self::TooManyPending => (StatusCode::TOO_MANY_REQUESTS, "too-many-pending", "Too many unfinished sessions"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The server is busy"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "full", "The server is full"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "The server is stopping"),
        }
    }

    /// The status that carries it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.describe().0
    }

    /// Seconds after which it is worth to try again.
    fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::NotPublished | Self::Busy | Self::Stopping => Some("1"),
            Self::TooManyPending | Self::Full => Some("5"),
            Self::BadParameter
            | Self::BadOffer
            | Self::UnsupportedOffer
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::ResourceUnknown
            | Self::MethodNotAllowed
            | Self::Timeout
            | Self::NameTaken
            | Self::TooLarge
            | Self::UnsupportedMediaType => None,
        }
    }
}

/// A problem, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub kind: ProblemKind,
    /// What exactly, for a person.
    pub detail: String,
    /// The parameter, header or SDP line that is at fault.
    pub field: Option<String>,
}

impl Problem {
    /// A problem that is nobody's field.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None }
    }

    /// The same problem, naming the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.describe();
        let body = Body {
            r#type: format!("urn:problem:millrace:{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.kind.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.kind == ProblemKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"millrace\""));
        }
        response
    }
}

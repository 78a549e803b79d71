// SPDX-License-Identifier: Apache-2.0
//! Who may do what: tokens, and what is open without one.
//!
//! Without a token, publishing is for peers on this host, and watching for everybody who reaches the server. Both
//! exemptions end where somebody else speaks through the peer: a page of another origin in its browser, a name that
//! was rebound to this address, or a reverse proxy. `open_rooms` opens everything.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, VIA};
use axum::http::{HeaderMap, Uri};
use controlplane_room::{DisplayName, RoomName};

use crate::code::{ErrorCode, Refused};
use crate::problem::{Problem, ProblemKind};
use crate::token::{Grant, Permit, TokenError, TokenKey};

/// What a participant may do in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Offer sections that send.
    pub publish: bool,
    /// Show others' tracks in its slots.
    pub subscribe: bool,
}

impl Rights {
    /// Both.
    pub const ALL: Self = Self { publish: true, subscribe: true };
}

/// The rule of access.
#[derive(Clone, Debug)]
pub struct Access {
    /// Verifies tokens.
    pub key: TokenKey,
    /// Publishing and watching need no token from anywhere.
    pub open_rooms: bool,
    /// Watching needs a token too (except for peers on this host).
    pub viewers_need_token: bool,
}

impl Access {
    /// Whether the request may do `grant` in `room`; gives the name that its token binds it to.
    ///
    /// # Errors
    /// 401 when a token is missing or not valid, 403 when it allows something else.
    pub(crate) fn check(
        &self,
        grant: Grant,
        room: &RoomName,
        peer: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Option<DisplayName>, Problem> {
        // RELIABILITY S16: a token that is there is judged, even where none is needed.
        let Some(token) = bearer(headers)? else {
            return if self.is_open(grant, peer, headers) { Ok(None) } else { Err(token_needed(grant)) };
        };
        let permit = self.key.verify(token).map_err(|refused| match refused {
            TokenError::Expired | TokenError::Invalid | TokenError::Claims => {
                Problem::new(ProblemKind::Unauthorized, refused.to_string()).at("Authorization")
            }
            TokenError::ShortKey | TokenError::Signing => {
                Problem::new(ProblemKind::Unauthorized, "the token could not be verified").at("Authorization")
            }
        })?;
        if permit.room != *room {
            return Err(Problem::new(ProblemKind::Forbidden, "the token is for another room").at("room"));
        }
        if !permit.grants.contains(&grant) {
            let detail = format!("the token does not grant \"{}\"", grant.as_str());
            return Err(Problem::new(ProblemKind::Forbidden, detail).at("grants"));
        }
        Ok(permit.name)
    }

    /// Whether a participant may come from this peer without a token: where publishing needs none (RELIABILITY S16).
    pub(crate) fn is_open_to(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        self.is_open(Grant::Publish, peer, headers)
    }

    /// What a joining participant may do, and the name that its token binds it to; `open` is what it may without one.
    ///
    /// # Errors
    /// `unauthorized` when a token is missing or not valid, `forbidden` when it is for something else.
    pub(crate) fn admit(
        &self,
        room: &RoomName,
        token: Option<&str>,
        open: Option<Rights>,
    ) -> Result<(Rights, Option<DisplayName>), Refused> {
        // RELIABILITY S16: a token that is there is judged, even where none is needed.
        let Some(token) = token else {
            let needed = "joining needs a token here (without one: only from this host, or with open_rooms = true)";
            let needed = || Refused::new(ErrorCode::Unauthorized, needed).at("token");
            return open.map(|rights| (rights, None)).ok_or_else(needed);
        };
        let permit = self.key.verify(token);
        let Permit { room: granted, name, grants } =
            permit.map_err(|refused| Refused::new(ErrorCode::Unauthorized, refused.to_string()).at("token"))?;
        if granted != *room {
            return Err(Refused::new(ErrorCode::Forbidden, "the token is for another room").at("room"));
        }
        let rights =
            Rights { publish: grants.contains(&Grant::Publish), subscribe: grants.contains(&Grant::Subscribe) };
        if !rights.publish && !rights.subscribe {
            return Err(
                Refused::new(ErrorCode::Forbidden, "the token grants neither to publish nor to watch").at("token")
            );
        }
        Ok((rights, name))
    }

    fn is_open(&self, grant: Grant, peer: SocketAddr, headers: &HeaderMap) -> bool {
        if self.open_rooms {
            return true;
        }
        if !speaks_for_itself(headers) {
            return false;
        }
        let on_this_host = peer.ip().to_canonical().is_loopback() && names_this_host(headers);
        on_this_host || (grant == Grant::Subscribe && !self.viewers_need_token)
    }
}

fn token_needed(grant: Grant) -> Problem {
    let detail = match grant {
        Grant::Publish => "publishing needs a token here (without one: only from this host, or with open_rooms = true)",
        Grant::Subscribe => "watching needs a token here",
    };
    Problem::new(ProblemKind::Unauthorized, detail).at("Authorization")
}

/// The bearer token (RFC 6750 §2.1), if there is an `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed =
        || Problem::new(ProblemKind::Unauthorized, "the header must be one \"Bearer <token>\"").at("Authorization");
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(malformed());
    }
    Ok(Some(token))
}

/// Whether the peer is who asks: no proxy in between, no page of another origin.
fn speaks_for_itself(headers: &HeaderMap) -> bool {
    if headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for") || headers.contains_key(VIA) {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    let authority = origin.as_ref().and_then(Uri::authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    matches!((authority, host), (Some(authority), Some(host)) if authority.as_str().eq_ignore_ascii_case(host))
}

/// Whether the `Host` is this host by a name that nobody can rebind.
fn names_this_host(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(|text| text.parse::<Uri>().ok());
    let Some(host) = host.as_ref().and_then(Uri::host) else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.to_ascii_lowercase().ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok()
}

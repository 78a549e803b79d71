// SPDX-License-Identifier: Apache-2.0
//! What a participant's client may send (docs/PROTOCOL.md), read from JSON member by member.
//!
//! Members that are not known are passed over; one that is wrong is named. Nothing here repeats what was sent.

use std::fmt;

use controlplane_room::{DisplayName, RoomName, TrackId};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::code::{ErrorCode, Refused};
use crate::request::SdpText;
use crate::token::MAX_TOKEN_LEN;

/// Largest request id: what JSON numbers carry exactly.
const MAX_ID: u64 = (1 << 53) - 1;
/// Most entries of a list.
const MAX_LIST: usize = 256;
/// Longest `mid`, in bytes (RFC 9143 §15.1 with the one-byte form of its header extension).
const MAX_MID_LEN: usize = 16;
/// Largest `max_height`, in pixels.
const MAX_HEIGHT: u64 = 16_384;

/// What a track shows or lets hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A screen or window.
    Screen,
    /// The sound that belongs to a screen.
    ScreenAudio,
}

/// A resume token: 128 random bits, 32 hex digits. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken(pub Zeroizing<[u8; 16]>);

impl ResumeToken {
    /// The 32 lower-case hex digits of the wire.
    #[must_use]
    pub fn to_hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(*self.0))
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

/// `join`, with a name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) room: RoomName,
    pub(crate) name: Option<DisplayName>,
    pub(crate) token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("room", &self.room).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A section of an offer that sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendingSection {
    /// The section.
    pub mid: String,
    /// What it sends.
    pub source: Source,
    /// Whether it is muted from the start.
    pub muted: bool,
}

/// `offer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The description.
    pub sdp: SdpText,
    /// Whether it is of a new PeerConnection.
    pub restart: bool,
    /// The sections that send.
    pub tracks: Vec<SendingSection>,
}

/// What one slot is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotWish {
    /// The slot.
    pub mid: String,
    /// The track, or nothing.
    pub track: Option<TrackId>,
    /// The height at which it is rendered, in pixels.
    pub max_height: Option<u16>,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Join(Join),
    Resume(ResumeToken),
    Offer(Offer),
    Subscribe(Vec<SlotWish>),
    Mute { track: TrackId, muted: bool },
    Leave,
    Ping,
}

/// What a text was: the id, if there is one to answer to, and the request or why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) id: Option<u64>,
    pub(crate) message: Result<Message, Refused>,
}

/// Reads one text.
pub(crate) fn parse(text: &str) -> Parsed {
    let refused = |message: &str| Parsed { id: None, message: Err(Refused::new(ErrorCode::BadMessage, message)) };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return refused("the message is not JSON") };
    let Value::Object(object) = value else { return refused("the message is not a JSON object") };
    let members = Members { object: &object, path: String::new() };
    match members.id() {
        Ok(id) => Parsed { id: Some(id), message: members.message() },
        Err(refused) => Parsed { id: None, message: Err(refused) },
    }
}

/// The members of an object and where it is in the message.
struct Members<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Members<'a> {
    fn bad(&self, name: &str, needed: &str) -> Refused {
        let field = format!("{}{name}", self.path);
        Refused::new(ErrorCode::BadMessage, format!("\"{field}\" must be {needed}")).at(field)
    }

    /// A member that is there; `null` is taken as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn id(&self) -> Result<u64, Refused> {
        let id = self.get("id").and_then(Value::as_u64).filter(|id| (1..=MAX_ID).contains(id));
        id.ok_or_else(|| self.bad("id", "a number from 1 to 2^53 - 1"))
    }

    fn optional_text(&self, name: &str) -> Result<Option<&str>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(name, "text")),
        }
    }

    fn text(&self, name: &str) -> Result<&str, Refused> {
        self.optional_text(name)?.ok_or_else(|| self.bad(name, "text"))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.bad(name, "true or false")),
        }
    }

    /// The objects of a list, each with its place.
    fn list(&self, name: &str) -> Result<Vec<Self>, Refused> {
        let entries = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) if entries.len() <= MAX_LIST => entries,
            Some(_) => return Err(self.bad(name, &format!("a list of at most {MAX_LIST} objects"))),
        };
        let entry = |(at, value): (usize, &'a Value)| {
            let object = value.as_object().ok_or_else(|| self.bad(&format!("{name}[{at}]"), "an object"))?;
            Ok(Members { object, path: format!("{}{name}[{at}].", self.path) })
        };
        entries.iter().enumerate().map(entry).collect()
    }

    fn mid(&self) -> Result<String, Refused> {
        let mid = self.text("mid")?;
        if !(1..=MAX_MID_LEN).contains(&mid.len()) {
            return Err(self.bad("mid", "1 to 16 bytes of text"));
        }
        Ok(mid.to_owned())
    }

    fn track(&self) -> Result<TrackId, Refused> {
        hex_16(self.text("track")?).map(TrackId).ok_or_else(|| self.bad("track", "32 lower-case hex digits"))
    }

    fn message(&self) -> Result<Message, Refused> {
        match self.text("type")? {
            "join" => self.join(),
            "offer" => self.offer(),
            "subscribe" => self.subscribe(),
            "mute" => {
                let muted = self.flag("muted")?.ok_or_else(|| self.bad("muted", "true or false"))?;
                Ok(Message::Mute { track: self.track()?, muted })
            }
            "leave" => Ok(Message::Leave),
            "ping" => Ok(Message::Ping),
            _ => Err(Refused::new(ErrorCode::UnknownType, "there is no such request").at("type")),
        }
    }

    fn join(&self) -> Result<Message, Refused> {
        if let Some(resume) = self.optional_text("resume")? {
            let unknown = || Refused::new(ErrorCode::ResumeUnknown, "there is nothing to resume").at("resume");
            return hex_16(resume).map(|token| Message::Resume(ResumeToken(Zeroizing::new(token)))).ok_or_else(unknown);
        }
        let room = self.text("room")?.parse::<RoomName>();
        let room = room.map_err(|bad| Refused::new(ErrorCode::BadRoom, bad.to_string()).at("room"))?;
        let name = self.optional_text("name")?.map(str::parse::<DisplayName>).transpose();
        let name = name.map_err(|bad| Refused::new(ErrorCode::BadName, bad.to_string()).at("name"))?;
        let token = self.optional_text("token")?;
        if token.is_some_and(|token| token.len() > MAX_TOKEN_LEN) {
            return Err(Refused::new(ErrorCode::Unauthorized, "the token is too long").at("token"));
        }
        Ok(Message::Join(Join { room, name, token: token.map(|token| Zeroizing::new(token.to_owned())) }))
    }

    fn offer(&self) -> Result<Message, Refused> {
        let sections = self.list("tracks")?;
        let section = |held: &Members<'_>| -> Result<SendingSection, Refused> {
            let source = match held.text("source")? {
                "camera" => Source::Camera,
                "microphone" => Source::Microphone,
                "screen" => Source::Screen,
                "screen-audio" => Source::ScreenAudio,
                _ => return Err(held.bad("source", "camera, microphone, screen or screen-audio")),
            };
            Ok(SendingSection { mid: held.mid()?, source, muted: held.flag("muted")?.unwrap_or(false) })
        };
        let tracks = sections.iter().map(section).collect::<Result<_, _>>()?;
        let restart = self.flag("restart")?.unwrap_or(false);
        Ok(Message::Offer(Offer { sdp: SdpText(self.text("sdp")?.to_owned()), restart, tracks }))
    }

    fn subscribe(&self) -> Result<Message, Refused> {
        if self.get("slots").is_none() {
            return Err(self.bad("slots", "a list"));
        }
        let wish = |held: &Members<'_>| -> Result<SlotWish, Refused> {
            let track = match held.object.get("track") {
                Some(Value::Null) => None,
                _ => Some(held.track()?),
            };
            let max_height = match held.get("max_height") {
                None => None,
                Some(value) => {
                    let height = value.as_u64().filter(|height| (1..=MAX_HEIGHT).contains(height));
                    let height = height.and_then(|height| u16::try_from(height).ok());
                    Some(height.ok_or_else(|| held.bad("max_height", "a number from 1 to 16384"))?)
                }
            };
            Ok(SlotWish { mid: held.mid()?, track, max_height })
        };
        Ok(Message::Subscribe(self.list("slots")?.iter().map(wish).collect::<Result<_, _>>()?))
    }
}

/// 16 bytes in 32 lower-case hex digits.
fn hex_16(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! Which participant is behind which WebSocket, what it may do, and what resumes it.
//!
//! Of a resume token only the hash is kept. It must never print, nor be compared in a time that depends on it.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::{constant_time, digest};
use controlplane_room::{Member, ParticipantId, RoomName};
use controlplane_signaling::{ConnectionId, Encoded, Outbox, ResumeToken, Rights};
use serde::{Deserialize, Serialize};

/// Bytes of a token's hash by which it is looked up before all of it is compared.
const INDEX_LEN: usize = 8;

/// The SHA-256 of a resume token.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResumeHash([u8; 32]);

impl fmt::Debug for ResumeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeHash(..)")
    }
}

impl ResumeHash {
    /// Of a token.
    pub(crate) fn of(token: &ResumeToken) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &*token.0).as_ref());
        Self(hash)
    }

    fn index(&self) -> [u8; INDEX_LEN] {
        let mut index = [0; INDEX_LEN];
        index.copy_from_slice(&self.0[..INDEX_LEN]);
        index
    }

    fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A participant's WebSocket.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) outbox: Outbox,
}

/// A participant that came over a WebSocket.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) rights: Rights,
    pub(super) resume: ResumeHash,
    /// `None`: it is away.
    pub(super) link: Option<Link>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Presences {
    by_room: BTreeMap<RoomName, BTreeMap<ParticipantId, Presence>>,
    member_by_token: BTreeMap<[u8; INDEX_LEN], Member>,
}

impl Presences {
    pub(super) fn get(&self, member: &Member) -> Option<&Presence> {
        self.by_room.get(&member.room)?.get(&member.participant)
    }

    pub(super) fn insert(&mut self, member: &Member, presence: Presence) {
        self.member_by_token.insert(presence.resume.index(), member.clone());
        self.by_room.entry(member.room.clone()).or_default().insert(member.participant.clone(), presence);
    }

    /// Takes a participant out that is gone for good.
    pub(super) fn remove(&mut self, member: &Member) -> Option<Presence> {
        let room = self.by_room.get_mut(&member.room)?;
        let presence = room.remove(&member.participant)?;
        if room.is_empty() {
            self.by_room.remove(&member.room);
        }
        self.member_by_token.remove(&presence.resume.index());
        Some(presence)
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &ResumeToken) -> Option<Member> {
        let hash = ResumeHash::of(token);
        let member = self.member_by_token.get(&hash.index())?;
        self.get(member).filter(|presence| presence.resume.is(&hash)).map(|_| member.clone())
    }

    /// Gives a participant another WebSocket and another token; the WebSocket that it had comes back.
    pub(super) fn relink(&mut self, member: &Member, resume: ResumeHash, link: Link) -> Option<Link> {
        let presence = self.by_room.get_mut(&member.room)?.get_mut(&member.participant)?;
        self.member_by_token.remove(&presence.resume.index());
        self.member_by_token.insert(resume.index(), member.clone());
        presence.resume = resume;
        presence.link.replace(link)
    }

    /// Marks a participant as away, if this is the WebSocket that it has.
    pub(super) fn unlink(&mut self, member: &Member, connection: ConnectionId) -> bool {
        let presence = self.by_room.get_mut(&member.room).and_then(|room| room.get_mut(&member.participant));
        let Some(presence) = presence else { return false };
        let is_current = presence.link.as_ref().is_some_and(|link| link.connection == connection);
        if is_current {
            presence.link = None;
        }
        is_current
    }

    /// Sends to everybody in a room but one. A client that does not take it is closed by its own task.
    pub(super) fn tell_room(&self, room: &RoomName, except: &ParticipantId, text: &Encoded) {
        let Some(members) = self.by_room.get(room) else { return };
        for (_, presence) in members.iter().filter(|(id, _)| *id != except) {
            if let Some(link) = &presence.link {
                let _ = link.outbox.send(text.clone());
            }
        }
    }

    /// Sends to one.
    pub(super) fn tell(&self, member: &Member, text: Encoded) {
        if let Some(link) = self.get(member).and_then(|presence| presence.link.as_ref()) {
            let _ = link.outbox.send(text);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_room.values().map(BTreeMap::len).sum()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_room.is_empty() && self.member_by_token.is_empty()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a bot knows of its room and which tracks its slots show. It must never show one track in two slots.

use serde_json::{Value, json};

use crate::sdp::AnsweredSlot;

/// A track of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    id: String,
    owner: String,
    is_video: bool,
}

/// A slot and what it shows.
#[derive(Debug)]
struct Slot {
    mid: String,
    is_video: bool,
    shows: Option<String>,
}

/// The room as one bot sees it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    tracks: Vec<Track>,
    slots: Vec<Slot>,
    /// Where in the list of tracks the bot starts, so that not all bots show the same ones.
    turn: usize,
}

impl Room {
    /// From the reply to `join`.
    pub(crate) fn new(joined: &Value, turn: usize) -> Self {
        let mut room = Self { turn, ..Self::default() };
        for participant in joined["participants"].as_array().into_iter().flatten() {
            room.add_participant(participant);
        }
        room
    }

    /// The slots that the answer has.
    pub(crate) fn set_slots(&mut self, slots: &[AnsweredSlot]) {
        let empty = |slot: &AnsweredSlot| Slot { mid: slot.mid.clone(), is_video: slot.is_video, shows: None };
        self.slots = slots.iter().map(empty).collect();
    }

    /// From the reply to a `join` that resumes: the room as it is, and what the slots show.
    pub(crate) fn refresh(&mut self, joined: &Value) {
        self.tracks.clear();
        for participant in joined["participants"].as_array().into_iter().flatten() {
            self.add_participant(participant);
        }
        let shown = |mid: &str| {
            let mut slots = joined["slots"].as_array().into_iter().flatten();
            slots.find(|slot| slot["mid"] == mid).and_then(|slot| slot["track"].as_str()).map(str::to_owned)
        };
        for slot in &mut self.slots {
            slot.shows = shown(&slot.mid);
        }
    }

    fn add_participant(&mut self, participant: &Value) {
        let owner = participant["id"].as_str().unwrap_or_default();
        for track in participant["tracks"].as_array().into_iter().flatten() {
            self.add_track(owner, track);
        }
    }

    fn add_track(&mut self, owner: &str, track: &Value) {
        let Some(id) = track["id"].as_str() else { return };
        if self.tracks.iter().any(|known| known.id == id) {
            return;
        }
        self.tracks.push(Track { id: id.to_owned(), owner: owner.to_owned(), is_video: track["kind"] == "video" });
    }

    fn remove(&mut self, id: &str) {
        self.tracks.retain(|track| track.id != id);
        for slot in self.slots.iter_mut().filter(|slot| slot.shows.as_deref() == Some(id)) {
            slot.shows = None;
        }
    }

    /// Takes an event; true if tracks came or went.
    pub(crate) fn hear(&mut self, event: &Value) -> bool {
        let owner = event["participant"].as_str();
        match event["type"].as_str() {
            Some("participant_joined") => self.add_participant(&event["participant"]),
            Some("participant_left") => {
                let gone: Vec<String> = self
                    .tracks
                    .iter()
                    .filter(|track| Some(&*track.owner) == owner)
                    .map(|track| track.id.clone())
                    .collect();
                gone.iter().for_each(|id| self.remove(id));
            }
            Some("track_published") => self.add_track(owner.unwrap_or_default(), &event["track"]),
            Some("track_unpublished") => self.remove(event["track"].as_str().unwrap_or_default()),
            _ => return false,
        }
        true
    }

    /// Fills empty slots; what `subscribe` is to be told, nothing if nothing changes.
    pub(crate) fn fill(&mut self) -> Option<Value> {
        let mut told = Vec::new();
        let count = self.tracks.len();
        for at in 0..count {
            let Some(track) = self.tracks.get((self.turn + at) % count) else { continue };
            let is_shown = self.slots.iter().any(|slot| slot.shows.as_ref() == Some(&track.id));
            let free = self.slots.iter_mut().find(|slot| slot.shows.is_none() && slot.is_video == track.is_video);
            if let (false, Some(slot)) = (is_shown, free) {
                slot.shows = Some(track.id.clone());
                told.push(json!({"mid": slot.mid, "track": track.id}));
            }
        }
        (!told.is_empty()).then(|| json!({"slots": told}))
    }

    /// A slot that the server refused to fill.
    pub(crate) fn refused(&mut self, mid: &str) {
        for slot in self.slots.iter_mut().filter(|slot| slot.mid == mid) {
            slot.shows = None;
        }
    }

    /// Slots that show something.
    pub(crate) fn shown(&self) -> usize {
        self.slots.iter().filter(|slot| slot.shows.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> Value {
        json!({"participants": [{"id": "ann", "tracks": [{"id": "a1", "kind": "audio"}, {"id": "v1", "kind": "video"}]}]})
    }

    fn slot(mid: &str, is_video: bool) -> AnsweredSlot {
        AnsweredSlot { mid: mid.to_owned(), is_video, ssrc: 1, rtx_ssrc: None }
    }

    #[test]
    fn slots_are_filled_by_kind_and_once() {
        let mut room = Room::new(&joined(), 0);
        room.set_slots(&[slot("2", false), slot("3", true), slot("4", true)]);
        let told = room.fill().expect("something to show");
        assert_eq!(told, json!({"slots": [{"mid": "2", "track": "a1"}, {"mid": "3", "track": "v1"}]}));
        assert!(room.fill().is_none());
        let event = json!({"type": "track_published", "participant": "bob", "track": {"id": "v2", "kind": "video"}});
        assert!(room.hear(&event));
        assert_eq!(room.fill(), Some(json!({"slots": [{"mid": "4", "track": "v2"}]})));
        assert_eq!(room.shown(), 3);
    }

    #[test]
    fn a_room_that_is_resumed_is_taken_as_it_is() {
        let mut room = Room::new(&joined(), 0);
        room.set_slots(&[slot("2", false), slot("3", true)]);
        assert!(room.fill().is_some());
        let mut later = joined();
        later["slots"] = json!([{"mid": "3", "track": "v1"}, {"mid": "2", "track": null}]);
        room.refresh(&later);
        assert_eq!(room.shown(), 1);
        assert_eq!(room.fill(), Some(json!({"slots": [{"mid": "2", "track": "a1"}]})));
    }

    #[test]
    fn what_has_gone_leaves_its_slot() {
        let mut room = Room::new(&joined(), 5);
        room.set_slots(&[slot("2", false), slot("3", true)]);
        assert!(room.fill().is_some());
        assert!(room.hear(&json!({"type": "track_unpublished", "participant": "ann", "track": "v1"})));
        assert_eq!(room.shown(), 1);
        assert!(room.hear(&json!({"type": "participant_left", "participant": "ann", "reason": "left"})));
        assert_eq!(room.shown(), 0);
        assert!(!room.hear(&json!({"type": "transport", "state": "secured"})));
    }
}

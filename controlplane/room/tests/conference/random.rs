// SPDX-License-Identifier: Apache-2.0
//! Ten thousand random conferences: the books refuse what a data plane could not do, clients that only replay notices must
//! know the room, and a control plane that is killed must go on as if it had not been.

use std::collections::BTreeMap;
use std::time::Duration;

use controlplane_room::{
    Command, Conference, Departure, Direction, Found, FoundSubscription, Input, LeaveReason, Limits, MediaKind, Member,
    Outcome, Record, RecordKey, Renegotiation, RoomError, RoomKey, SlotWish, SubscriptionId, TrackId, TransportId,
};

use crate::model::{self, Bed, publish, watch};
use crate::participants::{slot, track};
use crate::replay::Client;

/// Conferences, and steps of each.
const SEEDS: u64 = 10_000;
const STEPS: u64 = 60;
/// Steps between two looks at everything.
const LOOK: u64 = 10;

/// 64 random bits from 64 random bits (Steele, Lea, Flood: SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).expect("small")).expect("small")
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).cloned()
    }
}

/// One conference, everybody in it, and what was kept of it.
struct World {
    bed: Bed,
    random: Random,
    clients: Vec<Client>,
    /// Everybody who ever joined: some are gone.
    members: Vec<Member>,
    records: BTreeMap<RecordKey, Record>,
    /// The conference as it was before the last restart, given the same since.
    shadow: Option<Shadow>,
    next_transport: u64,
    next_mid: u32,
}

/// A conference that was not killed, for comparison.
struct Shadow {
    conference: Conference,
    names: Names,
    own_names: Names,
}

/// Subscriptions by what does not depend on the process: transport and SSRC.
type Names = BTreeMap<SubscriptionId, u64>;

fn names(conference: &Conference) -> Names {
    let known = conference.known().subscriptions.into_iter();
    known.map(|((transport, ssrc), id)| (id, (transport.0 << 32) | u64::from(ssrc))).collect()
}

/// An outcome without what two processes number differently.
fn comparable(mut outcome: Outcome, names: &mut Names) -> Outcome {
    for command in &mut outcome.commands {
        match command {
            Command::AddSubscription { room, id, spec } => {
                names.insert(*id, (spec.transport.0 << 32) | u64::from(spec.ssrc));
                *room = RoomKey(0);
                *id = SubscriptionId(names[id]);
            }
            Command::SetSubscription { id, .. } | Command::RemoveSubscription { id, .. } => {
                *id = SubscriptionId(names[id]);
            }
            Command::AddTransport { room, .. } | Command::AddTrack { room, .. } => *room = RoomKey(0),
            Command::RemoveTransport { .. } | Command::RemoveTrack { .. } => {}
        }
    }
    // Orders within one input follow the ids.
    outcome.commands.sort_by_key(|command| format!("{command:?}"));
    outcome
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            rooms: 2,
            participants_per_room: 4,
            viewers_per_room: 3,
            tracks_per_participant: 3,
            slots_per_kind: 3,
            ..Limits::default()
        };
        Self {
            bed: Bed::new(limits),
            random: Random(seed),
            clients: Vec::new(),
            members: Vec::new(),
            records: BTreeMap::new(),
            shadow: None,
            next_transport: 1,
            next_mid: 100,
        }
    }

    /// Gives the conference an input, and what comes of it to everybody.
    fn feed(&mut self, input: Input) -> Result<Outcome, RoomError> {
        let is_compared = !matches!(input, Input::Tick);
        let shadow = self.shadow.as_mut().filter(|_| is_compared);
        let expected = shadow.map(|shadow| shadow.conference.handle(self.bed.now, input.clone()));
        let outcome = self.bed.feed(input);
        match (expected, &mut self.shadow) {
            (Some(expected), Some(shadow)) => {
                let expected = expected.map(|outcome| comparable(outcome, &mut shadow.names));
                let own = outcome.clone().map(|outcome| comparable(outcome, &mut shadow.own_names));
                assert_eq!(own, expected, "the restored conference goes on like the one that was not killed");
            }
            // Deadlines began anew at the restart, so what they end differs.
            _ => self.shadow = None,
        }
        let outcome = outcome?;
        self.clients.retain(|client| self.bed.conference.snapshot(&client.member).is_some());
        for client in &mut self.clients {
            client.take(&outcome);
        }
        for key in &outcome.changed {
            match self.bed.conference.record(key) {
                Some(record) => drop(self.records.insert(key.clone(), record)),
                None => drop(self.records.remove(key)),
            }
        }
        Ok(outcome)
    }

    fn transport(&mut self) -> TransportId {
        let known: Vec<_> = self.bed.books.transports.keys().copied().collect();
        self.random.pick(&known).unwrap_or(TransportId(0))
    }

    fn room(&mut self) -> &'static str {
        ["a", "b", "c"][self.random.below(3)]
    }

    fn step(&mut self) {
        let Some(member) = self.random.pick(&self.members) else { return self.join() };
        let (id, room, name) = (self.next_transport, self.room(), ["Ann", "Ben", "Cid"][self.random.below(3)]);
        let transport = self.transport();
        let input = match self.random.below(24) {
            0 | 1 => return self.join(),
            2 => {
                self.clients.retain(|client| client.member != member);
                Input::Away { member }
            }
            3 | 4 => return self.connect(&member),
            5..=7 => self.offer(member),
            8 => self.another_offer(member),
            9..=14 => self.wishes(member),
            15 => {
                let tracks = self.bed.conference.own_tracks(&member);
                let Some((_, track)) = self.random.pick(&tracks) else { return };
                Input::Mute { member, track, muted: self.random.below(2) == 0 }
            }
            16 if self.random.below(2) == 0 => Input::LeaveParticipant { member, reason: Departure::Left },
            17 => publish(room, name, id, u8::try_from(self.random.below(3)).expect("small")),
            18 => match watch(&self.bed.conference, room, None, id) {
                Ok(input) => input,
                Err(_) => return,
            },
            19 => Input::Leave { transport, reason: LeaveReason::Asked },
            20 => Input::Validated { transport },
            21 => Input::ConsentLost { transport },
            22 => Input::ConsentBack { transport },
            _ => {
                self.bed.now += Duration::from_secs(u64::try_from(self.random.below(20)).expect("small"));
                Input::Tick
            }
        };
        // What is refused changes nothing: the books and the clients prove it.
        let _ = self.feed(input);
        self.next_transport += 1;
    }

    fn join(&mut self) {
        let (room, name) = (self.room(), ["Ann", "Ben"][self.random.below(2)]);
        let input = Input::Join { room: room.parse().expect("a room"), name: name.parse().expect("a name") };
        if let Ok(outcome) = self.feed(input) {
            let member = outcome.member.expect("is somebody");
            self.clients.push(Client::new(&self.bed.conference, &member));
            self.members.push(member);
        }
    }

    fn connect(&mut self, member: &Member) {
        self.clients.retain(|client| client.member != *member);
        if self.feed(Input::Connected { member: member.clone() }).is_ok() {
            self.clients.push(Client::new(&self.bed.conference, member));
        }
    }

    fn kind(&mut self) -> MediaKind {
        if self.random.below(2) == 0 { MediaKind::Audio } else { MediaKind::Video }
    }

    fn offer(&mut self, member: Member) -> Input {
        let id = self.next_transport;
        let tracks = (0..self.random.below(4)).map(|nth| track(id, u8::try_from(nth).expect("small"))).collect();
        let slots =
            (0..self.random.below(5)).map(|nth| slot(u32::try_from(nth).expect("small"), self.kind())).collect();
        Input::Transport { member, spec: model::transport(id, Direction::Both), tracks, slots }
    }

    fn another_offer(&mut self, member: Member) -> Input {
        let transport = self.bed.conference.transport_of(&member).map_or(0, |id| id.0);
        let own = self.bed.conference.own_tracks(&member);
        let slots = self.bed.conference.slots(&member);
        let mut change = Renegotiation::default();
        self.next_mid += 1;
        match self.random.below(4) {
            0 => change.new_tracks.push(track(transport, u8::try_from(self.next_mid % 250).expect("small"))),
            1 => change.ended_tracks.extend(self.random.pick(&own).map(|(_, track)| track)),
            2 if self.random.below(3) == 0 => {
                // The mid of one that is or was there, with SSRCs of its own.
                let other = slot(self.next_mid, self.kind());
                let mid = self.random.pick(&slots).map_or_else(|| "0".to_owned(), |slot| slot.mid);
                change.new_slots.push(controlplane_room::Slot { mid, ..other });
            }
            2 => change.new_slots.push(slot(self.next_mid, self.kind())),
            _ => change.closed_slots.extend(self.random.pick(&slots).map(|slot| slot.mid)),
        }
        Input::Renegotiate { member, change }
    }

    fn wishes(&mut self, member: Member) -> Input {
        let slots = self.bed.conference.slots(&member);
        let mut tracks: Vec<TrackId> = self.bed.books.tracks.keys().copied().collect();
        tracks.push(TrackId([0xee; 16]));
        let count = self.random.below(4);
        let wishes = (0..count).map(|_| SlotWish {
            mid: self.random.pick(&slots).map_or_else(|| "none".to_owned(), |slot| slot.mid),
            track: self.random.pick(&tracks).filter(|_| self.random.below(4) > 0),
            max_height: [None, Some(100), Some(1000)][self.random.below(3)],
        });
        let wishes = wishes.collect();
        Input::Subscribe { member, wishes }
    }

    /// Looks at everything.
    fn look(&self) {
        for client in &self.clients {
            client.assert_knows(&self.bed.conference);
        }
        let conference = &self.bed.conference;
        assert_eq!(conference.transports(), self.bed.books.transports.len());
        for (key, record) in &self.records {
            assert_eq!(conference.record(key).as_ref(), Some(record), "what changed was said to have changed");
        }
        let keys: std::collections::BTreeSet<_> = conference.record_keys().into_iter().collect();
        assert!(self.records.keys().eq(keys.iter()), "all that has a record is recorded");
        let recorded: Vec<_> = self.records.values().filter_map(Record::transport).collect();
        assert_eq!(recorded.len(), self.bed.books.transports.len(), "every transport is in a record");
        for member in &self.members {
            let Some(transport) = conference.transport_of(member) else { continue };
            let of = |held: &&(TransportId, Option<TrackId>, u32)| held.0 == transport;
            let mut shown: Vec<_> =
                self.bed.books.subscriptions.values().filter(of).filter_map(|held| held.1).collect();
            let mut said: Vec<_> = conference.slots(member).iter().filter_map(|slot| slot.track).collect();
            shown.sort();
            said.sort();
            assert_eq!(said, shown, "slots show what the data plane delivers");
        }
    }

    /// What the data plane has, as the programmer would find it.
    fn found(&self, conference: &Conference) -> Found {
        let known = conference.known();
        let books = &self.bed.books;
        assert!(books.transports.keys().all(|id| known.transports.iter().any(|held| held.spec.id == *id)));
        assert!(books.tracks.iter().all(|(track, id)| known.tracks.get(track) == Some(id)));
        let found = books.subscriptions.values().map(|(transport, track, ssrc)| {
            let id = known.subscriptions[&(*transport, *ssrc)];
            (id, FoundSubscription { track: *track, max_encoding: None })
        });
        Found {
            transports: books.transports.keys().map(|id| (*id, true)).collect(),
            tracks: books.tracks.keys().copied().collect(),
            subscriptions: found.collect(),
        }
    }

    /// The control plane is killed and comes back.
    fn restart(&mut self) {
        // After a restart everybody is away since that moment.
        for member in self.members.clone() {
            let _ = self.feed(Input::Connected { member: member.clone() });
            let _ = self.feed(Input::Away { member });
        }
        for transport in self.bed.books.transports.keys().copied().collect::<Vec<_>>() {
            let _ = self.feed(Input::Validated { transport });
        }
        self.clients.clear();
        let records = self.records.values().cloned().collect();
        let mut restored = Conference::restore(self.bed.now, self.bed.limits, records);
        let outcome = restored.settle(&self.found(&restored));
        assert_eq!(outcome, Outcome::default(), "nothing is missing");
        let before = std::mem::replace(&mut self.bed.conference, restored);
        let after = &self.bed.conference;
        assert_eq!(before.rooms(), after.rooms());
        for member in &self.members {
            assert_eq!(before.snapshot(member), after.snapshot(member));
            assert_eq!(before.slots(member), after.slots(member));
            assert_eq!(before.own_tracks(member), after.own_tracks(member));
            assert_eq!(before.transport_of(member), after.transport_of(member));
        }
        let by_ssrc = self.bed.books.subscriptions.values().map(|held| {
            let id = after.known().subscriptions[&(held.0, held.2)];
            (id, *held)
        });
        self.bed.books.subscriptions = by_ssrc.collect();
        self.shadow = Some(Shadow { names: names(&before), own_names: names(after), conference: before });
    }
}

#[test]
fn ten_thousand_conferences_and_their_restarts() {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for step in 0..STEPS {
                world.step();
                if step % LOOK == LOOK - 1 {
                    world.look();
                    if world.random.below(3) == 0 {
                        world.restart();
                    }
                }
            }
            world.bed.now += Duration::from_secs(200);
            for transport in world.bed.books.transports.keys().copied().collect::<Vec<_>>() {
                let _ = world.feed(Input::ConsentLost { transport });
            }
            for member in world.members.clone() {
                let _ = world.feed(Input::Away { member });
            }
            world.bed.now += Duration::from_secs(200);
            world.feed(Input::Tick).expect("tick");
            assert!(world.bed.books.is_empty() && world.records.is_empty(), "silence clears the house");
            assert!(world.bed.conference.rooms().is_empty() && world.bed.conference.next_deadline().is_none());
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}

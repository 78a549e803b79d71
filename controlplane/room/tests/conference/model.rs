// SPDX-License-Identifier: Apache-2.0
//! A data plane that only keeps books: it refuses every command that a real one could not carry out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use controlplane_room::{
    Codec, CodecMap, Command, Conference, Direction, Encoding, Extensions, IceCredentials, Input, MediaKind, Outcome,
    Publish, RoomError, RoomKey, SubscriptionId, SubscriptionSpec, TrackId, TrackSpec, TransportId, TransportSpec,
    Watch,
};

/// What the commands have made so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub transports: BTreeMap<TransportId, RoomKey>,
    pub tracks: BTreeMap<TrackId, TransportId>,
    /// Receiver, what it gets, and the SSRC that it gets it with.
    pub subscriptions: BTreeMap<SubscriptionId, (TransportId, Option<TrackId>, u32)>,
    used: BTreeSet<TransportId>,
    spent: BTreeSet<(TransportId, u32)>,
}

impl Books {
    /// Enters the commands, in order.
    pub fn enter(&mut self, outcome: &Outcome) {
        for command in &outcome.commands {
            self.enter_one(command);
        }
    }

    pub fn enter_one(&mut self, command: &Command) {
        match command {
            Command::AddTransport { room, spec, .. } => {
                assert!(self.used.insert(spec.id), "a transport id is given once");
                self.transports.insert(spec.id, *room);
            }
            Command::RemoveTransport { transport } => {
                assert!(self.transports.remove(transport).is_some(), "an unknown transport is removed");
                assert!(self.tracks.values().all(|owner| owner != transport), "its tracks go first");
                assert!(
                    self.subscriptions.values().all(|(viewer, ..)| viewer != transport),
                    "its subscriptions go first"
                );
            }
            Command::AddTrack { room, spec } => {
                assert_eq!(self.transports.get(&spec.transport), Some(room), "a track's transport is in its room");
                assert!(self.tracks.insert(spec.id, spec.transport).is_none(), "a track id is given once");
            }
            Command::RemoveTrack { track, transport } => {
                assert_eq!(self.tracks.remove(track), Some(*transport), "a track is removed where it was added");
                assert!(
                    self.subscriptions.values().all(|(_, held, _)| *held != Some(*track)),
                    "its subscriptions go first"
                );
            }
            Command::AddSubscription { room, id, spec } => {
                assert_eq!(self.transports.get(&spec.transport), Some(room), "the viewer is in the room");
                assert!(self.spent.insert((spec.transport, spec.ssrc)), "an SSRC is given once on a transport");
                assert!(self.subscriptions.insert(*id, (spec.transport, None, spec.ssrc)).is_none());
                self.show(*id, spec.track);
            }
            Command::SetSubscription { id, transport, shown } => {
                let held = self.subscriptions.get_mut(id).expect("the subscription is there");
                assert_eq!(held.0, *transport);
                held.1 = None;
                if let Some(shown) = shown {
                    self.show(*id, shown.track);
                }
            }
            Command::RemoveSubscription { id, transport } => {
                let held = self.subscriptions.remove(id).expect("the subscription is there");
                assert_eq!(held.0, *transport);
            }
        }
    }

    fn show(&mut self, id: SubscriptionId, track: TrackId) {
        let (receiver, _, ssrc) = self.subscriptions[&id];
        let owner = self.tracks.get(&track).expect("the track is there");
        assert_eq!(self.transports.get(owner), self.transports.get(&receiver), "nothing is delivered across rooms");
        assert_ne!(*owner, receiver, "nobody sees itself");
        let mut shown = self.subscriptions.values().map(|held| (held.0, held.1));
        assert!(!shown.any(|held| held == (receiver, Some(track))), "a track is shown once");
        self.subscriptions.insert(id, (receiver, Some(track), ssrc));
    }

    pub fn is_empty(&self) -> bool {
        self.transports.is_empty() && self.tracks.is_empty() && self.subscriptions.is_empty()
    }
}

fn credentials() -> IceCredentials {
    IceCredentials { ufrag: "uuuu".into(), pwd: "p".repeat(22) }
}

pub fn transport(id: u64, direction: Direction) -> TransportSpec {
    TransportSpec {
        id: TransportId(id),
        direction,
        local: credentials(),
        remote: credentials(),
        participant: String::new(),
        rtcp_ssrc: 1,
        cname: "c".into(),
        transport_cc: false,
        rtcp_rsize: false,
    }
}

pub fn codecs(kind: MediaKind) -> Vec<CodecMap> {
    let (codec, clock_rate_hz) = match kind {
        MediaKind::Audio => (Codec::Opus, 48_000),
        MediaKind::Video => (Codec::Vp8, 90_000),
    };
    vec![CodecMap { codec, fmtp: String::new(), pt: 96, rtx_pt: None, clock_rate_hz }]
}

pub fn track(transport: u64, nth: u8) -> TrackSpec {
    let mut id = [nth; 16];
    id[..8].copy_from_slice(&transport.to_be_bytes());
    let kind = if nth.is_multiple_of(2) { MediaKind::Audio } else { MediaKind::Video };
    TrackSpec {
        id: TrackId(id),
        transport: TransportId(transport),
        mid: nth.to_string(),
        kind,
        codecs: codecs(kind),
        extensions: Extensions::default(),
        encodings: vec![Encoding::default()],
        nack: true,
        pli: true,
        fir: false,
    }
}

pub fn publish(room: &str, name: &str, id: u64, tracks: u8) -> Input {
    let name: controlplane_room::DisplayName = name.parse().expect("a name");
    Input::Publish(Publish {
        room: room.parse().expect("a room"),
        participant: name.participant_id(),
        name,
        transport: transport(id, Direction::Publisher),
        tracks: (0..tracks).map(|nth| track(id, nth)).collect(),
    })
}

/// Watches as the session core does: what is published is asked for first.
pub fn watch(conference: &Conference, room: &str, whom: Option<&str>, id: u64) -> Result<Input, RoomError> {
    let room: controlplane_room::RoomName = room.parse().expect("a room");
    let whom = whom.map(|text| text.parse().expect("an id"));
    let publication = conference.publication(&room, whom.as_ref())?;
    let subscriptions = publication.tracks.iter().zip(1..).map(|(track, ssrc)| SubscriptionSpec {
        track: track.id,
        transport: TransportId(id),
        mid: track.mid.clone(),
        kind: track.kind,
        ssrc,
        rtx_ssrc: None,
        codecs: track.codecs.clone(),
        extensions: Extensions::default(),
        nack: true,
        pli: true,
        max_encoding: None,
    });
    Ok(Input::Watch(Watch {
        room,
        publisher: publication.transport,
        transport: transport(id, Direction::Viewer),
        subscriptions: subscriptions.collect(),
    }))
}

/// A conference with its books.
#[derive(Debug)]
pub struct Bed {
    pub conference: Conference,
    pub limits: controlplane_room::Limits,
    pub books: Books,
    pub now: Instant,
}

impl Bed {
    pub fn new(limits: controlplane_room::Limits) -> Self {
        Self { conference: Conference::new(limits), limits, books: Books::default(), now: Instant::now() }
    }

    pub fn feed(&mut self, input: Input) -> Result<Outcome, RoomError> {
        let outcome = self.conference.handle(self.now, input)?;
        self.books.enter(&outcome);
        Ok(outcome)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The session core against real offers, a real DTLS peer, and a data plane that keeps books.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controlplane_dtls::{Association, FingerprintAlgorithm, KeyHalf};
use controlplane_room::{SubscriptionId, TrackId, TransportSpec};
use controlplane_signaling::{Accepted, Problem, ProblemKind, SdpText};
use tokio::sync::oneshot;

use super::*;
use crate::journal::Rotation;
use crate::plane::{SrtpKeys, TableFull};

const CHROMIUM: &str = include_str!("../../../sdp/testdata/chromium156-audio-video-default.sdp");
const SIMULCAST: &str = include_str!("../../../sdp/testdata/chromium156-vp8-simulcast.sdp");
const RECVONLY: &str = include_str!("../../../sdp/testdata/chromium156-recvonly-av.sdp");
const FFMPEG: &str = include_str!("../../../sdp/testdata/ffmpeg9-whip-offer.sdp");

/// What the fake data plane holds.
#[derive(Debug, Default)]
struct Books {
    transports: BTreeMap<TransportId, TransportSpec>,
    tracks: BTreeMap<TrackId, controlplane_room::TrackSpec>,
    subscriptions: BTreeMap<SubscriptionId, controlplane_room::SubscriptionSpec>,
    /// What each subscription delivers at the moment.
    shown: BTreeMap<SubscriptionId, Option<(TrackId, Option<u8>)>>,
    injected: VecDeque<(TransportId, Vec<u8>)>,
    keys: BTreeMap<TransportId, SrtpKeys>,
    events: VecDeque<PlaneEvent>,
    /// How many more adding commands fit.
    room_for: Option<usize>,
}

/// A data plane of books, shared with the test.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<Books>>);

impl Fake {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        // A second guard on one thread would wait for ever: a test that takes two must fail instead.
        self.0.try_lock().expect("one guard at a time")
    }
}

impl DataPlane for Fake {
    fn apply(&mut self, command: Command) -> Result<(), TableFull> {
        let mut books = self.books();
        let is_adding = matches!(
            command,
            Command::AddTransport { .. } | Command::AddTrack { .. } | Command::AddSubscription { .. }
        );
        if is_adding && let Some(left) = &mut books.room_for {
            *left = left.checked_sub(1).ok_or(TableFull { table: "test", capacity: 0 })?;
        }
        match command {
            Command::AddTransport { spec, .. } => drop(books.transports.insert(spec.id, spec)),
            Command::RemoveTransport { transport } => drop(books.transports.remove(&transport)),
            Command::AddTrack { spec, .. } => drop(books.tracks.insert(spec.id, spec)),
            Command::RemoveTrack { track, .. } => drop(books.tracks.remove(&track)),
            Command::AddSubscription { id, spec, .. } => {
                books.shown.insert(id, Some((spec.track, spec.max_encoding)));
                books.subscriptions.insert(id, spec);
            }
            Command::SetSubscription { id, shown, .. } => {
                let _ = books.shown.insert(id, shown.map(|shown| (shown.track, shown.max_encoding)));
            }
            Command::RemoveSubscription { id, .. } => {
                books.shown.remove(&id);
                books.subscriptions.remove(&id);
            }
        }
        Ok(())
    }

    fn inject(&mut self, transport: TransportId, datagram: &[u8]) {
        self.books().injected.push_back((transport, datagram.to_vec()));
    }

    fn install_keys(&mut self, transport: TransportId, keys: SrtpKeys) {
        self.books().keys.insert(transport, keys);
    }

    fn poll(&mut self) -> Option<PlaneEvent> {
        self.books().events.pop_front()
    }
}

/// A directory that goes with its test.
#[derive(Debug)]
struct Scratch(PathBuf);

/// A core with its fake, in a directory of its own.
struct Bed {
    core: Core<Fake>,
    plane: Fake,
    now: Instant,
    server: Identity,
    dir: Scratch,
    journal: Option<std::thread::JoinHandle<()>>,
}

impl Bed {
    fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let dir = std::env::temp_dir().join(format!("millrace-core-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let mut config = Config { media_address: vec![IpAddr::from([192, 0, 2, 1])], ..Config::default() };
        change(&mut config);
        let rotation = Rotation { dir: dir.join("journal"), max_len: 1 << 20, files: 2 };
        let (journal, thread) = Journal::start(rotation).expect("starts");
        let store = Store::open(&dir).expect("opens");
        let server = Identity::generate().expect("made");
        let plane = Fake::default();
        let core = Core::new(&config, plane.clone(), store, server.clone(), journal);
        Self { core, plane, now: Instant::now(), server, dir: Scratch(dir), journal: Some(thread) }
    }

    fn publish(&mut self, name: &str, offer: &str) -> Result<Accepted, Problem> {
        self.publish_from(name, offer, IpAddr::from([192, 0, 2, 9]))
    }

    fn publish_from(&mut self, name: &str, offer: &str, peer: IpAddr) -> Result<Accepted, Problem> {
        let (reply, mut answer) = oneshot::channel();
        let name = (!name.is_empty()).then(|| name.parse().expect("a name"));
        let offer = SdpText(offer.into());
        self.core.answer(self.now, Request::Publish { room: room(), name, offer, peer, reply });
        answer.try_recv().expect("answered")
    }

    fn watch(&mut self, whom: &str, offer: &str) -> Result<Accepted, Problem> {
        let (reply, mut answer) = oneshot::channel();
        let participant = (!whom.is_empty()).then(|| whom.parse().expect("an id"));
        let offer = SdpText(offer.into());
        let peer = IpAddr::from([192, 0, 2, 8]);
        self.core.answer(self.now, Request::Watch { room: room(), participant, offer, peer, reply });
        answer.try_recv().expect("answered")
    }

    fn leave(&mut self, room: &RoomName, resource: ResourceId) -> Result<(), Problem> {
        let (reply, mut answer) = oneshot::channel();
        self.core.answer(self.now, Request::Leave { room: room.clone(), resource, reply });
        answer.try_recv().expect("answered")
    }

    fn tell(&mut self, event: PlaneEvent) {
        self.plane.books().events.push_back(event);
        assert!(!self.core.follow(self.now, 16));
    }

    fn transport(&self, accepted: &Accepted) -> TransportId {
        self.core.transport_by_resource.get(&accepted.resource).copied().expect("is there")
    }

    /// Nothing is left anywhere.
    fn is_empty(&self) -> bool {
        let books = self.plane.books();
        books.transports.is_empty()
            && books.tracks.is_empty()
            && books.subscriptions.is_empty()
            && self.core.sessions.is_empty()
            && self.core.transport_by_resource.is_empty()
            && self.core.ufrags.is_empty()
            && self.core.pending_by_address.is_empty()
            && self.core.presences.is_empty()
            && self.core.member_by_connection.is_empty()
            && self.core.handshakes.len() == 0
            && self.core.conference.transports() == 0
            && self.core.next_deadline().is_none()
    }

    /// Ends the journal and reads it.
    fn journal(mut self) -> String {
        let thread = self.journal.take().expect("runs");
        drop(self.core);
        thread.join().expect("ends");
        std::fs::read_to_string(self.dir.0.join("journal/journal.jsonl")).expect("is there")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn room() -> RoomName {
    "demo".parse().expect("a room")
}

/// An offer whose certificate is `identity`'s.
fn offer_of(text: &str, identity: &Identity) -> String {
    let print = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, identity.parts().0);
    let line = |line: &str| match line.starts_with("a=fingerprint:") {
        true => format!("a=fingerprint:{print}\r\n"),
        false => format!("{line}\r\n"),
    };
    text.lines().map(line).collect()
}

/// What the peer of a handshake ends with.
type PeerKeys = Option<(KeyHalf, KeyHalf)>;

/// Carries datagrams between the core and a peer's association until both are silent.
fn shake(bed: &mut Bed, transport: TransportId, peer: &mut Association) -> PeerKeys {
    let mut keys = None;
    for _ in 0..200 {
        let mut is_silent = true;
        while let Some(event) = peer.poll(bed.now) {
            is_silent = false;
            match event {
                controlplane_dtls::Event::Transmit(bytes) => {
                    bed.tell(PlaneEvent::Punted { transport, at_ns: 0, generation: 1, bytes });
                }
                controlplane_dtls::Event::Connected { local, remote, .. } => keys = Some((local, remote)),
                controlplane_dtls::Event::Failed(_) => return keys,
            }
        }
        loop {
            let Some((to, datagram)) = bed.plane.books().injected.pop_front() else { break };
            assert_eq!(to, transport);
            is_silent = false;
            peer.receive(&datagram, bed.now);
        }
        if is_silent {
            break;
        }
    }
    keys
}

fn expect_same(server: &KeyHalf, peer: &KeyHalf) {
    assert!(!server.key.is_empty() && server.key == peer.key && server.salt == peer.salt);
}

#[test]
fn a_publisher_and_a_viewer_are_programmed_as_they_were_answered() {
    let mut bed = Bed::new("answers");
    let publisher = bed.publish("Ann", CHROMIUM).expect("accepted");
    assert_eq!(publisher.participant.as_str(), "ann");
    let answer = &publisher.answer.0;
    assert!(answer.contains("a=ice-lite") && answer.contains("192.0.2.1 10000") && answer.contains("a=setup:passive"));
    let viewer = bed.watch("ann", RECVONLY).expect("accepted");
    let watched = viewer.answer.0.clone();
    let (publisher, viewer) = (bed.transport(&publisher), bed.transport(&viewer));
    let books = bed.plane.books();
    let spec = &books.transports[&publisher];
    // RFC 8834 §4.9: what the answer names is what the data plane writes into RTCP, the publisher's.
    let names: Vec<&str> =
        watched.lines().filter_map(|line| line.split_once(" cname:")).map(|(_, name)| name).collect();
    assert!(!names.is_empty() && names.iter().all(|name| *name == spec.cname), "{names:?}, {}", spec.cname);
    assert!(CHROMIUM.contains(&format!("a=ice-ufrag:{}", spec.remote.ufrag)));
    assert!(answer.contains(&format!("a=ice-ufrag:{}", spec.local.ufrag)));
    assert!(answer.contains(&format!("a=ice-pwd:{}", spec.local.pwd)));
    assert_eq!((spec.participant.as_str(), books.transports[&viewer].participant.as_str()), ("ann", ""));
    assert_eq!((books.tracks.len(), books.subscriptions.len()), (2, 2));
    for subscription in books.subscriptions.values() {
        assert_eq!(subscription.transport, viewer);
        let track = &books.tracks[&subscription.track];
        assert_eq!((track.transport, track.kind), (publisher, subscription.kind));
        assert_eq!(track.codecs[0].codec, subscription.codecs[0].codec);
    }
    let rtcp = books.transports[&viewer].rtcp_ssrc;
    let mut ssrcs: Vec<u32> = books.subscriptions.values().map(|held| held.ssrc).collect();
    ssrcs.extend(books.subscriptions.values().filter_map(|held| held.rtx_ssrc));
    ssrcs.push(rtcp);
    let given = ssrcs.len();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), given, "CONTRACTS 3: no SSRC twice on a transport");
}

#[test]
fn a_simulcast_publisher_has_one_encoding_per_rid() {
    let mut bed = Bed::new("simulcast");
    bed.publish("Ann", SIMULCAST).expect("accepted");
    let books = bed.plane.books();
    let rids: Vec<Vec<_>> =
        books.tracks.values().map(|track| track.encodings.iter().map(|held| held.rid.clone()).collect()).collect();
    assert!(rids.iter().any(|rids| rids.len() == 3 && rids.iter().all(Option::is_some)), "{rids:?}");
}

#[test]
fn keys_are_installed_after_the_handshake_and_both_sides_have_the_same() {
    let mut bed = Bed::new("keys");
    let client = Identity::generate().expect("made");
    let accepted = bed.publish("Ann", &offer_of(CHROMIUM, &client)).expect("accepted");
    let transport = bed.transport(&accepted);
    assert_eq!(bed.core.handshakes.len(), 0, "no association before the first valid check");
    bed.tell(PlaneEvent::Validated { transport });
    assert_eq!(bed.core.handshakes.len(), 1);
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&client, Role::Client, vec![expected], bed.now);
    let (local, remote) = shake(&mut bed, transport, &mut peer).expect("connected");
    {
        let books = bed.plane.books();
        let keys = books.keys.get(&transport).expect("installed");
        expect_same(&keys.local, &remote);
        expect_same(&keys.remote, &local);
    }
    // CONTRACTS 11: ≤ 30 s after completion the association is gone; the session is not.
    bed.now += Duration::from_secs(31);
    bed.core.expire(bed.now);
    assert_eq!((bed.core.handshakes.len(), bed.core.sessions.len()), (0, 1));
    bed.tell(PlaneEvent::Punted { transport, at_ns: 0, generation: 1, bytes: vec![22; 100] });
    assert_eq!(bed.core.handshakes.len(), 0, "stale flights make no new association");
    bed.leave(&room(), accepted.resource).expect("leaves");
    assert!(bed.is_empty());
    let journal = bed.journal();
    for event in ["published", "joined", "secured", "left"] {
        assert!(journal.contains(&format!("\"event\":\"{event}\"")), "{event}: {journal}");
    }
    assert!(!journal.contains("192.0.2."), "no addresses: {journal}");
}

// RELIABILITY S10
#[test]
fn another_certificate_than_the_offers_installs_no_key_and_ends_the_session() {
    let mut bed = Bed::new("forged");
    let (client, thief) = (Identity::generate().expect("made"), Identity::generate().expect("made"));
    let accepted = bed.publish("Ann", &offer_of(CHROMIUM, &client)).expect("accepted");
    let transport = bed.transport(&accepted);
    bed.tell(PlaneEvent::Validated { transport });
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&thief, Role::Client, vec![expected], bed.now);
    shake(&mut bed, transport, &mut peer);
    assert!(bed.plane.books().keys.is_empty());
    assert!(bed.is_empty(), "the session is refused");
    let journal = bed.journal();
    assert!(journal.contains("handshake_failed"), "{journal}");
}

#[test]
fn an_offer_of_setup_passive_makes_us_the_client_and_we_speak_first() {
    let mut bed = Bed::new("client");
    let ffmpeg = Identity::generate().expect("made");
    let accepted = bed.publish("ffmpeg", &offer_of(FFMPEG, &ffmpeg)).expect("accepted");
    assert!(accepted.answer.0.contains("a=setup:active"));
    let transport = bed.transport(&accepted);
    bed.tell(PlaneEvent::Validated { transport });
    assert!(!bed.plane.books().injected.is_empty(), "the first flight goes at once");
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&ffmpeg, Role::Server, vec![expected], bed.now);
    shake(&mut bed, transport, &mut peer).expect("connected");
    assert!(bed.plane.books().keys.contains_key(&transport));
}

#[test]
fn a_lost_validated_event_is_made_up_by_the_first_datagram() {
    let mut bed = Bed::new("lost-event");
    let client = Identity::generate().expect("made");
    let accepted = bed.publish("Ann", &offer_of(CHROMIUM, &client)).expect("accepted");
    let transport = bed.transport(&accepted);
    let expected = Fingerprint::of_certificate(FingerprintAlgorithm::Sha256, bed.server.parts().0);
    let mut peer = Association::new(&client, Role::Client, vec![expected], bed.now);
    shake(&mut bed, transport, &mut peer).expect("connected");
    assert!(bed.plane.books().keys.contains_key(&transport));
}

#[test]
fn a_silent_peer_is_forgotten_after_30_s_and_its_address_is_free_again() {
    let mut bed = Bed::with("silent", |config| config.limits.pending_per_address = 3);
    let home = IpAddr::from([192, 0, 2, 9]);
    for name in ["a", "b", "c"] {
        bed.publish_from(name, CHROMIUM, home).expect("accepted");
    }
    let refused = bed.publish_from("d", CHROMIUM, home).expect_err("too many");
    assert_eq!(refused.kind, ProblemKind::TooManyPending);
    bed.publish_from("d", CHROMIUM, IpAddr::from([192, 0, 2, 10])).expect("another address");
    let first = *bed.core.sessions.keys().next().expect("is there");
    bed.tell(PlaneEvent::Validated { transport: first });
    bed.publish_from("e", CHROMIUM, home).expect("one was validated");
    bed.now += Duration::from_secs(30);
    bed.core.expire(bed.now);
    bed.tell(PlaneEvent::ConsentLost { transport: first });
    bed.now += Duration::from_secs(60);
    bed.core.expire(bed.now);
    assert!(bed.is_empty(), "{:?}", bed.core.sessions);
}

#[test]
fn a_full_table_takes_everything_back() {
    for room_for in 0..3 {
        let mut bed = Bed::new(&format!("full-{room_for}"));
        bed.plane.books().room_for = Some(room_for);
        let refused = bed.publish("Ann", CHROMIUM).expect_err("does not fit");
        assert_eq!(refused.kind, ProblemKind::Full);
        assert!(bed.is_empty(), "after {room_for} commands");
    }
}

#[test]
fn a_publisher_that_leaves_ends_its_viewers_subscriptions_only() {
    let mut bed = Bed::new("leaves");
    let publisher = bed.publish("Ann", CHROMIUM).expect("accepted");
    let viewer = bed.watch("", RECVONLY).expect("accepted");
    assert_eq!(viewer.participant.as_str(), "ann", "the viewer learns whom it watches");
    bed.leave(&room(), publisher.resource).expect("leaves");
    let left =
        (bed.plane.0.lock().map(|books| (books.subscriptions.len(), books.transports.len()))).expect("not poisoned");
    assert_eq!(left, (0, 1));
    assert_eq!(bed.watch("ann", RECVONLY).expect_err("gone").kind, ProblemKind::NotPublished);
    bed.leave(&room(), viewer.resource).expect("leaves");
    assert!(bed.is_empty());
}

#[test]
fn a_session_is_ended_by_its_id_in_its_room_once() {
    let mut bed = Bed::new("ended");
    let accepted = bed.publish("Ann", CHROMIUM).expect("accepted");
    let other: RoomName = "other".parse().expect("a room");
    assert!(bed.leave(&other, accepted.resource).is_err(), "another room");
    assert!(bed.leave(&room(), ResourceId([1; 16])).is_err(), "another session");
    bed.leave(&room(), accepted.resource).expect("leaves");
    assert_eq!(bed.leave(&room(), accepted.resource).expect_err("twice").kind, ProblemKind::ResourceUnknown);
}

#[test]
fn problems_name_the_field() {
    let mut bed = Bed::new("fields");
    bed.publish("Ann", CHROMIUM).expect("accepted");
    let field = |problem: Problem| (problem.kind, problem.field.unwrap_or_default());
    assert_eq!(field(bed.publish("ann", CHROMIUM).expect_err("taken")), (ProblemKind::NameTaken, "name".into()));
    assert_eq!(
        field(bed.watch("ben", RECVONLY).expect_err("absent")),
        (ProblemKind::NotPublished, "participant".into())
    );
    let no_pwd: String = CHROMIUM
        .lines()
        .filter(|line| !line.starts_with("a=ice-pwd"))
        .fold(String::new(), |text, line| text + line + "\r\n");
    let (kind, name) = field(bed.publish("Ben", &no_pwd).expect_err("bad"));
    assert!(kind == ProblemKind::BadOffer && name.contains("ice-pwd"), "{name}");
    assert_eq!(field(bed.publish("Ben", "hello").expect_err("bad")).0, ProblemKind::BadOffer);
    let journal_len = bed.core.sessions.len();
    assert_eq!(journal_len, 1, "what is refused leaves nothing");
}

#[test]
fn guests_without_a_name_get_different_ones() {
    let mut bed = Bed::new("guests");
    let one = bed.publish("", CHROMIUM).expect("accepted").participant;
    let two = bed.publish("", CHROMIUM).expect("accepted").participant;
    assert!(one != two && one.as_str().starts_with("guest-"), "{one} {two}");
}

#[test]
fn an_asker_that_has_gone_leaves_no_session_behind() {
    let mut bed = Bed::new("gone");
    let (reply, answer) = oneshot::channel();
    drop(answer);
    let (offer, peer) = (SdpText(CHROMIUM.into()), IpAddr::from([192, 0, 2, 9]));
    bed.core.answer(bed.now, Request::Publish { room: room(), name: None, offer, peer, reply });
    assert!(bed.is_empty());
}

#[test]
fn events_about_unknown_transports_are_ignored() {
    let mut bed = Bed::new("unknown");
    let transport = TransportId(77);
    for event in [
        PlaneEvent::Validated { transport },
        PlaneEvent::Punted { transport, at_ns: 0, generation: 9, bytes: vec![22; 50] },
        PlaneEvent::ConsentLost { transport },
        PlaneEvent::ConsentBack { transport },
        PlaneEvent::FirstMedia { transport },
        PlaneEvent::DataPlaneRestarted,
    ] {
        bed.tell(event);
    }
    assert!(bed.is_empty());
}

mod participants;

// SPDX-License-Identifier: Apache-2.0
//! What no command shows: that the books inside do not grow.

use super::*;
use crate::{Direction, IceCredentials, LeaveReason, Publish, Watch};

fn transport(id: u64, direction: Direction) -> TransportSpec {
    let credentials = || IceCredentials { ufrag: String::new(), pwd: String::new() };
    TransportSpec {
        id: TransportId(id),
        direction,
        local: credentials(),
        remote: credentials(),
        participant: String::new(),
        rtcp_ssrc: 1,
        cname: String::new(),
        transport_cc: false,
        rtcp_rsize: false,
    }
}

// RELIABILITY S17: what viewers come and go must not stay behind at a publisher that stays.
#[test]
fn a_publisher_forgets_the_viewers_that_leave() {
    let mut conference = Conference::new(Limits::default());
    let now = Instant::now();
    let room: RoomName = "demo".parse().expect("a room");
    let name: DisplayName = "Ann".parse().expect("a name");
    let publish = Publish {
        room: room.clone(),
        participant: name.participant_id(),
        name,
        transport: transport(1, Direction::Publisher),
        tracks: Vec::new(),
    };
    conference.handle(now, Input::Publish(publish)).expect("published");
    for id in 2..100 {
        let transport = transport(id, Direction::Viewer);
        let watch = Watch { room: room.clone(), publisher: TransportId(1), transport, subscriptions: Vec::new() };
        conference.handle(now, Input::Watch(watch)).expect("watches");
        let leave = Input::Leave { transport: TransportId(id), reason: LeaveReason::Asked };
        conference.handle(now, leave).expect("leaves");
    }
    let Role::Participant { viewers, .. } = &conference.sessions[&TransportId(1)].role else {
        panic!("is a participant")
    };
    assert!(viewers.is_empty(), "{viewers:?}");
    assert_eq!(conference.deadlines.len(), 1, "the publisher's own");
    assert!(conference.places.is_empty() && conference.receivers.is_empty() && conference.tracks.is_empty());
}

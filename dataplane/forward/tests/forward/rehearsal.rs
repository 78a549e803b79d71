// SPDX-License-Identifier: Apache-2.0
//! A worker that goes the way of a packet again in vain does nothing else differently.

use std::cell::RefCell;
use std::rc::Rc;

use dataplane_abi::drop_reason::DropReason;
use dataplane_srtp::Profile;

use crate::support::call::{Call, MS};

/// What a call with a loss was like: everything that was sent, and what was dropped.
fn told(profile: Profile, rehearsals: usize) -> (Vec<Vec<u8>>, u64, usize) {
    let mut call = Call::new(7, 2);
    call.profile = profile;
    let publisher = call.join(0);
    let tracks = [call.publish(publisher, false), call.publish(publisher, true)];
    for at in 0..3 {
        let who = call.join(at % 2);
        tracks.iter().for_each(|track| {
            call.subscribe(who, track);
        });
    }
    call.clients[publisher].loss = 10;
    let sent = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&sent);
    call.watch = Some(Box::new(move |packet| into.borrow_mut().push(packet.bytes.clone())));
    let mut gone = 0;
    for _ in 0..2000 {
        call.step();
        let now = call.bed.now;
        for (worker, port) in call.bed.workers.iter_mut().zip(&mut call.bed.ports) {
            gone += (0..rehearsals).map(|_| worker.rehearse(port, now)).sum::<usize>();
        }
    }
    call.drain();
    call.watch = None;
    assert!(call.bed.now.mono_ns > MS);
    let sent = Rc::into_inner(sent).unwrap().into_inner();
    (sent, call.bed.dropped(DropReason::SrtpAuth), gone)
}

#[test]
fn rehearsals_change_nothing_that_leaves_and_count_nothing() {
    for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80] {
        let (plain, _, none) = told(profile, 0);
        let (rehearsed, forged, gone) = told(profile, 2);
        assert_eq!((forged, none), (0, 0));
        // Worker 0 opens a forgery and seals for two receivers, worker 1 for one, twice in each turn after the start.
        assert!(gone > 2000 * 4, "{profile:?}: {gone}");
        assert!(plain.len() > 500, "{}", plain.len());
        assert_eq!(plain.len(), rehearsed.len());
        assert!(plain == rehearsed, "{profile:?}: the same bytes");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The call that the benches forward: one publisher, many receivers, real keys.

use dataplane_abi::limits::Capacities;
use dataplane_srtp::Profile;
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;

use crate::support::bed::Bed;
use crate::support::call::{Call, MS};
use crate::support::outgoing::{ids, seal};

/// One publisher and `receivers`, all of them watching.
pub(crate) fn call_of(profile: Profile, receivers: usize) -> Call {
    let slots = u32::try_from(receivers + 8).unwrap();
    let capacities = Capacities { workers: 1, transports: slots, subscriptions: slots, ..Capacities::SMALL };
    let mut call = Call::over(Bed::sized(1, capacities));
    call.profile = profile;
    let publisher = call.join(0);
    let track = call.publish(publisher, true);
    for _ in 0..receivers {
        let who = call.join(0);
        call.subscribe(who, &track);
    }
    call.run(300 * MS);
    call.clients[publisher].outgoing[0].is_paused = true;
    call.world.borrow_mut().clear();
    call
}

/// The next frame of the publisher, VP8, in `count` packets of `payload_len` bytes.
pub(crate) fn burst(call: &mut Call, payload_len: usize, count: usize) -> Vec<Vec<u8>> {
    let client = &mut call.clients[0];
    let stream = &mut client.outgoing[0];
    stream.picture_id = (stream.picture_id + 1) & 0x7fff;
    stream.tl0 = stream.tl0.wrapping_add(1);
    stream.rtp_ts = stream.rtp_ts.wrapping_add(3000);
    let mut packets = Vec::new();
    for at in 0..count {
        let [high, low] = (0x8000 | stream.picture_id).to_be_bytes();
        let mut payload = vec![if at == 0 { 0x90 } else { 0x80 }, 0xF0, high, low, stream.tl0, stream.keyidx, 0x11];
        payload.resize(payload_len, 0x5A);
        let header = HeaderWriter {
            marker: at + 1 == count,
            has_padding: false,
            pt: stream.pt,
            seq: seq::low16(stream.next),
            timestamp: stream.rtp_ts,
            ssrc: stream.ssrc,
        };
        let number = client.transport_seq.to_be_bytes();
        client.transport_seq = client.transport_seq.wrapping_add(1);
        let elements: [(u8, &[u8]); 3] =
            [(ids::MID, stream.mid.as_bytes()), (ids::ABS_SEND_TIME, &[1, 2, 3]), (ids::TRANSPORT_SEQ, &number)];
        packets.push(seal(&client.tx, stream.next, header, &elements, &payload));
        stream.next += 1;
    }
    packets
}

/// Leaves the cipher out from here on, or no longer, and says whether it is left out.
#[cfg(null_cipher)]
pub(crate) fn leave_out_cipher(is_out: bool) -> bool {
    dataplane_forward::leave_out_cipher(is_out);
    is_out
}

/// This build cannot leave the cipher out.
#[cfg(not(null_cipher))]
pub(crate) fn leave_out_cipher(_: bool) -> bool {
    false
}

// SPDX-License-Identifier: Apache-2.0
//! Answers the offers of one participant, to try a client by hand: reads offers from stdin, each ended by a line with
//! a single dot, and writes each answer the same way; offers after the first renegotiate. It must never be a server:
//! nobody listens where its answers point.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};

use controlplane_sdp::{
    Candidate, Negotiated, NewSlot, Offer, ParticipantError, Policy, ServerParams, SlotIdentity, Ssrc,
    answer_participant,
};

fn main() -> io::Result<()> {
    let mut previous: Option<Negotiated> = None;
    let mut next_ssrc = 1000;
    let mut offer = String::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line != "." {
            offer.push_str(&line);
            offer.push_str("\r\n");
            continue;
        }
        let text = match answer(&offer, &mut next_ssrc, &mut previous) {
            Ok(sdp) => sdp,
            Err(error) => format!("error: {error}\r\n"),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b".\r\n")?;
        out.flush()?;
        offer.clear();
    }
    Ok(())
}

fn answer(text: &str, next_ssrc: &mut u32, previous: &mut Option<Negotiated>) -> Result<String, ParticipantError> {
    let candidates = [Candidate::host(IpAddr::V4(Ipv4Addr::LOCALHOST), 9, 0)];
    let server = ServerParams {
        ice_ufrag: "exampleU",
        ice_pwd: "examplePasswordOf24Chars",
        fingerprint_sha256: [0xA5; 32],
        candidates: &candidates,
        session_id: 1,
        session_version: 1,
        takes_trickle: false,
    };
    let slot = |_: NewSlot<'_>| {
        *next_ssrc += 2;
        SlotIdentity { ssrc: Ssrc(*next_ssrc), rtx_ssrc: Ssrc(*next_ssrc + 1), cname: "example".to_owned() }
    };
    let answer = answer_participant(&Offer::parse(text)?, &server, &Policy::default(), slot, previous.as_ref())?;
    *previous = Some(answer.negotiated);
    Ok(answer.sdp)
}

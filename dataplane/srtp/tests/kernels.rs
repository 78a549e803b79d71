// SPDX-License-Identifier: Apache-2.0
//! Every implementation that this machine runs against the portable one, which is a library's: equal bytes for every
//! length and layout, nothing written beside them, and the same refusals.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use dataplane_srtp::backend::{self, Backend};
    use dataplane_srtp::{Profile, RxContext, Sealing, SrtpError, TxContext, protect_rtp_batch};

    use crate::packets::{Rng, SSRC, Shape, master, random_shape, seq_of};

    /// Payload lengths that are all tried: beyond the longest that fits an Ethernet frame.
    const LENGTHS: std::ops::RangeInclusive<usize> = 0..=1700;

    fn others() -> Vec<Backend> {
        let here: Vec<_> =
            Backend::ALL.into_iter().filter(|one| *one != Backend::Portable && one.is_available()).collect();
        if here.is_empty() {
            println!("SKIPPED: this processor has the instructions of no kernel");
        }
        here
    }

    /// Seals at an offset from a cache line, with guards around, from a source of exactly the rest's length.
    fn seal(tx: &TxContext, index: u64, plain: &[u8], head_len: usize, prefix: usize, offset: usize) -> Vec<u8> {
        let clear = head_len + prefix;
        let total = plain.len() + tx.profile().rtp_overhead();
        let mut memory = vec![0xee_u8; total + 192];
        let start = memory.as_ptr().align_offset(64) + offset;
        memory[start..start + clear].copy_from_slice(&plain[..clear]);
        let rest = plain[clear..].to_vec().into_boxed_slice();
        let out = &mut memory[start..start + total];
        assert_eq!(tx.protect_rtp(index, out, head_len, prefix, &*rest), Ok(total));
        assert!(memory[..start].iter().chain(&memory[start + total..]).all(|byte| *byte == 0xee));
        memory[start..start + total].to_vec()
    }

    fn check(here: Backend, profile: Profile, shape: &Shape, seed: u64, index: u64) {
        let key = master(profile, seed);
        let (tx, reference) = (TxContext::on(here, &key), TxContext::on(Backend::Portable, &key));
        let plain = shape.packet(SSRC, seq_of(index));
        let head_len = shape.head_len();
        let expected = seal(&reference, index, &plain, head_len, 0, 0);
        let mut rng = Rng(seed);
        let some = usize::try_from(rng.below(shape.payload.len() as u64 + 1)).unwrap();
        for prefix in [0, 1, 5, 16, 31, 32, 33, some] {
            let prefix = prefix.min(shape.payload.len());
            let offset = usize::try_from(rng.below(64)).unwrap();
            let sealed = seal(&tx, index, &plain, head_len, prefix, offset);
            assert!(sealed == expected, "{here:?} {profile:?} payload {} prefix {prefix}", shape.payload.len());
        }
        let rx = RxContext::on(here, &key);
        let mut out = vec![0xee; shape.payload.len() + 64];
        let opened = rx.unprotect_rtp(&expected, index, &mut out).unwrap();
        assert_eq!(out[..opened.payload_len], shape.payload);
        assert!(out[opened.payload_len..].iter().all(|byte| *byte == 0xee));
        let mut forged = expected;
        let at = head_len + usize::try_from(rng.below((forged.len() - head_len) as u64)).unwrap();
        forged[at] ^= 1 << rng.below(8);
        out.fill(0xee);
        assert_eq!(rx.unprotect_rtp(&forged, index, &mut out), Err(SrtpError::AuthFailed));
        let len = shape.payload.len();
        assert!(len < 8 || out[..len].windows(8).zip(shape.payload.windows(8)).all(|(out, plain)| out != plain));
    }

    #[test]
    fn every_length_seals_and_opens_as_the_library_does() {
        for here in others() {
            for profile in Profile::ALL {
                for len in LENGTHS {
                    let mut rng = Rng(len as u64 + 1);
                    let shape = Shape { payload: rng.bytes(len), ..Shape::plain(0) };
                    check(here, profile, &shape, 1 + len as u64 % 7, rng.next() >> 16);
                }
            }
        }
    }

    #[test]
    fn every_header_length_seals_and_opens_as_the_library_does() {
        for here in others() {
            for profile in Profile::ALL {
                for words in 0..=75 {
                    for (csrcs, len) in [(0, 160), (15, 1), (3, 1201)] {
                        let mut rng = Rng(words as u64 + 1);
                        let extension = (words > 0).then(|| (0xbede, rng.bytes(4 * (words - 1))));
                        let shape = Shape { csrcs, extension, payload: rng.bytes(len) };
                        check(here, profile, &shape, 3, rng.next() >> 16);
                    }
                }
            }
        }
    }

    #[test]
    fn random_layouts_and_long_packets_seal_and_open_as_the_library_does() {
        let mut rng = Rng(99);
        for here in others() {
            for profile in Profile::ALL {
                for round in 0..200 {
                    check(here, profile, &random_shape(&mut rng), round + 1, rng.next() >> 16);
                }
                for len in [2000, 4095, 4096, 4097, 10_000, 65_000, 65_507] {
                    let shape = Shape { payload: rng.bytes(len), ..Shape::plain(0) };
                    check(here, profile, &shape, 5, rng.next() >> 16);
                }
            }
        }
    }

    #[test]
    fn rtcp_is_the_librarys_for_every_length() {
        let mut rng = Rng(7);
        for here in others() {
            for profile in Profile::ALL {
                let key = master(profile, 11);
                let (tx, reference) = (TxContext::on(here, &key), TxContext::on(Backend::Portable, &key));
                let rx = RxContext::on(here, &key);
                for words in 0..370_u16 {
                    let mut plain = [&[0x80, 204][..], &(words + 1).to_be_bytes(), &SSRC.to_be_bytes()].concat();
                    plain.extend(rng.bytes(usize::from(words) * 4));
                    let mut sealed = [vec![0xee; 1600], vec![0xee; 1600]];
                    let index = u32::try_from(rng.below(1 << 31)).unwrap();
                    for (out, tx) in sealed.iter_mut().zip([&tx, &reference]) {
                        let len = tx.protect_rtcp(index, &plain, out).unwrap();
                        assert!(out[len..].iter().all(|byte| *byte == 0xee));
                        out.truncate(len);
                    }
                    let [ours, theirs] = sealed;
                    assert!(ours == theirs, "{here:?} {profile:?} {words}");
                    let mut back = vec![0xee; plain.len()];
                    assert_eq!(rx.unprotect_rtcp(&theirs, &mut back).unwrap().index, index);
                    assert_eq!(back, plain);
                }
            }
        }
    }

    #[test]
    fn a_full_batch_is_the_librarys_packets_for_every_length_and_layout() {
        let mut rng = Rng(5);
        for here in others() {
            for profile in Profile::ALL {
                let keys: Vec<_> = (0..16).map(|seed| master(profile, seed)).collect();
                let contexts: Vec<_> = keys.iter().map(|key| TxContext::on(here, key)).collect();
                let references: Vec<_> = keys.iter().map(|key| TxContext::on(Backend::Portable, key)).collect();
                for len in LENGTHS {
                    let words = usize::try_from(rng.below(6)).unwrap();
                    let extension = (words > 0).then(|| (0xbede, rng.bytes(4 * (words - 1))));
                    let shape = Shape { csrcs: 0, extension, payload: rng.bytes(len) };
                    let prefix = len.min(usize::try_from(rng.below(40)).unwrap());
                    let clear = shape.head_len() + prefix;
                    let index = 4711 | rng.below(1 << 20) << 16;
                    let plain = shape.packet(SSRC, seq_of(index));
                    let mut frames = vec![vec![0xee; plain.len() + 32]; 16];
                    frames.iter_mut().for_each(|frame| frame[..clear].copy_from_slice(&plain[..clear]));
                    let index_of = |lane: usize| index + ((lane as u64) << 16);
                    let mut batch: Vec<_> = (0..16)
                        .zip(&mut frames)
                        .map(|(lane, frame)| {
                            let lens = (shape.head_len(), prefix);
                            Sealing::new(&contexts[lane], index_of(lane), frame, lens, &plain[clear..])
                        })
                        .collect();
                    protect_rtp_batch(&mut batch);
                    let sealed: Vec<_> = batch.iter().map(|packet| packet.sealed).collect();
                    for (lane, frame) in frames.iter().enumerate() {
                        let expected = seal(&references[lane], index_of(lane), &plain, shape.head_len(), 0, 0);
                        assert_eq!(sealed[lane], Ok(expected.len()));
                        assert!(frame[..expected.len()] == expected, "{here:?} {profile:?} {len} lane {lane}");
                        assert!(frame[expected.len()..].iter().all(|byte| *byte == 0xee));
                    }
                }
            }
        }
    }

    /// Packets of up to three profiles, whose lengths lie within three blocks of SHA-1, each with a payload of its own.
    #[test]
    fn a_batch_of_any_packets_is_the_librarys_packets() {
        let mut rng = Rng(77);
        let below = |rng: &mut Rng, bound: u64| usize::try_from(rng.below(bound)).unwrap();
        for here in others() {
            for round in 0..1500 {
                let count = 1 + below(&mut rng, 40);
                let (shortest, profiles) = (below(&mut rng, 1300), 1 + below(&mut rng, 3));
                let packets: Vec<_> = (0..count)
                    .map(|at| {
                        let profile = Profile::ALL[2 - below(&mut rng, profiles as u64)];
                        let len = shortest + below(&mut rng, 150);
                        let shape = Shape { payload: rng.bytes(len), ..Shape::plain(0) };
                        let (key, index) = (master(profile, at as u64), rng.below(1 << 48));
                        (key, index, shape.packet(SSRC, seq_of(index)), shape.head_len(), len.min(below(&mut rng, 20)))
                    })
                    .collect();
                let contexts: Vec<_> = packets.iter().map(|(key, ..)| TxContext::on(here, key)).collect();
                let mut frames = vec![vec![0xee; 1600]; count];
                let mut batch: Vec<_> = packets
                    .iter()
                    .zip(contexts.iter().zip(&mut frames))
                    .map(|((_, index, plain, head_len, prefix), (context, frame))| {
                        let (start, rest) = plain.split_at(head_len + prefix);
                        frame[..start.len()].copy_from_slice(start);
                        Sealing::new(context, *index, frame, (*head_len, *prefix), rest)
                    })
                    .collect();
                protect_rtp_batch(&mut batch);
                let sealed: Vec<_> = batch.iter().map(|packet| packet.sealed).collect();
                for (at, (key, index, plain, head_len, _)) in packets.iter().enumerate() {
                    let reference = TxContext::on(Backend::Portable, key);
                    let expected = seal(&reference, *index, plain, *head_len, 0, 0);
                    assert_eq!(sealed[at], Ok(expected.len()));
                    assert!(frames[at][..expected.len()] == expected, "{here:?} round {round} packet {at} of {count}");
                    assert!(frames[at][expected.len()..].iter().all(|byte| *byte == 0xee));
                }
            }
        }
    }

    #[test]
    fn the_best_that_runs_is_chosen_and_says_its_name() {
        let best = Backend::ALL.into_iter().find(|one| one.is_available()).unwrap();
        assert_eq!(backend::chosen(), best);
        assert!(Backend::Portable.is_available());
        for here in Backend::ALL {
            let context = TxContext::on(here, &master(Profile::AeadAes128Gcm, 1));
            let runs = if here.is_available() { here } else { Backend::Portable };
            assert_eq!(context.backend_name(), runs.name());
        }
        let names: std::collections::BTreeSet<_> = Backend::ALL.iter().map(|one| one.name()).collect();
        assert_eq!(names.len(), Backend::ALL.len());
    }
}

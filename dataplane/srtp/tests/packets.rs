// SPDX-License-Identifier: Apache-2.0
//! Single packets: keys, layouts, bounds, and arbitrary bytes.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use dataplane_srtp::{
        Direct, KeyError, MAX_PACKET_LEN, MAX_RTCP_INDEX, MAX_RTP_INDEX, MasterKey, Plaintext, Profile, RtpOpened,
        RxContext, Sealing, SrtpError, TxContext, backend, protect_rtp_batch, split_exporter,
    };
    use proptest::prelude::*;

    use crate::packets::{Cells, SSRC, Shape, key_bytes, master, open, seal, seal_rtcp, seq_of};

    fn contexts(profile: Profile) -> (TxContext, RxContext) {
        let key = master(profile, 5);
        (TxContext::new(&key), RxContext::new(&key))
    }

    fn receiver_report() -> Vec<u8> {
        [&[0x80, 201, 0, 1][..], &SSRC.to_be_bytes()].concat()
    }

    // RFC 5764 §4.1.2, RFC 7714 §14.2
    #[test]
    fn profiles_carry_the_numbers_of_the_registry() {
        for (profile, code, lens) in [
            (Profile::AeadAes128Gcm, 0x0007, [16, 12, 16, 20, 56]),
            (Profile::AeadAes256Gcm, 0x0008, [32, 12, 16, 20, 88]),
            (Profile::AesCm128HmacSha1_80, 0x0001, [16, 14, 10, 14, 60]),
        ] {
            assert_eq!(Profile::from_iana(code), Some(profile));
            assert_eq!(profile.iana(), code);
            let got = [
                profile.key_len(),
                profile.salt_len(),
                profile.rtp_overhead(),
                profile.rtcp_overhead(),
                profile.exporter_len(),
            ];
            assert_eq!(got, lens);
        }
        assert_eq!((0..=u16::MAX).filter_map(Profile::from_iana).count(), 3);
    }

    // RFC 5764 §4.2
    #[test]
    fn the_exporter_output_is_split_into_client_and_server() {
        for profile in Profile::ALL {
            let (client_key, client_salt) = key_bytes(profile, 1);
            let (server_key, server_salt) = key_bytes(profile, 99);
            let material = [&client_key[..], &server_key, &client_salt, &server_salt].concat();
            let (client, server) = split_exporter(profile, &material).unwrap();
            assert_eq!((client.key(), client.salt()), (&client_key[..], &client_salt[..]));
            assert_eq!((server.key(), server.salt()), (&server_key[..], &server_salt[..]));
            assert_eq!(client.profile(), profile);
            for len in 0..material.len() {
                let error = KeyError::ExporterLength { got: len, want: material.len() };
                assert_eq!(split_exporter(profile, &material[..len]).unwrap_err(), error);
            }
        }
    }

    #[test]
    fn key_material_of_another_length_is_refused() {
        for profile in Profile::ALL {
            let (key, salt) = ([7; 64], [9; 64]);
            for len in (0..64).filter(|len| *len != profile.key_len()) {
                let error = KeyError::KeyLength { got: len, want: profile.key_len() };
                assert_eq!(MasterKey::new(profile, &key[..len], &salt[..profile.salt_len()]).unwrap_err(), error);
            }
            for len in (0..64).filter(|len| *len != profile.salt_len()) {
                let error = KeyError::SaltLength { got: len, want: profile.salt_len() };
                assert_eq!(MasterKey::new(profile, &key[..profile.key_len()], &salt[..len]).unwrap_err(), error);
            }
        }
    }

    // S23
    #[test]
    fn debug_prints_no_key_byte() {
        for profile in Profile::ALL {
            let key = MasterKey::new(profile, &vec![0xa5; profile.key_len()], &vec![0xa5; profile.salt_len()]).unwrap();
            for text in [
                format!("{key:?} {key:#?}"),
                format!("{:?}", TxContext::new(&key)),
                format!("{:?}", RxContext::new(&key)),
            ] {
                assert!(!text.contains("165") && !text.to_lowercase().contains("a5"), "{text}");
            }
        }
    }

    #[test]
    fn the_backend_tells_its_name() {
        let (tx, rx) = contexts(Profile::AeadAes128Gcm);
        assert_eq!(tx.backend_name(), backend::chosen().name());
        assert_eq!(rx.backend_name(), backend::chosen().name());
    }

    #[test]
    fn prefix_and_shared_rest_give_the_same_packet_wherever_the_cut_is() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let shape = Shape {
                csrcs: 2,
                extension: Some((0xbede, vec![0x10, 1, 0, 0, 0x21, 7, 8, 9])),
                payload: (0..100).collect(),
            };
            let plain = shape.packet(SSRC, 7);
            let whole = seal(&tx, 7, &plain, shape.head_len(), 0).unwrap();
            for prefix in 0..=100 {
                assert_eq!(seal(&tx, 7, &plain, shape.head_len(), prefix).unwrap(), whole);
            }
            assert_eq!(whole[..shape.head_len()], plain[..shape.head_len()]);
            let (opened, payload) = open(&rx, &whole, 7).unwrap();
            assert_eq!(opened, RtpOpened { header_len: shape.head_len(), payload_len: 100 });
            assert_eq!(payload, shape.payload);
        }
    }

    #[test]
    fn bytes_behind_the_sealed_packet_and_the_payload_stay_as_they_are() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let plain = Shape::plain(33).packet(SSRC, 1);
            let mut out = [0xee; 200];
            out[..12].copy_from_slice(&plain[..12]);
            let len = tx.protect_rtp(1, &mut out, 12, 0, &plain[12..]).unwrap();
            assert_eq!(len, 45 + profile.rtp_overhead());
            assert!(out[len..].iter().all(|byte| *byte == 0xee));
            let mut payload = [0xee; 200];
            rx.unprotect_rtp(&out[..len], 1, &mut payload).unwrap();
            assert!(payload[33..].iter().all(|byte| *byte == 0xee));
            let mut out = [0xee; 200];
            let len = tx.protect_rtcp(1, &receiver_report(), &mut out).unwrap();
            assert!(out[len..].iter().all(|byte| *byte == 0xee));
        }
    }

    // RFC 3711 §3.3.1, §3.4, §9.2; S8
    #[test]
    fn indices_stop_hard_at_their_end() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let plain = Shape::plain(10).packet(SSRC, 0xffff);
            let last = seal(&tx, MAX_RTP_INDEX, &plain, 12, 0).unwrap();
            assert!(open(&rx, &last, MAX_RTP_INDEX).is_ok());
            for index in [MAX_RTP_INDEX + 0x1_0000, u64::MAX] {
                assert_eq!(seal(&tx, index, &plain, 12, 0), Err(SrtpError::Exhausted));
                assert_eq!(open(&rx, &last, index).unwrap_err(), SrtpError::Exhausted);
            }
            let mut out = [0; 100];
            let len = tx.protect_rtcp(MAX_RTCP_INDEX, &receiver_report(), &mut out).unwrap();
            let opened = rx.unprotect_rtcp(&out[..len], &mut [0; 100]).unwrap();
            assert_eq!((opened.index, opened.len), (MAX_RTCP_INDEX, 8));
            for index in [MAX_RTCP_INDEX + 1, u32::MAX] {
                assert_eq!(tx.protect_rtcp(index, &receiver_report(), &mut out), Err(SrtpError::Exhausted));
            }
        }
    }

    #[test]
    fn sealing_refuses_what_does_not_fit_together() {
        let (tx, _) = contexts(Profile::AeadAes128Gcm);
        let plain = Shape::plain(20).packet(SSRC, 9);
        let with = |index: u64, len: usize, head_len: usize, prefix_len: usize, rest: &[u8]| {
            let mut out = vec![0; len];
            let held = len.min(plain.len());
            out[..held].copy_from_slice(&plain[..held]);
            tx.protect_rtp(index, &mut out, head_len, prefix_len, rest)
        };
        assert_eq!(with(9, 48, 12, 0, &plain[12..]), Ok(48));
        assert_eq!(with(9, 47, 12, 0, &plain[12..]), Err(SrtpError::NoRoom));
        assert_eq!(with(9, 0, 12, 0, &plain[12..]), Err(SrtpError::NoRoom));
        assert_eq!(with(10, 48, 12, 0, &plain[12..]), Err(SrtpError::IndexMismatch));
        assert_eq!(with(9 | 1 << 16, 48, 12, 0, &plain[12..]), Ok(48));
        assert_eq!(with(9, 48, 11, 0, &plain[12..]), Err(SrtpError::TooShort));
        assert_eq!(with(9, 48, 13, 0, &plain[13..]), Err(SrtpError::BadHeader));
        assert_eq!(with(9, 48, usize::MAX, 1, &plain[12..]), Err(SrtpError::TooLong));
        assert_eq!(with(9, 48, 12, usize::MAX - 20, &plain[12..]), Err(SrtpError::TooLong));
        assert_eq!(with(9, 70_000, 12, 0, &vec![0; MAX_PACKET_LEN - 28]), Ok(MAX_PACKET_LEN));
        assert_eq!(with(9, 70_000, 12, 0, &vec![0; MAX_PACKET_LEN - 27]), Err(SrtpError::TooLong));
        let mut old = plain.clone();
        old[0] = 0x40;
        old.resize(60, 0);
        assert_eq!(tx.protect_rtp(9, &mut old, 12, 0, &plain[12..]), Err(SrtpError::BadHeader));

        let mut out = [0; 100];
        for len in 0..8 {
            assert_eq!(tx.protect_rtcp(1, &receiver_report()[..len], &mut out), Err(SrtpError::TooShort));
        }
        assert_eq!(tx.protect_rtcp(1, &[0; 8], &mut out), Err(SrtpError::BadHeader));
        assert_eq!(tx.protect_rtcp(1, &receiver_report(), &mut out[..27]), Err(SrtpError::NoRoom));
        assert_eq!(tx.protect_rtcp(1, &vec![0x80; 70_000], &mut out), Err(SrtpError::TooLong));
    }

    // S1: AST-2017-008, webrtc-srtp's `decrypt_rtcp`.
    #[test]
    fn every_length_below_the_minimum_is_an_error_value() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let rtp = seal(&tx, 3, &Shape::plain(0).packet(SSRC, 3), 12, 0).unwrap();
            assert_eq!(rtp.len(), 12 + profile.rtp_overhead());
            assert_eq!(open(&rx, &rtp, 3).unwrap().1, []);
            for len in 0..rtp.len() {
                assert_eq!(open(&rx, &rtp[..len], 3).unwrap_err(), SrtpError::TooShort);
            }
            let rtcp = seal_rtcp(&tx, 3, &receiver_report());
            for len in 0..rtcp.len() {
                assert_eq!(rx.unprotect_rtcp(&rtcp[..len], &mut [0; 100]), Err(SrtpError::TooShort));
            }
            assert_eq!(rx.unprotect_rtp(&vec![0x80; 65_536], 0, &mut vec![0; 70_000]), Err(SrtpError::TooLong));
            assert_eq!(rx.unprotect_rtcp(&vec![0x80; 65_536], &mut vec![0; 70_000]), Err(SrtpError::TooLong));
            let mut none = [0; 7];
            assert_eq!(rx.unprotect_rtcp(&rtcp, &mut none), Err(SrtpError::NoRoom));
        }
    }

    // S1: the datagrams on which webrtc-srtp's `decrypt_rtp` panics, and their kin.
    #[test]
    fn csrc_lists_and_extensions_beyond_the_packet_are_bad_headers() {
        for profile in Profile::ALL {
            let (_, rx) = contexts(profile);
            let room = |first: u8, extension_words: u8, len: usize| {
                let mut packet = vec![first, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, extension_words];
                packet.resize(len + profile.rtp_overhead(), 0x1f);
                rx.unprotect_rtp(&packet, 1, &mut [0; 500])
            };
            assert_eq!(room(0x8f, 0, 71), Err(SrtpError::BadHeader));
            assert_eq!(room(0x8f, 0, 72), Err(SrtpError::AuthFailed));
            assert_eq!(room(0x90, 1, 15), Err(SrtpError::BadHeader));
            assert_eq!(room(0x90, 1, 19), Err(SrtpError::BadHeader));
            assert_eq!(room(0x90, 1, 20), Err(SrtpError::AuthFailed));
            assert_eq!(room(0x50, 1, 20), Err(SrtpError::BadHeader));
        }
    }

    #[test]
    fn a_flip_of_any_bit_fails_and_writes_no_plaintext() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let rtp = seal(&tx, 3, &Shape::plain(24).packet(SSRC, 3), 12, 0).unwrap();
            let sealed_rtcp = seal_rtcp(&tx, 3, &[receiver_report(), vec![0xab; 24]].concat());
            for bit in 0..rtp.len() * 8 {
                let mut bad = rtp.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let mut out = [0xee; 24];
                let index = u64::from(u16::from_be_bytes([bad[2], bad[3]]));
                assert!(rx.unprotect_rtp(&bad, index, &mut out).is_err());
                assert!(out.iter().all(|byte| *byte != 0xab), "plaintext before the tag verified");
            }
            for bit in 0..sealed_rtcp.len() * 8 {
                let mut bad = sealed_rtcp.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let mut out = [0xee; 32];
                let error = rx.unprotect_rtcp(&bad, &mut out).unwrap_err();
                assert!(out.iter().all(|byte| *byte != 0xab), "plaintext before the tag verified");
                let word_at = if profile == Profile::AesCm128HmacSha1_80 { 14 } else { 4 };
                if bit == (sealed_rtcp.len() - word_at) * 8 + 7 {
                    assert_eq!(error, SrtpError::Unencrypted);
                    assert_eq!(out, [0xee; 32]);
                }
            }
        }
    }

    #[test]
    fn another_index_or_another_key_fails() {
        for profile in Profile::ALL {
            let (tx, rx) = contexts(profile);
            let rtp = seal(&tx, 3 | 5 << 16, &Shape::plain(24).packet(SSRC, 3), 12, 0).unwrap();
            assert!(open(&rx, &rtp, 3 | 5 << 16).is_ok());
            for roc in [0, 4, 6, 0xffff_ffff] {
                assert_eq!(open(&rx, &rtp, 3 | roc << 16).unwrap_err(), SrtpError::AuthFailed);
            }
            assert_eq!(open(&rx, &rtp, 4 | 5 << 16).unwrap_err(), SrtpError::IndexMismatch);
            let other = RxContext::new(&master(profile, 6));
            assert_eq!(open(&other, &rtp, 3 | 5 << 16).unwrap_err(), SrtpError::AuthFailed);
        }
    }

    /// A source whose bytes are no slice, and one that tells another length each time.
    struct Foreign(Vec<u8>);

    impl Plaintext for Foreign {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn copy_to(&self, dst: &mut [u8]) {
            for (to, from) in dst.iter_mut().zip(&self.0) {
                *to = *from;
            }
        }
    }

    #[test]
    fn a_source_that_is_no_slice_gives_the_same_packet() {
        for profile in Profile::ALL {
            let (tx, _) = contexts(profile);
            let plain = Shape::plain(50).packet(SSRC, 3);
            let mut out = vec![0; 100];
            out[..20].copy_from_slice(&plain[..20]);
            let len = tx.protect_rtp(3, &mut out, 12, 8, Foreign(plain[20..].to_vec())).unwrap();
            assert_eq!(out[..len], seal(&tx, 3, &plain, 12, 0).unwrap());
        }
    }

    #[test]
    fn a_batch_is_the_same_as_its_packets_one_by_one_and_one_failure_is_its_own() {
        let rest: Vec<u8> = (0..=255).cycle().take(1133).collect();
        let contexts: Vec<_> =
            (0..20).map(|seed| TxContext::new(&master(Profile::ALL[usize::from(seed > 0) * 2], seed))).collect();
        let plain = Shape::plain(4).packet(SSRC, 9);
        let mut frames = vec![vec![0xee; 1500]; 20];
        for frame in &mut frames {
            frame[..16].copy_from_slice(&plain);
        }
        let room = |at: usize| if at == 3 { 100 } else { 1500 };
        let index = |at: u64| 9 | at << 16;
        let mut batch: Vec<_> = (0u64..)
            .zip(contexts.iter().zip(&mut frames))
            .map(|(at, (context, frame))| {
                let out = frame.get_mut(..room(usize::try_from(at).unwrap())).unwrap();
                Sealing::new(context, index(at), out, (12, 4), &rest[..])
            })
            .collect();
        protect_rtp_batch(&mut batch);
        for (at, packet) in batch.iter().enumerate() {
            let mut single = vec![0xee; 1500];
            single[..16].copy_from_slice(&plain);
            let out = single.get_mut(..room(at)).unwrap();
            let sealed = contexts[at].protect_rtp(index(at as u64), out, 12, 4, &rest[..]);
            assert_eq!(packet.sealed, sealed);
            assert_eq!(sealed.is_ok(), at != 3);
            if sealed.is_ok() {
                assert_eq!(packet.out, &single[..], "packet {at}");
            }
        }
    }

    #[test]
    fn a_slice_copies_the_common_prefix_only() {
        let (source, mut longer, mut shorter) = (&[1u8, 2, 3][..], [9; 5], [9; 2]);
        source.copy_to(&mut longer);
        source.copy_to(&mut shorter);
        assert_eq!((longer, shorter), ([1, 2, 3, 9, 9], [1, 2]));
        assert!(!Plaintext::is_empty(&source) && Plaintext::is_empty(&&[][..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        // S1
        #[test]
        fn arbitrary_bytes_never_panic_and_never_open(
            profile in prop::sample::select(&Profile::ALL[..]),
            first in prop_oneof![any::<u8>(), 0x80u8..=0xbf],
            rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0x1f), Just(0xff)], 0..120),
            index in any::<u64>(),
            room in 0usize..130,
            fits in any::<bool>(),
        ) {
            let (tx, rx) = contexts(profile);
            let packet = [vec![first], rest].concat();
            let index = if fits { packet.get(2..4).map_or(0, |seq| u64::from(u16::from_be_bytes([seq[0], seq[1]]))) } else { index };
            let mut out = vec![0; room];
            prop_assert!(rx.unprotect_rtp(&packet, index, &mut out).is_err());
            prop_assert!(rx.unprotect_rtcp(&packet, &mut out).is_err());
            let cells = Cells::zero();
            prop_assert!(rx.receive_rtp(&packet, cells.window(), &Direct, &mut out).is_err());
            prop_assert!(rx.receive_rtcp(&packet, cells.window(), &Direct, &mut out).is_err());
            prop_assert_eq!(cells.snapshot(), Cells::zero().snapshot());
            let mut lent = packet.clone();
            lent.resize(packet.len() + room, 0);
            let _ = tx.protect_rtp(index, &mut lent, room, room / 2, &packet[packet.len() / 2..]);
            let _ = tx.protect_rtcp(seq_of(index).into(), &packet, &mut out);
        }

        #[test]
        fn what_is_sealed_opens_to_what_it_was(
            profile in prop::sample::select(&Profile::ALL[..]),
            csrcs in 0u8..16,
            words in prop::option::of(0usize..40),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..300,
            index in 0u64..=MAX_RTP_INDEX,
            rtcp_index in 0u32..=MAX_RTCP_INDEX,
        ) {
            let (tx, rx) = contexts(profile);
            let shape = Shape { csrcs, extension: words.map(|words| (0x1000, vec![0xff; words * 4])), payload };
            let plain = shape.packet(SSRC, seq_of(index));
            let sealed = seal(&tx, index, &plain, shape.head_len(), cut.min(shape.payload.len())).unwrap();
            let (opened, payload) = open(&rx, &sealed, index).unwrap();
            prop_assert_eq!(opened.header_len, shape.head_len());
            prop_assert_eq!(&payload, &shape.payload);
            let compound = [receiver_report(), payload].concat();
            let sealed = seal_rtcp(&tx, rtcp_index, &compound);
            let mut out = vec![0; compound.len()];
            let opened = rx.unprotect_rtcp(&sealed, &mut out).unwrap();
            prop_assert_eq!((opened.index, opened.len), (rtcp_index, compound.len()));
            prop_assert_eq!(out, compound);
        }
    }
}

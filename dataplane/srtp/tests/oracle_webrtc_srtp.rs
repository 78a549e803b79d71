// SPDX-License-Identifier: Apache-2.0
//! The same packets through `webrtc-srtp`: equal bytes, and each opens what the other seals.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use dataplane_srtp::backend::{self, Backend};
    use dataplane_srtp::{Direct, Profile, RtpReceived, RxContext, TxContext};
    use proptest::prelude::*;
    use webrtc_srtp::context::Context;
    use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
    use webrtc_srtp::protection_profile::ProtectionProfile;

    use crate::packets::{
        Cells, Rng, SSRC, Shape, key_bytes, leaping_indices, master, random_rtcp, random_shape, reorder, seal,
        seal_rtcp, seq_of,
    };

    struct Pair {
        tx: TxContext,
        rx: RxContext,
        rtp: Cells,
        rtcp: Cells,
        their_tx: Context,
        their_rx: Context,
    }

    impl Pair {
        fn new(profile: Profile, seed: u64) -> Self {
            Self::on(backend::chosen(), profile, seed)
        }

        fn on(here: Backend, profile: Profile, seed: u64) -> Self {
            let theirs = match profile {
                Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
                Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
                Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            };
            let (key, salt) = key_bytes(profile, seed);
            let context = || {
                let (rtp, rtcp) = (srtp_replay_protection(1024), srtcp_replay_protection(1024));
                Context::new(&key, &salt, theirs, Some(rtp), Some(rtcp)).unwrap()
            };
            let ours = master(profile, seed);
            Self {
                tx: TxContext::on(here, &ours),
                rx: RxContext::on(here, &ours),
                rtp: Cells::zero(),
                rtcp: Cells::zero(),
                their_tx: context(),
                their_rx: context(),
            }
        }

        fn receive(&self, packet: &[u8]) -> (RtpReceived, Vec<u8>) {
            let mut out = vec![0; 2000];
            let received = self.rx.receive_rtp(packet, self.rtp.window(), &Direct, &mut out).unwrap();
            out.truncate(received.payload_len);
            (received, out)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rtp_is_the_same_byte_by_byte_in_both_directions_over_wraps(
            profile in prop::sample::select(&Profile::ALL[..]),
            seed in 1u64..,
        ) {
            let mut pair = Pair::new(profile, seed);
            let mut rng = Rng(seed);
            for index in leaping_indices(&mut rng, 150) {
                let shape = random_shape(&mut rng);
                let plain = shape.packet(SSRC, seq_of(index));
                let cut = usize::try_from(rng.below(shape.payload.len() as u64 + 1)).unwrap();
                let ours = seal(&pair.tx, index, &plain, shape.head_len(), cut).unwrap();
                let theirs = pair.their_tx.encrypt_rtp(&plain).unwrap();
                prop_assert_eq!(&ours[..], &theirs[..]);
                prop_assert_eq!(&pair.their_rx.decrypt_rtp(&ours).unwrap()[..], &plain[..]);
                let (received, payload) = pair.receive(&theirs);
                prop_assert_eq!((received.index, received.header_len), (index, shape.head_len()));
                prop_assert_eq!(payload, shape.payload);
            }
        }

        #[test]
        fn rtcp_is_the_same_byte_by_byte_in_both_directions(
            profile in prop::sample::select(&Profile::ALL[..]),
            seed in 1u64..,
        ) {
            let mut pair = Pair::new(profile, seed);
            let mut rng = Rng(seed);
            for index in 1..100 {
                let plain = random_rtcp(&mut rng);
                let ours = seal_rtcp(&pair.tx, index, &plain);
                let theirs = pair.their_tx.encrypt_rtcp(&plain).unwrap();
                prop_assert_eq!(&ours[..], &theirs[..]);
                prop_assert_eq!(&pair.their_rx.decrypt_rtcp(&ours).unwrap()[..], &plain[..]);
                let mut out = vec![0; 2000];
                let opened = pair.rx.receive_rtcp(&theirs, pair.rtcp.window(), &Direct, &mut out).unwrap();
                prop_assert_eq!(opened.index, index);
                prop_assert_eq!(&out[..opened.len], &plain[..]);
            }
        }
    }

    #[test]
    fn every_length_is_the_same_byte_by_byte_on_every_implementation() {
        for here in Backend::ALL.into_iter().filter(|here| here.is_available()) {
            for profile in Profile::ALL {
                let mut pair = Pair::on(here, profile, 41);
                let mut rng = Rng(41);
                for len in 0..=1500_u16 {
                    let index = u64::from(len);
                    let shape = Shape { payload: rng.bytes(usize::from(len)), ..Shape::plain(0) };
                    let plain = shape.packet(SSRC, len);
                    let ours = seal(&pair.tx, index, &plain, 12, usize::from(len.min(len % 40))).unwrap();
                    let theirs = pair.their_tx.encrypt_rtp(&plain).unwrap();
                    assert!(ours == theirs[..], "{here:?} {profile:?} {len}");
                    assert_eq!(pair.receive(&theirs).1, shape.payload, "{here:?} {profile:?} {len}");
                }
            }
        }
    }

    // S7
    #[test]
    fn loss_and_reorder_over_wraps_lose_nothing_that_arrives_in_either_direction() {
        for profile in Profile::ALL {
            let mut pair = Pair::new(profile, 77);
            let mut rng = Rng(77);
            let mut arriving = Vec::new();
            for index in 64_000..64_000 + 3 * 65_536 {
                let plain = Shape::plain(20).packet(SSRC, seq_of(index));
                let theirs = pair.their_tx.encrypt_rtp(&plain).unwrap();
                if rng.below(20) != 0 {
                    arriving.push((index, plain, theirs));
                }
            }
            reorder(&mut rng, &mut arriving);
            for (index, plain, theirs) in arriving {
                assert_eq!(pair.receive(&theirs).0.index, index);
                let ours = seal(&pair.tx, index, &plain, 12, 0).unwrap();
                assert_eq!(pair.their_rx.decrypt_rtp(&ours).unwrap()[..], plain[..], "{profile:?} {index}");
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Streams through a receiving context with a replay window: loss, reorder, wraps, replays, forgeries.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use dataplane_srtp::{Direct, Profile, RtpReceived, RxContext, SrtpError, TxContext};

    use crate::packets::{Cells, Rng, SSRC, Shape, master, reorder, seal, seal_rtcp, seq_of};

    struct Stream {
        tx: TxContext,
        rx: RxContext,
        cells: Cells,
    }

    impl Stream {
        fn new(profile: Profile) -> Self {
            let key = master(profile, 42);
            Self { tx: TxContext::new(&key), rx: RxContext::new(&key), cells: Cells::zero() }
        }

        fn sealed(&self, index: u64) -> Vec<u8> {
            let plain = Shape::plain(40).packet(SSRC, seq_of(index));
            seal(&self.tx, index, &plain, 12, 0).unwrap()
        }

        fn receive_bytes(&self, packet: &[u8]) -> Result<RtpReceived, SrtpError> {
            self.rx.receive_rtp(packet, self.cells.window(), &Direct, &mut [0; 2000])
        }

        fn receive(&self, index: u64) -> Result<u64, SrtpError> {
            self.receive_bytes(&self.sealed(index)).map(|received| received.index)
        }
    }

    // S7
    #[test]
    fn five_wraps_with_loss_and_reorder_lose_nothing_that_arrives() {
        for profile in Profile::ALL {
            let stream = Stream::new(profile);
            let mut rng = Rng(7);
            let (first, last) = (65_000, 65_000 + 5 * 65_536);
            let mut sent: Vec<u64> = (first..last).filter(|_| rng.below(20) != 0).collect();
            reorder(&mut rng, &mut sent);
            for index in sent {
                assert_eq!(stream.receive(index), Ok(index), "{profile:?}");
            }
        }
    }

    // S7
    #[test]
    fn a_stream_whose_packets_before_the_first_wrap_are_all_lost_is_read_from_its_first_packet() {
        for profile in Profile::ALL {
            for start in [65_536, 65_537, 65_600, 80_000, 131_071] {
                let stream = Stream::new(profile);
                for index in start..start + 1000 {
                    assert_eq!(stream.receive(index), Ok(index), "{profile:?}, from {start}");
                }
            }
        }
    }

    // S7
    #[test]
    fn first_packets_that_arrive_across_a_wrap_in_any_order_are_all_read() {
        for order in
            [[65_535, 65_536, 65_537], [65_536, 65_535, 65_537], [65_537, 65_536, 65_535], [65_536, 65_537, 65_535]]
        {
            let stream = Stream::new(Profile::AeadAes128Gcm);
            for index in order {
                assert_eq!(stream.receive(index), Ok(index), "{order:?}");
            }
        }
    }

    // S7
    #[test]
    fn a_long_outage_costs_at_most_fifty_packets() {
        for profile in Profile::ALL {
            for lost in [31_000, 32_767, 32_768, 33_000, 40_000, 64_000, 64_600, 65_500, 65_536, 66_000, 98_000] {
                for seen in [10, 40_000, 65_500, 65_536 * 3 + 20, 65_536 * 3 + 50_000] {
                    let stream = Stream::new(profile);
                    // The durable state of a stream whose last packets are `seen - 1024..seen`.
                    for index in seen.max(1024) - 1024..seen {
                        stream.cells.window().accept(index).unwrap();
                    }
                    let failed = (seen + lost..seen + lost + 300).filter(|at| stream.receive(*at) != Ok(*at)).count();
                    assert!(failed <= 50, "{profile:?}: {failed} failed, {lost} lost after {seen}");
                }
            }
        }
    }

    // S6
    #[test]
    fn every_replay_is_dropped_and_changes_nothing() {
        for profile in Profile::ALL {
            let stream = Stream::new(profile);
            let mut rng = Rng(3);
            let mut accepted = Vec::new();
            for at in 0..6000u64 {
                let index = 64_000 + (at ^ rng.below(64));
                if stream.receive(index).is_ok() {
                    accepted.push(index);
                }
            }
            assert!(accepted.len() > 3000);
            let before = stream.cells.snapshot();
            for index in accepted {
                let outcome = stream.receive(index);
                assert!(matches!(outcome, Err(SrtpError::Replayed | SrtpError::TooOld)), "{profile:?} {outcome:?}");
            }
            assert_eq!(before, stream.cells.snapshot());
        }
    }

    // S6
    #[test]
    fn every_rtcp_replay_is_dropped_and_changes_nothing() {
        for profile in Profile::ALL {
            let stream = Stream::new(profile);
            let plain = [[0x80, 201, 0, 1], SSRC.to_be_bytes()].concat();
            let packets: Vec<_> = [1, 2, 5, 3, 900, 1 << 20, (1 << 31) - 1]
                .iter()
                .map(|index| (*index, seal_rtcp(&stream.tx, *index, &plain)))
                .collect();
            for (index, packet) in &packets {
                let opened = stream.rx.receive_rtcp(packet, stream.cells.window(), &Direct, &mut [0; 100]).unwrap();
                assert_eq!((opened.index, opened.len), (*index, 8));
            }
            let before = stream.cells.snapshot();
            for (_, packet) in &packets {
                let outcome = stream.rx.receive_rtcp(packet, stream.cells.window(), &Direct, &mut [0; 100]);
                assert!(matches!(outcome, Err(SrtpError::Replayed | SrtpError::TooOld)), "{outcome:?}");
            }
            assert_eq!(before, stream.cells.snapshot());
        }
    }

    // S5, S6: webrtc-srtp reads 0 of 300 genuine packets after the one forged first packet here.
    #[test]
    fn ten_thousand_forgeries_change_no_byte_and_silence_nobody() {
        for profile in Profile::ALL {
            let stream = Stream::new(profile);
            let mut rng = Rng(11);
            let empty = stream.cells.snapshot();
            let mut forged = stream.sealed(20_100);
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(stream.receive_bytes(&forged), Err(SrtpError::AuthFailed));
            assert_eq!(empty, stream.cells.snapshot());

            for index in 100..400 {
                assert_eq!(stream.receive(index), Ok(index));
            }
            let before = stream.cells.snapshot();
            for round in 0..10_000 {
                let mut packet = stream.sealed(400 + rng.below(40_000));
                if round % 2 == 0 {
                    let at = usize::try_from(rng.below(packet.len() as u64)).unwrap();
                    packet[at] ^= 1 << rng.below(8);
                } else {
                    let body = rng.bytes(packet.len() - 12);
                    packet[12..].copy_from_slice(&body);
                }
                assert!(stream.receive_bytes(&packet).is_err());
                let mut rtcp = rng.bytes(80);
                rtcp[0] = 0x80;
                assert!(stream.rx.receive_rtcp(&rtcp, stream.cells.window(), &Direct, &mut [0; 100]).is_err());
            }
            assert_eq!(before, stream.cells.snapshot());
            for index in 400..700 {
                assert_eq!(stream.receive(index), Ok(index));
            }
        }
    }

    #[test]
    fn a_refusal_for_another_reason_than_the_tag_is_told_as_it_is() {
        let stream = Stream::new(Profile::AeadAes128Gcm);
        let packet = stream.sealed(1);
        let small = stream.rx.receive_rtp(&packet, stream.cells.window(), &Direct, &mut [0; 39]);
        assert_eq!(small, Err(SrtpError::NoRoom));
        assert_eq!(stream.cells.snapshot(), Cells::zero().snapshot());
        assert_eq!(stream.receive(1), Ok(1));
    }
}

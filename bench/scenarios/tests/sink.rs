// SPDX-License-Identifier: Apache-2.0
//! The sink in the real kernel, frame by frame: what it counts, what it notes, what it lets pass.

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bench_scenarios::sink::{Arrival, Config, Sink, Stream};
    use bench_trafficgen::mono_ns;
    use tools_netlab::console;

    const FIRST: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 1);

    /// A sink for four receivers, two of which are sampled; `None`, with the reason, where none can be loaded.
    fn sink(name: &str, pass_control: bool) -> Option<Sink> {
        if !rustix::process::geteuid().is_root() {
            console::line(&format!("SKIPPED: sink {name}: loading a program into the kernel needs root"));
            return None;
        }
        let config = Config { pass_control, sample_every: 4, sample_stride: 2, ..Config::new(FIRST, 4) };
        Some(Sink::load(&config).expect("loaded"))
    }

    /// An Ethernet frame with a UDP datagram for the n-th receiver.
    fn frame(receiver: u8, payload: &[u8]) -> Vec<u8> {
        let len = |more: usize| u16::try_from(payload.len() + more).expect("short").to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([
            0x45,
            0,
            len(28)[0],
            len(28)[1],
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            10,
            77,
            0,
            1,
            10,
            16,
            0,
            1 + receiver,
        ]);
        frame.extend([0x27, 0x10, 0x17, 0x70, len(8)[0], len(8)[1], 0, 0]);
        frame.extend(payload);
        frame
    }

    /// An RTP packet of 100 bytes.
    fn rtp(ssrc: u32, seq: u16, timestamp: u32, marker: bool) -> Vec<u8> {
        let mut packet = vec![0x80, 96 | (u8::from(marker) << 7)];
        packet.extend(seq.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.resize(100, 7);
        packet
    }

    /// Shows packets of one stream to a receiver; how many pass.
    fn show(sink: &Sink, receiver: u8, ssrc: u32, packets: &[(u16, u32)]) -> usize {
        let one = |(seq, timestamp): &(u16, u32)| {
            sink.shows_frame(&frame(receiver, &rtp(ssrc, *seq, *timestamp, seq.is_multiple_of(2)))).expect("a verdict")
        };
        packets.iter().map(one).filter(|passes| *passes).count()
    }

    #[test]
    fn each_receivers_streams_are_counted_with_what_is_missing_and_what_came_late() {
        let Some(sink) = sink("counts", false) else { return };
        // Across the end of the numbers; 1 is missing, 0 comes late, 2 comes twice.
        show(&sink, 1, 50, &[(65_534, 0), (65_535, 0), (2, 0), (0, 0), (2, 0), (3, 0)]);
        show(&sink, 1, 51, &[(9, 0)]);
        show(&sink, 3, 50, &[(9, 0), (10, 0)]);
        let stream = |receiver, ssrc, packets, numbers, backward, markers| Stream {
            receiver,
            ssrc,
            packets,
            bytes: packets * 100,
            numbers,
            backward,
            markers,
        };
        let streams = sink.streams().expect("read");
        assert_eq!(streams, [stream(1, 50, 6, 6, 2, 4), stream(1, 51, 1, 1, 0, 0), stream(3, 50, 2, 2, 0, 1)]);
        show(&sink, 3, 50, &[(20, 0)]);
        assert_eq!(sink.streams().expect("read")[2].gaps(), 9, "11 to 19");
        assert_eq!(sink.totals().expect("read").rtp, 10);
    }

    #[test]
    fn a_probe_is_noted_with_its_receiver_its_medium_and_its_time() {
        let Some(sink) = sink("probes", false) else { return };
        let before_ns = mono_ns();
        // Steps of 3000 and 960 are usual; what is above by 1 to 600 is a probe, once per frame.
        show(&sink, 2, 50, &[(1, 0), (2, 3000), (3, 6017), (4, 6017), (5, 9617), (6, 13_218)]);
        show(&sink, 0, 60, &[(1, 100), (2, 1060), (3, 2620)]);
        let arrivals = sink.arrivals().expect("read");
        let found: Vec<_> = arrivals.iter().map(|a: &Arrival| (a.receiver, a.is_video, a.id)).collect();
        assert_eq!(found, [(2, true, 17), (2, true, 600), (0, false, 600)], "13218 is 601 above: none");
        assert!(arrivals.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
        assert!(arrivals[0].at_ns >= before_ns && arrivals[2].at_ns <= mono_ns());
        assert_eq!(sink.totals().expect("read").probes, 3);
    }

    #[test]
    fn samples_of_some_receivers_pass_and_whatever_is_not_theirs_passes() {
        let Some(sink) = sink("samples", false) else { return };
        let nine: Vec<(u16, u32)> = (1..=9).map(|seq| (seq, 0)).collect();
        assert_eq!(show(&sink, 0, 50, &nine), 3, "the first, the fifth and the ninth");
        assert_eq!(show(&sink, 1, 50, &nine), 0, "every second receiver");
        assert_eq!(show(&sink, 2, 50, &nine), 3);
        assert_eq!(show(&sink, 4, 50, &nine), 9, "there are four receivers");
        let mut tcp = frame(0, &rtp(50, 1, 0, false));
        tcp[23] = 6;
        assert!(sink.shows_frame(&tcp).expect("a verdict"), "not UDP");
        let totals = sink.totals().expect("read");
        assert_eq!((totals.rtp, totals.samples, totals.others), (27, 6, 10));
    }

    // RFC 7983 §7, RFC 5761 §4.
    #[test]
    fn what_is_no_media_is_told_apart_and_passes_where_somebody_answers_it() {
        let (rtcp, stun, dtls) = ([0x80, 200, 0, 6], [0, 1, 0, 0], [22, 0xfe, 0xfd, 0]);
        for pass_control in [false, true] {
            let Some(sink) = sink("control", pass_control) else { return };
            for datagram in [rtcp, stun, dtls] {
                assert_eq!(sink.shows_frame(&frame(0, &datagram)).expect("a verdict"), pass_control, "{datagram:?}");
            }
            for datagram in [&[0x80, 96, 0, 1][..], &[64, 0, 0, 0], &[1]] {
                assert!(!sink.shows_frame(&frame(0, datagram)).expect("a verdict"), "{datagram:?}");
            }
            let totals = sink.totals().expect("read");
            assert_eq!((totals.control, totals.unknown, totals.rtp), (3, 3, 0));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What leaves for a real socket, decrypted: loss, disorder, pauses, encodings, layers, and recordings there and back.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use bench_trafficgen::impairment::Impairment;
    use bench_trafficgen::media::Shape;
    use bench_trafficgen::options::{Churn, Options};
    use bench_trafficgen::payload;
    use bench_trafficgen::recording::Recordings;
    use bench_trafficgen::sender::{Sender, Sent};
    use bench_trafficgen::session::{self, End};
    use dataplane_table::{Plan, Table};
    use rustix::net::sockopt;

    const RECEIVE_BYTES: usize = 16 << 20;
    const CALL: &str = r#"{ "codec": "vp8", "pt": 96, "ssrc": 7 }, { "codec": "opus", "pt": 111, "ssrc": 9 }"#;

    /// A packet as the server would read it.
    struct Got {
        ssrc: u32,
        seq: u16,
        timestamp: u32,
        marker: bool,
        payload: Vec<u8>,
    }

    /// Ends the sender also where a test fails meanwhile: else it would send for ever, and the test would hang.
    struct Stop<'s>(&'s AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Bed {
        server: UdpSocket,
        plan: Plan,
    }

    impl Bed {
        /// A server of our own, and one publisher with these tracks.
        fn new(tracks: &str) -> Self {
            let server = UdpSocket::bind("127.0.0.1:0").expect("bound");
            server.set_nonblocking(true).expect("set");
            // A machine that is busy reads late. Without the right to force it, the default has room for 40 ms.
            let _ = sockopt::set_socket_recv_buffer_size_force(&server, RECEIVE_BYTES);
            let text = format!(
                r#"{{ "server": "{}", "publisher": [{{ "name": "a", "remote": "127.0.0.1:0", "track": [{tracks}] }}] }}"#,
                server.local_addr().expect("an address")
            );
            let table: Table = serde_json::from_str(&text).expect("a table");
            Self { server, plan: table.plan().expect("a plan") }
        }

        /// What leaves in a time, and what arrives of it.
        fn run(&self, options: &Options, capture: Option<&PathBuf>, ms: u64) -> (Sent, Vec<Got>) {
            let mut sender = Sender::open(&self.plan, options).expect("open");
            if let Some(path) = capture {
                sender.capture_to(path).expect("a file");
            }
            let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
            let mut session =
                session::open(self.plan.cipher, &self.plan.publishers[0].keys, End::ToServer).expect("keys");
            let mut got = Vec::new();
            let sent = std::thread::scope(|scope| {
                let end_sending = Stop(&stop);
                let running = scope.spawn(|| sender.run(&stop, &count));
                // Looked at often: what a socket's buffer has no room for would be missing.
                for _ in 0..ms / 10 {
                    std::thread::sleep(Duration::from_millis(10));
                    self.take(&mut session, &mut got);
                }
                drop(end_sending);
                running.join().expect("no panic")
            });
            self.take(&mut session, &mut got);
            assert_eq!((sent.refused, sent.capture_error.clone()), (0, None));
            assert_eq!(sent.total(), got.len() as u64, "loopback loses nothing");
            (sent, got)
        }

        fn take(&self, session: &mut session::Context, got: &mut Vec<Got>) {
            let mut buffer = [0; 2000];
            while let Ok(len) = self.server.recv(&mut buffer) {
                let plain = session.decrypt_rtp(&buffer[..len]).expect("authentic");
                let word = |at: usize| u32::from_be_bytes(plain[at..at + 4].try_into().expect("four bytes"));
                got.push(Got {
                    ssrc: word(8),
                    seq: u16::from_be_bytes([plain[2], plain[3]]),
                    timestamp: word(4),
                    marker: plain[1] & 0x80 != 0,
                    payload: plain[12..].to_vec(),
                });
            }
        }
    }

    fn video(got: &[Got]) -> Vec<&Got> {
        got.iter().filter(|packet| packet.ssrc == 7).collect()
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trafficgen-{}-{name}", std::process::id()))
    }

    fn fast() -> Shape {
        Shape { packet_rate: 2000.0, ..Shape::VIDEO }
    }

    #[test]
    fn what_is_lost_on_purpose_is_numbered_and_missing() {
        let bed = Bed::new(CALL);
        let impairment = Impairment { loss_ppm: 100_000, loss_run: 2, ..Impairment::default() };
        let (sent, got) = bed.run(&Options { video: fast(), impairment, ..Options::default() }, None, 800);
        let video = video(&got);
        let missing: u64 = video.windows(2).map(|pair| u64::from(pair[1].seq.wrapping_sub(pair[0].seq)) - 1).sum();
        assert!(sent.lost > 60 && missing > 0, "{}", sent.lost);
        // Some of the audio is lost as well, and a run may be at the end.
        assert!(missing <= sent.lost && sent.lost - missing < 20, "{missing} of {}", sent.lost);
        for packet in video {
            let (_, number) = payload::read(&packet.payload, true).expect("intact");
            assert_eq!(u64::from(packet.seq.wrapping_sub(1000)), number & 0xffff, "a number is a packet's own");
        }
    }

    #[test]
    fn what_leaves_late_comes_behind_so_many_and_nothing_is_missing() {
        let bed = Bed::new(CALL);
        let impairment = Impairment { reorder_ppm: 20_000, reorder_by: 4, ..Impairment::default() };
        let (sent, got) = bed.run(&Options { video: fast(), impairment, ..Options::default() }, None, 800);
        let numbers: Vec<u16> = video(&got).iter().map(|packet| packet.seq).collect();
        let behind: Vec<usize> = (0..numbers.len())
            .map(|at| numbers[..at].iter().filter(|before| **before > numbers[at]).count())
            .filter(|behind| *behind > 0)
            .collect();
        assert!(behind.len() > 10 && behind.len() as u64 <= sent.reordered, "{behind:?}");
        // Another late one may stand among the four.
        assert!(behind.iter().all(|behind| (3..=4).contains(behind) || *behind < 3), "{behind:?}");
        assert!(behind.iter().filter(|behind| **behind == 4).count() * 2 > behind.len(), "{behind:?}");
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing is missing, nothing twice");
    }

    #[test]
    fn a_publisher_that_pauses_comes_back_with_a_keyframe_and_new_numbers() {
        let bed = Bed::new(CALL);
        let churn = Churn { sends: Duration::from_millis(300), pauses: Duration::from_millis(200) };
        let (sent, got) = bed.run(&Options { churn: Some(churn), ..Options::default() }, None, 700);
        let video = video(&got);
        let jumps: Vec<_> = video.windows(2).filter(|pair| pair[1].seq.wrapping_sub(pair[0].seq) > 1).collect();
        // A machine that is busy sleeps longer, so that a second pause may come.
        assert!(!jumps.is_empty() && sent.restarts >= 2, "{} jumps, {} restarts", jumps.len(), sent.restarts);
        let [before, after] = jumps[0] else { panic!("a pair") };
        assert!(after.seq.wrapping_sub(before.seq) >= 4000);
        let paused_ms = after.timestamp.wrapping_sub(before.timestamp) / 90;
        // Longer where the machine was busy, and the sender late.
        assert!((170..=2000).contains(&paused_ms), "the media clock goes on: {paused_ms} ms");
        assert!(after.payload[0] & 0x10 != 0 && after.payload[6] & 1 == 0, "a keyframe (RFC 6386 §9.1)");
        assert!(before.marker, "no frame is cut");
    }

    #[test]
    fn encodings_are_of_the_same_pictures_at_their_own_rates() {
        let tracks = [7, 8, 9].map(|ssrc| format!(r#"{{ "codec": "vp8", "pt": 96, "ssrc": {ssrc} }}"#)).join(",");
        let bed = Bed::new(&tracks);
        let options = Options { encodings_bps: vec![150_000, 500_000, 1_500_000], ..Options::default() };
        let (_, got) = bed.run(&options, None, 1000);
        for (ssrc, kbps) in [(7, 150), (8, 500), (9, 1500)] {
            let packets: Vec<_> = got.iter().filter(|packet| packet.ssrc == ssrc).collect();
            // By the media's own clock: the test's says when the machine got round to stopping it.
            let pictures: BTreeSet<u32> = packets.iter().map(|packet| packet.timestamp).collect();
            let steps: Vec<u32> = pictures.iter().zip(pictures.iter().skip(1)).map(|(one, next)| next - one).collect();
            assert!(steps.len() > 20 && steps.iter().all(|ticks| ticks.abs_diff(3000) <= 1), "{ssrc}: {steps:?}");
            let bits: usize = packets.iter().map(|packet| packet.payload.len() * 8).sum();
            let per_second = bits * 30 / pictures.len() / 1000;
            assert!(per_second.abs_diff(kbps) < kbps / 4, "{ssrc}: {bits} bits in {} pictures", pictures.len());
            let ends = packets.iter().filter(|packet| packet.marker).count();
            assert!((pictures.len() - 1..=pictures.len()).contains(&ends), "{ssrc}: {ends}");
        }
        let few = Sender::open(&bed.plan, &Options { encodings_bps: vec![1], ..Options::default() });
        assert!(few.err().expect("refused").to_string().contains("3 video tracks"));
    }

    #[test]
    fn temporal_layers_are_named_in_the_descriptor_and_markers_end_frames() {
        let bed = Bed::new(CALL);
        let (_, got) = bed.run(&Options { temporal_layers: 3, ..Options::default() }, None, 600);
        let firsts: Vec<_> = video(&got).into_iter().filter(|packet| packet.payload[0] & 0x10 != 0).collect();
        let layers: Vec<u8> = firsts.iter().map(|packet| packet.payload[5] >> 6).collect();
        assert!(layers.len() >= 12);
        assert_eq!(layers[..8], [0, 2, 1, 2, 0, 2, 1, 2]);
        assert_eq!([0, 3, 4, 8].map(|at| firsts[at].payload[4]), [0, 0, 1, 2], "TL0PICIDX counts layer 0");
        let video = video(&got);
        assert!(video.windows(2).all(|pair| pair[0].marker == (pair[0].timestamp != pair[1].timestamp)));
    }

    #[test]
    fn what_was_written_to_a_file_is_what_left_and_is_sent_again_under_other_names() {
        let (bed, path) = (Bed::new(CALL), file("sent.pcap"));
        let (_, first) = bed.run(&Options::default(), Some(&path), 500);
        let recordings = Recordings::read(&path).expect("read");
        let other = Bed::new(&CALL.replace("\"ssrc\": 7", "\"ssrc\": 70").replace("\"ssrc\": 9", "\"ssrc\": 90"));
        // Longer than the recording: it begins again.
        let (_, second) = other.run(&Options { recordings: Some(recordings), ..Options::default() }, None, 800);
        std::fs::remove_file(&path).expect("removed");
        for (old, new) in [(7, 70), (9, 90)] {
            let of = |got: &[Got], ssrc| {
                let packets = got.iter().filter(|packet| packet.ssrc == ssrc);
                packets.map(|packet| (packet.marker, packet.payload.clone())).collect::<Vec<_>>()
            };
            let (first, second) = (of(&first, old), of(&second, new));
            assert!(second.len() > first.len() && first.len() > 15, "{} after {}", second.len(), first.len());
            assert!(second.iter().zip(first.iter().cycle()).all(|(new, old)| new == old), "{old}");
        }
        let again: Vec<_> = second.iter().filter(|packet| packet.ssrc == 70).collect();
        assert!(again.windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1)), "numbers of its own");
        assert!(again.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 9000));
    }

    #[test]
    fn a_recording_without_the_tables_payload_type_is_refused_by_name() {
        let (bed, path) = (Bed::new(CALL), file("other.pcap"));
        bed.run(&Options::default(), Some(&path), 200);
        let recordings = Recordings::read(&path).expect("read");
        std::fs::write(&path, b"no packets at all, but long enough").expect("written");
        let error = format!("{:#}", Recordings::read(&path).expect_err("no recording"));
        std::fs::remove_file(&path).expect("removed");
        assert!(error.contains("neither pcap nor pcapng"), "{error}");
        let other = Bed::new(r#"{ "codec": "vp8", "pt": 100, "ssrc": 7 }"#);
        let options = Options { recordings: Some(recordings), ..Options::default() };
        let error = Sender::open(&other.plan, &options).err().expect("refused").to_string();
        assert!(error.contains("payload type 100") && error.contains("SSRC 7 with pt 96"), "{error}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `millrace-dataplane --table FILE` as people start it: a call from a generator over loopback to receivers that decrypt by
//! `webrtc-srtp`.

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use bench_trafficgen::payload;
    use bench_trafficgen::receiver::Receivers;
    use bench_trafficgen::sender::{Options, Sender, Sent};
    use bench_trafficgen::session::{self, End};
    use dataplane_table::{Plan, Table};

    const PROGRAM: &str = env!("CARGO_BIN_EXE_millrace-dataplane");
    const START_LIMIT: Duration = Duration::from_secs(20);
    /// How long what is under way may take on a busy machine.
    const DRAIN_LIMIT: Duration = Duration::from_secs(5);

    /// A data plane that serves a table.
    struct Server {
        child: Child,
        folder: PathBuf,
    }

    impl Server {
        fn start(name: &str, cipher: &str, options: &[&str]) -> Self {
            Self::with(name, ("vp8", cipher), &[options, &["--backend", "sockets"]].concat())
        }

        /// With cameras of a codec.
        fn with(name: &str, (codec, cipher): (&str, &str), options: &[&str]) -> Self {
            let folder = std::env::temp_dir().join(format!("millrace-standalone-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let free = || UdpSocket::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port();
            let text = format!(
                r#"server = "127.0.0.1:{}"
cipher = "{cipher}"
[[publisher]]
name = "speakers"
remote = "127.0.0.2:{}"
count = 2
track = [{{ codec = "{codec}", pt = 96, ssrc = 1000 }}, {{ codec = "opus", pt = 111, ssrc = 2000 }}]
[[receiver]]
from = "speakers"
remote = "127.0.0.10:{}"
count = 3
"#,
                free(),
                free(),
                free()
            );
            let table = folder.join("call.toml");
            std::fs::write(&table, text).expect("written");
            let log = File::create(folder.join("log")).expect("a log");
            let child = Command::new(PROGRAM)
                .arg("--table")
                .arg(&table)
                .arg("--no-pin")
                .args(options)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log)
                .spawn()
                .expect("started");
            Self { child, folder }
        }

        fn plan(&self) -> Plan {
            Table::read(&self.folder.join("call.toml")).expect("read").plan().expect("a plan")
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
        }

        fn wait_for(&mut self, text: &str) {
            let end = Instant::now() + START_LIMIT;
            while !self.log().contains(text) {
                let has_ended = self.child.try_wait().expect("a child").is_some();
                assert!(!has_ended && Instant::now() < end, "no {text:?}: {}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// Packets of each stream of each receiver that were what the publisher had sent, in order and without a gap.
    struct Received {
        sockets: Vec<(UdpSocket, Vec<u64>)>,
    }

    impl Received {
        fn open(plan: &Plan) -> Self {
            let one = |receiver: &dataplane_table::Receiver| {
                let socket = UdpSocket::bind(receiver.remote).expect("bound");
                socket.set_nonblocking(true).expect("set");
                (socket, vec![0; receiver.streams.len()])
            };
            Self { sockets: plan.receivers.iter().map(one).collect() }
        }

        fn total(&self) -> u64 {
            self.sockets.iter().flat_map(|(_, counts)| counts).sum()
        }
    }

    /// Ends the sender also where a test fails meanwhile: else it would send for ever, and the test would hang.
    struct Stop<'s>(&'s AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Sends for a time and decrypts what comes; what was sent, and what came of it.
    fn call(server: &Server, time: Duration) -> (Sent, Vec<Vec<u64>>) {
        let plan = &server.plan();
        let mut received = Received::open(plan);
        let mut sessions: Vec<_> = plan
            .receivers
            .iter()
            .map(|receiver| session::open(plan.cipher, &receiver.keys, End::FromServer).expect("keys"))
            .collect();
        let sender = Sender::open(plan, &Options::default()).expect("open");
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let sent = std::thread::scope(|scope| {
            let end_sending = Stop(&stop);
            let running = scope.spawn(|| sender.run(&stop, &count));
            let end = Instant::now() + time;
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
                take(plan, &mut received, &mut sessions);
            }
            drop(end_sending);
            running.join().expect("no panic")
        });
        let (end, all) = (Instant::now() + DRAIN_LIMIT, sent.total() * plan.receivers.len() as u64);
        while received.total() < all && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            take(plan, &mut received, &mut sessions);
        }
        (sent, received.sockets.into_iter().map(|(_, counts)| counts).collect())
    }

    fn take(plan: &Plan, received: &mut Received, sessions: &mut [session::Context]) {
        let mut buffer = [0; 2000];
        for (at, (socket, counts)) in received.sockets.iter_mut().enumerate() {
            while let Ok(len) = socket.recv(&mut buffer) {
                // RFC 5761 §4: what the server says of itself is RTCP.
                if (192..=223).contains(&buffer[1]) {
                    continue;
                }
                let plain = sessions[at].decrypt_rtp(&buffer[..len]).expect("authentic");
                let ssrc = u32::from_be_bytes(plain[8..12].try_into().expect("four bytes"));
                let streams = &plan.receivers[at].streams;
                let nth = streams.iter().position(|stream| stream.ssrc == ssrc).expect("a stream of this receiver's");
                let track = plan.publishers[streams[nth].publisher].tracks[streams[nth].track];
                let body = payload::read(&plain[12..], track.is_video());
                assert_eq!(body, Some((track.ssrc, counts[nth])), "receiver {at}, stream {nth}");
                counts[nth] += 1;
            }
        }
    }

    /// What was sent of each track, as each receiver should have got it.
    fn expected(server: &Server, sent: &Sent) -> Vec<Vec<u64>> {
        let of = |stream: &dataplane_table::Stream| sent.packets[stream.publisher][stream.track];
        server.plan().receivers.iter().map(|receiver| receiver.streams.iter().map(of).collect()).collect()
    }

    #[test]
    fn every_receiver_gets_every_packet_of_every_publisher_under_its_own_keys() {
        for cipher in ["AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80"] {
            let mut server = Server::start(cipher, cipher, &[]);
            server.wait_for("serving ");
            let (sent, got) = call(&server, Duration::from_secs(1));
            assert!(sent.total() > 250 && sent.refused == 0, "{sent:?}");
            assert_eq!(got, expected(&server, &sent), "{cipher}: {}", server.log());
        }
    }

    /// Layers are not chosen among yet: a receiver gets all of them.
    #[test]
    fn the_generators_receivers_get_every_codec_and_all_layers_over_io_uring() {
        for (codec, mode) in [("vp9", "L3T3"), ("h264", "L1T1"), ("av1", "L1T1")] {
            let mut server = Server::with(codec, (codec, "AEAD_AES_128_GCM"), &["--backend", "uring"]);
            server.wait_for("serving ");
            let plan = server.plan();
            let options = Options { svc: mode.parse().expect("a mode"), ..Options::default() };
            let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
            let receivers = Receivers::open(&plan).expect("open");
            let sender = Sender::open(&plan, &options).expect("open");
            let (sent, received) = std::thread::scope(|scope| {
                let end_sending = Stop(&stop);
                let receiving = scope.spawn(|| receivers.run(START_LIMIT, Duration::from_secs(2)));
                let running = scope.spawn(|| sender.run(&stop, &count));
                std::thread::sleep(Duration::from_secs(2));
                drop(end_sending);
                (running.join().expect("no panic"), receiving.join().expect("no panic").expect("received"))
            });
            let all = sent.total() * plan.receivers.len() as u64;
            let seen = (received.packets, received.gaps, received.duplicates, received.latency.len());
            assert_eq!(seen, (all, 0, 0, all), "{codec}: {}", server.log());
            assert!(received.is_sound() && received.streams == 12, "{codec}: {received:?}");
            let latency = (received.latency.min(), received.latency.max());
            assert!(latency.0 > 1000 && latency.1 < 5_000_000_000, "{codec}: {latency:?}");
        }
    }

    #[test]
    fn it_ends_by_itself_after_its_time_and_says_each_second_what_it_did() {
        let mut server = Server::start("seconds", "AEAD_AES_128_GCM", &["--seconds", "2"]);
        server.wait_for("serving AEAD_AES_128_GCM on 127.0.0.1:");
        let (sent, got) = call(&server, Duration::from_millis(700));
        assert_eq!(got, expected(&server, &sent), "{}", server.log());
        let end = Instant::now() + START_LIMIT;
        while server.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(server.child.wait().expect("a child").success(), "{}", server.log());
        let log = server.log();
        assert!(log.contains("2 publishers with 4 tracks, 3 receivers with 12 streams"), "{log}");
        let seconds: Vec<_> = log.lines().filter(|line| line.contains(" s  in ")).collect();
        assert!(seconds.len() == 2 && seconds.iter().all(|line| line.contains("latency p50 ")), "{log}");
        let out: u64 = seconds.iter().map(|line| number_behind(line, "out ")).sum();
        // Its own reports go to the publishers beside that.
        let media = sent.total() * 3;
        assert!((media..media + 20).contains(&out), "{out} counted, {media} sent: {log}");
    }

    fn number_behind(line: &str, word: &str) -> u64 {
        let rest = line.split_once(word).expect("the word").1;
        rest.trim_start().split('/').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    #[test]
    fn a_table_that_does_not_fit_together_is_refused_with_its_fault() {
        for (cipher, options, said) in [
            ("AES_128_ROT13", &[][..], "AES_128_ROT13"),
            ("AEAD_AES_128_GCM", &["--interface", "no-such-interface"], "no-such-interface"),
            ("AEAD_AES_128_GCM", &["--workers", "2"], "--interface"),
        ] {
            let mut server = Server::start("refused", cipher, options);
            let end = Instant::now() + START_LIMIT;
            while server.child.try_wait().expect("a child").is_none() {
                assert!(Instant::now() < end, "it serves: {}", server.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(!server.child.wait().expect("a child").success());
            assert!(server.log().contains(said), "{}", server.log());
        }
    }
}

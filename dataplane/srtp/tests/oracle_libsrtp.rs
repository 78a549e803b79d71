// SPDX-License-Identifier: Apache-2.0
//! The same packets through libsrtp (the package `pylibsrtp`), the code that browsers run: equal bytes,
//! and each opens what the other seals.
//!
//! The package is installed below the target directory. Without Python or a way to install, the test
//! says `SKIPPED` and passes; as root with a package registry in reach it must run.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::sync::OnceLock;

    use dataplane_srtp::{Direct, Profile, RtpReceived, RxContext, TxContext};

    use crate::packets::{
        Cells, Rng, SSRC, Shape, key_bytes, leaping_indices, master, random_rtcp, random_shape, reorder, seal,
        seal_rtcp, seq_of,
    };

    /// Longest plaintext that the package takes: its buffer has 1500 bytes, 148 kept free for a trailer.
    const LONGEST: usize = 1352;

    /// An interpreter that can import the package.
    #[derive(Clone)]
    struct Python {
        program: PathBuf,
        module_path: Option<PathBuf>,
    }

    impl Python {
        fn command(&self) -> Command {
            let mut command = Command::new(&self.program);
            if let Some(path) = &self.module_path {
                command.env("PYTHONPATH", path);
            }
            command
        }

        fn imports(&self) -> bool {
            runs(self.command().args(["-c", "import pylibsrtp"]))
        }
    }

    fn runs(command: &mut Command) -> bool {
        command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
    }

    /// Finds or installs the package: a virtual environment, else a plain target directory (Debian
    /// without ensurepip).
    fn install() -> Result<Python, String> {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (venv, plain) = (place.join("pylibsrtp-venv"), place.join("pylibsrtp-plain"));
        let in_venv = Python { program: venv.join("bin/python"), module_path: None };
        let in_plain = Python { program: "python3".into(), module_path: Some(plain.clone()) };
        if let Some(ready) = [&in_venv, &in_plain].into_iter().find(|python| python.imports()) {
            return Ok(ready.clone());
        }
        if !runs(Command::new("python3").arg("--version")) {
            return Err("no python3".into());
        }
        let _ = runs(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let _ = runs(in_venv.command().args(["-m", "pip", "install", "-q", "pylibsrtp~=1.0"]));
        if in_venv.imports() {
            return Ok(in_venv);
        }
        let _ = runs(
            Command::new("python3").args(["-m", "pip", "install", "-q", "pylibsrtp~=1.0", "--target"]).arg(&plain),
        );
        if in_plain.imports() {
            return Ok(in_plain);
        }
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
        let registry = [&in_venv.program, Path::new("python3")].into_iter().any(|python| {
            let scratch = place.join("registry-probe");
            runs(Command::new(python).args(["-m", "pip", "download", "-q", "--no-deps", "pip", "-d"]).arg(scratch))
        });
        assert!(!(is_root && registry), "root and a registry in reach, but pylibsrtp cannot be installed");
        Err("python3 cannot import or install pylibsrtp".into())
    }

    /// The interpreter, or `None` after saying why not.
    fn python() -> Option<Python> {
        static FOUND: OnceLock<Result<Python, String>> = OnceLock::new();
        match FOUND.get_or_init(install) {
            Ok(python) => Some(python.clone()),
            Err(reason) => {
                // Past the capture of the test harness, so that the runner counts it.
                let _ = writeln!(std::io::stdout(), "SKIPPED: libsrtp oracle: {reason}");
                None
            }
        }
    }

    /// A running `libsrtp_peer.py`; ends when its input closes.
    struct Peer {
        child: Child,
        input: Option<ChildStdin>,
        output: BufReader<ChildStdout>,
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            drop(self.input.take());
            let _ = self.child.wait();
        }
    }

    impl Peer {
        fn start(python: &Python) -> Self {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libsrtp_peer.py");
            let mut command = python.command();
            command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
            Self { child, input, output }
        }

        fn ask(&mut self, line: &str) -> Result<Vec<u8>, String> {
            writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
            let mut answer = String::new();
            self.output.read_line(&mut answer).unwrap();
            let answer = answer.trim_end();
            match answer.split_at_checked(1) {
                Some(("+", packet)) => Ok(unhex(packet)),
                Some(("-", reason)) => Err(reason.into()),
                _ => panic!("the peer answers {answer:?}"),
            }
        }

        fn call(&mut self, call: &str, context: &str, packet: &[u8]) -> Result<Vec<u8>, String> {
            self.ask(&format!("{call} {context} {}", hex(packet)))
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    struct Pair {
        tx: TxContext,
        rx: RxContext,
        rtp: Cells,
        rtcp: Cells,
        peer: Peer,
    }

    impl Pair {
        fn new(python: &Python, profile: Profile, seed: u64) -> Self {
            let ours = master(profile, seed);
            let (key, salt) = key_bytes(profile, seed);
            let mut peer = Peer::start(python);
            for direction in ["tx", "rx"] {
                let key = hex(&[&key[..], &salt].concat());
                peer.ask(&format!("context {direction} {} {direction} {key}", profile.iana())).unwrap();
            }
            Self { tx: TxContext::new(&ours), rx: RxContext::new(&ours), rtp: Cells::zero(), rtcp: Cells::zero(), peer }
        }

        fn receive(&self, packet: &[u8]) -> (RtpReceived, Vec<u8>) {
            let mut out = vec![0; 2000];
            let received = self.rx.receive_rtp(packet, self.rtp.window(), &Direct, &mut out).unwrap();
            out.truncate(received.payload_len);
            (received, out)
        }
    }

    #[test]
    fn rtp_is_the_same_byte_by_byte_in_both_directions_over_wraps() {
        let Some(python) = python() else { return };
        for (profile, seed) in Profile::ALL.into_iter().flat_map(|profile| [(profile, 3), (profile, 4), (profile, 5)]) {
            let mut pair = Pair::new(&python, profile, seed);
            let mut rng = Rng(seed);
            for index in leaping_indices(&mut rng, 300) {
                let mut shape = random_shape(&mut rng);
                shape.payload.truncate(LONGEST - shape.head_len());
                let plain = shape.packet(SSRC, seq_of(index));
                let cut = usize::try_from(rng.below(shape.payload.len() as u64 + 1)).unwrap();
                let ours = seal(&pair.tx, index, &plain, shape.head_len(), cut).unwrap();
                let theirs = pair.peer.call("protect", "tx", &plain).unwrap();
                assert_eq!(ours, theirs, "{profile:?} {index} {shape:?}");
                assert_eq!(pair.peer.call("unprotect", "rx", &ours).unwrap(), plain);
                let (received, payload) = pair.receive(&theirs);
                assert_eq!((received.index, received.header_len), (index, shape.head_len()));
                assert_eq!(payload, shape.payload);
            }
        }
    }

    #[test]
    fn rtcp_is_the_same_byte_by_byte_in_both_directions() {
        let Some(python) = python() else { return };
        for profile in Profile::ALL {
            let mut pair = Pair::new(&python, profile, 8);
            let mut rng = Rng(8);
            for index in 1..200 {
                let mut plain = random_rtcp(&mut rng);
                plain.truncate(LONGEST);
                let ours = seal_rtcp(&pair.tx, index, &plain);
                let theirs = pair.peer.call("protect_rtcp", "tx", &plain).unwrap();
                assert_eq!(ours, theirs, "{profile:?} {index}");
                assert_eq!(pair.peer.call("unprotect_rtcp", "rx", &ours).unwrap(), plain);
                let mut out = vec![0; 2000];
                let opened = pair.rx.receive_rtcp(&theirs, pair.rtcp.window(), &Direct, &mut out).unwrap();
                assert_eq!((opened.index, &out[..opened.len]), (index, &plain[..]));
            }
        }
    }

    // S7
    #[test]
    fn loss_and_reorder_around_wraps_lose_nothing_that_arrives_in_either_direction() {
        let Some(python) = python() else { return };
        for profile in Profile::ALL {
            let mut pair = Pair::new(&python, profile, 9);
            let mut rng = Rng(9);
            let mut at = 65_000;
            for _ in 0..4 {
                let mut arriving = Vec::new();
                for index in at..at + 1000 {
                    let plain = Shape::plain(20).packet(SSRC, seq_of(index));
                    let theirs = pair.peer.call("protect", "tx", &plain).unwrap();
                    if rng.below(20) != 0 {
                        arriving.push((index, plain, theirs));
                    }
                }
                reorder(&mut rng, &mut arriving);
                for (index, plain, theirs) in arriving {
                    assert_eq!(pair.receive(&theirs).0.index, index);
                    let ours = seal(&pair.tx, index, &plain, 12, 0).unwrap();
                    assert_eq!(pair.peer.call("unprotect", "rx", &ours).unwrap(), plain, "{profile:?} {index}");
                }
                // Three leaps to just below the next wrap, each far below 2^15.
                for leap in [22_000, 44_000, 64_535] {
                    let plain = Shape::plain(20).packet(SSRC, seq_of(at + 1000 + leap - 1));
                    let theirs = pair.peer.call("protect", "tx", &plain).unwrap();
                    assert_eq!(pair.receive(&theirs).0.index, at + 1000 + leap - 1);
                    assert_eq!(pair.peer.call("unprotect", "rx", &theirs).unwrap(), plain);
                }
                at += 65_536;
            }
        }
    }

    #[test]
    fn libsrtp_refuses_what_we_sealed_when_a_bit_is_flipped_or_it_comes_twice() {
        let Some(python) = python() else { return };
        for profile in Profile::ALL {
            let mut pair = Pair::new(&python, profile, 10);
            let plain = Shape::plain(20).packet(SSRC, 100);
            let sealed = seal(&pair.tx, 100, &plain, 12, 0).unwrap();
            let mut flipped = sealed.clone();
            flipped[20] ^= 1;
            assert!(pair.peer.call("unprotect", "rx", &flipped).is_err());
            assert_eq!(pair.peer.call("unprotect", "rx", &sealed).unwrap(), plain);
            assert!(pair.peer.call("unprotect", "rx", &sealed).is_err());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Two network namespaces and a cable: what a test of the AF_XDP port runs on.
//!
//! ```text
//!  namespace of the test's thread   near 10.9.0.1, fd09::1 ── veth ── far 10.9.0.2, fd09::2   namespace of a parked thread
//! ```
//!
//! Checksums are computed by the sender on both ends, as on a real wire. The namespaces vanish with their threads.

use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane_abi::flow::{FlowKey, map_v4};
use dataplane_abi::frames::FrameState;
use dataplane_io::nexthop::{NextHops, Resolver};
use dataplane_io::open::{Backend, SocketPort, open_socket_port};
use dataplane_io::port::{Ecn, Port};
use dataplane_io::socket::{self, SocketConfig};
use dataplane_io::xdp::{Geometry, Mode, Opened, PortMemory, PortParts, XdpConfig, XdpError, XdpPort, open, setup};

use crate::program::Program;

/// Our UDP port.
pub(crate) const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const NEAR_V4: [u8; 16] = map_v4([10, 9, 0, 1]);
pub(crate) const FAR_V4: [u8; 16] = map_v4([10, 9, 0, 2]);
pub(crate) const NEAR_V6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const FAR_V6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

pub(crate) fn skipped(reason: &str) {
    // Straight to the file descriptor: the test harness swallows what `println!` writes.
    let _ = writeln!(std::fs::OpenOptions::new().append(true).open("/proc/self/fd/1").unwrap(), "SKIPPED: {reason}");
}

/// Runs `ip` or another program in the calling thread's namespace.
pub(crate) fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdout(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What a command prints.
pub(crate) fn output(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn isolate() -> Option<String> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
    Some(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid()))
}

/// Waits for something that another thread or the kernel does.
pub(crate) fn eventually(what: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The cable; the calling thread is in the near namespace.
pub(crate) struct Bed {
    far: String,
    _parked: mpsc::Sender<()>,
}

impl Bed {
    /// Lays a cable with as many queues in each direction.
    fn lay(queues: u16) -> Option<Self> {
        isolate()?;
        let (place, placed) = mpsc::channel();
        let (parked, park) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            place.send(isolate()).unwrap();
            let _ = park.recv();
        });
        let bed = Self { far: placed.recv().unwrap()?, _parked: parked };
        let ends = format!("numtxqueues {queues} numrxqueues {queues}");
        if !run(&format!("ip link add near {ends} type veth peer name far {ends}")) {
            return None;
        }
        assert!(run(&format!("ip link set far netns {}", bed.far)));
        bed.raise("near", 1);
        bed.in_far(|| bed.raise("far", 2));
        Some(bed)
    }

    fn raise(&self, end: &str, number: u8) {
        for line in [
            "ip link set lo up".to_owned(),
            format!("ethtool -K {end} tx off tso off gso off gro off"),
            format!("ip addr add 10.9.0.{number}/24 dev {end}"),
            format!("ip addr add fd09::{number}/64 dev {end} nodad"),
            format!("ip link set {end} up"),
        ] {
            assert!(run(&line), "{line}");
        }
    }

    /// Runs something in the far namespace; sockets opened there stay there.
    pub(crate) fn in_far<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let far = std::fs::File::open(&self.far).unwrap();
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                nix::sched::setns(far, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }

    pub(crate) fn far(&self, line: &str) {
        assert!(self.in_far(|| run(line)), "{line}");
    }

    /// A peer: a socket port in the far namespace, which says ECN and addresses of what it receives, and its number.
    pub(crate) fn peer(&self) -> (SocketPort, u16) {
        let socket = self.in_far(|| socket::bind_group(0, 1).unwrap().remove(0));
        let number = UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
        (open_socket_port(socket, Backend::Sockets, SocketConfig::default()).unwrap().0, number)
    }

    /// A plain socket in the far namespace.
    pub(crate) fn far_socket(&self, address: &str) -> UdpSocket {
        let socket = self.in_far(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// Runs a test in a namespace of its own, or says why not.
pub(crate) fn on_a_bed(queues: u16, test: impl FnOnce(&Bed) + Send + 'static) {
    let thread = std::thread::spawn(move || match Bed::lay(queues) {
        Some(bed) => test(&bed),
        None => skipped("AF_XDP needs root, veth devices and the programs `ip` and `ethtool`"),
    });
    assert!(thread.join().is_ok());
}

/// The keeper's side, the classifier's stand-in and the resolver's thread.
pub(crate) struct Side {
    pub(crate) memory: PortMemory,
    pub(crate) program: Program,
    pub(crate) next_hops: Arc<NextHops>,
    stop: Arc<AtomicBool>,
    resolver: Option<JoinHandle<()>>,
}

/// Paths of the tests' ports.
pub(crate) const PATHS: u32 = 64;

impl Side {
    pub(crate) fn raise(mode: Mode, queues: u16, workers: u16) -> Self {
        let interface = setup::interface("near").unwrap();
        let geometry = Geometry::new(interface, mode, queues, workers).unwrap();
        let program = Program::attach(interface.index, mode, PORT, (queues, workers)).unwrap();
        let next_hops = NextHops::new(workers, PATHS).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let resolver = Resolver::new(Arc::clone(&next_hops), interface.index).unwrap();
        let stopped = Arc::clone(&stop);
        let resolver = Some(std::thread::spawn(move || resolver.run(&stopped)));
        Self { memory: PortMemory::create(geometry).unwrap(), program, next_hops, stop, resolver }
    }

    pub(crate) fn try_open(&self) -> Result<Opened, XdpError> {
        let parts = PortParts {
            umem: self.memory.umem.try_clone().unwrap(),
            frames: self.memory.frames.try_clone().unwrap(),
            sockets: self.memory.sockets()?,
        };
        let opened = open(parts, &self.next_hops, XdpConfig { paths: PATHS, ..XdpConfig::default() })?;
        for (pair, socket) in opened.ports.iter().flat_map(XdpPort::sockets) {
            self.program.insert(pair, socket);
        }
        Ok(opened)
    }

    pub(crate) fn open(&self) -> Opened {
        self.try_open().unwrap()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(resolver) = self.resolver.take() {
            assert!(resolver.join().is_ok());
        }
    }
}

pub(crate) fn flow(local: [u8; 16], remote: [u8; 16], local_port: u16, remote_port: u16) -> FlowKey {
    FlowKey { local, remote, local_port, remote_port, reserve: 0 }
}

/// Sends a frame as it is by an interface of the calling thread's namespace.
pub(crate) fn send_raw(interface: &str, frame: &[u8]) {
    let index = setup::interface(interface).unwrap().index;
    // SAFETY: because the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0);
    // SAFETY: because the kernel just gave us the descriptor and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: because all of its fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_ifindex = i32::try_from(index).unwrap();
    address.sll_halen = 6;
    let (start, len) = (frame.as_ptr().cast(), u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap());
    // SAFETY: because frame and address outlive the call and their lengths are given.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), start, frame.len(), 0, (&raw const address).cast(), len) };
    assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "{}", std::io::Error::last_os_error());
}

/// Payload number `number`: its length and every byte follow from the number.
pub(crate) fn payload(number: u32) -> Vec<u8> {
    let len = 20 + usize::try_from(number * 37 % 1200).unwrap();
    let mut bytes: Vec<u8> = (0..len).map(|at| u8::try_from((at * 7 + number as usize) % 251).unwrap()).collect();
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Sends one payload.
pub(crate) fn send(port: &mut impl Port, flow: &FlowKey, dscp: u8, ecn: u8, bytes: &[u8]) {
    let path = port.open_path(flow, dscp, Ecn(ecn)).unwrap();
    port.reserve(path, bytes.len()).unwrap().copy_from_slice(bytes);
    port.commit(bytes.len());
    assert_eq!(port.flush().frames, 1);
    port.close_path(path);
}

/// What there is of frames: by state, and what the ports themselves miss.
pub(crate) fn assert_conserved(opened: &Opened) {
    let geometry = &opened.status.geometry;
    let table = opened.ports[0].table();
    let count = |state| u32::try_from(table.frames_in(state).count()).unwrap();
    let workers: u32 = (0..geometry.workers).map(|n| count(FrameState::Worker(dataplane_abi::ids::WorkerId(n)))).sum();
    let (fill, tx) = (count(FrameState::Fill), count(FrameState::Tx));
    assert_eq!(count(FrameState::Free) + workers + fill + tx, geometry.frames(), "every frame in one state");
    assert_eq!(fill, u32::from(geometry.queues) * geometry.rx_frames, "all frames to receive into are the kernel's");
    assert_eq!(workers, u32::from(geometry.workers) * geometry.tx_frames, "all frames to send from are the workers'");
    for port in &opened.ports {
        assert_eq!(port.frames_refused(), 0);
        assert!(port.tx_room() >= geometry.tx_ring as usize, "{}", port.tx_room());
    }
}

/// Lets all ports finish what is on its way.
pub(crate) fn settle(opened: &mut Opened) {
    let geometry = opened.status.geometry;
    let tx_frames = u32::from(geometry.workers) * geometry.tx_frames;
    let rx_frames = u32::from(geometry.queues) * geometry.rx_frames;
    eventually("all frames are back", || {
        for port in &mut opened.ports {
            port.reap();
            if port.receive(64) != 0 {
                port.release();
            }
        }
        let table = opened.ports[0].table();
        let held = |n| table.frames_in(FrameState::Worker(dataplane_abi::ids::WorkerId(n))).count();
        let held: usize = (0..geometry.workers).map(held).sum();
        let filled = table.frames_in(FrameState::Fill).count();
        held == tx_frames as usize && filled == rx_frames as usize
    });
    for port in &mut opened.ports {
        port.reap();
    }
}

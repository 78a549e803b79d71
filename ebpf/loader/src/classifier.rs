// SPDX-License-Identifier: Apache-2.0
//! The loaded program and its maps.

use std::io;
use std::os::fd::OwnedFd;

use aya::maps::MapError as AyaMapError;
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader};
use dataplane_abi::limits::Capacities;
use dataplane_abi::xdp::{self, HANDOVER, PROGRAM, flow_entries};

use crate::attach::{self, AttachError, Attachment, Mode};
use crate::maps::{MapError, Maps, duplicate};
use crate::object::Object;

/// The oldest kernel that the xdp port works on: it maps the rings of an unbound `AF_XDP` socket, and it lets a process
/// without capabilities update a map by its descriptor (5.19).
pub const MINIMUM_KERNEL: (u8, u8) = (6, 1);

/// Capacities of the maps that depend on the server's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Entries of the flow map, 120 B each.
    pub flows: u32,
}

impl Sizes {
    /// For as many transports.
    #[must_use]
    pub const fn for_transports(transports: u32) -> Self {
        Self { flows: flow_entries(transports) }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self::for_transports(Capacities::DEFAULT.transports)
    }
}

/// Why the classifier is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Too old.
    #[error("this is Linux {found}; XDP needs Linux {}.{} or newer", MINIMUM_KERNEL.0, MINIMUM_KERNEL.1)]
    KernelTooOld {
        /// What runs.
        found: String,
    },
    /// Not allowed.
    #[error(
        "no privilege to load BPF programs: CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed (start the keeper as root)"
    )]
    NoPrivilege,
    /// The object is not our classifier.
    #[error("{origin}: not a classifier: {detail}")]
    NotAClassifier {
        /// Where the object comes from.
        origin: String,
        /// What is wrong.
        detail: String,
    },
    /// The verifier refused.
    #[error("{origin}: the kernel refuses the program: {log}")]
    Refused {
        /// Where the object comes from.
        origin: String,
        /// The end of the verifier's log.
        log: String,
    },
    /// A map is not as it should be.
    #[error("the classifier's maps: {0}")]
    Map(#[from] MapError),
}

/// The classifier in the kernel, attached nowhere or to interfaces by their [`Attachment`]s.
#[derive(Debug)]
pub struct Classifier {
    ebpf: Ebpf,
}

/// What a frame became, without any network: `BPF_PROG_TEST_RUN`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// The XDP action: 1 drop, 2 pass, 4 redirect.
    pub action: u32,
    /// Metadata followed by the frame.
    pub bytes: Vec<u8>,
    /// Nanoseconds per run.
    pub duration_ns: u128,
}

impl Classifier {
    /// Loads program and maps. Everything passes until the config is set.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(object: &Object, sizes: Sizes) -> Result<Self, LoadError> {
        let (major, minor) = MINIMUM_KERNEL;
        if KernelVersion::current().is_ok_and(|current| current < KernelVersion::new(major, minor, 0)) {
            let found = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            return Err(LoadError::KernelTooOld { found: found.trim().to_owned() });
        }
        let wrong = |detail: String| LoadError::NotAClassifier { origin: object.origin().to_owned(), detail };
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(xdp::FLOWS, sizes.flows)
            .load(object.bytes())
            .map_err(|error| if is_forbidden(&error) { LoadError::NoPrivilege } else { wrong(error.to_string()) })?;
        let program = ebpf.program_mut(PROGRAM).ok_or_else(|| wrong(format!("no program {PROGRAM}")))?;
        let program: &mut Xdp = program.try_into().map_err(|_| wrong(format!("{PROGRAM} is no XDP program")))?;
        program.load().map_err(|error| refused(object.origin(), &error))?;
        Ok(Self { ebpf })
    }

    /// Puts the classifier on an interface that has at least `queues` receive queues.
    ///
    /// # Errors
    /// [`AttachError`], which names the command that helps.
    pub fn attach(&mut self, interface: &str, mode: Mode, queues: u32) -> Result<Attachment, AttachError> {
        match self.program_mut() {
            Ok(program) => attach::attach(program, interface, mode, queues),
            Err(error) => Err(AttachError::Other { interface: interface.to_owned(), detail: error.to_string() }),
        }
    }

    /// Handles on all maps, each with a descriptor of its own.
    ///
    /// # Errors
    /// When a map is missing or not as it should be.
    pub fn maps(&self) -> Result<Maps, MapError> {
        Maps::open(|name| self.map_fd(name))
    }

    /// Descriptors of all maps under the names by which they are handed over ([`HANDOVER`]).
    ///
    /// # Errors
    /// When a map is missing or no descriptor is left.
    pub fn map_fds(&self) -> Result<Vec<(&'static str, OwnedFd)>, MapError> {
        HANDOVER.iter().map(|(map, name)| Ok((*name, self.map_fd(map)?))).collect()
    }

    /// Runs the program on one frame that arrived at `queue` of the interface with that number. For tests and benches.
    ///
    /// # Errors
    /// When the kernel refuses, as for a frame below 14 bytes or an interface whose queue is not up.
    pub fn test_run(&self, frame: &[u8], interface: u32, queue: u32, repeat: u32) -> io::Result<TestRun> {
        let program: &Xdp = match self.ebpf.program(PROGRAM).map(TryInto::try_into) {
            Some(Ok(program)) => program,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let context: Vec<u8> =
            [0, len, 0, interface, queue, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut bytes = vec![0; frame.len() + 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut bytes),
                ctx_in: Some(&context),
                repeat,
                ..TestRunOptions::new()
            })
            .map_err(io::Error::other)?;
        bytes.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
        Ok(TestRun { action: result.return_value, bytes, duration_ns: result.duration.as_nanos() })
    }

    fn map_fd(&self, name: &'static str) -> Result<OwnedFd, MapError> {
        let missing = |detail: &str| MapError::NotThisMap { name, detail: detail.to_owned() };
        let map = self.ebpf.map(name).ok_or_else(|| missing("not in the object"))?;
        let fd = duplicate(map).ok_or_else(|| missing("of another type"))?;
        fd.map_err(MapError::System)
    }

    fn program_mut(&mut self) -> io::Result<&mut Xdp> {
        let program = self.ebpf.program_mut(PROGRAM).ok_or(io::ErrorKind::NotFound)?;
        program.try_into().map_err(io::Error::other)
    }
}

/// The verifier's refusals are EACCES, which `ErrorKind` does not tell from this one.
const EPERM: i32 = 1;

fn is_forbidden(error: &EbpfError) -> bool {
    matches!(error, EbpfError::MapError(AyaMapError::CreateError { io_error, .. })
        if io_error.raw_os_error() == Some(EPERM))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the load itself has an errno and a log")]
fn refused(origin: &str, error: &ProgramError) -> LoadError {
    let log = match error {
        ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(EPERM) => {
            return LoadError::NoPrivilege;
        }
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("{io_error}\n{}", tail.join("\n"))
        }
        other => other.to_string(),
    };
    LoadError::Refused { origin: origin.to_owned(), log }
}

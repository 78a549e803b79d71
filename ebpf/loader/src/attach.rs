// SPDX-License-Identifier: Apache-2.0
//! How a program comes to an interface, and in words why not. Every refusal names the command that helps, where one does.
//! Never takes an interface away from another program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpError, XdpMode, loaded_programs};
use dataplane_abi::xdp::QUEUES;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::interface::{Interface, InterfaceError};

/// The largest MTU at which every driver takes a program that does not know fragments: a page less headroom, shared info
/// and an Ethernet header with tags (mlx5: `MLX5E_XDP_MAX_MTU`; veth and virtio allow a little more).
const NATIVE_MTU: u32 = 3498;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Native, else generic.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the network stack.
    Generic,
}

/// What was obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachedMode {
    /// `native` or `generic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The classifier on an interface; dropping it, and every copy of its descriptor, takes it off.
#[derive(Debug)]
pub struct Attachment {
    link: FdLink,
    /// The interface as it was before.
    pub interface: Interface,
    /// Where the program runs.
    pub mode: AttachedMode,
    /// Why it does not run in the driver although [`Mode::Auto`] tried that first.
    pub why_not_native: Option<AttachError>,
}

impl Attachment {
    /// A copy of the link's descriptor, for another process or an exec of this one.
    ///
    /// # Errors
    /// When the kernel refuses `pidfd_getfd`, as some sandboxes do.
    pub fn link_fd(&self) -> io::Result<OwnedFd> {
        // aya keeps the descriptor to itself; the kernel tells its number by the link's id.
        let id = self.link.info().map_err(io::Error::other)?.id();
        let number = number_of_link(id)?;
        let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(this.as_fd(), number, PidfdGetfdFlags::empty())?)
    }
}

/// The number of this process's descriptor of the BPF link with that id.
fn number_of_link(id: u32) -> io::Result<i32> {
    let wanted = format!("link_id:\t{id}");
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let is_it = std::fs::read_to_string(entry.path()).is_ok_and(|text| text.lines().any(|line| line == wanted));
        if let (true, Some(number)) = (is_it, entry.file_name().to_str().and_then(|name| name.parse().ok())) {
            return Ok(number);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

/// Why the classifier is not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The interface cannot be looked at.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Another program is there.
    #[error("{interface} already has the XDP program {program}; to remove it: ip link set dev {interface} xdp off")]
    Occupied {
        /// The interface.
        interface: String,
        /// Name and id of the program, as far as known.
        program: String,
    },
    /// A frame would not fit into one page.
    #[error(
        "{interface} has MTU {mtu}, too large for XDP in the driver; to change it: ip link set dev {interface} mtu {fits}"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// One that every driver takes.
        fits: u32,
    },
    /// The other end of a veth has a larger MTU than fits into one page.
    #[error(
        "the peer of {interface} has an MTU too large for XDP in the driver; to change it, at the peer: ip link set dev PEER mtu {fits}"
    )]
    PeerMtuTooLarge {
        /// The interface.
        interface: String,
        /// One that every driver takes.
        fits: u32,
    },
    /// The interface has fewer receive queues than asked for, or a veth fewer than its peer sends on.
    #[error(
        "{interface} has {has} receive queues, {needs} are needed; to change it: ethtool -L {interface} combined {needs} (a veth: rx {needs})"
    )]
    TooFewQueues {
        /// The interface.
        interface: String,
        /// Its receive queues.
        has: u32,
        /// How many are needed.
        needs: u32,
    },
    /// More receive queues than the maps have room for.
    #[error(
        "{interface} has {has} receive queues, at most {QUEUES} are supported; to change it: ethtool -L {interface} combined {QUEUES}"
    )]
    TooManyQueues {
        /// The interface.
        interface: String,
        /// Its receive queues.
        has: u32,
    },
    /// The driver does not run XDP programs.
    #[error("the driver of {interface} does not run XDP programs")]
    NoNative {
        /// The interface.
        interface: String,
    },
    /// The driver would need a transmit queue for each CPU.
    #[error(
        "the driver of {interface} has no room for XDP: {source} (many need spare queues: ethtool -L {interface} combined N with a smaller N)"
    )]
    NoRoom {
        /// The interface.
        interface: String,
        /// What it answered.
        source: io::Error,
    },
    /// Not allowed.
    #[error("no privilege to attach to {interface}: CAP_NET_ADMIN and CAP_BPF are needed (start the keeper as root)")]
    NoPrivilege {
        /// The interface.
        interface: String,
    },
    /// The kernel has no BPF links for XDP.
    #[error("this kernel attaches XDP programs by netlink only; Linux 5.9 is needed")]
    KernelTooOld,
    /// The program was not loaded, or already is on an interface.
    #[error("cannot attach to {interface}: {detail}")]
    Other {
        /// The interface.
        interface: String,
        /// What aya says.
        detail: String,
    },
}

/// Attaches a loaded program.
pub(crate) fn attach(program: &mut Xdp, name: &str, mode: Mode, queues: u32) -> Result<Attachment, AttachError> {
    let interface = Interface::named(name)?;
    if let Some(id) = interface.xdp_program {
        return Err(AttachError::Occupied { interface: interface.name, program: describe(id) });
    }
    let has = interface.rx_queues;
    if has < queues {
        return Err(AttachError::TooFewQueues { interface: interface.name, has, needs: queues });
    }
    if usize::try_from(has).unwrap_or(usize::MAX) > QUEUES {
        return Err(AttachError::TooManyQueues { interface: interface.name, has });
    }
    let why_not_native = match mode {
        Mode::Generic => None,
        Mode::Auto | Mode::Native => match link(program, &interface, AttachedMode::Native) {
            Ok(link) => {
                return Ok(Attachment { link, interface, mode: AttachedMode::Native, why_not_native: None });
            }
            Err(why) if mode == Mode::Native || !why.leaves_generic() => return Err(why),
            Err(why) => Some(why),
        },
    };
    let link = link(program, &interface, AttachedMode::Generic)?;
    Ok(Attachment { link, interface, mode: AttachedMode::Generic, why_not_native })
}

impl AttachError {
    /// Whether the reason is one of the driver's, so that the network stack may still run the program.
    const fn leaves_generic(&self) -> bool {
        match self {
            Self::MtuTooLarge { .. }
            | Self::PeerMtuTooLarge { .. }
            | Self::TooFewQueues { .. }
            | Self::NoNative { .. }
            | Self::NoRoom { .. } => true,
            Self::Interface(_)
            | Self::Occupied { .. }
            | Self::TooManyQueues { .. }
            | Self::NoPrivilege { .. }
            | Self::KernelTooOld
            | Self::Other { .. } => false,
        }
    }
}

fn link(program: &mut Xdp, interface: &Interface, mode: AttachedMode) -> Result<FdLink, AttachError> {
    let flags = match mode {
        AttachedMode::Native => XdpMode::Driver,
        AttachedMode::Generic => XdpMode::Skb,
    };
    let other = |error: &dyn std::fmt::Display| AttachError::Other {
        interface: interface.name.clone(),
        detail: error.to_string(),
    };
    match program.attach_to_if_index(interface.index, flags) {
        Ok(id) => {
            let link = program.take_link(id).map_err(|error| other(&error))?;
            // A netlink attachment would outlive this process; dropping it here takes it off again.
            FdLink::try_from(link).map_err(|_| AttachError::KernelTooOld)
        }
        Err(error) => Err(match errno_of(&error) {
            Some(errno) => refusal(interface, mode, errno),
            None => other(&error),
        }),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors carry no errno")]
fn errno_of(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// What an errno of `BPF_LINK_CREATE` means. The drivers' own words go to the trace pipe only, so the interface's facts
/// have to say the rest (`dev_xdp_attach` in net/core/dev.c, `veth_xdp_set` in drivers/net/veth.c).
fn refusal(interface: &Interface, mode: AttachedMode, errno: i32) -> AttachError {
    use rustix::io::Errno;
    let Interface { name, mtu, rx_queues, .. } = interface.clone();
    let source = io::Error::from_raw_os_error(errno);
    match Errno::from_raw_os_error(errno) {
        Errno::BUSY | Errno::EXIST => {
            let program = Interface::named(&name).ok().and_then(|now| now.xdp_program);
            let program = program.map_or_else(|| "of another process".to_owned(), describe);
            AttachError::Occupied { interface: name, program }
        }
        Errno::PERM | Errno::ACCESS => AttachError::NoPrivilege { interface: name },
        Errno::NODEV => AttachError::Interface(InterfaceError::Missing { name }),
        _ if mode == AttachedMode::Native && mtu > NATIVE_MTU => {
            AttachError::MtuTooLarge { interface: name, mtu, fits: NATIVE_MTU }
        }
        Errno::RANGE => AttachError::PeerMtuTooLarge { interface: name, fits: NATIVE_MTU },
        Errno::NOSPC => {
            AttachError::TooFewQueues { interface: name, has: rx_queues, needs: rx_queues.saturating_add(1) }
        }
        Errno::NOMEM => AttachError::NoRoom { interface: name, source },
        Errno::OPNOTSUPP if mode == AttachedMode::Native => AttachError::NoNative { interface: name },
        _ if mode == AttachedMode::Native => AttachError::NoRoom { interface: name, source },
        _ => AttachError::Other { interface: name, detail: source.to_string() },
    }
}

/// Name and id of a loaded program.
fn describe(id: u32) -> String {
    let found = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    let name = found.and_then(|program| program.name_as_str().map(str::to_owned));
    name.map_or_else(|| format!("id {id}"), |name| format!("`{name}` (id {id})"))
}

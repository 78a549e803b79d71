// SPDX-License-Identifier: Apache-2.0
//! The way past the kernel's stack: the classifier on an interface, the memory of the AF_XDP port, and fresh sockets for each
//! start of a data plane. It must never end the keeper: where it is not to be had, the sockets serve, and it is said why.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use dataplane_abi::interface::{InterfaceRecord, store_text};
use dataplane_abi::xdp::XdpConfig;
use dataplane_io::xdp::{self, Geometry, PortMemory};
use dataplane_shm::Segment;
use ebpf_loader::{AttachedMode, Attachment, Classifier, Interface, Mode, Object, Sizes};

use crate::{powers, say};

/// Queues that the maps have room for.
const MOST_QUEUES: u32 = 64;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The interface.
    pub interface: String,
    /// Native, generic, or what can be had.
    pub mode: Mode,
    /// Receive queues to serve; all unless said.
    pub queues: Option<u16>,
    /// UDP port of media.
    pub media_port: u16,
    /// Workers, each with a socket per queue.
    pub workers: u16,
}

/// The classifier on its interface, and what belongs to it.
struct Attached {
    attachment: Attachment,
    memory: PortMemory,
    maps: Vec<(&'static str, OwnedFd)>,
    /// Holds the program.
    _classifier: Classifier,
}

/// What a data plane gets at one start; the sockets are closed here once it has them.
pub struct Lent<'f> {
    attached: MutexGuard<'f, Option<Attached>>,
    sockets: Vec<OwnedFd>,
}

impl Lent<'_> {
    /// The descriptors by name.
    #[must_use]
    pub fn descriptors(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let Some(attached) = self.attached.as_ref() else { return Vec::new() };
        let memory = [("umem", &attached.memory.umem), ("frames", &attached.memory.frames)];
        let maps = attached.maps.iter().map(|(name, fd)| (*name, fd));
        let named = memory.into_iter().chain(maps).map(|(name, fd)| (name.to_owned(), fd.as_fd()));
        let sockets = self.sockets.iter().enumerate().map(|(index, fd)| (format!("xsk{index}"), fd.as_fd()));
        named.chain(sockets).collect()
    }
}

/// The fast path of one interface.
pub struct FastPath {
    wish: Wish,
    segment: Segment,
    attached: Mutex<Option<Attached>>,
    /// Number of the interface when it was tried last and refused; 0 = there was none.
    refused_on: AtomicU64,
    /// What was said last about its absence, so that it is said once.
    said: Mutex<String>,
}

impl FastPath {
    /// Attaches where it can be; why not otherwise.
    pub fn open(wish: Wish, segment: Segment) -> (Self, Result<(), String>) {
        let (attached, said) = (Mutex::new(None), Mutex::new(String::new()));
        let path = Self { wish, segment, attached, refused_on: AtomicU64::new(0), said };
        let result = path.attach(&mut path.lock());
        (path, result)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fresh sockets for a data plane that starts. The classifier is put on the interface again where that has come back.
    #[must_use]
    pub fn lend(&self) -> Lent<'_> {
        let mut attached = self.lock();
        let is_there = attached.as_ref().is_some_and(|attached| is_on(&attached.attachment));
        if !is_there {
            *attached = None;
            if let Err(why) = powers::raised(|| self.attach(&mut attached)) {
                self.complain(&why);
                return Lent { attached, sockets: Vec::new() };
            }
        }
        let sockets = attached.as_ref().map_or_else(|| Ok(Vec::new()), |it| powers::raised(|| it.memory.sockets()));
        match sockets {
            Ok(sockets) => {
                self.count(|record| &record.handed, 1);
                Lent { attached, sockets }
            }
            Err(error) => {
                let why = format!("no AF_XDP sockets: {error}");
                self.describe(2, None, &why);
                self.complain(&why);
                *attached = None;
                Lent { attached, sockets: Vec::new() }
            }
        }
    }

    /// Whether the interface has come (back) since the classifier could not be put on it.
    #[must_use]
    pub fn is_back(&self) -> bool {
        let now = || Interface::named(&self.wish.interface).map_or(0, |interface| u64::from(interface.index));
        self.lock().is_none() && now() != 0 && now() != self.refused_on.load(Ordering::Relaxed)
    }

    /// Says why the sockets serve, once for each reason.
    pub fn complain(&self, why: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != why {
            say(&format!("the kernel's stack carries the packets: {why}"));
            why.clone_into(&mut said);
        }
    }

    fn attach(&self, place: &mut Option<Attached>) -> Result<(), String> {
        match self.try_attach() {
            Ok(attached) => {
                let mode = attached.attachment.mode;
                let why = attached.attachment.why_not_native.as_ref().map(ToString::to_string).unwrap_or_default();
                self.describe(1, Some(&attached), &why);
                self.count(|record| &record.attached, 1);
                self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let queues = attached.memory.geometry.queues;
                let because = if why.is_empty() { String::new() } else { format!("; not native: {why}") };
                say(&format!("{}: XDP {} on {queues} queues{because}", self.wish.interface, mode.name()));
                *place = Some(attached);
                Ok(())
            }
            Err(error) => {
                let there = Interface::named(&self.wish.interface).map_or(0, |interface| u64::from(interface.index));
                self.refused_on.store(there, Ordering::Relaxed);
                let why = format!("{error:#}");
                self.describe(2, None, &why);
                Err(why)
            }
        }
    }

    fn try_attach(&self) -> anyhow::Result<Attached> {
        let wish = &self.wish;
        let interface = Interface::named(&wish.interface)?;
        let queues = wish.queues.map_or(interface.rx_queues, u32::from).clamp(1, MOST_QUEUES);
        let object = Object::from_environment()?;
        let transports = self.segment.capacities().transports;
        let mut classifier = Classifier::load(&object, Sizes::for_transports(transports))?;
        let attachment = classifier.attach(&wish.interface, wish.mode, queues)?;
        let mode = match attachment.mode {
            AttachedMode::Native => xdp::Mode::Native,
            AttachedMode::Generic => xdp::Mode::Generic,
        };
        let found = xdp::setup::interface(&wish.interface)?;
        let geometry = Geometry::new(found, mode, u16::try_from(queues).unwrap_or(u16::MAX), wish.workers)?;
        let memory = PortMemory::create(geometry)?;
        let config = XdpConfig::new(wish.media_port, queues, u32::from(wish.workers));
        let mut maps = classifier.maps().context("the classifier's maps")?;
        maps.config.set(&config).context("the classifier's config")?;
        let maps = classifier.map_fds().context("the classifier's maps")?;
        Ok(Attached { attachment, memory, maps, _classifier: classifier })
    }

    /// Writes what is known where tools read it.
    fn describe(&self, state: u64, attached: Option<&Attached>, reason: &str) {
        let Some(record) = self.segment.interface() else { return };
        let set = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        store_text(&record.name, &self.wish.interface);
        store_text(&record.reason, reason);
        let geometry = attached.map(|attached| &attached.memory.geometry);
        let mode = geometry.map_or(0, |geometry| match geometry.mode {
            xdp::Mode::Native => 1,
            xdp::Mode::Generic => 2,
        });
        set(&record.mode, mode);
        set(&record.index, geometry.map_or(0, |geometry| u64::from(geometry.interface.index)));
        set(&record.mtu, geometry.map_or(0, |geometry| u64::from(geometry.interface.mtu)));
        set(&record.queues, geometry.map_or(0, |geometry| u64::from(geometry.queues)));
        set(&record.sockets, geometry.map_or(0, |geometry| geometry.pairs().count() as u64));
        set(&record.state, state);
        record.version.store(1, Ordering::Release);
    }

    fn count(&self, cell: impl FnOnce(&InterfaceRecord) -> &AtomicU64, more: u64) {
        if let Some(record) = self.segment.interface() {
            cell(record).fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// Whether the interface is still the one that the classifier was put on, with nobody's program taken off since.
fn is_on(attachment: &Attachment) -> bool {
    Interface::named(&attachment.interface.name)
        .is_ok_and(|now| now.index == attachment.interface.index && now.xdp_program.is_some())
}

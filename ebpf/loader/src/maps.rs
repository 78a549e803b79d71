// SPDX-License-Identifier: Apache-2.0
//! Typed handles on the classifier's maps, made from descriptors. An update is one system call (about 1 µs), allocates nothing
//! and needs no capability (Linux ≥ 5.19). Every user of a map has a handle of its own on a duplicate of the descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::WORKERS;
use dataplane_abi::xdp::{self, FailureEntry, FailureKey, FlowEntry, StrangerEntry, XdpConfig, XdpFate, xsk_key};

/// Bytes of a [`FlowKey`] as the map has them.
const FLOW_KEY: usize = size_of::<FlowKey>();
const FLOW_ENTRY: usize = size_of::<FlowEntry>();
const CONFIG_BYTES: usize = size_of::<XdpConfig>();

/// Why a map refused.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// There is no room for another entry.
    #[error("the map is full")]
    Full,
    /// The key lies outside the map.
    #[error("the key is outside the map")]
    OutOfRange,
    /// The descriptor is not this map: another type or other sizes.
    #[error("not the map {name}: {detail}")]
    NotThisMap {
        /// The map that was expected.
        name: &'static str,
        /// What was found.
        detail: String,
    },
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    System(io::Error),
}

impl From<aya::maps::MapError> for MapError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no refusals of an update")]
    fn from(error: aya::maps::MapError) -> Self {
        match error {
            aya::maps::MapError::SyscallError(error) if error.io_error.kind() == io::ErrorKind::ArgumentListTooLong => {
                Self::Full
            }
            aya::maps::MapError::SyscallError(error) => Self::System(error.io_error),
            aya::maps::MapError::OutOfBounds { .. } => Self::OutOfRange,
            other => Self::System(io::Error::other(other)),
        }
    }
}

/// Whether an entry was there.
fn removed(result: Result<(), aya::maps::MapError>) -> Result<bool, MapError> {
    match result.map_err(MapError::from) {
        Ok(()) => Ok(true),
        Err(MapError::System(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn found<T>(result: Result<T, aya::maps::MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a descriptor as aya's map of the given variant and type.
macro_rules! open {
    ($fd:expr, $name:expr, $variant:ident, $ty:ty) => {{
        let wrong = |detail: String| MapError::NotThisMap { name: $name, detail };
        let data = MapData::from_fd($fd).map_err(MapError::from)?;
        let map = Map::from_map_data(data).map_err(|error| wrong(error.to_string()))?;
        if !matches!(map, Map::$variant(_)) {
            return Err(wrong(format!("{map:?}").chars().take_while(|c| c.is_alphanumeric()).collect()));
        }
        <$ty>::try_from(map).map_err(|error| wrong(error.to_string()))?
    }};
}

/// [`xdp::FLOWS`]: the owner worker of each admitted flow.
pub struct FlowMap(HashMap<MapData, [u8; FLOW_KEY], [u8; FLOW_ENTRY]>);

impl FlowMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::FLOWS, HashMap, HashMap<_, _, _>)))
    }

    /// Gives a flow to a worker, whoever had it before.
    ///
    /// # Errors
    /// [`MapError::Full`]: the flow stays a stranger, whose media the classifier drops; forget another one first.
    pub fn insert(&mut self, flow: &FlowKey, worker: u32) -> Result<(), MapError> {
        let mut entry = [0; FLOW_ENTRY];
        entry[..4].copy_from_slice(&worker.to_ne_bytes());
        Ok(self.0.insert(flow_bytes(flow), entry, 0)?)
    }

    /// Forgets a flow; says whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, flow: &FlowKey) -> Result<bool, MapError> {
        removed(self.0.remove(&flow_bytes(flow)))
    }

    /// The worker that owns a flow.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self, flow: &FlowKey) -> Result<Option<u32>, MapError> {
        let entry = found(self.0.get(&flow_bytes(flow), 0))?;
        Ok(entry.map(|[a, b, c, d, ..]| u32::from_ne_bytes([a, b, c, d])))
    }

    /// All flows that are in the map, for the one who starts and must forget those that are no longer admitted. Not for
    /// the packet path.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flows(&self) -> Result<Vec<FlowKey>, MapError> {
        self.0.keys().map(|key| key.map(|bytes| flow_of(&bytes)).map_err(MapError::from)).collect()
    }
}

/// The key's memory, without looking at it as memory.
fn flow_bytes(flow: &FlowKey) -> [u8; FLOW_KEY] {
    let mut bytes = [0; FLOW_KEY];
    bytes[..16].copy_from_slice(&flow.local);
    bytes[16..32].copy_from_slice(&flow.remote);
    bytes[32..34].copy_from_slice(&flow.local_port.to_ne_bytes());
    bytes[34..36].copy_from_slice(&flow.remote_port.to_ne_bytes());
    bytes
}

fn flow_of(bytes: &[u8; FLOW_KEY]) -> FlowKey {
    let mut flow = FlowKey::default();
    flow.local.copy_from_slice(&bytes[..16]);
    flow.remote.copy_from_slice(&bytes[16..32]);
    flow.local_port = u16::from_ne_bytes([bytes[32], bytes[33]]);
    flow.remote_port = u16::from_ne_bytes([bytes[34], bytes[35]]);
    flow
}

/// [`xdp::XSKS`]: the sockets that frames are redirected to.
pub struct XskMap(aya::maps::XskMap<MapData>);

impl XskMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::XSKS, XskMap, aya::maps::XskMap<_>)))
    }

    /// Makes `socket` the one of `worker` at `queue`. It must be bound to that queue: the kernel drops a frame that is
    /// redirected to a socket of another one.
    ///
    /// # Errors
    /// [`MapError::OutOfRange`], or the kernel's.
    pub fn insert(&mut self, queue: u32, worker: u32, socket: BorrowedFd<'_>) -> Result<(), MapError> {
        check_worker(worker)?;
        Ok(self.0.set(xsk_key(queue, worker), socket.as_raw_fd(), 0)?)
    }

    /// Takes the socket out, if there is one; the kernel does so by itself when the socket is closed.
    ///
    /// # Errors
    /// [`MapError::OutOfRange`], or the kernel's.
    pub fn remove(&mut self, queue: u32, worker: u32) -> Result<(), MapError> {
        check_worker(worker)?;
        removed(self.0.unset(xsk_key(queue, worker))).map(drop)
    }
}

/// A worker beyond the stride would be another queue's.
fn check_worker(worker: u32) -> Result<(), MapError> {
    let known = usize::try_from(worker).is_ok_and(|worker| worker < WORKERS);
    known.then_some(()).ok_or(MapError::OutOfRange)
}

/// [`xdp::STRANGERS`]: who answers unknown sources of each queue.
pub struct StrangerMap(Array<MapData, [u8; size_of::<StrangerEntry>()]>);

impl StrangerMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::STRANGERS, Array, Array<_, _>)))
    }

    /// Sends unknown sources of `queue` to `worker`.
    ///
    /// # Errors
    /// [`MapError::OutOfRange`], or the kernel's.
    pub fn set(&mut self, queue: u32, worker: u32) -> Result<(), MapError> {
        check_worker(worker)?;
        let mut entry = [0; size_of::<StrangerEntry>()];
        entry[..4].copy_from_slice(&worker.to_ne_bytes());
        Ok(self.0.set(queue, entry, 0)?)
    }

    /// The worker that gets unknown sources of `queue`.
    ///
    /// # Errors
    /// [`MapError::OutOfRange`], or the kernel's.
    pub fn get(&self, queue: u32) -> Result<u32, MapError> {
        let [a, b, c, d, ..] = self.0.get(&queue, 0)?;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }
}

/// [`xdp::FAILURES`]: failed checks by prefix.
pub struct FailureMap(HashMap<MapData, [u8; size_of::<FailureKey>()], [u64; 2]>);

impl FailureMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::FAILURES, LruHashMap, HashMap<_, _, _>)))
    }

    /// Counts one failed check of a v4-mapped or IPv6 address at `now_ns` of `CLOCK_MONOTONIC`, in windows of `window_ns`. Two
    /// workers that count at once may lose one of the two: the limit is a brake, not an account.
    ///
    /// # Errors
    /// The kernel's.
    pub fn record(&mut self, remote: [u8; 16], now_ns: u64, window_ns: u64) -> Result<FailureEntry, MapError> {
        let after = self.get(remote)?.after_failure(now_ns, window_ns);
        self.0.insert(failure_bytes(remote), [after.window_start_ns, after.failures], 0)?;
        Ok(after)
    }

    /// What is counted for the prefix of an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self, remote: [u8; 16]) -> Result<FailureEntry, MapError> {
        let [window_start_ns, failures] = found(self.0.get(&failure_bytes(remote), 0))?.unwrap_or_default();
        Ok(FailureEntry { window_start_ns, failures })
    }
}

fn failure_bytes(remote: [u8; 16]) -> [u8; size_of::<FailureKey>()] {
    let FailureKey { family, prefix: [a, b, c, d, e, f], reserve } = FailureKey::of(remote);
    [family, a, b, c, d, e, f, reserve]
}

/// [`xdp::LOCALS`]: our addresses.
pub struct LocalMap(HashMap<MapData, [u8; 16], u64>);

impl LocalMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::LOCALS, HashMap, HashMap<_, _, _>)))
    }

    /// Makes a v4-mapped or IPv6 address ours.
    ///
    /// # Errors
    /// [`MapError::Full`]: packets to this address are served by the socket.
    pub fn insert(&mut self, address: [u8; 16]) -> Result<(), MapError> {
        Ok(self.0.insert(address, 1, 0)?)
    }

    /// Takes an address away; says whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, address: [u8; 16]) -> Result<bool, MapError> {
        removed(self.0.remove(&address))
    }

    /// All our addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&self) -> Result<Vec<[u8; 16]>, MapError> {
        self.0.keys().map(|key| key.map_err(MapError::from)).collect()
    }
}

/// [`xdp::CONFIG`].
pub struct ConfigMap(Array<MapData, [u8; CONFIG_BYTES]>);

impl ConfigMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::CONFIG, Array, Array<_, _>)))
    }

    /// Stores the config; the next frame is judged by it. A frame that is judged meanwhile may see a mixture.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&mut self, config: &XdpConfig) -> Result<(), MapError> {
        let mut bytes = [0; CONFIG_BYTES];
        let words = [config.version, config.media_port, config.queues, config.workers, config.failure_limit];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[24..32].copy_from_slice(&config.failure_window_ns.to_ne_bytes());
        Ok(self.0.set(0, bytes, 0)?)
    }

    /// The config as it is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&self) -> Result<XdpConfig, MapError> {
        let bytes = self.0.get(&0, 0)?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut window = [0; 8];
        window.copy_from_slice(&bytes[24..32]);
        Ok(XdpConfig {
            version: word(0),
            media_port: word(4),
            queues: word(8),
            workers: word(12),
            failure_limit: word(16),
            failure_window_ns: u64::from_ne_bytes(window),
            ..XdpConfig::zeroed()
        })
    }
}

/// [`xdp::COUNTERS`]: frames by fate.
pub struct CounterMap(PerCpuArray<MapData, u64>);

impl CounterMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// [`MapError::NotThisMap`], or the kernel's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self(open!(fd, xdp::COUNTERS, PerCpuArray, PerCpuArray<_, _>)))
    }

    /// Frames of this fate since the map was made, of all CPUs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, fate: XdpFate) -> Result<u64, MapError> {
        self.slot(u32::try_from(fate.index()).unwrap_or(u32::MAX))
    }

    /// Frames of every fate, in the order of [`XdpFate::ALL`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_all(&self) -> Result<[u64; XdpFate::COUNT], MapError> {
        let mut all = [0; XdpFate::COUNT];
        for (to, fate) in all.iter_mut().zip(XdpFate::ALL) {
            *to = self.read(*fate)?;
        }
        Ok(all)
    }

    /// Redirected frames that carry no arrival stamp; see [`xdp::UNSTAMPED`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn unstamped(&self) -> Result<u64, MapError> {
        self.slot(xdp::UNSTAMPED)
    }

    fn slot(&self, index: u32) -> Result<u64, MapError> {
        Ok(self.0.get(&index, 0)?.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one)))
    }
}

/// aya's handles print nothing, or their internals.
macro_rules! print_by_name {
    ($($map:ident),*) => {$(
        impl std::fmt::Debug for $map {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($map))
            }
        }
    )*};
}
print_by_name!(FlowMap, XskMap, StrangerMap, FailureMap, LocalMap, ConfigMap, CounterMap);

/// A handle on each map.
#[derive(Debug)]
pub struct Maps {
    /// Owner worker by flow.
    pub flows: FlowMap,
    /// Socket by (queue, worker).
    pub xsks: XskMap,
    /// Worker by queue.
    pub strangers: StrangerMap,
    /// Failed checks by prefix.
    pub failures: FailureMap,
    /// Our addresses.
    pub locals: LocalMap,
    /// The config.
    pub config: ConfigMap,
    /// Frames by fate.
    pub counters: CounterMap,
}

impl Maps {
    /// Handles from descriptors, which `fd` gives by the map's name.
    ///
    /// # Errors
    /// The first error of `fd` or of a map.
    pub fn open<E: From<MapError>>(mut fd: impl FnMut(&'static str) -> Result<OwnedFd, E>) -> Result<Self, E> {
        Ok(Self {
            flows: FlowMap::from_fd(fd(xdp::FLOWS)?)?,
            xsks: XskMap::from_fd(fd(xdp::XSKS)?)?,
            strangers: StrangerMap::from_fd(fd(xdp::STRANGERS)?)?,
            failures: FailureMap::from_fd(fd(xdp::FAILURES)?)?,
            locals: LocalMap::from_fd(fd(xdp::LOCALS)?)?,
            config: ConfigMap::from_fd(fd(xdp::CONFIG)?)?,
            counters: CounterMap::from_fd(fd(xdp::COUNTERS)?)?,
        })
    }
}

/// A duplicate of a map's descriptor.
#[expect(clippy::wildcard_enum_match_arm, reason = "the classifier has maps of these types only")]
pub(crate) fn duplicate(map: &Map) -> Option<io::Result<OwnedFd>> {
    let fd = match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::XskMap(data) => {
            data.fd()
        }
        _ => return None,
    };
    Some(fd.as_fd().try_clone_to_owned())
}

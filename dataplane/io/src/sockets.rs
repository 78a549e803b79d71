// SPDX-License-Identifier: Apache-2.0
//! The socket port over recvmmsg and sendmmsg, for machines that deny io_uring.
//!
//! Same frames, paths and stamps as the io_uring port; one system call per batch each way, one more per poll of an idle
//! socket. Only `wait` blocks.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::{BATCH, FRAME_BYTES};

use crate::ancillary::RECEIVE_CONTROL_BYTES;
use crate::memory::Region;
use crate::paths::PathTable;
use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::received::Receiver;
use crate::socket::{self, SetupError, SocketConfig};
use crate::transmit::{TxFrames, empty_message, is_temporary, takes_no_trains};
use crate::wait::{self, Wait};

/// Datagrams of one sendmmsg.
const SUBMISSIONS: usize = 256;
const NAME_ROOM: usize = 32;
const VECTOR_ROOM: usize = 16;
/// Bytes of a rx frame before the payload: vector, name, control messages.
const HEAD_BYTES: usize = VECTOR_ROOM + NAME_ROOM + RECEIVE_CONTROL_BYTES;
const BUFFER_BYTES: usize = HEAD_BYTES + FRAME_BYTES;

const _: () = assert!(size_of::<libc::iovec>() == VECTOR_ROOM && HEAD_BYTES.is_multiple_of(64));

/// A packet of the current batch.
#[derive(Clone, Copy, Debug)]
struct Packet {
    frame: usize,
    len: usize,
    meta: RxMeta,
}

/// The port; it belongs to the thread that opened it.
pub struct SocketsPort {
    socket: OwnedFd,
    rx: Region,
    /// One header per rx frame, pointing into it.
    rx_headers: Vec<libc::mmsghdr>,
    batch: Vec<Packet>,
    receiver: Receiver,
    tx: TxFrames,
    tx_headers: Vec<libc::mmsghdr>,
    /// The frames of `tx_headers`.
    taken: Vec<u16>,
    paths: PathTable,
    flushed: Flushed,
    rx_discarded: u64,
}

impl core::fmt::Debug for SocketsPort {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SocketsPort")
            .field("batch", &self.batch.len())
            .field("room", &self.tx.room())
            .finish_non_exhaustive()
    }
}

impl SocketsPort {
    /// Opens the port; it stays on the calling thread.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(socket: OwnedFd, config: SocketConfig) -> Result<Self, SetupError> {
        let binding = socket::prepare(&socket)?;
        let rx = Region::new(BATCH * BUFFER_BYTES)?;
        let rx_headers = (0..BATCH).filter_map(|frame| rx_header(&rx, frame * BUFFER_BYTES)).collect();
        Ok(Self {
            rx,
            rx_headers,
            batch: Vec::with_capacity(BATCH),
            receiver: Receiver::new(binding.port),
            tx: socket::tx_frames(&socket, config)?,
            tx_headers: Vec::with_capacity(SUBMISSIONS),
            taken: Vec::with_capacity(SUBMISSIONS),
            paths: PathTable::new(binding, config.paths),
            flushed: Flushed::default(),
            rx_discarded: 0,
            socket,
        })
    }

    /// Datagrams that left as segments of a train behind its first one.
    #[must_use]
    pub const fn segmented(&self) -> u64 {
        self.tx.segmented()
    }

    /// Datagrams that were received and not delivered: longer than a frame, or without an address.
    #[must_use]
    pub const fn rx_discarded(&self) -> u64 {
        self.rx_discarded
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn has_retries(&self) -> bool {
        self.tx.has_retries()
    }

    /// Asks the kernel for datagrams; says how many frames it filled.
    fn ask(&mut self, max: usize) -> usize {
        let Some(headers) = self.rx_headers.get_mut(..max) else { return 0 };
        for header in headers.iter_mut() {
            header.msg_hdr.msg_namelen = u32::try_from(NAME_ROOM).unwrap_or(0);
            header.msg_hdr.msg_controllen = RECEIVE_CONTROL_BYTES;
            header.msg_hdr.msg_flags = 0;
        }
        let count = u32::try_from(headers.len()).unwrap_or(0);
        let (socket, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: because each header points into its own frame of `rx`, which outlives the call and of which no slice
        // lives (self is borrowed mutably and the batch is empty); no timeout is given.
        let received = unsafe { libc::recvmmsg(socket, headers.as_mut_ptr(), count, flags, core::ptr::null_mut()) };
        usize::try_from(received).unwrap_or(0)
    }

    /// Puts a filled frame into the batch.
    fn accept(&mut self, frame: usize) {
        let packet = self.rx_headers.get(frame).and_then(|header| {
            let message = &header.msg_hdr;
            let at = frame * BUFFER_BYTES + VECTOR_ROOM;
            let name_len = usize::try_from(message.msg_namelen).ok()?.min(NAME_ROOM);
            let control_len = message.msg_controllen.min(RECEIVE_CONTROL_BYTES);
            // SAFETY: because recvmmsg has returned, the kernel does not write to the frame.
            let name = unsafe { self.rx.bytes(at, name_len) }?;
            // SAFETY: as for `name`.
            let control = unsafe { self.rx.bytes(at + NAME_ROOM, control_len) }?;
            let meta = self.receiver.meta(name, control)?;
            let is_whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
            let len = usize::try_from(header.msg_len).ok()?;
            is_whole.then_some(Packet { frame, len, meta })
        });
        match packet {
            Some(packet) => self.batch.push(packet),
            None => self.rx_discarded += 1,
        }
    }

    /// Sends frames in order until none is left or the send buffer is full.
    fn send(&mut self, take: fn(&mut TxFrames) -> Option<u16>) {
        loop {
            self.tx_headers.clear();
            self.taken.clear();
            while self.taken.len() < SUBMISSIONS {
                let Some(frame) = take(&mut self.tx) else { break };
                let Some(message) = self.tx.message(frame) else { continue };
                // SAFETY: because the head of a taken frame is initialised and nobody writes to it until it is put back.
                let msg_hdr = unsafe { message.read() };
                self.tx_headers.push(libc::mmsghdr { msg_hdr, msg_len: 0 });
                self.taken.push(frame);
            }
            if self.taken.is_empty() || !self.send_taken() {
                break;
            }
        }
    }

    /// Sends the taken frames; false where the send buffer is full and the rest waits for the next try.
    fn send_taken(&mut self) -> bool {
        let (mut done, mut split) = (0, 0);
        while let Some(headers) = self.tx_headers.get_mut(done..).filter(|headers| !headers.is_empty()) {
            let count = u32::try_from(headers.len()).unwrap_or(0);
            let (socket, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: because the headers point to heads and payloads of taken frames, which nobody writes to until they
            // are put back.
            let sent = unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), count, flags) };
            match usize::try_from(sent) {
                Ok(sent) if sent != 0 => {
                    let frames = self.taken.iter().skip(done).take(sent);
                    self.flushed.frames += frames.map(|frame| self.tx.put_back(*frame)).sum::<u32>();
                    done += sent;
                }
                _ if is_temporary(last_errno()) => break,
                // The first of the rest was refused; the others have not been tried.
                _ => {
                    let Some(refused) = self.taken.get(done).copied() else { break };
                    done += 1;
                    if takes_no_trains(last_errno()) {
                        self.tx.join_frames(false);
                    }
                    split = self.tx.split(refused, 0);
                    if split > 1 {
                        break;
                    }
                    split = 0;
                    self.flushed.errors += self.tx.put_back(refused);
                }
            }
        }
        let rest = self.taken.iter().skip(done);
        for (nth, frame) in (split..).zip(rest) {
            self.tx.again(*frame, nth);
        }
        // A train that was taken apart is no full buffer: its frames go now.
        split > 1 || done == self.taken.len()
    }
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The header of a rx frame, with everything that does not change.
fn rx_header(rx: &Region, at: usize) -> Option<libc::mmsghdr> {
    let vector = rx.address(at, VECTOR_ROOM)?.cast::<libc::iovec>();
    let payload = rx.address(at + HEAD_BYTES, FRAME_BYTES)?;
    let contents = libc::iovec { iov_base: payload.as_ptr().cast(), iov_len: FRAME_BYTES };
    // SAFETY: because frames are 64-byte aligned inside a page-aligned region, and nobody else uses the region yet.
    unsafe { vector.write(contents) };
    let mut message = empty_message();
    message.msg_name = rx.address(at + VECTOR_ROOM, NAME_ROOM)?.as_ptr().cast();
    message.msg_iov = vector.as_ptr();
    message.msg_iovlen = 1;
    message.msg_control = rx.address(at + VECTOR_ROOM + NAME_ROOM, RECEIVE_CONTROL_BYTES)?.as_ptr().cast();
    Some(libc::mmsghdr { msg_hdr: message, msg_len: 0 })
}

impl Port for SocketsPort {
    fn kind(&self) -> PortKind {
        PortKind::Sockets
    }

    fn receive(&mut self, max: usize) -> usize {
        if !self.batch.is_empty() {
            return 0;
        }
        let filled = self.ask(max.min(BATCH));
        if filled != 0 {
            self.receiver.begin_batch();
        }
        for frame in 0..filled {
            self.accept(frame);
        }
        self.batch.len()
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        let packet = self.batch.get(index)?;
        // SAFETY: because the kernel writes to frames inside `receive` only, which needs self mutably.
        let payload = unsafe { self.rx.bytes(packet.frame * BUFFER_BYTES + HEAD_BYTES, packet.len.min(FRAME_BYTES)) }?;
        Some((payload, packet.meta))
    }

    fn release(&mut self) {
        self.batch.clear();
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        self.paths.open(flow, dscp, ecn)
    }

    fn close_path(&mut self, path: PathSlot) {
        self.paths.close(path);
    }

    fn tx_room(&self) -> usize {
        self.tx.room()
    }

    fn room_for(&mut self, _: PathSlot, _: usize) -> usize {
        self.tx_room()
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        self.tx.reserve(path, self.paths.route(path)?, len)
    }

    fn commit(&mut self, len: usize) {
        self.tx.commit(len);
    }

    fn flush(&mut self) -> Flushed {
        self.send(TxFrames::take);
        core::mem::take(&mut self.flushed)
    }

    fn reap(&mut self) {
        if self.tx.has_retries() {
            self.send(TxFrames::take_retry);
        }
    }

    fn rx_overflow(&self) -> u64 {
        self.receiver.overflow()
    }
}

impl Wait for SocketsPort {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        let wanted = if self.tx.has_retries() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let socket = self.socket.as_fd();
        let mut watched = [PollFd::from_borrowed_fd(socket, wanted), PollFd::from_borrowed_fd(wake, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        // EINTR is an answer like any other: the caller looks at its work.
        let answered = poll(&mut watched, timeout.as_ref()).is_ok();
        let [_, woken] = watched;
        if answered && woken.revents().contains(PollFlags::IN) {
            wait::drain(wake);
        }
    }
}

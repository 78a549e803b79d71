// SPDX-License-Identifier: Apache-2.0
//! The socket port over io_uring.
//!
//! ```text
//!  kernel ── multishot recvmsg ──▶ provided buffers ── completions ──▶ ready ── receive ──▶ batch ── release ──▶ kernel
//!  reserve, commit ──▶ committed ── flush: SENDMSG × n, one io_uring_enter ──▶ completions ──▶ free
//! ```
//!
//! Sends say MSG_DONTWAIT, so that each is done when `io_uring_enter` returns: the order of the commits is the order on
//! the wire, and the kernel never parks one behind its successors. One whose send buffer is full is kept and goes first at
//! the next flush or reap; a flush counts what became of the frames since the flush before. The ring is for one thread
//! (SINGLE_ISSUER, DEFER_TASKRUN): packets are received inside our own `io_uring_enter`, never as an interruption, and a
//! poll of an idle socket is no system call. Only `wait` blocks.
//!
//! What io_uring gives: fewer system calls (one for a tile, none while idle) and one sleep on packets and eventfd. What it
//! does not: a cheaper packet (over loopback it costs what sendmmsg and recvmmsg cost), a ring that can be handed to a
//! successor (SCM_RIGHTS answers EINVAL; the sockets are handed on instead, and their buffers bridge the gap), busy polling
//! without CAP_NET_ADMIN, or another worker's packets: SO_REUSEPORT steers by 4-tuple and the group must stay as it is.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::BATCH;

use crate::paths::PathTable;
use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::received::Receiver;
use crate::socket::{self, SetupError, SocketConfig};
use crate::transmit::{TxFrames, is_temporary, takes_no_trains};
use crate::wait::{self, Wait};

mod buffers;

use buffers::RxBuffers;

/// Sends submitted by one `io_uring_enter`; a tile has at most 128.
const SUBMISSIONS: u32 = 256;
/// The socket, registered as the ring's only file.
const SOCKET: Fixed = Fixed(0);
/// User data of the multishot receive.
const RECEIVE: u64 = 1 << 32;
/// User data of the watch on the eventfd.
const WAKE: u64 = 2 << 32;
/// User data of a send: its frame.
const SEND: u64 = 3 << 32;
const KIND: u64 = 0xffff_ffff << 32;
/// Rounds of taking work from the kernel in one `receive`; the kernel gives up to 32 datagrams per round.
const ROUNDS: usize = 4;
/// How long a full send buffer is waited for before the next try.
const RETRY: Duration = Duration::from_millis(1);

/// A completed buffer.
#[derive(Clone, Copy, Debug)]
struct Ready {
    buffer: u16,
    len: u32,
}

/// A packet of the current batch.
#[derive(Clone, Copy, Debug)]
struct Packet {
    buffer: u16,
    len: usize,
    meta: RxMeta,
}

/// What completions change.
#[derive(Debug)]
struct Completed {
    ready: VecDeque<Ready>,
    is_receiving: bool,
    is_watching: bool,
    is_woken: bool,
    /// Sends submitted and not completed.
    sending: u32,
    /// Sends of the last submission that go again.
    stalled: usize,
    flushed: Flushed,
}

/// The port; it belongs to the thread that opened it.
pub struct UringPort {
    ring: IoUring,
    completed: Completed,
    rx: RxBuffers,
    batch: Vec<Packet>,
    receiver: Receiver,
    /// Read by the kernel whenever the multishot receive is armed.
    message: Box<libc::msghdr>,
    tx: TxFrames,
    paths: PathTable,
    watched: RawFd,
    rx_discarded: u64,
    /// Held open for the registered file.
    socket: OwnedFd,
}

impl core::fmt::Debug for UringPort {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UringPort")
            .field("batch", &self.batch.len())
            .field("room", &self.tx.room())
            .finish_non_exhaustive()
    }
}

impl UringPort {
    /// Opens the port on the calling thread, which has to be the worker's.
    ///
    /// # Errors
    /// What the kernel answered: `ENOSYS`, `EPERM` where io_uring is denied, `EINVAL` before Linux 6.1.
    pub fn new(socket: OwnedFd, config: SocketConfig) -> Result<Self, SetupError> {
        let binding = socket::prepare(&socket)?;
        let tx = socket::tx_frames(&socket, config)?;
        let ring = ring(config)?;
        ring.submitter().register_files(&[socket.as_raw_fd()]).map_err(SetupError::io("io_uring_register(FILES)"))?;
        let rx = RxBuffers::new(&ring, config.rx_frames)?;
        let mut port = Self {
            ring,
            completed: Completed {
                ready: VecDeque::with_capacity(usize::from(rx.count())),
                is_receiving: false,
                is_watching: false,
                is_woken: false,
                sending: 0,
                stalled: 0,
                flushed: Flushed::default(),
            },
            rx,
            batch: Vec::with_capacity(BATCH),
            receiver: Receiver::new(binding.port),
            message: Box::new(RxBuffers::message()),
            tx,
            paths: PathTable::new(binding, config.paths),
            watched: -1,
            rx_discarded: 0,
            socket,
        };
        port.arm_receive();
        port.ring.submit().map_err(SetupError::io("io_uring_enter"))?;
        port.drain();
        if port.completed.is_receiving {
            Ok(port)
        } else {
            Err(SetupError { what: "multishot recvmsg", source: std::io::ErrorKind::Unsupported.into() })
        }
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

    /// Whether there is work already: a caller that sleeps on [`Self::socket`] must not.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.drain();
        !self.completed.ready.is_empty() || self.needs_enter()
    }

    /// Readable while datagrams wait in the kernel: they become completions inside our own `io_uring_enter` only.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn has_retries(&self) -> bool {
        self.tx.has_retries()
    }

    /// Puts one request into the submission queue.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: because what the requests point to (message header, heads and payloads of taken frames, the eventfd's
        // number) stays in place until the completion: `message` is boxed, frames are put back by their completion only,
        // and the port quiets the ring before it gives memory back.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Starts the multishot receive if it has ended and there are buffers for it.
    fn arm_receive(&mut self) {
        if self.completed.is_receiving || self.rx.provided() == 0 {
            return;
        }
        let message: *const libc::msghdr = &raw const *self.message;
        let entry = opcode::RecvMsgMulti::new(SOCKET, message, buffers::GROUP).build().user_data(RECEIVE);
        self.completed.is_receiving = self.push(&entry);
    }

    /// Watches the eventfd; the watch stays until the kernel ends it.
    fn arm_wake(&mut self, wake: BorrowedFd<'_>) {
        let wake = wake.as_raw_fd();
        if self.completed.is_watching && self.watched == wake {
            return;
        }
        let readable = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(wake), readable).multi(true).build().user_data(WAKE);
        if self.push(&entry) {
            self.completed.is_watching = true;
            self.watched = wake;
        }
    }

    /// Whether there are requests to submit, or the kernel has work that only runs inside our `io_uring_enter`.
    fn needs_enter(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Enters the kernel and takes what is complete. An error leaves the requests where they are; the next call tries
    /// again.
    fn submit(&mut self) {
        self.completed.stalled = 0;
        let _ = self.ring.submit();
        self.drain();
    }

    /// Takes all completions.
    fn drain(&mut self) {
        for entry in self.ring.completion() {
            self.completed.take(&entry, &mut self.rx, &mut self.tx);
        }
    }

    /// Submits frames in order until none is left or the send buffer is full.
    fn send(&mut self, take: fn(&mut TxFrames) -> Option<u16>) {
        loop {
            let mut pushed = 0;
            while pushed < SUBMISSIONS && !self.ring.submission().is_full() {
                let Some(frame) = take(&mut self.tx) else { break };
                let Some(message) = self.tx.message(frame) else { continue };
                let entry = opcode::SendMsg::new(SOCKET, message)
                    .flags(libc::MSG_DONTWAIT.cast_unsigned())
                    .build()
                    .user_data(SEND | u64::from(frame));
                // There is room: it was asked above.
                self.completed.sending += u32::from(self.push(&entry));
                pushed += 1;
            }
            if self.ring.submission().is_empty() {
                break;
            }
            self.submit();
            if self.completed.stalled != 0 || !self.ring.submission().is_empty() {
                break;
            }
        }
    }

    /// Moves a completed buffer into the batch, or gives it back.
    fn accept(&mut self, ready: Ready) {
        let packet = self.rx.datagram(ready.buffer, ready.len as usize).and_then(|datagram| {
            let meta = self.receiver.meta(datagram.name, datagram.control)?;
            (!datagram.is_truncated).then_some(Packet { buffer: ready.buffer, len: datagram.payload_len, meta })
        });
        if let Some(packet) = packet {
            self.batch.push(packet);
        } else {
            self.rx_discarded += 1;
            self.rx.give(ready.buffer);
            self.rx.publish();
        }
    }
}

/// Builds the ring: as many completions as there can be frames, so that none is ever set aside by the kernel.
fn ring(config: SocketConfig) -> Result<IoUring, SetupError> {
    let frames = u32::from(config.rx_frames).next_power_of_two() + u32::from(config.tx_frames);
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize((frames + SUBMISSIONS).next_power_of_two())
        .build(SUBMISSIONS)
        .map_err(SetupError::io("io_uring_setup"))
}

impl Completed {
    fn take(&mut self, entry: &cqueue::Entry, rx: &mut RxBuffers, tx: &mut TxFrames) {
        let (result, flags) = (entry.result(), entry.flags());
        match entry.user_data() & KIND {
            RECEIVE => {
                self.is_receiving = cqueue::more(flags);
                if let Some(buffer) = cqueue::buffer_select(flags) {
                    rx.took_one();
                    self.ready.push_back(Ready { buffer, len: u32::try_from(result).unwrap_or(0) });
                }
            }
            SEND => {
                let Ok(frame) = u16::try_from(entry.user_data() & !KIND) else { return };
                self.sending = self.sending.saturating_sub(1);
                if result < 0 && is_temporary(-result) {
                    tx.again(frame, self.stalled);
                    self.stalled += 1;
                    return;
                }
                if result >= 0 {
                    self.flushed.frames += tx.put_back(frame);
                    return;
                }
                if takes_no_trains(-result) {
                    tx.join_frames(false);
                }
                match tx.split(frame, self.stalled) {
                    1 => self.flushed.errors += tx.put_back(frame),
                    frames => self.stalled += frames,
                }
            }
            WAKE => {
                self.is_watching = cqueue::more(flags);
                self.is_woken = true;
            }
            _ => {}
        }
    }
}

impl Port for UringPort {
    fn kind(&self) -> PortKind {
        PortKind::Uring
    }

    fn receive(&mut self, max: usize) -> usize {
        if !self.batch.is_empty() {
            return 0;
        }
        let max = max.min(BATCH);
        self.drain();
        for _ in 0..ROUNDS {
            self.arm_receive();
            if self.completed.ready.len() >= max || !self.needs_enter() {
                break;
            }
            self.submit();
        }
        if !self.completed.ready.is_empty() {
            self.receiver.begin_batch();
        }
        while self.batch.len() < max {
            let Some(ready) = self.completed.ready.pop_front() else { break };
            self.accept(ready);
        }
        self.batch.len()
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        let packet = self.batch.get(index)?;
        Some((self.rx.payload(packet.buffer, packet.len)?, packet.meta))
    }

    fn release(&mut self) {
        for packet in self.batch.drain(..) {
            self.rx.give(packet.buffer);
        }
        self.rx.publish();
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
        core::mem::take(&mut self.completed.flushed)
    }

    fn reap(&mut self) {
        self.drain();
        if self.tx.has_retries() {
            self.send(TxFrames::take_retry);
        }
    }

    fn rx_overflow(&self) -> u64 {
        self.receiver.overflow()
    }
}

impl Wait for UringPort {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        self.drain();
        self.arm_receive();
        self.arm_wake(wake);
        if self.completed.ready.is_empty() && !self.completed.is_woken {
            let timeout = if self.tx.has_retries() { timeout.min(RETRY) } else { timeout };
            let timeout = Timespec::from(timeout);
            self.completed.stalled = 0;
            // ETIME and EINTR are answers like any other: the caller looks at its work.
            let _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
            self.drain();
        }
        if core::mem::take(&mut self.completed.is_woken) {
            wait::drain(wake);
        }
    }
}

impl Drop for UringPort {
    fn drop(&mut self) {
        let patience = Timespec::new().nsec(100_000_000);
        let _ = self.ring.submitter().register_sync_cancel(Some(patience), CancelBuilder::any());
        for _ in 0..16 {
            self.submit();
            if !self.completed.is_receiving && self.completed.sending == 0 {
                return;
            }
        }
        // The kernel did not let go: its memory stays, rather than being written to under another owner.
        self.rx.leak();
        self.tx.leak();
        Box::leak(core::mem::replace(&mut self.message, Box::new(RxBuffers::message())));
    }
}

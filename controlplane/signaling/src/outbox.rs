// SPDX-License-Identifier: Apache-2.0
//! The way from the session core to one WebSocket: bounded in messages and bytes, never a wait.
//!
//! Replies and events take the same way, so a client sees them in the order in which things happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, watch};

use crate::code::CloseCode;
use crate::event::{Encoded, ServerMessage};

/// Messages that wait for a client at most.
const MAX_MESSAGES: usize = 256;
/// Bytes that wait for a client at most.
const MAX_BYTES: usize = 1 << 20;

/// One WebSocket, for as long as it lives. Never given twice within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What is queued for a WebSocket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message.
    Text(Encoded),
    /// The reply that makes its connection a participant's.
    Welcome(Encoded),
    /// The last of all.
    Close(CloseCode),
}

/// The sending end. After a refusal the connection closes; nothing more can be sent.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    waiting_bytes: Arc<AtomicUsize>,
    overflow: watch::Sender<bool>,
}

/// The receiving end, in the connection's task.
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<Outgoing>,
    waiting_bytes: Arc<AtomicUsize>,
    overflow: watch::Receiver<bool>,
}

/// The client does not take what is sent to it; its connection closes with 4002.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client reads too slowly")]
pub struct TooSlow;

impl Outbox {
    /// Both ends.
    #[must_use]
    pub fn channel() -> (Self, Inbox) {
        let (queue, queued) = mpsc::channel(MAX_MESSAGES);
        let (overflow, overflowed) = watch::channel(false);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let inbox = Inbox { queue: queued, waiting_bytes: Arc::clone(&waiting_bytes), overflow: overflowed };
        (Self { queue, waiting_bytes, overflow }, inbox)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`TooSlow`]: the bounds are reached, or the connection has gone.
    pub fn send(&self, text: Encoded) -> Result<(), TooSlow> {
        self.push(text, Outgoing::Text)
    }

    /// Queues a reply.
    ///
    /// # Errors
    /// [`TooSlow`], as for [`Self::send`].
    pub fn reply(&self, message: &ServerMessage) -> Result<(), TooSlow> {
        self.send(message.encode())
    }

    /// Queues `joined`: from here on the connection is a participant's.
    ///
    /// # Errors
    /// [`TooSlow`], as for [`Self::send`].
    pub fn welcome(&self, message: &ServerMessage) -> Result<(), TooSlow> {
        self.push(message.encode(), Outgoing::Welcome)
    }

    /// Closes the connection behind what is queued, or at once when there is no place.
    pub fn close(&self, code: CloseCode) {
        if self.queue.try_send(Outgoing::Close(code)).is_err() {
            self.overflow.send_replace(true);
        }
    }

    fn push(&self, text: Encoded, wrap: impl FnOnce(Encoded) -> Outgoing) -> Result<(), TooSlow> {
        let len = text.as_str().len();
        // Relaxed: a count that decides nothing but when to give up; the queue orders the messages.
        let waiting = self.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        if waiting + len > MAX_BYTES || self.queue.try_send(wrap(text)).is_err() {
            self.overflow.send_replace(true);
            return Err(TooSlow);
        }
        Ok(())
    }
}

impl Inbox {
    /// The next one; `None` when nobody can send any more.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        self.queue.recv().await
    }

    /// The next one, if it waits.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        self.queue.try_recv().ok()
    }

    /// A text has been given to the socket.
    pub(crate) fn taken(&self, text: &Encoded) {
        // Relaxed: see `Outbox::push`.
        self.waiting_bytes.fetch_sub(text.as_str().len(), Ordering::Relaxed);
    }

    /// Becomes true when the bounds were reached.
    pub(crate) fn overflow(&self) -> watch::Receiver<bool> {
        self.overflow.clone()
    }

    /// The next text that waits, for tests of whoever sends.
    #[must_use]
    pub fn try_text(&mut self) -> Option<String> {
        match self.try_next()? {
            Outgoing::Text(text) | Outgoing::Welcome(text) => {
                self.taken(&text);
                Some(text.as_str().to_owned())
            }
            Outgoing::Close(code) => Some(format!("close {}", code.number())),
        }
    }
}

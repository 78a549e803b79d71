// SPDX-License-Identifier: Apache-2.0
//! What HTTP and WebSockets ask of the session core, and how it is answered: one bounded queue, one reply each.
//!
//! Nothing here prints an SDP body or a resource id: the first holds credentials, the second is one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use controlplane_room::{DisplayName, ParticipantId, RoomName, RoomSummary, TrackId};
use tokio::sync::{mpsc, oneshot};

use crate::access::Rights;
use crate::message::{Offer, ResumeToken, SlotWish};
use crate::outbox::{ConnectionId, Outbox};
use crate::problem::{Problem, ProblemKind};

/// An SDP body. It does not print: it holds ICE credentials and addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct SdpText(pub String);

impl fmt::Debug for SdpText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SdpText({} bytes)", self.0.len())
    }
}

/// A WHIP or WHEP session's URL component: 128 random bits, 32 hex digits. Whoever knows it may end the session,
/// so it does not print through `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceId(pub [u8; 16]);

impl ResourceId {
    /// The 32 lower-case hex digits of the URL.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceId(..)")
    }
}

impl FromStr for ResourceId {
    type Err = Problem;

    /// # Errors
    /// [`ProblemKind::ResourceUnknown`]: what is not 32 lower-case hex digits names no session.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let value = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let unknown = || Problem::new(ProblemKind::ResourceUnknown, "there is no such session");
        value.map(|value| Self(value.to_be_bytes())).ok_or_else(unknown)
    }
}

/// An accepted offer.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The session, for its `Location`.
    pub resource: ResourceId,
    /// Identifies the ICE session (RFC 9725 §4.3.1): any text without quotes, never a credential.
    pub etag: String,
    /// The publisher's id (its own when publishing, the watched one when watching).
    pub participant: ParticipantId,
    /// The answer.
    pub answer: SdpText,
}

/// Why the core refused: a problem for the caller.
pub type Refusal = Problem;

/// A participant that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The room.
    pub room: RoomName,
    /// The display name.
    pub name: DisplayName,
    /// What it may do there.
    pub rights: Rights,
}

/// What the client of a WebSocket asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To become a participant.
    Join(Entry),
    /// To be the participant that it was.
    Resume(ResumeToken),
    /// An answer.
    Offer(Offer),
    /// Other tracks in its slots.
    Subscribe(Vec<SlotWish>),
    /// To tell the room that a track of its own is muted, or no longer.
    Mute {
        /// The track.
        track: TrackId,
        /// Whether it is.
        muted: bool,
    },
    /// To end.
    Leave,
}

/// One question to the session core.
#[derive(Debug)]
pub enum Request {
    /// Somebody offers to publish.
    Publish {
        /// The room.
        room: RoomName,
        /// The display name, whose slug becomes the participant's id; `None`: any free one.
        name: Option<DisplayName>,
        /// The offer.
        offer: SdpText,
        /// Who asks, for bounds per address only.
        peer: IpAddr,
        /// The answer goes here.
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    /// Somebody offers to watch.
    Watch {
        /// The room.
        room: RoomName,
        /// Whom; the latest publisher when `None`.
        participant: Option<ParticipantId>,
        /// The offer.
        offer: SdpText,
        /// Who asks, for bounds per address only.
        peer: IpAddr,
        /// The answer goes here.
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    /// A session is to end.
    Leave {
        /// The room in its URL; a session of another room is not found.
        room: RoomName,
        /// The session.
        resource: ResourceId,
        /// The answer goes here.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A client's message over a WebSocket; its one reply goes into the outbox, among the events, in order.
    Participant {
        /// The WebSocket.
        connection: ConnectionId,
        /// The request's id, for the reply.
        id: u64,
        /// What is asked for.
        ask: Ask,
        /// Who asks, for bounds per address only.
        peer: IpAddr,
        /// Where replies and, once joined, events go.
        outbox: Outbox,
    },
    /// A WebSocket has gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// Who publishes where.
    Rooms {
        /// The answer goes here.
        reply: oneshot::Sender<Vec<RoomSummary>>,
    },
}

/// The sending end of the queue to the session core.
#[derive(Clone, Debug)]
pub struct Client {
    queue: mpsc::Sender<Request>,
}

impl Client {
    /// A queue of `capacity` requests and its two ends.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(capacity);
        (Self { queue }, requests)
    }

    /// Sends what `make` builds around a reply channel and waits for the reply.
    ///
    /// # Errors
    /// [`ProblemKind::Busy`] when the queue is full, [`ProblemKind::Stopping`] when the core is gone.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.try_tell(make(reply))?;
        answer.await.map_err(|_| stopping())
    }

    /// Sends a request whose reply does not come back this way.
    ///
    /// # Errors
    /// As for [`Self::ask`].
    pub(crate) fn try_tell(&self, request: Request) -> Result<(), Problem> {
        self.queue.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Problem::new(ProblemKind::Busy, "the server answers as many requests as it can; try again")
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })
    }

    /// Sends what the core must hear, and waits for a place for it. A core that is gone need not hear it.
    pub(crate) async fn tell(&self, request: Request) {
        let _ = self.queue.send(request).await;
    }
}

fn stopping() -> Problem {
    Problem::new(ProblemKind::Stopping, "the server is stopping")
}

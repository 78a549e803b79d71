// SPDX-License-Identifier: Apache-2.0
//! The message between keeper and clients: one line of text with the descriptors' names in order, and the descriptors.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The socket's name in the runtime directory.
pub const SOCKET_NAME: &str = "keeper.sock";
/// What a plane says instead of a role once it serves.
pub const READY: &str = "ready";
const NOTED: &str = "noted\n";
/// Descriptors of one message; the kernel allows 253.
const MAX_DESCRIPTORS: usize = 200;
const MAX_LINE: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The data plane: everything.
    DataPlane,
    /// The control plane: intent, keys, durable state read-only, wake-ups.
    ControlPlane,
    /// A tool: counters and intent, read-only.
    Reader,
}

impl Role {
    /// The word that a client sends.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DataPlane => "dataplane",
            Self::ControlPlane => "controlplane",
            Self::Reader => "reader",
        }
    }

    /// Reads a client's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::DataPlane, Self::ControlPlane, Self::Reader].into_iter().find(|role| role.word() == word)
    }
}

/// Why descriptors could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody listens.
    #[error("no keeper answers at {path}: {source}; start Millrace, or name its --runtime-dir")]
    Connect {
        /// The socket.
        path: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("the keeper's answer did not arrive: {0}")]
    Io(#[from] std::io::Error),
    /// The keeper refused.
    #[error("the keeper refused: {0}")]
    Refused(String),
    /// A descriptor that should be there is not.
    #[error("the keeper did not hand over {0:?}; keeper and this program are of different versions")]
    Missing(String),
}

/// Descriptors by name.
#[derive(Debug, Default)]
pub struct Handed {
    descriptors: BTreeMap<String, OwnedFd>,
}

impl Handed {
    /// Copies of descriptors, without a message.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn duplicates(descriptors: &[(String, BorrowedFd<'_>)]) -> std::io::Result<Self> {
        let copy = |(name, descriptor): &(String, BorrowedFd<'_>)| Ok((name.clone(), descriptor.try_clone_to_owned()?));
        Ok(Self { descriptors: descriptors.iter().map(copy).collect::<std::io::Result<_>>()? })
    }

    /// A descriptor, to be borrowed.
    ///
    /// # Errors
    /// [`HandoverError::Missing`].
    pub fn borrow(&self, name: &str) -> Result<BorrowedFd<'_>, HandoverError> {
        let descriptor = self.descriptors.get(name).ok_or_else(|| HandoverError::Missing(name.into()))?;
        Ok(descriptor.as_fd())
    }

    /// A descriptor, to be kept.
    ///
    /// # Errors
    /// [`HandoverError::Missing`].
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, HandoverError> {
        self.descriptors.remove(name).ok_or_else(|| HandoverError::Missing(name.into()))
    }

    /// How many descriptors have a name that begins so.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.descriptors.keys().filter(|name| name.starts_with(prefix)).count()
    }
}

/// Asks the keeper whose socket lies in `runtime_dir` for the descriptors of a role.
///
/// # Errors
/// See [`HandoverError`].
pub fn request(runtime_dir: &Path, role: Role) -> Result<Handed, HandoverError> {
    receive(&say(runtime_dir, role.word())?)
}

/// Tells the keeper that this plane serves: from then on its end is a crash and no failed start.
///
/// # Errors
/// See [`HandoverError`].
pub fn ready(runtime_dir: &Path) -> Result<(), HandoverError> {
    let stream = say(runtime_dir, READY)?;
    let mut answer = [0; 256];
    let len = rustix::io::read(&stream, &mut answer[..]).map_err(std::io::Error::from)?;
    let answer = String::from_utf8_lossy(answer.get(..len).unwrap_or(&[]));
    if answer == NOTED { Ok(()) } else { Err(HandoverError::Refused(answer.trim_end().into())) }
}

/// Notes what [`ready`] says.
///
/// # Errors
/// What the kernel says.
pub fn note(stream: &UnixStream) -> std::io::Result<()> {
    rustix::io::write(stream, NOTED.as_bytes())?;
    Ok(())
}

fn say(runtime_dir: &Path, word: &str) -> Result<UnixStream, HandoverError> {
    let path = runtime_dir.join(SOCKET_NAME);
    let stream = UnixStream::connect(&path)
        .map_err(|source| HandoverError::Connect { path: path.display().to_string(), source })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    rustix::io::write(&stream, format!("{word}\n").as_bytes()).map_err(std::io::Error::from)?;
    Ok(stream)
}

fn receive(stream: &UnixStream) -> Result<Handed, HandoverError> {
    let mut line = vec![0; MAX_LINE];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut line)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(std::io::Error::from)?;
    let text = String::from_utf8_lossy(line.get(..received.bytes).unwrap_or(&[])).into_owned();
    let words = text.trim_end();
    if let Some(reason) = words.strip_prefix("refused ") {
        return Err(HandoverError::Refused(reason.into()));
    }
    let names = words.strip_prefix("descriptors ").ok_or_else(|| HandoverError::Refused("no answer".into()))?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None });
    Ok(Handed { descriptors: names.split(' ').map(String::from).zip(descriptors.flatten()).collect() })
}

/// Sends descriptors with their names.
///
/// # Errors
/// What the kernel says.
pub fn send(stream: &UnixStream, descriptors: &[(String, BorrowedFd<'_>)]) -> std::io::Result<()> {
    let names: Vec<&str> = descriptors.iter().map(|(name, _)| name.as_str()).collect();
    let line = format!("descriptors {}\n", names.join(" "));
    let raw: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, descriptor)| *descriptor).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&raw)) {
        return Err(std::io::Error::other("too many descriptors for one message"));
    }
    sendmsg(stream, &[IoSlice::new(line.as_bytes())], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Says no.
///
/// # Errors
/// What the kernel says.
pub fn refuse(stream: &UnixStream, reason: &str) -> std::io::Result<()> {
    rustix::io::write(stream, format!("refused {reason}\n").as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_arrive_under_their_names() {
        let (here, there) = UnixStream::pair().unwrap();
        let event = rustix::event::eventfd(7, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        send(&here, &[("wake0".into(), event.as_fd()), ("wake1".into(), event.as_fd())]).unwrap();
        let mut handed = receive(&there).unwrap();
        assert_eq!(handed.count("wake"), 2);
        let mut word = [0; 8];
        rustix::io::read(handed.borrow("wake1").unwrap(), &mut word).unwrap();
        assert_eq!(u64::from_ne_bytes(word), 7);
        assert!(handed.take("wake0").is_ok());
        assert!(matches!(handed.take("wake0"), Err(HandoverError::Missing(_))));
    }

    #[test]
    fn a_refusal_arrives_with_its_reason() {
        let (here, there) = UnixStream::pair().unwrap();
        refuse(&here, "you are not the data plane").unwrap();
        assert_eq!(receive(&there).unwrap_err().to_string(), "the keeper refused: you are not the data plane");
    }
}

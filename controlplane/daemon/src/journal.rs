// SPDX-License-Identifier: Apache-2.0
//! The journal of events: who joined, published and left, as JSON lines, written by io_uring on a thread of its own.
//!
//! It must never block signalling (a full queue drops a line and counts it), never hold an address, a token or an SDP
//! body, and never grow beyond its files: `journal.jsonl` is written, `journal.1.jsonl` is the one before, and so on.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use controlplane_room::{Event, EventKind, LeaveReason};
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait for the thread. 1024 × ≤ 512 B = 0.5 MiB.
const QUEUE_LEN: usize = 1024;
/// Most lines that are written at once.
const BATCH_LEN: usize = 64;

/// How the files are kept.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// The directory, 0700.
    pub(crate) dir: PathBuf,
    /// Largest file, in bytes.
    pub(crate) max_len: u64,
    /// How many files, the one being written among them.
    pub(crate) files: u32,
}

impl Rotation {
    fn path(&self, age: u32) -> PathBuf {
        match age {
            0 => self.dir.join("journal.jsonl"),
            age => self.dir.join(format!("journal.{age}.jsonl")),
        }
    }

    /// Opens the file being written and says how long it is.
    fn open(&self) -> io::Result<(std::fs::File, u64)> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(self.path(0))?;
        let len = file.metadata()?.len();
        Ok((file, len))
    }

    /// Moves every file one step back; the oldest is replaced.
    fn shift(&self) -> io::Result<()> {
        for age in (0..self.files.saturating_sub(1)).rev() {
            let from = self.path(age);
            if from.exists() {
                std::fs::rename(from, self.path(age + 1))?;
            }
        }
        Ok(())
    }
}

/// One line of the journal, without its time.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Entry {
    pub(crate) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) participant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transport: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl From<&Event> for Entry {
    fn from(event: &Event) -> Self {
        let (name, detail) = match event.kind {
            EventKind::Watching => ("watching", None),
            EventKind::Published { tracks } => ("published", Some(format!("{tracks} tracks"))),
            EventKind::Joined => ("joined", None),
            EventKind::ConsentLost => ("consent_lost", None),
            EventKind::ConsentBack => ("consent_back", None),
            EventKind::PublisherLeft => ("publisher_left", None),
            EventKind::Left(reason) => ("left", Some(leave_reason(reason).to_owned())),
        };
        Self {
            event: name,
            room: Some(event.room.to_string()),
            participant: event.participant.as_ref().map(ToString::to_string),
            transport: Some(event.transport.0),
            detail,
        }
    }
}

/// The word for a reason.
pub(crate) fn leave_reason(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Asked => "asked",
        LeaveReason::NeverValidated => "never_validated",
        LeaveReason::ConsentLost => "consent_lost",
        LeaveReason::Replaced => "replaced",
        LeaveReason::HandshakeFailed => "handshake_failed",
        LeaveReason::TableFull => "table_full",
        LeaveReason::Renewed => "renewed",
        LeaveReason::ParticipantGone => "participant_gone",
        LeaveReason::NotResumed => "not_resumed",
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the epoch.
    time_ms: u64,
    #[serde(flatten)]
    entry: &'a Entry,
}

fn render(entry: &Entry) -> Vec<u8> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let mut line = serde_json::to_vec(&Line { time_ms, entry }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    queue: mpsc::Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the thread. It ends, with everything written, when the last sending end is gone.
    pub(crate) fn start(rotation: Rotation) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, lines) = mpsc::channel(QUEUE_LEN);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { rotation, lines, dropped: Arc::clone(&dropped), failed: false };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run())?;
        Ok((Self { queue, dropped }, thread))
    }

    /// Adds a line, or counts it as dropped when the queue is full.
    pub(crate) fn record(&self, entry: &Entry) {
        if self.queue.try_send(render(entry)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where bytes go: through the ring, or by plain writes where io_uring is denied.
enum Sink {
    Uring(tokio_uring::fs::File),
    Plain(std::fs::File),
}

impl Sink {
    async fn write(&mut self, bytes: Vec<u8>, at: u64) -> io::Result<()> {
        match self {
            Self::Uring(file) => file.write_all_at(bytes, at).await.0,
            Self::Plain(file) => {
                io::Seek::seek(file, io::SeekFrom::Start(at))?;
                file.write_all(&bytes)
            }
        }
    }

    /// Makes what was written durable and lets go of the file.
    async fn finish(self) -> io::Result<()> {
        match self {
            Self::Uring(file) => {
                file.sync_data().await?;
                file.close().await
            }
            Self::Plain(file) => file.sync_data(),
        }
    }
}

struct Writer {
    rotation: Rotation,
    lines: mpsc::Receiver<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    failed: bool,
}

impl Writer {
    fn run(mut self) {
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => runtime.block_on(self.drain(|file| Sink::Uring(tokio_uring::fs::File::from_std(file)))),
            Err(denied) => {
                tracing::warn!("io_uring is denied ({denied}): the journal is written by plain writes");
                self.run_plain();
            }
        }
    }

    fn run_plain(&mut self) {
        match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime.block_on(self.drain(Sink::Plain)),
            Err(source) => tracing::error!("the journal is not written: {source}"),
        }
    }

    /// Writes until every sending end is gone.
    async fn drain(&mut self, wrap: impl Fn(std::fs::File) -> Sink) {
        let mut open: Option<(Sink, u64)> = None;
        let mut batch = Vec::with_capacity(BATCH_LEN);
        while self.lines.recv_many(&mut batch, BATCH_LEN).await > 0 {
            let missed = self.dropped.swap(0, Ordering::Relaxed);
            if missed > 0 {
                let detail = Some(format!("{missed} lines"));
                batch.push(render(&Entry { event: "journal_dropped", detail, ..Entry::default() }));
            }
            let lines = batch.len();
            match self.write(open.take(), batch.concat(), &wrap).await {
                Ok(next) => {
                    self.failed = false;
                    open = Some(next);
                }
                Err(source) => {
                    self.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
                    if !std::mem::replace(&mut self.failed, true) {
                        tracing::error!("cannot write the journal in {}: {source}", self.rotation.dir.display());
                    }
                }
            }
            batch.clear();
        }
        if let Some((sink, _)) = open
            && let Err(source) = sink.finish().await
        {
            tracing::error!("cannot finish the journal in {}: {source}", self.rotation.dir.display());
        }
    }

    async fn write(
        &self,
        open: Option<(Sink, u64)>,
        bytes: Vec<u8>,
        wrap: &impl Fn(std::fs::File) -> Sink,
    ) -> io::Result<(Sink, u64)> {
        let reopen = || self.rotation.open().map(|(file, len)| (wrap(file), len));
        let (mut sink, mut at) = match open {
            Some(open) => open,
            None => reopen()?,
        };
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if at > 0 && at.saturating_add(len) > self.rotation.max_len {
            sink.finish().await?;
            self.rotation.shift()?;
            (sink, at) = reopen()?;
        }
        sink.write(bytes, at).await?;
        Ok((sink, at + len))
    }
}

/// The journal's directory in a state directory.
pub(crate) fn dir_in(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn rotation(name: &str, max_len: u64, files: u32) -> Rotation {
        let dir = std::env::temp_dir().join(format!("millrace-journal-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Rotation { dir, max_len, files }
    }

    fn entry(transport: u64) -> Entry {
        Entry { event: "joined", room: Some("demo".into()), transport: Some(transport), ..Entry::default() }
    }

    /// Waits until the thread has taken what is queued, so that a test decides what is dropped.
    fn settle(journal: &Journal) {
        while journal.queue.capacity() < QUEUE_LEN {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn transports(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).expect("is there");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("is JSON")["transport"].as_u64();
        text.lines().map(|text| line(text).expect("has a transport")).collect()
    }

    #[test]
    fn lines_are_written_in_order_and_go_on_after_a_restart() {
        let rotation = rotation("order", 1 << 20, 3);
        for first in [0, 500] {
            let (journal, thread) = Journal::start(rotation.clone()).expect("starts");
            for transport in first..first + 500 {
                journal.record(&entry(transport));
            }
            drop(journal);
            thread.join().expect("ends");
        }
        assert_eq!(transports(&rotation.path(0)), (0..1000).collect::<Vec<_>>());
        let mode = std::fs::metadata(rotation.path(0)).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::fs::remove_dir_all(rotation.dir).expect("removed");
    }

    #[test]
    fn files_are_rotated_by_size_and_the_oldest_goes() {
        let rotation = rotation("rotate", 2000, 3);
        let (journal, thread) = Journal::start(rotation.clone()).expect("starts");
        for transport in 0..400 {
            journal.record(&entry(transport));
            settle(&journal);
        }
        drop(journal);
        thread.join().expect("ends");
        let mut files = std::fs::read_dir(&rotation.dir).expect("is there").count();
        assert_eq!(files, 3);
        let mut seen = Vec::new();
        for age in (0..3).rev() {
            assert!(std::fs::metadata(rotation.path(age)).expect("is there").len() <= 2000);
            seen.extend(transports(&rotation.path(age)));
            files -= 1;
        }
        assert_eq!(files, 0);
        assert_eq!(seen.last(), Some(&399));
        assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing is lost between files: {seen:?}");
        std::fs::remove_dir_all(rotation.dir).expect("removed");
    }

    #[test]
    fn a_full_queue_drops_lines_counts_them_and_never_waits() {
        let (queue, lines) = mpsc::channel(4);
        let dropped = Arc::new(AtomicU64::new(0));
        let journal = Journal { queue, dropped: Arc::clone(&dropped) };
        for transport in 0..10 {
            journal.record(&entry(transport));
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 6);
        let rotation = rotation("full", 1 << 20, 2);
        let writer = Writer { rotation: rotation.clone(), lines, dropped, failed: false };
        drop(journal);
        writer.run();
        let text = std::fs::read_to_string(rotation.path(0)).expect("is there");
        assert!(text.contains("journal_dropped") && text.contains("6 lines"), "{text}");
        std::fs::remove_dir_all(rotation.dir).expect("removed");
    }

    #[test]
    fn plain_writes_do_the_same_where_io_uring_is_denied() {
        let rotation = rotation("plain", 2000, 3);
        let (queue, lines) = mpsc::channel(1000);
        let mut writer =
            Writer { rotation: rotation.clone(), lines, dropped: Arc::new(AtomicU64::new(0)), failed: false };
        for transport in 0..60 {
            queue.try_send(render(&entry(transport))).expect("queued");
        }
        drop(queue);
        writer.run_plain();
        let seen: Vec<u64> = (0..3)
            .rev()
            .map(|age| rotation.path(age))
            .filter(|path| path.exists())
            .flat_map(|path| transports(&path))
            .collect();
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        std::fs::remove_dir_all(rotation.dir).expect("removed");
    }
}

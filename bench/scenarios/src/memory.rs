// SPDX-License-Identifier: Apache-2.0
//! What a process has in memory, by what it is for: the parts of the shared segment, frames of packets, and the rest of its own.
//! Pages are counted once, however often they are mapped (Pss): a data plane that serves a table maps its segment twice.

use anyhow::{Context as _, Result};

/// Bytes in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// What the control plane has asked for: transports, tracks, subscriptions.
    pub intent: u64,
    /// SRTP keys.
    pub keys: u64,
    /// State that outlives a worker.
    pub durable: u64,
    /// The packet store: per source, whoever receives it.
    pub store: u64,
    /// Frames that packets come and go in.
    pub frames: u64,
    /// Heap and stacks: what workers derive from intent.
    pub private: u64,
    /// Code, libraries, whatever else is mapped.
    pub other: u64,
}

impl Resident {
    /// Of a process, now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps");
        Ok(Self::parse(&std::fs::read_to_string(&path).with_context(|| path)?))
    }

    /// By the mappings' names, as `/proc/PID/smaps` has them.
    fn parse(smaps: &str) -> Self {
        let mut resident = Self::default();
        let mut name = "";
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if let (Some("kB"), Some(kib)) = (words.clone().nth(1), words.next().filter(|_| first.ends_with(':'))) {
                if first == "Pss:" {
                    *resident.part(name) += kib.parse().unwrap_or(0) * 1024;
                }
            } else if !first.ends_with(':') {
                // address perms offset device inode [path]
                name = line.split_whitespace().nth(5).unwrap_or("");
            }
        }
        resident
    }

    fn part(&mut self, name: &str) -> &mut u64 {
        match name.strip_prefix("/memfd:millrace-") {
            Some("intent") => &mut self.intent,
            Some("keys") => &mut self.keys,
            Some("durable") => &mut self.durable,
            Some("store") => &mut self.store,
            Some(_) => &mut self.frames,
            None if name.is_empty() || name.starts_with("[heap]") || name.starts_with("[stack") => &mut self.private,
            None if name.starts_with("[anon") => &mut self.private,
            None => &mut self.other,
        }
    }

    /// What grows with transports and subscriptions: everything but the packet store, frames and code.
    #[must_use]
    pub const fn per_peer(&self) -> u64 {
        self.intent + self.keys + self.durable + self.private
    }

    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.per_peer() + self.store + self.frames + self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_apart_by_their_names_and_shared_pages_count_once() {
        let map = |path: &str, rss: u32, pss: u32| {
            format!(
                "7f0000000000-7f0000100000 rw-s 00000000 00:01 15 {path}\nSize: 1024 kB\nRss: {rss} kB\nPss: {pss} kB\nPss_Dirty: 9 kB\nVmFlags: rd wr\n"
            )
        };
        let smaps = [
            map("/memfd:millrace-durable (deleted)", 8, 4),
            map("/memfd:millrace-durable (deleted)", 8, 4),
            map("/memfd:millrace-store (deleted)", 64, 64),
            map("/memfd:millrace-frames (deleted)", 32, 32),
            map("", 12, 12),
            map("[heap]", 4, 4),
            map("/usr/lib/libc.so.6", 100, 10),
        ];
        let resident = Resident::parse(&smaps.concat());
        let kib = |kib: u64| kib * 1024;
        assert_eq!((resident.durable, resident.store, resident.frames), (kib(8), kib(64), kib(32)));
        assert_eq!((resident.private, resident.other, resident.per_peer()), (kib(16), kib(10), kib(24)));
        assert_eq!(resident.total(), kib(130));
        assert!(Resident::of(i32::try_from(std::process::id()).expect("a pid")).expect("here").private > 0);
    }
}

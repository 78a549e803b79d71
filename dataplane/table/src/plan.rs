// SPDX-License-Identifier: Apache-2.0
//! Every transport, track and subscription of a table, one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::keys::{Cipher, Keys};
use crate::table::{PublisherGroup, ReceiverGroup, Table, TableError, TrackEntry};

/// Transports of a plan at most: a mistyped count must not fill the memory.
const MOST_TRANSPORTS: usize = 1 << 20;
/// Streams of a plan at most.
const MOST_STREAMS: usize = 1 << 22;

/// A track as its publisher sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Track {
    /// `opus`, `vp8`, `vp9`, `h264` or `av1`.
    pub codec: &'static str,
    /// Payload type, the same on every leg.
    pub pt: u8,
    /// SSRC on the publisher's leg.
    pub ssrc: u32,
    /// RTP clock, Hz.
    pub clock_rate: u32,
}

impl Track {
    /// Whether it is a picture.
    #[must_use]
    pub fn is_video(&self) -> bool {
        self.codec != "opus"
    }
}

/// Who sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publisher {
    /// Where from.
    pub remote: SocketAddr,
    /// Keys of the transport.
    pub keys: Keys,
    /// What.
    pub tracks: Vec<Track>,
}

/// A track as a receiver gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Index of the publisher in the plan.
    pub publisher: usize,
    /// Index of the track in its publisher.
    pub track: usize,
    /// SSRC on the receiver's leg.
    pub ssrc: u32,
}

/// Who receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// Where to.
    pub remote: SocketAddr,
    /// Keys of the transport.
    pub keys: Keys,
    /// What.
    pub streams: Vec<Stream>,
}

/// All of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The server's address and port.
    pub server: SocketAddr,
    /// Profile of every transport.
    pub cipher: Cipher,
    /// Who sends.
    pub publishers: Vec<Publisher>,
    /// Who receives.
    pub receivers: Vec<Receiver>,
}

impl Plan {
    /// Streams of all receivers.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.receivers.iter().map(|receiver| receiver.streams.len()).sum()
    }

    /// Tracks of all publishers.
    #[must_use]
    pub fn tracks(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.tracks.len()).sum()
    }
}

impl Table {
    /// Every transport, track and subscription.
    ///
    /// # Errors
    /// [`TableError::Content`] where the parts do not fit together.
    pub fn plan(&self) -> Result<Plan, TableError> {
        let mut plan = Plan { server: self.server, cipher: self.cipher, publishers: Vec::new(), receivers: Vec::new() };
        let transports = self.publishers.iter().map(|group| group.count);
        let transports = transports.chain(self.receivers.iter().map(|group| group.count));
        let transports: u64 = transports.map(u64::from).sum();
        if transports > MOST_TRANSPORTS as u64 {
            return Err(content(format!("{transports} transports, at most {MOST_TRANSPORTS} are possible")));
        }
        let mut groups = Vec::new();
        for group in &self.publishers {
            groups.push((group.name.as_str(), plan.publishers.len(), group.count as usize));
            self.add_publishers(&mut plan, group)?;
        }
        for group in &self.receivers {
            let Some((_, first, count)) = groups.iter().find(|(name, ..)| *name == group.from) else {
                return Err(content(format!("there is no publisher {:?}", group.from)));
            };
            self.add_receivers(&mut plan, group, (*first, *count))?;
        }
        Ok(plan)
    }

    fn keys(&self, given: (Option<&str>, Option<&str>), number: usize) -> Result<Keys, TableError> {
        match given {
            (None, None) => Ok(Keys::derived(self.cipher, self.seed, number as u64)),
            (Some(rx), Some(tx)) => Keys::given(self.cipher, rx, tx).ok_or_else(|| {
                let bytes = self.cipher.key_len() + self.cipher.salt_len();
                content(format!("rx_key and tx_key of {} are {bytes} bytes in hex each", self.cipher.name()))
            }),
            _ => Err(content("rx_key and tx_key are given both or not at all".to_owned())),
        }
    }

    fn add_publishers(&self, plan: &mut Plan, group: &PublisherGroup) -> Result<(), TableError> {
        for at in 0..group.count {
            let given = (group.rx_key.as_deref(), group.tx_key.as_deref());
            let keys = self.keys(given, plan.publishers.len())?;
            let tracks = group.tracks.iter().map(|entry| track(entry, at)).collect::<Result<_, _>>()?;
            plan.publishers.push(Publisher { remote: counted(group.remote, at)?, keys, tracks });
        }
        Ok(())
    }

    fn add_receivers(
        &self,
        plan: &mut Plan,
        group: &ReceiverGroup,
        (first, count): (usize, usize),
    ) -> Result<(), TableError> {
        let rooms = group.rooms.max(1) as usize;
        let receivers = group.count as usize;
        if !receivers.is_multiple_of(rooms) || !count.is_multiple_of(rooms) {
            return Err(content(format!("{count} publishers and {receivers} receivers do not fill {rooms} rooms")));
        }
        let (senders, listeners) = (count / rooms, receivers / rooms);
        let mut ssrc = group.ssrc;
        let mut streams_in_all = plan.streams();
        for at in 0..receivers {
            let number = plan.publishers.len() + plan.receivers.len();
            let keys = self.keys((group.rx_key.as_deref(), group.tx_key.as_deref()), number)?;
            let room = at / listeners;
            let mut streams = Vec::new();
            for publisher in first + room * senders..first + (room + 1) * senders {
                if group.except_own && publisher == first + at {
                    continue;
                }
                let tracks = plan.publishers.get(publisher).map_or(0, |publisher| publisher.tracks.len());
                for track in 0..tracks {
                    streams.push(Stream { publisher, track, ssrc });
                    ssrc = ssrc.wrapping_add(1).max(1);
                }
            }
            streams_in_all += streams.len();
            if streams_in_all > MOST_STREAMS {
                return Err(content(format!("more than {MOST_STREAMS} streams")));
            }
            let remote = counted(group.remote, u32::try_from(at).unwrap_or(u32::MAX))?;
            plan.receivers.push(Receiver { remote, keys, streams });
        }
        Ok(())
    }
}

fn content(text: String) -> TableError {
    TableError::Content(text)
}

fn track(entry: &TrackEntry, at: u32) -> Result<Track, TableError> {
    const CODECS: [(&str, u32); 5] =
        [("opus", 48_000), ("vp8", 90_000), ("vp9", 90_000), ("h264", 90_000), ("av1", 90_000)];
    let known = CODECS.into_iter().find(|(name, _)| *name == entry.codec);
    let (codec, clock) =
        known.ok_or_else(|| content(format!("codec {:?} is none of opus, vp8, vp9, h264, av1", entry.codec)))?;
    if entry.pt > 127 {
        return Err(content(format!("payload type {} is above 127", entry.pt)));
    }
    let ssrc = entry.ssrc.wrapping_add(at);
    Ok(Track { codec, pt: entry.pt, ssrc, clock_rate: entry.clock_rate.unwrap_or(clock) })
}

/// The address `more` places on.
fn counted(first: SocketAddr, more: u32) -> Result<SocketAddr, TableError> {
    let ip = match first.ip() {
        IpAddr::V4(ip) => u32::from(ip).checked_add(more).map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
        IpAddr::V6(ip) => u128::from(ip).checked_add(u128::from(more)).map(|ip| IpAddr::V6(Ipv6Addr::from(ip))),
    };
    let ip = ip.ok_or_else(|| content(format!("there are no {more} addresses behind {first}")))?;
    Ok(SocketAddr::new(ip, first.port()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::table::tests::WEBINAR;

    fn table(text: &str) -> Table {
        toml::from_str(text).expect("a table")
    }

    #[test]
    fn three_thousand_receivers_are_one_entry() {
        let plan = table(WEBINAR).plan().expect("a plan");
        assert_eq!((plan.publishers.len(), plan.receivers.len(), plan.streams()), (1, 3000, 6000));
        assert_eq!(plan.receivers[255].remote.to_string(), "10.10.1.0:6000");
        let ssrcs: BTreeSet<u32> = plan.receivers.iter().flat_map(|r| r.streams.iter().map(|s| s.ssrc)).collect();
        assert_eq!(ssrcs.len(), 6000);
        assert_ne!(plan.receivers[0].keys, plan.receivers[1].keys);
        assert_eq!(plan.publishers[0].tracks[1].clock_rate, 48_000);
    }

    #[test]
    fn a_room_receives_its_own_people_except_oneself() {
        let text = WEBINAR
            .replace("remote = \"10.99", "count = 6\nremote = \"10.99")
            .replace("count = 3000", "count = 6\nrooms = 2\nexcept_own = true");
        let plan = table(&text).plan().expect("a plan");
        let seen = |at: usize| plan.receivers[at].streams.iter().map(|s| s.publisher).collect::<Vec<_>>();
        assert_eq!(seen(0), [1, 1, 2, 2]);
        assert_eq!(seen(4), [3, 3, 5, 5]);
        assert_eq!(plan.publishers[5].tracks[0].ssrc, 1006);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_numbers() {
        for (from, to, named) in [
            ("from = \"speaker\"", "from = \"nobody\"", "nobody"),
            ("count = 3000", "count = 3000000", "3000001"),
            ("codec = \"vp8\"", "codec = \"theora\"", "theora"),
            ("pt = 96", "pt = 200", "200"),
            ("count = 3000", "count = 3000\nrooms = 7", "7 rooms"),
            ("10.10.0.1", "255.255.255.255", "255.255.255.255"),
            ("count = 3000", "count = 3000\nrx_key = \"00\"", "both"),
            ("count = 3000", "rx_key = \"00\"\ntx_key = \"00\"", "28 bytes"),
        ] {
            let error = table(&WEBINAR.replace(from, to)).plan().expect_err(to).to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
    }
}

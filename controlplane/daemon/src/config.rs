// SPDX-License-Identifier: Apache-2.0
//! Configuration: the defaults, the file `millrace.toml`, and the command line, in rising order.
//!
//! Every default is in [`Config::default`] and nowhere else; `--print-config` shows the outcome. A key that is not
//! known is an error with its line, never a key without effect.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

/// The file's name.
const FILE: &str = "millrace.toml";

/// The whole configuration, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// HTTP without TLS, for this host.
    pub(crate) listen_plain: Vec<SocketAddr>,
    /// HTTPS.
    pub(crate) listen: Vec<SocketAddr>,
    /// PEM certificate chain for HTTPS; self-signed when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM key for HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Where certificate, keys, counters and journal are.
    pub(crate) state_dir: PathBuf,
    /// Where the keeper's socket is; the keeper says so on the command line.
    #[serde(skip, default = "dataplane_keeper::default_runtime_dir")]
    pub(crate) runtime_dir: PathBuf,
    /// Whether publishing and watching need no token from anywhere.
    pub(crate) open_rooms: bool,
    /// Whether watching needs a token too.
    pub(crate) viewers_need_token: bool,
    /// Origins whose pages may open WebSockets beside the server's own, as `https://meet.example`.
    pub(crate) allowed_origins: Vec<String>,
    /// File with the HS256 key of tokens (its bytes, without a line end); made and kept in the store when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_key_file: Option<PathBuf>,
    /// Addresses signalled as candidates; those of the interfaces when empty.
    pub(crate) media_address: Vec<IpAddr>,
    /// What a 1:1 NAT shows instead: `203.0.113.9`, or `10.0.0.1=203.0.113.9` for one address.
    pub(crate) external_address: Vec<ExternalAddress>,
    /// The UDP port of media on every address.
    pub(crate) media_port: u16,
    /// What is logged, as `MILLRACE_LOG` says it.
    pub(crate) log: String,
    /// Bounds.
    pub(crate) limits: LimitConfig,
    /// The journal of events.
    pub(crate) journal: JournalConfig,
}

/// Bounds of the session core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitConfig {
    /// Rooms.
    pub(crate) rooms: usize,
    /// Participants in one room, WHIP publishers among them.
    pub(crate) participants_per_room: usize,
    /// Viewers in one room.
    pub(crate) viewers_per_room: usize,
    /// Tracks of one participant.
    pub(crate) tracks_per_participant: usize,
    /// Slots of one participant for audio, and as many for video.
    pub(crate) slots_per_kind: usize,
    /// WebSockets from one IPv4 address or IPv6 /64 that have not joined.
    pub(crate) unjoined_per_address: usize,
    /// Joins per second from one IPv4 address or IPv6 /64, on average.
    pub(crate) joins_per_address_s: u32,
    /// Transports from one IPv4 address or IPv6 /64 that wait for their first check.
    pub(crate) pending_per_address: usize,
    /// Requests that wait for the session core.
    pub(crate) queued_requests: usize,
    /// Seconds that a transport may wait for its first check.
    pub(crate) validation_timeout_s: u64,
    /// Seconds that a transport stays after its consent has run out.
    pub(crate) lost_timeout_s: u64,
    /// Seconds that a participant stays after its WebSocket has gone.
    pub(crate) resume_ttl_s: u64,
}

/// The journal of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JournalConfig {
    /// Largest file, in MiB.
    pub(crate) file_mib: u64,
    /// How many files are kept, the one being written among them.
    pub(crate) files: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_plain: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
            listen: Vec::new(),
            tls_cert: None,
            tls_key: None,
            state_dir: default_state_dir(),
            runtime_dir: dataplane_keeper::default_runtime_dir(),
            open_rooms: false,
            viewers_need_token: false,
            allowed_origins: Vec::new(),
            token_key_file: None,
            media_address: Vec::new(),
            external_address: Vec::new(),
            media_port: 10000,
            log: "info".into(),
            limits: LimitConfig::default(),
            journal: JournalConfig::default(),
        }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        let room = controlplane_room::Limits::default();
        Self {
            rooms: room.rooms,
            participants_per_room: room.participants_per_room,
            viewers_per_room: room.viewers_per_room,
            tracks_per_participant: room.tracks_per_participant,
            slots_per_kind: room.slots_per_kind,
            unjoined_per_address: 16,
            joins_per_address_s: 50,
            pending_per_address: 64,
            queued_requests: 1024,
            validation_timeout_s: room.validation_timeout.as_secs(),
            lost_timeout_s: room.lost_timeout.as_secs(),
            resume_ttl_s: room.resume_ttl.as_secs(),
        }
    }
}

impl LimitConfig {
    /// The conference's part.
    pub(crate) fn room_limits(&self) -> controlplane_room::Limits {
        controlplane_room::Limits {
            rooms: self.rooms,
            participants_per_room: self.participants_per_room,
            viewers_per_room: self.viewers_per_room,
            validation_timeout: Duration::from_secs(self.validation_timeout_s),
            lost_timeout: Duration::from_secs(self.lost_timeout_s),
            resume_ttl: Duration::from_secs(self.resume_ttl_s),
            tracks_per_participant: self.tracks_per_participant,
            slots_per_kind: self.slots_per_kind,
            ..controlplane_room::Limits::default()
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { file_mib: 16, files: 4 }
    }
}

/// A 1:1 NAT mapping in its written form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ExternalAddress {
    pub(crate) internal: Option<IpAddr>,
    pub(crate) external: IpAddr,
}

impl std::str::FromStr for ExternalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<IpAddr>().map_err(|_| format!("\"{part}\" is not an IP address"));
        match text.split_once('=') {
            Some((internal, external)) => Ok(Self { internal: Some(parse(internal)?), external: parse(external)? }),
            None => Ok(Self { internal: None, external: parse(text)? }),
        }
    }
}

impl TryFrom<String> for ExternalAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ExternalAddress> for String {
    fn from(address: ExternalAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ExternalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(internal) = self.internal {
            write!(f, "{internal}=")?;
        }
        write!(f, "{}", self.external)
    }
}

/// Millrace's control plane: signalling, DTLS, rooms. It is started by millrace-keeper.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "millrace-controlplane", version)]
pub(crate) struct Arguments {
    /// Configuration file [default: $XDG_CONFIG_HOME/millrace/millrace.toml; for root /etc/millrace/millrace.toml].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// HTTP without TLS on ADDR:PORT; repeatable, replaces the default.
    #[arg(long, value_name = "ADDR:PORT")]
    listen_plain: Vec<SocketAddr>,
    /// HTTPS on ADDR:PORT; repeatable.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// PEM certificate chain for HTTPS; self-signed when not given.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM key for HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where certificate, keys, counters and journal are kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where the keeper's socket is.
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Let everybody publish and watch without a token.
    #[arg(long)]
    open_rooms: bool,
    /// Ask viewers for a token too.
    #[arg(long)]
    viewers_need_token: bool,
    /// Let pages of this origin open WebSockets; repeatable.
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,
    /// File with the HS256 key of tokens.
    #[arg(long, value_name = "FILE")]
    token_key_file: Option<PathBuf>,
    /// Signal this address as candidate; repeatable [default: the addresses of the interfaces].
    #[arg(long, value_name = "IP")]
    media_address: Vec<IpAddr>,
    /// What a 1:1 NAT shows instead of our address; repeatable.
    #[arg(long, value_name = "[IP=]IP")]
    external_address: Vec<ExternalAddress>,
    /// UDP port of media.
    #[arg(long, value_name = "PORT")]
    media_port: Option<u16>,
    /// What is logged, e.g. info or controlplane_room=debug.
    #[arg(long, value_name = "FILTER", env = "MILLRACE_LOG")]
    log: Option<String>,
    /// Print the configuration that would be used, as millrace.toml, and exit.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Print a token for ROOM and exit; see --token-name, --token-grant and --token-ttl-s.
    #[arg(long, value_name = "ROOM")]
    pub(crate) mint_token: Option<String>,
    /// The only name that the token publishes under.
    #[arg(long, value_name = "NAME", requires = "mint_token")]
    pub(crate) token_name: Option<String>,
    /// What the token grants; repeatable [default: both].
    #[arg(long, value_name = "GRANT", requires = "mint_token", value_parser = ["publish", "subscribe"])]
    pub(crate) token_grant: Vec<String>,
    /// Seconds that the token is valid for.
    #[arg(long, value_name = "SECONDS", requires = "mint_token", default_value_t = 3600)]
    pub(crate) token_ttl_s: u64,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}: {why}", path.display())]
    Read { path: PathBuf, why: std::io::Error },
    #[error("{}: {why}", path.display())]
    Parse { path: PathBuf, why: Box<toml::de::Error> },
    #[error("tls_cert and tls_key go together: give both or neither")]
    HalfCertificate,
    #[error("nothing to listen on: give --listen-plain or --listen")]
    NoListener,
    #[error("{key} must be {needed}")]
    Bound { key: &'static str, needed: &'static str },
}

impl Config {
    /// The outcome of defaults, file and command line.
    pub(crate) fn load(arguments: &Arguments) -> Result<Self, ConfigError> {
        let mut config = match &arguments.config {
            Some(path) => Self::read(path)?,
            None => match default_file().filter(|path| path.exists()) {
                Some(path) => Self::read(&path)?,
                None => Self::default(),
            },
        };
        config.overlay(arguments);
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Read { path: path.to_owned(), why })?;
        toml::from_str(&text).map_err(|why| ConfigError::Parse { path: path.to_owned(), why: Box::new(why) })
    }

    fn overlay(&mut self, arguments: &Arguments) {
        replace_list(&mut self.listen_plain, &arguments.listen_plain);
        replace_list(&mut self.listen, &arguments.listen);
        replace_list(&mut self.allowed_origins, &arguments.allowed_origin);
        replace_list(&mut self.media_address, &arguments.media_address);
        replace_list(&mut self.external_address, &arguments.external_address);
        replace_some(&mut self.tls_cert, arguments.tls_cert.as_ref());
        replace_some(&mut self.tls_key, arguments.tls_key.as_ref());
        replace_some(&mut self.token_key_file, arguments.token_key_file.as_ref());
        if let Some(state_dir) = &arguments.state_dir {
            self.state_dir.clone_from(state_dir);
        }
        if let Some(runtime_dir) = &arguments.runtime_dir {
            self.runtime_dir.clone_from(runtime_dir);
        }
        self.media_port = arguments.media_port.unwrap_or(self.media_port);
        if let Some(log) = &arguments.log {
            self.log.clone_from(log);
        }
        self.open_rooms |= arguments.open_rooms;
        self.viewers_need_token |= arguments.viewers_need_token;
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::HalfCertificate);
        }
        if self.listen.is_empty() && self.listen_plain.is_empty() {
            return Err(ConfigError::NoListener);
        }
        let bounds = [
            ("media_port", self.media_port > 0, "a port from 1 to 65535"),
            ("limits.queued_requests", (1..=65_536).contains(&self.limits.queued_requests), "from 1 to 65536"),
            ("limits.pending_per_address", self.limits.pending_per_address > 0, "at least 1"),
            ("limits.participants_per_room", self.limits.participants_per_room > 0, "at least 1"),
            ("limits.slots_per_kind", (1..=49).contains(&self.limits.slots_per_kind), "from 1 to 49"),
            ("limits.unjoined_per_address", self.limits.unjoined_per_address > 0, "at least 1"),
            ("limits.joins_per_address_s", self.limits.joins_per_address_s > 0, "at least 1"),
            ("limits.resume_ttl_s", (1..=3600).contains(&self.limits.resume_ttl_s), "from 1 to 3600"),
            ("limits.validation_timeout_s", (1..=3600).contains(&self.limits.validation_timeout_s), "from 1 to 3600"),
            ("limits.lost_timeout_s", (1..=3600).contains(&self.limits.lost_timeout_s), "from 1 to 3600"),
            ("journal.file_mib", (1..=4096).contains(&self.journal.file_mib), "from 1 to 4096"),
            ("journal.files", (2..=100).contains(&self.journal.files), "from 2 to 100"),
        ];
        match bounds.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, needed)) => Err(ConfigError::Bound { key, needed }),
            None => Ok(()),
        }
    }

    /// The configuration as a file that would give it again.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

fn replace_list<T: Clone>(held: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        given.clone_into(held);
    }
}

fn replace_some<T: Clone>(held: &mut Option<T>, given: Option<&T>) {
    if let Some(given) = given {
        *held = Some(given.clone());
    }
}

/// An absolute directory out of the environment (the XDG base directory specification ignores relative ones).
fn env_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/millrace");
    }
    let state = env_dir("XDG_STATE_HOME").or_else(|| env_dir("HOME").map(|home| home.join(".local/state")));
    state.map_or_else(|| PathBuf::from("/var/lib/millrace"), |state| state.join("millrace"))
}

fn default_file() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(Path::new("/etc/millrace").join(FILE));
    }
    let config = env_dir("XDG_CONFIG_HOME").or_else(|| env_dir("HOME").map(|home| home.join(".config")))?;
    Some(config.join("millrace").join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("millrace-config-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        path
    }

    fn load(name: &str, text: &str) -> Result<Config, ConfigError> {
        let path = file(name, text);
        let loaded = Config::load(&Arguments { config: Some(path.clone()), ..Arguments::default() });
        let _ = std::fs::remove_file(path);
        loaded
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration_again() {
        let text = Config::default().to_toml().expect("printed");
        assert_eq!(load("again", &text).expect("loads"), Config::default());
        let full = Config {
            external_address: vec!["10.0.0.1=203.0.113.9".parse().expect("valid"), "2001:db8::1".parse().expect("ok")],
            media_address: vec!["10.0.0.1".parse().expect("valid")],
            tls_cert: Some("/a".into()),
            tls_key: Some("/b".into()),
            ..Config::default()
        };
        assert_eq!(load("full", &full.to_toml().expect("printed")).expect("loads"), full);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_says_line_and_key() {
        let text = load("unknown", "open_rooms = true\n\nopen_romms = true\n").expect_err("refused").to_string();
        assert!(text.contains("line 3") && text.contains("open_romms"), "{text}");
        let text = load("nested", "[limits]\nrooms = 5\nromms = 6\n").expect_err("refused").to_string();
        assert!(text.contains("line 3") && text.contains("romms"), "{text}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_an_error_that_says_its_line() {
        for (name, bad) in [
            ("port", "media_port = 70000\n"),
            ("listen", "listen = [\"localhost\"]\n"),
            ("nat", "external_address = [\"10.0.0.1=nat\"]\n"),
        ] {
            let text = load(name, bad).expect_err("refused").to_string();
            assert!(text.contains("line 1"), "{text}");
        }
    }

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_says_its_key() {
        for (name, bad, key) in [
            ("zero", "media_port = 0\n", "media_port"),
            ("files", "[journal]\nfiles = 1\n", "journal.files"),
            ("queue", "[limits]\nqueued_requests = 0\n", "limits.queued_requests"),
            ("half", "tls_cert = \"/a\"\n", "tls_key"),
            ("none", "listen_plain = []\n", "--listen"),
        ] {
            let text = load(name, bad).expect_err("refused").to_string();
            assert!(text.contains(key), "{text}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let path = file("wins", "media_port = 1\nlisten_plain = [\"127.0.0.1:1\"]\nlog = \"warn\"\n");
        let arguments = Arguments::try_parse_from([
            "millrace-controlplane",
            "--config",
            path.to_str().expect("text"),
            "--media-port",
            "2",
            "--listen-plain",
            "127.0.0.1:2",
            "--listen-plain",
            "[::1]:3",
            "--open-rooms",
        ]);
        let config = Config::load(&arguments.expect("parses")).expect("loads");
        let _ = std::fs::remove_file(path);
        assert_eq!((config.media_port, config.listen_plain.len(), config.open_rooms), (2, 2, true));
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let arguments = Arguments { config: Some("/nonexistent/millrace.toml".into()), ..Arguments::default() };
        let text = Config::load(&arguments).expect_err("refused").to_string();
        assert!(text.contains("/nonexistent/millrace.toml"), "{text}");
    }
}

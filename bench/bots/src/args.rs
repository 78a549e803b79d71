// SPDX-License-Identifier: Apache-2.0
//! What may be asked of the bots. It must never hold a default that reaches beyond this host.

use std::time::Duration;

use clap::Parser;

use crate::profile::Profile;

/// Participants that join a room, publish synthetic camera and microphone, watch each other and count what arrives.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "millrace-bots",
    version,
    after_help = "Examples:\n  millrace-bots --publishers 4\n  millrace-bots --url ws://127.0.0.1:8080 --room load --publishers 10 --viewers 90 --seconds 30 --json\n\nExit status: 0 all joined and everything that arrived could be opened; 1 not so; 2 nothing could be tried."
)]
pub(crate) struct Args {
    /// The server's WebSocket; the path may be left out.
    #[arg(long, default_value = "ws://127.0.0.1:8080/api/v1/ws")]
    pub(crate) url: String,
    /// The room to join.
    #[arg(long, default_value = "bots")]
    pub(crate) room: String,
    /// So many bots share a room; the others of `--room` have a number behind its name. 0 = all in one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rooms_of: usize,
    /// Bots that send camera and microphone, and watch.
    #[arg(long, default_value_t = 2)]
    pub(crate) publishers: usize,
    /// Bots that only watch.
    #[arg(long, default_value_t = 0)]
    pub(crate) viewers: usize,
    /// Others that each bot watches and listens to at most.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(0..=49))]
    pub(crate) watch: u8,
    /// Seconds of the call after everybody has joined.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Seconds within which everybody has to have joined.
    #[arg(long, default_value_t = 30)]
    pub(crate) join_seconds: u64,
    /// Camera: bits per second.
    #[arg(long, default_value_t = 400_000)]
    pub(crate) video_bps: u32,
    /// Camera: frames per second.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub(crate) fps: u32,
    /// Token, where the room is not open.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Offer this SRTP profile only; the server chooses otherwise.
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The room of the bot of that number.
    pub(crate) fn room_of(&self, number: usize) -> String {
        match number.checked_div(self.rooms_of) {
            None | Some(0) => self.room.clone(),
            Some(room) => format!("{}-{room}", self.room),
        }
    }

    /// How long joining may take.
    pub(crate) fn join_limit(&self) -> Duration {
        Duration::from_secs(self.join_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_fill_one_room_after_the_other() {
        let mut args = Args::parse_from(["millrace-bots", "--room", "r"]);
        assert_eq!(args.room_of(700), "r");
        args.rooms_of = 25;
        assert_eq!([args.room_of(24), args.room_of(25), args.room_of(99)], ["r", "r-1", "r-3"]);
    }
}

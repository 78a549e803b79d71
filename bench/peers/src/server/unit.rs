// SPDX-License-Identifier: Apache-2.0
//! A server that is told of its clients line by line (`orders`): our unit of `str0m`, or mediasoup behind a script.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tools_netlab::netns::Namespace;
use tools_netlab::process::Process;

use crate::client::endpoint::Endpoint;
use crate::client::media::Source;
use crate::orders::{Asked, Line};

/// Where it listens.
pub const PORT: u16 = 10_000;
const START_LIMIT: Duration = Duration::from_secs(20);
/// For ICE and DTLS of one client.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// A running one.
pub struct Unit {
    process: Process,
    /// Whose CPU counts: the process, or a worker of it.
    pid: i32,
    command: String,
    orders: Line,
}

impl Unit {
    /// Starts `program` in `server` on core `cpu`; it says `ready: PID` when it serves, and is told of clients from `clients`. Its
    /// log is in `folder`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(
        (server, clients): (&Namespace, &Namespace),
        cpu: usize,
        address: SocketAddr,
        program: &Command,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = server.command("taskset");
        command.args(["-c", &cpu.to_string()]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            value.map(|value| command.env(name, value));
        }
        let line = super::words(&command);
        let mut process = Process::spawn(command, &folder.join("unit.log"), false)?;
        process.wait_for_text("ready:", START_LIMIT)?;
        let stream = clients.inside(|| Ok(TcpStream::connect(address)?)).context("the unit's orders")?;
        let pid = ready_pid(&process.log_text()).context("a unit says `ready: PID`")?;
        Ok(Self { process, pid, command: line, orders: Line::new(stream)? })
    }

    /// How it was started.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Joins a client and connects it.
    ///
    /// # Errors
    /// When the unit refuses, or nothing connects.
    pub async fn join(&mut self, endpoint: &mut Endpoint, is_publisher: bool, sources: &[Source]) -> Result<()> {
        let accepted = self.orders.ask(&Asked::of(endpoint, is_publisher, sources));
        let accepted = accepted.with_context(|| self.process.log_tail(3))?;
        endpoint.connect(&accepted.into_remote(), CONNECT_LIMIT).await
    }
}

fn ready_pid(log: &str) -> Option<i32> {
    log.lines().find_map(|line| line.strip_prefix("ready: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_works_is_the_one_that_is_named() {
        assert_eq!(ready_pid("warning: x\nready: 4711\n"), Some(4711));
        assert_eq!(ready_pid("ready: soon\n"), None);
    }
}

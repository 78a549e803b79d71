// SPDX-License-Identifier: Apache-2.0
//! Servers with WebRTC clients, seen alike: one publisher, then receivers.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bench_bots::transport::{IceRole, Identity};
use bench_scenarios::bed::{Bed, SERVER};
use bench_scenarios::run::SERVER_CPU;

use super::janus::{Janus, Threads};
use super::mediasoup;
use super::unit::{PORT, Unit};
use crate::client::endpoint::Endpoint;
use crate::client::media::Source;
use crate::measure::Setup;
use crate::systems::STR0M;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Janus.
    Janus(Threads),
    /// Our unit of `str0m`.
    Str0m,
    /// mediasoup's worker behind a script.
    Mediasoup,
}

/// A running one; for Janus, with the publisher's feed.
pub enum Server {
    /// Janus.
    Janus(Box<Janus>, u64),
    /// A unit.
    Unit(Unit),
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(kind: Kind, bed: &Bed, setup: &Setup<'_>) -> Result<Self> {
        let namespaces = (&bed.server, &bed.sink);
        let address = SocketAddr::new(SERVER.parse()?, PORT);
        let program = match kind {
            Kind::Janus(threads) => {
                let janus = Janus::start(namespaces, SERVER, SERVER_CPU, threads, setup.folder).await?;
                return Ok(Self::Janus(Box::new(janus), 0));
            }
            Kind::Str0m => {
                let mut program = Command::new(setup.programs.join(STR0M));
                program.args(["--listen", &address.to_string()]);
                program
            }
            Kind::Mediasoup => mediasoup::program(address, setup.mediasoup, setup.folder)?,
        };
        Ok(Self::Unit(Unit::start(namespaces, SERVER_CPU, address, &program, setup.folder)?))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match self {
            Self::Janus(janus, _) => janus.pid(),
            Self::Unit(unit) => unit.pid(),
        }
    }

    /// How it was started.
    #[must_use]
    pub fn command(&self) -> &str {
        match self {
            Self::Janus(janus, _) => janus.command(),
            Self::Unit(unit) => unit.command(),
        }
    }

    /// Connects the publisher.
    ///
    /// # Errors
    /// When the server refuses, or nothing connects.
    pub async fn publish(&mut self, socket: UdpSocket, identity: &Identity, sources: &[Source]) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(socket, identity, IceRole::Controlling)?;
        match self {
            Self::Janus(janus, feed) => *feed = janus.publish(&mut endpoint, sources).await?,
            Self::Unit(unit) => unit.join(&mut endpoint, true, sources).await.context("the publisher")?,
        }
        Ok(endpoint)
    }

    /// Connects a receiver.
    ///
    /// # Errors
    /// When the server refuses, or nothing connects.
    pub async fn subscribe(
        &mut self,
        socket: UdpSocket,
        identity: &Arc<Identity>,
        sources: &[Source],
    ) -> Result<Endpoint> {
        match self {
            Self::Janus(janus, feed) => janus.subscribe(*feed, socket, identity).await,
            Self::Unit(unit) => {
                // Units are ICE-lite: the client nominates (RFC 8445 §6.1.1).
                let mut endpoint = Endpoint::new(socket, identity, IceRole::Controlling)?;
                unit.join(&mut endpoint, false, sources).await.context("a receiver")?;
                Ok(endpoint)
            }
        }
    }
}

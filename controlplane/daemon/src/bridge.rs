// SPDX-License-Identifier: Apache-2.0
//! The bridge to the segment: commands become table entries, rings become events.

use crate::config::Config;
use crate::plane::{DataPlane, PlaneEvent, SrtpKeys, TableFull};
use controlplane_room::{Command, TransportId};

/// No segment can be attached: there is no value of this type.
#[derive(Debug)]
pub(crate) enum Bridge {}

/// Takes over what millrace-keeper hands to this process.
///
/// # Errors
/// Nothing was handed over.
pub(crate) fn attach(_config: &Config) -> anyhow::Result<Bridge> {
    anyhow::bail!("no segment was handed over: this process is started by millrace-keeper, not by hand")
}

impl DataPlane for Bridge {
    fn apply(&mut self, _command: Command) -> Result<(), TableFull> {
        match *self {}
    }

    fn inject(&mut self, _transport: TransportId, _datagram: &[u8]) {
        match *self {}
    }

    fn install_keys(&mut self, _transport: TransportId, _keys: SrtpKeys) {
        match *self {}
    }

    fn poll(&mut self) -> Option<PlaneEvent> {
        match *self {}
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a new transport is made of before its offer is answered: an id, credentials, names, SSRCs. All of it is random but the
//! id, and none of it is given twice.

use std::net::IpAddr;

use controlplane_ice::Credentials;
use controlplane_room::{Direction, IceCredentials, TransportId, TransportSpec};
use controlplane_sdp as sdp;
use controlplane_signaling::{Problem, ProblemKind, ResourceId, prefix_of};

use super::Core;
use crate::entropy::{self, NoEntropy, SsrcSource};
use crate::plane::DataPlane;

/// Transport ids taken from the store at once: one durable write per so many sessions.
const ID_BLOCK: u64 = 4096;

/// What a session needs before its offer is answered.
pub(super) struct Lease {
    pub(super) id: TransportId,
    pub(super) resource: ResourceId,
    pub(super) credentials: Credentials,
    pub(super) cname: String,
    pub(super) ssrcs: SsrcSource,
    pub(super) rtcp_ssrc: u32,
    pub(super) session_id: u64,
}

impl<P: DataPlane> Core<P> {
    /// Refuses an address that has too many sessions without a first check.
    pub(super) fn admit_address(&self, peer: IpAddr) -> Result<(), Problem> {
        let pending = self.pending_by_address.get(&prefix_of(peer)).copied().unwrap_or(0);
        if pending < self.pending_per_address {
            return Ok(());
        }
        let detail = format!("{pending} sessions from this address wait for their first connectivity check");
        Err(Problem::new(ProblemKind::TooManyPending, detail))
    }

    /// Takes an id and makes the secrets of one session.
    pub(super) fn lease(&mut self) -> Result<Lease, Problem> {
        if self.ids.is_empty() {
            self.ids = self.store.reserve_transport_ids(ID_BLOCK).map_err(|error| {
                tracing::error!("no transport ids: {error}");
                Problem::new(ProblemKind::Full, "the server cannot write its state; its log says why")
            })?;
        }
        let id = self.ids.next().ok_or_else(|| Problem::new(ProblemKind::Full, "no transport ids are left"))?;
        let credentials = Credentials::generate_unique(|ufrag| self.ufrags.contains(ufrag));
        let credentials = credentials.map_err(|error| Problem::new(ProblemKind::Full, error.to_string()))?;
        let mut ssrcs = SsrcSource::default();
        let rtcp_ssrc = ssrcs.next().map_err(no_entropy)?;
        Ok(Lease {
            id: TransportId(id),
            resource: ResourceId(entropy::bytes().map_err(no_entropy)?),
            credentials,
            cname: format!("{:016x}", entropy::number().map_err(no_entropy)?),
            ssrcs,
            rtcp_ssrc,
            // RFC 8829 §5.2.1: below 2^63.
            session_id: entropy::number().map_err(no_entropy)? >> 1,
        })
    }
}

impl Lease {
    pub(super) fn server<'a>(
        &'a self,
        fingerprint_sha256: [u8; 32],
        candidates: &'a [sdp::Candidate],
    ) -> sdp::ServerParams<'a> {
        sdp::ServerParams {
            ice_ufrag: self.credentials.ufrag(),
            ice_pwd: self.credentials.pwd(),
            fingerprint_sha256,
            candidates,
            session_id: self.session_id,
            session_version: 1,
            takes_trickle: false,
        }
    }

    pub(super) fn transport(&self, direction: Direction, remote: IceCredentials) -> TransportSpec {
        let local = IceCredentials { ufrag: self.credentials.ufrag().into(), pwd: self.credentials.pwd().into() };
        TransportSpec {
            id: self.id,
            direction,
            local,
            remote,
            participant: String::new(),
            rtcp_ssrc: self.rtcp_ssrc,
            cname: self.cname.clone(),
            transport_cc: false,
            rtcp_rsize: false,
        }
    }
}

pub(super) fn no_entropy(error: NoEntropy) -> Problem {
    Problem::new(ProblemKind::Full, error.to_string())
}

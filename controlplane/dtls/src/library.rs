// SPDX-License-Identifier: Apache-2.0
//! The only place that touches `dimpl` objects: configuration, feeding, draining. An error or a panic of the library
//! must never leave this file other than as a value, and no alert it queues may reach the network.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::crypto::{KeyProvider, SignatureVerifier, aws_lc_rs};
use dimpl::{Config, Dtls, DtlsCertificate, SrtpProfile};
use zeroize::Zeroizing;

use crate::record::content;
use crate::{Identity, Role, SrtpProfileId};

/// Largest datagram sent: safe within IPv6's minimum of 1280 bytes and a tunnel.
const MTU: usize = 1200;
/// Timers are not the library's business: its back-off doubles without end and takes peers' repetitions for its own
/// tries. The association repeats flights and ends handshakes itself.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Room for any datagram of ours; the library asks for more if needed.
const OUT_BUFFER: usize = 2048;
/// Largest buffer the library is given on request.
const OUT_BUFFER_MAX: usize = 65536;

pub(crate) fn verifier() -> &'static dyn SignatureVerifier {
    aws_lc_rs::default_provider().signature_verification
}

pub(crate) fn keys() -> &'static dyn KeyProvider {
    aws_lc_rs::default_provider().key_provider
}

/// The configuration, built once: building runs known-answer tests of every cipher.
fn config() -> Option<Arc<Config>> {
    static CONFIG: OnceLock<Option<Arc<Config>>> = OnceLock::new();
    let build = || {
        let builder = Config::builder()
            .mtu(MTU)
            // The 5-tuple is validated by ICE before a datagram gets here; a cookie would cost a round trip per join.
            .use_server_cookie(false)
            .require_client_certificate(true)
            .flight_start_rto(NEVER)
            .handshake_timeout(NEVER);
        builder.build().ok().map(Arc::new)
    };
    CONFIG.get_or_init(build).clone()
}

/// Why a call into the library failed.
#[derive(Debug)]
pub(crate) enum LibraryError {
    Refused(dimpl::Error),
    Panicked,
}

/// What the library wants after a call.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) is_connected: bool,
    pub(crate) material: Option<(SrtpProfileId, Zeroizing<Vec<u8>>)>,
    pub(crate) peer_certificate: Option<Vec<u8>>,
}

/// One `dimpl` object, some 3 KiB; on the heap, since an association outlives it.
pub(crate) struct Library {
    dtls: Box<Dtls>,
}

impl Library {
    /// A fresh object; `None` if the library cannot run at all.
    pub(crate) fn new(identity: &Identity, role: Role, now: Instant) -> Option<Self> {
        let config = config()?;
        let (certificate, private_key) = identity.parts();
        let pair = DtlsCertificate { certificate: certificate.to_vec(), private_key: private_key.to_vec() };
        let make = || {
            let mut dtls = Dtls::new_12(config, pair, now);
            dtls.set_active(role == Role::Client);
            dtls
        };
        catch_unwind(AssertUnwindSafe(make)).ok().map(|dtls| Self { dtls: Box::new(dtls) })
    }

    /// Starts a client: its hello is in the output.
    pub(crate) fn start(&mut self, now: Instant) -> Result<Output, LibraryError> {
        self.call(|dtls| dtls.handle_timeout(now))
    }

    /// Passes one datagram on. The clock goes first: the library stamps what it sends with the last time it was told.
    pub(crate) fn feed(&mut self, datagram: &[u8], now: Instant) -> Result<Output, LibraryError> {
        self.call(|dtls| dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(datagram)))
    }

    fn call(&mut self, f: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) -> Result<Output, LibraryError> {
        let run = || {
            let result = f(&mut self.dtls);
            let output = drain(&mut self.dtls);
            result.map(|()| output)
        };
        catch_unwind(AssertUnwindSafe(run)).map_err(|_| LibraryError::Panicked)?.map_err(LibraryError::Refused)
    }
}

/// Takes everything the library has queued.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is open: what is unknown is ignored")]
fn drain(dtls: &mut Dtls) -> Output {
    let mut output = Output::default();
    let mut buffer = vec![0; OUT_BUFFER];
    loop {
        match dtls.poll_output(&mut buffer) {
            dimpl::Output::Packet(bytes) => {
                let is_alert = bytes.first() == Some(&content::ALERT);
                if !is_alert {
                    output.packets.push(bytes.to_vec());
                }
            }
            dimpl::Output::BufferTooSmall { needed } => {
                if needed <= buffer.len() || needed > OUT_BUFFER_MAX {
                    return output;
                }
                buffer.resize(needed, 0);
            }
            dimpl::Output::Timeout(_) => return output,
            dimpl::Output::Connected => output.is_connected = true,
            dimpl::Output::PeerCert(der) => output.peer_certificate = Some(der.to_vec()),
            dimpl::Output::KeyingMaterial(material, profile) => {
                output.material = profile_id(profile).map(|id| (id, Zeroizing::new(material.to_vec())));
            }
            _ => {}
        }
    }
}

fn profile_id(profile: SrtpProfile) -> Option<SrtpProfileId> {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfileId::AES_CM_128_HMAC_SHA1_80),
        SrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfileId::AEAD_AES_128_GCM),
        SrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfileId::AEAD_AES_256_GCM),
        _ => None,
    }
}

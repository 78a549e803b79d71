// SPDX-License-Identifier: Apache-2.0
//! The cipher's kernels against the library, in rounds that take turns: what one round costs more, the other beside it costs
//! more too, so the ratio holds on a machine that is not quiet.

use std::collections::BTreeMap;
use std::time::Instant;

use dataplane_srtp::backend::Backend;
use dataplane_srtp::{BATCH, MasterKey, Profile, Sealing, TxContext, protect_rtp_batch};

const KEYS: usize = 1024;
const ROUNDS: usize = 31;
const HEAD: usize = 12;
const FRAME: usize = 2048;
const PAYLOADS: [usize; 2] = [1200, 160];

/// One implementation with its keys.
struct Contestant(Vec<TxContext>);

impl Contestant {
    fn new(backend: Backend, profile: Profile) -> Self {
        Self((0..KEYS).map(|at| TxContext::on(backend, &master(profile, at))).collect())
    }

    /// Whether the kernels have something of their own for the profile.
    fn is(&self, backend: Backend) -> bool {
        self.0[0].backend_name() == backend.name()
    }

    /// Seals one packet for each key; ns.
    fn round(&self, first: u64, frames: &mut [u8], payload: &[u8]) -> f64 {
        let began = Instant::now();
        for (index, contexts) in (first..).step_by(BATCH).zip(self.0.chunks(BATCH)) {
            let mut frames = frames.chunks_exact_mut(FRAME);
            let mut batch: [Sealing<'_, &[u8]>; BATCH] = std::array::from_fn(|lane| {
                let frame = frames.next().unwrap();
                let [.., s0, s1] = index.to_be_bytes();
                frame[..HEAD].copy_from_slice(&[0x80, 96, s0, s1, 1, 2, 3, 4, 0x12, 0x34, 0x56, 0x78]);
                Sealing::new(&contexts[lane], index, frame, (HEAD, 0), payload)
            });
            protect_rtp_batch(&mut batch);
            assert!(batch.iter().all(|packet| packet.sealed.is_ok()));
        }
        began.elapsed().as_nanos() as f64
    }
}

fn master(profile: Profile, at: usize) -> MasterKey {
    let bytes: Vec<u8> = (0..64).map(|byte| u8::try_from((at * 7 + at / 256 + byte) % 256).unwrap()).collect();
    MasterKey::new(profile, &bytes[..profile.key_len()], &bytes[..profile.salt_len()]).unwrap()
}

/// How many times faster than the library each kernel of this machine is, by `kernel.profile.payload`.
pub(crate) fn measure() -> BTreeMap<String, f64> {
    let mut ratios = BTreeMap::new();
    let mut frames = vec![0; BATCH * FRAME];
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        let library = Contestant::new(Backend::Portable, profile);
        for backend in Backend::ALL.into_iter().filter(|backend| backend.is_available()) {
            let kernel = Contestant::new(backend, profile);
            if backend == Backend::Portable || !kernel.is(backend) {
                continue;
            }
            for len in PAYLOADS {
                let payload = vec![0x5a; len];
                let mut rounds: Vec<f64> = (0..ROUNDS)
                    .map(|round| {
                        let first = (round * KEYS) as u64;
                        let ours = kernel.round(first, &mut frames, &payload);
                        library.round(first, &mut frames, &payload) / ours
                    })
                    .collect();
                rounds.sort_by(f64::total_cmp);
                ratios.insert(format!("{}.{}.{len}", backend.name(), profile.name()), rounds[ROUNDS / 2]);
            }
        }
    }
    ratios
}

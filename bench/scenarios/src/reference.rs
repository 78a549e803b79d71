// SPDX-License-Identifier: Apache-2.0
//! How fast the machine is now, by work like a server's.
//!
//! A loop that counts says whether a core is there; it runs at one speed whatever the other thread of the core, or another
//! guest of the host, does to its caches and pipes. A server does not: the same program takes a third more in such an hour.
//! So a run is noted with what a fixed packet takes before and after it: sealed by a library under one of two thousand keys,
//! then through the kernel from one socket to another. Figures of two hours can be held against each other by it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::cpu;

/// Receivers' keys: with their tables more than the second cache of a core.
const KEYS: usize = 2048;
/// Payload of a packet.
const PAYLOAD: usize = 1200;
/// Packets between two looks at the clock.
const CHUNK: usize = 64;
/// How long one look at the machine takes.
const TIME: Duration = Duration::from_millis(250);

/// What the fixed packet takes on a core that has nothing else to do, ns: the median of some thousand chunks of 64.
///
/// # Errors
/// When there is no such core, or no socket.
pub fn packet_ns(cpu: usize) -> Result<f64> {
    let run = move || {
        cpu::pin(cpu)?;
        measure(TIME)
    };
    std::thread::Builder::new()
        .name("reference".into())
        .spawn(run)?
        .join()
        .map_err(|_| anyhow!("the reference stopped"))?
}

fn measure(time: Duration) -> Result<f64> {
    let keys = keys()?;
    let (near, far) = UnixDatagram::pair().context("a pair of sockets")?;
    let mut frame = [0_u8; PAYLOAD];
    let mut arrived = [0_u8; PAYLOAD + 64];
    let mut keys = keys.iter().cycle();
    let mut chunks = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time || chunks.is_empty() {
        let chunk = Instant::now();
        for key in keys.by_ref().take(CHUNK) {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let tag = key
                .seal_in_place_separate_tag(nonce, Aad::from([0_u8; 12]), &mut frame)
                .map_err(|_| anyhow!("seal"))?;
            frame[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
            near.send(&frame)?;
            far.recv(&mut arrived)?;
        }
        chunks.push(chunk.elapsed());
    }
    chunks.sort_unstable();
    Ok(chunks[chunks.len() / 2].as_secs_f64() * 1e9 / f64::from(u32::try_from(CHUNK)?))
}

fn keys() -> Result<Vec<LessSafeKey>> {
    let key = |number: usize| {
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&u64::try_from(number)?.to_be_bytes());
        Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).map_err(|_| anyhow!("a key"))?))
    };
    (0..KEYS).map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_takes_time_and_no_core_is_an_error() {
        let ns = packet_ns(0).expect("core 0");
        assert!((100.0..1e6).contains(&ns), "{ns} ns");
        assert!(packet_ns(1023).is_err());
    }
}

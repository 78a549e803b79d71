// SPDX-License-Identifier: Apache-2.0
//! From a record of the keys section to master keys.

use dataplane_abi::codec::Cipher;
use dataplane_abi::intent::KeyIntent;
use dataplane_srtp::{MasterKey, Profile};

/// Master keys of a transport, of what we receive and of what we send; nothing where the record makes no sense.
pub(crate) fn masters(record: &KeyIntent) -> Option<(MasterKey, MasterKey)> {
    let profile = match Cipher::from_code(record.cipher)? {
        Cipher::AeadAes128Gcm => Profile::AeadAes128Gcm,
        Cipher::AeadAes256Gcm => Profile::AeadAes256Gcm,
        Cipher::AesCm128HmacSha1_80 => Profile::AesCm128HmacSha1_80,
        Cipher::None => return None,
    };
    let half = |key: &[u8], salt: &[u8]| {
        let key = key.get(..usize::from(record.key_len))?;
        let salt = salt.get(..usize::from(record.salt_len))?;
        MasterKey::new(profile, key, salt).ok()
    };
    let rx = half(&record.rx_key, &record.rx_salt)?;
    let tx = half(&record.tx_key, &record.tx_salt)?;
    Some((rx, tx))
}

/// Stores of a replay window go through `shm::publish`, so that tests can stop at each of them.
pub(crate) struct Durable;

impl dataplane_srtp::Publish for Durable {
    fn store(&self, cell: &core::sync::atomic::AtomicU64, value: u64) {
        dataplane_shm::publish::store_u64(cell, value);
    }
}

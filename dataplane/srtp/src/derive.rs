// SPDX-License-Identifier: Apache-2.0
//! Session key derivation: AES-CM PRF of RFC 3711 §4.3 with key derivation rate 0, and its 256-bit
//! form of RFC 6188 §3. The label is the only thing that differs between two outputs.

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use ctr::Ctr128BE;
use zeroize::Zeroize as _;

use crate::MasterKey;

/// Labels of RFC 3711 §4.3.1 and §4.3.2.
#[derive(Clone, Copy)]
pub(crate) enum Label {
    RtpKey = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

/// Fills `out` with the PRF's first bytes for `label`.
pub(crate) fn derive(master: &MasterKey, label: Label, out: &mut [u8]) {
    out.fill(0);
    // x = (label << 48) XOR master_salt; the IV is x << 16, so the label meets the eighth salt byte.
    let mut iv = [0u8; 16];
    for (to, from) in iv.iter_mut().zip(master.padded_salt()) {
        *to = *from;
    }
    if let Some(byte) = iv.get_mut(7) {
        *byte ^= label as u8;
    }
    let applied = match master.key().len() {
        32 => Ctr128BE::<aes::Aes256>::new_from_slices(master.key(), &iv).map(|mut c| c.apply_keystream(out)),
        _ => Ctr128BE::<aes::Aes128>::new_from_slices(master.key(), &iv).map(|mut c| c.apply_keystream(out)),
    };
    // `MasterKey` holds a key of its profile's length only, which is 16 or 32.
    debug_assert!(applied.is_ok(), "master key of a length without a cipher");
    iv.zeroize();
}

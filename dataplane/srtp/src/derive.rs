// SPDX-License-Identifier: Apache-2.0
//! Session key derivation: AES-CM PRF of RFC 3711 §4.3 with key derivation rate 0, and its 256-bit
//! form of RFC 6188 §3. The label is the only thing that differs between two outputs.

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use aes::{Aes128Enc, Aes256Enc};
use ctr::Ctr128BE;
use zeroize::Zeroizing;

use crate::{MasterKey, Profile};

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
    let mut iv = Zeroizing::new([0u8; 16]);
    for (to, from) in iv.iter_mut().zip(master.padded_salt()) {
        *to = *from;
    }
    if let Some(byte) = iv.get_mut(7) {
        *byte ^= label as u8;
    }
    match master.profile() {
        Profile::AeadAes128Gcm | Profile::AesCm128HmacSha1_80 => {
            let mut key = Zeroizing::new([0u8; 16]);
            for (to, from) in key.iter_mut().zip(master.padded_key()) {
                *to = *from;
            }
            Ctr128BE::<Aes128Enc>::new((&*key).into(), (&*iv).into()).apply_keystream(out);
        }
        Profile::AeadAes256Gcm => {
            Ctr128BE::<Aes256Enc>::new(master.padded_key().into(), (&*iv).into()).apply_keystream(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;

    // RFC 3711 §B.3
    #[test]
    fn session_keys_are_those_of_the_rfc() {
        let master = MasterKey::new(
            Profile::AesCm128HmacSha1_80,
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap();
        let mut key = [0xee; 16];
        derive(&master, Label::RtpKey, &mut key);
        assert_eq!(key[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let mut salt = [0xee; 14];
        derive(&master, Label::RtpSalt, &mut salt);
        assert_eq!(salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        let mut auth = [0xee; 94];
        derive(&master, Label::RtpAuth, &mut auth);
        let expected = hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
             E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
             6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2");
        assert_eq!(auth[..], expected);
    }

    // RFC 3711 §4.3.2
    #[test]
    fn no_two_labels_give_the_same_key() {
        for profile in Profile::ALL {
            let master =
                MasterKey::new(profile, &[7; 32][..profile.key_len()], &[9; 14][..profile.salt_len()]).unwrap();
            let labels =
                [Label::RtpKey, Label::RtpAuth, Label::RtpSalt, Label::RtcpKey, Label::RtcpAuth, Label::RtcpSalt];
            let mut seen = std::collections::BTreeSet::new();
            for label in labels {
                let mut out = [0; 32];
                derive(&master, label, &mut out);
                assert!(seen.insert(out));
            }
        }
    }
}

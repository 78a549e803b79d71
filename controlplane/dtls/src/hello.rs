// SPDX-License-Identifier: Apache-2.0
//! Whether a ClientHello can lead to a handshake at all. An unacceptable one must cost nothing: no key exchange, no
//! answer, no alert, no effect on a handshake that runs.

use crate::record::Reader;

/// TLS_ECDHE_ECDSA_WITH_{AES_128_GCM_SHA256, AES_256_GCM_SHA384, CHACHA20_POLY1305_SHA256}: what the library speaks.
const SUITES: [u16; 3] = [0xC02B, 0xC02C, 0xCCA9];
/// secp256r1, secp384r1, x25519.
const GROUPS: [u16; 3] = [23, 24, 29];
/// AEAD_AES_256_GCM, AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80.
const SRTP_PROFILES: [u16; 3] = [8, 7, 1];

const SUPPORTED_GROUPS: u16 = 10;
const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;

/// Why a hello is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    Malformed,
    Version,
    CipherSuite,
    Group,
    ExtendedMasterSecret,
    SrtpProfile,
}

impl Defect {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "the ClientHello is malformed",
            Self::Version => "the ClientHello does not offer DTLS 1.2 with null compression",
            Self::CipherSuite => "the ClientHello offers no ECDHE_ECDSA suite with AEAD",
            Self::Group => "the ClientHello offers none of secp256r1, secp384r1, x25519",
            Self::ExtendedMasterSecret => "the ClientHello lacks extended_master_secret (RFC 7627)",
            Self::SrtpProfile => "the ClientHello offers no SRTP profile that is served",
        }
    }
}

/// Checks the body of a ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.3.2).
pub(crate) fn check(body: &[u8]) -> Result<(), Defect> {
    let mut reader = Reader(body);
    parse(&mut reader).unwrap_or(Err(Defect::Malformed))
}

/// `None` if a length does not fit.
fn parse(reader: &mut Reader<'_>) -> Option<Result<(), Defect>> {
    let version = reader.u16()?;
    reader.take(32)?;
    let session_id = reader.vec8()?;
    reader.vec8()?;
    let suites = reader.vec16()?;
    let compression = reader.vec8()?;
    let mut extensions = Reader(reader.vec16()?);
    if session_id.len() > 32 || !reader.0.is_empty() {
        return None;
    }
    let (mut has_ems, mut has_srtp, mut has_group) = (false, false, true);
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vec16()?);
        match kind {
            EXTENDED_MASTER_SECRET => has_ems = data.is_empty(),
            USE_SRTP => has_srtp = offers_any(Reader(data).vec16()?, &SRTP_PROFILES)?,
            SUPPORTED_GROUPS => has_group = offers_any(Reader(data).vec16()?, &GROUPS)?,
            _ => {}
        }
    }
    let checks = [
        (version == 0xFEFD && compression.contains(&0), Defect::Version),
        (offers_any(suites, &SUITES)?, Defect::CipherSuite),
        (has_group, Defect::Group),
        (has_ems, Defect::ExtendedMasterSecret),
        (has_srtp, Defect::SrtpProfile),
    ];
    let defect = checks.into_iter().find(|(is_fine, _)| !is_fine);
    Some(defect.map_or(Ok(()), |(_, defect)| Err(defect)))
}

/// Whether a list of two-byte numbers holds one of ours; `None` if its length is odd.
fn offers_any(list: &[u8], ours: &[u16]) -> Option<bool> {
    let (pairs, rest) = list.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().any(|pair| ours.contains(&u16::from_be_bytes(*pair))))
}

#[cfg(test)]
mod tests {
    use super::{Defect, check};

    fn hello(suite: u16, extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend([9; 32]);
        body.extend([0, 0, 0, 2]);
        body.extend(suite.to_be_bytes());
        body.extend([1, 0]);
        body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
        body.extend(extensions);
        body
    }

    const EMS: [u8; 4] = [0, 23, 0, 0];
    const SRTP: [u8; 9] = [0, 14, 0, 5, 0, 2, 0, 7, 0];

    #[test]
    fn a_hello_is_passed_over_by_its_first_defect() {
        let good = [&EMS[..], &SRTP].concat();
        assert_eq!(check(&hello(0xC02B, &good)), Ok(()));
        assert_eq!(check(&hello(0x0000, &good)), Err(Defect::CipherSuite), "NULL cipher");
        assert_eq!(check(&hello(0xC02F, &good)), Err(Defect::CipherSuite), "RSA");
        assert_eq!(check(&hello(0xC02B, &SRTP)), Err(Defect::ExtendedMasterSecret));
        assert_eq!(check(&hello(0xC02B, &EMS)), Err(Defect::SrtpProfile));
        let weak = [0, 14, 0, 5, 0, 2, 0, 2, 0];
        assert_eq!(check(&hello(0xC02B, &[&EMS[..], &weak].concat())), Err(Defect::SrtpProfile), "SHA1_32 only");
        let group = [0, 10, 0, 4, 0, 2, 0x11, 0xEC];
        assert_eq!(check(&hello(0xC02B, &[&good[..], &group].concat())), Err(Defect::Group), "ML-KEM only");
    }

    #[test]
    fn every_truncation_is_malformed() {
        let body = hello(0xC02B, &[&EMS[..], &SRTP].concat());
        for len in 0..body.len() {
            assert_eq!(check(&body[..len]), Err(Defect::Malformed), "{len} bytes");
        }
        assert_eq!(check(&[&body[..], &[0]].concat()), Err(Defect::Malformed), "trailing byte");
    }
}

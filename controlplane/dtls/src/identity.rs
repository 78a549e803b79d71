// SPDX-License-Identifier: Apache-2.0
//! Our certificate and its key. It is stored by the control plane so that its fingerprint outlives restarts; the key
//! must never be printed.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use dimpl::crypto::Buf;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::library;

/// Signed and verified to prove that key and certificate belong together.
const PROBE: &[u8] = b"millrace identity";

/// Why an identity cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Key generation or signing failed.
    #[error("identity: generation of the certificate failed")]
    Generate,
    /// The key bytes are not a usable PKCS#8 ECDSA key.
    #[error("identity: key is not an ECDSA P-256 or P-384 key in DER form")]
    Key,
    /// The certificate is malformed or holds another key.
    #[error("identity: certificate is malformed or does not hold the key's public half")]
    Certificate,
}

/// A self-signed ECDSA certificate with its private key; clones share them.
#[derive(Clone)]
pub struct Identity {
    cert_der: Arc<[u8]>,
    key_der: Arc<Zeroizing<Vec<u8>>>,
    fingerprint: [u8; 32],
}

impl Identity {
    /// Makes a P-256 key and a self-signed certificate for it.
    ///
    /// # Errors
    /// [`IdentityError::Generate`].
    pub fn generate() -> Result<Self, IdentityError> {
        let made = dimpl::certificate::generate_self_signed_certificate().map_err(|_| IdentityError::Generate)?;
        Self::from_parts(&made.certificate, &Zeroizing::new(made.private_key))
    }

    /// Takes a stored certificate and key (both DER) and proves that they belong together.
    ///
    /// # Errors
    /// [`IdentityError::Key`] or [`IdentityError::Certificate`].
    pub fn from_parts(cert_der: &[u8], key_der: &[u8]) -> Result<Self, IdentityError> {
        let mut key = library::keys().load_private_key(key_der).map_err(|_| IdentityError::Key)?;
        let (hash, algorithm) = (key.hash_algorithm(), key.algorithm());
        let mut signature = Buf::new();
        key.sign(PROBE, hash, &mut signature).map_err(|_| IdentityError::Key)?;
        library::verifier()
            .verify_signature(cert_der, PROBE, &signature, hash, algorithm)
            .map_err(|_| IdentityError::Certificate)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, cert_der).as_ref());
        Ok(Self { cert_der: cert_der.into(), key_der: Arc::new(Zeroizing::new(key_der.to_vec())), fingerprint })
    }

    /// (certificate DER, key DER) for storage.
    #[must_use]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.cert_der, &self.key_der)
    }

    /// The sha-256 fingerprint of the certificate.
    #[must_use]
    pub const fn fingerprint_sha256(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("cert_len", &self.cert_der.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError};

    // CONTRACTS 11: the certificate is stored, so that its fingerprint outlives restarts
    #[test]
    fn a_stored_identity_keeps_its_fingerprint() {
        let made = Identity::generate().expect("generate");
        let (cert, key) = made.parts();
        let loaded = Identity::from_parts(cert, key).expect("stored");
        assert_eq!(loaded.fingerprint_sha256(), made.fingerprint_sha256());
        assert_eq!(loaded.parts(), made.parts());
        assert_ne!(Identity::generate().expect("generate").fingerprint_sha256(), made.fingerprint_sha256());
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (one, two) = (Identity::generate().expect("one"), Identity::generate().expect("two"));
        let refused = |cert: &[u8], key: &[u8]| Identity::from_parts(cert, key).expect_err("refused");
        assert_eq!(refused(one.parts().0, two.parts().1), IdentityError::Certificate);
        assert_eq!(refused(b"junk", one.parts().1), IdentityError::Certificate);
        assert_eq!(refused(one.parts().0, b"junk"), IdentityError::Key);
        assert_eq!(refused(&[], &[]), IdentityError::Key);
    }

    #[test]
    fn debug_output_holds_no_key() {
        let made = Identity::generate().expect("generate");
        assert_eq!(format!("{made:?}"), format!("Identity {{ cert_len: {}, .. }}", made.parts().0.len()));
    }
}

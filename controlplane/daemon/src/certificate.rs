// SPDX-License-Identifier: Apache-2.0
//! The certificate that HTTPS presents: the configured one, or a self-signed one that is made once and kept.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use controlplane_store::{KeyPair, Pair, Store};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::addresses::interface_addresses;
use crate::config::Config;

/// What the listeners need; a configured certificate is read from its files.
pub(crate) async fn server_config(config: &Config, store: &Store) -> anyhow::Result<RustlsConfig> {
    // A second call finds the provider installed, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) {
        let read = RustlsConfig::from_pem_file(cert, key).await;
        return read.with_context(|| format!("cannot use {} with {}", cert.display(), key.display()));
    }
    let pair = store.key_pair(Pair::Tls, self_signed)?;
    from_pair(&pair)
}

fn from_pair(pair: &KeyPair) -> anyhow::Result<RustlsConfig> {
    let chain = vec![CertificateDer::from(pair.cert_der.clone())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.key_der.to_vec()));
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut server = server.context("cannot use the stored TLS certificate")?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(server)))
}

/// Names this host as its interfaces name it. Browsers warn about it all the same; they ask once.
fn self_signed() -> anyhow::Result<KeyPair> {
    let addresses = interface_addresses().into_iter().filter(is_nameable).map(|address| address.to_string());
    let names: Vec<String> = std::iter::once("localhost".to_owned()).chain(addresses).collect();
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a TLS certificate")?;
    Ok(KeyPair { cert_der: made.cert.der().to_vec(), key_der: Zeroizing::new(made.signing_key.serialize_der()) })
}

/// Whether a certificate should hold the address: not a link-local one, which names nothing without its interface.
fn is_nameable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

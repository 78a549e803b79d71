// SPDX-License-Identifier: Apache-2.0
//! The HTTP listeners: plain ones for this host, TLS ones for everybody else.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::task::JoinSet;

/// How long a client may take to send its request line and headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(3);

/// All listeners, bound.
pub(crate) struct Listeners {
    bound: Vec<(TcpListener, Option<RustlsConfig>)>,
}

impl Listeners {
    /// Binds every address, so that a taken port is an error before anything is said to run.
    pub(crate) fn bind(
        plain: &[SocketAddr],
        tls: &[SocketAddr],
        certificate: Option<&RustlsConfig>,
    ) -> anyhow::Result<Self> {
        let mut bound = Vec::new();
        for address in plain {
            bound.push((listen(*address)?, None));
        }
        for address in tls {
            let certificate = certificate.context("a TLS listener needs a certificate")?;
            bound.push((listen(*address)?, Some(certificate.clone())));
        }
        Ok(Self { bound })
    }

    /// The URL of each listener, as a person would type it.
    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |(listener, tls): &(TcpListener, Option<RustlsConfig>)| {
            let address = listener.local_addr().ok()?;
            let scheme = if tls.is_some() { "https" } else { "http" };
            Some(format!("{scheme}://{}/", typed(address)))
        };
        self.bound.iter().filter_map(url).collect()
    }

    /// Serves until `handle` says stop; the first listener that fails ends all.
    pub(crate) async fn serve(self, router: Router, handle: Handle<SocketAddr>) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for (listener, tls) in self.bound {
            let service = router.clone().into_make_service_with_connect_info::<SocketAddr>();
            let handle = handle.clone();
            if let Some(tls) = tls {
                let mut server = axum_server::from_tcp_rustls(listener, tls)?.handle(handle);
                server.http_builder().http1().header_read_timeout(HEADER_TIMEOUT);
                tasks.spawn(server.serve(service));
            } else {
                let mut server = axum_server::from_tcp(listener)?.handle(handle);
                server.http_builder().http1().header_read_timeout(HEADER_TIMEOUT);
                tasks.spawn(server.serve(service));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a listener's task failed")?.context("a listener failed")?;
        }
        Ok(())
    }
}

/// Stops all listeners: no new connections, and open requests have a moment to end.
pub(crate) fn stop(handle: &Handle<SocketAddr>) {
    handle.graceful_shutdown(Some(GRACE));
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener)
}

/// An unspecified address cannot be typed into a browser: localhost stands for it.
fn typed(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_unspecified() || ip == IpAddr::from([127, 0, 0, 1]) {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

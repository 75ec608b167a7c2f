//! A minimal pingora-proxy, to be measured beside Sluice: `pingora-peer HTTP HTTPS TCP UPSTREAM CERTIFICATE KEY`.
//!
//! It forwards everything to one endpoint and does nothing else: no routing, no probes, no metrics, no
//! access log. What its documentation offers for speed is on: a pool of connections as large as any load here,
//! no module that looks at bodies, a runtime that does not move work between threads, mimalloc, and a
//! release profile with fat LTO.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::{BasicPeer, HttpPeer};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Idle connections kept to the endpoint: as many as the largest load opens, as its other peers keep.
const POOL: usize = 512;
/// For each direction of a TCP connection, as nginx is given.
const RELAY_BYTES: usize = 64 << 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [http, https, tcp, upstream, certificate, key] = arguments.as_slice() else {
        anyhow::bail!(
            "expected HTTP HTTPS TCP UPSTREAM CERTIFICATE KEY: three ports, ip:port, two PEM files"
        );
    };
    let configuration = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: POOL,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();

    let peer = HttpPeer::new(upstream.as_str(), false, String::new());
    let mut proxy = http_proxy_service(&server.configuration, Proxy { peer });
    proxy.add_tcp(&format!("127.0.0.1:{http}"));
    let mut tls = TlsSettings::intermediate(certificate, key).context("the certificate cannot be used")?;
    tls.enable_h2();
    proxy.add_tls_with_settings(&format!("127.0.0.1:{https}"), None, tls);
    server.add_service(proxy);

    let connector = TransportConnector::new(Some(ConnectorOptions::from_server_conf(&server.configuration)));
    let mut relay = Service::new("relay".to_owned(), Relay { connector, peer: BasicPeer::new(upstream) });
    relay.add_tcp(&format!("127.0.0.1:{tcp}"));
    server.add_service(relay);
    server.run_forever()
}

struct Proxy {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    /// By default a module that could compress looks at every body.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

/// A TCP connection on, byte by byte.
struct Relay {
    connector: TransportConnector,
    peer: BasicPeer,
}

#[async_trait]
impl ServerApp for Relay {
    async fn process_new(self: &Arc<Self>, mut client: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut endpoint = self.connector.new_stream(&self.peer).await.ok()?;
        // A side that breaks off ends both, which is all that there is to say about it.
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut endpoint, RELAY_BYTES, RELAY_BYTES)
            .await
            .ok();
        None
    }
}

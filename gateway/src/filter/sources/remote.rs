//! Key sets and the like, fetched over HTTP. Control plane only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A key set has a few KiB.
const MAX_BYTES: usize = 1 << 20;
/// For all of it, name resolution included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What stands at `url`.
///
/// # Errors
/// What went wrong, in words.
pub async fn fetch(url: &str) -> Result<Bytes, String> {
    match tokio::time::timeout(TIMEOUT, get(url)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn get(url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let host = uri.host().ok_or("names no host")?;
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream =
        TcpStream::connect((bare, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    if !is_tls {
        return ask(TokioIo::new(stream), &uri).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| format!("{error}"))?;
    let connector = TlsConnector::from(client_config()?);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
    ask(TokioIo::new(stream), &uri).await
}

async fn ask<S>(stream: TokioIo<S>, uri: &Uri) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("{error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = hyper::Request::get(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, "sluice")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{error}"))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        // A redirect is not followed: it would name hosts that nobody configured.
        if response.status() != hyper::StatusCode::OK {
            return Err(format!("answered with {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| format!("{error}"))
    };
    tokio::select! {
        answer = answered => answer,
        Err(error) = connection => Err(failed(error)),
    }
}

/// The system's roots, read at each use: keys are fetched a few times an hour.
fn client_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("the system has no certificate authorities".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{error}"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

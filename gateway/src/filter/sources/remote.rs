//! Key sets and the like, fetched over HTTP. Control plane only.

use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsConnector;

use super::reach::{Reach, bare_host};

/// A key set has a few KiB.
const MAX_BYTES: usize = 256 << 10;
/// Of a name: more than two hardly ever are there, and each is tried in turn.
const MAX_ADDRESSES: usize = 8;
/// For all of it, name resolution included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the system's roots are taken for what they were: they change with updates of the system.
const ROOTS_LIFETIME: Duration = Duration::from_secs(3600);

/// What stands at `url`. `place`, one of few, is held until nothing of it goes on.
///
/// # Errors
/// What went wrong, in words.
pub async fn fetch(url: &str, reach: &Reach, place: OwnedSemaphorePermit) -> Result<Bytes, String> {
    match tokio::time::timeout(TIMEOUT, get(url, reach, Arc::new(place))).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn get(url: &str, reach: &Reach, place: Arc<OwnedSemaphorePermit>) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let host = bare_host(&uri).ok_or("names no host")?;
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = connect(host, port, reach, place.clone()).await?;
    if !is_tls {
        return ask(TokioIo::new(stream), &uri).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{error}"))?;
    let connector = TlsConnector::from(client_config(Instant::now())?);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
    ask(TokioIo::new(stream), &uri).await
}

/// To the first of the host's addresses that answers. One that is out of reach is passed over.
async fn connect(
    host: &str,
    port: u16,
    reach: &Reach,
    place: Arc<OwnedSemaphorePermit>,
) -> Result<TcpStream, String> {
    let asked = (host.to_owned(), port);
    // The system's resolver blocks, and goes on when nobody waits for it any more: its place is taken until then.
    let resolving = tokio::task::spawn_blocking(move || {
        let _held = place;
        asked.to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>())
    });
    let found = resolving.await.map_err(|error| format!("{error}"))?;
    let found = found.map_err(|error| format!("its name cannot be resolved: {error}"))?;
    let mut why = "its name has no address".to_owned();
    for address in found {
        match reach.check(address.ip()) {
            Err(refused) => why = refused,
            Ok(()) => match TcpStream::connect((address.ip().to_canonical(), port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = format!("cannot connect: {error}"),
            },
        }
    }
    Err(why)
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

/// Reading the roots takes some milliseconds, which a thousand apps would make seconds of.
fn client_config(now: Instant) -> Result<Arc<ClientConfig>, String> {
    static KNOWN: Mutex<Option<(Instant, Arc<ClientConfig>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((read, config)) = &*known
        && now.saturating_duration_since(*read) < ROOTS_LIFETIME
    {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("the system has no certificate authorities".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{error}"))?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    *known = Some((now, config.clone()));
    Ok(config)
}

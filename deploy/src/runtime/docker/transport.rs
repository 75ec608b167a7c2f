//! How requests travel to an engine: over a unix socket, TCP, or TLS with certificates of both sides.
//!
//! One connection for each request, as the client library itself has it: an engine that was restarted
//! leaves nothing stale behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, Docker};
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Response, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Beyond the reach of any handshake that goes well.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Of the library; we have our own deadlines, which also cover bodies.
const LIBRARY_TIMEOUT_SECONDS: u64 = 24 * 3600;
/// Credentials for the engine to use, in base64.
const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Whoever may write to it may do anything on the machine.
    Unix(PathBuf),
    /// `host:port`. Whoever reaches it may do anything on the machine: for networks of two.
    Tcp(String),
    Tls {
        /// `host:port`; the host is what the engine's certificate must be for.
        address: String,
        /// PEM files. The engine's certificate must be of this authority, whatever others the system
        /// trusts.
        authority: PathBuf,
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// A connection could not be made: the request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {to}: {source}")]
pub(super) struct ConnectError {
    to: String,
    #[source]
    source: io::Error,
}

#[derive(Clone)]
enum Connector {
    Unix(PathBuf),
    Tcp(String),
    Tls { address: String, name: ServerName<'static>, tls: TlsConnector },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Endpoint {
    /// Reads certificates; connects to nothing.
    ///
    /// # Errors
    /// When a certificate cannot be read, with its file.
    pub(super) fn client(&self) -> io::Result<Docker> {
        let connector = self.connector()?;
        let version = bollard::API_DEFAULT_VERSION;
        let transport = move |request: BollardRequest| {
            let connector = connector.clone();
            async move { send(&connector, request).await }
        };
        let client = Docker::connect_with_custom_transport(
            transport,
            Some("http://engine"),
            LIBRARY_TIMEOUT_SECONDS,
            version,
        );
        client.map_err(io::Error::other)
    }

    fn connector(&self) -> io::Result<Connector> {
        Ok(match self {
            Self::Unix(path) => Connector::Unix(path.clone()),
            Self::Tcp(address) => Connector::Tcp(address.clone()),
            Self::Tls { address, authority, certificate, key } => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _port)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(io::Error::other)?;
                let tls = TlsConnector::from(Arc::new(tls_config(authority, certificate, key)?));
                Connector::Tls { address: address.clone(), name, tls }
            }
        })
    }

    /// On this machine, as far as a path tells.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

fn tls_config(authority: &Path, certificate: &Path, key: &Path) -> io::Result<ClientConfig> {
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let certificates = |path: &Path| -> io::Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        read.map_err(|error| unreadable(path, error))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root).map_err(io::Error::other)?;
    }
    let own_key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(certificate)?, own_key);
    config.map_err(io::Error::other)
}

async fn send(connector: &Connector, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let stream = match tokio::time::timeout(CONNECT_DEADLINE, connector.connect()).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = stream.map_err(|source| {
        let error = ConnectError { to: connector.name(), source };
        Error::from(io::Error::new(error.source.kind(), error))
    })?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
    make_url_safe(&mut request);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's last byte, or when nobody wants the answer any more.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// Engines read credentials in the alphabet of base64 that is safe in URLs; bollard 0.21 writes the
/// other, so that some passwords were not understood, and the engine went on without any.
fn make_url_safe(request: &mut BollardRequest) {
    let Some(value) = request.headers_mut().get_mut(&REGISTRY_AUTH) else { return };
    let safe = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    let safe: Vec<u8> = value.as_bytes().iter().map(safe).collect();
    if let Ok(mut safe) = HeaderValue::from_bytes(&safe) {
        safe.set_sensitive(true);
        *value = safe;
    }
}

impl Connector {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Self::Tls { address, name, tls } => {
                Box::new(tls.connect(name.clone(), TcpStream::connect(address).await?).await?)
            }
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(address) | Self::Tls { address, .. } => address.clone(),
        }
    }
}

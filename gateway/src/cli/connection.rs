//! The way to a gateway's admin listener: TCP, TLS or a Unix socket, one connection per question.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::failure::Failure;

/// For an answer that waits for nothing: ten thousand rows take a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Ten thousand endpoints take 6 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Of an answer that goes on: a line of output has 16 KiB, before it is escaped.
const MAX_LINE_BYTES: usize = 1 << 20;
/// A token has some dozens.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// Where somebody listens, and how to prove who asks.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'r> {
    pub url: &'r str,
    /// What says where, for messages.
    pub flag: &'static str,
    pub token_file: Option<&'r Path>,
    pub ca: Option<&'r Path>,
    pub cert: Option<&'r Path>,
}

/// One gateway, as its operators reach it.
#[derive(Debug)]
pub struct Admin {
    place: Place,
    authorization: Option<HeaderValue>,
    /// As it was given, for messages.
    shown: String,
}

#[derive(Debug)]
enum Place {
    Tcp { authority: String, host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

#[derive(Debug)]
struct Tls {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub etag: Option<String>,
    pub body: Bytes,
}

impl Answer {
    /// # Errors
    /// [`Failure`]: it is no success, or no JSON.
    pub fn json(self) -> Result<Value, Failure> {
        if !self.status.is_success() {
            return Err(Failure::of_answer(self.status.as_u16(), &self.body));
        }
        let broken = |error| Failure::Unreachable(format!("what answers is no gateway: {error}"));
        serde_json::from_slice(&self.body).map_err(broken)
    }
}

impl Admin {
    /// # Errors
    /// [`Failure::Invalid`]: the URL, or one of the files.
    pub fn new(reach: Reach<'_>) -> Result<Self, Failure> {
        let token = token(reach.token_file)?;
        let authorization = token.map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| Failure::invalid("the token has characters that none has"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            place: Place::read(reach)?,
            authorization: authorization.transpose()?,
            shown: reach.url.to_owned(),
        })
    }

    /// # Errors
    /// [`Failure`]: nobody answers, or not with success.
    pub async fn get(&self, target: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, target, &[], None).await?.json()
    }

    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, target: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, target, &[], Some(body)).await?.json()
    }

    /// Whatever the answer's status.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn ask(
        &self,
        method: Method,
        target: &str,
        fields: &[(HeaderName, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        self.ask_for(PATIENCE, method, target, fields, body).await
    }

    /// As [`Self::ask`], of what may take its time.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn ask_for(
        &self,
        patience: Duration,
        method: Method,
        target: &str,
        fields: &[(HeaderName, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, target, fields, body)?;
        let unreachable = |why: String| Failure::Unreachable(format!("{}: {why}", self.shown));
        let connecting = tokio::time::timeout(CONNECT, self.connect()).await;
        let stream = connecting.unwrap_or_else(|_| Err(format!("no connection in {} s", CONNECT.as_secs())));
        let answering = tokio::time::timeout(patience, exchange(stream.map_err(unreachable)?, request)).await;
        let answered =
            answering.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())));
        answered.map_err(unreachable)
    }

    /// Every line of an answer that goes on, as it comes; returns when it ends.
    ///
    /// # Errors
    /// As [`Self::get`]; [`Failure::Unreachable`] where it breaks off.
    pub async fn lines(&self, target: &str, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        let request = self.request(Method::GET, target, &[], None)?;
        let unreachable = |why: String| Failure::Unreachable(format!("{}: {why}", self.shown));
        let failed = |error: hyper::Error| unreachable(format!("{error}"));
        let connecting = tokio::time::timeout(CONNECT, self.connect()).await;
        let stream = connecting.unwrap_or_else(|_| Err(format!("no connection in {} s", CONNECT.as_secs())));
        let io = TokioIo::new(stream.map_err(unreachable)?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
        // What breaks is seen in the body.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| unreachable(format!("{error}")))?.to_bytes();
            return Err(Failure::of_answer(head.status.as_u16(), &body));
        }
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(failed)?.into_data() else { continue };
            pending.extend_from_slice(&data);
            let end = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            pending[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(&mut each);
            pending.drain(..end);
            if pending.len() > MAX_LINE_BYTES {
                return Err(unreachable(format!("a line has more than {MAX_LINE_BYTES} bytes")));
            }
        }
        connection.abort();
        Ok(())
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        fields: &[(HeaderName, &str)],
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let authority = match &self.place {
            Place::Tcp { authority, .. } => authority,
            Place::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(target).header(HOST, authority);
        request = request.header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        request.body(Full::new(body)).map_err(|error| Failure::invalid(format!("{target}: {error}")))
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, String> {
        let (host, port, tls) = match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                return stream.map(|stream| Box::new(stream) as _).map_err(|error| format!("{error}"));
            }
            Place::Tcp { host, port, tls, .. } => (host, *port, tls),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("{error}"))?;
        let Some(Tls { name, config }) = tls else { return Ok(Box::new(stream)) };
        let secured = TlsConnector::from(config.clone()).connect(name.clone(), stream).await;
        secured.map(|stream| Box::new(stream) as _).map_err(|error| format!("no TLS: {error}"))
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

async fn exchange(stream: Box<dyn Wire>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let failed = |error: hyper::Error| format!("{error}");
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(failed)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let etag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| format!("{error}"))?.to_bytes();
        Ok(Answer { status: head.status, etag, body })
    };
    tokio::select! {
        answer = answered => answer,
        // One that ends well may have brought the answer.
        Err(error) = connection => Err(failed(error)),
    }
}

impl Place {
    fn read(reach: Reach<'_>) -> Result<Self, Failure> {
        let url = reach.url;
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let bad = || {
            let fix = "write http://127.0.0.1:9901, https://NAME:PORT or unix:/PATH";
            Failure::invalid(format!(
                "{}: {url:?} is no {} listener; {fix}",
                reach.flag,
                reach.flag.trim_start_matches('-')
            ))
        };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(bad)?;
        let bare = authority.host();
        let host = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(Tls::read(reach, host)?), 443),
            _ => return Err(bad()),
        };
        Ok(Self::Tcp {
            authority: authority.to_string(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            tls,
        })
    }
}

impl Tls {
    fn read(reach: Reach<'_>, host: &str) -> Result<Self, Failure> {
        let name = ServerName::try_from(host.to_owned());
        let name =
            name.map_err(|_| Failure::invalid(format!("{}: {host:?} is no name to verify", reach.flag)))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Failure::invalid(format!("{error}")))?;
        let builder = builder.with_root_certificates(roots(reach.ca)?);
        let config = match reach.cert {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let bad = |why: String| Failure::invalid(format!("--cert: {}: {why}", path.display()));
                let chain = certificates(path).map_err(bad)?;
                let key =
                    PrivateKeyDer::from_pem_file(path).map_err(|error| bad(format!("no key: {error}")))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| bad(error.to_string()))?
            }
        };
        Ok(Self { name, config: Arc::new(config) })
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            false => Ok(roots),
            true => Err(Failure::invalid("--ca: is missing, and the system has no certificate authorities")),
        };
    };
    let bad = |why: String| Failure::invalid(format!("--ca: {}: {why}", path.display()));
    for certificate in certificates(path).map_err(bad)? {
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(found) }
}

/// Never from the command line, which everybody on the machine sees.
fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let given = match file {
        Some(path) => {
            let bad = |why: String| Failure::invalid(format!("--token-file: {}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
            if text.len() > MAX_TOKEN_BYTES || text.trim().is_empty() {
                return Err(bad("holds no token".to_owned()));
            }
            Some(text)
        }
        None => std::env::var("SLUICE_TOKEN").ok(),
    };
    Ok(given.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

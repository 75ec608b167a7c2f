//! The doors of the admin API: the loopback in clear text, a Unix socket, TLS.
//!
//! Each connection is a task with a [`Peer`] that says from where it came; how many there are at a time is bounded for each
//! door, so that who comes from afar keeps nobody out who sits at the machine.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::Authenticator;
use super::auth::Peer;
use crate::config::AdminConfig;
use crate::listener::tls::{Inside, ServerTls, TlsRegistry};

/// Operators, scrapers and pipelines of a large platform together.
const MAX_CONNECTIONS: usize = 256;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and between two requests.
const HEAD: Duration = Duration::from_secs(30);
/// For a client that takes nothing of what it is sent, or has gone without a word. Nothing else would ever give its place
/// back: nobody writes to a peer for ever.
const STALL: Duration = Duration::from_secs(30);
/// For what is being answered when the process ends: a write that was begun is told of.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Tokens and certificates are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Before the next try where the system has no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of a certificate's name in the audit log.
const MAX_NAME: usize = 128;

/// What clients come through.
#[derive(Default)]
pub struct Doors {
    /// Clear text, or TLS where there is any.
    tcp: Option<TcpListener>,
    tls: Option<Arc<ServerTls>>,
    /// Keeps the certificates fresh.
    registry: Arc<TlsRegistry>,
    unix: Option<Unix>,
}

enum Unix {
    Open(UnixListener),
    /// Another process has it until this one serves.
    Wanted(PathBuf),
}

/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot open the admin listener at {address}"))
}

impl Doors {
    /// `tcp`: bound already, since it is handed over. In a take-over the socket is opened, in the place of the former
    /// process's, when it is served.
    ///
    /// # Errors
    /// When a certificate cannot be used, or the socket's path is somebody else's.
    pub fn open(config: &AdminConfig, tcp: Option<&StdListener>, is_takeover: bool) -> anyhow::Result<Self> {
        let registry = Arc::new(TlsRegistry::default());
        let tls = config.tls.as_ref().map(|tls| registry.prepare(tls, Inside::Http1)).transpose();
        let tls = tls.context("admin.tls")?;
        registry.adopt(tls.iter().map(|tls| (Arc::from("admin"), tls.clone())).collect());
        let tcp = tcp.map(|tcp| tcp.try_clone().and_then(TcpListener::from_std)).transpose()?;
        let open = |path: &Path| match is_takeover {
            true => Ok(Unix::Wanted(path.to_owned())),
            false => open_socket(path, false)
                .map(Unix::Open)
                .with_context(|| format!("cannot open the admin socket {}", path.display())),
        };
        let unix = config.socket.as_deref().map(open);
        Ok(Self { tcp, tls, registry, unix: unix.transpose()? })
    }

    /// The same with this listener.
    #[must_use]
    pub fn at(self, tcp: TcpListener) -> Self {
        Self { tcp: Some(tcp), ..self }
    }
}

/// For its owner only from the first moment: it is made beside its place and moved there.
fn open_socket(path: &Path, may_replace: bool) -> io::Result<UnixListener> {
    if !may_replace && std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::other("another process answers there"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            return Err(io::Error::other("there is something else, which is no socket"));
        }
        _ => {}
    }
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Serves `router` until `cancel`, and keeps tokens and certificates fresh.
pub async fn serve(doors: Doors, auth: Arc<Authenticator>, router: Router, cancel: CancellationToken) {
    let Doors { tcp, tls, registry, unix } = doors;
    let mut doors = JoinSet::new();
    if let Some(tcp) = tcp {
        doors.spawn(serve_tcp(tcp, tls, router.clone(), cancel.clone()));
    }
    let unix = unix.and_then(|unix| match unix {
        Unix::Open(listener) => Some(listener),
        Unix::Wanted(path) => open_socket(&path, true)
            .inspect_err(|error| tracing::error!(%error, path = %path.display(), "no admin socket"))
            .ok(),
    });
    if let Some(unix) = unix {
        doors.spawn(serve_unix(unix, router, cancel.clone()));
    }
    while cancel.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
        auth.refresh();
        registry.refresh();
    }
    doors.join_all().await;
}

async fn serve_tcp(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    cancel: CancellationToken,
) {
    let mut door = Door::new(router, cancel);
    while let Some((permit, (stream, address))) = door.next(|| listener.accept()).await {
        // Answers are short and wait for nothing.
        let _ = stream.set_nodelay(true);
        bound_stalls(&stream, STALL);
        match &tls {
            None => door.serve(stream, Peer::Loopback(address.ip()), permit),
            Some(tls) => door.serve_tls(stream, address, tls, permit),
        }
    }
    door.close().await;
}

/// Linux ends a connection whose peer has acknowledged nothing, or had no room for anything, for so long (tcp(7),
/// TCP_USER_TIMEOUT).
fn bound_stalls(stream: &TcpStream, longest: Duration) {
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(longest)) {
        tracing::debug!(%error, "a client may take nothing for ever");
    }
}

async fn serve_unix(listener: UnixListener, router: Router, cancel: CancellationToken) {
    let mut door = Door::new(router, cancel);
    while let Some((permit, (stream, _))) = door.next(|| listener.accept()).await {
        let peer = Peer::Local { user: user_of(&stream) };
        door.serve(stream, peer, permit);
    }
    door.close().await;
}

struct Door {
    router: Router,
    cancel: CancellationToken,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Door {
    fn new(router: Router, cancel: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { router, cancel, places, connections: JoinSet::new() }
    }

    /// The next client that there is a place for. `None`: it is over.
    async fn next<T, A: Future<Output = io::Result<T>>>(
        &mut self,
        accept: impl Fn() -> A,
    ) -> Option<(OwnedSemaphorePermit, T)> {
        while self.connections.try_join_next().is_some() {}
        let places = self.places.clone();
        let permit = self.cancel.run_until_cancelled(places.acquire_owned()).await?.ok()?;
        loop {
            match self.cancel.run_until_cancelled(accept()).await? {
                Ok(accepted) => return Some((permit, accepted)),
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    self.cancel.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await?;
                }
            }
        }
    }

    fn serve<S>(&mut self, stream: S, peer: Peer, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (router, cancel) = (self.router.clone(), self.cancel.clone());
        self.connections.spawn(async move {
            answer(stream, peer, router, cancel).await;
            drop(permit);
        });
    }

    fn serve_tls(
        &mut self,
        stream: TcpStream,
        address: SocketAddr,
        tls: &ServerTls,
        permit: OwnedSemaphorePermit,
    ) {
        let (router, cancel) = (self.router.clone(), self.cancel.clone());
        let acceptor = TlsAcceptor::from(tls.config());
        self.connections.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
            let Some(Ok(Ok(stream))) = cancel.run_until_cancelled(shaken).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(common_name);
            let peer = Peer::Tls { address: address.ip(), certificate };
            answer(stream, peer, router, cancel).await;
            drop(permit);
        });
    }

    /// Ends when every connection has.
    async fn close(self) {
        self.connections.join_all().await;
    }
}

async fn answer<S>(stream: S, peer: Peer, router: Router, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    if cancel.run_until_cancelled(connection.as_mut()).await.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_WORDS, connection).await;
    }
}

/// Of a certificate that was verified: the common name, or what else names it.
fn common_name(chain: &[CertificateDer<'_>]) -> Option<Arc<str>> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let name = leaf.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let name = name.map_or_else(|| leaf.subject().to_string(), str::to_owned);
    let plain: String = name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect();
    Some(plain.into())
}

/// Whoever opened the other end: its name, or its number where it has none.
fn user_of(stream: &UnixStream) -> Arc<str> {
    let Ok(credentials) = stream.peer_cred() else { return "unknown".into() };
    let number = credentials.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    // passwd(5): name, password, number.
    let mut fields = users.lines().map(|line| line.split(':'));
    let name = fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| Arc::from(name))
    });
    name.unwrap_or_else(|| number.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_not_written_to_for_ever() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _never_reads = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        bound_stalls(&stream, Duration::from_millis(300));
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = stream.write_all(&block).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}

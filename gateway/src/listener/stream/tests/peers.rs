//! Certificates, configurations, and connected pairs.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::super::{NotesServerName, Stream};

pub const HOST: &str = "web.test";
pub static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

pub struct Pki {
    root: CertificateDer<'static>,
    pub server: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    pub client: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
}

pub static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    issue(at, "root", &["-addext", "keyUsage=keyCertSign"]);
    for name in ["server", "client"] {
        let authority = ["-CA", "root.crt", "-CAkey", "root.key"];
        let extensions =
            ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:web.test"];
        issue(at, name, &[authority, extensions].concat());
    }
    let chain = |name: &str| CertificateDer::from_pem_file(at.join(format!("{name}.crt"))).unwrap();
    let key = |name: &str| PrivateKeyDer::from_pem_file(at.join(format!("{name}.key"))).unwrap();
    Pki {
        root: chain("root"),
        server: (vec![chain("server")], key("server")),
        client: (vec![chain("client")], key("client")),
    }
});

fn issue(folder: &Path, name: &str, more: &[&str]) {
    let issued = Command::new("openssl")
        .current_dir(folder)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
        .args(more)
        .output()
        .unwrap();
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
}

fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(PKI.root.clone()).unwrap();
    Arc::new(roots)
}

/// Asks for a client's certificate and does without.
pub fn server_config(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = (PKI.server.0.clone(), PKI.server.1.clone_key());
    let mut names = ResolvesServerCertUsingSni::new();
    names.add(HOST, CertifiedKey::from_der(chain, key, &provider).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_cert_resolver(Arc::new(NotesServerName(Arc::new(names))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

pub fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots())
        .with_client_auth_cert(PKI.client.0.clone(), PKI.client.1.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Trusts nobody.
pub fn distrustful_client() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

pub fn host() -> ServerName<'static> {
    ServerName::try_from(HOST).unwrap()
}

/// Two ends of a connection: who connects, who accepts.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap().0);
    connected.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (connected, accepted)
}

/// We as the server of a usual client.
pub async fn we_serve(
    (connected, accepted): (TcpStream, TcpStream),
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (client::TlsStream<TcpStream>, Stream) {
    let connecting = TlsConnector::from(client).connect(host(), connected);
    let (theirs, ours) = tokio::join!(connecting, Stream::accept(accepted, server));
    (theirs.unwrap(), ours.unwrap())
}

/// We as the client of a usual server.
pub async fn we_ask(
    (connected, accepted): (TcpStream, TcpStream),
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (Stream, server::TlsStream<TcpStream>) {
    let connecting = Stream::connect(connected, client, host());
    // A server's handshake ends only with the client's last message, which we send with our first bytes.
    let accepting = TlsAcceptor::from(server).accept(accepted);
    let flushed = async {
        let mut ours = connecting.await.unwrap();
        tokio::io::AsyncWriteExt::flush(&mut ours).await.unwrap();
        ours
    };
    let (ours, theirs) = tokio::join!(flushed, accepting);
    (ours, theirs.unwrap())
}

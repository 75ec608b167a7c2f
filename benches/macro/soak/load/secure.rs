//! TLS, with a look at which certificate is served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use fastrand::Rng;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Load;
use crate::soak::site::{SHORT, TLS_NAME, host};
use benches::soak::journal::{Kind, What};

/// From connecting to the answer's end.
const DEADLINE: Duration = tests::DEADLINE;

/// A full handshake and one request, again and again.
pub fn handshakes(load: &Load, rng: &mut Rng) {
    let runtime = super::http2::runtime();
    while !load.is_stopped() {
        let (app, token, since) = (SHORT[rng.usize(..SHORT.len())], rng.u64(..), load.now());
        let exchange = async { tokio::time::timeout(DEADLINE, exchange(load, app, token)).await? };
        match runtime.block_on(exchange) {
            Ok(answer) if is_right(&answer, &format!("{app} {token}")) => {
                load.journal.right(Kind::Handshake, answer.len());
            }
            Ok(answer) => load.fail(Kind::Handshake, app, since, What::Wrong(answer)),
            Err(error) => load.fail(Kind::Handshake, app, since, What::Unanswered(format!("{error:#}"))),
        }
    }
}

/// With a length, or in one chunk.
fn is_right(answer: &str, body: &str) -> bool {
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    answer.starts_with("HTTP/1.1 200 ")
        && answer.split_once("\r\n\r\n").is_some_and(|(_, content)| content == body || content == chunk)
}

/// All of an answer, up to the connection's end.
async fn exchange(load: &Load, app: &str, token: u64) -> anyhow::Result<String> {
    let mut tls = connect(load, b"http/1.1").await?;
    let request = format!("GET /token/{token} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(app));
    tls.write_all(request.as_bytes()).await.context("sending")?;
    tls.flush().await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.context("receiving")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A connection to the listener with TLS, by one of the certificates that may be there.
pub async fn connect(load: &Load, protocol: &[u8]) -> anyhow::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(load.addresses.tls).await.context("connecting")?;
    tcp.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(client(protocol)?));
    let tls = connector.connect(ServerName::try_from(TLS_NAME)?, tcp).await.context("handshaking")?;
    let served = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let known = load.known.iter().position(|known| served.is_some_and(|served| **served == **known));
    load.last_seen.store(known.context("nobody's certificate")?, Ordering::Release);
    Ok(tls)
}

fn client(protocol: &[u8]) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).context("TLS 1.3 is there")?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Known(provider))).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// Looks at signatures; whose certificate it is, [`connect`] knows better than a chain would.
#[derive(Debug)]
struct Known(Arc<CryptoProvider>);

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Full TLS handshakes: no load generator that Debian has makes them, one per request, at a stretch.
//!
//! wrk keeps its session from one connection to the next, so what it makes are resumptions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use benches::clock::millis;
use benches::distribution::Distribution;
use benches::generator::Outcome;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::site::HOST;

/// For one connection, from its begin to its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// More than the head and the small body of an answer.
const ANSWER_BYTES: usize = 4096;

/// `connections` at a time, each one after another, until `time` is over.
pub fn run(address: SocketAddr, connections: usize, time: Duration) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connector = TlsConnector::from(Arc::new(client()?));
    let end = Instant::now() + time;
    let loops = (0..connections).map(|_| repeat(&connector, address, end));
    let tallies = runtime.block_on(futures::future::join_all(loops));
    let latency: Distribution = tallies.iter().flat_map(|tally| tally.latencies.iter().copied()).collect();
    Ok(Outcome {
        requests: latency.len() as u64,
        errors: tallies.iter().map(|tally| tally.errors).sum(),
        p50_ms: Some(latency.median()),
        p99_ms: Some(latency.quantile(0.99)),
    })
}

#[derive(Debug, Default)]
struct Tally {
    /// In milliseconds.
    latencies: Vec<f64>,
    errors: u64,
}

async fn repeat(connector: &TlsConnector, address: SocketAddr, end: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < end {
        let began = Instant::now();
        match tokio::time::timeout(TIMEOUT, exchange(connector, address)).await {
            Ok(Ok(true)) => tally.latencies.push(millis(began.elapsed())),
            _ => tally.errors += 1,
        }
    }
    tally
}

/// Whether the answer was a 200.
async fn exchange(connector: &TlsConnector, address: SocketAddr) -> anyhow::Result<bool> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut tls = connector.connect(ServerName::try_from(HOST)?, tcp).await?;
    tls.write_all(REQUEST).await?;
    tls.flush().await?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        anyhow::ensure!(tls.read_buf(&mut answer).await? > 0, "the connection ended before the answer");
    }
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

fn client() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).context("TLS 1.3 is there")?;
    let verifier = Arc::new(Trusting(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Believes everything: the certificate was made a moment ago by us, and the client's work is not measured.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

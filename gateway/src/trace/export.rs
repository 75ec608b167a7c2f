//! Spans to the collector: OTLP over HTTP, on the control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use super::otlp::{self, Resource};
use super::span::Finished;
use super::worker::Batch;

/// Batches of workers that wait: a collector that is away for a moment costs nothing. With 128 requests of a KiB
/// each, 8 MiB at most.
const WAITING_BATCHES: usize = 64;
/// Requests of one message.
const MOST: usize = 512;
/// Spans are sent at least so often; OpenTelemetry's SDKs wait five times as long.
const INTERVAL: Duration = Duration::from_secs(1);
/// Of OpenTelemetry's SDKs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a collector that is restarted is given; then its spans are dropped for those that wait behind them.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the Host field names it.
    pub authority: String,
    /// With the port.
    pub address: String,
    /// Of the request.
    pub path: String,
}

/// For metrics.
#[derive(Debug, Default)]
pub struct ExportStatus {
    pub exported_spans: AtomicU64,
    pub dropped_spans: AtomicU64,
    pub failures: AtomicU64,
}

/// From the workers to the exporter.
pub fn channel() -> (Sender<Batch>, Receiver<Batch>) {
    tokio::sync::mpsc::channel(WAITING_BATCHES)
}

#[derive(Debug)]
pub struct Exporter {
    target: Target,
    resource: Resource,
    status: Arc<ExportStatus>,
    connection: Option<SendRequest<Full<Bytes>>>,
    is_failing: bool,
}

impl Exporter {
    pub fn new(target: Target, service: &str, instance: &str, status: Arc<ExportStatus>) -> Self {
        let resource = Resource { service: service.to_owned(), instance: instance.to_owned() };
        Self { target, resource, status, connection: None, is_failing: false }
    }

    /// Sends what workers give until `cancel`, and then once more what is there.
    pub async fn run(mut self, mut batches: Receiver<Batch>, cancel: CancellationToken) {
        let mut pending: Vec<Finished> = Vec::new();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = interval.tick() => {}
                batch = batches.recv() => match batch {
                    Some(batch) => {
                        pending.extend(batch);
                        if pending.len() < MOST {
                            continue;
                        }
                    }
                    None => break,
                },
            }
            if cancel.run_until_cancelled(self.send(&mut pending)).await.is_none() {
                break;
            }
        }
        while let Ok(batch) = batches.try_recv() {
            pending.extend(batch);
        }
        // Whoever stops the process gives it a second.
        let (body, spans) = otlp::request(&self.resource, &pending);
        if spans > 0 && self.try_send(body.into()).await.is_ok() {
            self.status.exported_spans.fetch_add(spans, Ordering::Relaxed);
        }
    }

    async fn send(&mut self, pending: &mut Vec<Finished>) {
        if pending.is_empty() {
            return;
        }
        let (body, spans) = otlp::request(&self.resource, pending);
        pending.clear();
        let body = Bytes::from(body);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.try_send(body.clone()).await {
                Ok(()) => {
                    self.is_failing = false;
                    self.status.exported_spans.fetch_add(spans, Ordering::Relaxed);
                    return;
                }
                Err(failure) => {
                    self.status.failures.fetch_add(1, Ordering::Relaxed);
                    self.connection = None;
                    // Once per outage.
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(error = %failure.text, "cannot export spans");
                    }
                    if !failure.is_passing || attempt == ATTEMPTS {
                        break;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.status.dropped_spans.fetch_add(spans, Ordering::Relaxed);
    }

    async fn try_send(&mut self, body: Bytes) -> Result<(), Failure> {
        match tokio::time::timeout(TIMEOUT, self.exchange(body)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::passing("the collector does not answer".to_owned())),
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<(), Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::passing(error.to_string());
        let mut sender = match self.connection.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let socket =
                    TcpStream::connect(&self.target.address).await.map_err(|error| passing(&error))?;
                let handshake = http1::handshake(TokioIo::new(socket)).await;
                let (sender, connection) = handshake.map_err(|error| passing(&error))?;
                // Ends with the sender.
                tokio::spawn(connection);
                sender
            }
        };
        sender.ready().await.map_err(|error| passing(&error))?;
        let request = http::Request::post(&self.target.path)
            .header(http::header::HOST, &self.target.authority)
            .header(http::header::CONTENT_TYPE, "application/x-protobuf")
            .header(http::header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| Failure { text: error.to_string(), is_passing: false })?;
        let response = sender.send_request(request).await.map_err(|error| passing(&error))?;
        let status = response.status();
        // A body that nobody reads would end the connection.
        let read =
            http_body_util::BodyExt::collect(http_body_util::Limited::new(response.into_body(), MAX_ANSWER));
        if read.await.is_ok() {
            self.connection = Some(sender);
        }
        match status.as_u16() {
            200..=299 => Ok(()),
            // OTLP/HTTP, "Retryable Response Codes".
            429 | 502..=504 => Err(Failure::passing(format!("the collector answers {status}"))),
            _ => Err(Failure { text: format!("the collector answers {status}"), is_passing: false }),
        }
    }
}

/// An answer is a few bytes, or a sentence.
const MAX_ANSWER: usize = 64 << 10;

struct Failure {
    text: String,
    /// Whether it may be over when it is tried again.
    is_passing: bool,
}

impl Failure {
    fn passing(text: String) -> Self {
        Self { text, is_passing: true }
    }
}

//! An endpoint that speaks HTTP/2 as the `h2` crate does.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::client::read;

/// One request and the way to answer it.
pub struct Exchange {
    pub head: http::request::Parts,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
}

impl Exchange {
    pub async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        read(&mut self.body).await.expect("the request is whole")
    }

    pub fn answer(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        self.answer_with_trailers(status, fields, body, None);
    }

    /// Fails only when the gateway has given the stream up, which a test sees at the other end.
    pub fn answer_with_trailers(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) {
        let is_all = body.is_empty() && trailers.is_none();
        let Ok(mut stream) = self.respond.send_response(response(status, fields), is_all) else { return };
        if !is_all {
            stream.send_data(Bytes::copy_from_slice(body), trailers.is_none()).ok();
            trailers.map(|trailers| stream.send_trailers(trailers));
        }
    }
}

pub fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let builder = Response::builder().status(status);
    let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).expect("a test's response can be built")
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    requests: AtomicUsize,
}

/// Listens until it is dropped.
pub struct Endpoint {
    address: SocketAddr,
    counts: Arc<Counts>,
    accepting: AbortHandle,
}

impl Endpoint {
    /// Every stream is a call of `serve`.
    pub async fn start<F>(serve: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_as(Builder::new(), serve).await
    }

    /// Holds every request and its body, answers nothing and opens no window.
    pub async fn silent() -> Self {
        Self::start(|exchange| async move {
            std::future::pending::<()>().await;
            drop(exchange);
        })
        .await
    }

    pub async fn start_as<F>(builder: Builder, serve: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let counts = Arc::new(Counts::default());
        let (serve, counting) = (Arc::new(serve), Arc::clone(&counts));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counting.accepted.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(connection(stream, builder.clone(), Arc::clone(&serve), Arc::clone(&counting)));
            }
        });
        Self { address, counts, accepting: accepting.abort_handle() }
    }

    /// Answers everything with its name.
    pub async fn plain() -> Self {
        Self::start(|mut exchange| async move { exchange.answer(200, &[], b"c1") }).await
    }

    /// Answers with the body and the trailers that it was sent.
    pub async fn echo() -> Self {
        Self::start(|mut exchange| async move {
            let (body, trailers) = exchange.read().await;
            exchange.answer_with_trailers(200, &[], &body, trailers);
        })
        .await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Acquire)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.accepted() - self.counts.ended.load(Ordering::Acquire)
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Acquire)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection<S, F>(stream: TcpStream, builder: Builder, serve: Arc<S>, counts: Arc<Counts>)
where
    S: Fn(Exchange) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    stream.set_nodelay(true).expect("a socket takes its options");
    if let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await {
        // What a broken connection means is for the test to say, from what it saw.
        while let Some(Ok((request, respond))) = connection.accept().await {
            counts.requests.fetch_add(1, Ordering::AcqRel);
            let (head, body) = request.into_parts();
            tokio::spawn(serve(Exchange { head, body, respond }));
        }
    }
    counts.ended.fetch_add(1, Ordering::AcqRel);
}

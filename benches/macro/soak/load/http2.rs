//! HTTP/2 connections with several streams at a time, each asking again as soon as it has its answer.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use fastrand::Rng;
use futures::future::join_all;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::{Load, secure};
use crate::soak::pattern;
use crate::soak::site::{SHORT, host};
use benches::soak::journal::{Kind, What};

const STREAMS: usize = 8;
/// Of a POST.
const BODY_BYTES: usize = 64 << 10;
/// One request in so many has a body.
const POSTS: usize = 8;
const DEADLINE: Duration = tests::DEADLINE;

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// By prior knowledge.
pub fn in_clear_text(load: &Load, rng: &mut Rng) {
    runtime().block_on(async {
        while !load.is_stopped() {
            let connecting = async {
                let stream = TcpStream::connect(load.addresses.web).await?;
                stream.set_nodelay(true)?;
                Ok(h2::client::handshake(stream).await?)
            };
            connection(load, rng, connecting).await;
        }
    });
}

pub fn secure(load: &Load, rng: &mut Rng) {
    runtime().block_on(async {
        while !load.is_stopped() {
            let connecting = async { Ok(h2::client::handshake(secure::connect(load, b"h2").await?).await?) };
            connection(load, rng, connecting).await;
        }
    });
}

/// Until the gateway says that it goes away.
async fn connection<T: AsyncRead + AsyncWrite + Unpin>(
    load: &Load,
    rng: &mut Rng,
    connecting: impl Future<Output = anyhow::Result<(SendRequest<Bytes>, Connection<T>)>>,
) {
    let since = load.now();
    let connected = tokio::time::timeout(DEADLINE, connecting).await;
    let (sender, driver) = match connected.context("it takes too long").and_then(|connected| connected) {
        Ok(connected) => connected,
        Err(error) => {
            return load.fail(Kind::Http2, SHORT[0], since, What::Unanswered(format!("{error:#}")));
        }
    };
    let streams = (0..STREAMS).map(|_| stream(load, rng.fork(), sender.clone()));
    let streams = join_all(streams.collect::<Vec<_>>());
    drop(sender);
    // Ends with its last stream, or before: then every stream has learnt why.
    let (_, _) = futures::join!(driver, streams);
}

async fn stream(load: &Load, mut rng: Rng, mut sender: SendRequest<Bytes>) {
    while !load.is_stopped() {
        // One that was told to begin nothing more has done nothing wrong.
        sender = match sender.ready().await {
            Ok(sender) => sender,
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => return,
            Err(error) => {
                let what = What::Unanswered(format!("before a request: {error}"));
                return load.fail(Kind::Http2, SHORT[0], load.now(), what);
            }
        };
        let (app, since) = (SHORT[rng.usize(..SHORT.len())], load.now());
        let body = (rng.usize(..POSTS) == 0).then(|| pattern::whole(rng.u64(..), rng.usize(1..BODY_BYTES)));
        let kind = if body.is_some() { Kind::Http2Post } else { Kind::Http2 };
        let exchange = exchange(load, &mut sender, app, rng.u64(..), body);
        let what = match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(Ok(())) => continue,
            // It was not begun, and says so: a client asks again (RFC 9113 section 8.7).
            Ok(Err(Trouble::Protocol(error))) if was_not_begun(&error) => continue,
            Ok(Err(Trouble::Protocol(error))) => What::Unanswered(format!("{error}")),
            Ok(Err(Trouble::Answer(what))) => what,
            Err(_) => What::Wrong("no answer in time".to_owned()),
        };
        load.fail(kind, app, since, what);
    }
}

enum Trouble {
    Protocol(h2::Error),
    Answer(What),
}

impl From<h2::Error> for Trouble {
    fn from(error: h2::Error) -> Self {
        Self::Protocol(error)
    }
}

fn was_not_begun(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    is_refused || error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

async fn exchange(
    load: &Load,
    sender: &mut SendRequest<Bytes>,
    app: &'static str,
    token: u64,
    body: Option<Vec<u8>>,
) -> Result<(), Trouble> {
    let (method, target, kind, wanted) = match &body {
        None => ("GET", format!("/token/{token}"), Kind::Http2, format!("{app} {token}")),
        Some(body) => {
            let wanted = format!("{app} {:016x} {}", pattern::hash(body), body.len());
            ("POST", "/sum".to_owned(), Kind::Http2Post, wanted)
        }
    };
    let request = http::Request::builder().method(method).uri(format!("http://{}{target}", host(app)));
    let request = request.body(()).expect("a request can be built");
    let (response, mut stream) = sender.send_request(request, body.is_none())?;
    if let Some(body) = body {
        // h2 keeps what the window does not take yet.
        stream.send_data(Bytes::from(body), true)?;
    }
    let (head, mut content) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = content.data().await {
        let piece = piece?;
        bytes.extend_from_slice(&piece);
        content.flow_control().release_capacity(piece.len())?;
    }
    if head.status != 200 {
        let reason = head.headers.get("x-sluice-reason").and_then(|reason| reason.to_str().ok());
        let reason = reason.map(str::to_owned);
        return Err(Trouble::Answer(What::Answer { status: head.status.as_u16(), reason }));
    }
    if bytes != wanted.as_bytes() {
        let got = String::from_utf8_lossy(&bytes);
        return Err(Trouble::Answer(What::Wrong(format!("{got:?} and not {wanted:?}"))));
    }
    load.journal.right(kind, bytes.len());
    Ok(())
}

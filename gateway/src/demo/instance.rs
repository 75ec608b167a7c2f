//! One instance of a demo app: says who it is, and answers `/_ping`.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A flaky instance fails its pings at the end of every period: long enough to be ejected, and to be
/// watched.
const FLAKY_PERIOD: Duration = Duration::from_secs(20);
const FLAKY_SICK: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Args)]
pub struct InstanceArguments {
    #[arg(long)]
    app: String,
    #[arg(long)]
    version: String,
    #[arg(long)]
    instance: String,
    #[arg(long)]
    flaky: bool,
    /// Given by whoever starts it, as to any instance
    #[arg(long, env = "PORT")]
    port: u16,
}

/// Serves until it is killed.
///
/// # Errors
/// When the port is taken.
pub async fn run(arguments: InstanceArguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await.context("cannot listen")?;
    let began = Instant::now();
    let name = format!("{} {} {}", arguments.app, arguments.version, arguments.instance);
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        let (name, flaky) = (name.clone(), arguments.flaky);
        let answer = service_fn(move |request: Request<Incoming>| {
            let answered = answer(&name, &request, flaky && is_sick(began.elapsed()));
            async move { Ok::<_, Infallible>(answered) }
        });
        tokio::spawn(async move {
            // A client that goes away is no event here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn is_sick(age: Duration) -> bool {
    age.as_millis() % FLAKY_PERIOD.as_millis() >= (FLAKY_PERIOD - FLAKY_SICK).as_millis()
}

fn answer(name: &str, request: &Request<Incoming>, is_sick: bool) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/_ping" if is_sick => (StatusCode::SERVICE_UNAVAILABLE, "feeling unwell\n".to_owned()),
        "/_ping" => (StatusCode::OK, "pong\n".to_owned()),
        path => (StatusCode::OK, format!("{name} answers {} {path}\n", request.method())),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

//! A client that speaks HTTP/2 as the `h2` crate does.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub struct Client {
    send: SendRequest<Bytes>,
    /// Ends with the connection.
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A response, whole.
#[derive(Debug)]
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a field that is there once, or nothing.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.head.headers.get_all(name).iter().collect();
        assert!(values.len() < 2, "{name} is there {} times: {values:?}", values.len());
        values.first().and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn reason(&self) -> Option<&str> {
        self.field("x-sluice-reason")
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(&Builder::new(), address).await
    }

    pub async fn connect_as(builder: &Builder, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        let (send, connection) = builder.handshake(stream).await.expect("the preface is sent");
        let driver = tokio::spawn(connection);
        Self { send, driver }
    }

    /// Begins a request; `is_all`: nothing follows its head.
    pub async fn begin(
        &self,
        request: Request<()>,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.send.clone().ready().await?.send_request(request, is_all)
    }

    pub async fn send(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        self.send_with_trailers(request, body, None).await
    }

    pub async fn send_with_trailers(
        &self,
        request: Request<()>,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let is_all = body.is_empty() && trailers.is_none();
        let (response, mut stream) = self.begin(request, is_all).await?;
        if !is_all {
            // h2 keeps what the window does not take yet.
            stream.send_data(Bytes::copy_from_slice(body), trailers.is_none())?;
            trailers.map(|trailers| stream.send_trailers(trailers)).transpose()?;
        }
        collect(response).await
    }

    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, host: &str, target: &str) -> Answer {
        self.send(get(host, target), b"").await.expect("an answer comes")
    }

    /// How the connection ended.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        self.driver.await.expect("the driver does not panic")
    }

    pub fn is_ended(&self) -> bool {
        self.driver.is_finished()
    }

    /// Goes away without a word.
    pub fn vanish(self) {
        self.driver.abort();
    }

    /// Until the gateway has said that it takes extended CONNECT (RFC 8441 section 3).
    pub async fn await_settings(&self) {
        crate::until("settings come", || self.send.is_extended_connect_protocol_enabled()).await;
    }
}

pub fn get(host: &str, target: &str) -> Request<()> {
    request("GET", host, target)
}

pub fn request(method: &str, host: &str, target: &str) -> Request<()> {
    let built = Request::builder().method(method).uri(format!("http://{host}{target}")).body(());
    built.expect("a test's request can be built")
}

pub fn with(mut request: Request<()>, fields: &[(&'static str, &str)]) -> Request<()> {
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().expect("a test's field can be sent"));
    }
    request
}

pub fn fields(of: &[(&'static str, &str)]) -> HeaderMap {
    with(request("GET", "a", "/"), of).into_parts().0.headers
}

pub async fn collect(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = Response::into_parts(response.await?);
    let (bytes, trailers) = read(&mut body).await?;
    Ok(Answer { head, body: bytes, trailers })
}

/// All of a body, its windows opened as it comes.
pub async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((bytes, body.trailers().await?))
}

/// Sends as much as the window takes, once; `None` when the stream is gone.
pub async fn send_some(stream: &mut SendStream<Bytes>, piece: &Bytes) -> Option<usize> {
    stream.reserve_capacity(piece.len());
    let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await?.ok()?;
    let part = piece.slice(..room.min(piece.len()));
    let length = part.len();
    stream.send_data(part, false).ok()?;
    Some(length)
}

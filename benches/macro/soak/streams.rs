//! An endpoint that speaks HTTP/2.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tests::{DEADLINE, yields};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::pattern;

/// For its tasks to be dropped, and their sockets with them.
const DEATH: Duration = Duration::from_secs(1);

/// On a thread of its own. Dies when it is dropped.
pub struct Streams {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Streams {
    /// # Panics
    /// When the address stays taken.
    pub fn start(app: &'static str, address: SocketAddr) -> Self {
        // One that died a moment ago may still be closing its socket.
        let listener = yields(DEADLINE, "the address is free", || TcpListener::bind(address).ok());
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("the socket is ours");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the socket does not block");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, app));
            }
        });
        Self { address, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(DEATH);
        }
    }
}

/// Who asks may leave at any time: no error here is anybody's but the gateway's, which tells its client.
async fn connection(stream: TcpStream, app: &'static str) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, app));
    }
}

async fn answer(request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>, app: &str) {
    let (head, mut body) = request.into_parts();
    let Ok(bytes) = read(&mut body).await else { return };
    let text = match head.uri.path().strip_prefix("/token/") {
        Some(token) => format!("{app} {token}"),
        None => format!("{app} {:016x} {}", pattern::hash(&bytes), bytes.len()),
    };
    if let Ok(mut stream) = respond.send_response(http::Response::new(()), false) {
        let _ = stream.send_data(text.into(), true);
    }
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(bytes)
}

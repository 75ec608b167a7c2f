//! Tens of thousands of endpoints in one process: a single socket answers at every address of 127.0.0.0/8.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Probes of all endpoints begin at once when a gateway starts.
const BACKLOG: u32 = 4_096;
/// A head of a probe or of the load, many times over.
const BUFFER_BYTES: usize = 1_024;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// On a thread of its own, so that its work can be told from the gateway's.
pub struct Endpoints {
    port: u16,
    asked: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Endpoints {
    pub fn start() -> anyhow::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("endpoints").enable_all().build()?;
        let _inside = runtime.enter();
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counter)));
            }
        });
        Ok(Self { port, asked, _runtime: runtime })
    }

    /// Of the endpoint with this number.
    pub fn address(&self, number: u32) -> SocketAddr {
        // From 127.1.0.0 on: below are addresses that others use.
        let [_, a, b, c] = (0x0001_0000 + number).to_be_bytes();
        SocketAddr::from(([127, a, b, c], self.port))
    }

    /// Requests answered, probes among them.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<AtomicU64>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; BUFFER_BYTES];
    let mut held = 0;
    // Whoever asks may leave at any time, and so does one whose head does not fit.
    while let Ok(count @ 1..) = stream.read(&mut buffer[held..]).await {
        held += count;
        if !buffer[..held].ends_with(b"\r\n\r\n") {
            continue;
        }
        held = 0;
        asked.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

//! A TCP server on a free port that answers requests as a test tells it to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const PONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong";

/// Long enough for a loaded machine: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Sends this for every request.
    Answer(String),
    /// Sends this and closes, without having said so.
    AnswerThenClose(String),
    /// Answers the first request of a connection and closes at the second.
    CloseOnReuse,
    /// Reads and says nothing.
    Hang,
    /// Sends this byte by byte, with a pause before each.
    Drip(String, Duration),
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl TestServer {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            requests: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, task }
    }

    pub(crate) async fn answering(response: &str) -> Self {
        Self::start(Behaviour::Answer(response.to_owned())).await
    }

    /// From the next request on.
    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("not within {PATIENCE:?}: {what}");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, SeqCst);
        shared.open.fetch_add(1, SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            // The client going away is one of the things tested.
            let _ = serve(stream, &shared).await;
            shared.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    for served in 0.. {
        let Some(request) = read_head(&mut stream).await? else { return Ok(()) };
        shared.requests.lock().unwrap().push(request);
        let behaviour = shared.behaviour.lock().unwrap().clone();
        match behaviour {
            Behaviour::Answer(response) => stream.write_all(response.as_bytes()).await?,
            Behaviour::AnswerThenClose(response) => return stream.write_all(response.as_bytes()).await,
            Behaviour::CloseOnReuse if served > 0 => return Ok(()),
            Behaviour::CloseOnReuse => stream.write_all(PONG.as_bytes()).await?,
            Behaviour::Hang => drop(stream.read(&mut [0]).await?),
            Behaviour::Drip(response, pause) => drip(&mut stream, &response, pause).await?,
        }
    }
    Ok(())
}

async fn drip(stream: &mut TcpStream, response: &str, pause: Duration) -> std::io::Result<()> {
    for byte in response.bytes() {
        tokio::time::sleep(pause).await;
        stream.write_all(&[byte]).await?;
    }
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await? {
            0 => return Ok(None),
            _ => continue,
        }
    }
    Ok(Some(String::from_utf8(head).unwrap()))
}

//! Clients of every kind, which connect and ask all the time and count what goes wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tests::{DEADLINE, Response, Wire};

/// Between two rounds of a client: leaves the processes under test a share of the machine. Orders nothing.
const PACE: Duration = Duration::from_millis(3);

/// A client on a thread of its own, round after round.
pub struct Rounds {
    stopped: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Rounds {
    /// Until the first round that fails.
    pub fn start(mut round: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let (stopped, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counter) = (stopped.clone(), done.clone());
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                round()?;
                counter.fetch_add(1, Ordering::AcqRel);
                thread::sleep(PACE);
            }
            Ok(())
        });
        Self { stopped, done, thread }
    }

    /// Rounds that went well.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// # Panics
    /// When one did not.
    #[track_caller]
    pub fn stop(self, what: &str) -> u64 {
        self.stopped.store(true, Ordering::Release);
        let ended = self.thread.join().expect("a client does not panic");
        if let Err(error) = ended {
            panic!("{what}: after {} rounds: {error}", self.done.load(Ordering::Acquire));
        }
        let done = self.done.load(Ordering::Acquire);
        assert!(done > 0, "{what}: no round was done");
        done
    }
}

/// A connection and one request on it, again and again.
pub fn connections(address: SocketAddr) -> Rounds {
    Rounds::start(move || {
        let mut wire = Wire::connect(address, DEADLINE)?;
        wire.send(b"GET /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let response = Response::read(&mut wire, "GET")?;
        match response.status {
            200 => Ok(()),
            status => Err(io::Error::other(format!("{status} {:?}", response.reason()))),
        }
    })
}

/// A TCP connection through which one message goes both ways.
pub fn streams(address: SocketAddr) -> Rounds {
    Rounds::start(move || {
        let mut wire = Wire::connect(address, DEADLINE)?;
        wire.send(b"hello")?;
        match &wire.exactly(5)?[..] {
            b"hello" => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    })
}

/// An HTTP/2 connection with three streams at a time, until the gateway says that it goes away; then another.
pub fn http2(address: SocketAddr) -> Rounds {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let mut client = None;
    Rounds::start(move || {
        runtime.block_on(async {
            let exchange = http2_round(address, &mut client);
            tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
        })
    })
}

type Sender = h2::client::SendRequest<Bytes>;

async fn http2_round(address: SocketAddr, client: &mut Option<Sender>) -> io::Result<()> {
    let sender = match client.take() {
        // One that was told to begin nothing more has done nothing wrong.
        Some(sender) => sender.ready().await.ok(),
        None => None,
    };
    let sender = match sender {
        Some(sender) => sender,
        None => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            sender.ready().await.map_err(io::Error::other)?
        }
    };
    let mut responses = Vec::new();
    for _ in 0..3 {
        let request = http::Request::get("http://a/h2").body(()).expect("a request can be built");
        match sender.clone().send_request(request, true) {
            Ok((response, _)) => responses.push(response),
            // Not begun: the next round uses another connection.
            Err(error) if error.is_go_away() && !error.is_reset() => break,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    for response in responses {
        let response = response.await.map_err(io::Error::other)?;
        if response.status() != 200 {
            return Err(io::Error::other(format!("HTTP/2: {}", response.status())));
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data.map_err(io::Error::other)?.len();
            body.flow_control().release_capacity(length).map_err(io::Error::other)?;
        }
    }
    *client = Some(sender);
    Ok(())
}

//! An accept loop with a thread per connection, and an end to all of it.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::DEADLINE;
use crate::eventually::yields;

/// Listens until it is stopped or dropped; both close every connection it accepted.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<usize, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accepting(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Gives `serve` every connection with its number, counted from 0.
    ///
    /// # Panics
    /// When the address stays taken.
    pub fn start(address: SocketAddr, serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        // A server that was stopped a moment ago may still be closing its socket.
        let listener = yields(DEADLINE, "the address is free", || TcpListener::bind(address).ok());
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let loops = thread::spawn(move || accept(&listener, &accepting, &Arc::new(serve)));
        *shared.accepting() = Some(loops);
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    /// Refuses new connections and cuts those that are open: when this returns, nobody can connect any more.
    pub fn stop(&self) {
        if self.shared.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        // Wakes the accept loop, which then closes the listening socket. Until it has, the kernel goes on taking
        // connections, however long the loop waits for a core.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.shared.accepting().take() {
            // A loop that panicked has said so.
            accepting.join().ok();
        }
        for stream in self.shared.open().values() {
            // Fails only when the peer was faster.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept<F: Fn(TcpStream, usize) + Send + Sync + 'static>(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: &Arc<F>,
) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = spawn(stream, number, shared, serve) {
            panic!("a test server cannot serve connection {number}: {error}");
        }
    }
}

fn spawn<F: Fn(TcpStream, usize) + Send + Sync + 'static>(
    stream: TcpStream,
    number: usize,
    shared: &Arc<Shared>,
    serve: &Arc<F>,
) -> io::Result<()> {
    shared.open().insert(number, stream.try_clone()?);
    let (shared, serve) = (Arc::clone(shared), Arc::clone(serve));
    thread::Builder::new().spawn(move || {
        serve(stream, number);
        shared.open().remove(&number);
    })?;
    Ok(())
}

//! A TCP proxy whose connections a test can cut, for what happens between two healthy processes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What is copied at once.
const BUFFER_BYTES: usize = 16 << 10;

/// Forwards `address()` to its target until it is cut, or told of another one.
pub struct CuttableProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Mode {
    Forward,
    /// Whoever connects is disconnected at once.
    Cut,
    Stop,
}

struct Shared {
    mode: Mode,
    target: SocketAddr,
    /// Both ends of each connection.
    streams: Vec<TcpStream>,
}

impl CuttableProxy {
    /// # Panics
    /// When the system has no port left.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared { mode: Mode::Forward, target, streams: Vec::new() }));
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.enter(Mode::Cut);
    }

    pub fn restore(&self) {
        self.enter(Mode::Forward);
    }

    /// As [`Self::restore`], from now on to somebody else.
    pub fn forward_to(&self, target: SocketAddr) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).target = target;
        self.restore();
    }

    fn enter(&self, mode: Mode) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.mode = mode;
        if mode != Mode::Forward {
            for stream in shared.streams.drain(..) {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for CuttableProxy {
    fn drop(&mut self) {
        self.enter(Mode::Stop);
        // Wakes the acceptor, which then finds out.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<Shared>>) {
    for downstream in listener.incoming() {
        let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.mode {
            Mode::Stop => return,
            Mode::Cut => continue,
            Mode::Forward => {}
        }
        let Ok(downstream) = downstream else { continue };
        // A target that is down ends the connection, as it would without us.
        let Ok(upstream) = TcpStream::connect(guard.target) else { continue };
        for (from, to) in [(&downstream, &upstream), (&upstream, &downstream)] {
            let _ = from.set_nodelay(true);
            if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                std::thread::spawn(move || copy(from, to));
            }
        }
        guard.streams.extend([downstream, upstream]);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

//! What the kernel knows of connections: the only sign, from outside, of who has read what.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use tests::{DEADLINE, eventually};

/// In `/proc/net/tcp`: the peer has closed, and this end has not yet.
const CLOSE_WAIT: &str = "08";

/// Waits until `reader` has taken all that `writer` has sent it.
pub fn until_read(reader: SocketAddr, writer: SocketAddr) {
    let (reader, writer) = (written(reader), written(writer));
    eventually(DEADLINE, "all that was sent is read", || {
        sockets().iter().all(|socket| {
            let is_writer = socket.local == writer && socket.remote == reader;
            let is_reader = socket.local == reader && socket.remote == writer;
            !(is_writer && socket.unsent > 0 || is_reader && socket.unread > 0)
        })
    });
}

/// Waits until who listens on `address` has accepted every connection, read every byte and answered
/// every close.
pub fn until_quiet(address: SocketAddr) {
    let address = written(address);
    eventually(DEADLINE, "all that was sent to the endpoint is read", || {
        // Of a listening socket, what is unread is connections.
        let is_busy = |socket: &Socket| socket.unread > 0 || socket.state == CLOSE_WAIT;
        let is_coming = |socket: &Socket| socket.remote == address && socket.unsent > 0;
        !sockets().iter().any(|socket| socket.local == address && is_busy(socket) || is_coming(socket))
    });
}

struct Socket {
    local: String,
    remote: String,
    state: String,
    /// Bytes that the peer's kernel has not acknowledged.
    unsent: u64,
    unread: u64,
}

fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux lists its sockets");
    table.lines().skip(1).filter_map(socket).collect()
}

fn socket(line: &str) -> Option<Socket> {
    let mut columns = line.split_ascii_whitespace().skip(1).map(str::to_owned);
    let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
    let queues = columns.next()?;
    let (unsent, unread) = queues.split_once(':')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Socket { local, remote, state, unsent: number(unsent)?, unread: number(unread)? })
}

/// As in the table: the address as a number of this machine's byte order.
fn written(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
        IpAddr::V6(_) => panic!("the harness listens on IPv4 only"),
    }
}

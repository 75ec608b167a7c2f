//! What the kernel knows of a connection.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use tests::{DEADLINE, eventually};

/// Waits until `reader` has taken all that `writer` has sent it: the only sign, from outside, that a
/// message arrived in pieces.
pub fn until_read(reader: SocketAddr, writer: SocketAddr) {
    eventually(DEADLINE, "all that was sent is read", || {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux lists its sockets");
        let queues = |local, remote| queues(&table, local, remote);
        // A socket that is gone reads nothing more.
        queues(writer, reader).is_none_or(|(unacknowledged, _)| unacknowledged == 0)
            && queues(reader, writer).is_none_or(|(_, unread)| unread == 0)
    });
}

/// Bytes sent and not acknowledged, bytes received and not read.
fn queues(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<(u64, u64)> {
    let (local, remote) = (written(local), written(remote));
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        if columns.next()? != local || columns.next()? != remote {
            return None;
        }
        let (sent, received) = columns.nth(1)?.split_once(':')?;
        Some((u64::from_str_radix(sent, 16).ok()?, u64::from_str_radix(received, 16).ok()?))
    })
}

/// As in the table: the address as a number of this machine's byte order.
fn written(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
        IpAddr::V6(_) => panic!("the harness listens on IPv4 only"),
    }
}

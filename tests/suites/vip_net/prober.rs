//! Somebody on the link who asks for an address all the time, and notes when it answered.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::Host;
use vip::net::packet::{Claim, Frame, PacketSocket, claim};
use vip::net::{Interface, Mac};

/// How often it asks.
pub const EVERY: Duration = Duration::from_millis(1);

/// Asks until it is dropped.
pub struct Prober {
    answers: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Resolves `ip` from `host`: ARP requests to everybody or, for IPv6, solicitations.
    pub fn resolving(host: &Host, ip: IpAddr) -> Self {
        let (socket, frame, mac) = host.run(|| {
            let interface = crate::eth0();
            let kind = if ip.is_ipv4() { 0x0806 } else { 0x86dd };
            let socket = PacketSocket::receiver(&interface, kind).expect("we are root");
            (socket, question(&interface, ip), interface.mac)
        });
        Self::start(move || socket.send(&frame).is_ok(), {
            let socket = host.run(|| {
                let kind = if ip.is_ipv4() { 0x0806 } else { 0x86dd };
                PacketSocket::receiver(&crate::eth0(), kind).expect("we are root")
            });
            move || {
                let mut frame: Frame = [0; size_of::<Frame>()];
                let mut answered = false;
                while let Ok(Some(frame)) = socket.receive(&mut frame) {
                    answered |= claim(frame).is_some_and(|found: Claim| found.ip == ip && found.mac != mac);
                }
                answered
            }
        })
    }

    /// Sends datagrams to `target` from `host`, where somebody sends them back.
    pub fn asking(host: &Host, target: SocketAddr) -> Self {
        let socket = host.run(|| {
            let any: SocketAddr =
                if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("an address");
            let socket = UdpSocket::bind(any).expect("any port is free");
            socket.set_nonblocking(true).expect("the socket is ours");
            socket
        });
        let sender = socket.try_clone().expect("a socket can be shared");
        Self::start(
            move || sender.send_to(b"?", target).is_ok(),
            move || {
                let mut answered = false;
                loop {
                    match socket.recv_from(&mut [0; 8]) {
                        Ok(_) => answered = true,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return answered,
                        // Somebody says that nobody is there.
                        Err(_) => {}
                    }
                }
            },
        )
    }

    fn start(ask: impl Fn() -> bool + Send + 'static, hear: impl Fn() -> bool + Send + 'static) -> Self {
        let (answers, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (answers.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                ask();
                std::thread::sleep(EVERY);
                if hear() {
                    noted.lock().expect("nobody panics with it").push(Instant::now());
                }
            }
        });
        Self { answers, stop, thread: Some(thread) }
    }

    pub fn count(&self) -> usize {
        self.answers.lock().expect("nobody panics with it").len()
    }

    /// When it was answered last.
    pub fn last(&self) -> Option<Instant> {
        self.answers.lock().expect("nobody panics with it").last().copied()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().ok());
    }
}

/// Sends back what comes to `ip`; returns where. Ends with the test's process.
pub fn echo(host: &Host, ip: IpAddr) -> SocketAddr {
    let socket = host.run(|| {
        let domain = socket2::Domain::for_address(SocketAddr::new(ip, 0));
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).expect("a socket can be made");
        if ip.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }
            .expect("it takes no capability");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("any port is free");
        UdpSocket::from(socket)
    });
    let address = socket.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                // The fence may refuse it.
                socket.send_to(&bytes[..length], from).ok();
            }
        }
    });
    address
}

/// Who has `ip`? With an address of the link as the sender, to which nobody else answers.
pub fn question(interface: &Interface, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            let sender = [10, 77, 0, 9];
            [
                &[0xff; 6][..],
                &interface.mac,
                &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
                &interface.mac,
                &sender,
                &[0; 6],
                &ip.octets(),
            ]
            .concat()
        }
        IpAddr::V6(ip) => {
            let target = ip.octets();
            let sender: std::net::Ipv6Addr = "fd00:77::9".parse().expect("an address");
            let group: std::net::Ipv6Addr = "ff02::1:ff00:0".parse().expect("an address");
            let mut group = group.octets();
            group[13..].copy_from_slice(&target[13..]);
            let to: Mac = [0x33, 0x33, 0xff, target[13], target[14], target[15]];
            let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &[1, 1], &interface.mac].concat();
            let sum = sum(&[&sender.octets(), &group, &[0, 32, 0, 58], &message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let header = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &sender.octets(), &group].concat();
            [&to[..], &interface.mac, &[0x86, 0xdd], &header, &message].concat()
        }
    }
}

/// The internet checksum of parts of even length.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = parts
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Prober {
    /// Asks nothing, and notes who claims `ip` before `host`.
    pub fn heard(host: &Host, ip: IpAddr) -> Self {
        let kind = if ip.is_ipv4() { 0x0806 } else { 0x86dd };
        let socket = host.run(|| PacketSocket::receiver(&crate::eth0(), kind).expect("we are root"));
        Self::start(
            || true,
            move || {
                let mut frame: Frame = [0; size_of::<Frame>()];
                let mut claimed = false;
                while let Ok(Some(frame)) = socket.receive(&mut frame) {
                    claimed |= claim(frame).is_some_and(|found| found.ip == ip);
                }
                claimed
            },
        )
    }
}

//! A client on the link that asks all the time, and keeps who answered and when, in the order of arrival.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::Host;
use vip::net::packet::{Frame, PacketSocket, claim};
use vip::net::{Interface, Mac};

/// How often it asks: what a downtime is measured to.
pub const EVERY: Duration = Duration::from_millis(10);
/// The protocol's number on Ethernet.
const ARP: u16 = 0x0806;

/// Answers of one kind.
pub struct Witness<A> {
    seen: Arc<Mutex<Vec<(Instant, A)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness<String> {
    /// Datagrams to `target`, through the gateway that has it, whose endpoint says its name.
    pub fn of_service(host: &Host, target: SocketAddr) -> Self {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = host.run(|| UdpSocket::bind(any).expect("any port is free"));
        socket.set_nonblocking(true).expect("the socket is ours");
        Self::start(move |note| {
            // Nobody is there at times.
            socket.send_to(b"who?", target).ok();
            std::thread::sleep(EVERY);
            let mut bytes = [0; 64];
            loop {
                match socket.recv_from(&mut bytes) {
                    Ok((length, _)) => note(String::from_utf8_lossy(&bytes[..length]).into_owned()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => {}
                }
            }
        })
    }
}

impl Witness<Mac> {
    /// Who claims `ip`: answers to ARP requests, and announcements.
    pub fn of_link(host: &Host, ip: Ipv4Addr, own: Ipv4Addr) -> Self {
        let (socket, mac) = host.run(|| {
            let interface = Interface::find("eth0").expect("hosts have it");
            let socket = PacketSocket::receiver(&interface, ARP).expect("we are root");
            (socket, interface.mac)
        });
        let question = question(mac, own, ip);
        Self::start(move |note| {
            socket.send(&question).ok();
            std::thread::sleep(EVERY);
            let mut frame: Frame = [0; size_of::<Frame>()];
            while let Ok(Some(frame)) = socket.receive(&mut frame) {
                if let Some(found) = claim(frame)
                    && found.ip == IpAddr::from(ip)
                    && found.mac != mac
                {
                    note(found.mac);
                }
            }
        })
    }
}

impl<A: Clone + PartialEq + Send + 'static> Witness<A> {
    fn start(turn: impl Fn(&mut dyn FnMut(A)) + Send + 'static) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn(&mut |answer| {
                    noted.lock().expect("nobody panics with it").push((Instant::now(), answer));
                });
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Forgets what it saw.
    pub fn clear(&self) {
        self.seen.lock().expect("nobody panics with it").clear();
    }

    pub fn seen(&self) -> Vec<(Instant, A)> {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().expect("nobody panics with it").len()
    }

    pub fn has_heard(&self, of: impl Fn(&A) -> bool) -> bool {
        self.seen.lock().expect("nobody panics with it").iter().any(|(_, answer)| of(answer))
    }

    /// How often who answers has changed. Two at a time make many changes; who answers after its successor, one more than
    /// there were successions.
    pub fn changes(&self) -> usize {
        self.seen().windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
    }

    /// From the last answer of the first who answered to the first of another one.
    pub fn downtime(&self) -> Option<Duration> {
        let seen = self.seen();
        let change = seen.windows(2).find(|pair| pair[0].1 != pair[1].1)?;
        Some(change[1].0.duration_since(change[0].0))
    }

    /// The longest time without an answer.
    pub fn longest_gap(&self) -> Duration {
        let seen = self.seen();
        let gaps = seen.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0));
        gaps.max().unwrap_or_default()
    }
}

impl<A> Drop for Witness<A> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().ok());
    }
}

/// RFC 826: who has `ip`?
fn question(mac: Mac, own: Ipv4Addr, ip: Ipv4Addr) -> Vec<u8> {
    let kinds = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac, &kinds, &mac, &own.octets(), &[0; 6], &ip.octets()].concat()
}

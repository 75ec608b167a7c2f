//! What the service manager is told: one datagram per message.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A service manager that listens, or nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceManager {
    /// A path, or `@` and an abstract name.
    socket: Option<String>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says. A watchdog that is meant for another process is none.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        Self::new(variable("NOTIFY_SOCKET"), watchdog.filter(|_| is_ours))
    }

    /// As the process knew it that we take over from.
    pub fn new(socket: Option<String>, watchdog_micros: Option<u64>) -> Self {
        let socket = socket.filter(|socket| socket.starts_with(['/', '@']));
        let watchdog = watchdog_micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    pub fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// We serve. Also the end of a reload.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The files are read again, until [`Self::ready`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// From now on `pid` is the service's main process, and speaks for it.
    pub fn main_process(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, message) {
            tracing::warn!(%error, %socket, "the service manager does not listen");
        }
    }
}

/// Never waits: a service manager that is busy for long has other worries.
fn send(socket: &str, message: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("sluice-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, told) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
            let manager = ServiceManager::new(Some(told), None);
            manager.ready("serving");
            assert_eq!(received(&socket), "READY=1\nSTATUS=serving");
            manager.reloading();
            let text = received(&socket);
            let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0);
            manager.main_process(42);
            assert_eq!(received(&socket), "MAINPID=42");
        }
    }

    #[test]
    fn a_watchdog_takes_somebody_to_tell() {
        let socket = || Some("/run/notify".to_owned());
        assert_eq!(ServiceManager::new(socket(), Some(5)).watchdog(), Some(Duration::from_micros(5)));
        for (socket, micros) in
            [(socket(), None), (socket(), Some(0)), (None, Some(5)), (Some("x".into()), Some(5))]
        {
            assert_eq!(ServiceManager::new(socket, micros).watchdog(), None);
        }
        // Nobody is told, and nothing fails.
        ServiceManager::default().stopping();
    }
}

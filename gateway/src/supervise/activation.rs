//! Socket activation: listening sockets that were open before us.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context as _, ensure};
use socket2::Socket;

use crate::listener::Transport;
use crate::listener::inherited::{Inherited, examine};

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// As many listeners as a configuration can have, each with a socket per worker of a large machine.
const MAX_DESCRIPTORS: usize = 4096;
/// systemd's word for a socket whose unit gives it no name.
const UNNAMED: &str = "unknown";

/// A socket and the name that its unit gives it.
#[derive(Debug)]
pub struct Activated {
    pub name: String,
    pub address: SocketAddr,
    pub transport: Transport,
    pub socket: Socket,
}

/// What the environment says of descriptors that were passed.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    names: Vec<String>,
}

impl Announced {
    /// `None` when nothing was passed to the process `us`.
    fn read(
        us: u32,
        pid: Option<&str>,
        count: Option<&str>,
        names: Option<&str>,
    ) -> anyhow::Result<Option<Self>> {
        let (Some(pid), Some(count)) = (pid, count) else { return Ok(None) };
        if pid.parse() != Ok(us) {
            return Ok(None);
        }
        let count: usize =
            count.parse().ok().with_context(|| format!("LISTEN_FDS is no number: {count:?}"))?;
        ensure!(count <= MAX_DESCRIPTORS, "LISTEN_FDS is {count}, above the limit of {MAX_DESCRIPTORS}");
        let mut names: Vec<_> = names.unwrap_or_default().split(':').map(str::to_owned).collect();
        names.resize(count, UNNAMED.to_owned());
        Ok(Some(Self { names }))
    }
}

/// The sockets that this process was started with. They are handed out once: a second call finds none.
///
/// # Errors
/// When what was passed is nothing that a listener can use, by name.
pub fn take() -> anyhow::Result<Vec<Activated>> {
    static TAKEN: Mutex<bool> = Mutex::new(false);
    if std::mem::replace(&mut *TAKEN.lock().unwrap_or_else(PoisonError::into_inner), true) {
        return Ok(Vec::new());
    }
    let variable = |name: &str| std::env::var(name).ok();
    let (pid, count) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let names = variable("LISTEN_FDNAMES");
    let us = std::process::id();
    let Some(announced) = Announced::read(us, pid.as_deref(), count.as_deref(), names.as_deref())? else {
        return Ok(Vec::new());
    };
    let examined = announced.names.into_iter().zip(FIRST..).map(|(name, number)| {
        let (socket, address, transport) = examine(adopt(number)).with_context(|| {
            format!("descriptor {number} ({name:?}) of the service manager cannot be used")
        })?;
        Ok(Activated { name, address, transport, socket })
    });
    examined.collect()
}

#[expect(unsafe_code, reason = "a descriptor that a parent passed is known by its number only")]
fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the service manager opened this descriptor for us and told us so by our own process number.
    // Nothing else of the process takes descriptors by number, and `take` comes here once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Sockets of one name and address are one listener's (`ReusePort=yes` and several of them).
pub fn into_listeners(activated: Vec<Activated>) -> Vec<Inherited> {
    let mut listeners: Vec<Inherited> = Vec::new();
    for Activated { name, address, transport, socket } in activated {
        let same =
            |one: &&mut Inherited| *one.name == *name && one.address == address && one.transport == transport;
        match listeners.iter_mut().find(same) {
            Some(one) => one.sockets.push(socket),
            None => listeners.push(Inherited {
                name: name.into(),
                // A listener of that name with port 0 takes whichever it is.
                configured: SocketAddr::new(address.ip(), 0),
                address,
                transport,
                sockets: vec![socket],
            }),
        }
    }
    listeners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us_is_taken() {
        let read = |pid, count, names| Announced::read(7, pid, count, names);
        assert_eq!(read(None, Some("1"), None).unwrap(), None);
        assert_eq!(read(Some("7"), None, None).unwrap(), None);
        assert_eq!(read(Some("8"), Some("1"), None).unwrap(), None);
        assert_eq!(read(Some("x"), Some("1"), None).unwrap(), None);
        let names = |count, names| read(Some("7"), Some(count), names).unwrap().unwrap().names;
        assert_eq!(names("2", Some("web:db")), ["web", "db"]);
        assert_eq!(names("2", Some("web")), ["web", UNNAMED]);
        assert_eq!(names("1", Some("web:db")), ["web"]);
        assert_eq!(names("0", None), [""; 0]);
        for count in ["-1", "x", "4097", "99999999999999999999"] {
            assert!(read(Some("7"), Some(count), None).is_err(), "{count}");
        }
    }
}

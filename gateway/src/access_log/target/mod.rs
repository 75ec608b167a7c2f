//! Where lines go.

mod backoff;
mod file;
mod remote;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

pub use file::Rotation;

use self::file::LogFile;
use self::remote::{Framing, Remote};
use super::status::Status;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File {
        path: PathBuf,
        /// `None`: only when somebody asks for it.
        rotation: Option<Rotation>,
    },
    /// A line each, as it is.
    Socket(StreamAddress),
    /// A line each, as RFC 5424 wants it.
    Syslog(SyslogAddress),
}

/// Whom a stream of lines is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// Datagrams, as `/dev/log` takes them.
    Unix(PathBuf),
    /// A datagram each (RFC 5426).
    Udp(SocketAddr),
    /// With octet counting (RFC 6587 section 3.4.1).
    Tcp(SocketAddr),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("standard output"),
            Self::File { path, .. } => path.display().fmt(formatter),
            Self::Socket(StreamAddress::Unix(path)) | Self::Syslog(SyslogAddress::Unix(path)) => {
                write!(formatter, "unix:{}", path.display())
            }
            Self::Socket(StreamAddress::Tcp(address)) | Self::Syslog(SyslogAddress::Tcp(address)) => {
                write!(formatter, "tcp:{address}")
            }
            Self::Syslog(SyslogAddress::Udp(address)) => write!(formatter, "udp:{address}"),
        }
    }
}

/// An open target.
#[derive(Debug)]
pub enum Sink {
    Stdout,
    File(LogFile),
    Remote(Remote),
}

impl Sink {
    /// # Errors
    /// When a file cannot be opened for appending. Nobody is connected to yet: a gateway starts without
    /// its log's receiver.
    pub fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Self::Stdout,
            LogTarget::File { path, rotation } => Self::File(LogFile::open(path, *rotation)?),
            LogTarget::Socket(address) => Self::Remote(Remote::new(address.into(), Framing::Lines)),
            LogTarget::Syslog(address) => {
                let framing = match address {
                    SyslogAddress::Tcp(_) => Framing::Counted,
                    SyslogAddress::Unix(_) | SyslogAddress::Udp(_) => Framing::Datagrams,
                };
                Self::Remote(Remote::new(address.into(), framing))
            }
        })
    }

    /// Writes whole lines, however long that takes. Those that are lost are counted.
    pub fn write(&mut self, lines: &[u8], status: &Status) {
        let written = match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines).and_then(|()| out.flush()).map_err(|error| (error, lines))
            }
            Self::File(file) => file.write(lines, status),
            Self::Remote(remote) => return remote.write(lines, status),
        };
        match written {
            Ok(()) => status.succeeded(lines.len()),
            Err((error, rest)) => status.lost(memchr::memchr_iter(b'\n', rest).count() as u64, &error),
        }
    }

    /// As after a rotation by somebody else: what the target's name stands for now is written to.
    pub fn reopen(&mut self, status: &Status) {
        match self {
            Self::Stdout => {}
            Self::File(file) => file.reopen(status),
            Self::Remote(remote) => remote.disconnect(),
        }
    }
}

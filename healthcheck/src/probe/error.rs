//! Why a probe did not pass.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper::StatusCode;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("connection refused")]
    ConnectRefused,
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no way to the address")]
    Unreachable(#[source] io::Error),
    #[error("no TLS with the endpoint")]
    Tls(#[source] io::Error),
    #[error("no complete response head within {0:?}")]
    Timeout(Duration),
    #[error("connection lost before a complete response head")]
    Reset(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is no HTTP/1.1 response with a head of a sane size")]
    BadResponse(#[source] Box<dyn Error + Send + Sync>),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the probe path {0:?} cannot be sent")]
    BadPath(String),
    #[error("this gateway cannot open a connection")]
    Local(#[source] io::Error),
}

/// How a probe ended, as a word that is stable: a metric label, a log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    Pass,
    ConnectRefused,
    ConnectTimeout,
    Unreachable,
    Tls,
    Timeout,
    Reset,
    BadResponse,
    Status,
    BadPath,
    Local,
}

impl ProbeResult {
    pub const ALL: [Self; 11] = [
        Self::Pass,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::Unreachable,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::BadResponse,
        Self::Status,
        Self::BadPath,
        Self::Local,
    ];

    pub(crate) fn of(outcome: &Result<(), ProbeError>) -> Self {
        outcome.as_ref().map_or_else(ProbeError::result, |()| Self::Pass)
    }

    /// Whether it says anything of the endpoint. Where this gateway runs out of file descriptors or
    /// ports, every probe fails at once: that must not eject every endpoint.
    pub fn is_conclusive(self) -> bool {
        !matches!(self, Self::BadPath | Self::Local)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::Status => "status",
            Self::BadPath => "bad_path",
            Self::Local => "local",
        }
    }
}

impl ProbeError {
    /// Room for an error and its causes; one is kept per endpoint.
    pub const MAX_TEXT_BYTES: usize = 256;

    pub fn result(&self) -> ProbeResult {
        match self {
            Self::ConnectRefused => ProbeResult::ConnectRefused,
            Self::ConnectTimeout(_) => ProbeResult::ConnectTimeout,
            Self::Unreachable(_) => ProbeResult::Unreachable,
            Self::Tls(_) => ProbeResult::Tls,
            Self::Timeout(_) => ProbeResult::Timeout,
            Self::Reset(_) => ProbeResult::Reset,
            Self::BadResponse(_) => ProbeResult::BadResponse,
            Self::Status(_) => ProbeResult::Status,
            Self::BadPath(_) => ProbeResult::BadPath,
            Self::Local(_) => ProbeResult::Local,
        }
    }

    pub(super) fn from_connect(error: io::Error, granted: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::TimedOut => Self::ConnectTimeout(granted),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Self::Reset(error.into()),
            _ if is_shortage(&error) => Self::Local(error),
            _ => Self::Unreachable(error),
        }
    }

    pub(super) fn from_exchange(error: hyper::Error) -> Self {
        let lost = error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || error.source().is_some_and(|cause| cause.is::<io::Error>());
        if lost { Self::Reset(error.into()) } else { Self::BadResponse(error.into()) }
    }

    /// The error and its causes in one bounded line.
    pub fn to_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text.truncate(text.floor_char_boundary(Self::MAX_TEXT_BYTES));
        text
    }
}

/// Our own lack of file descriptors, ports or memory.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN)
    )
}

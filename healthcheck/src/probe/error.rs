//! Why a probe did not pass.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

/// How a probe passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Whole,
    /// The server is there, and wants a login that the probe does not have.
    NoLogin,
}

/// One attempt's result.
pub(crate) type Outcome = Result<Pass, ProbeError>;

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
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    #[error("connection lost before a complete answer")]
    Reset(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is no HTTP/1.1 response with a head of a sane size")]
    BadResponse(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is no {0}")]
    BadAnswer(&'static str),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("answered {status} without {wanted:?} in its body")]
    Body { status: StatusCode, wanted: Arc<str> },
    /// A word of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
    #[error("answered {0}")]
    NotServing(&'static str),
    #[error(
        "has no grpc.health.v1.Health (UNIMPLEMENTED): add that service to the server, or probe with kind = \"tcp\""
    )]
    Unimplemented,
    #[error(
        "knows no service {0:?} (NOT_FOUND): register its health at the server, or correct health.service"
    )]
    UnknownService(Arc<str>),
    /// Any other one than OK, UNIMPLEMENTED and NOT_FOUND.
    #[error("answered gRPC status {0}")]
    GrpcStatus(u32),
    /// In the server's own words.
    #[error("refused: {0}")]
    Refused(String),
    #[error("is loading its data set: {0}")]
    Loading(String),
    #[error("the probe path {0:?} cannot be sent")]
    BadPath(String),
    #[error("this gateway cannot open a connection")]
    Local(#[source] io::Error),
}

/// How a probe ended, as a word that is stable: a metric label, a log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    Pass,
    PassNoLogin,
    ConnectRefused,
    ConnectTimeout,
    Unreachable,
    Tls,
    Timeout,
    Reset,
    BadResponse,
    Status,
    Body,
    NotServing,
    Unimplemented,
    UnknownService,
    Refused,
    Loading,
    BadPath,
    Local,
}

impl ProbeResult {
    pub const ALL: [Self; 18] = [
        Self::Pass,
        Self::PassNoLogin,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::Unreachable,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::BadResponse,
        Self::Status,
        Self::Body,
        Self::NotServing,
        Self::Unimplemented,
        Self::UnknownService,
        Self::Refused,
        Self::Loading,
        Self::BadPath,
        Self::Local,
    ];

    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(Pass::Whole) => Self::Pass,
            Ok(Pass::NoLogin) => Self::PassNoLogin,
            Err(error) => error.result(),
        }
    }

    /// Whether it says anything of the endpoint. Where this gateway runs out of file descriptors or
    /// ports, every probe fails at once: that must not eject every endpoint.
    pub fn is_conclusive(self) -> bool {
        !matches!(self, Self::BadPath | Self::Local)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::PassNoLogin => "pass_no_login",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::Status => "status",
            Self::Body => "body",
            Self::NotServing => "not_serving",
            Self::Unimplemented => "unimplemented",
            Self::UnknownService => "unknown_service",
            Self::Refused => "refused",
            Self::Loading => "loading",
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
            Self::BadResponse(_) | Self::BadAnswer(_) => ProbeResult::BadResponse,
            Self::Status(_) | Self::GrpcStatus(_) => ProbeResult::Status,
            Self::Body { .. } => ProbeResult::Body,
            Self::NotServing(_) => ProbeResult::NotServing,
            Self::Unimplemented => ProbeResult::Unimplemented,
            Self::UnknownService(_) => ProbeResult::UnknownService,
            Self::Refused(_) => ProbeResult::Refused,
            Self::Loading(_) => ProbeResult::Loading,
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

    /// What a server said, fit for a log and a terminal: one line, bounded.
    pub(super) fn words(said: &[u8]) -> String {
        let said = &said[..said.len().min(Self::MAX_TEXT_BYTES)];
        let is_plain = |letter: &char| !letter.is_control();
        String::from_utf8_lossy(said).chars().filter(is_plain).collect::<String>().trim().to_owned()
    }
}

/// Our own lack of file descriptors, ports or memory.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN)
    )
}

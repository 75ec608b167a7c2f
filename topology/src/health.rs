//! How an app wants its endpoints probed.

use std::sync::Arc;
use std::time::Duration;

/// What follows when an endpoint has failed `fall` probes in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// No traffic until it has passed `rise` probes in a row.
    #[default]
    Eject,
    /// That, and whoever runs the instance is asked to start it anew.
    Restart,
    /// That, and whoever runs the instance is asked to stop it for good.
    Stop,
}

impl OnFailure {
    /// The word in specs, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eject => "eject",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProbeKind {
    /// What its protocol suggests: a request where it speaks HTTP, a connection where it speaks anything else.
    #[default]
    Native,
    /// A request, in the version of HTTP that the endpoint speaks; HTTP/1.1 where it speaks none.
    Http,
    /// Whether it accepts a connection, and proves who it is where TLS is spoken.
    Tcp,
    /// `grpc.health.v1.Health/Check`, over HTTP/2.
    Grpc {
        /// Empty: the server as a whole.
        service: Arc<str>,
    },
    /// A MySQL server's greeting, and a login that it answers.
    MySql { user: Arc<str> },
    /// Redis's `PING`.
    Redis,
}

/// The method of a probe's request. None of them may change anything at the endpoint but `POST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProbeMethod {
    #[default]
    Get,
    Head,
    Options,
    /// Without a body.
    Post,
}

impl ProbeMethod {
    pub const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Options, Self::Post];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

/// A probe's request but for its path, and what its answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbeSettings {
    pub method: ProbeMethod,
    /// `None`: the name that the endpoint proves, or its address.
    pub host: Option<Arc<str>>,
    /// Sent beside `host` and `user-agent`.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// First and last of every range that passes; never empty.
    pub status: Vec<(u16, u16)>,
    /// What the body's first 64 KiB have to contain, byte for byte.
    pub body: Option<Arc<str>>,
}

impl Default for HttpProbeSettings {
    fn default() -> Self {
        Self {
            method: ProbeMethod::Get,
            host: None,
            headers: Vec::new(),
            // A redirect says that the work is done elsewhere.
            status: vec![(200, 299)],
            body: None,
        }
    }
}

impl HttpProbeSettings {
    /// Whether a response with `status` passes.
    pub fn accepts(&self, status: u16) -> bool {
        self.status.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    pub kind: ProbeKind,
    /// Request target of a probe that is an HTTP request.
    pub path: Arc<str>,
    pub http: HttpProbeSettings,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// As `interval`, while the endpoint is down.
    pub unhealthy_interval: Duration,
    /// From the start of a probe to the end of its answer: the head of an HTTP response, the body too where it is
    /// looked at.
    pub timeout: Duration,
    /// Probes in a row that must pass before an ejected endpoint takes traffic again.
    pub rise: u32,
    /// Probes in a row that must fail before an endpoint is ejected.
    pub fall: u32,
    pub on_failure: OnFailure,
    /// Percent of an app's endpoints. While fewer are healthy, all of them take traffic; 0 switches that off.
    pub panic_threshold: u8,
}

impl Default for HealthSettings {
    fn default() -> Self {
        // With fall = 3 a silent death is noticed within 15 s (a refused connection at once, by the request
        // that meets it), at one request per endpoint and 5 s.
        const INTERVAL: Duration = Duration::from_secs(5);
        Self {
            kind: ProbeKind::Native,
            // The contract of the platform's containers.
            path: Arc::from("/_ping"),
            http: HttpProbeSettings::default(),
            interval: INTERVAL,
            // What costs an endpoint that is up nothing costs one that is down no more.
            unhealthy_interval: INTERVAL,
            // A ping that takes a second is as bad as none for the requests queued behind it.
            timeout: Duration::from_secs(1),
            // One lucky answer of a flapping instance does not bring it back.
            rise: 2,
            // One lost packet does not take it out.
            fall: 3,
            on_failure: OnFailure::Eject,
            // Who fails a probe has said that it should get no requests (docs/decisions/0030).
            panic_threshold: 0,
        }
    }
}

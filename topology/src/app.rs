//! An app: what its owner asked for, and the endpoints that run it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::filters::Filters;
use crate::{
    AppId, AppLimits, AppPort, Balance, Capacity, Containment, Endpoint, HealthSettings, Hedge, HostPattern,
    InstanceKey, LogSettings, Outliers, PathMatch, RequestMatch, Retries, Sticky, Timeouts, VersionId,
};

/// The version of the PROXY protocol that tells endpoints who their client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What an app's owner asked for. An app without one has [`AppSpec::implied`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// Empty: the app answers at `{appId}.{base_domain}`.
    pub hosts: Vec<HostPattern>,
    /// Where its names lead. `None`: to the addresses that all apps share.
    pub vips: Option<Arc<[IpAddr]>>,
    /// Never empty.
    pub paths: Vec<PathMatch>,
    /// Of its own, beside what it has by its hosts. `None`: it asks for none.
    pub ports: Option<Arc<[AppPort]>>,
    /// Names of the HTTP listeners that serve it; `None`: all of them.
    pub listeners: Option<Vec<Arc<str>>>,
    pub split: Option<Split>,
    pub balance: Balance,
    /// `None`: no client is sent a cookie.
    pub sticky: Option<Arc<Sticky>>,
    /// `None`: endpoints that registered themselves are probed with the defaults, others not at all.
    pub health: Option<Arc<HealthSettings>>,
    /// `[health] enabled = false`: nobody is probed.
    pub probing: bool,
    /// Sent first on every connection to an endpoint. Such a connection carries one client.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whether CONNECT opens a tunnel to one of its endpoints.
    pub connect: bool,
    /// Protocols that a client may leave HTTP for, in lower case; `None`: any, `h2c` and TLS excepted.
    pub upgrades: Option<Vec<Arc<str>>>,
    /// `None`: endpoints are spoken to in clear text.
    pub tls: Option<Arc<AppTls>>,
    /// Requests without a verified client certificate are refused.
    pub requires_client_certificate: bool,
    /// Requests in clear text are sent to https.
    pub https_only: bool,
    /// Requests that go another way than the split says; the first that takes a request decides.
    pub matches: Option<Arc<[RequestMatch]>>,
    pub timeouts: Option<Arc<Timeouts>>,
    /// `None`: [`Retries::DEFAULT`].
    pub retries: Option<Arc<Retries>>,
    /// `None`: every request goes to one endpoint at a time.
    pub hedge: Option<Arc<Hedge>>,
    /// `None`: everything leaves a line in the access log.
    pub log: Option<Arc<LogSettings>>,
    /// Whether its traffic is counted by path and client; `None`: as the gateway has it.
    pub statistics: Option<bool>,
    /// `None`: requests and responses pass as they are.
    pub filters: Option<Arc<Filters>>,
    /// `None`: what its listeners ask for.
    pub limits: Option<Arc<AppLimits>>,
    /// `None`: the defaults, which set no limits.
    pub containment: Option<Arc<Containment>>,
}

/// How endpoints are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTls {
    /// A name that every gateway has settings for.
    pub profile: Arc<str>,
    /// What endpoints must prove to be. `None`: the profile's, or the app's first exact host.
    pub server_name: Option<Arc<str>>,
}

impl AppSpec {
    /// What holds for an app that is known only by its registered addresses.
    pub fn implied() -> Self {
        Self {
            hosts: Vec::new(),
            ports: None,
            vips: None,
            paths: vec![PathMatch::all()],
            listeners: None,
            split: None,
            balance: Balance::default(),
            sticky: None,
            health: None,
            probing: true,
            proxy_protocol: None,
            connect: false,
            upgrades: None,
            tls: None,
            requires_client_certificate: false,
            https_only: false,
            matches: None,
            timeouts: None,
            retries: None,
            hedge: None,
            log: None,
            statistics: None,
            filters: None,
            limits: None,
            containment: None,
        }
    }

    pub fn retries(&self) -> &Retries {
        self.retries.as_deref().unwrap_or(&Retries::DEFAULT)
    }

    /// How outliers are found.
    pub fn outliers(&self) -> Outliers {
        self.containment.as_ref().map_or_else(Outliers::default, |containment| containment.outliers)
    }

    /// See [`Containment::capacity`].
    pub fn capacity(&self) -> Option<&Capacity> {
        self.containment.as_ref()?.capacity.as_ref()
    }

    /// See [`Containment::tenant`].
    pub fn tenant(&self) -> Option<&Arc<str>> {
        self.containment.as_ref()?.tenant.as_ref()
    }

    /// See [`Containment::slow_start`].
    pub fn slow_start(&self) -> Option<Duration> {
        self.containment.as_ref()?.slow_start
    }
}

/// Shares of an app's traffic by version, whatever the number of their endpoints. A version that is
/// not named gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    shares: Vec<(VersionId, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("a split must give at least one version a share above 0")]
    NothingShared,
    #[error("version {0} is named twice")]
    Repeated(VersionId),
}

impl Split {
    /// # Errors
    /// [`SplitError`] when nobody would get traffic or a version is named twice.
    pub fn new(mut shares: Vec<(VersionId, u16)>) -> Result<Self, SplitError> {
        shares.sort();
        if let Some(pair) = shares.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SplitError::Repeated(pair[0].0.clone()));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            return Err(SplitError::NothingShared);
        }
        Ok(Self { shares })
    }

    /// Ordered by version.
    pub fn shares(&self) -> &[(VersionId, u16)] {
        &self.shares
    }
}

/// An app with everything that is known of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: AppId,
    pub spec: Arc<AppSpec>,
    /// Ordered by key, each key once.
    pub endpoints: Vec<Endpoint>,
    /// When the app first claimed its hosts: the registry's creation revision of its first key, 0 for
    /// files. Of two apps that claim the same host and path, the earlier keeps it; between equals the
    /// smaller id.
    pub claimed: u64,
}

impl App {
    pub fn endpoint(&self, key: &InstanceKey) -> Option<&Endpoint> {
        let found = self.endpoints.binary_search_by(|endpoint| endpoint.key.cmp(key)).ok()?;
        Some(&self.endpoints[found])
    }
}

//! One server of the cluster, and the lease that makes it a session.

use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, Identity, KvClient, LeaseClient, LeaseKeepAliveStream,
    LeaseKeeper, TlsOptions, WatchClient,
};

use super::Settings;
use super::write::words;
use crate::remote::{AccessError, Credentials};

/// Keep-alives in a session timeout: one that is lost or late ends no session, and after the second there
/// is still time to ask another server.
const KEEPALIVES: u32 = 3;

/// Of one answer: a page of keys, or what one watch has to tell at once. Above it pages are made smaller,
/// and watches begun anew after a read.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// What requests of this session need; cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) kv: KvClient,
    pub(super) watches: WatchClient,
    leases: LeaseClient,
    pub(super) lease: i64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{}", words(.0))]
    Client(#[from] Error),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
}

impl Connection {
    /// Goes on with `former`, the lease of an earlier connection, if the servers still have it.
    pub(super) async fn open(
        server: &str,
        settings: &Settings,
        former: Option<i64>,
    ) -> Result<(Self, Keeper), ConnectError> {
        let limit = settings.session_timeout;
        let open = async {
            let options = options(settings, settings.access.read().await?);
            let client = Client::connect([server], Some(options)).await?;
            let (lease, keeper) = lease(&mut client.lease_client(), settings.session_timeout, former).await?;
            let connection = Self {
                kv: client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES),
                watches: client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES),
                leases: client.lease_client(),
                lease,
            };
            Ok((connection, keeper))
        };
        tokio::time::timeout(limit, open).await.unwrap_or(Err(ConnectError::NoAnswer(limit)))
    }

    /// Whether the servers still have the lease.
    pub(super) async fn is_leased(&mut self, limit: Duration) -> Result<bool, ConnectError> {
        let asked = tokio::time::timeout(limit, self.leases.time_to_live(self.lease, None)).await;
        Ok(asked.map_err(|_| ConnectError::NoAnswer(limit))??.ttl() > 0)
    }

    /// What the session wrote goes with it.
    pub(super) async fn end(mut self, limit: Duration) {
        match tokio::time::timeout(limit, self.leases.revoke(self.lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(error = words(&error), "the lease is left to expire"),
            Err(_) => tracing::debug!("the lease is left to expire"),
        }
    }
}

fn options(settings: &Settings, credentials: Credentials) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(settings.session_timeout / KEEPALIVES)
        // A server without a leader serves what was, and would be believed.
        .with_require_leader(true)
        // Tokens of idle clients expire after five minutes by default.
        .with_auto_token_refresh(true);
    if let Some(user) = credentials.user {
        options = options.with_user(user.name, user.password);
    }
    if let Some(tls) = &settings.access.tls {
        let mut wanted = TlsOptions::new();
        wanted = match credentials.ca {
            Some(pem) => wanted.ca_certificate(Certificate::from_pem(pem)),
            None => wanted.with_native_roots(),
        };
        if let Some(pem) = credentials.certificate {
            wanted = wanted.identity(Identity::from_pem(&pem, &pem));
        }
        if let Some(name) = &tls.server_name {
            wanted = wanted.domain_name(name);
        }
        options = options.with_tls(wanted);
    }
    options
}

async fn lease(
    leases: &mut LeaseClient,
    session_timeout: Duration,
    former: Option<i64>,
) -> Result<(i64, Keeper), Error> {
    if let Some(lease) = former {
        match leases.keep_alive(lease).await {
            Ok(parts) => return Ok((lease, Keeper::new(parts, session_timeout))),
            // What the client makes of an answer without time left.
            Err(Error::LeaseKeepAliveError(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let seconds = session_timeout.as_secs() + u64::from(session_timeout.subsec_nanos() > 0);
    let granted = leases.grant(i64::try_from(seconds).unwrap_or(i64::MAX), None).await?;
    let parts = leases.keep_alive(granted.id()).await?;
    Ok((granted.id(), Keeper::new(parts, session_timeout)))
}

/// Keeps a lease alive.
pub(super) struct Keeper {
    requests: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    interval: Duration,
}

/// Why a lease is not kept alive any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkept {
    #[error("the lease has expired")]
    Expired,
    #[error("the server does not answer keep-alives within {0:?}")]
    Silent(Duration),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Keeper {
    fn new((requests, answers): (LeaseKeeper, LeaseKeepAliveStream), session_timeout: Duration) -> Self {
        Self { requests, answers, interval: session_timeout / KEEPALIVES }
    }

    /// Until that fails.
    pub(super) async fn keep(mut self) -> Unkept {
        loop {
            tokio::time::sleep(self.interval).await;
            match tokio::time::timeout(self.interval, self.once()).await {
                Ok(Ok(())) => {}
                Ok(Err(unkept)) => return unkept,
                Err(_) => return Unkept::Silent(self.interval),
            }
        }
    }

    async fn once(&mut self) -> Result<(), Unkept> {
        let broken = |error| Unkept::Broken(words(&error));
        self.requests.keep_alive().await.map_err(broken)?;
        match self.answers.message().await.map_err(broken)? {
            Some(answer) if answer.ttl() > 0 => Ok(()),
            Some(_) => Err(Unkept::Expired),
            None => Err(Unkept::Broken("the server ended the keep-alives".to_owned())),
        }
    }
}

//! The deploy API: what the crate `deploy` needs of this process, and HTTP in front of it.
//!
//! The engine and its API have threads of their own: a pass over a thousand instances, or a disk that hangs, holds up neither
//! the control plane nor a worker. Gateways are known by what they report to the registry, this process's own included.

mod apps;
mod complaints;
mod configuration;
mod events;
mod figures;
mod gateways;
mod host;
mod hosts;
mod instances;
mod logins;
mod names;
mod openapi;
mod operations;
mod prober;
mod router;
mod views;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deploy::engine::{Engine, Meter, Settings, Tools, system_clock};
use discovery::registry::Registry;
use discovery::secrets::Keys;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::admin::{Doors, Gate, serve};
use crate::config::DeployConfig;
use crate::control::Failures;
use crate::worker::Shared;

use complaints::Complaints;
use gateways::ReportedGateways;
use hosts::RuntimeHosts;
pub use logins::read_logins;
use prober::HealthProber;

/// One for the engine, one for whoever asks.
const THREADS: usize = 2;
/// Between two attempts at an address that the former process has still.
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// What a deploy API works beside.
pub struct Surroundings {
    pub registry: Arc<dyn Registry>,
    pub shared: Arc<Shared>,
    /// Endpoints that keep failing this gateway's probes.
    pub failures: Arc<Failures>,
    pub gateway_id: String,
    /// Opens configurations and sealed specs.
    pub keys: Option<Arc<Keys>>,
    pub gate: Gate,
    /// Instances go on when it ends.
    pub cancel: CancellationToken,
}

/// A deploy API of this process. What it has started outlives it.
pub struct Deploy {
    config: DeployConfig,
    hosts: Arc<RuntimeHosts>,
    meter: Arc<Meter>,
    /// `None`: it has no API.
    doors: Option<Doors>,
    is_bound: bool,
    address: Option<SocketAddr>,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
}

impl Deploy {
    /// Opens what it needs. In a take-over its address is bound when the former process has let go of it.
    ///
    /// # Errors
    /// Whatever cannot be opened, bound or read, with its name.
    pub fn open(config: &DeployConfig, is_takeover: bool) -> anyhow::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("deploy").enable_all().build();
        let runtime = runtime.context("cannot start the deploy API's threads")?;
        let hosts = Arc::new(RuntimeHosts::open(config)?);
        let listener = config.address.filter(|_| !is_takeover).map(bind).transpose()?;
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let doors = {
            // Listeners belong to the threads that serve them.
            let _on = runtime.enter();
            let open = |door| Doors::open(&door, listener.as_ref(), false).context("deploy");
            config.door().map(open).transpose()?
        };
        let is_bound = listener.is_some();
        let meter = Arc::default();
        Ok(Self { config: config.clone(), hosts, meter, doors, is_bound, address, runtime: Some(runtime) })
    }

    /// What its engine has seen and done.
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// Begins to work, until the surroundings say that it is over.
    pub fn start(&mut self, surroundings: Surroundings) {
        let Some(runtime) = &self.runtime else { return };
        let Surroundings { registry, shared, failures, gateway_id, keys, gate, cancel } = surroundings;
        let complaints = Arc::new(Complaints::new(shared.clone()));
        let listening = complaints.clone().listen(failures.subscribe());
        runtime.spawn(cancel.clone().run_until_cancelled_owned(listening));
        let tools = Tools {
            registry: registry.clone(),
            hosts: self.hosts.clone(),
            gateways: Arc::new(ReportedGateways::new(registry.watch(), gateway_id, shared, complaints)),
            prober: Arc::new(HealthProber),
            keys,
            clock: system_clock(),
            meter: self.meter.clone(),
        };
        let settings = Settings { lost_after: self.config.lost_after, ..Settings::default() };
        let engine = Engine::new(tools, settings);
        if let Some(doors) = self.doors.take() {
            let router = router::router(engine.operator(), gate.clone(), cancel.clone());
            let wanted = self.config.address.filter(|_| !self.is_bound);
            if let Some(address) = self.address {
                tracing::info!(%address, "deploy API listening");
            }
            let cancel = cancel.clone();
            runtime.spawn(async move {
                let doors = match wanted {
                    None => doors,
                    Some(address) => match await_address(address, &cancel).await {
                        Some(listener) => doors.at(listener),
                        None => return,
                    },
                };
                serve(doors, gate.auth, router, cancel).await;
            });
        }
        if let Some(own) = self.config.host.clone() {
            let entry = host::enter(own, self.hosts.clone(), registry, cancel.clone());
            runtime.spawn(entry);
        }
        runtime.spawn(async move { cancel.run_until_cancelled(engine.run()).await });
    }
}

impl Drop for Deploy {
    fn drop(&mut self) {
        // What is under way is gone on with by the next one, from where the registry says that it is.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address);
    let listener = listener.with_context(|| format!("cannot open the deploy API's listener at {address}"))?;
    listener.set_nonblocking(true).context("cannot keep the deploy API's listener")?;
    Ok(listener)
}

/// The former process closes it when this one serves. `None`: it is over.
async fn await_address(address: SocketAddr, cancel: &CancellationToken) -> Option<tokio::net::TcpListener> {
    let mut has_warned = false;
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!(%address, "deploy API listening");
                return Some(listener);
            }
            Err(error) => {
                if !std::mem::replace(&mut has_warned, true) {
                    tracing::info!(%address, %error, "the deploy API's address is not free yet");
                }
            }
        }
        cancel.run_until_cancelled(tokio::time::sleep(BIND_PAUSE)).await?;
    }
}

//! Virtual IPs: what the crate `vip` needs of the rest of the gateway, and when its driver runs.
//!
//! A driver takes part from when all workers accept until the gateway is told to stop or has handed over: then it lets go first,
//! while connections are still accepted. One name is one driver (docs/vips.md), so a process that takes over starts
//! its own when the former one has stopped.

mod checks;
mod guard;
mod lease;
mod members;
mod platform;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use discovery::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vip::config::VipConfig;
use vip::driver::{CommandError, Handle, Members, Parts, Status};
use vip::identity::GatewayId;
use vip::net::{Line, Orders, stand_guard};

use crate::config::{ProbeConfig, VipSection};
use crate::handover::Lineage;
use guard::GuardKeeper;
use members::Membership;
use platform::KernelPlatform;
use watch::Watcher;

pub use checks::Checks;
pub use lease::RegistryLease;

/// Before another try where a driver cannot start after a hand-over.
const RETRY: Duration = Duration::from_secs(1);
/// For a task to end that was told to.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What operators see of virtual IPs, and what they say.
#[derive(Debug, Default)]
pub struct VipDesk {
    /// Empty before the driver starts and after it has stopped.
    driver: ArcSwapOption<Handle>,
    draining: AtomicBool,
}

/// Where `[vip]` is right and this host has what it takes.
pub struct VipPlan {
    id: GatewayId,
    config: VipConfig,
    pub probe: Option<ProbeConfig>,
    pub desk: Arc<VipDesk>,
}

/// What a driver is started with.
pub struct Starter {
    plan: VipPlan,
    registry: Arc<dyn Registry>,
    checks: Checks,
}

/// Why the driver is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process ends. The guard stays until it has.
    Exit,
    /// Another process of this name begins.
    HandedOver,
}

/// The driver and all that belongs to it, or the wait for its start.
pub struct VipService {
    stop: oneshot::Sender<Ending>,
    task: JoinHandle<()>,
}

struct Running {
    driver: Arc<Handle>,
    guard: GuardKeeper,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl VipDesk {
    fn driver(&self) -> Result<Arc<Handle>, CommandError> {
        self.driver.load_full().ok_or(CommandError::Ended)
    }

    /// `None`: there is no driver at the moment.
    pub fn running(&self) -> Option<Arc<Handle>> {
        self.driver.load_full()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`CommandError::Ended`] where there is no driver.
    pub async fn list(&self) -> Result<Vec<Status>, CommandError> {
        self.driver()?.list().await
    }

    /// # Errors
    /// See [`Handle::move_to`].
    pub async fn move_to(&self, ip: IpAddr, to: GatewayId) -> Result<(), CommandError> {
        self.driver()?.move_to(ip, to).await
    }

    /// Lets go of what others can take and takes nothing, or the opposite.
    ///
    /// # Errors
    /// [`CommandError::Ended`] where there is no driver.
    pub fn set_draining(&self, draining: bool) -> Result<(), CommandError> {
        let driver = self.driver()?;
        self.draining.store(draining, Ordering::Relaxed);
        if draining {
            driver.drain();
        } else {
            driver.undrain();
        }
        Ok(())
    }
}

impl VipPlan {
    /// Changes nothing on this host.
    ///
    /// # Errors
    /// What is missing: the key, the interface, capabilities, nf_tables.
    pub fn prepare(section: &VipSection, gateway_id: &str) -> anyhow::Result<Self> {
        let config = section.build().map_err(anyhow::Error::msg)?;
        let id = GatewayId::parse(gateway_id).context("gateway.id")?;
        platform::check_capabilities()?;
        // What cannot be opened now cannot be opened later.
        let plan = Self { id, config, probe: section.probe.clone(), desk: Arc::default() };
        plan.open().context("virtual IPs cannot be managed here")?;
        Ok(plan)
    }

    fn open(
        &self,
    ) -> vip::net::Result<(KernelPlatform, Watcher, mpsc::Receiver<vip::driver::PlatformEvent>)> {
        let changed = Arc::new(AtomicBool::new(false));
        let (sender, events) = mpsc::channel(watch::MAX_EVENTS);
        let platform = KernelPlatform::open(&self.config, changed.clone())?;
        let watcher = Watcher::open(&self.config.interface, self.ips(), changed, sender)?;
        Ok((platform, watcher, events))
    }

    fn ips(&self) -> Vec<IpAddr> {
        self.config.addresses.iter().map(|address| address.ip).collect()
    }

    fn weights(&self) -> BTreeMap<IpAddr, u32> {
        let weights = self.config.addresses.iter().map(|address| (address.ip, address.weight));
        weights.filter(|(_, weight)| *weight != 1).collect()
    }

    pub fn starter(self, registry: Arc<dyn Registry>, checks: Checks) -> Starter {
        Starter { plan: self, registry, checks }
    }
}

impl Starter {
    /// # Errors
    /// When the driver cannot start: another process has `peer_listen`, or the kernel refuses.
    pub fn start(self) -> anyhow::Result<VipService> {
        let running = self.start_once()?;
        Ok(self.serve(Some(running), None))
    }

    /// Starts the driver when every former process has said what it says once it has let go, or is gone.
    pub fn start_after(self, former: Arc<Lineage>) -> VipService {
        self.serve(None, Some(former))
    }

    fn serve(self, running: Option<Running>, former: Option<Arc<Lineage>>) -> VipService {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.supervise(running, former, stopped));
        VipService { stop, task }
    }

    async fn supervise(
        self,
        running: Option<Running>,
        former: Option<Arc<Lineage>>,
        mut stopped: oneshot::Receiver<Ending>,
    ) {
        let running = match running {
            Some(running) => running,
            None => tokio::select! {
                running = self.start_in_turn(former) => running,
                _ = &mut stopped => return,
            },
        };
        let desk = &self.plan.desk;
        desk.driver.store(Some(running.driver.clone()));
        // Whoever has gone without a word is at its end too.
        let ending = stopped.await.unwrap_or(Ending::Exit);
        running.stop(ending, desk).await;
    }

    async fn start_in_turn(&self, former: Option<Arc<Lineage>>) -> Running {
        if let Some(former) = former {
            former.all_have_spoken().await;
        }
        let mut has_failed = false;
        loop {
            match self.start_once() {
                Ok(running) => return running,
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::error!("no virtual IPs yet, it is tried again: {error:#}");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Nothing is held before the checks report, and they do not before there is a guard.
    fn start_once(&self) -> anyhow::Result<Running> {
        let Self { plan, registry, checks } = self;
        let line = Line::new()?;
        let (platform, watcher, platform_events) = plan.open()?;
        let (member_sender, members) = channel::channel(Members::default());
        let driver = vip::driver::start(Parts {
            id: plan.id.clone(),
            config: plan.config.clone(),
            lease: Arc::new(RegistryLease::new(registry.clone(), plan.ips())),
            platform: Box::new(platform),
            platform_events,
            members,
            checks: checks.required(),
        })?;
        let driver = Arc::new(driver);
        let (interface, ips) = (plan.config.interface.clone(), plan.ips());
        let table = (plan.config.fence == vip::config::Fence::Nft).then_some(platform::TABLE);
        let command = move || guard::command(&interface, table, &ips);
        let guard = GuardKeeper::start(command, line, driver.last_words())?;
        let cancel = CancellationToken::new();
        let mut tasks = vec![
            tokio::spawn(watcher.run(cancel.clone())),
            tokio::spawn(members::follow(registry.watch(), member_sender, cancel.clone())),
            tokio::spawn(checks.clone().run(driver.clone(), cancel.clone())),
        ];
        if let Some(address) = driver.listens() {
            let own = Membership::new(registry.clone(), &plan.id, address, plan.weights())?;
            tasks.push(tokio::spawn(own.keep(cancel.clone())));
        }
        let addresses = plan.ips().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::info!(interface = plan.config.interface, addresses, "takes part in holding virtual IPs");
        Ok(Running { driver, guard, cancel, tasks })
    }
}

impl Running {
    async fn stop(self, ending: Ending, desk: &VipDesk) {
        let Self { driver, guard, cancel, tasks } = self;
        // The registry is asked by this thread's runtime, which must go on meanwhile.
        let stopping = driver.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || stopping.stop()).await {
            tracing::error!(%error, "the driver of virtual IPs did not stop in order");
        }
        desk.driver.store(None);
        cancel.cancel();
        for task in tasks {
            let _ = tokio::time::timeout(LAST_GRACE, task).await;
        }
        match ending {
            Ending::HandedOver => guard.dismiss().await,
            Ending::Exit => drop(guard),
        }
        tracing::info!("virtual IPs are let go");
    }
}

impl VipService {
    /// Lets go of everything. Returns when this host answers for no virtual IP any more and, where the registry answers within
    /// half a `registry_lease`, when others know.
    pub async fn stop(self, ending: Ending) {
        // A task that has ended has stopped.
        let _ = self.stop.send(ending);
        let _ = self.task.await;
    }
}

/// The guard's whole life, for `sluice vip-guard`.
///
/// # Errors
/// See [`stand_guard`].
pub async fn guard(interface: String, table: Option<String>, vips: Vec<IpAddr>) -> anyhow::Result<()> {
    let removed = stand_guard(&Orders { interface, table, vips }).await?;
    if !removed.is_empty() {
        let addresses = removed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::warn!(addresses, "the gateway has ended; its virtual IPs are taken off");
    }
    Ok(())
}

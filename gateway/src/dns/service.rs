//! The thread of names: what it is made of, and when it runs.
//!
//! A reload makes the next one beside the one before, at the same addresses, and ends that when it runs: queries are
//! answered all the time. So does a process that takes over.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use discovery::registry::Registry;
use hickory_proto::rr::Name;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Access, Secondary};
use super::cells::DnsCells;
use super::desk::DnsDesk;
use super::health::{ProbePlan, Watcher};
use super::names::{Naming, absolute};
use super::notify::keep_told;
use super::publish::Publisher;
use super::rate::RateLimit;
use super::serve::sockets::Bound;
use super::serve::{Clerk, Connections, serve};
use super::tsig::TsigKey;
use super::updates::plan::Writer;
use super::updates::{Candidate, UpdatePlan, Updater};
use super::zone::{Apex, Down};
use crate::config::{DnsSection, SecondaryConfig};
use crate::control::Applied;
use crate::listener::Presence;
use crate::table::RoutingTable;
use crate::vips::VipDesk;
use crate::worker::Shared;

/// For answers under way, and for the registry to hear that this gateway writes no more.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What a thread of names lives on. It outlives configurations.
#[derive(Clone)]
pub struct Surroundings {
    pub shared: Arc<Shared>,
    pub applied: Arc<Applied>,
    pub vips: Option<Arc<VipDesk>>,
    pub registry: Arc<dyn Registry>,
    pub gateway_id: String,
    pub desk: Arc<DnsDesk>,
}

/// All that can fail is done.
pub struct DnsPlan {
    bound: Vec<Bound>,
    access: Arc<Access>,
    apex: Arc<Apex>,
    naming: Naming,
    probe: Option<ProbePlan>,
    virtual_ips: BTreeSet<IpAddr>,
    limit: Option<RateLimit>,
    exempt: Arc<[ipnet::IpNet]>,
    updates: Vec<UpdatePlan>,
}

pub struct DnsService {
    /// As configured, and where that is.
    listens: Vec<(SocketAddr, SocketAddr)>,
    cancel: CancellationToken,
    thread: JoinHandle<()>,
}

/// What is wrong with the files of keys, each with the key that names it.
pub fn inspect_keys(section: &DnsSection) -> Vec<(String, String)> {
    let of_secondaries = section.secondaries.iter().enumerate().filter_map(|(at, secondary)| {
        let why = TsigKey::open(secondary.key_file.as_deref()?).err()?;
        Some((format!("dns.secondary[{at}].key_file"), why))
    });
    let of_updates = section.updates.iter().enumerate().filter_map(|(at, update)| {
        let why = TsigKey::open(&update.key_file).err()?;
        Some((format!("dns.update[{at}].key_file"), why))
    });
    of_secondaries.chain(of_updates).collect()
}

fn name(text: &str) -> anyhow::Result<Name> {
    absolute(text).with_context(|| format!("{text:?} is no name that DNS can carry"))
}

fn key(path: &Path, of: &str) -> anyhow::Result<TsigKey> {
    TsigKey::open(path).map_err(|why| anyhow::anyhow!("{of}.key_file: {why}"))
}

impl DnsPlan {
    /// Opens what is to be opened. `former`: who answers until this does. `is_takeover`: another process may answer at the
    /// same addresses.
    ///
    /// # Errors
    /// What cannot be read or opened, with its key.
    pub fn prepare(
        section: &DnsSection,
        former: Option<&DnsService>,
        is_takeover: bool,
    ) -> anyhow::Result<Self> {
        let secondaries = section.secondaries.iter().map(secondary).collect::<anyhow::Result<_>>()?;
        let mut bound = Vec::new();
        for configured in &section.listen {
            let known = former.and_then(|former| former.at(*configured));
            let beside = known.or_else(|| (is_takeover && configured.port() != 0).then_some(*configured));
            let is_virtual = section.virtual_ips.contains(&configured.ip());
            let presence = if is_virtual { Presence::Optional } else { Presence::Required };
            bound.push(Bound::open(*configured, presence, beside)?);
        }
        let shared: Arc<[IpAddr]> = section.addresses.clone().into();
        let known = section.virtual_ips.iter().chain(shared.iter()).copied().collect();
        let in_zone = section.nameservers.iter().filter(|server| !server.addresses.is_empty());
        let glue = in_zone.map(|server| Ok((name(&server.name)?, server.addresses.clone().into())));
        let naming = Naming {
            origin: name(&section.zone)?,
            homes: section.homes.as_str().into(),
            shared,
            known,
            glue: glue.collect::<anyhow::Result<_>>()?,
        };
        let nameservers = section.nameservers.iter().map(|server| name(&server.name));
        let apex = Apex {
            origin: naming.origin.clone(),
            nameservers: nameservers.collect::<anyhow::Result<_>>()?,
            hostmaster: name(&section.hostmaster)?,
            ttl: seconds(section.ttl),
            negative_ttl: seconds(section.negative_ttl),
        };
        Ok(Self {
            bound,
            access: Arc::new(Access { secondaries }),
            apex: Arc::new(apex),
            naming,
            probe: section.probe,
            virtual_ips: section.virtual_ips.clone(),
            limit: section.rate_limit,
            exempt: section.exempt.clone().into(),
            updates: updates(section)?,
        })
    }

    /// # Errors
    /// When there can be no thread.
    pub fn start(self, around: Surroundings) -> anyhow::Result<DnsService> {
        let listens: Vec<_> = self.bound.iter().map(|bound| (bound.configured, bound.address)).collect();
        for (_, address) in &listens {
            tracing::info!(%address, zone = %self.apex.origin, "DNS listening");
        }
        let cancel = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the thread of names")?;
        let ending = cancel.clone();
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                runtime.block_on(self.run(around, ending));
                runtime.shutdown_background();
            })
            .context("cannot start the thread of names")?;
        Ok(DnsService { listens, cancel, thread })
    }

    async fn run(self, around: Surroundings, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let Self { bound, access, apex, naming, probe, virtual_ips, limit, exempt, updates } = self;
        let listens: Arc<[_]> = bound.iter().map(|bound| bound.address).collect();
        let (sender, downs) = watch::channel(Arc::<Down>::default());
        let addresses = naming.known.clone();
        let watcher = |sender| Watcher {
            vips: around.vips.clone(),
            virtual_ips: virtual_ips.clone(),
            addresses: addresses.clone(),
            probe,
            sender,
        };
        let shown = watcher(watch::Sender::new(Arc::default()));
        let mut publisher = Publisher {
            names: naming.begin(),
            naming,
            apex,
            listens: listens.clone(),
            shared: around.shared.clone(),
            desk: around.desk.clone(),
            states: Box::new(move |down| shown.states(down)),
            former: Arc::new(RoutingTable::default()),
        };
        // The first answer is given from a whole zone.
        publisher
            .publish(around.desk.published().map_or_else(Arc::default, |former| former.zone.down.clone()));
        tasks.spawn(publisher.run(around.applied.changes(), downs, cancel.clone()));
        tasks.spawn(watcher(sender).run(cancel.clone()));
        let connections = Arc::new(Connections::new(around.desk.cells.clone()));
        for secondary in access.secondaries.iter().filter(|secondary| secondary.notify.is_some()) {
            let telling = keep_told(secondary.clone(), listens.clone(), around.desk.clone(), cancel.clone());
            tasks.spawn(telling);
        }
        let clerk = Clerk { desk: around.desk.clone(), access, limit, exempt };
        for bound in bound {
            match bound.into_doors() {
                Ok(doors) => {
                    tasks.spawn(serve(doors, clerk.clone(), connections.clone(), cancel.clone()));
                }
                Err(error) => tracing::error!(%error, "an address of dns.listen is not answered at"),
            }
        }
        start_updates(updates, &around, &tasks, &cancel);
        tasks.close();
        cancel.cancelled().await;
        let _ = tokio::time::timeout(LAST_GRACE, tasks.wait()).await;
    }
}

fn start_updates(
    plans: Vec<UpdatePlan>,
    around: &Surroundings,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) {
    let cells: &DnsCells = &around.desk.cells;
    let label = |plan: &UpdatePlan| (plan.server.to_string(), plan.writer.zone.to_ascii());
    cells.keep_updates(&plans.iter().map(label).collect::<Vec<_>>());
    for plan in plans {
        let (server, zone) = label(&plan);
        let candidate = match Candidate::new(around.registry.clone(), &zone, &around.gateway_id) {
            Ok(candidate) => candidate,
            Err(error) => {
                tracing::error!(%error, zone, "names are not written to another server");
                continue;
            }
        };
        let (sender, leads) = watch::channel(false);
        let updater = Updater {
            cells: cells.updates_of(&server, &zone),
            plan,
            registry: around.registry.clone(),
            shared: around.shared.clone(),
            desk: around.desk.clone(),
            leads,
        };
        tasks.spawn(candidate.run(sender, cancel.clone()));
        tasks.spawn(updater.run(cancel.clone()));
    }
}

fn secondary(config: &SecondaryConfig) -> anyhow::Result<Secondary> {
    let key = config.key_file.as_deref().map(|path| key(path, "dns.secondary")).transpose()?;
    let notify = config.address.filter(|_| config.notify);
    Ok(Secondary { ip: config.address.map(|address| address.ip().to_canonical()), key, notify })
}

fn updates(section: &DnsSection) -> anyhow::Result<Vec<UpdatePlan>> {
    let plans = section.updates.iter().map(|update| {
        let writer =
            Writer { zone: name(&update.zone)?, owner: update.owner.clone(), ttl: seconds(update.ttl) };
        let key = key(&update.key_file, "dns.update")?;
        Ok(UpdatePlan { server: update.server, writer, key, resync: update.resync })
    });
    plans.collect()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl DnsService {
    fn at(&self, configured: SocketAddr) -> Option<SocketAddr> {
        self.listens.iter().find(|(known, _)| *known == configured).map(|(_, address)| *address)
    }

    /// Returns when nothing is answered here any more and, where the registry answers, when others may write.
    pub async fn stop(self) {
        self.cancel.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the thread of names panicked");
        }
    }
}

//! The gateways, each with a way of its own to every member of the registry.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tests::{Config, CuttableProxy, DEADLINE, Gateway, Process, RawClient, eventually};

use super::check::differences;
use super::journal::Journal;
use super::registry::{Kind, Registry};
use super::world::Expected;

/// Below the gateway's folder.
const SAVED: &str = "saved";
const ACCESS_LOG: &str = "access.log";
/// How many times as long as it may take a gateway is waited for before it is given up: it is broken, and later rounds shall
/// say more than that.
const PATIENCE: u32 = 3;
/// A gateway that has still to read what was registered anew would lose it by the operator's word: what it holds has to be the
/// same for so long before that is given.
const CARE: Duration = Duration::from_millis(500);
/// Between two looks at a table that is not right yet.
const GLANCE: Duration = Duration::from_millis(20);

/// Where a gateway is found, as long as it is.
pub type Found = Arc<Mutex<SocketAddr>>;

struct Member {
    gateway: Gateway,
    proxies: Vec<CuttableProxy>,
    web: Found,
    /// Killed, and started again where there is a process.
    dead: Option<Option<Process>>,
}

pub struct Fleet {
    members: Vec<Member>,
    journal: Arc<Journal>,
    logs: Option<PathBuf>,
}

impl Fleet {
    pub fn start(size: usize, registry: &Registry, journal: &Arc<Journal>, logs: Option<PathBuf>) -> Self {
        let members = (0..size).map(|at| {
            let proxies: Vec<_> = registry.addresses().into_iter().map(CuttableProxy::to).collect();
            let mut config = config(at, registry.kind(), &proxies);
            if logs.is_some() {
                config = config.access_log(ACCESS_LOG, "json");
            }
            let gateway = Gateway::start(&config);
            let web = Arc::new(Mutex::new(gateway.web()));
            Member { gateway, proxies, web, dead: None }
        });
        Self { members: members.collect(), journal: Arc::clone(journal), logs }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn found(&self) -> Vec<Found> {
        self.members.iter().map(|member| Arc::clone(&member.web)).collect()
    }

    /// Waits until every gateway has these apps on its disk: from then on it may die.
    pub fn await_saved(&self, deadline: Duration, apps: &[String]) {
        for member in &self.members {
            let path = member.gateway.folder().join(SAVED);
            eventually(deadline, "every gateway has saved its table", || {
                let text = fs::read_to_string(&path).unwrap_or_default();
                apps.iter().all(|app| text.contains(&format!("app/{app}\"")))
            });
        }
    }

    pub fn cut(&self, at: usize) {
        self.members[at].proxies.iter().for_each(CuttableProxy::cut);
    }

    pub fn mend(&self, at: usize) {
        self.members[at].proxies.iter().for_each(CuttableProxy::restore);
    }

    /// Its clients are told first: what they lose from now on nobody could have served.
    pub fn kill(&mut self, at: usize) {
        self.journal.gateway_dies(at);
        let member = &mut self.members[at];
        member.gateway.kill();
        member.dead = Some(None);
    }

    /// Starts one that was killed, in whatever state the registry is.
    pub fn rise(&mut self, at: usize) {
        let member = &mut self.members[at];
        if let Some(process @ None) = &mut member.dead {
            *process = Some(member.gateway.intruder());
        }
    }

    /// Whether those that were started again are ready.
    pub fn look(&mut self) {
        for (at, member) in self.members.iter_mut().enumerate() {
            let Some(process) = member.dead.take_if(|process| process.is_some()).flatten() else { continue };
            match member.gateway.try_revive(process) {
                Ok(()) => {
                    *member.web.lock().unwrap_or_else(PoisonError::into_inner) = member.gateway.web();
                    self.journal.gateway_lives(at);
                }
                Err(process) => member.dead = Some(Some(process)),
            }
        }
    }

    /// Waits until all live.
    pub fn revive(&mut self) {
        eventually(DEADLINE * 2, "every gateway is ready again", || {
            self.look();
            self.members.iter().all(|member| member.dead.is_none())
        });
    }

    /// Waits until every gateway shows what is expected; returns how long after `since` the last one did, if that is `within`
    /// what it may take. `accepts`: as an
    /// operator does who knows that the registry has lost something, and that everybody has registered again.
    ///
    /// # Errors
    /// What a gateway shows otherwise when it has taken too long.
    pub fn converge(
        &self,
        expected: &Expected,
        since: Instant,
        within: Duration,
        accepts: bool,
    ) -> Result<Duration, String> {
        let mut slowest = Duration::ZERO;
        let mut late = None;
        // All at a time: an operator who thinks about one gateway has the others wait for nothing.
        let mut behind: Vec<_> = (0..self.members.len()).map(|at| (at, None, Instant::now())).collect();
        loop {
            behind.retain_mut(|(at, shown, shown_since)| {
                let admin = self.members[*at].gateway.admin();
                let Err(difference) = differences(admin, expected) else {
                    let took = since.elapsed();
                    slowest = slowest.max(took);
                    if let Some(difference) = shown.as_ref().filter(|_| took > within) {
                        let seconds = took.as_secs_f64();
                        late.get_or_insert_with(|| {
                            format!("gateway {at}, after {seconds:.1} s: {difference}")
                        });
                    }
                    return false;
                };
                let is_doubt = difference.is_doubt();
                let now = difference.to_string();
                if shown.as_ref() != Some(&now) {
                    (*shown, *shown_since) = (Some(now), Instant::now());
                } else if accepts && is_doubt && shown_since.elapsed() > CARE {
                    accept(admin);
                }
                true
            });
            let Some((at, shown, _)) = behind.first() else { break };
            if since.elapsed() > within * PATIENCE {
                return Err(format!("gateway {at}, never: {}", shown.as_deref().unwrap_or_default()));
            }
            std::thread::sleep(GLANCE);
        }
        late.map_or(Ok(slowest), Err)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(logs) = &self.logs else { return };
        for (at, member) in self.members.iter().enumerate() {
            for (name, kept) in
                [("stderr", format!("gw-{at}.log")), (ACCESS_LOG, format!("gw-{at}.access.log"))]
            {
                if let Err(error) = fs::copy(member.gateway.folder().join(name), logs.join(kept)) {
                    println!("the {name} of gateway {at} is not kept: {error}");
                }
            }
        }
    }
}

fn accept(admin: SocketAddr) {
    let mut client = RawClient::connect(admin);
    client.send("POST /v1/registry/accept HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.receive().status, 200, "an operator may accept the registry");
}

fn config(at: usize, kind: Kind, proxies: &[CuttableProxy]) -> Config {
    let servers: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    let registry = format!(
        "kind = {:?}\nservers = {servers:?}\nprefix = \"/caas\"\nsession_timeout = \"4s\"\nsaved = {SAVED:?}\n",
        kind.name()
    );
    Config::new().id(&format!("gw-{at}")).registry(&registry)
}

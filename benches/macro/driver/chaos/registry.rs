//! A real ensemble, what can be done to it, and the clients that write to it, which are not ours.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tests::{DEADLINE, EtcdServer, HeldPort, Kazoo, KazooError, ZooKeeperServer, eventually, finish, yields};

use super::world::{Value, World, is_key};

/// The longest that the harness's ZooKeeper grants.
const SESSION: Duration = Duration::from_secs(4);
/// Nobody waits for longer for one answer: an attempt that fails is made again when the fault is over.
const ANSWER: Duration = Duration::from_secs(1);
/// Seconds. Nobody keeps it alive: it ends when it is revoked, or long after the run.
const LEASE: &str = "36000";
const ROOT: &str = "/caas";
/// How often each key is written in a storm.
const STORM_WRITES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ZooKeeper,
    Etcd,
}

impl Kind {
    /// As `registry.kind` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zookeeper",
            Self::Etcd => "etcd",
        }
    }
}

enum Members {
    ZooKeeper(
        Vec<ZooKeeperServer>,
        #[expect(dead_code, reason = "nobody else may have the ports where they talk to each other")]
        Vec<(HeldPort, HeldPort)>,
    ),
    Etcd(Vec<EtcdServer>),
}

/// Who writes, and whose session the addresses live by that go with one.
enum Writer {
    Kazoo { operator: Kazoo, registrar: Kazoo },
    Ctl { lease: String },
}

pub struct Registry {
    members: Members,
    writer: Writer,
    /// Whether the registrar's session was ended, so that what lived by it has to be written again.
    is_orphaned: bool,
    has_kept: bool,
}

/// The same for each member, whatever it is.
macro_rules! each {
    ($members:expr, $list:ident => $what:expr) => {
        match $members {
            Members::ZooKeeper($list, _) => $what,
            Members::Etcd($list) => $what,
        }
    };
}

impl Registry {
    pub fn start(kind: Kind, size: usize) -> Self {
        let members = match kind {
            Kind::ZooKeeper => {
                let (members, ports) = ZooKeeperServer::ensemble(size);
                Members::ZooKeeper(members, ports)
            }
            Kind::Etcd => Members::Etcd(EtcdServer::cluster(size)),
        };
        let writer = Self::connect(&members);
        Self { members, writer, is_orphaned: false, has_kept: false }
    }

    fn connect(members: &Members) -> Writer {
        match members {
            Members::ZooKeeper(members, _) => {
                let servers: Vec<_> = members.iter().map(ZooKeeperServer::address).collect();
                let kazoo = || Kazoo::connect_to(&servers, SESSION, ANSWER);
                Writer::Kazoo { operator: kazoo(), registrar: kazoo() }
            }
            Members::Etcd(members) => {
                let servers: Vec<_> = members.iter().map(EtcdServer::address).collect();
                let granted =
                    yields(DEADLINE, "a lease is granted", || ctl(&servers, &["lease", "grant", LEASE], ""));
                Writer::Ctl { lease: granted.split_whitespace().nth(1).unwrap_or_default().to_owned() }
            }
        }
    }

    pub fn kind(&self) -> Kind {
        match self.members {
            Members::ZooKeeper(..) => Kind::ZooKeeper,
            Members::Etcd(..) => Kind::Etcd,
        }
    }

    pub fn len(&self) -> usize {
        each!(&self.members, list => list.len())
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        match &self.members {
            Members::ZooKeeper(list, _) => list.iter().map(ZooKeeperServer::address).collect(),
            Members::Etcd(list) => list.iter().map(EtcdServer::address).collect(),
        }
    }

    /// The member that leads. All must be up.
    pub fn leader(&self) -> usize {
        yields(
            DEADLINE,
            "the registry has a leader",
            || each!(&self.members, list => list.iter().position(|member| member.leads())),
        )
    }

    pub fn kill(&mut self, at: usize) {
        each!(&mut self.members, list => list[at].kill());
    }

    pub fn pause(&self, at: usize) {
        each!(&self.members, list => list[at].pause());
    }

    pub fn resume(&self, at: usize) {
        each!(&self.members, list => list[at].resume());
    }

    /// Starts those members again, together: one alone may be none that serves.
    pub fn restart(&mut self, which: &[usize]) {
        match &mut self.members {
            Members::ZooKeeper(list, _) => ZooKeeperServer::restart_together(picked(list, which)),
            Members::Etcd(list) => EtcdServer::restart_together(picked(list, which)),
        }
    }

    /// Keeps what all of them have, for [`Self::return_to_kept`]. They are down afterwards.
    pub fn keep_data(&mut self) {
        each!(&mut self.members, list => list.iter_mut().for_each(|member| member.keep_data()));
        self.has_kept = true;
    }

    pub fn has_kept(&self) -> bool {
        self.has_kept
    }

    pub fn lose_data(&mut self) {
        each!(&mut self.members, list => list.iter_mut().for_each(|member| member.lose_data()));
    }

    pub fn return_to_kept(&mut self) {
        each!(&mut self.members, list => list.iter_mut().for_each(|member| member.return_to_kept()));
    }

    /// New clients: servers that have lost what the former ones saw do not talk to those.
    pub fn reconnect(&mut self) {
        match std::mem::replace(&mut self.writer, Self::connect(&self.members)) {
            Writer::Kazoo { operator, registrar } => {
                operator.crash();
                registrar.crash();
            }
            Writer::Ctl { .. } => {}
        }
        self.is_orphaned = true;
    }

    /// The registrar dies: what it registered goes when the servers notice.
    pub fn crash_registrar(&mut self) {
        let servers = self.addresses();
        match &mut self.writer {
            Writer::Kazoo { registrar, .. } => {
                std::mem::replace(registrar, Kazoo::connect_to(&servers, SESSION, ANSWER)).crash();
            }
            Writer::Ctl { lease } => {
                ctl(&servers, &["lease", "revoke", lease], "");
                let granted =
                    yields(DEADLINE, "a lease is granted", || ctl(&servers, &["lease", "grant", LEASE], ""));
                granted.split_whitespace().nth(1).unwrap_or_default().clone_into(lease);
            }
        }
        self.is_orphaned = true;
    }

    /// Whether it is known to have been done.
    pub fn put(&mut self, key: &str, value: &Value) -> bool {
        let path = format!("{ROOT}/{key}");
        let servers = self.addresses();
        match &mut self.writer {
            Writer::Kazoo { registrar, .. } if value.lives_by_session => {
                // As registrars do that find their own node of a former session.
                allow(registrar.delete(&path), "NoNodeError")
                    && allow(registrar.create(&path, value.text.as_bytes(), true), "")
            }
            Writer::Kazoo { operator, .. } => match operator.set(&path, value.text.as_bytes()) {
                Err(KazooError(error)) if error.starts_with("NoNodeError") => {
                    allow(operator.create(&path, value.text.as_bytes(), false), "NodeExistsError")
                }
                answer => allow(answer, ""),
            },
            Writer::Ctl { lease } => {
                let lease = format!("--lease={lease}");
                let mut arguments = vec!["put", &path, &value.text];
                if value.lives_by_session {
                    arguments.push(&lease);
                }
                ctl(&servers, &arguments, "").is_some()
            }
        }
    }

    /// Whether it is known to have been done.
    pub fn delete(&mut self, key: &str) -> bool {
        let path = format!("{ROOT}/{key}");
        let servers = self.addresses();
        match &mut self.writer {
            Writer::Kazoo { operator, .. } => allow(operator.delete(&path), "NoNodeError"),
            Writer::Ctl { .. } => ctl(&servers, &["del", &path], "").is_some(),
        }
    }

    /// What the registry has, by key below its root; only keys that a world may have.
    fn tree(&mut self) -> Option<BTreeMap<String, String>> {
        let servers = self.addresses();
        let all: BTreeMap<String, String> = match &mut self.writer {
            Writer::Kazoo { operator, .. } => {
                let nodes = operator.tree(ROOT).ok()?;
                nodes
                    .into_iter()
                    .map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned()))
                    .collect()
            }
            Writer::Ctl { .. } => {
                // A key and its value take a line each: no value of a world has one more.
                let printed = ctl(&servers, &["get", "--prefix", ROOT], "")?;
                let lines: Vec<&str> = printed.lines().collect();
                lines
                    .chunks(2)
                    .map(|pair| (pair[0].to_owned(), pair.get(1).copied().unwrap_or_default().to_owned()))
                    .collect()
            }
        };
        let below = |path: &str| path.strip_prefix(ROOT)?.strip_prefix('/').map(str::to_owned);
        Some(
            all.into_iter()
                .filter_map(|(path, value)| Some((below(&path)?, value)))
                .filter(|(key, _)| is_key(key))
                .collect(),
        )
    }

    /// Everybody who registers does it again: returns when the registry has exactly what `world` says, and whether it had not.
    ///
    /// # Panics
    /// When it does not come to.
    pub fn reconcile(&mut self, world: &World) -> bool {
        let mut has_differed = false;
        let is_orphaned = std::mem::take(&mut self.is_orphaned);
        if is_orphaned {
            for (key, value) in world.keys().iter().filter(|(_, value)| value.lives_by_session) {
                eventually(DEADLINE, "the registrar registers again", || self.put(key, value));
            }
        }
        eventually(DEADLINE * 4, "the registry has what was written", || {
            let Some(tree) = self.tree() else { return false };
            let mut is_right = true;
            for (key, value) in world.keys() {
                if tree.get(key) != Some(&value.text) {
                    is_right = false;
                    self.put(key, value);
                }
            }
            for key in tree.keys().filter(|key| !world.keys().contains_key(*key)) {
                is_right = false;
                self.delete(key);
            }
            has_differed |= !is_right;
            is_right
        });
        has_differed
    }

    /// Writes what is there again and again, so that every watcher has a lot to read.
    pub fn storm(&mut self, world: &[(String, Value)]) {
        let servers = self.addresses();
        match &mut self.writer {
            Writer::Kazoo { operator, .. } => {
                for (key, value) in world {
                    // It is only a storm.
                    operator.storm(&format!("{ROOT}/{key}"), value.text.as_bytes(), STORM_WRITES).ok();
                }
            }
            Writer::Ctl { .. } => {
                let line = |(key, value): &(String, Value)| format!("put {ROOT}/{key} {:?}\n", value.text);
                let puts: String = world.iter().map(line).collect();
                for _ in 0..STORM_WRITES {
                    ctl(&servers, &["txn"], &format!("\n{puts}\n\n"));
                }
            }
        }
    }
}

fn picked<'a, T>(list: &'a mut [T], which: &[usize]) -> Vec<&'a mut T> {
    list.iter_mut().enumerate().filter(|(at, _)| which.contains(at)).map(|(_, member)| member).collect()
}

/// Whether it was done; `happened` is what says so besides.
fn allow<T>(answer: Result<T, KazooError>, happened: &str) -> bool {
    match answer {
        Ok(_) => true,
        Err(KazooError(error)) => !happened.is_empty() && error.starts_with(happened),
    }
}

/// What etcdctl printed; `None` when it failed.
fn ctl(servers: &[SocketAddr], arguments: &[&str], input: &str) -> Option<String> {
    let endpoints: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]);
    command.args(["--dial-timeout", "1s", "--command-timeout", "2s"]).args(arguments);
    let finished = finish(&mut command, input, DEADLINE);
    (finished.code == Some(0)).then_some(finished.stdout)
}

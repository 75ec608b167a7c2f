//! Three gateways, their registry and a client on one switch.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tests::{
    App, Config, DEADLINE, Endpoint, EtcdServer, Gateway, Host, Namespace, Process, Reply, Request, Switch,
    ZooKeeperServer, eventually, finish, yields,
};
use vip::net::{Fence, Mac};

use crate::witness::Witness;

pub const GATEWAYS: usize = 3;
const REGISTRY: &str = "10.88.0.8";
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 9);
const PEER_KEY: &str = "a8d1f2c0b7e94563a8d1f2c0b7e94563";
/// Of datagrams.
pub const PORT: u16 = 53;
/// Of an app's own, in a pool that most tests have not.
pub const OWN_PORT: &str = "10.88.0.240:5432";
/// Of plain TCP, to what speaks HTTP behind it.
pub const RAW_PORT: u16 = 81;

/// Which registry, and how many servers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ZooKeeper(usize),
    Etcd(usize),
}

/// Its servers.
pub enum Registry {
    ZooKeeper(Vec<ZooKeeperServer>),
    Etcd(Vec<EtcdServer>),
}

/// One gateway: the process, what it is in front of, and its host.
struct Member {
    process: Option<Gateway>,
    endpoint: Option<Endpoint>,
    echo: SocketAddr,
    /// What it is in front of answers its probes with 500.
    failing: Arc<AtomicBool>,
    host: Host,
}

pub struct Lab {
    pub service: Witness<String>,
    pub link: Witness<Mac>,
    members: Vec<Member>,
    pub registry: Registry,
    registry_host: Host,
    pub client: Arc<Host>,
    pub switch: Switch,
    vips: Vec<Ipv4Addr>,
    /// Lines of `[vip]` besides those that every gateway has.
    lines: Vec<String>,
    change: Box<dyn Fn(Config) -> Config>,
}

/// Who holds, and since which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    pub by: usize,
    pub epoch: u64,
}

/// The name of a gateway.
pub fn name(gateway: usize) -> String {
    format!("gw-{}", gateway + 1)
}

/// The virtual IP of that number.
pub fn vip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, 200 + number)
}

/// Where not, that is said past the test runner's capture.
fn may_run() -> bool {
    if !Namespace::available() {
        return false;
    }
    let trial = Namespace::new("trial");
    let Err(error) = trial.run(|| Fence::install("sluice_vip", &[])) else { return true };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(std::io::stderr(), "SKIPPED {test}: {error}").ok();
    false
}

impl Lab {
    /// `None`, and said so, where there are no namespaces or there is no nf_tables. All gateways know each other when it returns.
    pub fn start(kind: Kind, vips: &[u8], lines: &[&str]) -> Option<Self> {
        Self::start_with(kind, vips, lines, |config| config)
    }

    /// As [`Self::start`], by configurations that `change` has made of the usual ones.
    pub fn start_with(
        kind: Kind,
        vips: &[u8],
        lines: &[&str],
        change: impl Fn(Config) -> Config + 'static,
    ) -> Option<Self> {
        if !may_run() {
            return None;
        }
        let switch = Switch::new();
        let registry_host = switch.host("registry", &[&format!("{REGISTRY}/24")]);
        let client = switch.host("client", &[&format!("{CLIENT}/24"), "fd00:88::9/64"]);
        let registry = registry_host.run(|| Registry::start(kind));
        let members = (0..GATEWAYS).map(|at| member(&switch, at)).collect();
        let mut lab = Self {
            service: Witness::of_service(&client, SocketAddr::from((vip(0), PORT))),
            link: Witness::of_link(&client, vip(0), CLIENT),
            members,
            registry,
            registry_host,
            client: Arc::new(client),
            switch,
            vips: vips.iter().copied().map(vip).collect(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            change: Box::new(change),
        };
        (0..GATEWAYS).for_each(|at| lab.launch(at));
        Some(lab)
    }

    fn config(&self, at: usize) -> Config {
        let member = &self.members[at];
        let endpoint = member.endpoint.as_ref().expect("it lives as long as its host");
        let raw = App::new("raw").tcp_endpoint("v1", "c1", endpoint.address());
        // Had where the configuration gives it.
        let raw = raw.line(&format!("ports = [{{ address = \"{OWN_PORT}\" }}]"));
        let mut config = Config::in_front_of(endpoint.address())
            .app(&App::new("who").udp_endpoint("v1", "c1", member.echo))
            .app(&raw)
            .id(&name(at))
            .registry(&self.registry.lines())
            .gateway("drain_timeout = \"1s\"")
            .file("peer.key", PEER_KEY);
        for (number, vip) in self.vips.iter().enumerate() {
            config = config
                .listener_at(&format!("web-{number}"), &format!("{vip}:80"), &["protocol = \"http\""])
                .listener_at(
                    &format!("raw-{number}"),
                    &format!("{vip}:{RAW_PORT}"),
                    &["protocol = \"tcp\"", "app = \"raw\""],
                )
                .listener_at(
                    &format!("who-{number}"),
                    &format!("{vip}:{PORT}"),
                    &["protocol = \"udp\"", "app = \"who\""],
                );
        }
        let addresses: String =
            self.vips.iter().map(|vip| format!("\n[[vip.address]]\nip = \"{vip}\"\n")).collect();
        (self.change)(config).section(&format!(
            "[vip]\ninterface = \"eth0\"\npeer_listen = \"{}:7001\"\npeer_key_file = \"peer.key\"\n{}\n{addresses}",
            address(at),
            self.lines.join("\n"),
        ))
    }

    /// Starts a gateway that does not run.
    pub fn launch(&mut self, at: usize) {
        let config = self.config(at);
        let process = self.members[at].host.run(|| Gateway::start(&config));
        self.members[at].process = Some(process);
    }

    pub fn process(&mut self, at: usize) -> &mut Gateway {
        self.members[at].process.as_mut().expect("it was not taken")
    }

    /// Without a chance to say anything.
    pub fn kill(&mut self, at: usize) {
        self.process(at).kill();
    }

    /// Nobody is left who could say anything.
    pub fn kill_with_guard(&mut self, at: usize) {
        let guard = guard_of(self.process(at).pid());
        rustix::process::kill_process(guard, Signal::KILL).expect("it is there while its gateway is");
        self.kill(at);
    }

    /// Whether requests through a gateway to its `/probe` fail.
    pub fn fail_probe(&self, at: usize, fails: bool) {
        self.members[at].failing.store(fails, Ordering::Relaxed);
    }

    pub fn signal(&self, at: usize, signal: Signal) {
        self.members[at].process.as_ref().expect("it was not taken").signal(signal);
    }

    pub fn host(&self, at: usize) -> &Host {
        &self.members[at].host
    }

    /// Forgets the process, whatever it was doing, and starts another one of its name.
    pub fn relaunch(&mut self, at: usize) {
        self.members[at].process = None;
        self.launch(at);
    }

    /// Hands over to one more process on the same host; returns the former one, which drains.
    pub fn hand_over(&mut self, at: usize) -> Process {
        let Member { process, host, .. } = &mut self.members[at];
        let process = process.as_mut().expect("it was not taken");
        host.run(|| process.hand_over())
    }

    /// What a gateway says of the virtual IPs. Nothing where its driver waits for the one before it.
    pub fn ask(&self, at: usize) -> Value {
        let member = &self.members[at];
        let process = member.process.as_ref().expect("it was not taken");
        let answer = member.host.run(|| process.admin_get("/v1/vips"));
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        let view: Value = serde_json::from_slice(&answer.body).expect("an admin answer is JSON");
        if answer.status == 200 { view } else { Value::Null }
    }

    pub fn metric(&self, at: usize, name: &str, labels: &[(&str, &str)]) -> u64 {
        let member = &self.members[at];
        member.host.run(|| member.process.as_ref().expect("it was not taken").metrics().count(name, labels))
    }

    /// `sluice` with these words about the gateway `at`, on its host.
    pub fn sluice(&self, at: usize, words: &[&str]) -> tests::Finished {
        let member = &self.members[at];
        let admin = member.process.as_ref().expect("it was not taken").admin();
        member.host.run(|| {
            let mut command = tests::sluice();
            command.args(words).env("SLUICE_ADMIN", format!("http://{admin}"));
            finish(&mut command, "", DEADLINE * 2)
        })
    }

    /// Waits until one of the gateways holds `vip(number)` and all others grant it.
    pub fn settled(&self, number: u8) -> Holding {
        self.settled_at(vip(number).into())
    }

    /// As [`Self::settled`], of any address.
    pub fn settled_at(&self, ip: IpAddr) -> Holding {
        let ip = ip.to_string();
        yields(DEADLINE * 4, "one holds, and the others grant it", || {
            let views: Vec<_> = (0..GATEWAYS).map(|at| self.ask(at)).collect();
            let shown: Vec<_> = views.iter().map(|view| item(view, &ip)).collect();
            let by = shown.iter().position(|vip| vip["holding"] == true)?;
            let epoch = shown[by]["epoch"].as_u64()?;
            let serving = views.iter().filter(|view| view["draining"] == false).count();
            let is_known = views.iter().zip(&shown).all(|(view, vip)| {
                // Everybody counts himself among those who could.
                let known = serving + usize::from(view["draining"] == true);
                vip["epoch"].as_u64() == Some(epoch)
                    && vip["order"].as_array().is_some_and(|all| all.len() == known)
            });
            let is_granted = shown[by]["grantors"].as_array()?.len() == GATEWAYS - 1;
            (is_known && is_granted).then_some(Holding { by, epoch })
        })
    }

    /// Who holds each address, where everybody who is asked agrees. `None`: not yet.
    pub fn holders(&self, of: &[usize]) -> Option<Vec<usize>> {
        let shown: Vec<_> = of.iter().map(|at| (*at, self.ask(*at))).collect();
        let holder = |ip: &Ipv4Addr| {
            let ip = ip.to_string();
            let mut holding = shown.iter().filter(|(_, view)| item(view, &ip)["holding"] == true);
            holding.next().map(|(at, _)| *at).filter(|_| holding.next().is_none())
        };
        self.vips.iter().map(holder).collect()
    }

    pub fn vips(&self) -> &[Ipv4Addr] {
        &self.vips
    }

    /// The client has heard this many more answers, all kinds of it.
    pub fn hear(&self, answers: usize) {
        let (service, link) = (self.service.count(), self.link.count());
        eventually(DEADLINE, "the client is answered", || {
            self.service.count() >= service + answers && self.link.count() >= link + answers
        });
    }

    /// A request on a connection of its own.
    pub fn get(&self, ip: Ipv4Addr) -> Option<String> {
        self.get_at(SocketAddr::from((ip, 80)))
    }

    /// As [`Self::get`], of any address.
    pub fn get_at(&self, address: SocketAddr) -> Option<String> {
        use std::io::Read as _;
        self.client.run(|| {
            let mut stream = std::net::TcpStream::connect_timeout(&address, DEADLINE).ok()?;
            stream.set_read_timeout(Some(DEADLINE)).ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
        })
    }

    /// The registry's servers are reached from its own host.
    pub fn with_registry<T: Send>(&mut self, work: impl FnOnce(&mut Registry) -> T + Send) -> T {
        let (host, registry) = (&self.registry_host, &mut self.registry);
        host.run(|| work(registry))
    }
}

impl Registry {
    fn start(kind: Kind) -> Self {
        let ip: IpAddr = REGISTRY.parse().expect("an address");
        match kind {
            Kind::ZooKeeper(1) => Self::ZooKeeper(vec![ZooKeeperServer::start_at(ip)]),
            Kind::ZooKeeper(size) => Self::ZooKeeper(ZooKeeperServer::ensemble_at(ip, size).0),
            Kind::Etcd(size) => Self::Etcd(EtcdServer::cluster_at(ip, size)),
        }
    }

    fn lines(&self) -> String {
        let (kind, servers): (_, Vec<_>) = match self {
            Self::ZooKeeper(servers) => ("zookeeper", servers.iter().map(ZooKeeperServer::address).collect()),
            Self::Etcd(servers) => ("etcd", servers.iter().map(EtcdServer::address).collect()),
        };
        let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        format!("kind = {kind:?}\nservers = {servers:?}\nprefix = \"/caas\"\nsession_timeout = \"4s\"\n")
    }

    pub fn size(&self) -> usize {
        match self {
            Self::ZooKeeper(servers) => servers.len(),
            Self::Etcd(servers) => servers.len(),
        }
    }

    /// The number of the one that leads; of one alone, its own.
    pub fn leader(&self) -> usize {
        yields(DEADLINE, "one of the servers leads", || match self {
            Self::ZooKeeper(servers) if servers.len() == 1 => Some(0),
            Self::ZooKeeper(servers) => servers.iter().position(ZooKeeperServer::leads),
            Self::Etcd(servers) => servers.iter().position(EtcdServer::leads),
        })
    }

    pub fn kill(&mut self, at: usize) {
        match self {
            Self::ZooKeeper(servers) => servers[at].kill(),
            Self::Etcd(servers) => servers[at].kill(),
        }
    }

    pub fn restart(&mut self, at: usize) {
        match self {
            Self::ZooKeeper(servers) => servers[at].restart(),
            Self::Etcd(servers) => servers[at].restart(),
        }
    }

    /// Those at once: one alone has no majority to wait for.
    pub fn restart_all(&mut self, which: &[usize]) {
        match self {
            Self::ZooKeeper(servers) => ZooKeeperServer::restart_together(pick(servers, which)),
            Self::Etcd(servers) => EtcdServer::restart_together(pick(servers, which)),
        }
    }

    pub fn pause(&self, at: usize) {
        match self {
            Self::ZooKeeper(servers) => servers[at].pause(),
            Self::Etcd(servers) => servers[at].pause(),
        }
    }

    pub fn resume(&self, at: usize) {
        match self {
            Self::ZooKeeper(servers) => servers[at].resume(),
            Self::Etcd(servers) => servers[at].resume(),
        }
    }
}

fn pick<'s, S>(servers: &'s mut [S], which: &[usize]) -> Vec<&'s mut S> {
    servers.iter_mut().enumerate().filter(|(at, _)| which.contains(at)).map(|(_, server)| server).collect()
}

/// The guard that a gateway has started.
fn guard_of(gateway: u32) -> Pid {
    yields(DEADLINE, "the gateway has a guard", || {
        let is_guard = |child: &Pid| {
            let path = format!("/proc/{}/cmdline", child.as_raw_pid());
            std::fs::read_to_string(path).is_ok_and(|line| line.contains("vip-guard"))
        };
        children_of(gateway).into_iter().find(is_guard)
    })
}

/// What a process has started, and is not gone.
pub fn children_of(parent: u32) -> Vec<Pid> {
    let line = format!("PPid:\t{parent}\n");
    let processes = std::fs::read_dir("/proc").expect("there is one").flatten();
    let children = processes.filter(|process| {
        // What ends meanwhile is not looked for.
        std::fs::read_to_string(process.path().join("status")).is_ok_and(|status| status.contains(&line))
    });
    children.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?)).collect()
}

pub fn address(at: usize) -> String {
    format!("10.88.0.{}", at + 1)
}

fn item(view: &Value, ip: &str) -> Value {
    let mut items = view["items"].as_array().into_iter().flatten();
    items.find(|vip| vip["ip"] == ip).cloned().unwrap_or_default()
}

fn member(switch: &Switch, at: usize) -> Member {
    let host = switch.host(&name(at), &[&format!("{}/24", address(at)), &format!("fd00:88::{}/64", at + 1)]);
    let failing = Arc::new(AtomicBool::new(false));
    let fails = failing.clone();
    let behaviour = move |request: &Request| {
        let fails = request.target == "/probe" && fails.load(Ordering::Relaxed);
        Reply::Answer(if fails { 500 } else { 200 }, Vec::new(), name(at).into_bytes())
    };
    let (endpoint, socket) = host.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("any port is free");
        (Endpoint::behaving(&name(at), behaviour), socket)
    });
    let echo = socket.local_addr().expect("it is bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        let name = name(at);
        let mut bytes = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            socket.send_to(name.as_bytes(), from).ok();
        }
    });
    Member { process: None, endpoint: Some(endpoint), echo, failing, host }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.process = None;
        // It wakes itself by a connection, which its own host alone can make.
        let endpoint = self.endpoint.take();
        self.host.run(|| drop(endpoint));
    }
}

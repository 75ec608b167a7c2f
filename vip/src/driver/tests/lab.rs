//! The lab: drivers, the air between them, and what can go wrong there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::super::{
    CommandError, Handle, Member, Members, Parts, Platform, PlatformError, PlatformEvent, StartError, Status,
    start,
};
use crate::config::{AddressSettings, Settings};
use crate::eligibility::{Check, Thresholds};
use crate::identity::GatewayId;
use crate::lease::{Entries, Entry, Lease, LeaseError};
use crate::metrics::AddressMetrics;
use crate::peer::LastWords;
use crate::register::{Register, Versioned};

const PATIENCE: Duration = Duration::from_secs(30);
const ADDRESSES: u8 = 4;

pub fn id(node: usize) -> GatewayId {
    GatewayId::parse(&format!("gw-{node}")).unwrap()
}

pub fn vip(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, 200 + number])
}

/// Waits for a condition that other threads bring about.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Who answers for what, and whether two ever did.
#[derive(Default)]
struct Air {
    answers: Mutex<BTreeMap<(IpAddr, usize), Instant>>,
    crimes: Mutex<Vec<String>>,
}

/// A registry in memory.
struct Memory {
    entries: watch::Sender<Entries>,
    answers: watch::Sender<bool>,
    history: Mutex<Vec<Register>>,
}

#[async_trait]
impl Lease for Memory {
    async fn read(&self, ip: IpAddr) -> Result<Option<Entry>, LeaseError> {
        self.reached().await;
        Ok(self.entries.borrow().get(&ip).cloned())
    }

    async fn write(&self, ip: IpAddr, register: &Register, expected: Option<u64>) -> Result<u64, LeaseError> {
        self.reached().await;
        let mut written = Err(LeaseError::Conflict(ip));
        self.entries.send_if_modified(|entries| {
            let present = entries.get(&ip).map(Entry::version);
            if present == expected {
                let version = present.unwrap_or(0) + 1;
                let entry = Entry::Register(Versioned { version, register: register.clone() });
                Arc::make_mut(entries).insert(ip, entry);
                self.history.lock().unwrap().push(register.clone());
                written = Ok(version);
            }
            written.is_ok()
        });
        written
    }

    fn watch(&self) -> watch::Receiver<Entries> {
        self.entries.subscribe()
    }
}

/// One node's link to the registry, which can be cut.
struct Link {
    memory: Arc<Memory>,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Lease for Link {
    async fn read(&self, ip: IpAddr) -> Result<Option<Entry>, LeaseError> {
        self.opened().await;
        self.memory.read(ip).await
    }

    async fn write(&self, ip: IpAddr, register: &Register, expected: Option<u64>) -> Result<u64, LeaseError> {
        self.opened().await;
        self.memory.write(ip, register, expected).await
    }

    fn watch(&self) -> watch::Receiver<Entries> {
        self.memory.watch()
    }
}

impl Link {
    async fn opened(&self) {
        // The lab is gone where this fails.
        let _ = self.open.clone().wait_for(|open| *open).await;
    }
}

impl Memory {
    async fn reached(&self) {
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
    }
}

/// What can be done to one node's kernel and process.
#[derive(Default)]
struct Knobs {
    frozen: Mutex<bool>,
    thawed: Condvar,
    refuses: AtomicBool,
    cut: AtomicBool,
    holds: AtomicU64,
    announced: AtomicU64,
}

struct Kernel {
    node: usize,
    air: Arc<Air>,
    knobs: Arc<Knobs>,
    due: Vec<IpAddr>,
}

impl Kernel {
    fn refused(&self, ip: IpAddr) -> PlatformError {
        PlatformError { doing: "hold", ip, source: "refused".into() }
    }
}

impl Platform for Kernel {
    fn sweep(&mut self, _: &[IpAddr]) -> Result<usize, PlatformError> {
        self.air.answers.lock().unwrap().retain(|(_, node), _| *node != self.node);
        Ok(0)
    }

    fn hold(&mut self, ip: IpAddr, until: Instant) -> Result<(), PlatformError> {
        let frozen = self.knobs.frozen.lock().unwrap();
        drop(self.knobs.thawed.wait_while(frozen, |frozen| *frozen).unwrap());
        let now = Instant::now();
        if self.knobs.refuses.load(Ordering::Relaxed) || until <= now {
            return Err(self.refused(ip));
        }
        let mut answers = self.air.answers.lock().unwrap();
        let others =
            answers.iter().filter(|((held, node), end)| *held == ip && *node != self.node && **end > now);
        let crimes =
            others.map(|((_, node), end)| format!("{ip}: {} while {node} for {:?}", self.node, *end - now));
        self.air.crimes.lock().unwrap().extend(crimes);
        if answers.insert((ip, self.node), until).is_none_or(|end| end <= now) {
            self.due.push(ip);
        }
        self.knobs.holds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn release(&mut self, ip: IpAddr) -> Result<(), PlatformError> {
        self.air.answers.lock().unwrap().remove(&(ip, self.node));
        Ok(())
    }

    fn announce_again(&mut self, ip: IpAddr) {
        self.due.push(ip);
    }

    fn next_announcement(&self) -> Option<Instant> {
        (!self.due.is_empty()).then(Instant::now)
    }

    fn announce_due(&mut self, _: Instant) -> Vec<IpAddr> {
        self.knobs.announced.fetch_add(self.due.len() as u64, Ordering::Relaxed);
        std::mem::take(&mut self.due)
    }
}

struct Node {
    handle: Option<Handle>,
    knobs: Arc<Knobs>,
    link: watch::Sender<bool>,
    platform_events: mpsc::Sender<PlatformEvent>,
    settings: Settings,
}

pub struct Lab {
    air: Arc<Air>,
    memory: Arc<Memory>,
    nodes: Vec<Node>,
    _members: watch::Sender<Members>,
    relays: Arc<AtomicBool>,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    pub fn start(nodes: usize) -> Self {
        Self::start_with(nodes, |_| {}, &[])
    }

    pub fn start_with(nodes: usize, change: impl Fn(&mut Settings), checks: &[(Check, Thresholds)]) -> Self {
        let air = Arc::new(Air::default());
        let memory = Arc::new(Memory {
            entries: watch::Sender::new(Entries::default()),
            answers: watch::Sender::new(true),
            history: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runs = Arc::new(AtomicBool::new(true));
        let knobs = (0..nodes).map(|_| Arc::new(Knobs::default())).collect::<Vec<_>>();
        let mut lab = Self {
            air,
            memory,
            nodes: Vec::new(),
            _members: watch::Sender::new(Members::default()),
            relays: runs,
            runtime,
        };
        // Relays first: where they lead to is known once the drivers listen.
        let addresses = (0..nodes).map(|_| Arc::new(Mutex::new(None))).collect::<Vec<_>>();
        for node in 0..nodes {
            let members = (0..nodes).filter(|peer| *peer != node);
            let members = members.map(|peer| {
                let address = lab.relay(&addresses[peer], &knobs[node], &knobs[peer]);
                (id(peer), Member { address, weights: BTreeMap::new() })
            });
            let members = watch::channel(Members::new(members.collect())).1;
            let mut settings = Settings {
                interface: "eth0".to_owned(),
                peer_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                peer_key: vec![7; 32],
                addresses: (0..ADDRESSES)
                    .map(|number| AddressSettings { ip: vip(number), ..Default::default() })
                    .collect(),
                ..Settings::default()
            };
            change(&mut settings);
            let listens = lab.start_node(node, settings, Arc::clone(&knobs[node]), members, checks);
            *addresses[node].lock().unwrap() = listens;
        }
        lab
    }

    fn start_node(
        &mut self,
        node: usize,
        settings: Settings,
        knobs: Arc<Knobs>,
        members: watch::Receiver<Members>,
        checks: &[(Check, Thresholds)],
    ) -> Option<SocketAddr> {
        let (link, open) = watch::channel(true);
        let (platform_events, received) = mpsc::channel(8);
        let kernel = Kernel { node, air: Arc::clone(&self.air), knobs: Arc::clone(&knobs), due: Vec::new() };
        let handle = start(Parts {
            id: id(node),
            config: settings.clone().build().unwrap(),
            lease: Arc::new(Link { memory: Arc::clone(&self.memory), open }),
            platform: Box::new(kernel),
            platform_events: received,
            members,
            checks: checks.to_vec(),
        })
        .unwrap();
        let listens = handle.listens();
        let settings = Settings { peer_listen: listens, ..settings };
        self.nodes.push(Node { handle: Some(handle), knobs, link, platform_events, settings });
        listens
    }

    /// A process of the same name and address.
    pub fn start_again(&self, node: usize) -> Result<Handle, StartError> {
        let old = &self.nodes[node];
        let (_, received) = mpsc::channel(1);
        let (_, open) = watch::channel(true);
        let knobs = Arc::clone(&old.knobs);
        start(Parts {
            id: id(node),
            config: old.settings.clone().build().unwrap(),
            lease: Arc::new(Link { memory: Arc::clone(&self.memory), open }),
            platform: Box::new(Kernel { node, air: Arc::default(), knobs, due: Vec::new() }),
            platform_events: received,
            members: watch::channel(Members::default()).1,
            checks: Vec::new(),
        })
    }

    /// Carries datagrams both ways unless either end is cut.
    fn relay(
        &self,
        to: &Arc<Mutex<Option<SocketAddr>>>,
        here: &Arc<Knobs>,
        there: &Arc<Knobs>,
    ) -> SocketAddr {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = near.local_addr().unwrap();
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        for (from, other, inward) in [(&near, &far, true), (&far, &near, false)] {
            let (from, other) = (from.try_clone().unwrap(), other.try_clone().unwrap());
            from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let (here, there, client) = (Arc::clone(here), Arc::clone(there), Arc::clone(&client));
            let (runs, to) = (Arc::clone(&self.relays), Arc::clone(to));
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while runs.load(Ordering::Relaxed) {
                    let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
                    if inward {
                        *client.lock().unwrap() = Some(source);
                    }
                    let target = if inward { *to.lock().unwrap() } else { *client.lock().unwrap() };
                    let Some(target) = target else { continue };
                    if !here.cut.load(Ordering::Relaxed) && !there.cut.load(Ordering::Relaxed) {
                        let _ = other.send_to(&buffer[..length], target);
                    }
                }
            });
        }
        address
    }

    pub fn handle(&self, node: usize) -> &Handle {
        self.nodes[node].handle.as_ref().unwrap()
    }

    pub fn holder(&self, ip: IpAddr) -> Option<usize> {
        let now = Instant::now();
        let answers = self.air.answers.lock().unwrap();
        answers.iter().find(|((held, _), end)| *held == ip && **end > now).map(|((_, node), _)| *node)
    }

    /// The holder, once there is one that all other running nodes grant.
    pub fn settled(&self, ip: IpAddr) -> usize {
        let running = self.nodes.iter().filter(|node| node.handle.is_some()).count();
        let mut holder = None;
        eventually("a holder with all the others for grantors", || {
            holder = self.holder(ip).filter(|node| {
                self.nodes[*node].handle.is_some() && {
                    let registry_mode = self.nodes[*node].settings.mode == crate::config::Mode::Registry;
                    let status = self.status(*node, ip);
                    status.holding.is_some() && (registry_mode || status.grantors.len() == running - 1)
                }
            });
            holder.is_some()
        });
        holder.unwrap()
    }

    pub fn status(&self, node: usize, ip: IpAddr) -> Status {
        let list = self.runtime.block_on(self.handle(node).list()).unwrap();
        list.into_iter().find(|status| status.ip == ip).unwrap()
    }

    pub fn move_to(&self, node: usize, ip: IpAddr, to: usize) -> Result<(), CommandError> {
        self.runtime.block_on(self.handle(node).move_to(ip, id(to)))
    }

    pub fn metrics<T>(&self, node: usize, ip: IpAddr, read: impl Fn(&AddressMetrics) -> T) -> T {
        let metrics = self.handle(node).metrics();
        metrics.addresses().find(|(address, _)| *address == ip).map(|(_, metrics)| read(metrics)).unwrap()
    }

    pub fn drops(&self, node: usize) -> u64 {
        let dropped = |metrics: &AddressMetrics| {
            metrics
                .transitions()
                .filter(|(reason, _)| *reason != "acquired")
                .map(|(_, count)| count)
                .sum::<u64>()
        };
        self.handle(node).metrics().addresses().map(|(_, metrics)| dropped(metrics)).sum()
    }

    pub fn refreshes(&self, node: usize) -> u64 {
        self.nodes[node].knobs.holds.load(Ordering::Relaxed)
    }

    pub fn announcements(&self, node: usize) -> u64 {
        self.nodes[node].knobs.announced.load(Ordering::Relaxed)
    }

    /// What its guard does when it is gone: closes the fence, then says the last words.
    pub fn mourn(&self, node: usize, words: &LastWords) {
        self.air.answers.lock().unwrap().retain(|(_, holder), _| *holder != node);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peers = (0..self.nodes.len()).filter(|peer| *peer != node);
        assert_eq!(words.0.len(), self.nodes.len() - 1);
        for (word, peer) in words.0.iter().zip(peers) {
            // The way that they name leads over the relay of the one that is gone.
            socket.send_to(&word.datagram, self.handle(peer).listens().unwrap()).unwrap();
        }
    }

    /// As SIGKILL: nothing is heard or done any more, and the kernel closes the fence in time.
    pub fn kill(&mut self, node: usize) {
        self.isolate(node, true);
        self.freeze(node, true);
        // A thread cannot be killed: it stays in the kernel for as long as the test runs.
        std::mem::forget(self.nodes[node].handle.take());
    }

    pub fn stop(&mut self, node: usize) {
        self.nodes[node].handle.take().unwrap().stop();
    }

    pub fn isolate(&self, node: usize, cut: bool) {
        self.nodes[node].knobs.cut.store(cut, Ordering::Relaxed);
        self.nodes[node].link.send_replace(!cut);
    }

    pub fn freeze(&self, node: usize, frozen: bool) {
        *self.nodes[node].knobs.frozen.lock().unwrap() = frozen;
        self.nodes[node].knobs.thawed.notify_all();
    }

    pub fn refuse(&self, node: usize, refuses: bool) {
        self.nodes[node].knobs.refuses.store(refuses, Ordering::Relaxed);
    }

    pub fn registry_answers(&self, answers: bool) {
        self.memory.answers.send_replace(answers);
    }

    pub fn register_epoch(&self, ip: IpAddr) -> u64 {
        match self.memory.entries.borrow().get(&ip) {
            Some(Entry::Register(versioned)) => versioned.register.epoch,
            _ => 0,
        }
    }

    pub fn was_released(&self, ip: IpAddr, epoch: u64) -> bool {
        assert!(self.memory.entries.borrow().contains_key(&ip));
        let history = self.memory.history.lock().unwrap();
        history.iter().any(|register| register.released && register.epoch == epoch)
    }

    pub fn contest(&self, node: usize, ip: IpAddr) {
        self.nodes[node].platform_events.blocking_send(PlatformEvent::Contested(ip)).unwrap();
    }

    pub fn send_garbage(&self, node: usize) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for garbage in [&b""[..], b"SV\x01\x02", &[0x53; 1400]] {
            socket.send_to(garbage, self.handle(node).listens().unwrap()).unwrap();
        }
    }

    /// Nobody ever answered beside another.
    pub fn finish(mut self) {
        for node in &mut self.nodes {
            drop(node.handle.take());
        }
        self.relays.store(false, Ordering::Relaxed);
        let crimes = self.air.crimes.lock().unwrap();
        assert!(crimes.is_empty(), "two holders: {crimes:#?}");
    }
}

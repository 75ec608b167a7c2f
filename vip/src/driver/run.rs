//! The driver's loop: the deadlines, then one thing that has happened, and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::address::Address;
use super::handle::Command;
use super::peers::Peers;
use super::{Members, Parts, PlatformEvent, clock};
use crate::config::VipConfig;
use crate::eligibility::{Check, Eligibility, Thresholds};
use crate::identity::{BootId, GatewayId};
use crate::lease::{Entries, Lease};
use crate::machine::{DropReason, Event, Wish};
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::peer::{Body, LastWords, MAX_MESSAGE_BYTES, Message};
use crate::placement::Rebalancer;

/// Datagrams that are read before the deadlines are looked at again.
const DATAGRAMS_AT_ONCE: usize = 64;
/// A name that two processes have is complained about this often.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// What the thread starts with.
pub(super) struct Seed {
    pub parts: Parts,
    pub boot: BootId,
    pub socket: Option<StdUdpSocket>,
    pub metrics: Arc<Metrics>,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub last_words: watch::Sender<LastWords>,
}

/// An answer of the registry for the machine of an address.
pub(super) type Answer = (IpAddr, Event);

/// Everything but the inputs.
pub(super) struct Driver {
    pub me: GatewayId,
    pub boot: BootId,
    pub config: VipConfig,
    pub lease: Arc<dyn Lease>,
    pub platform: Box<dyn super::Platform>,
    pub peers: Peers,
    pub metrics: Arc<Metrics>,
    pub answers: mpsc::UnboundedSender<Answer>,
    last_words: watch::Sender<LastWords>,
    addresses: BTreeMap<IpAddr, Address>,
    eligibility: Eligibility,
    pub draining: bool,
    /// From when on it ends in any case.
    ends: Option<Moment>,
    next_greeting: Moment,
    rebalancer: Option<Rebalancer>,
    complained: Option<Moment>,
}

/// What the loop waits for.
struct Inputs {
    commands: mpsc::UnboundedReceiver<Command>,
    answers: mpsc::UnboundedReceiver<Answer>,
    platform_events: mpsc::Receiver<PlatformEvent>,
    members: watch::Receiver<Members>,
    entries: watch::Receiver<Entries>,
}

/// Until it is told to stop or nobody can tell it any more.
pub(super) async fn run(seed: Seed) {
    let Seed { parts, boot, socket, metrics, commands, last_words } = seed;
    let socket = match socket.map(into_tokio).transpose() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "virtual IPs: the peers' socket cannot be used");
            return;
        }
    };
    let (sender, answers) = mpsc::unbounded_channel();
    let mut inputs = Inputs {
        commands,
        answers,
        platform_events: parts.platform_events,
        entries: parts.lease.watch(),
        members: parts.members,
    };
    inputs.members.mark_changed();
    inputs.entries.mark_changed();
    let now = clock::now();
    let mut driver = Driver {
        peers: Peers::new(parts.id.clone(), boot, &parts.config.peer_key, socket, parts.config.timing.lease),
        addresses: addresses(&parts.id, boot, &parts.config, &metrics, now),
        rebalancer: parts.config.preempt.then(|| Rebalancer::new(parts.config.rebalance_every, now)),
        eligibility: eligibility(&parts.checks, &metrics),
        me: parts.id,
        boot,
        config: parts.config,
        lease: parts.lease,
        platform: parts.platform,
        metrics,
        answers: sender,
        last_words,
        draining: false,
        ends: None,
        next_greeting: now,
        complained: None,
    };
    while !driver.has_ended() {
        driver.meet_deadlines();
        driver.wait(&mut inputs).await;
    }
    driver.let_go();
}

fn into_tokio(socket: StdUdpSocket) -> std::io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn addresses(
    me: &GatewayId,
    boot: BootId,
    config: &VipConfig,
    metrics: &Metrics,
    now: Moment,
) -> BTreeMap<IpAddr, Address> {
    let made = config.addresses.iter().filter_map(|address| {
        let cells = metrics.address(address.ip)?;
        Some((address.ip, Address::new(address.clone(), me, boot, config, cells, now)))
    });
    made.collect()
}

fn eligibility(checks: &[(Check, Thresholds)], metrics: &Metrics) -> Eligibility {
    let mut eligibility = Eligibility::default();
    for (check, thresholds) in checks {
        eligibility.require(*check, *thresholds);
        metrics.set_eligible(*check, false);
    }
    eligibility
}

impl Driver {
    /// All machines whose time has come, then what is announced and said at times.
    fn meet_deadlines(&mut self) {
        let now = clock::now();
        let due = self.addresses.iter().filter(|(_, address)| address.wake.is_some_and(|wake| wake <= now));
        for ip in due.map(|(ip, _)| *ip).collect::<Vec<_>>() {
            self.tell(ip, Event::Turn);
        }
        if now >= self.next_greeting {
            self.next_greeting = now + self.config.timing.silence;
            self.peers.greet_all(self.serves());
            self.look_around();
            self.rebalance();
        }
        if let Some(words) = self.peers.last_words() {
            self.last_words.send_replace(words);
        }
        for ip in self.platform.announce_due(std::time::Instant::now()) {
            if let Some(address) = self.addresses.get(&ip) {
                address.metrics.announcements.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn wait(&mut self, inputs: &mut Inputs) {
        let wake = self.addresses.values().filter_map(|address| address.wake);
        let wake = wake.chain([self.next_greeting]).chain(self.ends).min().unwrap_or(self.next_greeting);
        let timer = clock::timer(wake);
        let announcement = self.platform.next_announcement().map(tokio::time::Instant::from_std);
        let timer = announcement.map_or(timer, |at| timer.min(at));
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(timer) => {}
            () = readable(self.peers.socket()) => self.receive(),
            Some((ip, event)) = inputs.answers.recv() => self.tell(ip, event),
            Ok(()) = inputs.entries.changed() => {
                let entries = inputs.entries.borrow_and_update().clone();
                self.learn(&entries);
            }
            // Nothing is obeyed any more once it ends, not even again and again that nobody is there.
            command = inputs.commands.recv(), if self.ends.is_none() => self.obey(command.unwrap_or(Command::Stop)),
            Some(event) = inputs.platform_events.recv() => self.hear(event),
            Ok(()) = inputs.members.changed() => {
                let members = inputs.members.borrow_and_update().clone();
                self.peers.set_members(members, clock::now());
                self.peers.greet_all(self.serves());
                self.look_around();
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; MAX_MESSAGE_BYTES + 1];
        for _ in 0..DATAGRAMS_AT_ONCE {
            let received = self.peers.socket().map(|socket| socket.try_recv_from(&mut buffer));
            let Some(Ok((length, from))) = received else { return };
            // Read after the message has arrived: grants are promises from then on.
            let now = clock::now();
            let known = self.peers.serving(now).count();
            match self.peers.receive(&buffer[..length], from, now) {
                Ok(Some(message)) => self.take(message),
                Ok(None) => {}
                Err(_) => {
                    self.metrics.messages_refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            if self.peers.serving(now).count() != known {
                self.look_around();
            }
        }
    }

    fn take(&mut self, message: Message) {
        let (from, boot) = (message.from, message.from_boot);
        match message.body {
            Body::Hello => {}
            Body::Heartbeat { ip, epoch, beat } => {
                self.tell(ip, Event::Heartbeat { from, boot, epoch, seq: beat });
            }
            // It names this run: the inbox passes on no other.
            Body::Grant { ip, epoch, beat } => {
                self.tell(ip, Event::Granted { from, boot: self.boot, epoch, seq: beat });
            }
            Body::Refuse { ip, epoch, .. } => self.tell(ip, Event::Refused { epoch }),
            Body::Ended => {
                tracing::info!(gateway = %from, "a gateway has ended and answers for no virtual IP, says its guard");
                for ip in self.addresses.keys().copied().collect::<Vec<_>>() {
                    self.tell(ip, Event::Ended { from: from.clone(), boot });
                }
            }
        }
    }

    fn learn(&mut self, entries: &Entries) {
        for ip in self.addresses.keys().copied().collect::<Vec<_>>() {
            self.tell(ip, Event::Watched(entries.get(&ip).cloned()));
        }
    }

    fn hear(&mut self, event: PlatformEvent) {
        match event {
            PlatformEvent::Contested(ip) => {
                // Of one that is not held here it is its holder's announcement.
                if let Some(address) = self.addresses.get(&ip).filter(|address| address.is_held()) {
                    address.metrics.conflicts.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%ip, "another machine answers for this virtual IP");
                    self.tell(ip, Event::Contested);
                }
            }
            PlatformEvent::Carrier(up) => {
                self.report(Check::Carrier, up);
                let held = self.addresses.iter().filter(|(_, address)| address.is_held());
                for ip in held.map(|(ip, _)| *ip).filter(|_| up).collect::<Vec<_>>() {
                    self.platform.announce_again(ip);
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Report { check, passed } => self.report(check, passed),
            Command::Drain { draining } => {
                self.draining = draining;
                self.standing_changed();
            }
            Command::Move { ip, to, reply } => {
                // Whoever asked may be gone.
                let _ = reply.send(self.hand_over(ip, to, DropReason::Moved));
            }
            Command::List { reply } => {
                let now = clock::now();
                let _ = reply.send(self.addresses.values().map(|address| address.status(now)).collect());
            }
            Command::Stop => {
                let patience = self.config.timing.registry_lease / 2;
                self.ends.get_or_insert(clock::now() + patience);
                self.standing_changed();
            }
        }
    }

    fn report(&mut self, check: Check, passed: bool) {
        let changed = self.eligibility.report(check, passed);
        for (check, good) in self.eligibility.verdicts() {
            self.metrics.set_eligible(check, good);
        }
        if changed {
            self.standing_changed();
        }
    }

    /// Peers learn at once: they may be waiting for it.
    fn standing_changed(&mut self) {
        self.peers.greet_all(self.serves());
        self.look_around();
    }

    /// This gateway could take over.
    pub(super) fn serves(&self) -> bool {
        self.eligibility.is_eligible() && !self.draining && self.ends.is_none()
    }

    /// Tells all machines whom there is and what is wanted.
    fn look_around(&mut self) {
        let now = clock::now();
        let wish = self.wish(now);
        let serving = self.peers.serving(now).cloned().collect::<BTreeSet<_>>();
        let names = Arc::new(self.peers.names());
        for ip in self.addresses.keys().copied().collect::<Vec<_>>() {
            let Some(address) = self.addresses.get_mut(&ip) else { continue };
            let events = address.look_around(wish, &serving, &names, &self.peers);
            for event in events {
                self.tell(ip, event);
            }
        }
    }

    fn wish(&mut self, now: Moment) -> Wish {
        if self.peers.has_namesake(now) {
            if self.complained.is_none_or(|at| now.since(at) >= COMPLAINTS) {
                self.complained = Some(now);
                self.metrics.namesakes.fetch_add(1, Ordering::Relaxed);
                tracing::error!(id = %self.me, "another process has this gateway.id; no virtual IPs here until one of them is changed");
            }
            return Wish::Leave;
        }
        match (self.ends, self.serves()) {
            (Some(_), _) => Wish::Leave,
            (None, true) => Wish::Hold,
            (None, false) => Wish::Yield,
        }
    }

    fn hand_over(&mut self, ip: IpAddr, to: GatewayId, why: DropReason) -> Result<(), super::CommandError> {
        let now = clock::now();
        let address = self.addresses.get(&ip).ok_or(super::CommandError::UnknownAddress(ip))?;
        let serves = self.peers.serves_since(&to, now).is_some();
        address.may_move(&to, serves)?;
        self.tell(ip, Event::HandOver { successor: Some(to), why });
        Ok(())
    }

    fn rebalance(&mut self) {
        let Some(rebalancer) = &mut self.rebalancer else { return };
        let now = clock::now();
        let move_one =
            self.addresses.iter().filter(|(_, address)| address.is_held()).find_map(|(ip, address)| {
                let since = |gateway: &GatewayId| self.peers.serves_since(gateway, now);
                Some((*ip, rebalancer.target(&address.order, &self.me, since, now)?))
            });
        if let Some((ip, to)) = move_one {
            tracing::info!(%ip, %to, "virtual IP goes back to where it belongs");
            let _ = self.hand_over(ip, to, DropReason::Rebalanced);
        }
    }

    /// One event for one machine, and everything that follows from it.
    pub(super) fn tell(&mut self, ip: IpAddr, event: Event) {
        // Out of the map for as long as it acts on the rest of the driver.
        let Some(mut address) = self.addresses.remove(&ip) else { return };
        address.tell(event, self);
        self.addresses.insert(ip, address);
    }

    fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| {
            clock::now() >= ends || self.addresses.values().all(|address| !address.is_registered())
        })
    }

    fn let_go(&mut self) {
        for (ip, address) in &self.addresses {
            if let Err(error) = self.platform.release(*ip) {
                tracing::error!(%ip, error = &error as &dyn std::error::Error, "virtual IP stays until its lease ends");
            }
            address.metrics.holding.store(false, Ordering::Relaxed);
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error shows when it is read.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

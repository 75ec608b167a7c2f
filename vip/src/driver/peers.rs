//! The other gateways: where they are, whether they are heard, what is said to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::Members;
use crate::identity::{BootId, GatewayId};
use crate::moment::Moment;
use crate::peer::{Body, Inbox, LastWord, LastWords, Message, MessageError, PeerKey, Verdict};

/// Another gateway.
#[derive(Debug, Clone)]
struct Peer {
    address: SocketAddr,
    heard: Option<Moment>,
    /// Since when it says that it could take over.
    serves_since: Option<Moment>,
}

/// All of them, and the socket.
pub(super) struct Peers {
    me: GatewayId,
    boot: BootId,
    key: PeerKey,
    socket: Option<UdpSocket>,
    inbox: Inbox,
    known: BTreeMap<GatewayId, Peer>,
    members: Members,
    seq: u64,
    /// One that is silent for longer is not there.
    patience: Duration,
    /// A message of another process of this name.
    namesake: Option<Moment>,
    /// Whom last words are for is not whom they were written for.
    moved: bool,
}

impl Peers {
    pub fn new(me: GatewayId, boot: BootId, key: &[u8], socket: Option<UdpSocket>, lease: Duration) -> Self {
        Self {
            inbox: Inbox::new(me.clone(), boot),
            me,
            boot,
            key: PeerKey::new(key),
            socket,
            known: BTreeMap::new(),
            members: Members::default(),
            seq: 0,
            patience: lease * 2,
            namesake: None,
            moved: false,
        }
    }

    pub fn socket(&self) -> Option<&UdpSocket> {
        self.socket.as_ref()
    }

    pub fn set_members(&mut self, members: Members, now: Moment) {
        for (gateway, member) in members.iter().filter(|(gateway, _)| **gateway != self.me) {
            let unheard = Peer { address: member.address, heard: None, serves_since: None };
            self.known.entry(gateway.clone()).or_insert(unheard).address = member.address;
        }
        self.members = members;
        self.moved = true;
        self.known.retain(|gateway, peer| {
            self.members.contains_key(gateway)
                || peer.heard.is_some_and(|heard| now.since(heard) < self.patience)
        });
    }

    /// A datagram: what of it the machines should know.
    ///
    /// # Errors
    /// For what no peer would send.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        from: SocketAddr,
        now: Moment,
    ) -> Result<Option<Message>, MessageError> {
        let message = Message::decode(bytes, &self.key)?;
        match self.inbox.judge(&message) {
            Verdict::Ignore => Ok(None),
            Verdict::Greet => {
                self.send_to(from, &message.from, message.from_boot, Body::Hello, false);
                Ok(None)
            }
            Verdict::Namesake => {
                self.namesake = Some(now);
                Ok(None)
            }
            Verdict::News | Verdict::NewRun if message.body == Body::Ended => {
                self.bury(&message);
                Ok(Some(message))
            }
            verdict @ (Verdict::News | Verdict::NewRun) => {
                self.hear(&message, from, now, verdict == Verdict::NewRun);
                Ok(Some(message))
            }
        }
    }

    fn hear(&mut self, message: &Message, from: SocketAddr, now: Moment, new_run: bool) {
        self.moved |= new_run;
        let unheard = Peer { address: from, heard: None, serves_since: None };
        let peer = self.known.entry(message.from.clone()).or_insert(unheard);
        let lost = peer.heard.is_none_or(|heard| now.since(heard) >= self.patience);
        if new_run || lost || !message.serves {
            peer.serves_since = None;
        }
        peer.heard = Some(now);
        if message.serves {
            peer.serves_since.get_or_insert(now);
        }
    }

    /// It cannot take over any more.
    fn bury(&mut self, message: &Message) {
        if self.inbox.run_of(&message.from) == message.from_boot
            && let Some(peer) = self.known.get_mut(&message.from)
        {
            (peer.heard, peer.serves_since) = (None, None);
        }
    }

    /// What the guard is to tell each peer once this run has ended, if it is not what it was told to last.
    pub fn last_words(&mut self) -> Option<LastWords> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        let words = self.known.iter().filter_map(|(gateway, peer)| {
            let to_boot = self.inbox.run_of(gateway);
            let message = Message {
                from: self.me.clone(),
                from_boot: self.boot,
                to: gateway.clone(),
                to_boot,
                // After whatever this run says itself.
                seq: u64::MAX,
                serves: false,
                body: Body::Ended,
            };
            (to_boot != BootId::NONE)
                .then(|| LastWord { to: peer.address, datagram: message.encode(&self.key) })
        });
        Some(LastWords(words.collect()))
    }

    /// Another process with this gateway's name was heard within the last few leases.
    pub fn has_namesake(&self, now: Moment) -> bool {
        self.namesake.is_some_and(|at| now.since(at) < self.patience * 5)
    }

    /// All that are asked for grants.
    pub fn names(&self) -> BTreeSet<GatewayId> {
        self.known.keys().cloned().collect()
    }

    /// A gateway's share of an address, as it is registered.
    pub fn weight(&self, gateway: &GatewayId, ip: IpAddr) -> u32 {
        self.members.get(gateway).and_then(|member| member.weights.get(&ip)).copied().unwrap_or(1)
    }

    /// Since when a gateway is heard and says that it could take over.
    pub fn serves_since(&self, gateway: &GatewayId, now: Moment) -> Option<Moment> {
        let peer = self.known.get(gateway)?;
        let heard = peer.heard.is_some_and(|heard| now.since(heard) < self.patience);
        heard.then_some(peer.serves_since).flatten()
    }

    pub fn serving(&self, now: Moment) -> impl Iterator<Item = &GatewayId> {
        self.known.keys().filter(move |gateway| self.serves_since(gateway, now).is_some())
    }

    pub fn greet_all(&mut self, serves: bool) {
        let mut targets =
            self.known.iter().map(|(gateway, peer)| (gateway.clone(), peer.address)).collect::<Vec<_>>();
        // Another machine registered under this name: if somebody answers there, the name is taken twice.
        let own = self.socket.as_ref().and_then(|socket| socket.local_addr().ok());
        let namesake = self.members.get(&self.me).map(|member| member.address).filter(|at| Some(*at) != own);
        targets.extend(namesake.map(|at| (self.me.clone(), at)));
        for (gateway, address) in targets {
            let run = self.inbox.run_of(&gateway);
            self.send_to(address, &gateway, run, Body::Hello, serves);
        }
    }

    /// A heartbeat; not before it is known which run of the peer it is for.
    pub fn ask(&mut self, gateway: &GatewayId, body: Body, serves: bool) {
        let run = self.inbox.run_of(gateway);
        let Some(peer) = self.known.get(gateway) else { return };
        let address = peer.address;
        if run == BootId::NONE {
            self.send_to(address, gateway, run, Body::Hello, serves);
        } else {
            self.send_to(address, gateway, run, body, serves);
        }
    }

    /// An answer, to the run that asked.
    pub fn reply(&mut self, gateway: &GatewayId, run: BootId, body: Body, serves: bool) {
        let Some(peer) = self.known.get(gateway) else { return };
        self.send_to(peer.address, gateway, run, body, serves);
    }

    /// Lost if the socket's buffer is full: the next heartbeat is due soon.
    fn send_to(&mut self, address: SocketAddr, to: &GatewayId, to_boot: BootId, body: Body, serves: bool) {
        self.seq += 1;
        let (from, from_boot) = (self.me.clone(), self.boot);
        let seq = self.seq;
        let message = Message { from, from_boot, to: to.clone(), to_boot, seq, serves, body };
        if let Some(socket) = &self.socket {
            let _ = socket.try_send_to(&message.encode(&self.key), address);
        }
    }
}

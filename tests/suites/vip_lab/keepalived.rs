//! The same faults on Debian's keepalived, to compare with: three hosts, one address, a service that answers on each.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tests::{DEADLINE, Host, Program, Switch, eventually, yields};
use vip::net::Mac;

use crate::faults::Fault;
use crate::lab::{CLIENT, GATEWAYS, PORT, address, children_of, name, vip};
use crate::witness::Witness;

/// It has no proxy that could die without it.
pub const FAULTS: [Fault; 5] = [Fault::Kill, Fault::Stop, Fault::LinkDown, Fault::Cut, Fault::Terminate];

struct Member {
    program: Option<Program>,
    /// Its service is dead or stopped, as what it runs beside.
    silent: Arc<AtomicBool>,
    host: Host,
    folder: TempDir,
}

pub struct Lab {
    service: Witness<String>,
    link: Witness<Mac>,
    members: Vec<Member>,
    switch: Switch,
    /// Seconds between advertisements.
    every: &'static str,
}

pub struct Round {
    pub downtime: Duration,
    /// More than one answered ARP or datagrams.
    pub doubled: bool,
}

impl Lab {
    pub fn start(every: &'static str) -> Self {
        let switch = Switch::new();
        let client = switch.host("client", &[&format!("{CLIENT}/24")]);
        let members = (0..GATEWAYS).map(|at| member(&switch, at)).collect();
        let mut lab = Self {
            service: Witness::of_service(&client, SocketAddr::from((vip(0), PORT))),
            link: Witness::of_link(&client, vip(0), CLIENT),
            members,
            switch,
            every,
        };
        (0..GATEWAYS).for_each(|at| lab.launch(at));
        lab
    }

    fn launch(&mut self, at: usize) {
        let (every, ip) = (self.every, vip(0));
        let member = &mut self.members[at];
        // Equal but for the order in which they come first, and whoever has it keeps it: as virtual IPs here.
        let config = format!(
            "global_defs {{\n vrrp_version 3\n router_id {}\n}}\n\
             vrrp_instance lab {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority {}\n \
             advert_int {every}\n virtual_ipaddress {{\n  {ip}/24\n }}\n}}\n",
            name(at),
            100 - at,
        );
        let file = member.folder.path().join("keepalived.conf");
        std::fs::write(&file, config).expect("the folder is ours");
        let pid_file = |name: &str| member.folder.path().join(name);
        // What was killed leaves its own.
        ["pid", "vrrp.pid"].iter().for_each(|name| drop(std::fs::remove_file(pid_file(name))));
        let mut command = member.host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file);
        command.arg("--pid").arg(pid_file("pid")).arg("--vrrp_pid").arg(pid_file("vrrp.pid"));
        member.program = Some(Program::start(&mut command));
        member.silent.store(false, Ordering::Relaxed);
    }

    fn signal(&mut self, at: usize, signal: Signal) {
        let program = self.members[at].program.as_ref().expect("it runs");
        let children = children_of(program.pid());
        // First, or it starts another child.
        program.signal(signal);
        for child in children.into_iter().filter(|_| signal != Signal::TERM) {
            // It may end with its parent.
            kill_process(child, signal).ok();
        }
    }

    fn begin(&mut self, fault: Fault, at: usize) {
        let silent = matches!(fault, Fault::Kill | Fault::KillProxy | Fault::Stop);
        self.members[at].silent.store(silent, Ordering::Relaxed);
        match fault {
            Fault::Kill | Fault::KillProxy => self.signal(at, Signal::KILL),
            Fault::Stop => self.signal(at, Signal::STOP),
            Fault::LinkDown => self.switch.pull(&self.members[at].host),
            Fault::Cut => self.switch.cut(&self.members[at].host),
            Fault::Terminate => self.signal(at, Signal::TERM),
        }
    }

    fn end(&mut self, fault: Fault, at: usize) {
        match fault {
            Fault::Kill | Fault::KillProxy | Fault::Terminate => {
                let ended = self.members[at].program.as_mut().expect("it ran");
                eventually(DEADLINE, "it has ended", || ended.exited().is_some());
                self.launch(at);
            }
            Fault::Stop => {
                self.members[at].silent.store(false, Ordering::Relaxed);
                self.signal(at, Signal::CONT);
            }
            Fault::LinkDown => self.switch.plug(&self.members[at].host),
            Fault::Cut => self.switch.mend(&self.members[at].host),
        }
    }

    /// Who alone answers.
    fn settled(&self) -> usize {
        yields(DEADLINE * 4, "one answers, and nobody else", || {
            self.service.clear();
            self.link.clear();
            eventually(DEADLINE * 4, "the client is answered", || {
                self.service.count() >= 100 && self.link.count() >= 100
            });
            let (alone, first) = (self.service.changes() == 0, self.service.seen().into_iter().next()?.1);
            let holder = (0..GATEWAYS).find(|at| name(*at) == first)?;
            (alone && self.link.changes() == 0).then_some(holder)
        })
    }

    pub fn round(&mut self, fault: Fault) -> Round {
        let holder = self.settled();
        let (old, mac) = (name(holder), self.members[holder].host.mac());
        self.begin(fault, holder);
        eventually(DEADLINE * 2, &format!("somebody else answers after {}", fault.name()), || {
            self.service.has_heard(|name| *name != old) && self.link.has_heard(|heard| *heard != mac)
        });
        let (service, link) = (self.service.count(), self.link.count());
        eventually(DEADLINE, "the client is answered", || {
            self.service.count() >= service + 20 && self.link.count() >= link + 20
        });
        let downtime = self.service.downtime().expect("somebody else has answered");
        let doubled = self.service.changes() > 1 || self.link.changes() > 1;
        self.end(fault, holder);
        Round { downtime, doubled }
    }
}

fn member(switch: &Switch, at: usize) -> Member {
    let host = switch.host(&name(at), &[&format!("{}/24", address(at))]);
    let silent = Arc::new(AtomicBool::new(false));
    let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("nobody else is there"));
    let is_silent = silent.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            if !is_silent.load(Ordering::Relaxed) {
                socket.send_to(name(at).as_bytes(), from).ok();
            }
        }
    });
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    Member { program: None, silent, host, folder }
}

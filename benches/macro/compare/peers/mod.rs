//! Who is compared. Each has one worker, listens for HTTP, TLS and TCP, and forwards everything to the one endpoint.

mod haproxy;
mod nginx;
mod pingora;
mod sluice;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use benches::cores;
use tests::{HeldPort, Response, Wire};

use super::process::Process;
use super::site::{HOST, Site};
use super::workload::{self, Workload};

/// An answer takes far less; a peer that is not ready yet refuses or drops a connection.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// For how long a peer may leave a connection alone: longer than any run.
const NEVER: &str = "1h";
/// Longer than any queue of new connections here.
const BACKLOG: u32 = 4096;
/// Idle connections that a peer may keep to the endpoint: one for each client of the largest load.
const POOL: u32 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Nginx,
    Haproxy,
    Pingora,
    Sluice,
}

/// Whose turns a table shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    pub name: String,
    kind: Kind,
    /// Another build than the usual one.
    binary: Option<PathBuf>,
}

/// Where a peer listens. The numbers stay ours as long as this lives.
pub struct Ports {
    pub http: HeldPort,
    pub https: HeldPort,
    pub tcp: HeldPort,
}

/// What a peer's files need to say.
struct Setup<'a> {
    site: &'a Site,
    ports: &'a Ports,
    folder: PathBuf,
    access_log: bool,
    binary: Option<&'a PathBuf>,
}

/// A contender that runs.
pub struct Peer {
    pub ports: Ports,
    process: Process,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Pingora => "pingora",
            Self::Sluice => "sluice",
        })
    }
}

impl Contender {
    pub fn new(kind: Kind) -> Self {
        Self { name: kind.to_string(), kind, binary: None }
    }

    /// One more build of Sluice.
    pub fn build(name: &str, binary: PathBuf) -> Self {
        Self { name: name.to_owned(), kind: Kind::Sluice, binary: Some(binary) }
    }

    /// Why it sits a workload out.
    pub fn lacks(&self, workload: &Workload) -> Option<&'static str> {
        let is_logging = workload.name == workload::ACCESS_LOG;
        (is_logging && self.kind == Kind::Pingora).then_some("it has no access log of its own")
    }

    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(&self, site: &Site, access_log: Option<bool>) -> anyhow::Result<Peer> {
        let ports = Ports { http: HeldPort::tcp(), https: HeldPort::tcp(), tcp: HeldPort::tcp() };
        let suffix = match access_log {
            None => "",
            Some(false) => "-without-log",
            Some(true) => "-with-log",
        };
        let folder = site.folder(&format!("{}{suffix}", self.name))?;
        let output = folder.join("output");
        let access_log = access_log.unwrap_or(false);
        let setup = Setup { site, ports: &ports, folder, access_log, binary: self.binary.as_ref() };
        let mut command = match self.kind {
            Kind::Nginx => nginx::command(&setup)?,
            Kind::Haproxy => haproxy::command(&setup)?,
            Kind::Pingora => pingora::command(&setup),
            Kind::Sluice => sluice::command(&setup)?,
        };
        let mut process = Process::start(&mut command, cores::PROXY, &output)?;
        process.wait_until(&format!("{} answers", self.name), || is_answering(&ports))?;
        Ok(Peer { ports, process })
    }
}

impl Peer {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn is_answering(ports: &Ports) -> bool {
    let answer = Wire::connect(ports.http.address(), FIRST_ANSWER).and_then(|mut wire| {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
        Response::read(&mut wire, "GET")
    });
    let listens = |port: &HeldPort| Wire::connect(port.address(), FIRST_ANSWER).is_ok();
    answer.is_ok_and(|answer| answer.status == 200) && listens(&ports.https) && listens(&ports.tcp)
}

/// Compiles the pingora peer where it is asked for and not there.
///
/// # Errors
/// When that fails.
pub fn build(contenders: &[Contender]) -> anyhow::Result<()> {
    if contenders.iter().any(|contender| contender.kind == Kind::Pingora) { pingora::build() } else { Ok(()) }
}

/// Programs that the contenders need, whatever else is needed.
pub fn programs(contenders: &[Contender]) -> Vec<&'static str> {
    let program = |contender: &Contender| match contender.kind {
        Kind::Haproxy => Some("haproxy"),
        // For a compression library that its crates bring along in C.
        Kind::Pingora => Some("cmake"),
        Kind::Nginx | Kind::Sluice => None,
    };
    contenders.iter().filter_map(program).collect()
}

/// Of all that Sluice is compared with.
pub fn versions(contenders: &[Contender]) -> BTreeMap<&'static str, String> {
    let version = |contender: &Contender| match contender.kind {
        Kind::Nginx => Some(("nginx", nginx::version())),
        Kind::Haproxy => Some(("HAProxy", haproxy::version())),
        Kind::Pingora => Some(("pingora-proxy", pingora::version())),
        Kind::Sluice => None,
    };
    contenders.iter().filter_map(version).collect()
}

/// The first line of what a program says about itself, on either output.
pub fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("?").trim().to_owned()
}

//! Real ZooKeeper servers: Debian's, in processes of their own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::DEADLINE;
use crate::data::Data;
use crate::eventually::yields;
use crate::port::HeldPort;

/// Its manifest names what it needs, all but one: the server that speaks TLS needs Netty's codecs too.
const JARS: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar";
/// Sessions last from 2 to 20 ticks: 400 ms to 4 s.
const TICK_MILLIS: u32 = 200;
/// Tests run several servers at once, with little in them.
const SMALL_HEAP: &str = "128m";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The server's data lives as long as this value, through any number of [`ZooKeeperServer::kill`]s.
pub struct ZooKeeperServer {
    folder: TempDir,
    /// Where it listens: the loopback, or an address of the network namespace that it runs in.
    ip: IpAddr,
    /// Nobody else is given it, also while the server is down.
    port: HeldPort,
    tls: Option<HeldPort>,
    /// Its number in an ensemble, from 1.
    number: Option<usize>,
    /// What Java may use, as its `-Xmx` has it.
    heap: &'static str,
    child: Option<Child>,
}

/// Where the members of an ensemble talk to each other.
type PeerPorts = (HeldPort, HeldPort);

impl ZooKeeperServer {
    /// Returns when the server answers.
    ///
    /// # Panics
    /// When ZooKeeper is not installed or does not start.
    pub fn start() -> Self {
        Self::start_at(LOOPBACK)
    }

    /// As [`Self::start`], at an address of the network namespace that the calling thread is in.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_at(ip: IpAddr) -> Self {
        let mut server = Self::prepare(ip, None);
        server.configure("");
        server.restart();
        server
    }

    /// As [`Self::start`], for a hundred thousand nodes and more. `heap` is what `-Xmx` takes.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with_heap(heap: &'static str) -> Self {
        let mut server = Self::prepare(LOOPBACK, None);
        server.heap = heap;
        server.configure("");
        server.restart();
        server
    }

    /// With a port for TLS besides, at which clients need a certificate of `ca`; `pem` is the server's own
    /// chain and key.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with_tls(pem: &str, ca: &Path) -> Self {
        let mut server = Self::prepare(LOOPBACK, None);
        let (port, own) = (HeldPort::tcp(), server.folder.path().join("server.pem"));
        fs::write(&own, pem).expect("the folder is ours");
        server.configure(&format!(
            "secureClientPort={}\n\
             secureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.type=PEM\nssl.keyStore.location={}\n\
             ssl.trustStore.type=PEM\nssl.trustStore.location={}\n",
            port.port(),
            own.display(),
            ca.display(),
        ));
        server.tls = Some(port);
        server.restart();
        server
    }

    /// So many members of one ensemble. Returns when all serve.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn ensemble(size: usize) -> (Vec<Self>, Vec<PeerPorts>) {
        Self::ensemble_at(LOOPBACK, size)
    }

    /// As [`Self::ensemble`], at an address of the network namespace that the calling thread is in.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn ensemble_at(ip: IpAddr, size: usize) -> (Vec<Self>, Vec<PeerPorts>) {
        let ports: Vec<PeerPorts> = (0..size).map(|_| (HeldPort::tcp(), HeldPort::tcp())).collect();
        // Ticks: 10 s to come together, 5 s to fall behind.
        let mut text = "initLimit=50\nsyncLimit=25\n".to_owned();
        for (at, (peers, election)) in ports.iter().enumerate() {
            writeln!(text, "server.{}=127.0.0.1:{}:{}", at + 1, peers.port(), election.port())
                .expect("a string grows");
        }
        let mut members: Vec<_> = (1..=size).map(|number| Self::prepare(ip, Some(number))).collect();
        for member in &mut members {
            member.configure(&text);
            member.spawn();
        }
        members.iter_mut().for_each(Self::wait);
        (members, ports)
    }

    fn prepare(ip: IpAddr, number: Option<usize>) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Self { folder, ip, port: HeldPort::tcp(), tls: None, number, heap: SMALL_HEAP, child: None }
    }

    /// Where it speaks TLS.
    ///
    /// # Panics
    /// When it was not started with TLS.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls.as_ref().expect("it speaks TLS").address()
    }

    /// Whether this member leads its ensemble.
    pub fn leads(&self) -> bool {
        ask(self.address(), "srvr").is_ok_and(|answer| answer.contains("Mode: leader"))
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.port())
    }

    /// Ends the server as a crash does. What clients were told is on disk.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL also ends a process that is stopped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again, at the same address and on the same data, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.wait();
    }

    /// As [`Self::restart`], for members of which one alone does not serve.
    ///
    /// # Panics
    /// When one of them does not answer.
    pub fn restart_together(mut servers: Vec<&mut Self>) {
        for server in &mut servers {
            server.kill();
            server.spawn();
        }
        servers.into_iter().for_each(Self::wait);
    }

    /// Ends the server, whose disk then loses all that it had. With every member of an ensemble, since the others
    /// would give it back.
    pub fn lose_data(&mut self) {
        self.kill();
        self.data().lose();
    }

    /// Ends the server and keeps a copy of what it has on disk.
    pub fn keep_data(&mut self) {
        self.kill();
        self.data().keep();
    }

    /// Ends the server, which then has on disk what it had when it was kept. With every member of an ensemble.
    ///
    /// # Panics
    /// When nothing was kept.
    pub fn return_to_kept(&mut self) {
        self.kill();
        self.data().go_back();
    }

    fn data(&self) -> Data {
        let folder = self.folder.path();
        Data::new(folder.join("data/version-2"), folder.join("kept"))
    }

    fn spawn(&mut self) {
        let main = match self.number {
            Some(_) => "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            None => "org.apache.zookeeper.server.ZooKeeperServerMain",
        };
        let log = File::create(self.folder.path().join("log")).expect("the folder is ours");
        let child = Command::new("java")
            // A quick start.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg(format!("-Xmx{}", self.heap))
            // A slow disk must not look like a dead server: what is tested survives no power cut.
            .args(["-Dzookeeper.forceSync=no", "-cp", JARS])
            .arg(main)
            .arg(self.folder.path().join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("apt install zookeeper");
        self.child = Some(child);
    }

    fn wait(&mut self) {
        yields(DEADLINE, "ZooKeeper answers", || {
            let child = self.child.as_mut().expect("it was just started");
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("ZooKeeper ended with {status}: {log}");
            }
            // Without a majority it is alive, and says so in other words.
            let serves = ask(self.address(), "srvr").is_ok_and(|answer| answer.contains("Mode: "));
            serves.then_some(())
        });
    }

    /// Stops the process where it is: connections stay, nothing answers.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// # Panics
    /// When the server is not running.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).expect("our own child can be signalled");
    }

    /// `more`: lines of its configuration.
    fn configure(&self, more: &str) {
        let data = self.folder.path().join("data");
        fs::create_dir(&data).expect("the folder is ours");
        let text = format!(
            "tickTime={TICK_MILLIS}\n\
             dataDir={}\n\
             clientPort={}\n\
             clientPortAddress={}\n\
             admin.enableServer=false\n\
             4lw.commands.whitelist=srvr\n\
             maxClientCnxns=0\n{more}",
            data.display(),
            self.address().port(),
            self.ip,
        );
        if let Some(number) = self.number {
            fs::write(data.join("myid"), number.to_string()).expect("the folder is ours");
        }
        fs::write(self.folder.path().join("zoo.cfg"), text).expect("the folder is ours");
    }
}

impl Drop for ZooKeeperServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of its words of four letters.
fn ask(address: SocketAddr, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

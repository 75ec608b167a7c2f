//! A real ZooKeeper server: Debian's, in a process of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::DEADLINE;
use crate::eventually::yields;
use crate::port::HeldPort;

/// Its manifest names what it needs.
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Sessions last from 2 to 20 ticks: 400 ms to 4 s.
const TICK_MILLIS: u32 = 200;

/// The server's data lives as long as this value, through any number of [`ZooKeeperServer::kill`]s.
pub struct ZooKeeperServer {
    folder: TempDir,
    /// Nobody else is given it, also while the server is down.
    port: HeldPort,
    child: Option<Child>,
}

impl ZooKeeperServer {
    /// Returns when the server answers.
    ///
    /// # Panics
    /// When ZooKeeper is not installed or does not start.
    pub fn start() -> Self {
        let port = HeldPort::tcp();
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut server = Self { folder, port, child: None };
        server.configure();
        server.restart();
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
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
        let log = File::create(self.folder.path().join("log")).expect("the folder is ours");
        let child = Command::new("java")
            // A quick start and a small heap: tests run several servers at once.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"])
            // A slow disk must not look like a dead server: what is tested survives no power cut.
            .args(["-Dzookeeper.forceSync=no", "-cp", JAR])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(self.folder.path().join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("apt install zookeeper");
        self.child = Some(child);
        yields(DEADLINE, "ZooKeeper answers", || {
            let child = self.child.as_mut().expect("it was just started");
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("ZooKeeper ended with {status}: {log}");
            }
            is_ok(self.address()).then_some(())
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

    fn configure(&self) {
        let data = self.folder.path().join("data");
        fs::create_dir(&data).expect("the folder is ours");
        let text = format!(
            "tickTime={TICK_MILLIS}\n\
             dataDir={}\n\
             clientPort={}\n\
             clientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n\
             4lw.commands.whitelist=ruok\n\
             maxClientCnxns=0\n",
            data.display(),
            self.address().port(),
        );
        fs::write(self.folder.path().join("zoo.cfg"), text).expect("the folder is ours");
    }
}

impl Drop for ZooKeeperServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_ok(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"ruok")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer == "imok")
}

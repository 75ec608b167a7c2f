//! Real etcd servers: Debian's, in processes of their own, and its own command as a client that is not ours.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::DEADLINE;
use crate::command::{Finished, finish};
use crate::data::Data;
use crate::eventually::yields;
use crate::port::HeldPort;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The server's data lives as long as this value, through any number of [`EtcdServer::kill`]s.
pub struct EtcdServer {
    folder: TempDir,
    name: String,
    /// Where clients reach it: the loopback, or an address of the network namespace that it runs in.
    ip: IpAddr,
    /// Nobody else is given them, also while the server is down.
    client: HeldPort,
    peer: HeldPort,
    /// All members with their peers' addresses.
    cluster: String,
    scheme: &'static str,
    arguments: Vec<String>,
    /// How etcdctl comes in.
    client_arguments: Vec<String>,
    child: Option<Child>,
}

impl EtcdServer {
    /// Returns when the server answers.
    ///
    /// # Panics
    /// When etcd is not installed or does not start.
    pub fn start() -> Self {
        Self::start_as("http", &[], &[])
    }

    /// With these arguments to the server, and those to each etcdctl. `scheme` is `http` or `https`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_as(scheme: &'static str, arguments: &[&str], client_arguments: &[&str]) -> Self {
        let mut server = Self::prepare("m0".to_owned(), scheme);
        server.cluster = server.as_member();
        server.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        server.client_arguments = client_arguments.iter().map(|&argument| argument.to_owned()).collect();
        server.restart();
        server
    }

    /// So many members of one cluster. Returns when all answer.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn cluster(size: usize) -> Vec<Self> {
        Self::cluster_at(LOOPBACK, size)
    }

    /// As [`Self::cluster`], at an address of the network namespace that the calling thread is in.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn cluster_at(ip: IpAddr, size: usize) -> Vec<Self> {
        let mut members: Vec<_> = (0..size).map(|at| Self::prepare(format!("m{at}"), "http")).collect();
        members.iter_mut().for_each(|member| member.ip = ip);
        let cluster = members.iter().map(Self::as_member).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.spawn();
        }
        members.iter_mut().for_each(Self::wait);
        members
    }

    fn prepare(name: String, scheme: &'static str) -> Self {
        Self {
            folder: TempDir::with_prefix("sluice-etcd-").expect("a folder can be made"),
            name,
            ip: LOOPBACK,
            client: HeldPort::tcp(),
            peer: HeldPort::tcp(),
            cluster: String::new(),
            scheme,
            arguments: Vec::new(),
            client_arguments: Vec::new(),
            child: None,
        }
    }

    fn as_member(&self) -> String {
        format!("{}=http://{}", self.name, self.peer.address())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.client.port())
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
        Data::new(folder.join("data"), folder.join("kept"))
    }

    fn spawn(&mut self) {
        let log = File::create(self.folder.path().join("log")).expect("the folder is ours");
        let client = format!("{}://{}", self.scheme, self.address());
        let peer = format!("http://{}", self.peer.address());
        let child = Command::new("etcd")
            .args(["--name", &self.name, "--initial-cluster", &self.cluster, "--logger", "zap"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("apt install etcd-server");
        self.child = Some(child);
    }

    fn wait(&mut self) {
        yields(DEADLINE, "etcd answers", || {
            let child = self.child.as_mut().expect("it was just started");
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("etcd ended with {status}: {log}");
            }
            (self.try_ctl(&["endpoint", "health"]).code == Some(0)).then_some(())
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

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What etcdctl prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let finished = self.try_ctl(arguments);
        assert_eq!(finished.code, Some(0), "etcdctl {arguments:?}: {}", finished.text());
        finished.stdout
    }

    pub fn try_ctl(&self, arguments: &[&str]) -> Finished {
        self.try_ctl_with(arguments, "")
    }

    /// With a value that no command line takes.
    pub fn try_ctl_with(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("{}://{}", self.scheme, self.address())])
            .args(&self.client_arguments)
            .args(arguments);
        finish(&mut command, input, DEADLINE)
    }

    /// The value at a path.
    #[track_caller]
    pub fn value(&self, path: &str) -> Option<String> {
        let printed = self.ctl(&["get", path, "--print-value-only"]);
        printed.strip_suffix('\n').map(str::to_owned)
    }

    /// The lease of a path, 0 for none; `None` when there is no such key.
    ///
    /// # Panics
    /// When etcdctl does not say.
    #[track_caller]
    pub fn lease(&self, path: &str) -> Option<i64> {
        let answer = self.ctl(&["get", path, "--write-out", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("etcdctl writes JSON");
        let pair = answer["kvs"].get(0)?;
        Some(pair.get("lease").map_or(0, |lease| lease.as_i64().expect("a lease is a number")))
    }

    /// The server's revision.
    ///
    /// # Panics
    /// When etcdctl does not say.
    #[track_caller]
    pub fn revision(&self) -> i64 {
        self.revision_of(&["get", "/"])
    }

    /// Returns the revision of the write itself: by the time that somebody asks for the latest one, a gateway may have written, too.
    ///
    /// # Panics
    /// When etcdctl cannot write it or does not say.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) -> i64 {
        self.revision_of(&["put", key, value])
    }

    #[track_caller]
    fn revision_of(&self, arguments: &[&str]) -> i64 {
        let answer = self.ctl(&[arguments, &["--write-out", "json"]].concat());
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("etcdctl writes JSON");
        answer["header"]["revision"].as_i64().expect("an answer has a revision")
    }

    /// Whether this member leads its cluster.
    ///
    /// # Panics
    /// When etcdctl does not say.
    #[track_caller]
    pub fn leads(&self) -> bool {
        let answer = self.ctl(&["endpoint", "status", "--write-out", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("etcdctl writes JSON");
        let status = &answer[0]["Status"];
        status["leader"] == status["header"]["member_id"]
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

//! Real DNS servers and a real client: Debian's BIND, `named` and `dig`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::DEADLINE;
use crate::command::finish;
use crate::eventually::yields;
use crate::port::HeldPort;
use crate::program::Program;

/// One server with its zones. What it has stays as long as this value, through any number of stops.
pub struct NameServer {
    folder: TempDir,
    port: HeldPort,
    program: Option<Program>,
}

impl Default for NameServer {
    fn default() -> Self {
        Self::new()
    }
}

impl NameServer {
    /// Where it will be, and nothing that runs.
    ///
    /// # Panics
    /// When no port is free.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("sluice-named-").expect("a temporary folder can be made");
        Self { folder, port: HeldPort::tcp_and_udp(), program: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file beside its configuration.
    ///
    /// # Panics
    /// Never: the folder is ours.
    pub fn put(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).expect("the folder is ours");
        path
    }

    /// With `zones` and keys as they stand in named.conf; returns when it answers.
    ///
    /// # Panics
    /// When BIND is not installed or does not start.
    pub fn start(&mut self, zones: &str) {
        let folder = self.folder.path().display();
        let config = format!(
            "options {{\n\
             directory \"{folder}\";\npid-file \"{folder}/named.pid\";\nsession-keyfile \"{folder}/session.key\";\n\
             managed-keys-directory \"{folder}\";\nlock-file none;\n\
             listen-on port {port} {{ 127.0.0.1; }};\nlisten-on-v6 {{ none; }};\n\
             recursion no;\ndnssec-validation no;\nnotify no;\nallow-transfer {{ none; }};\n}};\n\
             controls {{ }};\n{zones}\n",
            port = self.port.port(),
        );
        let path = self.put("named.conf", &config);
        self.restart_at(&path);
    }

    /// As it was started first.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn restart(&mut self) {
        let path = self.folder.path().join("named.conf");
        self.restart_at(&path);
    }

    fn restart_at(&mut self, path: &Path) {
        let mut command = Command::new("/usr/sbin/named");
        command.args(["-g", "-n", "1", "-c"]).arg(path);
        let program = self.program.insert(Program::start(&mut command));
        let address = self.port.address();
        program.wait_for("named answers", |_| {
            let asked = dig(address, &["version.bind", "CH", "TXT", "+time=1"]);
            asked.contains("status:").then_some(())
        });
    }

    /// In order: what it was given is on disk.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) {
        let mut program = self.program.take().expect("it runs");
        program.signal(Signal::TERM);
        yields(DEADLINE, "named ends", || program.exited());
    }
}

/// What dig prints when it asks `server`.
///
/// # Panics
/// When it is not installed.
#[track_caller]
pub fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new("dig");
    command.arg(format!("@{}", server.ip())).args([
        "-p",
        &server.port().to_string(),
        "+tries=1",
        "+norecurse",
    ]);
    command.args(arguments);
    finish(&mut command, "", DEADLINE).stdout
}

/// The data of the records that answer, sorted.
#[track_caller]
pub fn dig_short(server: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let answer = dig(server, &[arguments, &["+short"]].concat());
    let mut lines: Vec<_> = answer.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
    lines.sort();
    lines
}

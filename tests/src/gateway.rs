//! A running `sluice`.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::DEADLINE;
use crate::app::App;
use crate::client::RawClient;
use crate::config::Config;
use crate::eventually::{eventually, yields};
use crate::message::Response;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wire::Wire;

/// What a failed test prints of the gateway's own words.
const TAIL_LINES: usize = 60;

/// A command for the binary under test.
///
/// # Panics
/// When it has not been built.
pub fn sluice() -> Command {
    let path = binary();
    assert!(
        path.is_file(),
        "no sluice at {}: run `cargo build -p gateway`, or set SLUICE_BIN",
        path.display()
    );
    Command::new(path)
}

/// `target/{profile}/sluice`, from the test's own `target/{profile}/deps/{test}-{hash}`.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a process knows its own executable");
    let profile = test.parent().and_then(Path::parent).expect("cargo keeps tests two folders deep");
    profile.join("sluice")
}

pub struct Gateway {
    folder: TempDir,
    process: Process,
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
    deploy: Option<SocketAddr>,
    dns: Vec<SocketAddr>,
}

impl Gateway {
    /// Writes the files, starts the binary and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start(config: &Config) -> Self {
        Self::start_as(config, |command| command)
    }

    /// As [`Gateway::start`], by a command that `change` has made of the usual one.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn start_as(config: &Config, change: impl FnOnce(Command) -> Command) -> Self {
        let mut gateway = Self::launch(config, change);
        yields(DEADLINE, "the gateway is ready", || {
            assert!(gateway.exited().is_none(), "the gateway did not start");
            gateway.read_addresses();
            gateway.is_ready().then_some(())
        });
        gateway
    }

    /// As [`Gateway::start`], where its admin listener speaks TLS: waits until it says where that is.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start_with_tls_admin(config: &Config) -> Self {
        let mut gateway = Self::launch(config, |command| command);
        yields(DEADLINE, "the admin listener is open", || {
            assert!(gateway.exited().is_none(), "the gateway did not start");
            gateway.read_addresses();
            gateway.admin
        });
        gateway
    }

    fn launch(config: &Config, change: impl FnOnce(Command) -> Command) -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        fs::create_dir(folder.path().join("apps")).expect("the temporary folder is ours");
        for (path, contents) in &config.files {
            write(&folder.path().join(path), contents);
        }
        write(&folder.path().join("sluice.toml"), &config.render());
        let process = Process::start(&mut change(command_of(program(config), folder.path(), &["run"])));
        Self { folder, process, listeners: Vec::new(), admin: None, deploy: None, dns: Vec::new() }
    }

    /// Starts one more process with the same files, which asks this one to hand over.
    #[track_caller]
    pub fn successor(&self) -> Process {
        Process::start(&mut command(self.folder.path(), &["run", "--takeover"]))
    }

    /// Starts one more process with the same files, which does not ask.
    #[track_caller]
    pub fn intruder(&self) -> Process {
        Process::start(&mut command(self.folder.path(), &["run"]))
    }

    /// Hands over to one more process and waits until that serves. Returns the former one, which drains: dropped it is
    /// killed, with whatever clients it has left.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[track_caller]
    #[must_use = "the former process is killed when it is dropped, and its clients with it"]
    pub fn hand_over(&mut self) -> Process {
        let successor = self.successor();
        self.follow(successor)
    }

    /// As [`Gateway::hand_over`], by `sluice upgrade`, which starts the next process and ends. This process has to be
    /// a child subreaper: it becomes the next one's parent.
    ///
    /// # Panics
    /// When the upgrade fails.
    #[track_caller]
    pub fn upgrade(&mut self) -> Process {
        let mut upgrade = Process::start(&mut command(self.folder.path(), &["upgrade"]));
        let status = upgrade.wait(DEADLINE * 4);
        assert!(status.success(), "the upgrade failed with {status}:\n{}", self.output());
        let pid = yields(DEADLINE, "the next process answers", || {
            self.read_addresses();
            self.try_pid().filter(|pid| *pid != self.process.pid())
        });
        std::mem::replace(&mut self.process, Process::adopt(pid))
    }

    /// Waits until `successor` serves. Returns the former process, as [`Self::hand_over`] does.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    #[must_use = "the former process is killed when it is dropped, and its clients with it"]
    pub fn follow(&mut self, mut successor: Process) -> Process {
        eventually(DEADLINE, "the next process serves", || {
            self.read_addresses();
            assert_eq!(successor.exited(), None, "it ended:\n{}", self.output());
            self.try_pid() == Some(successor.pid())
        });
        std::mem::replace(&mut self.process, successor)
    }

    /// Whether `process`, which was started with the same files after this one was killed, is ready. From then on this is that one.
    ///
    /// # Errors
    /// `process`, where it is not ready yet.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn try_revive(&mut self, mut process: Process) -> Result<(), Process> {
        assert_eq!(process.exited(), None, "it ended:\n{}", self.output());
        self.read_addresses();
        if self.try_pid() != Some(process.pid()) || !self.is_ready() {
            return Err(process);
        }
        self.process = process;
        Ok(())
    }

    /// Which process answers at the admin listener.
    fn try_pid(&self) -> Option<u32> {
        let mut wire = Wire::connect(self.admin(), DEADLINE).ok()?;
        wire.send(b"GET /v1/process HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let response = Response::read(&mut wire, "GET").ok()?;
        let process: serde_json::Value = serde_json::from_slice(&response.body).ok()?;
        process["pid"].as_u64().and_then(|pid| pid.try_into().ok())
    }

    /// Ports are 0, and the log says which ones they became.
    fn read_addresses(&mut self) {
        let log = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        self.listeners.clear();
        self.dns.clear();
        for entry in entries {
            let address = entry["address"].as_str().and_then(|address| address.parse().ok());
            match (entry["message"].as_str(), entry["listener"].as_str(), address) {
                (Some("listening"), Some(name), Some(address)) => {
                    self.listeners.push((name.to_owned(), address));
                }
                (Some("admin listening"), _, Some(address)) => self.admin = Some(address),
                (Some("deploy API listening"), _, Some(address)) => self.deploy = Some(address),
                (Some("DNS listening"), _, Some(address)) => self.dns.push(address),
                _ => {}
            }
        }
    }

    fn is_ready(&self) -> bool {
        let ask = |admin| -> io::Result<u16> {
            let mut wire = Wire::connect(admin, DEADLINE)?;
            wire.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            Ok(Response::read(&mut wire, "GET")?.status)
        };
        self.admin.is_some_and(|admin| ask(admin).is_ok_and(|status| status == 200))
    }

    pub fn web(&self) -> SocketAddr {
        self.listener(Config::WEB)
    }

    /// # Panics
    /// When the configuration has none of that name.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        // A name that was opened anew stands in the log again.
        let found = self.listeners.iter().rev().find(|(given, _)| given == name);
        found.expect("the configuration has a listener of that name").1
    }

    /// # Panics
    /// Never after the start.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("a gateway that is ready has said where")
    }

    /// # Panics
    /// When the configuration has no deploy API.
    pub fn deploy(&self) -> SocketAddr {
        self.deploy.expect("the configuration has a deploy API")
    }

    /// Where names are answered.
    ///
    /// # Panics
    /// When the configuration has no `dns.listen`.
    pub fn dns(&self) -> SocketAddr {
        *self.dns.last().expect("the configuration has a zone")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the web listener.
    #[track_caller]
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.web())
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> Response {
        self.connect().get(host, target)
    }

    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        RawClient::connect(self.admin()).get("localhost", target)
    }

    /// # Panics
    /// When the answer is no 200 with JSON.
    #[track_caller]
    pub fn admin_json(&self, target: &str) -> serde_json::Value {
        let response = self.admin_get(target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        serde_json::from_slice(&response.body).expect("an admin answer is JSON")
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.admin_get("/metrics");
        assert_eq!(response.status, 200, "{}", response.text());
        Metrics::parse(&response.text())
    }

    /// Saves an app's file as an editor does: complete, or not at all.
    #[track_caller]
    pub fn put_app(&self, app: &App) {
        self.put_file(&format!("apps/{}.toml", app.id), &app.toml());
    }

    #[track_caller]
    pub fn put_file(&self, path: &str, contents: &str) {
        let path = self.folder.path().join(path);
        let staged = path.with_extension("staged");
        write(&staged, contents);
        fs::rename(&staged, &path).expect("the temporary folder is ours");
    }

    #[track_caller]
    pub fn remove_app(&self, id: &str) {
        let path = self.folder.path().join(format!("apps/{id}.toml"));
        fs::remove_file(path).expect("the app has a file");
    }

    /// Saves another `sluice.toml`, has it read, and waits until that is done. Returns whether it is in
    /// force.
    #[track_caller]
    pub fn reconfigure(&mut self, config: &Config) -> bool {
        self.put_config(config);
        self.reload()
    }

    /// Saves another `sluice.toml`, which nobody reads before he is told to.
    #[track_caller]
    pub fn put_config(&self, config: &Config) {
        self.put_file("sluice.toml", &config.render());
    }

    /// Has the files read again and waits until that is done. Returns whether they are in force.
    #[track_caller]
    pub fn reload(&mut self) -> bool {
        let readings = |gateway: &Self| gateway.metrics().count("sluice_config_reloads_total", &[]);
        let before = readings(self);
        self.signal(Signal::HUP);
        eventually(DEADLINE, "the configuration was read again", || readings(self) > before);
        self.read_addresses();
        self.metrics().count("sluice_config_reload_success", &[]) == 1
    }

    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Without a chance to say anything.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The process's resident memory.
    ///
    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(path).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("the kernel reports VmRSS in kB") * 1024
    }

    /// Processor time that the process has used, in seconds.
    ///
    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn processor_seconds(&self) -> f64 {
        // proc(5): fields 14 and 15, in ticks of which Linux shows user space a hundred a second.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).expect("the gateway runs");
        // The second field is a name in parentheses, which may hold anything.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after_name.split_ascii_whitespace().skip(11).take(2);
        ticks.map(|field| field.parse::<f64>().expect("a number of ticks")).sum::<f64>() / TICKS_PER_SECOND
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// # Panics
    /// When it goes on running.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// All that it printed.
    pub fn output(&self) -> String {
        let read = |name| fs::read(self.folder.path().join(name)).unwrap_or_default();
        let (out, err) = (read("stdout"), read("stderr"));
        format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }

    /// What it printed to standard output only.
    pub fn stdout(&self) -> String {
        let bytes = fs::read(self.folder.path().join("stdout")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            eprintln!("--- the gateway's last words ---\n{}\n---", tail.join("\n"));
        }
    }
}

fn write(path: &Path, contents: &str) {
    let folder = path.parent().expect("a file of a test has a folder");
    fs::create_dir_all(folder).expect("the temporary folder is ours");
    fs::write(path, contents).expect("the temporary folder is ours");
}

/// The binary, with as many files as the configuration says.
fn program(config: &Config) -> Command {
    let Some(most) = config.open_files else { return sluice() };
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={most}")).arg(binary());
    limited
}

/// The binary with the configuration in `folder`, and what it prints there.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    command_of(sluice(), folder, arguments)
}

fn command_of(mut command: Command, folder: &Path, arguments: &[&str]) -> Command {
    // Processes that follow one another write to the same files.
    let log = |name| {
        let opened = OpenOptions::new().create(true).append(true).open(folder.join(name));
        opened.expect("the temporary folder is ours")
    };
    command.args(arguments).arg("--config").arg(folder.join("sluice.toml"));
    command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
    command
}

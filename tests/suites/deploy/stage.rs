//! A gateway with a deploy API, and a folder with an app.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tests::{Config, DEADLINE, Finished, Gateway, RawClient, eventually, finish, ports, sluice};

/// Python takes a while to start where every core is busy, and there are several to start one after the other.
pub const PATIENCE: std::time::Duration = DEADLINE.saturating_mul(8);

pub struct Stage {
    pub gateway: Gateway,
    pub project: TempDir,
    /// Where the runtime's folder is one that several share; it goes with this stage.
    shared: Option<TempDir>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with("")
    }

    /// With these lines more in `[deploy]`.
    pub fn with(lines: &str) -> Self {
        Self::on(Config::new(), lines)
    }

    /// As [`Self::with`], with another registry.
    pub fn on(config: Config, lines: &str) -> Self {
        Self::configured(config, &format!("state = \"instances\"\nports = {:?}\n{lines}", ports()))
    }

    /// With these lines in `[deploy]`, beside an address.
    pub fn configured(config: Config, lines: &str) -> Self {
        let section = format!("[deploy]\naddress = \"127.0.0.1:0\"\n{lines}");
        Self::around(Gateway::start(&config.section(&section)))
    }

    pub fn around(gateway: Gateway) -> Self {
        let project = TempDir::with_prefix("sluice-app-").expect("a temporary folder can be made");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/deploy/server.py");
        fs::copy(script, project.path().join("server.py")).expect("the folder is ours");
        let stage = Self { gateway, project, shared: None };
        eventually(DEADLINE, "this machine is a host", || {
            let hosts = stage.json(0, &["hosts"]);
            hosts["items"][0]["reachable"] == true
        });
        stage
    }

    /// Instances are in this folder, and end with this stage.
    pub fn keep(&mut self, state: TempDir) {
        self.shared = Some(state);
    }

    /// Another process in the place of this one, as after a crash.
    pub fn restart(&mut self) {
        self.gateway.kill();
        self.revive();
    }

    /// The next process, after one that has ended.
    pub fn revive(&mut self) {
        let next = self.gateway.intruder();
        drop(self.gateway.follow(next));
    }

    pub fn write(&self, file: &str) {
        fs::write(self.project.path().join("sluice.toml"), file).expect("the folder is ours");
    }

    pub fn folder(&self) -> &str {
        self.project.path().to_str().expect("the path is text")
    }

    pub fn ask(&self, arguments: &[&str]) -> Finished {
        let mut command = sluice();
        command.args(arguments).env("SLUICE_DEPLOY", format!("http://{}", self.gateway.deploy()));
        command.current_dir(self.project.path());
        for name in ["SLUICE_TOKEN", "SLUICE_TOKEN_FILE", "SLUICE_CA", "SLUICE_CERT"] {
            command.env_remove(name);
        }
        finish(&mut command, "", PATIENCE)
    }

    /// What a command shows that ends with `code`.
    #[track_caller]
    pub fn shown(&self, code: i32, arguments: &[&str]) -> String {
        let finished = self.ask(arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {}", finished.text());
        finished.text()
    }

    #[track_caller]
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let finished = self.ask(&[arguments, &["-o", "json"]].concat());
        assert_eq!(finished.code, Some(code), "{arguments:?}: {}", finished.text());
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", finished.text()))
    }

    /// What the API answers, without the command in between.
    #[track_caller]
    pub fn api(&self, request: &str, fields: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut client = RawClient::connect(self.gateway.deploy());
        let length = body.len();
        client.send(format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ));
        let response = client.receive_for(request.split(' ').next().unwrap_or_default());
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }

    #[track_caller]
    pub fn deploy(&self) -> String {
        self.shown(0, &["deploy", self.folder(), "--wait"])
    }

    /// What the app answers at its hostname.
    #[track_caller]
    pub fn open(&self, app: &str) -> String {
        let response = self.gateway.get(&format!("{app}.apps.test"), "/");
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    }

    /// Versions that answer so many requests on one connection.
    pub fn versions(&self, app: &str, requests: usize) -> Vec<String> {
        let mut client = RawClient::connect(self.gateway.web());
        let mut ask = || client.get(&format!("{app}.apps.test"), "/").text();
        (0..requests).map(|_| ask().split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    pub fn instances(&self, app: &str) -> Vec<Value> {
        self.json(0, &["ps", app])["items"].as_array().cloned().unwrap_or_default()
    }

    pub fn status(&self, app: &str) -> Value {
        self.json(0, &["rollout", "status", app])
    }

    /// Processes of instances that there are, as their shims have written them down: (shim, command).
    pub fn processes(&self) -> Vec<(Pid, Option<Pid>)> {
        let pid =
            |value: &Value| value["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let read = |path: PathBuf| {
            let text = fs::read(path.join("shim.json")).ok()?;
            let record: Value = serde_json::from_slice(&text).ok()?;
            Some((pid(&record["shim"])?, pid(&record["leader"])))
        };
        self.folders().into_iter().filter_map(read).collect()
    }

    /// Of instances: `instances/app/version/instance`.
    pub fn folders(&self) -> Vec<PathBuf> {
        let below = |paths: Vec<PathBuf>| -> Vec<PathBuf> {
            let entries = paths.into_iter().filter_map(|path| fs::read_dir(path).ok());
            let inner = entries.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
            inner.filter(|path| path.file_name().is_some_and(|name| name != ".removed")).collect()
        };
        let own = self.gateway.folder().join("instances");
        let state = self.shared.as_ref().map_or(own, |shared| shared.path().to_owned());
        below(below(below(vec![state])))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Instances outlive it by intent.
        self.gateway.kill();
        for (shim, leader) in self.processes() {
            for pid in [Some(shim), leader].into_iter().flatten() {
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

/// An app's file: `version` is wanted of v1 and v2, which differ by nothing else.
pub fn file(version: &str, lines: &str) -> String {
    let spec = |version: &str| {
        format!(
            "[versions.{version}]\ncommand = [\"/usr/bin/python3\", \"-u\", \"server.py\", \"{version}\"]\n\
             probe = {{ interval = \"500ms\", timeout = \"500ms\" }}\n"
        )
    };
    format!("id = \"shop\"\nversion = \"{version}\"\n{lines}\n{}{}", spec("v1"), spec("v2"))
}

//! Real processes, real shims: this test binary, started anew.

mod hooks;
mod lifecycle;
mod limits;
mod output;
mod survival;
mod usage;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tempfile::TempDir;
use topology::{AppId, InstanceId, VersionId};

use super::{ProcessConfig, ProcessRuntime, ShimCommand, strays};
use crate::runtime::{
    InstanceRef, InstanceSpec, InstanceState, InstanceStatus, LogOptions, LogRequest, PortBinding, Resources,
    Runtime,
};

/// Generous: tests share two cores with builds.
const DEADLINE: Duration = Duration::from_secs(30);

const AS_SHIM: &str = "TEST_ACTS_AS_SHIM";

/// No test of its own: what this binary does when it is started as a shim.
#[test]
fn acts_as_shim() {
    if std::env::var_os(AS_SHIM).is_none() {
        return;
    }
    // The harness has begun a line.
    println!();
    let _code = super::shim::run();
    std::process::exit(0);
}

/// This binary, running one "test" that is none.
pub(super) fn again(name: &str) -> Vec<OsString> {
    let name = format!("runtime::process::tests::{name}");
    [name.as_str(), "--exact", "--nocapture", "--test-threads=1"].map(OsString::from).to_vec()
}

fn config(state: &Path) -> ProcessConfig {
    let environment = vec![(AS_SHIM.into(), "1".into())];
    let shim = ShimCommand { arguments: again("acts_as_shim"), environment, ..ShimCommand::this_binary(&[]) };
    ProcessConfig { host: "here".into(), state: state.to_owned(), cgroup: Some("/".into()), shim }
}

/// A runtime on a folder of its own. Dropping it ends what it started.
struct Fixture {
    runtime: Arc<ProcessRuntime>,
    state: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let runtime = Arc::new(ProcessRuntime::open(config(state.path())).unwrap());
        Self { runtime, state }
    }

    /// Without any cgroup.
    fn unlimited() -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = ProcessConfig { cgroup: Some("/no/such/group".into()), ..config(state.path()) };
        let runtime = Arc::new(ProcessRuntime::open(config).unwrap());
        Self { runtime, state }
    }

    /// As a new Sluice finds it.
    fn reopen(&mut self) {
        self.runtime = Arc::new(ProcessRuntime::open(config(self.state.path())).unwrap());
    }

    async fn start(&self, spec: &InstanceSpec) -> InstanceStatus {
        self.runtime.start(spec).await.unwrap()
    }

    async fn ended(&self, id: &InstanceRef) -> InstanceStatus {
        let status = self.runtime.wait(id, DEADLINE).await.unwrap().unwrap();
        assert!(status.state.has_ended(), "{status:?}");
        status
    }

    async fn output(&self, id: &InstanceRef) -> Vec<String> {
        let lines = self.runtime.logs(id, &LogRequest::default()).await.unwrap();
        lines.map(|line| String::from_utf8(line.unwrap().text.to_vec()).unwrap()).collect().await
    }

    /// Waits until the instance has written this.
    async fn writes(&self, id: &InstanceRef, text: &str) {
        let request = LogRequest { follow: true, ..LogRequest::default() };
        let mut lines = self.runtime.logs(id, &request).await.unwrap();
        let find = async {
            while let Some(line) = lines.next().await {
                if line.unwrap().text == text {
                    return;
                }
            }
            panic!("it ended before it wrote {text}: {:?}", self.output(id).await);
        };
        tokio::time::timeout(DEADLINE, find).await.unwrap_or_else(|_| panic!("never wrote {text}"));
    }

    /// Processes of any instance here, as the kernel has them.
    fn processes(&self) -> usize {
        let state = self.state.path().canonicalize().unwrap();
        strays::count_marked(|marked| marked.starts_with(&state))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for id in self.runtime.shared.instances().unwrap() {
            let folder = self.runtime.shared.folder(&id);
            if let Ok(Some(shim)) = folder.read_shim() {
                self.runtime.shared.kill_processes(&id, &folder, &shim);
            }
            let _best_effort = self.runtime.shared.cgroup(&id).remove();
        }
    }
}

fn id(instance: &str) -> InstanceRef {
    InstanceRef {
        app: AppId::parse("shop").unwrap(),
        version: VersionId::parse("v1").unwrap(),
        instance: InstanceId::parse(instance).unwrap(),
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A shell script as an instance.
fn script(instance: &str, script: &str) -> InstanceSpec {
    let port = free_port();
    InstanceSpec {
        id: id(instance),
        image: None,
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        port: PortBinding { address: Ipv4Addr::LOCALHOST.into(), host_port: port, container_port: port },
        resources: Resources::default(),
        volumes: Vec::new(),
        files: Vec::new(),
        log: LogOptions::default(),
        labels: BTreeMap::new(),
    }
}

fn exited(code: i32) -> InstanceState {
    InstanceState::Exited { code: Some(code), signal: None }
}

fn killed(signal: i32) -> InstanceState {
    InstanceState::Exited { code: None, signal: Some(signal) }
}

/// Until the condition holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

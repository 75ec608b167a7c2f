//! The demo's apps: what is deployed, and the processes that run it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use deploy::Registrar;
use deploy::runtime::child::{ChildRuntime, Output, Process, ProcessSpec};
use discovery::layout::EndpointRegistration;
use discovery::registry::{Lifetime, Registry};
use futures::future::{join_all, select_all};
use topology::{AppId, InstanceId, InstanceKey, VersionId};

/// An instance of ours answers within milliseconds of its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(5);
const STOP_GRACE: Duration = Duration::from_secs(2);

/// App, spec.
const APPS: [(&str, &str); 2] = [
    (
        "shop",
        r#"{"split": {"v1": 90, "v2": 10}, "health": {"interval": "1s", "timeout": "500ms", "fall": 2}}"#,
    ),
    ("blog", r#"{"health": {"interval": "1s", "timeout": "500ms", "fall": 2}}"#),
];

/// App, version, instance, and whether its `/_ping` fails now and then.
const INSTANCES: [(&str, &str, &str, bool); 7] = [
    ("shop", "v1", "c1", false),
    ("shop", "v1", "c2", false),
    ("shop", "v2", "c1", false),
    ("blog", "v1", "c1", false),
    ("blog", "v1", "c2", false),
    ("blog", "v2", "c1", false),
    ("blog", "v2", "c2", true),
];

#[derive(Debug)]
pub struct Demo {
    instances: Vec<Instance>,
}

#[derive(Debug)]
pub struct Instance {
    app: AppId,
    key: InstanceKey,
    address: SocketAddr,
    process: Process,
}

impl Instance {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn app(&self) -> &AppId {
        &self.app
    }

    pub fn name(&self) -> String {
        format!("{} {} {}", self.app, self.key.version, self.key.instance)
    }
}

impl Demo {
    /// Starts every instance and registers it once it accepts connections. On an error those that were
    /// started end with the values that hold them.
    pub async fn start(registry: Arc<dyn Registry>) -> anyhow::Result<Self> {
        let registrar = Registrar::new(registry);
        let runtime = ChildRuntime::new()?;
        for (app, spec) in APPS {
            registrar.write_spec(&AppId::parse(app)?, Bytes::from_static(spec.as_bytes())).await?;
        }
        let mut instances = Vec::new();
        for (app, version, instance, is_flaky) in INSTANCES {
            let key =
                InstanceKey { version: VersionId::parse(version)?, instance: InstanceId::parse(instance)? };
            let started = start(&runtime, AppId::parse(app)?, key, is_flaky).await?;
            let registration = EndpointRegistration::at(started.address);
            registrar.register(&started.app, &started.key, &registration, Lifetime::Session).await?;
            instances.push(started);
        }
        Ok(Self { instances })
    }

    /// The instance that the introduction proposes to kill.
    pub fn victim(&self) -> &Instance {
        &self.instances[0]
    }

    pub fn describe(&self) -> String {
        let line = |instance: &Instance| {
            format!("  {:<12} {}  pid {}\n", instance.name(), instance.address, instance.pid())
        };
        self.instances.iter().map(line).collect()
    }

    /// Says when an instance ends. It stays registered, as one that crashed would: noticing is the
    /// gateway's part. Returns when none is left.
    pub async fn report_ends(&mut self) {
        let mut running: Vec<_> = self.instances.iter_mut().collect();
        while !running.is_empty() {
            let waits = running.iter_mut().map(|instance| Box::pin(instance.process.wait()));
            let (_, ended, _) = select_all(waits).await;
            let instance = running.swap_remove(ended);
            println!("{} (pid {}) has ended", instance.name(), instance.pid());
        }
    }

    pub async fn stop(self) {
        let stop = |mut instance: Instance| async move {
            if let Err(error) = instance.process.stop(STOP_GRACE).await {
                eprintln!("sluice: {error}");
            }
        };
        join_all(self.instances.into_iter().map(stop)).await;
    }
}

async fn start(
    runtime: &ChildRuntime,
    app: AppId,
    key: InstanceKey,
    is_flaky: bool,
) -> anyhow::Result<Instance> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.context("no free port on the loopback")?;
    let mut arguments: Vec<_> = ["demo-instance", "--app", app.as_str()].map(Into::into).to_vec();
    arguments
        .extend(["--version", key.version.as_str(), "--instance", key.instance.as_str()].map(Into::into));
    if is_flaky {
        arguments.push("--flaky".into());
    }
    let spec = ProcessSpec {
        program: std::env::current_exe().context("cannot find this binary")?.into_os_string(),
        arguments,
        environment: vec![("PORT".into(), address.port().to_string().into())],
        output: Output::Inherit,
    };
    let process = runtime.start(&spec).await?;
    let instance = Instance { app, key, address, process };
    let accepts = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(START_POLL).await;
        }
    };
    let started = tokio::time::timeout(START_TIMEOUT, accepts).await;
    started.with_context(|| format!("{} does not accept connections", instance.name()))?;
    Ok(instance)
}

//! Hosts, instances and gateways in memory. They know what must never happen, and panic when it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use discovery::registry::State;
use topology::{AppId, HostId, InstanceKey, VersionId};

use crate::autoscale::Load;
use crate::engine::{Gateways, Hosts, Prober};
use crate::lifecycle::Complaint;
use crate::model::{Host, Millis, Probe};
use crate::rollout::Traffic;
use crate::runtime::{
    ExecEnd, ExecOutcome, ExecRequest, Fault, HostFacts, InstanceRef, InstanceSpec, InstanceState,
    InstanceStatus, LogLines, LogRequest, Resources, Runtime, RuntimeError,
};

/// What is, as opposed to what anybody believes.
#[derive(Default)]
pub(in crate::engine) struct Truth {
    pub instances: BTreeMap<String, Instance>,
    pub hanging: BTreeSet<HostId>,
    /// Revision and registered instances that each gateway has applied.
    pub gateways: Vec<(u64, BTreeSet<String>)>,
    pub rng: fastrand::Rng,
    /// What was broken.
    pub violations: Vec<String>,
    pub started: u64,
    /// Versions whose answers are errors.
    pub error_rate: f64,
    /// No host gives an instance other limits where it runs.
    pub limits_stay: bool,
    /// Processors that each instance uses.
    pub busy: f64,
    /// Instances that answer their probes no more.
    pub sick: BTreeSet<String>,
    /// What gateways say of instances.
    pub complaints: BTreeMap<String, Complaint>,
}

pub(in crate::engine) struct Instance {
    pub host: HostId,
    pub id: InstanceRef,
    pub address: SocketAddr,
    pub ended: Option<String>,
    pub passes: u32,
    pub environment: BTreeMap<String, String>,
    /// As it was last asked while nobody sent it anything new.
    pub in_flight: Option<u64>,
    pub memory: Option<u64>,
    /// Of processors, by then.
    pub used: Duration,
    pub looked: tokio::time::Instant,
    /// Every gateway has let go of it since then.
    pub released: Option<tokio::time::Instant>,
}

#[derive(Clone)]
pub(in crate::engine) struct Fleet {
    pub truth: Arc<Mutex<Truth>>,
}

pub(super) const DRAIN: Duration = Duration::from_secs(5);

impl Fleet {
    pub(in crate::engine) fn new(seed: u64, gateways: usize) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let gateways = vec![(0, BTreeSet::new()); gateways];
        Self { truth: Arc::new(Mutex::new(Truth { rng, gateways, ..Truth::default() })) }
    }

    /// One gateway takes what the registry has.
    pub(in crate::engine) fn apply(&self, state: &State) {
        let mut truth = self.truth.lock().unwrap();
        let at = {
            let most = truth.gateways.len();
            truth.rng.usize(..most)
        };
        let keys = state.entries.keys().filter(|key| key.as_str().starts_with("service/address/"));
        let table = keys.filter_map(|key| key.as_str().rsplit('/').next().map(str::to_owned)).collect();
        truth.gateways[at] = (state.revision, table);
        let Truth { instances, gateways, .. } = &mut *truth;
        for (name, instance) in instances {
            let used = gateways.iter().any(|(_, table)| table.contains(name));
            instance.released =
                if used { None } else { instance.released.or(Some(tokio::time::Instant::now())) };
        }
    }

    pub(in crate::engine) fn registered(&self, name: &str) {
        let mut truth = self.truth.lock().unwrap();
        let passes = truth.instances.get(name).map(|instance| instance.passes);
        if passes.is_some_and(|passes| passes < 2) {
            truth.violations.push(format!("{name} was registered after {passes:?} passes"));
        }
    }
}

struct FakeHost {
    id: HostId,
    fleet: Fleet,
}

impl std::fmt::Debug for FakeHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.id)
    }
}

impl FakeHost {
    /// Takes its time, or hangs.
    async fn answer(&self) {
        let (hangs, wait) = {
            let mut truth = self.fleet.truth.lock().unwrap();
            (truth.hanging.contains(&self.id), truth.rng.u64(1..400))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    fn failed(&self, fault: Fault, reason: &str) -> RuntimeError {
        RuntimeError {
            fault,
            doing: "do that".to_owned(),
            host: self.id.as_str().into(),
            reason: reason.to_owned(),
            may_have_happened: false,
            source: None,
        }
    }
}

fn status(instance: &Instance) -> InstanceStatus {
    InstanceStatus {
        id: instance.id.clone(),
        state: match instance.ended {
            None => InstanceState::Running,
            Some(_) => InstanceState::Exited { code: Some(1), signal: None },
        },
        reason: instance.ended.clone().unwrap_or_default(),
        address: Some(instance.address),
        runtime_id: String::new(),
        started_at: None,
        ended_at: None,
    }
}

#[async_trait]
impl Runtime for FakeHost {
    async fn start(&self, spec: &InstanceSpec) -> Result<InstanceStatus, RuntimeError> {
        self.answer().await;
        let mut truth = self.fleet.truth.lock().unwrap();
        let name = spec.id.instance.to_string();
        if let Some(instance) = truth.instances.get(&name) {
            return Ok(status(instance));
        }
        if spec.id.version.as_str() == "missing" {
            return Err(self.failed(Fault::ImageNotFound, "no such image"));
        }
        let address = SocketAddr::new(spec.port.address, spec.port.host_port);
        let taken = truth.instances.values().any(|other| other.address == address && other.ended.is_none());
        if taken || truth.rng.u32(..50) == 0 {
            return Err(self.failed(Fault::PortTaken, "somebody listens there"));
        }
        let ended = (spec.id.version.as_str() == "exits").then(|| "ended with code 1".to_owned());
        truth.started += 1;
        let instance = Instance {
            host: self.id.clone(),
            id: spec.id.clone(),
            address,
            ended,
            passes: 0,
            environment: spec.environment.clone(),
            in_flight: None,
            memory: spec.resources.memory,
            used: Duration::ZERO,
            looked: tokio::time::Instant::now(),
            released: None,
        };
        let status = status(&instance);
        truth.instances.insert(name, instance);
        Ok(status)
    }

    async fn stop(&self, id: &InstanceRef, _: Duration) -> Result<Option<InstanceStatus>, RuntimeError> {
        self.answer().await;
        let mut truth = self.fleet.truth.lock().unwrap();
        let name = id.instance.to_string();
        let used = truth.gateways.iter().any(|(_, table)| table.contains(&name));
        let Some(instance) = truth.instances.get_mut(&name) else { return Ok(None) };
        let early = instance.released.is_some_and(|at| at.elapsed() < DRAIN);
        let served = instance.passes >= 2 && instance.in_flight.is_some_and(|left| left > 0);
        let was_alive = instance.ended.is_none();
        instance.ended.get_or_insert_with(|| "ended as it was asked to".to_owned());
        let status = status(instance);
        if was_alive && used {
            truth.violations.push(format!("{name} was stopped while a gateway sends it requests"));
        }
        if was_alive && served && early {
            truth.violations.push(format!("{name} was stopped with requests under way"));
        }
        Ok(Some(status))
    }

    async fn remove(&self, id: &InstanceRef) -> Result<(), RuntimeError> {
        self.answer().await;
        self.fleet.truth.lock().unwrap().instances.remove(id.instance.as_str());
        Ok(())
    }

    async fn list(&self) -> Result<Vec<InstanceStatus>, RuntimeError> {
        self.answer().await;
        let truth = self.fleet.truth.lock().unwrap();
        Ok(truth.instances.values().filter(|instance| instance.host == self.id).map(status).collect())
    }

    async fn inspect(&self, id: &InstanceRef) -> Result<Option<InstanceStatus>, RuntimeError> {
        self.answer().await;
        Ok(self.fleet.truth.lock().unwrap().instances.get(id.instance.as_str()).map(status))
    }

    async fn wait(&self, id: &InstanceRef, _: Duration) -> Result<Option<InstanceStatus>, RuntimeError> {
        self.inspect(id).await
    }

    async fn logs(&self, _: &InstanceRef, _: &LogRequest) -> Result<LogLines, RuntimeError> {
        Err(self.failed(Fault::Unsupported, "has none"))
    }

    async fn exec(&self, _: &InstanceRef, _: &ExecRequest) -> Result<ExecOutcome, RuntimeError> {
        self.answer().await;
        Ok(ExecOutcome { end: ExecEnd::Exited(0), output: bytes::Bytes::new(), truncated: false })
    }

    async fn update(&self, id: &InstanceRef, resources: &Resources) -> Result<(), RuntimeError> {
        self.answer().await;
        let mut truth = self.fleet.truth.lock().unwrap();
        if truth.limits_stay || truth.rng.u32(..50) == 0 {
            return Err(self.failed(Fault::OutOfResources, "uses more already"));
        }
        let instance = truth.instances.get_mut(id.instance.as_str());
        let instance = instance.ok_or_else(|| self.failed(Fault::NoSuchInstance, "is not there"))?;
        instance.memory = resources.memory;
        Ok(())
    }

    async fn cpu_used(&self, ids: &[InstanceRef]) -> Result<Vec<(InstanceRef, Duration)>, RuntimeError> {
        self.answer().await;
        let mut truth = self.fleet.truth.lock().unwrap();
        let now = tokio::time::Instant::now();
        let Truth { instances, busy, .. } = &mut *truth;
        let used = |id: &InstanceRef| {
            let instance = instances.get_mut(id.instance.as_str())?;
            instance.used += (now - instance.looked).mul_f64(*busy);
            instance.looked = now;
            Some((id.clone(), instance.used))
        };
        Ok(ids.iter().filter_map(used).collect())
    }

    async fn host_facts(&self) -> Result<HostFacts, RuntimeError> {
        Ok(HostFacts {
            runtime: "fake".to_owned(),
            cpus: 4,
            memory: 8 << 30,
            memory_available: None,
            load: None,
            limitations: Vec::new(),
        })
    }
}

impl Hosts for Fleet {
    fn runtime(&self, id: &HostId, _: &Host) -> Result<Arc<dyn Runtime>, String> {
        Ok(Arc::new(FakeHost { id: id.clone(), fleet: self.clone() }))
    }
}

#[async_trait]
impl Prober for Fleet {
    async fn probe(&self, address: SocketAddr, _: &str, _: &Probe) -> Result<(), String> {
        let mut truth = self.truth.lock().unwrap();
        let answers = |instance: &&mut Instance| instance.address == address && instance.ended.is_none();
        let Truth { instances, sick, .. } = &mut *truth;
        let Some(instance) = instances.values_mut().find(answers) else {
            return Err("connection refused".to_owned());
        };
        if instance.id.version.as_str() == "bad" {
            return Err("503".to_owned());
        }
        if sick.contains(instance.id.instance.as_str()) {
            return Err("500".to_owned());
        }
        instance.passes += 1;
        Ok(())
    }
}

#[async_trait]
impl Gateways for Fleet {
    fn has_applied(&self, revision: u64) -> bool {
        self.truth.lock().unwrap().gateways.iter().all(|(applied, _)| *applied >= revision)
    }

    async fn in_flight(&self, _: &AppId, instance: &InstanceKey) -> Option<u64> {
        let mut truth = self.truth.lock().unwrap();
        let left = truth.rng.u64(..3);
        let instance = truth.instances.get_mut(instance.instance.as_str())?;
        // Nothing new comes, so there are fewer and fewer.
        let left = instance.in_flight.map_or(left, |before| before.min(left));
        instance.in_flight = Some(left);
        Some(left)
    }

    fn traffic(&self, _: &AppId, _: &VersionId, _: Millis) -> Option<Traffic> {
        let rate = self.truth.lock().unwrap().error_rate;
        Some(Traffic { requests: 1_000, errors: (rate * 1_000.0) as u64, latency: None })
    }

    fn load(&self, _: &AppId) -> Load {
        Load::default()
    }

    fn complaint(&self, _: &AppId, instance: &InstanceKey) -> Option<Complaint> {
        self.truth.lock().unwrap().complaints.get(instance.instance.as_str()).cloned()
    }
}

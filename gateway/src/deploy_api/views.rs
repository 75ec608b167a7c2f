//! What is shown of apps, instances and hosts.

use deploy::engine::{AppStatus, HostStatus};
use deploy::model::{Millis, Record, Rollout};
use deploy::scheduler::Verdict;
use discovery::document::show_size;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use topology::{AppId, HostId, InstanceId};
use utoipa::ToSchema;

/// Failures that are shown; the count is of all that are kept.
const MAX_FAILURES: usize = 10;

/// One app, in short or whole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppView {
    pub id: String,
    /// Of what is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The version that is wanted.
    pub version: Option<String>,
    /// `changing`, `waiting` for an operator, `done`, `given_up`.
    #[schema(value_type = String)]
    pub standing: &'static str,
    /// Whether it stays so by itself.
    pub settled: bool,
    /// Instances that are wanted, and that serve.
    pub wanted: u32,
    pub serving: usize,
    /// What it waits for, or why it was given up.
    pub reason: Option<String>,
    pub rollout: Option<RolloutView>,
    pub instances: Vec<InstanceView>,
    /// As it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub deployment: Option<Value>,
    /// For `unlike`, where it was waited for: the same as long as nothing else is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppList {
    pub items: Vec<AppView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceList {
    pub items: Vec<InstanceView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostList {
    pub items: Vec<HostView>,
}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    pub id: String,
    /// Of what is wanted now; missing where somebody has changed it since it was first asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The registry's, with the change: for `after`, where its status is asked for. Missing where nothing was written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// To wait for, at `/v1/apps/{app}/operations/{operation}`.
    pub operation: String,
}

/// What would become of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Judged {
    pub dry_run: bool,
    pub hosts: Vec<VerdictView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "what PUT answers, for its description")]
pub(super) enum PutAnswer {
    Written(Written),
    Judged(Judged),
}

/// What a rollout was told, and is now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Told {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The registry's, with the change: for `after`, where its status is asked for. Missing where nothing was written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    #[schema(value_type = String)]
    pub status: &'static str,
    pub number: u64,
    pub operation: String,
}

/// Where one more would go.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Explained {
    pub id: String,
    pub hosts: Vec<VerdictView>,
}

/// A host that was entered, or removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostWritten {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// What wakes whoever waits.
pub(super) type Shown = tokio::sync::watch::Receiver<discovery::registry::State>;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutView {
    pub number: u64,
    #[schema(value_type = String)]
    pub status: &'static str,
    /// Versions: from where, and to where.
    pub from: Option<String>,
    pub to: Option<String>,
    pub stage: u32,
    /// Whether its stage waits for time, traffic or an operator.
    pub holding: bool,
    pub started: Option<String>,
    pub failures: Vec<FailureView>,
    pub failures_total: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FailureView {
    pub at: Option<String>,
    pub instance: String,
    pub host: String,
    pub reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceView {
    pub app: String,
    pub version: String,
    pub instance: String,
    pub host: String,
    pub address: String,
    #[schema(value_type = String)]
    pub phase: &'static str,
    pub since: Option<String>,
    /// Why it goes, or what its probe said last.
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostView {
    pub id: String,
    pub etag: String,
    pub address: Option<String>,
    pub reachable: bool,
    pub cordoned: bool,
    pub drained: bool,
    pub labels: std::collections::BTreeMap<String, String>,
    pub instances: usize,
    /// Of instances, and of the host.
    pub memory_given: String,
    pub memory: Option<String>,
    /// In processors.
    pub cpu_given: f64,
    pub cpu: Option<f64>,
    pub error: Option<String>,
}

/// What would become of one more instance on a host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictView {
    pub host: String,
    pub fits: bool,
    /// A word that does not change, such as `memory`.
    #[schema(value_type = Option<String>)]
    pub refusal: Option<&'static str>,
    pub reason: Option<String>,
    pub free_memory: String,
    pub free_cpu: f64,
    pub instances: usize,
}

pub(super) fn app(id: &AppId, status: &AppStatus) -> AppView {
    let standing = status.standing();
    let serving =
        status.instances.values().filter(|record| record.phase == deploy::model::Phase::Serving).count();
    let rollout = status.rollout.as_ref();
    let said = rollout.and_then(|rollout| rollout.reason.clone());
    let reason = match standing.is_settled() {
        true => said.or_else(|| status.withheld()),
        false => status.waits_for.clone().or_else(|| first_trouble(status)).or(said),
    };
    AppView {
        id: id.to_string(),
        etag: status.version.map(super::router::etag),
        version: status.deployment.as_ref().map(|deployment| deployment.version.to_string()),
        standing: standing.name(),
        settled: standing.is_settled(),
        wanted: status.count(),
        serving,
        reason,
        rollout: rollout.map(self::rollout),
        instances: instances(id, status),
        deployment: None,
        mark: None,
    }
}

fn first_trouble(status: &AppStatus) -> Option<String> {
    let (id, why) = status.probe_errors.iter().next()?;
    Some(format!("{id} does not pass its probe: {why}"))
}

fn rollout(state: &Rollout) -> RolloutView {
    let version = |digest| Some(state.release(digest)?.version.to_string());
    let newest = state.failures.iter().rev().take(MAX_FAILURES);
    RolloutView {
        number: state.number,
        status: state.status.name(),
        from: state.stable.as_ref().and_then(version),
        to: state.target.as_ref().and_then(version),
        stage: state.stage,
        holding: state.holding.is_some(),
        started: (state.started > 0).then(|| time(state.started)).flatten(),
        failures: newest
            .map(|failure| FailureView {
                at: time(failure.at),
                instance: failure.instance.clone(),
                host: failure.host.clone(),
                reason: failure.reason.clone(),
            })
            .collect(),
        failures_total: state.failures.len(),
    }
}

pub(super) fn instances(app: &AppId, status: &AppStatus) -> Vec<InstanceView> {
    let view = |(id, record): (&InstanceId, &Record)| InstanceView {
        app: app.to_string(),
        version: record.version.to_string(),
        instance: id.to_string(),
        host: record.host.to_string(),
        address: record.address.to_string(),
        phase: record.phase.name(),
        since: time(record.since),
        reason: record.reason.clone().or_else(|| status.probe_errors.get(id).cloned()),
    };
    status.instances.iter().map(view).collect()
}

pub(super) fn host(id: &HostId, status: &HostStatus) -> HostView {
    let host = status.host.as_ref();
    let processors = |thousandths: u32| f64::from(thousandths) / 1000.0;
    HostView {
        id: id.to_string(),
        etag: super::router::etag(status.version),
        address: host.map(|host| host.address.to_string()),
        reachable: status.reachable,
        cordoned: host.is_some_and(|host| host.cordoned),
        drained: host.is_some_and(|host| host.drained),
        labels: host.map(|host| host.labels.clone()).unwrap_or_default(),
        instances: status.ledger.given.len(),
        memory_given: show_size(status.ledger.memory()),
        memory: host.map(|host| show_size(host.memory)),
        cpu_given: processors(status.ledger.cpu()),
        cpu: host.map(|host| processors(host.cpu)),
        error: status.error.clone(),
    }
}

pub(super) fn verdict(verdict: &Verdict) -> VerdictView {
    VerdictView {
        host: verdict.host.to_string(),
        fits: verdict.refusal.is_none(),
        refusal: verdict.refusal.as_ref().map(deploy::scheduler::Refusal::code),
        reason: verdict.refusal.as_ref().map(ToString::to_string),
        free_memory: show_size(verdict.free_memory),
        free_cpu: f64::from(verdict.free_cpu) / 1000.0,
        instances: verdict.instances,
    }
}

/// To the second; `None` beyond what calendars have.
pub(super) fn time(at: Millis) -> Option<String> {
    let millis = i64::try_from(at).ok()?;
    Timestamp::from_millisecond(millis).ok().map(|at| format!("{at:.3}"))
}

//! This machine's own entry among the hosts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use deploy::engine::Hosts;
use deploy::model::{Host, keys};
use deploy::runtime::HostFacts;
use discovery::document::show_size;
use discovery::registry::{Expect, Lifetime, Registry};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::hosts::RuntimeHosts;
use crate::config::HostConfig;

/// Between two attempts where the registry or the runtime does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Enters it, or corrects what the configuration says otherwise. What operators have added stays: labels, `cordoned`.
pub(super) async fn enter(
    own: HostConfig,
    hosts: Arc<RuntimeHosts>,
    registry: Arc<dyn Registry>,
    cancel: CancellationToken,
) {
    let mut has_warned = false;
    loop {
        let Some(entered) = cancel.run_until_cancelled(try_enter(&own, &hosts, &*registry)).await else {
            return;
        };
        match entered {
            Ok(()) => return,
            Err(error) if !std::mem::replace(&mut has_warned, true) => {
                tracing::warn!(host = %own.id, "this machine is not entered as a host yet: {error:#}");
            }
            Err(_) => {}
        }
        if cancel.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

async fn try_enter(own: &HostConfig, hosts: &RuntimeHosts, registry: &dyn Registry) -> anyhow::Result<()> {
    let key = keys::host(&own.id);
    let entry = registry.read(&key).await?;
    let known =
        entry.as_ref().and_then(|entry| serde_json::from_slice::<Map<String, Value>>(&entry.value).ok());
    let known = known.unwrap_or_default();
    let facts = match (own.memory, own.cpu) {
        (Some(_), Some(_)) => None,
        _ => Some(facts(own, hosts).await?),
    };
    let wanted = merged(own, facts.as_ref(), known.clone());
    if entry.is_some() && wanted == known {
        return Ok(());
    }
    let value = Bytes::from(serde_json::to_vec(&wanted)?);
    if let Err(mistakes) = Host::parse(&key, &value) {
        anyhow::bail!("{mistakes}");
    }
    let expect = entry.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
    registry.write(&key, value, expect, Lifetime::Persistent).await?;
    tracing::info!(host = %own.id, "entered as a host");
    Ok(())
}

async fn facts(own: &HostConfig, hosts: &RuntimeHosts) -> anyhow::Result<HostFacts> {
    let nowhere = Host {
        address: own.address,
        memory: 0,
        cpu: 0,
        labels: Default::default(),
        ports: own.ports.clone(),
        endpoint: None,
        cordoned: false,
        drained: false,
    };
    let runtime = hosts.runtime(&own.id, &nowhere).map_err(|why| anyhow::anyhow!("{why}"))?;
    runtime.host_facts().await.context("its runtime does not say what it has")
}

fn merged(own: &HostConfig, facts: Option<&HostFacts>, mut known: Map<String, Value>) -> Map<String, Value> {
    let memory = own.memory.or(facts.map(|facts| facts.memory)).unwrap_or_default();
    let cpu = own.cpu.map(f64::from).or(facts.map(|facts| f64::from(facts.cpus) * 100.0)).unwrap_or_default();
    known.insert("address".into(), json!(own.address));
    known.insert("memory".into(), json!(show_size(memory)));
    known.insert("cpu".into(), json!(cpu / 100.0));
    known.insert("ports".into(), json!([own.ports.start(), own.ports.end()]));
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_have_added_stays() {
        let own = HostConfig {
            id: topology::HostId::parse("h1").unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            ports: 25_000..=25_009,
            memory: Some(1 << 30),
            cpu: Some(150),
        };
        let known =
            json!({ "address": "10.0.0.9", "cordoned": true, "labels": { "zone": "a" }, "memory": "1B" });
        let Value::Object(known) = known else { unreachable!() };
        let value = serde_json::to_vec(&merged(&own, None, known)).unwrap();
        let host = Host::parse(&keys::host(&own.id), &value).unwrap();
        assert!(host.cordoned && host.labels["zone"] == "a");
        assert_eq!((host.memory, host.cpu, host.ports), (1 << 30, 1500, 25_000..=25_009));
    }
}

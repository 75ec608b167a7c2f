//! Puts right what somebody else has put wrong: documents that were removed by hand, or restored from somewhere.

use std::collections::BTreeMap;

use discovery::registry::{Expect, RegistryError, Step};
use topology::{AppId, InstanceId};

use super::Parts;
use super::world::{Leftover, World};
use crate::model::{Ledger, Record, Rollout, keys};

impl Parts {
    /// Makes an app's rollout name the instances that there are, after it has named others for too long. Reads through: what
    /// the state shows in parts is whole in the registry.
    pub(super) async fn repair(&self, world: &World, app: &AppId) {
        match self.try_repair(world, app).await {
            Ok(true) => {
                tracing::warn!(%app, "its instances were changed by somebody else; they are counted anew");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%app, %error, "its instances cannot be counted anew"),
        }
    }

    async fn try_repair(&self, world: &World, app: &AppId) -> Result<bool, RegistryError> {
        let Some(view) = world.apps.get(app) else { return Ok(false) };
        let key = keys::rollout(app);
        let before = self.registry.read(&key).await?;
        let parsed = before.as_ref().map(|entry| Rollout::parse(&key, &entry.value));
        let Ok(mut rollout) = parsed.transpose().map(Option::unwrap_or_default) else { return Ok(false) };
        let listed = rollout.members.keys().filter_map(|id| InstanceId::parse(id).ok());
        let ids: Vec<InstanceId> = listed.chain(view.records.keys().cloned()).collect();
        let mut members = BTreeMap::new();
        for id in ids {
            let key = keys::instance(app, &id);
            if let Some(entry) = self.registry.read(&key).await?
                && let Ok(record) = Record::parse(&key, &entry.value)
            {
                members.insert(id.to_string(), record.step);
            }
        }
        if rollout.members == members {
            return Ok(false);
        }
        rollout.members = members;
        let expect = before.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
        self.registry.transact(&[Step { key, value: Some(rollout.to_value()), expect }]).await?;
        Ok(true)
    }

    /// Frees a port, or a ledger's entry, whose instance has no record.
    pub(super) async fn remove_leftover(&self, world: &World, leftover: &Leftover) {
        let owner = leftover
            .owner
            .split_once('/')
            .and_then(|(app, instance)| Some((AppId::parse(app).ok()?, InstanceId::parse(instance).ok()?)));
        if let Some((app, instance)) = owner {
            match self.registry.read(&keys::instance(&app, &instance)).await {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let value = leftover.host.as_ref().and_then(|host| {
            let mut ledger: Ledger = world.ledger(host).0;
            ledger.given.remove(&leftover.owner);
            world.hosts.contains_key(host).then(|| ledger.to_value())
        });
        let expect = Expect::Version(leftover.version);
        let step = Step { key: leftover.key.clone(), value, expect };
        match self.registry.transact(&[step]).await {
            Ok(_) => {
                tracing::warn!(key = %leftover.key, owner = %leftover.owner, "belonged to nobody, and is free");
            }
            Err(error) => tracing::debug!(key = %leftover.key, %error, "is looked at again"),
        }
    }
}

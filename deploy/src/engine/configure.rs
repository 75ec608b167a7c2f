//! An app's configuration: values for its versions' secrets and files, sealed, and changed with what makes the app roll.

use std::collections::BTreeMap;

use bytes::Bytes;
use discovery::registry::{Entry, Expect, Step};
use topology::AppId;

use super::operations::{Accepted, Asked, Attempt};
use super::operator::{MAX_ATTEMPTS, Operator, OperatorError};
use super::spec::{Config, parse_config};
use crate::model::{Deployment, keys};

const MAX_NAMES: usize = 500;
/// Of all values together, so that sealed they fit into any registry's entry beside their names.
const MAX_BYTES: usize = 256 << 10;

/// How a configuration becomes another one.
#[derive(Debug, Clone)]
pub enum ConfigChange {
    /// Whole.
    Replace(BTreeMap<String, String>),
    /// `None`: the name goes. Others stay.
    Merge(BTreeMap<String, Option<String>>),
}

impl ConfigChange {
    fn apply(&self, before: &Config) -> Config {
        match self {
            Self::Replace(config) => config.clone(),
            Self::Merge(changes) => {
                let mut config = before.clone();
                for (name, value) in changes {
                    match value {
                        Some(value) => drop(config.insert(name.clone(), value.clone())),
                        None => drop(config.remove(name)),
                    }
                }
                config
            }
        }
    }
}

impl Operator {
    /// Changes an app's configuration, which rolls the app where there is one: it may be there before its app is. Sealed.
    ///
    /// # Errors
    /// [`OperatorError::Config`] for a name that is none, one that goes and is in use, too much of all, or where there are no
    /// keys to seal with; [`OperatorError::KeyReused`].
    pub async fn configure(
        &self,
        app: &AppId,
        change: &ConfigChange,
        asked: &Asked,
    ) -> Result<Accepted, OperatorError> {
        let place = keys::deployment(app);
        for _ in 0..MAX_ATTEMPTS {
            let desk = self.desk(app).await?;
            if let Some(before) = self.asked_before(&desk, asked)? {
                return Ok(before);
            }
            let entry = self.parts.registry.read(&keys::config(app)).await?;
            let before = self.open(app, entry.as_ref(), change)?;
            let config = change.apply(&before);
            let wanted = self.parts.registry.read(&place).await?;
            let deployment = wanted.as_ref().map(|entry| Deployment::parse(&place, &entry.value));
            let deployment = deployment.transpose().map_err(OperatorError::Invalid)?;
            check(&config)?;
            check_gone(&before, &config, deployment.as_ref())?;
            let (mut steps, mut written) = (Vec::new(), wanted.as_ref().map(|entry| entry.value.clone()));
            if config != before {
                steps.push(self.sealed(app, entry.as_ref(), &config)?);
                if let (Some(entry), Some(deployment)) = (&wanted, &deployment) {
                    let value = next_generation(&entry.value, deployment.config_generation)?;
                    written = Some(value.clone());
                    let expect = Expect::Version(entry.version);
                    steps.push(Step { key: place.clone(), value: Some(value), expect });
                }
            }
            let attempt = self.attempt(app, desk, asked, written.as_deref(), steps);
            if let Attempt::Done(accepted) = attempt.await? {
                return Ok(accepted);
            }
        }
        Err(OperatorError::Changed(keys::config(app)))
    }

    /// The names that an app's configuration has. Values are shown to nobody.
    ///
    /// # Errors
    /// [`OperatorError::Config`] where it cannot be opened.
    pub async fn config_names(&self, app: &AppId) -> Result<Vec<String>, OperatorError> {
        let key = keys::config(app);
        let Some(entry) = self.parts.registry.read(&key).await? else { return Ok(Vec::new()) };
        let config = parse_config(&key, &entry.value, self.parts.keys.as_deref());
        Ok(config.map_err(OperatorError::Config)?.into_keys().collect())
    }

    /// What it is; one that cannot be opened any more may still be replaced.
    fn open(
        &self,
        app: &AppId,
        entry: Option<&Entry>,
        change: &ConfigChange,
    ) -> Result<Config, OperatorError> {
        let Some(entry) = entry else { return Ok(Config::new()) };
        match (parse_config(&keys::config(app), &entry.value, self.parts.keys.as_deref()), change) {
            (Ok(config), _) => Ok(config),
            (Err(_), ConfigChange::Replace(_)) => Ok(Config::new()),
            (Err(why), ConfigChange::Merge(_)) => Err(OperatorError::Config(why)),
        }
    }

    fn sealed(&self, app: &AppId, before: Option<&Entry>, config: &Config) -> Result<Step, OperatorError> {
        let key = keys::config(app);
        let expect = before.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
        if config.is_empty() {
            return Ok(Step { key, value: None, expect });
        }
        let none =
            || OperatorError::Config("there are no keys to seal it with; name registry.key_file".to_owned());
        let plain = serde_json::to_vec(config).map_err(|error| OperatorError::Config(error.to_string()))?;
        let sealed = self.parts.keys.as_deref().ok_or_else(none)?.seal(&key, &plain);
        let sealed = sealed.map_err(|error| OperatorError::Config(error.to_string()))?;
        Ok(Step { key, value: Some(sealed.into()), expect })
    }
}

fn check(config: &Config) -> Result<(), OperatorError> {
    if config.len() > MAX_NAMES {
        let text = format!("has {} names; the limit is {MAX_NAMES}", config.len());
        return Err(OperatorError::Config(text));
    }
    for name in config.keys() {
        crate::model::config_name(name)
            .map_err(|message| OperatorError::Config(format!("{name:?} {message}")))?;
    }
    let bytes: usize = config.values().map(String::len).sum();
    if bytes > MAX_BYTES {
        let text = format!("its values have {bytes} bytes together; the limit is {MAX_BYTES}");
        return Err(OperatorError::Config(text));
    }
    Ok(())
}

/// What was there and is used stays: an instance that is started anew would not come back.
fn check_gone(
    before: &Config,
    config: &Config,
    deployment: Option<&Deployment>,
) -> Result<(), OperatorError> {
    let Some(spec) = deployment.and_then(Deployment::wanted) else { return Ok(()) };
    let goes = |name: &String| before.contains_key(name) && !config.contains_key(name);
    let secret = spec.secrets.iter().find(|(_, name)| goes(name)).map(|(at, name)| ("secrets", at, name));
    let file = spec.files.iter().find(|(_, name)| goes(name)).map(|(at, name)| ("files", at, name));
    match secret.or(file) {
        None => Ok(()),
        Some((field, at, name)) => {
            let text =
                format!("{name} is in use: {field}.{at} of the wanted version names it; change that first");
            Err(OperatorError::Config(text))
        }
    }
}

fn next_generation(value: &[u8], generation: u64) -> Result<Bytes, OperatorError> {
    let bad = |error: serde_json::Error| OperatorError::Config(error.to_string());
    let mut members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(value).map_err(bad)?;
    members.insert("config_generation".to_owned(), (generation + 1).into());
    serde_json::to_vec(&members).map(Bytes::from).map_err(bad)
}

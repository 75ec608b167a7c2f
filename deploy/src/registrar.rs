//! Makes instances and app specs known: writes what discovery reads.

use std::sync::Arc;

use bytes::Bytes;
use discovery::layout::{EndpointRegistration, address_key, address_value, app_key};
use discovery::registry::{Expect, Key, Lifetime, Registry, RegistryError};
use topology::{AppId, InstanceKey};

use crate::DeployError;

/// Every write replaces what was there: the latest word on an instance or an app is the one that holds.
#[derive(Clone)]
pub struct Registrar {
    registry: Arc<dyn Registry>,
}

impl Registrar {
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }

    /// Lets requests go to an instance. With [`Lifetime::Session`] it is withdrawn when this process
    /// and its session end.
    ///
    /// # Errors
    /// [`DeployError::Registry`], which tells whether it may have happened all the same.
    pub async fn register(
        &self,
        app: &AppId,
        instance: &InstanceKey,
        endpoint: &EndpointRegistration,
        lifetime: Lifetime,
    ) -> Result<(), DeployError> {
        let key = address_key(app, &instance.version, &instance.instance);
        self.write(&key, address_value(endpoint), lifetime)
            .await
            .map_err(|source| failed(format!("register {key}"), source))
    }

    /// Takes an instance out of traffic. Gateways learn of it a moment later: what has begun goes on,
    /// so the instance must run on until its requests have ended. Succeeds where it was not registered.
    ///
    /// # Errors
    /// [`DeployError::Registry`].
    pub async fn unregister(&self, app: &AppId, instance: &InstanceKey) -> Result<(), DeployError> {
        let key = address_key(app, &instance.version, &instance.instance);
        self.registry
            .delete(&key, Expect::Any)
            .await
            .map_err(|source| failed(format!("unregister {key}"), source))
    }

    /// Writes an app's spec as it is: gateways read and judge it, and keep the last good one.
    ///
    /// # Errors
    /// [`DeployError::Registry`].
    pub async fn write_spec(&self, app: &AppId, json: Bytes) -> Result<(), DeployError> {
        let key = app_key(app);
        self.write(&key, json, Lifetime::Persistent)
            .await
            .map_err(|source| failed(format!("write the spec {key}"), source))
    }

    async fn write(&self, key: &Key, value: Bytes, lifetime: Lifetime) -> Result<(), RegistryError> {
        self.registry.write(key, value, Expect::Any, lifetime).await.map(drop)
    }
}

fn failed(doing: String, source: RegistryError) -> DeployError {
    DeployError::Registry { doing, source }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use discovery::registry::{Entry, State};
    use tokio::sync::watch;
    use topology::{InstanceId, VersionId};

    use super::*;

    /// Remembers what it was asked, or refuses everything.
    #[derive(Default)]
    struct Recorder {
        refuses: bool,
        asked: Mutex<Vec<String>>,
    }

    impl Recorder {
        fn take(&self, asked: String) -> Result<(), RegistryError> {
            if self.refuses {
                let source = "no quorum".into();
                return Err(RegistryError::Failed { doing: "ask".into(), may_have_happened: true, source });
            }
            self.asked.lock().unwrap().push(asked);
            Ok(())
        }
    }

    #[async_trait]
    impl Registry for Recorder {
        fn watch(&self) -> watch::Receiver<State> {
            unreachable!("a registrar only writes")
        }

        async fn read(&self, _: &Key) -> Result<Option<Entry>, RegistryError> {
            unreachable!("a registrar only writes")
        }

        async fn write(
            &self,
            key: &Key,
            value: Bytes,
            expect: Expect,
            lifetime: Lifetime,
        ) -> Result<u64, RegistryError> {
            let value = String::from_utf8_lossy(&value);
            self.take(format!("{key} = {value} {expect:?} {lifetime:?}")).map(|()| 1)
        }

        async fn delete(&self, key: &Key, expect: Expect) -> Result<(), RegistryError> {
            self.take(format!("{key} gone {expect:?}"))
        }
    }

    fn shop() -> (AppId, InstanceKey) {
        let key = InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse("c1").unwrap(),
        };
        (AppId::parse("shop").unwrap(), key)
    }

    #[tokio::test]
    async fn instance_enters_and_leaves_where_discovery_reads() {
        let recorder = Arc::new(Recorder::default());
        let registrar = Registrar::new(recorder.clone());
        let (app, key) = shop();
        let plain = EndpointRegistration::at("10.0.0.1:25701".parse().unwrap());
        let heavy = EndpointRegistration { weight: 100, ..plain.clone() };
        registrar.register(&app, &key, &plain, Lifetime::Session).await.unwrap();
        registrar.register(&app, &key, &heavy, Lifetime::Persistent).await.unwrap();
        registrar.unregister(&app, &key).await.unwrap();

        let asked = recorder.asked.lock().unwrap();
        assert_eq!(asked[0], "service/address/shop/v1/c1 = 10.0.0.1:25701 Any Session");
        assert!(asked[1].contains("100") && asked[1].ends_with("Any Persistent"), "{}", asked[1]);
        assert_eq!(asked[2], "service/address/shop/v1/c1 gone Any");
    }

    #[tokio::test]
    async fn spec_is_passed_through_as_it_is() {
        let recorder = Arc::new(Recorder::default());
        let spec = Bytes::from_static(b"{ \"hosts\": [] }");
        Registrar::new(recorder.clone()).write_spec(&shop().0, spec).await.unwrap();
        assert_eq!(*recorder.asked.lock().unwrap(), ["app/shop = { \"hosts\": [] } Any Persistent"]);
    }

    #[tokio::test]
    async fn failure_says_what_was_tried_and_keeps_its_cause() {
        let registrar = Registrar::new(Arc::new(Recorder { refuses: true, ..Recorder::default() }));
        let (app, key) = shop();
        let error = registrar.unregister(&app, &key).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot unregister service/address/shop/v1/c1");
        assert!(error.source().unwrap().to_string().contains("may have happened"));
    }
}

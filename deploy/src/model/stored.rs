//! How the engine's own documents write ids and durations.

use std::fmt::Display;
use std::time::Duration;

use discovery::registry::Key;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use topology::{AppId, BadId, HostId, InstanceId, VersionId};

use super::Unreadable;

pub(super) trait Id: Sized + Display {
    fn read(text: &str) -> Result<Self, BadId>;
}

macro_rules! ids {
    ($($type:ty),*) => { $(impl Id for $type {
        fn read(text: &str) -> Result<Self, BadId> {
            Self::parse(text)
        }
    })* };
}
ids!(AppId, HostId, InstanceId, VersionId);

pub(super) mod id {
    use super::*;

    pub fn serialize<T: Id, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, T: Id, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

pub(super) mod millis {
    use super::*;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

pub(super) fn read<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(value).map_err(|error| Unreadable { key: key.to_string(), why: error.to_string() })
}

pub(super) fn write<T: Serialize>(value: &T) -> bytes::Bytes {
    serde_json::to_vec(value).expect("maps of ours have strings for keys").into()
}

//! What the API may change: which kinds of entries there are, and under which names.

use std::fmt;

use topology::{AppId, BadId, CertificateName, InstanceId, InstanceKey, RouteId, VersionId};

use crate::registry::Key;

/// A kind of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    App,
    Route,
    Certificate,
    /// An operator's word on one endpoint.
    Operator,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::App, Self::Route, Self::Certificate, Self::Operator];

    /// The first segment of its keys.
    pub fn family(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Route => "route",
            Self::Certificate => "certificate",
            Self::Operator => "operator",
        }
    }

    /// All of them, as the API calls them.
    pub fn collection(self) -> &'static str {
        match self {
            Self::App => "apps",
            Self::Route => "routes",
            Self::Certificate => "certificates",
            Self::Operator => "operators",
        }
    }
}

/// The key of one entry, such as `app/shop` or `operator/shop/v1/c1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKey {
    App(AppId),
    Route(RouteId),
    Certificate(CertificateName),
    Operator { app: AppId, key: InstanceKey },
}

/// What is no key of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    #[error("{0:?} is no entry; write app/ID, route/ID, certificate/NAME or operator/APP/VERSION/INSTANCE")]
    Unknown(String),
    #[error(transparent)]
    Id(#[from] BadId),
}

impl EntryKey {
    /// # Errors
    /// [`BadEntry`] says what is wrong with the name.
    pub fn parse(text: &str) -> Result<Self, BadEntry> {
        let unknown = || BadEntry::Unknown(text.chars().take(256).collect());
        let (family, id) = text.split_once('/').ok_or_else(unknown)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.family() == family).ok_or_else(unknown)?;
        Self::of(kind, id)
    }

    /// `id` is what follows the kind.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of(kind: Kind, id: &str) -> Result<Self, BadEntry> {
        Ok(match kind {
            Kind::App => Self::App(AppId::parse(id)?),
            Kind::Route => Self::Route(RouteId::parse(id)?),
            Kind::Certificate => Self::Certificate(CertificateName::parse(id)?),
            Kind::Operator => {
                let mut parts = id.split('/');
                let (Some(app), Some(version), Some(instance), None) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    return Err(BadEntry::Unknown(format!(
                        "operator/{}",
                        id.chars().take(256).collect::<String>()
                    )));
                };
                let (version, instance) = (VersionId::parse(version)?, InstanceId::parse(instance)?);
                Self::Operator { app: AppId::parse(app)?, key: InstanceKey { version, instance } }
            }
        })
    }

    /// `None`: the registry's key is none of an entry.
    pub fn of_key(key: &Key) -> Option<Self> {
        Self::parse(key.as_str()).ok()
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::App(_) => Kind::App,
            Self::Route(_) => Kind::Route,
            Self::Certificate(_) => Kind::Certificate,
            Self::Operator { .. } => Kind::Operator,
        }
    }

    /// Whose it is. `None`: the platform's.
    pub fn app(&self) -> Option<&AppId> {
        match self {
            Self::App(app) | Self::Operator { app, .. } => Some(app),
            Self::Route(_) | Self::Certificate(_) => None,
        }
    }

    /// Where it stands in the registry.
    pub fn key(&self) -> Key {
        Key::parse(&self.to_string()).expect("ids are path segments, and four of their length fit into a key")
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.kind().family();
        match self {
            Self::App(id) => write!(formatter, "{family}/{id}"),
            Self::Route(id) => write!(formatter, "{family}/{id}"),
            Self::Certificate(name) => write!(formatter, "{family}/{name}"),
            Self::Operator { app, key } => {
                write!(formatter, "{family}/{app}/{}/{}", key.version, key.instance)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_entries_read_back_and_no_others_do() {
        for text in ["app/shop", "route/old-site", "certificate/shop.test", "operator/shop/v1/c1"] {
            let entry = EntryKey::parse(text).unwrap();
            assert_eq!(entry.to_string(), text);
            assert_eq!(EntryKey::of_key(&entry.key()), Some(entry));
        }
        for text in [
            "",
            "app",
            "app/",
            "app/a/b",
            "apps/shop",
            "vip/10.0.0.1",
            "history/1",
            "operator/shop",
            "operator/shop/v1",
            "operator/shop/v1/c1/x",
            "route/../x",
            "gateway/gw-1",
            "service/address/a/v/c",
        ] {
            assert!(EntryKey::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}") {
            if let Ok(entry) = EntryKey::parse(&text) {
                prop_assert_eq!(entry.to_string(), &*text);
                prop_assert_eq!(EntryKey::of_key(&entry.key()), Some(entry));
            }
        }
    }
}

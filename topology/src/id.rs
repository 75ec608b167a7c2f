//! Names of apps, versions and instances: registry path segments, metric labels and log fields.

use std::fmt;
use std::sync::Arc;

/// Long enough for a container's full 64-digit id with a prefix; short enough to bound labels and keys.
pub const MAX_ID_BYTES: usize = 128;

/// A string that is no valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no valid {kind}: use 1 to {MAX_ID_BYTES} of a-z A-Z 0-9 . _ -, not starting with a dot"
)]
pub struct BadId {
    kind: &'static str,
    given: String,
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_ID_BYTES
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// # Errors
            /// [`BadId`] when `text` has a character or a length that no registry path segment may have.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                if is_name(text) {
                    return Ok(Self(Arc::from(text)));
                }
                Err(BadId { kind: $kind, given: text.chars().take(MAX_ID_BYTES + 1).collect() })
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A tenant's program.
    AppId, "app id");
name!(
    /// One image of an app.
    VersionId, "version");
name!(
    /// One container (or process) of one version.
    InstanceId, "instance id");
name!(
    /// A machine that runs instances.
    HostId, "host id");
name!(
    /// A route of no app.
    RouteId, "route id");
name!(
    /// A certificate that the registry keeps.
    CertificateName, "certificate name");

/// What no app's name can begin with.
const ROUTE_MARK: &str = "route:";

impl AppId {
    /// A route of no app is served as an app of its own, under a name that no tenant can take.
    pub fn of_route(route: &RouteId) -> Self {
        Self(Arc::from(format!("{ROUTE_MARK}{route}")))
    }

    /// The route that is served under this name. `None`: it is an app's.
    pub fn route(&self) -> Option<&str> {
        self.0.strip_prefix(ROUTE_MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_registry_path_are_refused() {
        for bad in ["", "a/b", ".", "..", "a b", "ü", "a\0", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(AppId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["shop", "Shop_1", "v1.2-rc3", &"x".repeat(MAX_ID_BYTES)] {
            assert_eq!(AppId::parse(good).unwrap().as_str(), good);
        }
    }
}

//! What TCP listeners' connections and UDP listeners' sessions need to know of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use topology::{AppId, HostPattern};

use super::tls::ServerTls;

/// As configured; all workers share it.
#[derive(Debug)]
pub struct TcpSettings {
    pub routes: StreamRoutes,
    /// TLS ends here.
    pub tls: Option<Arc<ServerTls>>,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
}

/// As configured; all workers share it.
#[derive(Debug)]
pub struct UdpSettings {
    pub app: AppId,
    /// Without a datagram in either direction.
    pub idle_timeout: Duration,
    /// Of each worker.
    pub max_sessions: usize,
}

/// Which app gets a connection.
#[derive(Debug, Default)]
pub struct StreamRoutes {
    exact: HashMap<Arc<str>, AppId>,
    /// By what follows `*.`.
    wildcard: HashMap<Arc<str>, AppId>,
    default: Option<AppId>,
}

impl StreamRoutes {
    pub fn new(default: Option<AppId>, names: &[(HostPattern, AppId)]) -> Self {
        let mut routes = Self { default, ..Self::default() };
        for (pattern, app) in names {
            match pattern {
                HostPattern::Exact(name) => drop(routes.exact.insert(name.clone(), app.clone())),
                HostPattern::Wildcard(name) => drop(routes.wildcard.insert(name.clone(), app.clone())),
                HostPattern::Any => routes.default = Some(app.clone()),
            }
        }
        routes
    }

    /// Whether the server name decides.
    pub fn are_by_name(&self) -> bool {
        !self.exact.is_empty() || !self.wildcard.is_empty()
    }

    /// Exact names first, then the longest wildcard, then the listener's app. `name` is lower case.
    pub fn find(&self, name: Option<&str>) -> Option<&AppId> {
        name.and_then(|name| self.named(name)).or(self.default.as_ref())
    }

    fn named(&self, name: &str) -> Option<&AppId> {
        let below = || {
            let mut rest = name;
            std::iter::from_fn(move || {
                rest = rest.split_once('.')?.1;
                Some(rest)
            })
        };
        self.exact.get(name).or_else(|| below().find_map(|parent| self.wildcard.get(parent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_win_then_the_longest_wildcard_then_the_default() {
        let app = |id: &str| AppId::parse(id).unwrap();
        let names = [("db.example.com", "exact"), ("*.example.com", "wide"), ("*.eu.example.com", "narrow")];
        let names = names.map(|(name, id)| (HostPattern::parse(name).unwrap(), app(id)));
        let routes = StreamRoutes::new(None, &names);
        let found = |name| routes.find(name).map(|app| app.as_str());
        assert_eq!(found(Some("db.example.com")), Some("exact"));
        assert_eq!(found(Some("x.db.example.com")), Some("wide"));
        assert_eq!(found(Some("a.eu.example.com")), Some("narrow"));
        for unknown in [Some("example.com"), Some("com"), Some("notexample.com"), None] {
            assert_eq!(found(unknown), None, "{unknown:?}");
        }
        let routes = StreamRoutes::new(Some(app("rest")), &names);
        assert_eq!(routes.find(None).map(|app| app.as_str()), Some("rest"));
        assert_eq!(routes.find(Some("example.com")).map(|app| app.as_str()), Some("rest"));
    }
}

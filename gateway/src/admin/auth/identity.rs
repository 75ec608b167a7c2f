//! Who asks, and what that role may do.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::Method;
use discovery::change::{EntryKey, Scope};
use topology::AppId;

/// From where a connection came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// This machine, in clear text.
    Loopback(IpAddr),
    /// This machine, over the socket that only its owner can open.
    Local { user: Arc<str> },
    /// Over TLS, from anywhere. `certificate`: the common name of one that was verified.
    Tls { address: IpAddr, certificate: Option<Arc<str>> },
}

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// See everything, change nothing.
    Read,
    /// Everything.
    Operate,
    /// See and change these apps and nothing else.
    Tenant(Arc<[AppId]>),
}

impl Role {
    pub const NAMES: [&str; 3] = ["read", "operate", "tenant"];

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Tenant(_) => "tenant",
        }
    }
}

/// Who asks, for the history and the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: Arc<str>,
    pub role: Role,
}

impl Identity {
    /// Whose entries this one may see, and change as far as it may change anything.
    pub fn scope(&self) -> Scope {
        match &self.role {
            Role::Read | Role::Operate => Scope::All,
            Role::Tenant(apps) => Scope::Apps(apps.to_vec()),
        }
    }

    pub fn sees(&self, entry: &EntryKey) -> bool {
        self.scope().has(entry)
    }
}

/// What a request asks for, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'w> {
    pub method: &'w Method,
    pub path: &'w str,
    /// Of its query, where that names exactly one.
    pub app: Option<&'w str>,
}

/// Answers that tell nothing and that load balancers ask for: nobody has to say who he is.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/live" | "/ready")
}

/// Whether the role admits it. Within `/v1/config`, `/v1/history` and `/v1/rollback` what a tenant meets is cut down to its
/// apps by whoever answers.
pub fn permits(role: &Role, wish: Wish<'_>) -> bool {
    let reads = matches!(*wish.method, Method::GET | Method::HEAD);
    match role {
        Role::Operate => true,
        Role::Read => reads,
        Role::Tenant(apps) => {
            let is_own = || wish.app.is_some_and(|app| apps.iter().any(|own| own.as_str() == app));
            match wish.path {
                "/v1/config" | "/v1/history" | "/v1/openapi.json" => reads,
                "/v1/config/apply" | "/v1/rollback" => true,
                "/v1/apps" | "/v1/endpoints" | "/v1/explain" | "/v1/filters" | "/v1/traffic"
                | "/v1/tunnels" => reads && is_own(),
                path if path.starts_with("/v1/history/") => reads,
                path => path.starts_with("/v1/config/apps/") || path.starts_with("/v1/config/operators/"),
            }
        }
    }
}

/// Whether the role admits it of the deploy API. Of lists and events a tenant is shown its own apps', and whose instance it
/// is whoever answers looks at.
pub fn permits_deploying(role: &Role, wish: Wish<'_>) -> bool {
    let reads = matches!(*wish.method, Method::GET | Method::HEAD);
    match role {
        Role::Operate => true,
        Role::Read => reads,
        Role::Tenant(apps) => {
            let of_app = wish.path.strip_prefix("/v1/apps/").and_then(|rest| rest.split('/').next());
            match of_app {
                Some(app) => apps.iter().any(|own| own.as_str() == app),
                None => {
                    let is_list =
                        matches!(wish.path, "/v1/apps" | "/v1/instances" | "/v1/events" | "/v1/openapi.json");
                    reads && (is_list || wish.path.starts_with("/v1/instances/"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(role: &Role, method: &Method, path: &str, app: Option<&str>) -> bool {
        permits(role, Wish { method, path, app })
    }

    #[test]
    fn readers_change_nothing_and_operators_everything() {
        for path in ["/v1/config/apps/shop", "/v1/rollback", "/v1/tunnels", "/v1/registry/accept", "/metrics"]
        {
            assert!(may(&Role::Read, &Method::GET, path, None), "{path}");
            for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
                assert!(!may(&Role::Read, &method, path, None), "{method} {path}");
                assert!(may(&Role::Operate, &method, path, None), "{method} {path}");
            }
        }
    }

    #[test]
    fn tenants_deploy_their_own_apps_only() {
        let tenant = Role::Tenant([AppId::parse("shop").unwrap()].into());
        let may = |method: &Method, path: &str| permits_deploying(&tenant, Wish { method, path, app: None });
        assert!(may(&Method::PUT, "/v1/apps/shop") && may(&Method::POST, "/v1/apps/shop/rollout"));
        assert!(may(&Method::GET, "/v1/apps") && may(&Method::GET, "/v1/instances/c1/logs"));
        for path in ["/v1/apps/blog", "/v1/apps/shopping/scale", "/v1/apps/", "/v1/hosts", "/v1/hosts/h1"] {
            assert!(!may(&Method::PUT, path) && !may(&Method::GET, path), "{path}");
        }
        assert!(!may(&Method::POST, "/v1/apps"));
        let reader =
            |method: &Method| permits_deploying(&Role::Read, Wish { method, path: "/v1/hosts", app: None });
        assert!(reader(&Method::GET) && !reader(&Method::PUT));
    }

    #[test]
    fn tenants_meet_their_own_apps_only() {
        let tenant = Role::Tenant([AppId::parse("shop").unwrap()].into());
        for path in ["/metrics", "/v1/table", "/v1/revisions", "/v1/certificates", "/v1/process"] {
            assert!(!may(&tenant, &Method::GET, path, Some("shop")), "{path}");
        }
        for path in ["/v1/apps", "/v1/explain"] {
            assert!(may(&tenant, &Method::GET, path, Some("shop")), "{path}");
            assert!(!may(&tenant, &Method::GET, path, Some("blog")), "{path}");
            assert!(!may(&tenant, &Method::GET, path, None), "{path}");
        }
        assert!(!may(&tenant, &Method::DELETE, "/v1/tunnels", Some("shop")));
        assert!(!may(&tenant, &Method::POST, "/v1/registry/accept", Some("shop")));
        assert!(may(&tenant, &Method::PUT, "/v1/config/apps/shop", None));
        assert!(!may(&tenant, &Method::PUT, "/v1/config/routes/shop", None));
        let identity = Identity { name: "ci".into(), role: tenant };
        for (entry, sees) in [
            ("app/shop", true),
            ("operator/shop/v1/c1", true),
            ("app/blog", false),
            ("route/shop", false),
            ("certificate/shop", false),
        ] {
            assert_eq!(identity.sees(&EntryKey::parse(entry).unwrap()), sees, "{entry}");
        }
    }
}

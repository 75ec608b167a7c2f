//! From the routing table to names: each app's own, and those that it claims.
//!
//! An app's *home* is `{app}.{base_domain}` where that is in the zone, and `{app}.{zone}` otherwise. It leads to the app's
//! virtual IPs, or to those that all share. Every other host of the app is an alias of its home, whoever serves it: the zone
//! itself, another server that takes our updates, or the customer's own DNS.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use topology::{AppId, HostPattern};

use super::zone::Target;
use crate::table::{CompiledApp, RoutingTable};

/// What names are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    pub origin: Name,
    /// Where homes are: the zone, or a name below it.
    pub homes: Arc<str>,
    /// Where apps are that name no address of their own.
    pub shared: Arc<[IpAddr]>,
    /// Those that apps may name: nobody else's host is given out under our names.
    pub known: BTreeSet<IpAddr>,
    /// Name servers with names in this zone.
    pub glue: Vec<(Name, Arc<[IpAddr]>)>,
}

/// Every name, in the zone or elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub inside: OrdMap<Name, Target>,
    /// Customers' own.
    pub outside: OrdMap<Name, Target>,
}

impl Naming {
    /// Without any app.
    pub fn begin(&self) -> Names {
        let glue = self.glue.iter().map(|(name, ips)| (name.clone(), Target::Fixed(ips.clone())));
        Names { inside: glue.collect(), outside: OrdMap::new() }
    }

    /// Brings `names`, which are those of `former`, to `table`, at the cost of what differs.
    pub fn follow(&self, former: &RoutingTable, table: &RoutingTable, names: &mut Names) {
        let mut touched = BTreeSet::new();
        for difference in former.snapshot.apps.diff(&table.snapshot.apps) {
            let id = match difference {
                DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. } => id,
            };
            for app in [former, table].into_iter().filter_map(|table| table.app(id)) {
                touched.extend(app.hosts().iter().cloned());
            }
            touched.extend(self.home(id));
        }
        // Whoever takes another app's home makes that one's aliases lead to its addresses instead.
        let displaced = touched.iter().filter_map(|host| table.app(&self.resident(host)?));
        let displaced: Vec<_> = displaced.flat_map(|app| app.hosts().iter().cloned()).collect();
        touched.extend(displaced);
        for host in touched {
            let Some(name) = name_of(&host) else { continue };
            if self.glue.iter().any(|(glue, _)| *glue == name) {
                // The zone itself hangs on it.
                continue;
            }
            let map = if self.origin.zone_of(&name) { &mut names.inside } else { &mut names.outside };
            match self.target(table, &host, &name) {
                Some(target) if map.get(&name) == Some(&target) => {}
                Some(target) => drop(map.insert(name, target)),
                None => drop(map.remove(&name)),
            }
        }
    }

    fn target(&self, table: &RoutingTable, host: &HostPattern, name: &Name) -> Option<Target> {
        let Some(app) = owner(table, host) else {
            // A home that nobody claims is there for the sake of aliases.
            let app = table.app(&self.resident(host)?)?;
            return Some(self.addresses(app));
        };
        let home = self.home(&app.id);
        // RFC 1034 section 3.6.2: nothing stands beside an alias, and at the origin there is something.
        if home.as_ref() == Some(host) || *name == self.origin {
            return Some(self.addresses(&app));
        }
        let leads_home = |home: &HostPattern| owner(table, home).is_none_or(|owner| owner.id == app.id);
        match home.filter(leads_home).as_ref().and_then(name_of) {
            Some(home) => Some(Target::Alias(home)),
            None => Some(self.addresses(&app)),
        }
    }

    fn addresses(&self, app: &CompiledApp) -> Target {
        let named = app.spec.vips.as_deref().unwrap_or_default();
        let own: Vec<_> = named.iter().copied().filter(|ip| self.known.contains(ip)).collect();
        Target::Addresses(if own.is_empty() { self.shared.clone() } else { own.into() })
    }

    fn home(&self, id: &AppId) -> Option<HostPattern> {
        HostPattern::parse(&format!("{id}.{}", self.homes)).ok()
    }

    /// The app whose home this would be.
    fn resident(&self, host: &HostPattern) -> Option<AppId> {
        let HostPattern::Exact(host) = host else { return None };
        AppId::parse(host.strip_suffix(&*self.homes)?.strip_suffix('.')?).ok()
    }
}

/// Who gets most of a host's requests: whose own name it is, or who claimed it first.
fn owner(table: &RoutingTable, host: &HostPattern) -> Option<Arc<CompiledApp>> {
    let apps = table.routes_of(host)?.apps();
    apps.into_iter().min_by(|one, other| {
        let rank = |app: &CompiledApp| !app.has_own_name();
        rank(one).cmp(&rank(other)).then_with(|| one.precedence().cmp(&other.precedence()))
    })
}

/// `None`: an address, any host, or a name that DNS cannot carry.
fn name_of(host: &HostPattern) -> Option<Name> {
    let text = match host {
        HostPattern::Exact(name) if name.starts_with('[') || name.parse::<IpAddr>().is_ok() => return None,
        HostPattern::Any => return None,
        host => host.to_string(),
    };
    absolute(&text)
}

/// From the root.
pub fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?.to_lowercase();
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use topology::{App, AppSpec, Revision, Snapshot};

    use super::*;
    use crate::table::compile;
    use crate::table::compile::Settings;

    fn naming() -> Naming {
        Naming {
            origin: absolute("apps.test").unwrap(),
            homes: "apps.test".into(),
            shared: ["192.0.2.1".parse().unwrap()].into(),
            known: ["192.0.2.1", "192.0.2.9"].map(|ip| ip.parse().unwrap()).into(),
            glue: vec![(absolute("ns1.apps.test").unwrap(), ["192.0.2.53".parse().unwrap()].into())],
        }
    }

    fn app(id: &str, claimed: u64, hosts: &[&str], vips: &[&str]) -> Arc<App> {
        let vips: Vec<_> = vips.iter().map(|ip| ip.parse().unwrap()).collect();
        let spec = AppSpec {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            vips: (!vips.is_empty()).then(|| vips.into()),
            ..AppSpec::implied()
        };
        Arc::new(App { id: AppId::parse(id).unwrap(), spec: Arc::new(spec), endpoints: Vec::new(), claimed })
    }

    fn step(former: &RoutingTable, apps: &[Arc<App>]) -> RoutingTable {
        let settings = Settings {
            base_domain: Some("apps.test".to_owned()),
            shards: 1,
            upstream_tls: Arc::default(),
            tenants: Arc::default(),
            statistics: false,
            sources: Arc::default(),
            zone: None,
            sticky: Arc::default(),
        };
        let apps = apps.iter().map(|app| (app.id.clone(), app.clone())).collect();
        let snapshot = Snapshot { revision: Revision(1), apps, ..Snapshot::default() };
        compile(&settings, former, snapshot).0
    }

    fn shown(names: &OrdMap<Name, Target>) -> Vec<String> {
        let target = |target: &Target| match target {
            Target::Alias(name) => name.to_string(),
            Target::Addresses(ips) => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Target::Fixed(_) => "fixed".to_owned(),
        };
        names.iter().map(|(name, to)| format!("{name} {}", target(to))).collect()
    }

    #[test]
    fn an_app_has_a_home_and_its_other_hosts_are_aliases_of_it() {
        let (naming, empty) = (naming(), RoutingTable::default());
        let mut names = naming.begin();
        let table = step(
            &empty,
            &[
                app("plain", 1, &[], &[]),
                app("shop", 1, &["www.customer.test", "*.shop.apps.test", "apps.test", "*"], &["192.0.2.9"]),
                app("rebound", 1, &[], &["198.51.100.1"]),
            ],
        );
        naming.follow(&empty, &table, &mut names);
        assert_eq!(
            shown(&names.inside),
            [
                "apps.test. 192.0.2.9",
                "ns1.apps.test. fixed",
                "plain.apps.test. 192.0.2.1",
                "rebound.apps.test. 192.0.2.1",
                "shop.apps.test. 192.0.2.9",
                "*.shop.apps.test. shop.apps.test.",
            ]
        );
        assert_eq!(shown(&names.outside), ["www.customer.test. shop.apps.test."]);
        let gone = step(&table, &[app("plain", 1, &[], &[]), app("ns1", 1, &[], &[])]);
        naming.follow(&table, &gone, &mut names);
        assert_eq!(shown(&names.inside), ["ns1.apps.test. fixed", "plain.apps.test. 192.0.2.1"]);
        assert!(names.outside.is_empty());
    }

    #[test]
    fn a_home_that_somebody_else_took_first_is_not_what_aliases_lead_to() {
        let (naming, empty) = (naming(), RoutingTable::default());
        let mut names = naming.begin();
        let shop = app("shop", 2, &["www.apps.test"], &["192.0.2.9"]);
        let table = step(&empty, std::slice::from_ref(&shop));
        naming.follow(&empty, &table, &mut names);
        assert!(shown(&names.inside).contains(&"www.apps.test. shop.apps.test.".to_owned()));
        let taken = step(&table, &[shop.clone(), app("thief", 1, &["shop.apps.test"], &[])]);
        naming.follow(&table, &taken, &mut names);
        let now = shown(&names.inside);
        assert!(now.contains(&"www.apps.test. 192.0.2.9".to_owned()), "{now:?}");
        assert!(now.contains(&"shop.apps.test. thief.apps.test.".to_owned()), "{now:?}");
        let back = step(&taken, &[shop]);
        naming.follow(&taken, &back, &mut names);
        assert!(shown(&names.inside).contains(&"www.apps.test. shop.apps.test.".to_owned()));
    }

    #[test]
    fn names_that_follow_changes_are_those_that_a_start_would_make() {
        let (naming, mut random) = (naming(), fastrand::Rng::with_seed(4));
        let hosts = ["a.apps.test", "b.apps.test", "*.a.apps.test", "x.test", "*.x.test", "apps.test"];
        let (mut former, mut names) = (RoutingTable::default(), naming.begin());
        for round in 0..300 {
            let mut apps = Vec::new();
            for id in ["a", "b", "c"] {
                let claims: Vec<_> = hosts.iter().copied().filter(|_| random.u8(..) < 70).collect();
                let vips: &[&str] = if random.bool() { &["192.0.2.9"] } else { &[] };
                if random.u8(..) < 170 {
                    apps.push(app(id, random.u64(1..3), &claims, vips));
                }
            }
            let table = step(&former, &apps);
            naming.follow(&former, &table, &mut names);
            let mut fresh = naming.begin();
            naming.follow(&RoutingTable::default(), &step(&RoutingTable::default(), &apps), &mut fresh);
            assert_eq!(names, fresh, "round {round}");
            former = table;
        }
    }
}

use std::sync::Arc;

use discovery::spec::parse_app_file;
use proptest::prelude::*;
use topology::{AdminState, OperatorWord, Snapshot};

use super::question::Asking;
use super::*;
use crate::listener::Doorway;
use crate::table::compile;
use crate::table::compile::Settings;

fn settings() -> Settings {
    Settings {
        base_domain: Some("apps.test".into()),
        shards: 1,
        upstream_tls: Arc::default(),
        tenants: Arc::default(),
        statistics: false,
        sources: Arc::default(),
        zone: None,
        sticky: Arc::default(),
    }
}

/// Apps as their owners write them; endpoints whose instance is `drained` have an operator's word.
fn table(files: &[&str]) -> RoutingTable {
    let mut snapshot = Snapshot::default();
    for text in files {
        let mut app = parse_app_file("app.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        for endpoint in &mut app.endpoints {
            if endpoint.key.instance.as_str() == "drained" {
                endpoint.word = OperatorWord { state: AdminState::Drain, weight: None };
            }
        }
        snapshot.apps.insert(app.id.clone(), Arc::new(app));
    }
    compile(&settings(), &RoutingTable::default(), snapshot).0
}

fn endpoint(version: &str, instance: &str, weight: u16) -> String {
    format!(
        "[[endpoint]]\nversion = \"{version}\"\ninstance = \"{instance}\"\naddress = \"127.0.0.1:1\"\nweight = {weight}\n"
    )
}

fn told(table: &RoutingTable, asking: &Asking<'_>) -> Explanation {
    let doorways = [("web", 8080, false), ("web-tls", 8443, true)].map(|(name, port, is_tls)| Doorway {
        name: name.into(),
        address: ([127, 0, 0, 1], port).into(),
        is_tls,
        https: (&crate::config::HttpsConfig::default()).into(),
        limits: Arc::default(),
    });
    let question = Question::read(asking, &doorways, |_| false).unwrap();
    explain(table, &question, &Surroundings { trusts: &|_| false, rate_limits: None })
}

fn of(table: &RoutingTable, url: &str) -> Explanation {
    told(table, &Asking { url, ..Asking::default() })
}

fn routes(told: &Explanation) -> Vec<(&str, &str, &str)> {
    told.routes.iter().map(|step| (&*step.host, &*step.path, step.verdict)).collect()
}

#[test]
fn the_route_that_is_taken_is_told_with_those_that_lost() {
    let table = table(&[
        &("id = \"api\"\nhosts = [\"a.test\"]\npaths = [\"/api\"]\n".to_owned() + &endpoint("v1", "c1", 1)),
        "id = \"site\"\nhosts = [\"a.test\"]\npaths = [\"/\", \"=/login\"]\n",
        "id = \"late\"\nhosts = [\"a.test\"]\npaths = [\"/api\"]\n",
        "id = \"secure\"\nhosts = [\"a.test\"]\npaths = [\"/api/v1\"]\nlisteners = [\"web-tls\"]\n",
        "id = \"wild\"\nhosts = [\"*.test\"]\n",
        "id = \"rest\"\nhosts = [\"*\"]\npaths = [\"/other\"]\n",
    ]);
    let explained = of(&table, "http://a.test/api/v1/x?y");
    assert_eq!((explained.app.as_deref(), explained.outcome.is_forwarded), (Some("api"), true));
    assert_eq!(explained.outcome.target.as_deref(), Some("/api/v1/x?y"));
    let hosts: Vec<_> = explained.hosts.iter().map(|step| (&*step.pattern, step.verdict)).collect();
    assert_eq!(hosts, [("a.test", "chosen"), ("*.test", "less_specific"), ("*", "less_specific")]);
    assert_eq!(
        routes(&explained),
        [
            ("a.test", "=/login", "other_path"),
            ("a.test", "/api/v1", "other_listener"),
            ("a.test", "/api", "chosen"),
            ("a.test", "/api", "claimed_later"),
            ("a.test", "/", "shorter"),
            ("*.test", "/", "less_specific_host"),
        ]
    );
    assert_eq!(of(&table, "https://a.test/api/v1").app.as_deref(), Some("secure"));
    let unknown = of(&table, "http://nobody/");
    assert_eq!((unknown.outcome.reason, unknown.outcome.status), (Some("unknown_path"), Some(404)));
    assert_eq!(of(&RoutingTable::default(), "http://a.test/").outcome.reason, Some("unknown_host"));
    let bad = told(
        &table,
        &Asking { url: "a.test", headers: &["Content-Length: x".to_owned()], ..Asking::default() },
    );
    assert_eq!(bad.outcome.reason, Some("bad_request"));
}

#[test]
fn matches_say_which_condition_failed_and_split_the_rest() {
    let table = table(&[&("id = \"shop\"\nhosts = [\"a.test\"]\nsplit = { v1 = 90, v2 = 10 }\n\
         [[match]]\nname = \"beta\"\nheader = [{ name = \"x-beta\", equals = \"1\" }]\nversion = \"v2\"\n\
         [[match]]\nname = \"closed\"\npath = [\"/admin\"]\nrefuse = true\n\
         [[match]]\nname = \"all\"\npath = [\"/\"]\nmethod = [\"PUT\"]\n"
        .to_owned()
        + &endpoint("v1", "c1", 1)
        + &endpoint("v2", "c1", 3)
        + &endpoint("v2", "drained", 1))]);
    let verdicts = |told: &Explanation| {
        told.matches.iter().map(|step| (step.verdict, step.unmet.clone())).collect::<Vec<_>>()
    };
    let unmet = Some("header = { name = \"x-beta\", equals = \"1\" }".to_owned());
    let put = Some("method = [\"PUT\"]".to_owned());
    let plain = of(&table, "a.test/x");
    let path = Some("path = [\"/admin\"]".to_owned());
    assert_eq!(verdicts(&plain), [("not_met", unmet), ("not_met", path.clone()), ("not_met", put.clone())]);
    let versions: Vec<_> =
        plain.versions.iter().map(|v| (v.version.as_deref(), v.percent, v.eligible, v.stands_in)).collect();
    assert_eq!(versions, [(Some("v1"), Some(90.0), 1, false), (Some("v2"), Some(10.0), 1, false)]);
    let headers = ["X-Beta: 1".to_owned()];
    let beta = told(&table, &Asking { url: "a.test/admin", headers: &headers, ..Asking::default() });
    assert_eq!(verdicts(&beta), [("chosen", None), ("not_reached", None), ("not_met", put)]);
    assert_eq!((beta.versions[0].version.as_deref(), beta.versions[0].stands_in), (Some("v2"), false));
    assert_eq!((beta.versions[1].version.as_deref(), beta.versions[1].stands_in), (Some("v1"), true));
    let shown = serde_json::to_value(&beta).unwrap();
    let endpoints = &shown["versions"][0]["endpoints"];
    assert_eq!((&endpoints[0]["is_candidate"], &endpoints[0]["percent"]), (&true.into(), &100.0.into()));
    assert_eq!((&endpoints[1]["is_candidate"], &endpoints[1]["state"]), (&false.into(), &"drain".into()));
    assert_eq!(endpoints[1]["why"], "operator: drain");
    let refused = of(&table, "a.test/admin");
    assert_eq!((refused.outcome.reason, refused.outcome.is_forwarded), (Some("match_refused"), false));
}

#[test]
fn filters_tell_what_they_would_do_and_count_nothing() {
    let table = table(&[&("id = \"shop\"\nhosts = [\"a.test\"]\n\
         [[filters.redirects]]\nfrom = \"/old\"\nto = \"/new\"\nstatus = 301\n\
         [[filters.rate_limits]]\nname = \"all\"\nrequests = 1\nper = \"1h\"\nby = \"client\"\n\
         [filters.rewrite]\nstrip_prefix = \"/api\"\n\
         [[filters.faults]]\npercent = 50\nabort = 500\n"
        .to_owned()
        + &endpoint("v1", "c1", 1))]);
    for _ in 0..3 {
        let explained = of(&table, "a.test/api/x?q");
        let effects: Vec<_> = explained.filters.iter().map(|step| (step.filter, &*step.effect)).collect();
        assert_eq!(
            effects,
            [
                ("rate_limits", "depends on how often the client has asked"),
                ("redirects", "passes"),
                ("rewrite", "passes"),
                ("faults", "depends on a lot that hits 50 % of requests"),
            ]
        );
        assert_eq!(explained.outcome.target.as_deref(), Some("/x?q"));
        assert_eq!(explained.outcome.depends_on.len(), 2);
    }
    let moved = of(&table, "a.test/old/x");
    assert_eq!((moved.outcome.reason, moved.outcome.status), (Some("redirected"), Some(301)));
    assert_eq!(moved.outcome.location.as_deref(), Some("/new/x"));
    assert_eq!(moved.filters[2].effect, "not reached");
    let app = table.apps.values().next().unwrap();
    let (passed, refused) = app.filters.as_ref().unwrap().metrics.totals(crate::filter::Kind::Redirects);
    assert_eq!((passed, refused), (0, 0), "nothing is counted");
}

#[test]
fn who_has_nobody_left_is_told_why() {
    let shop = "id = \"shop\"\nhosts = [\"a.test\"]\n".to_owned();
    for (endpoints, reason) in [
        (String::new(), "no_endpoint"),
        (endpoint("v1", "c1", 0), "no_healthy_endpoint"),
        (endpoint("v1", "drained", 1) + &endpoint("v1", "c1", 0), "endpoints_withdrawn"),
    ] {
        let explained = of(&table(&[&(shop.clone() + &endpoints)]), "a.test");
        assert_eq!((explained.outcome.reason, explained.outcome.status), (Some(reason), Some(503)));
    }
    let secure = shop + "https_only = true\n" + &endpoint("v1", "c1", 1);
    let explained = of(&table(&[&secure]), "a.test/x");
    assert_eq!(explained.outcome.location.as_deref(), Some("https://a.test/x"));
}

#[test]
fn a_key_prefers_the_same_candidate_until_it_is_out() {
    let hashing =
        "id = \"shop\"\nhosts = [\"a.test\"]\nbalance = { kind = \"hash\", key = \"header:x-user\" }\n"
            .to_owned();
    let table = table(&[&(hashing + &endpoint("v1", "c1", 1) + &endpoint("v1", "drained", 1))]);
    for user in 0..20 {
        let headers = [format!("X-User: {user}")];
        let explained = told(&table, &Asking { url: "a.test", headers: &headers, ..Asking::default() });
        let balance = explained.balance.unwrap();
        assert_eq!((balance.has_key, balance.prefers.as_deref()), (Some(true), Some("v1/c1")));
    }
    assert_eq!(of(&table, "a.test").balance.unwrap().has_key, Some(false));
}

fn arbitrary_file() -> impl Strategy<Value = String> {
    let hosts = proptest::sample::subsequence(vec!["a.test", "*.test", "b.a.test", "*.a.test", "*"], 0..4);
    let paths = proptest::sample::subsequence(vec!["/", "/x", "=/x", "/x/y", "/z"], 1..4);
    let listeners = prop::sample::select(vec!["", "listeners = [\"web\"]\n", "listeners = [\"web-tls\"]\n"]);
    (prop::sample::select(vec!["p", "q", "r", "s", "t"]), hosts, paths, listeners).prop_map(
        |(id, hosts, paths, listeners)| {
            format!(
                "id = {id:?}\nhosts = {hosts:?}\npaths = {paths:?}\n{listeners}{}",
                endpoint("v1", "c1", 1)
            )
        },
    )
}

proptest! {
    /// What is written down agrees with what decides.
    #[test]
    fn the_one_route_that_is_chosen_is_the_one_that_requests_take(
        files in proptest::collection::vec(arbitrary_file(), 0..6),
        host in prop::sample::select(vec!["a.test", "b.a.test", "c.b.a.test", "test", "q.apps.test", "else"]),
        path in prop::sample::select(vec!["/", "/x", "/x/", "/x/y/z", "/zz", "/z/%2e%2e/x"]),
        scheme in prop::sample::select(vec!["http", "https"]),
    ) {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let table = table(&files);
        let explained = of(&table, &format!("{scheme}://{host}{path}"));
        let listener = if scheme == "https" { "web-tls" } else { "web" };
        let found = table.find(listener, &explained.request.host, explained.request.path.as_bytes());
        prop_assert_eq!(explained.app.as_deref(), found.app().map(|app| app.id.as_str()));
        let chosen: Vec<_> = explained.routes.iter().filter(|step| step.verdict == "chosen").collect();
        prop_assert_eq!(chosen.len(), usize::from(found.app().is_some()));
        prop_assert!(chosen.iter().all(|step| Some(&step.app) == explained.app.as_ref()));
        let hosts = explained.hosts.iter().filter(|step| step.verdict == "chosen").count();
        prop_assert_eq!(hosts, usize::from(!matches!(found, Match::UnknownHost)));
        prop_assert_eq!(explained.outcome.is_forwarded, found.app().is_some());
    }
}

#[test]
fn a_tenant_is_told_of_its_own_app_and_of_no_other_one() {
    let table = table(&[
        &format!("id = \"shop\"\nhosts = [\"shop.test\"]\n{}", endpoint("v1", "c1", 1)),
        "id = \"secret\"\nhosts = [\"*.test\", \"shop.test\"]\npaths = [\"/secret\"]\n",
    ]);
    let [shop, secret] = ["shop", "secret"].map(|id| topology::AppId::parse(id).unwrap());
    let all = serde_json::to_string(&of(&table, "http://shop.test/")).unwrap();
    assert!(all.contains("secret"), "{all}");
    let own = of(&table, "http://shop.test/").only(&shop, &table).expect("it is its own");
    let own = serde_json::to_string(&own).unwrap();
    assert!(own.contains("c1") && !own.contains("secret") && !own.contains("*.test"), "{own}");
    // Of others, of nobody, and the other way round.
    for url in ["http://shop.test/secret", "http://other.test/", "http://nobody.example/"] {
        assert!(of(&table, url).only(&shop, &table).is_none(), "{url}");
    }
    assert!(of(&table, "http://shop.test/").only(&secret, &table).is_none());
}

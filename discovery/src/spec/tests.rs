use std::sync::Arc;

use std::time::Duration;

use topology::{
    Backoff, Balance, HealthSettings, HostPattern, LogSettings, OnFailure, Origin, PathMatch, Protocol,
    Retries, RetryAllowance, RetryCause, RetryCauses, Sample, Timeouts,
};

use super::*;

const SHOP: &str = r#"
id = "shop"
hosts = ["shop.example.com", "*.shop.example.com", "Shop.Example.com"]
paths = ["/", "=/login"]
listeners = ["web"]
split = { v1 = 90, v2 = 10 }
balance = "round_robin"

[health]
path = "/up"
interval = "5s"
timeout = "1s"
rise = 4
fall = 5
on_failure = "eject"

[[endpoint]]
version = "v2"
instance = "c1"
address = "[::1]:9002"
weight = 0
protocol = "tcp"
zone = "a"

[[endpoint]]
version = "v1"
instance = "c1"
address = "127.0.0.1:9001"
"#;

fn mistakes_of(text: &str) -> String {
    parse_app_file("shop.toml", text).unwrap_err().to_string()
}

#[test]
fn a_file_reads_as_the_design_settles_it() {
    let app = parse_app_file("shop.toml", SHOP).unwrap();
    assert_eq!((app.id.as_str(), app.claimed), ("shop", 0));
    let hosts: Vec<_> = app.spec.hosts.iter().map(HostPattern::to_string).collect();
    assert_eq!(hosts, ["shop.example.com", "*.shop.example.com"], "twice the same host is once");
    assert_eq!(app.spec.paths, [PathMatch::all(), PathMatch::Exact("/login".into())]);
    assert_eq!(app.spec.listeners, Some(vec!["web".into()]));
    assert_eq!(app.spec.balance, Balance::RoundRobin);
    let shares: Vec<_> =
        app.spec.split.as_ref().unwrap().shares().iter().map(|(v, n)| (v.as_str(), *n)).collect();
    assert_eq!(shares, [("v1", 90), ("v2", 10)]);
    let health = HealthSettings {
        path: "/up".into(),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        rise: 4,
        fall: 5,
        on_failure: OnFailure::Eject,
        unhealthy_interval: Duration::from_secs(5),
        ..HealthSettings::default()
    };
    assert_eq!(app.spec.health, Some(Arc::new(health)));
    assert!(app.spec.probing);
    let [first, second] = app.endpoints.as_slice() else { panic!("{:?}", app.endpoints) };
    assert_eq!((first.key.version.as_str(), first.weight, first.protocol), ("v1", 1, Protocol::Http1));
    assert_eq!((second.key.version.as_str(), second.weight, second.protocol), ("v2", 0, Protocol::Tcp));
    assert_eq!((second.zone.as_deref(), second.origin), (Some("a"), Origin::File));
}

#[test]
fn an_app_needs_no_more_than_its_id() {
    let app = parse_app_file("a.toml", "id = \"a\"").unwrap();
    assert_eq!(*app.spec, AppSpec::implied());
    assert_eq!(app.endpoints, []);
}

#[test]
fn health_can_be_off_and_a_short_interval_shortens_the_default_timeout() {
    let spec =
        |health: &str| parse_app_file("a.toml", &format!("id = \"a\"\n[health]\n{health}")).unwrap().spec;
    assert!(!spec("enabled = false").probing);
    assert_eq!(spec("").health, Some(Arc::new(HealthSettings::default())));
    assert_eq!(spec("interval = \"200ms\"").health.as_ref().unwrap().timeout, Duration::from_millis(200));
}

#[test]
fn mistakes_say_what_to_write() {
    let endpoint =
        |line: &str| format!("id = \"a\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\n{line}\n");
    for (text, wanted) in [
        ("hosts = []".to_owned(), "shop.toml: id: is missing; write id = \"shop\""),
        ("id = \"a\"\nhost = []".to_owned(), "shop.toml:2: host: unknown key; did you mean \"hosts\"?"),
        (
            "id = \"a\"\npaths = []".to_owned(),
            "shop.toml:2: paths: is empty; write [\"/\"], or leave it out, to take every path",
        ),
        (
            "id = \"a\"\nbalance = \"least\"".to_owned(),
            "shop.toml:2: balance: \"least\" is none of round_robin, random, least_requests, peak_ewma, hash",
        ),
        (
            "id = \"a\"\nsplit = { v1 = 0 }".to_owned(),
            "shop.toml:2: split: a split must give at least one version a share above 0",
        ),
        (
            "id = \"a\"\nsplit = { v1 = 70000 }".to_owned(),
            "shop.toml:2: split.v1: must be an integer from 0 to 65535, not the integer 70000",
        ),
        (
            "id = \"a\"\n[health]\ntimeout = \"6s\"".to_owned(),
            "shop.toml:3: health.timeout: 6s is longer than the interval of 5s",
        ),
        (
            "id = \"a\"\n[health]\npath = \"up\"".to_owned(),
            "shop.toml:3: health.path: is no path; write / and at most 1024 visible ASCII characters",
        ),
        (
            endpoint("address = \"localhost:80\""),
            "shop.toml:5: endpoint[0].address: \"localhost:80\" is no address: host names are not looked up; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080",
        ),
        (
            endpoint("address = \"10.0.0.1\""),
            "shop.toml:5: endpoint[0].address: \"10.0.0.1\" is no address; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080",
        ),
        (
            endpoint("address = \"10.0.0.1:0\""),
            "shop.toml:5: endpoint[0].address: \"10.0.0.1:0\" is no address: port 0 takes no connections; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080",
        ),
        (
            endpoint("address = \"0.0.0.0:80\""),
            "shop.toml:5: endpoint[0].address: \"0.0.0.0:80\" is no address: it names no single host; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080",
        ),
        (
            endpoint("address = \"10.0.0.1:80\"\nprotocol = \"h3\""),
            "shop.toml:6: endpoint[0].protocol: \"h3\" is none of http1, h2, tcp, udp; did you mean \"h2\"?",
        ),
        (
            endpoint("address = \"10.0.0.1:80\"\nprotocol = \"udp\"\n[health]\nfall = 1"),
            "shop.toml:7: health: endpoints with protocol = \"udp\" are not probed; remove the section",
        ),
        (
            "id = \"a\"\nproxy_protocol = \"v3\"".to_owned(),
            "shop.toml:2: proxy_protocol: \"v3\" is none of v1, v2; did you mean \"v1\"?",
        ),
        (endpoint(""), "shop.toml:2: endpoint[0].address: is missing; write address = \"10.0.0.1:8080\""),
        (
            endpoint(
                "address = \"10.0.0.1:80\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"10.0.0.2:80\"",
            ),
            "shop.toml:6: endpoint[1]: version \"v1\" has an instance \"c1\" already",
        ),
    ] {
        assert_eq!(mistakes_of(&text), wanted, "{text}");
    }
}

#[test]
fn a_wrong_file_still_tells_its_app() {
    let (id, read) = read_app_file("a.toml", "id = \"a\"\nhostz = 1");
    assert_eq!(id.unwrap().as_str(), "a");
    assert!(read.is_err());
}

#[test]
fn a_registry_value_has_the_same_shape() {
    let app = AppId::parse("shop").unwrap();
    let read = |json: &str| parse_app_value("app/shop", json.as_bytes(), &app);
    let spec = read(
        r#"{"id": "shop", "hosts": ["a.de"], "split": {"v1": 1}, "health": {"enabled": false, "interval": "1m"}}"#,
    )
    .unwrap();
    assert_eq!(spec.hosts, [HostPattern::parse("a.de").unwrap()]);
    assert_eq!(spec.health.unwrap().interval, Duration::from_secs(60));
    assert!(!spec.probing);
    assert_eq!(read("{}").unwrap(), AppSpec::implied());
    for (json, wanted) in [
        (r#"{"id": "cart"}"#, "app/shop: id: is not \"shop\", the id in the key; leave it out"),
        (
            r#"{"endpoint": []}"#,
            "app/shop: endpoint: only files list endpoints; in the registry each has its own key",
        ),
        (r#"{"hostz": []}"#, "app/shop: hostz: unknown key; did you mean \"hosts\"?"),
    ] {
        assert_eq!(read(json).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn too_many_hosts_are_refused() {
    let hosts = vec!["\"a.de\""; 1_001].join(",");
    assert_eq!(
        mistakes_of(&format!("id = \"a\"\nhosts = [{hosts}]")),
        "shop.toml:2: hosts: has 1001 elements; the limit is 1000"
    );
}

#[test]
fn apps_share_what_they_have_in_common() {
    let mut interner = Interner::default();
    let mut read = || {
        let mut app = parse_app_file("shop.toml", SHOP).unwrap();
        interner.share_app(&mut app);
        app
    };
    let (first, second) = (read(), read());
    assert_eq!(first, second);
    let at = |app: &App| app.endpoints[0].key.version.as_str().as_ptr();
    assert_eq!(at(&first), at(&second));
}

/// Pieces from which random texts become almost right.
const PIECES: [&str; 24] = [
    "id",
    "hosts",
    "split",
    "health",
    "endpoint",
    "address",
    "weight",
    " = ",
    "\n",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    ",",
    ".",
    ":",
    "#",
    "1",
    "\\",
    "127.0.0.1:80",
    "\u{0}ü",
];

proptest::proptest! {
    #[test]
    fn no_text_panics(bytes: Vec<u8>, pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let made: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let app = AppId::parse("a").unwrap();
        for bytes in [bytes.as_slice(), made.as_bytes()] {
            let text = String::from_utf8_lossy(bytes);
            let _ = parse_app_file("a.toml", &text).map_err(|mistakes| mistakes.to_string());
            let _ = parse_app_value("app/a", bytes, &app).map_err(|mistakes| mistakes.to_string());
            let _ = parse_address(&text);
        }
    }
}

#[test]
fn tls_and_its_companions_read_alike_from_files_and_the_registry() {
    let id = AppId::parse("shop").unwrap();
    let file = "id = \"shop\"\nclient_certificate = \"required\"\nhttps_only = true\n\
                tls = { profile = \"internal\", server_name = \"Shop.Internal\" }\n";
    let value = br#"{"client_certificate": "required", "https_only": true,
                     "tls": {"profile": "internal", "server_name": "shop.internal"}}"#;
    let from_file = parse_app_file("shop.toml", file).unwrap().spec;
    let from_registry = parse_app_value("/caas/app/shop", value, &id).unwrap();
    assert_eq!(*from_file, from_registry);
    let server_name = Some("shop.internal".into());
    assert_eq!(
        from_registry.tls,
        Some(Arc::new(topology::AppTls { profile: "internal".into(), server_name }))
    );
    assert!(from_registry.requires_client_certificate && from_registry.https_only);
    let without = parse_app_value("/caas/app/shop", b"{}", &id).unwrap();
    assert_eq!((without.tls, without.requires_client_certificate, without.https_only), (None, false, false));
}

#[test]
fn datagram_endpoints_and_the_proxy_protocol_are_asked_for_by_name() {
    let text = "id = \"dns\"\nproxy_protocol = \"v2\"\n[health]\nenabled = false\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"10.0.0.1:53\"\nprotocol = \"udp\"";
    let app = parse_app_file("dns.toml", text).unwrap();
    assert_eq!(app.spec.proxy_protocol, Some(topology::ProxyVersion::V2));
    assert_eq!(app.endpoints[0].protocol, Protocol::Udp);
}

fn spec_with(lines: &str) -> AppSpec {
    let app = parse_app_file("a.toml", &format!("id = \"a\"\n{lines}")).unwrap();
    (*app.spec).clone()
}

#[test]
fn an_apps_own_addresses_are_addresses_and_some() {
    assert_eq!(spec_with("").vips, None);
    let vips = spec_with("vips = [\"10.0.0.201\", \"2001:db8::1\", \"10.0.0.201\"]").vips.unwrap();
    let wanted: Vec<std::net::IpAddr> =
        ["10.0.0.201", "2001:db8::1"].iter().map(|ip| ip.parse().unwrap()).collect();
    assert_eq!(vips[..], wanted);
    let mistakes = mistakes_of("id = \"a\"\nvips = [\"10.0.0.0/24\"]");
    assert!(
        mistakes.contains("shop.toml:2: vips[0]: \"10.0.0.0/24\" is no address; write one such as"),
        "{mistakes}"
    );
    assert!(mistakes_of("id = \"a\"\nvips = []").contains("vips: is empty; name a virtual IP"));
}

#[test]
fn timeouts_are_what_is_written_and_else_left_to_the_gateway() {
    assert_eq!(spec_with("").timeouts, None);
    let spec = spec_with(
        "[timeouts]\nconnect = \"1s\"\nfirst_byte = \"2s\"\nbetween_bytes = \"3s\"\nrequest = \"4s\"\n\
         tunnel_idle = \"5m\"\nupstream_idle = \"6s\"",
    );
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let wanted = Timeouts {
        connect: seconds(1),
        first_byte: seconds(2),
        between_bytes: seconds(3),
        request: seconds(4),
        tunnel_idle: seconds(300),
        upstream_idle: seconds(6),
    };
    assert_eq!(spec.timeouts.as_deref(), Some(&wanted));
    assert_eq!(spec_with("[timeouts]\nrequest = \"1s\"").timeouts.unwrap().first_byte, None);
}

#[test]
fn a_timeout_that_could_never_fire_or_is_too_fine_is_a_mistake() {
    let mistakes = mistakes_of(
        "id = \"a\"\n[timeouts]\nconnect = \"50ms\"\nfirst_byte = \"31s\"\nrequest = \"30s\"\nfirst = \"1s\"",
    );
    for expected in [
        "shop.toml:3: timeouts.connect: \"50ms\" is out of range; write 100ms to 2m",
        "shop.toml:4: timeouts.first_byte: 31s is longer than the 30s of the whole request",
        "shop.toml:6: timeouts.first: unknown key",
    ] {
        assert!(mistakes.contains(expected), "{expected} is not in:\n{mistakes}");
    }
}

#[test]
fn retries_are_what_is_written_and_else_as_for_every_app() {
    assert_eq!(spec_with("").retries, None);
    assert_eq!(spec_with("[retries]").retries.as_deref(), Some(&Retries::DEFAULT));
    let spec = spec_with(
        "[retries]\nattempts = 5\non = [\"reset\", \"503\"]\nbudget = { percent = 50, window = \"20s\" }\n\
         backoff = { base = \"10ms\" }",
    );
    let wanted = Retries {
        attempts: 5,
        on: RetryCauses::of(&[RetryCause::Reset, RetryCause::Status503]),
        budget: RetryAllowance { percent: 50, window: Duration::from_secs(20), ..RetryAllowance::DEFAULT },
        backoff: Some(Backoff { base: Duration::from_millis(10), max: Duration::from_millis(80) }),
    };
    assert_eq!(spec.retries.as_deref(), Some(&wanted));
}

#[test]
fn a_retry_that_cannot_be_meant_is_a_mistake() {
    let mistakes = mistakes_of(
        "id = \"a\"\n[retries]\nattempts = 0\non = [\"404\", \"resets\"]\nbackoff = { max = \"1s\" }\n[hedge]",
    );
    for expected in [
        "shop.toml:3: retries.attempts: must be an integer from 1 to 10",
        "shop.toml:4: retries.on[0]: \"404\" is none of connect_failed, reset, timeout, 500, 502, 503, 504",
        "did you mean \"reset\"?",
        "retries.backoff.base: is missing; write base = \"25ms\"",
        "hedge.after: is missing; write after = \"50ms\"",
    ] {
        assert!(mistakes.contains(expected), "{expected} is not in:\n{mistakes}");
    }
}

#[test]
fn a_log_section_says_what_leaves_a_line() {
    let read = |section: &str| {
        let app = parse_app_file("a.toml", &format!("id = \"a\"\n[log]\n{section}\n"));
        app.map(|app| app.spec.log.as_deref().copied()).map_err(|mistakes| mistakes.to_string())
    };
    let some = |sample, errors| Some(LogSettings { sample: Sample::of(sample).unwrap(), errors });
    for (section, wanted) in [
        ("", None),
        ("sample = 1", None),
        ("enabled = true\nerrors = false", None),
        ("sample = 0.25", some(0.25, true)),
        ("sample = 0\nerrors = false", some(0.0, false)),
        ("enabled = false", Some(LogSettings::OFF)),
    ] {
        assert_eq!(read(section), Ok(wanted), "{section}");
    }
    for (section, mistake) in [
        ("sample = 1.5", "a.toml:3: log.sample: must be a number from 0 to 1, not the number 1.5"),
        ("sample = 2", "log.sample: must be a number from 0 to 1, not the integer 2"),
        ("enabled = false\nsample = 0.1", "a.toml:4: log.sample: means nothing beside enabled = false"),
        ("rate = 1", "log.rate: unknown key"),
    ] {
        let mistakes = read(section).unwrap_err();
        assert!(mistakes.contains(mistake), "{section}: {mistakes}");
    }
}

#[test]
fn limits_are_a_pointer_that_is_there_when_one_is_set() {
    let read =
        |text: &str| parse_app_file("a.toml", &format!("id = \"a\"\n{text}")).unwrap().spec.limits.clone();
    let limits = read("limits = { max_body = \"1MiB\", min_body_rate = 500 }").unwrap();
    assert_eq!((limits.max_body, limits.min_body_rate), (Some(1 << 20), Some(500)));
    assert_eq!((read(""), read("limits = {}")), (None, None));
    assert_eq!(
        mistakes_of("id = \"a\"\nlimits = { max_body = 5, min_body_rate = 0 }"),
        "shop.toml:2: limits.max_body: must be a size such as \"64KiB\" or \"10MiB\", not the integer 5\n\
         shop.toml:2: limits.min_body_rate: must be an integer from 1 to 240000, not the integer 0"
    );
}

fn containment_of(lines: &str) -> topology::Containment {
    let app = parse_app_file("shop.toml", &format!("id = \"shop\"\n{lines}")).unwrap();
    app.spec.containment.as_deref().cloned().unwrap_or_default()
}

#[test]
fn outliers_are_looked_for_unless_the_app_says_how_or_that_not() {
    use topology::{Outliers, Slowness, SuccessRate};
    let app = parse_app_file("shop.toml", "id = \"shop\"").unwrap();
    assert!(app.spec.containment.is_none(), "an app without wishes costs a pointer");
    assert_eq!(app.spec.outliers(), Outliers::default());
    assert_eq!(containment_of("outliers = { enabled = false }").outliers, Outliers::off());
    let lines = r#"
        slow_start = "30s"
        [outliers]
        failures = 3
        gateway_errors = 0
        success_rate = true
        latency = { factor = 5, least = "1ms" }
        ejection = "10m"
        max_ejected_percent = 20
    "#;
    let read = containment_of(lines);
    assert_eq!(read.slow_start, Some(Duration::from_secs(30)));
    let latency = Slowness { factor: 5, least: Duration::from_millis(1), ..Slowness::default() };
    let wanted = Outliers {
        failures: 3,
        gateway_errors: 0,
        success_rate: Some(SuccessRate::default()),
        latency: Some(latency),
        ejection: Duration::from_secs(600),
        // The default is shorter than the first ejection.
        max_ejection: Duration::from_secs(600),
        max_ejected_percent: 20,
        ..Outliers::default()
    };
    assert_eq!(read.outliers, wanted);
    assert_eq!(containment_of("outliers = { latency = false }"), topology::Containment::default());
}

#[test]
fn mistakes_about_outliers_name_key_line_and_fix() {
    let lines = r#"id = "shop"
slow_start = "0s"
[outliers]
failures = -1
latency = 3
success_rate = { deviation = 2 }
ejection = "10s"
max_ejection = "5s"
"#;
    let mistakes = mistakes_of(lines);
    for wanted in [
        "shop.toml:2: slow_start: \"0s\" is out of range",
        "shop.toml:4: outliers.failures: must be an integer from 0 to 1000",
        "shop.toml:5: outliers.latency: must be true, false or a table",
        "shop.toml:6: outliers.success_rate.deviation: unknown key; did you mean \"deviations\"?",
        "shop.toml:8: outliers.max_ejection: is shorter than ejection",
    ] {
        assert!(mistakes.contains(wanted), "{wanted} is not in:\n{mistakes}");
    }
}

#[test]
fn capacity_is_not_limited_unless_the_app_says_so() {
    use topology::{Adaptive, Capacity};
    assert_eq!(containment_of("tenant = \"acme\"").tenant.as_deref(), Some("acme"));
    let read = |lines: &str| containment_of(lines).capacity;
    assert_eq!(read(""), None);
    let one = Capacity { in_flight: Some(10), ..Capacity::none() };
    assert_eq!(read("limits = { in_flight = 10 }"), Some(one));
    let adaptive =
        Capacity { adaptive: Some(Adaptive { min: 2000, max: 2000 }), queue: 0, ..Capacity::none() };
    assert_eq!(read("limits = { adaptive = { min = 2000 }, queue = 0 }"), Some(adaptive));
    assert_eq!(read("limits = { adaptive = false }"), None);
}

#[test]
fn mistakes_about_capacity_name_key_line_and_fix() {
    let lines = r#"id = "shop"
tenant = "a/b"
[limits]
queue = 10
queue_timeout = "10ms"
"#;
    let mistakes = mistakes_of(lines);
    for wanted in [
        "shop.toml:2: tenant: is no tenant's name; write 1 to 128",
        "shop.toml:4: limits.queue: is for requests that find no room; add a limit such as in_flight_per_endpoint",
        "shop.toml:5: limits.queue_timeout: \"10ms\" is out of range; write 100ms to",
    ] {
        assert!(mistakes.contains(wanted), "{wanted} is not in:\n{mistakes}");
    }
    let mistakes = mistakes_of("id = \"shop\"\nlimits = { in_flight = 0, adaptive = { min = 9, max = 3 } }");
    assert!(mistakes.contains("limits.in_flight: must be an integer from 1 to"), "{mistakes}");
    assert!(mistakes.contains("limits.adaptive.max: is less than min, which is 9"), "{mistakes}");
}

//! Requests that go their own way: canaries by header, cookie, query, user and address.

use std::path::Path;
use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually, finish};

const HOST: &str = "shop.test";
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// What curl is told to speak.
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// An app with one endpoint per version, each of which answers with its version's name.
struct Shop {
    gateway: Gateway,
    endpoints: Vec<Endpoint>,
}

impl Shop {
    fn start(lines: &str) -> Self {
        Self::start_in(Config::new(), lines)
    }

    fn start_in(config: Config, lines: &str) -> Self {
        let endpoints: Vec<_> = VERSIONS.iter().map(|version| Endpoint::start(version)).collect();
        let app = format!("id = \"shop\"\nhosts = [\"{HOST}\"]\n{lines}\n{}", sections(&endpoints));
        Self { gateway: Gateway::start(&config.file("apps/shop.toml", &app)), endpoints }
    }

    /// What curl gets: the version that answers, or the reason why none does.
    #[track_caller]
    fn asks(&self, protocol: &str, path: &str, more: &[&str]) -> String {
        let web = self.gateway.web();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*", protocol]);
        command.args(["--globoff", "--resolve", &format!("{HOST}:{}:127.0.0.1", web.port())]).args(more);
        command.args(["--write-out", " %{http_code}"]).arg(format!("http://{HOST}:{}{path}", web.port()));
        let report = finish(&mut command, "", DEADLINE);
        assert_eq!(report.code, Some(0), "{command:?}: {}", report.text());
        match report.stdout.rsplit_once(' ') {
            Some((version, "200")) => version.to_owned(),
            Some((body, status)) => {
                format!("{status} {}", body.trim_end().rsplit(": ").next().unwrap_or_default())
            }
            None => panic!("{}", report.stdout),
        }
    }
}

fn sections(endpoints: &[Endpoint]) -> String {
    let section = |(version, endpoint): (&&str, &Endpoint)| {
        let address = endpoint.address();
        format!("[[endpoint]]\nversion = \"{version}\"\ninstance = \"c1\"\naddress = \"{address}\"\n")
    };
    VERSIONS.iter().zip(endpoints).map(section).collect()
}

/// The example of docs/matches.md, and what it says of itself.
#[test]
fn the_documented_example_does_what_it_says_in_both_protocols() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/matches.md"));
    let page = page.expect("the page is there");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("the page has an example");
    let endpoints: Vec<_> = VERSIONS.iter().map(|version| Endpoint::start(version)).collect();
    let app = format!("{example}\n{}", sections(&endpoints));
    let config = Config::new().trusting("127.0.0.1").file("apps/shop.toml", &app);
    let shop = Shop { gateway: Gateway::start(&config), endpoints };
    for protocol in PROTOCOLS {
        for (path, more, wanted) in [
            ("/", &[][..], "v1"),
            ("/", &["-H", "Cookie: a=b; canary=v3"], "v3"),
            ("/", &["-H", "Cookie: canary=v4"], "v1"),
            ("/", &["-H", "Cookie: Canary=v3"], "v1"),
            // The first that holds decides.
            ("/orders", &["-X", "POST", "-H", "X-Account: 7"], "v1"),
            ("/orders", &["-H", "X-Account: 7"], "v2"),
            ("/other", &["-X", "POST", "-H", "X-Account: 999"], "v2"),
            ("/", &["-H", "X-Account: 1000"], "v1"),
            ("/", &["-H", "X-Account: 7a"], "v1"),
            ("/", &["-H", "X-Account: 7", "-H", "X-Account: 8"], "v1"),
            ("/metrics", &[], "404 match_refused"),
            ("/x/../%6detrics/all", &[], "404 match_refused"),
            ("/metrics", &["-H", "X-Internal: 1"], "v1"),
            ("/", &["-H", "X-Forwarded-For: 10.20.1.2"], "v2"),
            ("/", &["-H", "X-Forwarded-For: 2001:db8:20::1"], "v2"),
            ("/", &["-H", "X-Forwarded-For: 10.21.1.2"], "v1"),
        ] {
            let more = [&["--path-as-is"], more].concat();
            assert_eq!(shop.asks(protocol, path, &more), wanted, "{protocol} {path} {more:?}");
        }
    }
    let told = shop.gateway.admin_json("/v1/apps?app=shop");
    let matches = told["items"][0]["matches"].as_array().expect("they are listed");
    let names: Vec<_> = matches.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["testers", "orders", "internal", "early", "office", "quarter"]);
    assert_eq!(matches[0]["effect"], "version = \"v3\", strict = true");
    assert_eq!(matches[2]["conditions"][1], "header = { name = \"x-internal\", present = false }");
    assert_eq!(matches[0]["requests"], 2);
    let metrics = shop.gateway.metrics();
    assert_eq!(metrics.count("sluice_match_requests_total", &[("app", "shop"), ("match", "internal")]), 4);
    assert_eq!(metrics.count("sluice_match_requests_total", &[("app", "shop"), ("match", "quarter")]), 0);
    let refused = [("app", "shop"), ("status", "4xx"), ("reason", "match_refused")];
    assert_eq!(metrics.count("sluice_requests_total", &refused), 4);
}

#[test]
fn parameters_are_decoded_once_and_cookies_are_joined_from_all_of_their_fields() {
    let shop = Shop::start(
        "split = { v1 = 1 }\n[[match]]\nname = \"q\"\nquery = { name = \"user[id]\", equals = \"a b&c\" }\nversion = \"v2\"\n\
         [[match]]\nname = \"c\"\ncookie = [{ name = \"a\", prefix = \"x\" }, { name = \"b\" }]\nversion = \"v3\"",
    );
    for protocol in PROTOCOLS {
        for (path, wanted) in [
            ("/?x=1&user%5Bid%5D=a+b%26c", "v2"),
            ("/?user[id]=a%20b%26c", "v2"),
            ("/?user%5Bid%5D=a%2520b%2526c", "v1"),
            ("/?user[id]=a b&c", "v1"),
            ("/?user%5Bid%5D=a+b%26c%", "v1"),
            ("/user%5Bid%5D=a+b%26c", "v1"),
        ] {
            let path = path.replace(' ', "%09");
            assert_eq!(shop.asks(protocol, &path, &[]), wanted, "{protocol} {path}");
        }
        for (cookie, wanted) in [
            ("a=xy; b=", "v3"),
            ("b=\"1\";a=x", "v3"),
            ("a=xy; b", "v1"),
            ("a=xy, b=1", "v1"),
            ("a=yx; b=1", "v1"),
        ] {
            assert_eq!(shop.asks(protocol, "/", &["-b", cookie]), wanted, "{protocol} {cookie}");
        }
    }
    // HTTP/2 clients may send each cookie in a field of its own.
    let mut command = Command::new("nghttp");
    command.args(["--header", &format!(":authority: {HOST}"), "--header", "cookie: b=1"]);
    command.args(["--header", "cookie: a=x"]).arg(format!("http://{}/", shop.gateway.web()));
    let report = finish(&mut command, "", DEADLINE);
    assert_eq!((report.code, report.stdout.as_str()), (Some(0), "v3"), "{}", report.text());
}

#[test]
fn without_trust_nobody_says_where_a_client_is() {
    let lines = "split = { v1 = 1 }\n[[match]]\nname = \"far\"\nclient = [\"10.0.0.0/8\"]\nversion = \"v2\"\n\
                 [[match]]\nname = \"claimed\"\nheader = { name = \"X-Real-IP\" }\nversion = \"v2\"\n\
                 [[match]]\nname = \"near\"\nclient = [\"127.0.0.1\"]\nversion = \"v3\"";
    let shop = Shop::start(lines);
    for protocol in PROTOCOLS {
        let claims = ["-H", "X-Forwarded-For: 10.1.1.1", "-H", "X-Real-IP: 10.1.1.1"];
        assert_eq!(shop.asks(protocol, "/", &claims), "v3");
    }
}

#[test]
fn a_group_of_users_is_the_same_on_every_gateway_and_grows_with_its_percentage() {
    let lines = |percent: u32| {
        format!(
            "split = {{ v1 = 1 }}\n[[match]]\nname = \"some\"\nuser = {{ cookie = \"uid\", percent = {percent} }}\nversion = \"v2\""
        )
    };
    let group = |percent: u32| -> Vec<u32> {
        let shop = Shop::start(&lines(percent));
        let mut client = shop.gateway.connect();
        let mut is_in = |user: &u32| {
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: uid=u{user}\r\n\r\n"));
            client.receive().text() == "v2"
        };
        (0..1_000).filter(|user| is_in(user)).collect()
    };
    let (few, again, more) = (group(10), group(10), group(30));
    assert_eq!(few, again);
    assert!(
        (60..140).contains(&few.len()) && (240..360).contains(&more.len()),
        "{} {}",
        few.len(),
        more.len()
    );
    assert!(few.iter().all(|user| more.contains(user)), "nobody leaves a group that grows");
}

#[test]
fn a_split_of_its_own_is_exact_and_leaves_that_of_the_others_exact() {
    let shop = Shop::start(
        "split = { v1 = 75, v2 = 25 }\n[[match]]\nname = \"beta\"\nheader = { name = \"X-Beta\" }\nsplit = { v2 = 3, v3 = 1 }",
    );
    let mut clients: Vec<_> = (0..4).map(|_| shop.gateway.connect()).collect();
    let mut answers = [Vec::new(), Vec::new()];
    for turn in 0..800 {
        // An uneven mixture, so that the two sequences do not just interleave.
        let is_beta = turn % 5 < 2;
        let field = if is_beta { "X-Beta: 1\r\n" } else { "" };
        let client = &mut clients[turn % 4];
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{field}\r\n"));
        answers[usize::from(is_beta)].push(client.receive().text());
    }
    let count =
        |answers: &[String], version: &str| answers.iter().filter(|answer| *answer == version).count();
    assert_eq!((count(&answers[0], "v1"), count(&answers[0], "v2")), (360, 120));
    assert_eq!((count(&answers[1], "v2"), count(&answers[1], "v3")), (240, 80));
}

#[test]
fn a_version_without_health_is_stood_in_for_unless_its_match_is_strict() {
    let entry = |name: &str, version: &str, more: &str| {
        format!(
            "[[match]]\nname = \"{name}\"\nheader = {{ name = \"x-{name}\" }}\nversion = \"{version}\"\n{more}\n"
        )
    };
    let lines = [
        "split = { v1 = 1 }".to_owned(),
        entry("soft", "v2", ""),
        entry("hard", "v2", "strict = true"),
        entry("nowhere", "v9", ""),
        entry("never", "v9", "strict = true"),
        "[health]\ninterval = \"100ms\"\nrise = 1\nfall = 1".to_owned(),
    ]
    .join("\n");
    let shop = Shop::start(&lines);
    let ask = |name: &str| shop.asks("--http1.1", "/", &["-H", &format!("x-{name}: 1")]);
    assert_eq!((ask("soft"), ask("hard")), ("v2".to_owned(), "v2".to_owned()));
    assert_eq!((ask("nowhere"), ask("never")), ("v1".to_owned(), "503 no_endpoint".to_owned()));
    shop.endpoints[1].set_healthy(false);
    eventually(DEADLINE, "v2 is out", || ask("soft") == "v1");
    assert_eq!(ask("hard"), "503 no_healthy_endpoint");
    shop.endpoints[1].set_healthy(true);
    eventually(DEADLINE, "v2 is back", || ask("hard") == "v2");
    assert_eq!(ask("soft"), "v2");
}

#[test]
fn a_request_that_its_version_fails_is_tried_elsewhere_only_where_the_match_allows_it() {
    let shop = Shop::start(
        "split = { v1 = 1 }\n[[match]]\nname = \"soft\"\nheader = { name = \"x-soft\" }\nversion = \"v2\"\n\
         [[match]]\nname = \"hard\"\nheader = { name = \"x-hard\" }\nversion = \"v2\"\nstrict = true",
    );
    shop.endpoints[1].stop();
    assert_eq!(shop.asks("--http1.1", "/", &["-H", "x-soft: 1"]), "v1");
    assert_eq!(shop.asks("--http1.1", "/", &["-H", "x-hard: 1"]), "502 connect_failed");
}

#[test]
fn the_access_log_names_the_match_and_a_change_keeps_its_count() {
    let config = Config::new().access_log("access.log", "json");
    let lines =
        "split = { v1 = 1 }\n[[match]]\nname = \"beta\"\nquery = { name = \"beta\" }\nversion = \"v2\"";
    let shop = Shop::start_in(config, lines);
    assert_eq!(shop.asks("--http2-prior-knowledge", "/?beta", &[]), "v2");
    assert_eq!(shop.asks("--http1.1", "/", &[]), "v1");
    let path = shop.gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually(DEADLINE, "both lines are written", || read().lines().count() == 2);
    let mut entries: Vec<serde_json::Value> =
        read().lines().map(|line| serde_json::from_str(line).expect("a line is one JSON value")).collect();
    // Two workers write in any order.
    entries.sort_by_key(|entry| entry.get("match").is_none());
    assert_eq!((&entries[0]["match"], &entries[0]["version"]), (&"beta".into(), &"v2".into()));
    assert!(entries[1].get("match").is_none(), "{}", entries[1]);
    // The same name in a changed app, now for v3.
    let app = format!(
        "id = \"shop\"\nhosts = [\"{HOST}\"]\n{}\n{}",
        lines.replace("\"v2\"", "\"v3\""),
        sections(&shop.endpoints)
    );
    shop.gateway.put_file("apps/shop.toml", &app);
    eventually(DEADLINE, "the change is in force", || shop.asks("--http1.1", "/?beta", &[]) == "v3");
    let labels = [("app", "shop"), ("match", "beta")];
    assert!(shop.gateway.metrics().count("sluice_match_requests_total", &labels) >= 2);
}

#[test]
fn what_no_match_can_mean_is_refused_with_place_and_advice() {
    let shop = Shop::start("split = { v1 = 1 }");
    let wrong = App::new("shop").host(HOST).line("[[match]]\nname = \"a\"\nheader = { nam = \"x\" }");
    shop.gateway.put_app(&wrong);
    eventually(DEADLINE, "the mistake is told", || {
        let told = shop.gateway.admin_json("/v1/apps?app=shop").to_string();
        told.contains("match[0].header.nam") && told.contains("did you mean")
    });
    assert_eq!(shop.asks("--http1.1", "/", &[]), "v1", "the former app stays in force");
}

#[test]
fn a_path_with_two_readings_is_refused_and_opens_nothing() {
    let shop = Shop::start(
        "split = { v1 = 1 }\n\
         [[match]]\nname = \"beta\"\npath = [\"/beta\"]\nversion = \"v2\"\n\
         [[match]]\nname = \"inner\"\nmethod = [\"GET\"]\npath = [\"/metrics\"]\nrefuse = true",
    );
    for protocol in PROTOCOLS {
        let ask = |path: &str, more: &[&str]| shop.asks(protocol, path, &[&["--path-as-is"], more].concat());
        for path in [
            "/x/..%2fmetrics",
            "/x/..%5Cmetrics",
            "/x/..;/metrics",
            "/x\\..\\metrics",
            "/x/%2e%2e/metrics",
            "//metrics",
            "/metrics//../x",
            "/metrics/../x",
            "/metrics;a=b",
            "/beta/../x",
            "/x/..%252fmetrics",
        ] {
            assert_eq!(ask(path, &[]), "404 match_refused", "{protocol} {path}");
        }
        // The refusing match looks at the method too; the other one must be sure.
        assert_eq!(ask("/beta/..%2fmetrics", &["-X", "POST"]), "v1");
        assert_eq!(ask("/beta/x", &[]), "v2");
        assert_eq!(ask("/x;metrics", &[]), "v1");
        assert_eq!(ask("/a.b/%20c", &[]), "v1");
    }
}

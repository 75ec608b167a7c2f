//! One line for each request, whatever became of it.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

fn gateway(path: &str, format: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).access_log(path, format);
    (Gateway::start(&config), endpoint)
}

/// The log's lines as soon as there are `count`.
fn lines(gateway: &Gateway, count: usize) -> Vec<String> {
    let path = gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually(DEADLINE, "the lines are written", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

#[test]
fn json_lines_say_who_asked_for_what_and_what_became_of_it() {
    let (gateway, endpoint) = gateway("access.log", "json");
    let mut client = gateway.connect();
    client.send(
        "POST /a?b=\"c\" HTTP/1.1\r\nHost: Shop.test:81\r\nUser-Agent: say \"hi\"\\\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    for (key, value) in [
        ("method", "POST"),
        ("host", "Shop.test:81"),
        ("path", "/a?b=\"c\""),
        ("user_agent", "say \"hi\"\\"),
        ("app", "all"),
        ("version", "v1"),
        ("instance", "c1"),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(entry[key], value, "{key} in {line}");
    }
    assert_eq!(entry["status"], 200, "{line}");
    assert_eq!(entry["endpoint"], endpoint.address().to_string(), "{line}");
    assert_eq!(entry["request_id"].as_str(), endpoint.last().fields.get("x-request-id"), "{line}");
}

#[test]
fn a_line_and_the_endpoint_have_the_same_request_id_whoever_gave_it() {
    let endpoint = Endpoint::start("c1");
    let config =
        Config::in_front_of(endpoint.address()).trusting("127.0.0.1").access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: given\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    assert_eq!(endpoint.last().fields.get("x-request-id"), Some("given"));
    assert_eq!(entry["request_id"], "given", "{line}");
}

#[test]
fn the_client_is_the_one_that_a_trusted_proxy_names() {
    let endpoint = Endpoint::start("c1");
    let config =
        Config::in_front_of(endpoint.address()).trusting("127.0.0.1").access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n\r\n");
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is one JSON value");
    // The last address that no trusted proxy has: what stands before it, anybody could have written.
    assert_eq!(entry["client"], "203.0.113.7", "{line}");
}

#[test]
fn a_refused_request_has_a_line_with_its_reason() {
    let (gateway, endpoint) = gateway("access.log", "json");
    endpoint.stop();
    eventually(DEADLINE, "the endpoint refuses", || gateway.get("a", "/").reason() == Some("connect_failed"));
    gateway.connect().send("GET / HTTP/1.1\r\n\r\n");
    eventually(DEADLINE, "both have their line", || {
        let text = lines(&gateway, 2).join("\n");
        text.contains("\"connect_failed\"") && text.contains("\"bad_request\"")
    });
    for line in lines(&gateway, 2) {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn combined_lines_are_what_other_tools_read() {
    let (gateway, _endpoint) = gateway("access.log", "combined");
    let mut client = gateway.connect();
    client.send(
        "GET /a HTTP/1.1\r\nHost: shop.test\r\nReferer: http://r.test/\r\nUser-Agent: say \"hi\"\r\n\r\n",
    );
    assert_eq!(client.receive().status, 200);
    let line = lines(&gateway, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    // A quote of the client's must not end the field.
    let rest = line.split_once("] ").expect("the time ends with a bracket").1;
    let quoted = rest.strip_prefix("\"GET /a HTTP/1.1\" 200 2 \"http://r.test/\" \"say ");
    let agent = quoted.unwrap_or_else(|| panic!("{line}"));
    assert!(!agent.starts_with('"') && agent.ends_with('"') && agent.contains("hi"), "{line}");
}

#[test]
fn a_line_cannot_be_forged_by_a_client() {
    for format in ["json", "combined"] {
        let (gateway, _endpoint) = gateway("access.log", format);
        let mut client = gateway.connect();
        client.send(b"GET /%0a HTTP/1.1\r\nHost: a\r\nUser-Agent: x\xff\"\t\\n1.2.3.4 - -\r\n\r\n");
        assert_eq!(client.receive().status, 200);
        client.get("a", "/second");
        let lines = lines(&gateway, 2);
        assert_eq!(lines.len(), 2, "{lines:?}");
        if format == "json" {
            assert!(serde_json::from_str::<serde_json::Value>(&lines[0]).is_ok(), "{lines:?}");
        }
    }
}

#[test]
fn the_log_can_go_to_standard_output() {
    let (gateway, _endpoint) = gateway("-", "json");
    gateway.get("a", "/to-standard-output");
    eventually(DEADLINE, "the line is there", || gateway.stdout().contains("/to-standard-output"));
}

#[test]
fn an_app_says_what_it_logs_and_changes_its_mind_while_it_runs() {
    let endpoint = Endpoint::start("c1");
    let named = |id: &str| App::new(id).host(&format!("{id}.test")).endpoint("v1", "c1", endpoint.address());
    let quiet = |log: &str| named("quiet").line("upgrades = []").line(log);
    let config = Config::with_workers(1)
        .app(&quiet("log = { enabled = false }"))
        .app(&named("loud"))
        .access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    // What went well, what failed, and what tells that the lines of both would be there.
    let ask = |round: &str| {
        assert_eq!(gateway.get("quiet.test", &format!("/well/{round}")).status, 200);
        let mut client = gateway.connect();
        client.send(format!(
            "GET /ill/{round} HTTP/1.1\r\nHost: quiet.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        ));
        assert_eq!(client.receive().reason(), Some("upgrade_not_allowed"));
        assert_eq!(gateway.get("loud.test", &format!("/last/{round}")).status, 200);
    };
    let logged = |round: &str| {
        let text = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        eventually(DEADLINE, "the last line is there", || text().contains(&format!("/last/{round}\"")));
        ["well", "ill"].map(|path| text().contains(&format!("/{path}/{round}\"")))
    };
    ask("off");
    assert_eq!(logged("off"), [false, false]);
    let revision = || gateway.metrics().count("sluice_table_revision", &[]);
    for (log, round, wanted) in [
        ("log = { sample = 0 }", "failures", [false, true]),
        ("log = { sample = 0.0, errors = false }", "none", [false, false]),
        ("log = { sample = 1 }", "all", [true, true]),
    ] {
        let before = revision();
        gateway.put_app(&quiet(log));
        eventually(DEADLINE, "it is in force", || revision() > before);
        ask(round);
        assert_eq!(logged(round), wanted, "{log}");
    }
}

#[test]
fn a_sample_is_a_share_of_the_requests() {
    const REQUESTS: usize = 200;
    let endpoint = Endpoint::start("c1");
    let app = App::everything(endpoint.address()).line("log = { sample = 0.1 }");
    let config = Config::with_workers(1).app(&app).access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    for number in 0..REQUESTS {
        assert_eq!(client.get("a", &format!("/{number}")).status, 200);
    }
    // On the same connection, so that its line comes last: a failure, which is always there.
    client.send("GET / HTTP/1.1\r\n\r\n");
    let read = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    eventually(DEADLINE, "the failure is logged", || read().contains("bad_request"));
    let lines = read().lines().count() - 1;
    assert!((REQUESTS / 10 - 2..=REQUESTS / 10 + 2).contains(&lines), "{lines}");
}

#[test]
fn files_are_moved_away_by_size_and_no_line_is_cut_or_lost() {
    let endpoint = Endpoint::start("c1");
    let lines = ["path = \"access.log\"", "rotate_size = \"4KiB\"", "keep = 1000"];
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).access_log_lines(&lines));
    let numbers = |suffix: &str| -> Vec<u64> {
        let path = gateway.folder().join(format!("access.log{suffix}"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let path_of = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).expect("a line is one JSON value");
            let path = entry["path"].as_str().expect("it has a path").to_owned();
            path[1..].parse().expect("the test asked for numbers")
        };
        text.lines().map(path_of).collect()
    };
    let mut asked = 0;
    let mut client = gateway.connect();
    eventually(DEADLINE, "the file was moved away three times", || {
        asked += 1;
        assert_eq!(client.get("a", &format!("/{asked}")).status, 200);
        gateway.folder().join("access.log.3").exists()
    });
    eventually(DEADLINE, "every request has its line in one of the files", || {
        let moved = (1..).map(|number| numbers(&format!(".{number}"))).take_while(|found| !found.is_empty());
        let mut found: Vec<_> = std::iter::once(numbers("")).chain(moved).flatten().collect();
        found.sort_unstable();
        found.into_iter().eq(1..=asked)
    });
    // An older file has older lines.
    let first = |suffix| numbers(suffix).first().copied();
    assert!(first(".1") > first(".2") && first(".2") > first(".3"));
    assert!(gateway.metrics().count("sluice_access_log_rotations_total", &[]) >= 3);
}

#[test]
fn a_file_that_was_moved_is_let_go_of_on_a_signal() {
    for signal in [rustix::process::Signal::USR1, rustix::process::Signal::HUP] {
        let (gateway, _endpoint) = gateway("access.log", "json");
        gateway.get("a", "/before");
        lines(&gateway, 1);
        let path = gateway.folder().join("access.log");
        std::fs::rename(&path, gateway.folder().join("moved.log")).expect("the folder is ours");
        gateway.signal(signal);
        eventually(DEADLINE, "the name is written to again", || {
            gateway.get("a", "/after");
            std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/after"))
        });
    }
}

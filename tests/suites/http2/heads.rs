//! What a head says, and what it must not say.

use tests::{Config, DEADLINE, Endpoint as Http1Endpoint, Gateway, eventually};

use crate::client::{Client, get, request, with};
use crate::endpoint::Endpoint;
use crate::raw::{self, END_HEADERS, END_STREAM, HEADERS, Raw, get_block, literal, literal_indexed};
use crate::{before_http1, before_http2, run};

#[test]
fn a_request_arrives_at_http1_as_if_it_had_come_that_way() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let head = with(
            get("Shop.test:8080", "/a?b=c"),
            &[
                ("cookie", "a=1"),
                ("accept", "*/*"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
                ("te", "trailers"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-many", "1"),
                ("x-many", "2"),
            ],
        );
        assert_eq!(client.send(head, b"").await.expect("an answer comes").status(), 200);
        let seen = endpoint.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
        assert_eq!(seen.fields.get("host"), Some("Shop.test:8080"));
        assert_eq!(seen.fields.get("cookie"), Some("a=1; b=2; c=3"));
        assert_eq!(seen.fields.all("x-many"), ["1", "2"]);
        assert_eq!(seen.fields.get("te"), Some("trailers"));
        assert!(seen.fields.lists("connection", "te"));
        assert_eq!(seen.fields.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.fields.get("x-forwarded-proto"), Some("http"));
        assert!(seen.fields.get("via").is_some_and(|via| via.starts_with("2.0 ")), "{seen:?}");
        assert_eq!(seen.fields.get("x-request-id").map(str::len), Some(32));
        assert!(
            seen.fields.get("content-length").is_none() && seen.fields.get("transfer-encoding").is_none()
        );
    });
}

#[test]
fn a_request_arrives_at_http2_with_pseudo_fields_only() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            let head = &exchange.head;
            let mut told = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                told.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
            }
            exchange.answer(200, &[], told.as_bytes());
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let told = {
            let mut client = gateway.connect();
            client.send(
                "GET /a?b HTTP/1.1\r\nHost: shop.test:81\r\nConnection: x-hop, TE\r\nX-Hop: 1\r\nX-End: 2\r\n\
                 TE: trailers\r\nCookie: a=1; b=2\r\nKeep-Alive: timeout=5\r\n\r\n",
            );
            client.receive().text()
        };
        assert!(told.starts_with("GET http://shop.test:81/a?b\n"), "{told}");
        for wanted in ["x-end: 2\n", "te: trailers\n", "cookie: a=1; b=2\n", "x-forwarded-for: 127.0.0.1\n"] {
            assert!(told.contains(wanted), "{wanted:?} in {told}");
        }
        for ended in
            ["\nhost:", "\nconnection:", "x-hop", "keep-alive", "content-length", "transfer-encoding"]
        {
            assert!(!told.contains(ended), "{ended:?} in {told}");
        }
        let client = Client::connect(gateway.web()).await;
        let told = client.get("shop.test", "/c").await.text();
        assert!(told.starts_with("GET http://shop.test/c\n") && told.contains("via: 2.0 "), "{told}");
    });
}

/// A malformed request is an error of its stream (RFC 9113 section 8.1.1): answered or reset, and the
/// next one is served. Fields that no field may look like are what a broken compressor makes of a
/// connection, and may end it.
#[test]
fn a_malformed_request_harms_no_other_stream_and_reaches_no_endpoint() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let mut ended = Vec::new();
    let field = |name: &str, value: &str| [get_block(), literal(name, value.as_bytes())].concat();
    for (what, block) in [
        ("two authorities", field("host", "b.test")),
        ("connection", field("connection", "close")),
        ("transfer-encoding", field("transfer-encoding", "chunked")),
        ("upgrade", field("upgrade", "websocket")),
        ("keep-alive", field("keep-alive", "1")),
        ("proxy-connection", field("proxy-connection", "keep-alive")),
        ("te", field("te", "gzip")),
        ("capitals", field("X-Capital", "1")),
        ("a line break in a value", field("x", "a\r\nb: c")),
        ("NUL in a value", field("x", "a\0")),
        ("white space around a value", field("x", " a")),
        ("white space in a name", field("x y", "a")),
        ("an unknown pseudo-field", [get_block(), literal(":x", b"1")].concat()),
        ("a response's pseudo-field", [get_block(), vec![0x88]].concat()),
        ("a pseudo-field twice", [get_block(), vec![0x84]].concat()),
        ("a pseudo-field after a field", [vec![0x82, 0x86], literal("x", b"1"), vec![0x84]].concat()),
        ("no method", vec![0x86, 0x84]),
        ("no path", [vec![0x82, 0x86], literal_indexed(1, "a.test")].concat()),
        ("an empty path", [vec![0x82, 0x86], literal_indexed(4, ""), literal_indexed(1, "a.test")].concat()),
        ("no slash", [vec![0x82, 0x86], literal_indexed(4, "a"), literal_indexed(1, "a.test")].concat()),
        ("no scheme", [vec![0x82, 0x84], literal_indexed(1, "a.test")].concat()),
        ("no authority", vec![0x82, 0x86, 0x84]),
        ("user information", [vec![0x82, 0x86, 0x84], literal_indexed(1, "u@a.test")].concat()),
        (
            "a target with a space",
            [vec![0x82, 0x86], literal_indexed(4, "/a b"), literal_indexed(1, "a")].concat(),
        ),
        ("two lengths", [field("content-length", "0"), literal("content-length", b"0")].concat()),
        ("no length", field("content-length", "+0")),
        ("a length without a body", field("content-length", "5")),
        (
            "a method with a space",
            [vec![0x86, 0x84], literal_indexed(2, "GET /"), literal_indexed(1, "a")].concat(),
        ),
    ] {
        let mut client = Raw::connect(gateway.web(), &[]);
        let flags = END_STREAM | END_HEADERS;
        client.send_frame(HEADERS, flags, 1, &block).expect("the gateway listens");
        client.send_get(3).expect("the gateway listens");
        let first = client.await_frame(what, |frame| frame.stream == 1 || frame.kind == raw::GOAWAY);
        if first.kind == raw::GOAWAY {
            assert_eq!(first.code(), raw::PROTOCOL_ERROR, "{what}");
            ended.push(what);
            continue;
        }
        let is_error = first.kind == raw::RST_STREAM && first.code() == raw::PROTOCOL_ERROR;
        assert!(is_error || first.status() == Some(400), "{what}: {first:?}");
        let next = client.await_frame(what, |frame| frame.stream == 3);
        assert_eq!(next.status(), Some(200), "after {what}: {next:?}");
        assert_eq!(endpoint.last().target, "/", "{what}");
    }
    assert_eq!(
        ended,
        [
            "capitals",
            "a line break in a value",
            "NUL in a value",
            "white space in a name",
            "an unknown pseudo-field",
            "a method with a space"
        ]
    );
    assert_eq!(endpoint.requests(), 22);
}

#[test]
fn heads_beyond_the_limits_are_refused_and_the_connection_goes_on() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let long = "x".repeat(20_000);
        let mut many = get("a.test", "/");
        for at in 0..500 {
            let name = http::HeaderName::try_from(format!("x-{at}")).expect("a name");
            many.headers_mut().insert(name, "1".parse().expect("a value"));
        }
        let cookies = vec![("cookie", "a=1"); 500];
        for (what, head, wanted) in [
            ("long", with(get("a.test", "/"), &[("x-long", &long), ("x-longer", &long)]), 431),
            ("many", many, 431),
            ("target", get("a.test", &format!("/{long}")), 414),
            ("cookies", with(get("a.test", "/"), &cookies), 200),
        ] {
            let answer = client.send(head, b"").await.expect("an answer comes");
            assert_eq!(answer.status(), wanted, "{what}: {answer:?}");
        }
        assert_eq!(client.get("a.test", "/").await.status(), 200);
        assert_eq!(endpoint.requests(), 2);
    });
}

#[test]
fn refusals_say_why_and_are_counted_and_logged() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let app =
            tests::App::new("shop").host("shop.test").path("/a").endpoint("v1", "c1", endpoint.address());
        let empty = tests::App::new("empty").host("empty.test");
        let config = Config::new().app(&app).app(&empty).access_log("access.log", "json");
        let gateway = Gateway::start(&config);
        let client = Client::connect(gateway.web()).await;
        for (host, target, status, reason) in [
            ("shop.test", "/a", 200, None),
            ("other.test", "/a", 404, Some("unknown_host")),
            ("shop.test", "/b", 404, Some("unknown_path")),
            ("empty.test", "/", 503, Some("no_endpoint")),
        ] {
            let answer = client.get(host, target).await;
            assert_eq!((answer.status(), answer.reason()), (status, reason));
        }
        let answer = client.send(request("HEAD", "other.test", "/"), b"").await.expect("an answer comes");
        assert_eq!((answer.status(), answer.body.len()), (404, 0));
        let read = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        eventually(DEADLINE, "the lines are written", || read().lines().count() >= 5);
        let entries: Vec<serde_json::Value> =
            read().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let first = entries.iter().find(|entry| entry["status"] == 200).expect("one was served");
        assert_eq!(first["request_id"].as_str(), endpoint.last().fields.get("x-request-id"));
        let reasons: Vec<_> = entries.iter().filter_map(|entry| entry["reason"].as_str()).collect();
        for reason in ["unknown_host", "unknown_path", "no_endpoint"] {
            assert!(reasons.contains(&reason), "{reason} in {reasons:?}");
            assert!(gateway.metrics().count("sluice_requests_total", &[("reason", reason)]) >= 1, "{reason}");
        }
        assert_eq!(
            gateway.metrics().count("sluice_requests_total", &[("app", "shop"), ("version", "v1")]),
            1
        );
    });
}

#[test]
fn a_log_line_names_the_version() {
    run(async {
        let endpoint = Http1Endpoint::start("c1");
        let gateway =
            Gateway::start(&Config::in_front_of(endpoint.address()).access_log("access.log", "combined"));
        let client = Client::connect(gateway.web()).await;
        assert_eq!(client.get("a.test", "/x").await.status(), 200);
        let read = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        eventually(DEADLINE, "the line is written", || read().contains("\"GET /x HTTP/2.0\" 200 2 "));
    });
}

/// RFC 9110 section 6.6.1: whoever passes a response on without a date adds when it came.
#[test]
fn a_response_without_a_date_gains_one_and_others_keep_theirs() {
    const THEIRS: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    run(async {
        let http2 = Endpoint::start(|mut exchange| async move {
            let fields: &[(&str, &str)] = match exchange.head.uri.path() {
                "/dated" => &[("date", THEIRS)],
                _ => &[],
            };
            exchange.answer(200, fields, b"x");
        })
        .await;
        let http1 = Http1Endpoint::behaving("c1", |request| {
            let fields =
                if request.target == "/dated" { vec![("dAtE", THEIRS.to_owned())] } else { Vec::new() };
            tests::Reply::Answer(200, fields, b"x".to_vec())
        });
        for gateway in [before_http2(http2.address()), before_http1(http1.address())] {
            let client = Client::connect(gateway.web()).await;
            let mut plain = gateway.connect();
            for (target, wanted) in [("/dated", Some(THEIRS)), ("/", None)] {
                let framed = client.get("a", target).await;
                let plain = plain.get("a", target);
                let told = [framed.field("date"), plain.fields.get("date")];
                for date in told {
                    let date = date.expect("it is there, once");
                    match wanted {
                        Some(theirs) => assert_eq!(date, theirs),
                        None => assert!(
                            date.ends_with(" GMT") && date.len() == THEIRS.len() && date != THEIRS,
                            "{date}"
                        ),
                    }
                }
            }
        }
    });
}

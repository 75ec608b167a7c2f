//! Who the client is: API keys and passwords.

use tests::{DEADLINE, Endpoint, Gateway, eventually};

use crate::jwt::encode;
use crate::{config, curl, field, start, status};

/// Of `secret`.
const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const KEYS: &str = "[filters.api_keys]\nexcept = [\"=/open\"]\nfile = \"keys.txt\"\n\
    [[filters.api_keys.keys]]\nname = \"alice\"\nsha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";

#[test]
fn a_key_is_the_consumers_and_goes_no_further() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(
        &config(&endpoint, KEYS).file("apps/keys.txt", "# none yet\n").access_log("log", "json"),
    );
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let ask = |more: &[&str]| curl(&gateway, "/", &[&[version], more].concat());
        let answer = ask(&["-H", "X-Api-Key: secret", "-H", "X-Consumer: root", "-H", "x_consumer: root"]);
        assert_eq!(status(&answer), 200, "{answer}");
        let seen = endpoint.last().fields;
        assert_eq!(seen.all("x-consumer"), ["alice"]);
        assert_eq!((seen.get("x-api-key"), seen.get("x_consumer")), (None, None));
        for (more, reason) in
            [(&[][..], "credentials_missing"), (&["-H", "X-Api-Key: Secret"][..], "credentials_invalid")]
        {
            let answer = ask(more);
            assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (401, vec![reason]));
            assert_eq!(field(&answer, "www-authenticate"), ["ApiKey"]);
        }
        assert_eq!(status(&curl(&gateway, "/open", &[version, "-H", "X-Consumer: root"])), 200);
        assert_eq!(endpoint.last().fields.get("x-consumer"), None, "not even where nobody has to say");
    }
    gateway
        .put_file("apps/keys.txt", "bob 81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9\n");
    eventually(DEADLINE, "the file's key is in force", || {
        status(&curl(&gateway, "/", &["-H", "X-Api-Key: bob"])) == 200
    });
    let log = || std::fs::read_to_string(gateway.folder().join("log")).unwrap_or_default();
    eventually(DEADLINE, "consumers are logged", || {
        log().contains(r#""consumer":"alice""#) && log().contains(r#""consumer":"bob""#)
    });
}

#[test]
fn a_key_in_the_query_is_neither_passed_on_nor_logged() {
    let filters = format!(
        "[filters.api_keys]\nquery = \"key\"\n[[filters.api_keys.keys]]\nname = \"alice\"\nsha256 = \"{HASH}\"\n\
         [filters.rewrite]\nadd_prefix = \"/v2\""
    );
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&config(&endpoint, &filters).access_log("log", "combined"));
    for (target, wanted) in [
        ("/a?x=1&key=secret&y=2", "/v2/a?x=1&y=2"),
        ("/a?key=secret", "/v2/a"),
        ("/a?key=%73ecret&key=other", "/v2/a"),
    ] {
        assert_eq!(status(&curl(&gateway, target, &[])), 200, "{target}");
        assert_eq!(endpoint.last().target, wanted);
    }
    assert_eq!(status(&curl(&gateway, "/a?key=", &[])), 401);
    let log = || std::fs::read_to_string(gateway.folder().join("log")).unwrap_or_default();
    eventually(DEADLINE, "all are logged", || log().lines().count() == 4);
    assert!(log().contains("127.0.0.1 - alice [") && log().contains("\"GET /a HTTP/1.1\""), "{}", log());
    assert!(!log().contains("ecret") && !log().contains("key="), "{}", log());
    // Nor where the gateway answers before it asks a filter.
    let filters = format!("https_only = true\n{filters}");
    let gateway = Gateway::start(&config(&endpoint, &filters).access_log("log", "json"));
    assert_eq!(status(&curl(&gateway, "/a?key=secret", &[])), 308);
    let log = || std::fs::read_to_string(gateway.folder().join("log")).unwrap_or_default();
    eventually(DEADLINE, "it is logged", || log().lines().count() == 1);
    assert!(!log().contains("secret"), "{}", log());
}

/// Of `secret`, at the least cost and at one that takes a worker's breath away.
const QUICK: &str = "alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
const SLOW: &str = "bob:$2y$12$abcdefghijklmnopqrstuuT1Iwu6o8Wx7BoOyIMHfgVJq6JO/IJhW";

#[test]
fn passwords_are_verified_and_remembered() {
    let endpoint = Endpoint::start("c1");
    let filters = format!(
        "[filters.basic_auth]\nrealm = \"the shop\"\nusers = [\"{QUICK}\"]\nfile = \"users\"\n\
         [filters.request_headers]\nset = {{ X-Who = \"{{consumer}}\" }}"
    );
    let gateway = Gateway::start(&config(&endpoint, &filters).file("apps/users", SLOW));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for user in ["alice:secret", "bob:secret", "alice:secret"] {
            let name = user.split(':').next().unwrap_or_default();
            assert_eq!(
                status(&curl(&gateway, "/", &[version, "-u", user, "-H", "X-Who: me"])),
                200,
                "{user}"
            );
            let seen = endpoint.last().fields;
            assert_eq!((seen.all("x-consumer"), seen.all("x-who")), (vec![name], vec![name]));
            assert_eq!(seen.get("authorization"), None);
        }
        for user in ["alice:Secret", "nobody:secret", "alice:", "bob:secret2"] {
            let answer = curl(&gateway, "/", &[version, "-u", user]);
            assert_eq!(
                (status(&answer), field(&answer, "x-sluice-reason")),
                (401, vec!["credentials_invalid"])
            );
            let wanted = "Basic realm=\"the shop\", charset=\"UTF-8\"";
            assert_eq!(field(&answer, "www-authenticate"), [wanted]);
        }
        let answer = curl(&gateway, "/", &[version]);
        assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (401, vec!["credentials_missing"]));
    }
    // A body waits with its request.
    let answer = curl(&gateway, "/", &["-u", "bob:other", "-d", "hello"]);
    assert_eq!(status(&answer), 401);
    let answer = curl(&gateway, "/", &["-u", "bob:secret", "-d", "hello"]);
    assert_eq!((status(&answer), endpoint.last().body.as_slice()), (200, &b"hello"[..]));
    // Who is gone from the file is out at once.
    gateway.put_file("apps/users", "");
    eventually(DEADLINE, "bob is out", || status(&curl(&gateway, "/", &["-u", "bob:secret"])) == 401);
}

#[test]
fn a_worker_serves_others_while_passwords_are_verified() {
    let endpoint = Endpoint::start("c1");
    let filters = format!("[filters.basic_auth]\npaths = [\"/private\"]\nusers = [\"{SLOW}\"]");
    let app = tests::App::everything(endpoint.address()).line(&filters);
    let gateway = Gateway::start(&tests::Config::with_workers(1).app(&app));
    // More than can be verified at once, each with another wrong password.
    let mut waiting: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for (at, client) in waiting.iter_mut().enumerate() {
        let credentials =
            ["Ym9iOjA=", "Ym9iOjE=", "Ym9iOjI=", "Ym9iOjM=", "Ym9iOjQ=", "Ym9iOjU=", "Ym9iOjY=", "Ym9iOjc="]
                [at];
        client
            .send(format!("GET /private HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credentials}\r\n\r\n"));
    }
    // The one worker has all of them in hand, and answers this one before the last of those.
    assert_eq!(gateway.get("a", "/").status, 200);
    let labels = [("filter", "basic_auth"), ("result", "refused")];
    let refused = gateway.metrics().count("sluice_filter_requests_total", &labels);
    assert!(refused < 8, "all eight were verified before a request that waits for nobody");
    let statuses: Vec<_> = waiting.iter_mut().map(|client| client.receive().status).collect();
    // A machine that has other work too lets the last of them wait for longer than anybody has to.
    assert!(
        statuses.contains(&401) && statuses.iter().all(|status| [401, 503].contains(status)),
        "{statuses:?}"
    );
}

#[test]
fn a_missing_file_lets_nobody_pass() {
    let (gateway, endpoint) = start("[filters.api_keys]\nfile = \"none.txt\"");
    let answer = curl(&gateway, "/", &["-H", "X-Api-Key: secret"]);
    assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (503, vec!["filter_unavailable"]));
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_field_that_only_the_gateway_says_counts_nobody_apart() {
    let endpoint = Endpoint::start("c1");
    let limits = "[[gateway.rate_limits]]\nname = \"consumers\"\nby = \"header\"\nheader = \"X-Consumer\"\n\
                  requests = 3\nper = \"1h\"";
    let gateway = Gateway::start(&config(&endpoint, KEYS).file("apps/keys.txt", "").section(limits));
    let ask = |consumer: &str, host: &str| {
        let forged = format!("X-Consumer: {consumer}");
        curl(&gateway, "/open", &["-H", &forged, "-H", host])
    };
    for consumer in ["a", "b", "c"] {
        assert_eq!(status(&ask(consumer, "Host: a")), 200);
    }
    let answer = ask("d", "Host: a");
    assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (429, vec!["rate_limited"]));
}

#[test]
fn guessers_of_one_app_keep_nobody_from_another_one() {
    let endpoint = Endpoint::start("c1");
    let app = |id: &str, user: &str| {
        let filters = format!("[filters.basic_auth]\nusers = [\"{user}\"]");
        tests::App::new(id).host(&format!("{id}.test")).line(&filters).endpoint(
            "v1",
            "c1",
            endpoint.address(),
        )
    };
    let config = tests::Config::new().app(&app("guessed", SLOW)).app(&app("quiet", QUICK));
    let gateway = Gateway::start(&config);
    // More than an app's line has places for, whatever the number of cores.
    let mut guessers: Vec<_> = (0..200).map(|_| gateway.connect()).collect();
    for (at, client) in guessers.iter_mut().enumerate() {
        let credentials = encode(format!("bob:{:02}", at % 100).as_bytes());
        client.send(format!(
            "GET /{at} HTTP/1.1\r\nHost: guessed.test\r\nAuthorization: Basic {credentials}\r\n\r\n"
        ));
    }
    let busy = [("app", "guessed"), ("reason", "authentication_busy")];
    eventually(DEADLINE, "its line is full", || gateway.metrics().count("sluice_requests_total", &busy) > 0);
    let answer = curl(&gateway, "/", &["-H", "Host: quiet.test", "-u", "alice:secret"]);
    assert_eq!(status(&answer), 200, "{answer}");
}

//! What is explained is what happens: random requests over a random table, asked and sent.

use std::fmt::Write as _;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

const APPS: usize = 16;
const REQUESTS: usize = 300;
const HOSTS: [&str; 6] = ["a.test", "*.test", "b.a.test", "*.a.test", "*", "c.test"];
const PATHS: [&str; 6] = ["/", "/x", "=/x", "/x/y", "/z", "=/z/login"];
/// What stands in a request's way, or sends it elsewhere.
const OBSTACLES: [&str; 8] = [
    "",
    "",
    "https_only = true",
    "listeners = [\"other\"]",
    "[[match]]\nname = \"closed\"\npath = [\"/x\"]\nheader = [{ name = \"x-user\", equals = \"7\" }]\nrefuse = true",
    "[[match]]\nname = \"beta\"\nmethod = [\"PUT\"]\nversion = \"v2\"\nstrict = true",
    "[[filters.redirects]]\nfrom = \"/z\"\nto = \"/elsewhere\"\nstatus = 302",
    "[filters.addresses]\ndeny = [\"127.0.0.0/8\"]",
];

fn draw<T: Clone + std::fmt::Debug + 'static>(runner: &mut TestRunner, from: &[T]) -> T {
    let one = proptest::sample::select(from.to_vec());
    one.new_tree(runner).expect("there is something to draw").current()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02x}").expect("a string takes all");
        out
    })
}

#[test]
fn the_app_and_the_answer_that_are_explained_are_those_that_come() {
    let mut runner = TestRunner::deterministic();
    let mut config = Config::new().listener("other", &["protocol = \"http\""]);
    let mut endpoints = Vec::new();
    for number in 0..APPS {
        let id = format!("app{number:02}");
        let endpoint = Endpoint::start(&id);
        let mut app = App::new(&id).line(draw(&mut runner, &OBSTACLES));
        for _ in 0..2 {
            let host = draw(&mut runner, &HOSTS);
            if !app.toml().contains(&format!("\"{host}\"")) {
                app = app.host(host);
            }
        }
        let path = draw(&mut runner, &PATHS);
        app = app.path(path);
        // Some have nobody.
        if number % 5 != 4 {
            app = app.endpoint("v1", "c1", endpoint.address());
        }
        config = config.app(&app);
        endpoints.push(endpoint);
    }
    let gateway = Gateway::start(&config);
    eventually(DEADLINE, "all apps are there", || {
        gateway.admin_json("/v1/table")["apps"].as_u64() == Some(APPS as u64)
    });
    let (mut forwarded, mut reasons) = (0, std::collections::BTreeSet::new());
    for _ in 0..REQUESTS {
        let host = draw(&mut runner, &["a.test", "b.a.test", "c.b.a.test", "c.test", "d.test", "else"]);
        let path = draw(
            &mut runner,
            &["/", "/x", "/x/", "/x/y", "/xy", "/z", "/z/login", "/z/a?b=c", "/q/../x", "/%78", "/x;y"],
        );
        let method = draw(&mut runner, &["GET", "GET", "PUT", "OPTIONS"]);
        let user = draw(&mut runner, &["", "X-User: 7", "X-User: 8"]);
        let mut query = format!("url={}&method={method}", encoded(&format!("http://{host}{path}")));
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !user.is_empty() {
            query.push_str(&format!("&header={}", encoded(user)));
            head.push_str(&format!("{user}\r\n"));
        }
        let told = gateway.admin_json(&format!("/v1/explain?{query}"));
        let mut client = gateway.connect();
        client.send(format!("{head}Content-Length: 0\r\n\r\n"));
        let answer = client.receive_for(method);
        let outcome = &told["outcome"];
        let case = format!("{head}\n{told:#}\n{answer:?}");
        if outcome["is_forwarded"] == true {
            forwarded += 1;
            assert_eq!((answer.status, answer.reason()), (200, None), "{case}");
            assert_eq!(told["app"], answer.text(), "{case}");
        } else {
            assert_eq!(outcome["status"], answer.status, "{case}");
            assert_eq!(outcome["reason"].as_str(), answer.reason(), "{case}");
            assert_eq!(outcome["location"].as_str(), answer.fields.get("location"), "{case}");
            reasons.insert(answer.reason().unwrap_or_default().to_owned());
        }
    }
    assert!(forwarded > REQUESTS / 10 && reasons.len() >= 4, "{forwarded} {reasons:?}");
}

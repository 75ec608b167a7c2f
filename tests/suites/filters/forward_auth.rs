//! An app that decides over another one's requests.

use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Reply, eventually};

use crate::{curl, field, status};

const ASKS: &str = "[filters.forward_auth]\napp = \"auth\"\npath = \"/check?app=shop\"\nexcept = [\"/public\"]\n\
    timeout = \"2s\"\ncopy = [\"X-User\"]";

/// Lets pass who has the right cookie, and sends others to log in.
fn judge() -> Endpoint {
    Endpoint::behaving("judge", |request| match request.fields.get("cookie") {
        Some("session=good") => Reply::Answer(200, vec![("X-User", "bob".to_owned())], b"welcome".to_vec()),
        Some("session=old") => {
            let fields = vec![("Location", "/login".to_owned()), ("Set-Cookie", "session=".to_owned())];
            Reply::Answer(302, fields, Vec::new())
        }
        Some("session=broken") => Reply::Answer(500, Vec::new(), Vec::new()),
        _ => Reply::Answer(401, vec![("WWW-Authenticate", "Cookie".to_owned())], b"who are you?".to_vec()),
    })
}

fn start(judge: &App) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let shop = App::everything(endpoint.address()).line(ASKS);
    (Gateway::start(&Config::new().app(&shop).app(judge)), endpoint)
}

#[test]
fn the_other_app_decides() {
    let judge = judge();
    let (gateway, endpoint) = start(&App::new("auth").line("[filters]\nasked_by = [\"all\"]").endpoint(
        "v1",
        "c1",
        judge.address(),
    ));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let ask = |cookie: &str, more: &[&str]| {
            let cookie = format!("Cookie: session={cookie}");
            curl(
                &gateway,
                "/pay?x=1",
                &[&[version, "-H", "Host: shop.test", "-H", &cookie, "-H", "X-User: root"], more].concat(),
            )
        };
        let answer = ask("good", &["-d", "amount=1", "-H", "If-None-Match: \"x\""]);
        assert_eq!(status(&answer), 200, "{answer}");
        let seen = endpoint.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/pay?x=1"));
        assert_eq!((seen.fields.all("x-user"), seen.body.as_slice()), (vec!["bob"], &b"amount=1"[..]));
        assert_eq!(seen.fields.get("if-none-match"), Some("\"x\""));
        let asked = judge.last();
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/check?app=shop"));
        for (name, wanted) in [
            ("x-forwarded-method", Some("POST")),
            ("x-forwarded-uri", Some("/pay?x=1")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("host", Some("shop.test")),
            ("x-user", None),
            ("content-length", None),
            ("if-none-match", None),
        ] {
            assert_eq!(asked.fields.get(name), wanted, "{name}");
        }
        let answer = ask("old", &[]);
        assert_eq!((status(&answer), field(&answer, "location")), (302, vec!["/login"]));
        assert_eq!(
            (field(&answer, "set-cookie"), field(&answer, "x-sluice-reason")),
            (vec!["session="], vec!["forward_auth_denied"])
        );
        let answer = ask("bad", &[]);
        assert_eq!((status(&answer), field(&answer, "www-authenticate")), (401, vec!["Cookie"]));
        let answer = ask("broken", &[]);
        assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (503, vec!["forward_auth_failed"]));
    }
    let before = judge.requests();
    assert_eq!(status(&curl(&gateway, "/public/x", &["-H", "Host: shop.test", "-H", "X-User: root"])), 200);
    assert_eq!((judge.requests(), endpoint.last().fields.get("x-user")), (before, None));
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("sluice_requests_total", &[("app", "auth"), ("status", "2xx")]), 2);
    assert!(judge.accepted() < before as usize, "connections are kept");
}

#[test]
fn who_cannot_be_asked_lets_nobody_pass() {
    let gate = Gate::default();
    let closed = gate.clone();
    let silent = Endpoint::behaving("silent", move |_| {
        closed.pass();
        Reply::ok("late")
    });
    let (gateway, endpoint) = start(&App::new("auth").line("[filters]\nasked_by = [\"all\"]").endpoint(
        "v1",
        "c1",
        silent.address(),
    ));
    let refused = || {
        let answer = curl(&gateway, "/", &["-H", "Host: shop.test"]);
        (status(&answer), field(&answer, "x-sluice-reason").join(""))
    };
    let wanted = (503, "forward_auth_failed".to_owned());
    assert_eq!(refused(), wanted, "it is silent");
    gate.open();
    silent.stop();
    assert_eq!(refused(), wanted, "it is gone");
    gateway.remove_app("auth");
    eventually(DEADLINE, "the app is gone", || gateway.admin_json("/v1/apps?app=auth")["total"] == 0);
    assert_eq!(refused(), wanted, "there is no such app");
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn an_endpoint_that_refuses_is_followed_by_another_one() {
    let (judge, gone) = (judge(), Endpoint::start("gone"));
    let app = App::new("auth")
        .line("[filters]\nasked_by = [\"all\"]")
        .endpoint("v1", "a", gone.address())
        .endpoint("v1", "b", judge.address());
    gone.stop();
    let (gateway, endpoint) = start(&app);
    for _ in 0..10 {
        assert_eq!(
            status(&curl(&gateway, "/", &["-H", "Host: shop.test", "-H", "Cookie: session=good"])),
            200
        );
    }
    assert_eq!(endpoint.requests(), 10);
}

#[test]
fn the_other_app_gets_no_key_no_password_and_nothing_that_a_client_forged() {
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let judge = Endpoint::behaving("judge", |_| Reply::ok("well"));
    let endpoint = Endpoint::start("c1");
    let lines = format!(
        "{ASKS}\n[filters.api_keys]\nquery = \"key\"\nexcept = [\"/free\"]\n\
         [[filters.api_keys.keys]]\nname = \"alice\"\nsha256 = \"{HASH}\"\n\
         [filters.request_headers]\nset = {{ X-Stage = \"live\" }}\nremove = [\"Cookie\"]"
    );
    let auth = App::new("auth").line("[filters]\nasked_by = [\"all\"]").endpoint("v1", "c1", judge.address());
    let gateway =
        Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(&lines)).app(&auth));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let forged =
            ["-H", "X-Consumer: root", "-H", "x_consumer: root", "-H", "X-Stage: test", "-H", "Cookie: a=b"];
        let ask = |target| curl(&gateway, target, &[&[version], &forged[..]].concat());
        assert_eq!(status(&ask("/pay?x=1&key=secret&y=2&%6bey=secret")), 200);
        let asked = judge.last();
        assert_eq!(asked.fields.all("x-forwarded-uri"), ["/pay?x=1&y=2"]);
        assert_eq!((asked.fields.all("x-consumer"), asked.fields.get("x_consumer")), (vec!["alice"], None));
        assert_eq!((asked.fields.get("x-stage"), asked.fields.get("cookie")), (None, Some("a=b")));
        let seen = endpoint.last();
        assert_eq!((seen.target.as_str(), seen.fields.get("cookie")), ("/pay?x=1&y=2", None));
        // Where nobody needs a key it is none of the others' business either.
        assert_eq!(status(&ask("/free?key=secret")), 200);
        assert_eq!(judge.last().fields.all("x-forwarded-uri"), ["/free"]);
        assert_eq!(endpoint.last().target, "/free");
    }
}

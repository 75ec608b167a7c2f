//! Fields that are changed on their way, in every pair of versions.

use tests::{App, Config, Endpoint, Gateway, Reply};

use crate::{config, curl, field, start, status};

const EDITS: &str = r#"
[filters.request_headers]
set = { X-Client = "{client_ip}/{scheme}", X-Where = "{host}{path}", X-App = "{app}" }
add = { X-Tag = "edge" }
remove = ["X-Debug"]
[filters.response_headers]
set = { Server = "sluice", X-Id = "{request_id}" }
add = { X-Tag = "out" }
remove = ["X-Powered-By"]
"#;

fn noisy() -> Endpoint {
    Endpoint::behaving("c1", |_| {
        let fields = [("Server", "httpd/1.0"), ("X-Powered-By", "PHP"), ("X-Tag", "own")];
        Reply::Answer(200, fields.map(|(name, value)| (name, value.to_owned())).into(), b"hello".to_vec())
    })
}

#[test]
fn requests_are_edited_and_no_client_can_say_what_a_filter_says() {
    let (gateway, endpoint) = start(EDITS);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let claims = ["X-Client: me", "x_client: me", "X-DEBUG: 1", "X-Tag: mine", "X-App: other"];
        let mut more = vec![version, "-H", "Host: Shop.test:80"];
        claims.iter().for_each(|claim| more.extend(["-H", claim]));
        assert_eq!(status(&curl(&gateway, "/a/../b?q", &more)), 200);
        let seen = endpoint.last().fields;
        assert_eq!(seen.all("x-client"), ["127.0.0.1/http"]);
        assert_eq!(seen.all("x-where"), ["shop.test/b"]);
        assert_eq!(seen.all("x-app"), ["all"]);
        assert_eq!(seen.all("x-tag"), ["mine", "edge"]);
        assert_eq!((seen.get("x_client"), seen.get("x-debug")), (None, None));
    }
}

#[test]
fn responses_are_edited_for_either_version() {
    let endpoint = noisy();
    let gateway = Gateway::start(&config(&endpoint, EDITS));
    for version in ["--http1.1", "--http2-prior-knowledge", "--http1.0"] {
        let answer = curl(&gateway, "/", &[version]);
        assert_eq!(field(&answer, "server"), ["sluice"], "{answer}");
        assert_eq!(field(&answer, "x-tag"), ["own", "out"]);
        assert_eq!(field(&answer, "x-id")[0].len(), 32);
        assert!(field(&answer, "x-powered-by").is_empty() && answer.ends_with("hello"), "{answer}");
    }
    // What the gateway says itself is nobody's response.
    endpoint.stop();
    let answer = curl(&gateway, "/", &[]);
    assert_eq!((status(&answer), field(&answer, "x-tag")), (502, vec![]));
}

#[test]
fn endpoints_that_speak_http2_see_the_same() {
    // Another gateway in front of an endpoint, spoken to by HTTP/2.
    let endpoint = noisy();
    let inner = Gateway::start(&Config::in_front_of(endpoint.address()));
    let app = App::new("all").host("*").line(EDITS).http2_endpoint("v1", "c1", inner.web());
    let outer = Gateway::start(&Config::new().app(&app));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&outer, "/b", &[version, "-H", "X-Client: me", "-H", "Host: shop.test"]);
        let seen = endpoint.last().fields;
        assert_eq!(seen.all("x-client"), ["127.0.0.1/http"]);
        assert_eq!(seen.all("x-where"), ["shop.test/b"]);
        assert_eq!((field(&answer, "server"), field(&answer, "x-tag")), (vec!["sluice"], vec!["own", "out"]));
    }
}

#[test]
fn the_order_is_shown() {
    let all = format!(
        "{EDITS}[filters.rewrite]\nstrip_prefix = \"/api\"\n[filters.cors]\norigins = [\"*\"]\n\
         [filters.addresses]\ndeny = [\"10.0.0.0/8\"]"
    );
    let (gateway, _endpoint) = start(&all);
    curl(&gateway, "/", &[]);
    let shown = gateway.admin_json("/v1/filters?app=all");
    let rows = shown["items"].as_array().expect("a list").iter();
    let order: Vec<_> = rows
        .map(|row| format!("{} {} {}", row["order"], row["filter"].as_str().unwrap_or(""), row["passed"]))
        .collect();
    let wanted = ["1 addresses 1", "2 cors 1", "3 rewrite 1", "4 request_headers 1", "5 response_headers 1"];
    assert_eq!(order, wanted);
}

#[test]
fn trailers_cannot_say_what_the_head_could_not() {
    let (gateway, endpoint) = start("[filters.request_headers]\nset = { X-User = \"nobody\" }");
    let mut client = gateway.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-User: root\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(client.receive().status, 200);
    let seen = endpoint.last();
    assert_eq!((seen.body.as_slice(), seen.fields.all("x-user")), (&b"hi"[..], vec!["nobody"]));
    assert!(seen.trailers.0.is_empty(), "{:?}", seen.trailers);
}

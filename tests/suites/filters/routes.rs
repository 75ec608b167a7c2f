//! Clients and requests that are sent elsewhere.

use crate::{curl, field, start, status};

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[test]
fn clients_are_redirected_and_nobody_chooses_where_to() {
    let redirects = r#"
[[filters.redirects]]
from = "=/exact"
to = "https://example.com/there"
status = 302
keep_query = false
[[filters.redirects]]
from = "/old"
to = "/"
[[filters.redirects]]
host = "www.shop.test"
from = "/"
to = "https://shop.test/"
status = 301
"#;
    let (gateway, endpoint) = start(redirects);
    for version in VERSIONS {
        for (host, target, wanted) in [
            ("shop.test", "/exact?q", (302, "https://example.com/there")),
            ("shop.test", "/old/a/b?q=1", (308, "/a/b?q=1")),
            ("shop.test", "/old", (308, "/")),
            ("shop.test", "/old//evil.test", (308, "/evil.test")),
            ("shop.test", "/old/%0d%0aX-Evil:1", (308, "/%0d%0aX-Evil:1")),
            ("www.shop.test", "/a?q", (301, "https://shop.test/a?q")),
        ] {
            let answer = curl(&gateway, target, &[version, "-H", &format!("Host: {host}")]);
            assert_eq!((status(&answer), field(&answer, "location")), (wanted.0, vec![wanted.1]), "{answer}");
            assert_eq!(field(&answer, "x-sluice-reason"), ["redirected"]);
            assert!(field(&answer, "x-evil").is_empty());
        }
        assert_eq!(status(&curl(&gateway, "/exact/", &[version, "-H", "Host: shop.test"])), 200);
    }
    assert_eq!(endpoint.requests(), 2);
}

#[test]
fn a_backslash_after_the_slash_names_no_host() {
    let (gateway, _endpoint) = start("[[filters.redirects]]\nfrom = \"/old\"\nto = \"/\"");
    let mut client = gateway.connect();
    client.send("GET /old/\\evil.test HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive().fields.get("location"), Some("/%5Cevil.test"));
}

#[test]
fn endpoints_are_asked_for_another_path_and_host() {
    let rewrite =
        "[filters.rewrite]\nstrip_prefix = \"/api\"\nadd_prefix = \"/v2\"\nhost = \"inner.test:8080\"";
    let (gateway, endpoint) = start(rewrite);
    for version in VERSIONS {
        for (target, wanted) in [
            ("/api/users?id=1&x=%2F", "/v2/users?id=1&x=%2F"),
            ("/api", "/v2"),
            ("/api/../secret", "/v2/secret"),
            ("/%61pi/x", "/v2/x"),
            ("/apis", "/v2/apis"),
        ] {
            assert_eq!(status(&curl(&gateway, target, &[version, "-H", "Host: shop.test"])), 200);
            let seen = endpoint.last();
            assert_eq!(seen.target, wanted, "{target}");
            assert_eq!(seen.fields.all("host"), ["inner.test:8080"]);
            assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test"));
        }
    }
    let climbing = curl(&gateway, "/api/../../x", &[]);
    assert_eq!(status(&climbing), 400, "{climbing}");
}

//! Cross-origin requests as browsers make them.

use tests::{Endpoint, Gateway, Reply};

use crate::{config, curl, field, start, status};

const CORS: &str = "[filters.cors]\norigins = [\"https://*.example.com\"]\nmethods = [\"GET\", \"PUT\"]\n\
                    headers = [\"X-Token\"]\nexpose = [\"X-Total\"]\ncredentials = true\nmax_age = \"5m\"";
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[test]
fn the_gateway_answers_preflights() {
    let (gateway, endpoint) = start(CORS);
    for version in VERSIONS {
        let preflight = |origin: &str| {
            let origin = format!("Origin: {origin}");
            let more = [version, "-X", "OPTIONS", "-H", &origin, "-H", "Access-Control-Request-Method: PUT"];
            curl(&gateway, "/", &more)
        };
        let answer = preflight("https://app.example.com");
        assert_eq!(status(&answer), 204, "{answer}");
        for (name, wanted) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "X-Token"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "300"),
            ("vary", "Origin"),
        ] {
            assert_eq!(field(&answer, name), [wanted], "{answer}");
        }
        assert!(field(&answer, "content-length").is_empty(), "a 204 has none: {answer}");
        let answer = preflight("https://evil.test");
        assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (403, vec!["cors_origin_denied"]));
    }
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn what_the_endpoint_says_of_origins_is_replaced() {
    let endpoint = Endpoint::behaving("c1", |_| {
        let fields = vec![("Access-Control-Allow-Origin", "*".to_owned()), ("X-Total", "1".to_owned())];
        Reply::Answer(200, fields, b"hello".to_vec())
    });
    let gateway = Gateway::start(&config(&endpoint, CORS));
    for version in VERSIONS {
        let answer = curl(&gateway, "/", &[version, "-H", "Origin: https://app.example.com"]);
        assert_eq!(field(&answer, "access-control-allow-origin"), ["https://app.example.com"], "{answer}");
        assert_eq!(field(&answer, "access-control-expose-headers"), ["X-Total"]);
        let answer = curl(&gateway, "/", &[version, "-H", "Origin: https://evil.test"]);
        assert_eq!(status(&answer), 200);
        assert!(field(&answer, "access-control-allow-origin").is_empty(), "{answer}");
    }
}

#[test]
fn scripts_can_read_why_the_gateway_refused() {
    let (gateway, endpoint) = start(CORS);
    endpoint.stop();
    let answer = curl(&gateway, "/", &["-H", "Origin: https://app.example.com"]);
    assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (502, vec!["connect_failed"]));
    assert_eq!(field(&answer, "access-control-allow-origin"), ["https://app.example.com"]);
}

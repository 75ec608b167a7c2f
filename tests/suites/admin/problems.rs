//! What the API says to a request that it does not carry out: which parameter is wrong, and what to write instead.

use serde_json::json;
use tests::{Config, Gateway};

use crate::api::Api;

/// Method and target, the field that is named, and a part of what is said of it.
type Wrong = (&'static str, &'static str, &'static str, &'static str);

const WRONG: &[Wrong] = &[
    ("GET", "/v1/apps?app=..", "app", ""),
    ("GET", "/v1/endpoints?app=%20", "app", ""),
    ("GET", "/v1/filters?app=", "app", ""),
    ("GET", "/v1/traffic?app=a/b", "app", ""),
    ("GET", "/v1/traffic?minutes=0", "minutes", "write 1 to 10 minutes"),
    ("GET", "/v1/traffic?minutes=x", "minutes", "write 1 to 10 minutes"),
    ("GET", "/v1/revisions?timeout=301", "timeout", "write 0 to 300 seconds"),
    ("GET", "/v1/revisions?applied=-1", "applied", "a revision of the registry"),
    ("GET", "/v1/history?limit=x", "limit", "write 1 to 256"),
    ("GET", "/v1/tunnels?id=abc", "id", "such as 1-42"),
    ("GET", "/v1/tunnels?instance=..", "instance", ""),
    ("DELETE", "/v1/tunnels", "query", "app="),
    ("DELETE", "/v1/tunnels?app=..", "app", ""),
    ("GET", "/v1/explain?method=GET", "url", "write url="),
    ("POST", "/v1/vips/drain?dry_run=true", "dry_run", "there are no fields"),
];

#[test]
fn what_is_wrong_is_named_with_what_to_write_instead() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    for (method, target, field, words) in WRONG {
        let answer = api.send(method, target, &[], None).expect(400);
        assert_eq!(answer.json["type"], "urn:sluice:malformed", "{method} {target}");
        let mistake = &answer.json["mistakes"][0];
        assert_eq!(mistake["field"], *field, "{method} {target}: {}", answer.text);
        assert!(mistake["message"].as_str().unwrap().contains(words), "{method} {target}: {}", answer.text);
    }
}

#[test]
fn a_parameter_that_there_is_not_is_not_overlooked() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    let description = api.get("/v1/openapi.json").expect(200).json;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let is_text = !path.starts_with("/v1/");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            // These have bodies, where all that can be said is said.
            if is_text || path.contains('{') || matches!(path.as_str(), "/v1/config/apply" | "/v1/rollback") {
                continue;
            }
            let answer = api.send(&method, &format!("{path}?unheard_of=1"), &[], None).expect(400);
            assert!(answer.text.contains("unheard_of"), "{method} {path}: {}", answer.text);
        }
    }
}

#[test]
fn machines_are_answered_in_plain_text() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    for target in ["/live", "/ready", "/metrics"] {
        let kind = api.get(target).expect(200).kind.unwrap();
        assert!(kind.starts_with("text/plain"), "{target}: {kind}");
    }
    // As ever: whoever is too old, or too new, for a path.
    let answer = api.get("/v1/elsewhere");
    assert_eq!((answer.status, answer.text.as_str()), (404, ""));
}

#[test]
fn what_a_gateway_has_not_is_said_by_the_section_that_it_lacks() {
    let gateway = Gateway::start(&Config::new());
    let api = Api::of(&gateway);
    assert!(api.get("/v1/dns").expect(404).text.contains("[dns]"));
    assert!(api.get("/v1/vips").expect(404).text.contains("[vip]"));
    let body = json!({ "gateway": "gw-2" });
    assert!(api.post("/v1/vips/192.0.2.10/move", &body).expect(404).text.contains("[vip]"));
}

use std::path::Path;
use std::time::Duration;

use topology::filters::{ApiKeyPlace, Filters, Jwks, Piece, RateKey, TokenPlace, Variable};
use topology::{AppId, PathMatch};

use crate::spec::{parse_app_file, parse_app_value};

fn filters(text: &str) -> Filters {
    let app = parse_app_file("apps/a.toml", &format!("id = \"a\"\n{text}")).unwrap();
    app.spec.filters.as_deref().cloned().unwrap_or_default()
}

fn mistake(text: &str) -> String {
    parse_app_file("a.toml", &format!("id = \"a\"\n{text}")).unwrap_err().to_string()
}

#[test]
fn every_kind_is_read() {
    let read = filters(
        r#"
[filters.addresses]
allow = ["10.1.2.3/8", "2001:db8::1"]
deny_file = "bad.txt"
[[filters.rate_limits]]
name = "per-client"
by = "client"
requests = 10
[[filters.rate_limits]]
name = "tenant"
by = "header"
header = "X-Tenant"
requests = 5
per = "1m"
burst = 2
keys = 100
[filters.cors]
origins = ["https://App.example.com", "https://*.example.com"]
[[filters.redirects]]
from = "=/old"
to = "https://example.com/new"
status = 302
[filters.rewrite]
strip_prefix = "/api/"
host = "inner:8080"
[filters.request_headers]
set = { X-Client = "{client_ip}; {{x}" }
remove = ["X-Debug"]
[filters.response_headers]
add = { X-Served-By = "sluice" }
"#,
    );
    let addresses = read.addresses.unwrap();
    let allowed: Vec<_> = addresses.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8", "2001:db8::1/128"]);
    assert_eq!(addresses.deny_file.as_deref(), Some(Path::new("apps/bad.txt")), "beside the app's file");
    let [client, tenant] = read.rate_limits.as_slice() else { panic!("{:?}", read.rate_limits) };
    assert_eq!((&client.key, client.burst.get(), client.per), (&RateKey::Client, 10, Duration::from_secs(1)));
    assert_eq!((&tenant.key, tenant.burst.get()), (&RateKey::Header("X-Tenant".into()), 2));
    assert_eq!(&*read.cors.unwrap().origins[0], "https://app.example.com");
    let [redirect] = read.redirects.as_slice() else { panic!("{:?}", read.redirects) };
    assert_eq!((&redirect.from, redirect.status.0), (&PathMatch::Exact("/old".into()), 302));
    assert_eq!(read.rewrite.unwrap().strip_prefix.as_deref(), Some("/api"));
    let [(_, value)] = &read.request_headers.unwrap().set[..] else { panic!() };
    assert_eq!(value.0, [Piece::Variable(Variable::ClientIp), Piece::Text("; {x}".into())]);
    assert_eq!(read.response_headers.unwrap().add.len(), 1);
}

#[test]
fn who_the_client_is_can_be_asked_in_four_ways() {
    let read = filters(
        r#"
[filters.api_keys]
query = "key"
except = ["/public"]
[[filters.api_keys.keys]]
name = "alice"
sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
[filters.basic_auth]
users = ["alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"]
[filters.jwt]
jwks_url = "https://id.example.com/keys"
cookie = "token"
claims = { sub = "X-User" }
[filters.forward_auth]
app = "auth"
path = "/check"
copy = ["X-Groups"]
"#,
    );
    let keys = read.api_keys.unwrap();
    assert_eq!(keys.place, ApiKeyPlace::Query("key".into()));
    assert_eq!((keys.keys[0].sha256[0], &*keys.consumer_header), (0x2b, "X-Consumer"));
    assert_eq!(keys.scope.except, [PathMatch::Prefix("/public".into())]);
    assert_eq!(&*read.basic_auth.unwrap().realm, "restricted");
    let jwt = read.jwt.unwrap();
    assert_eq!((jwt.place, jwt.leeway), (TokenPlace::Cookie("token".into()), Duration::from_secs(30)));
    let refresh = Duration::from_secs(300);
    assert_eq!(jwt.keys, Jwks::Url { url: "https://id.example.com/keys".into(), refresh });
    let forward = read.forward_auth.unwrap();
    assert_eq!((forward.app.as_str(), forward.timeout), ("auth", Duration::from_secs(2)));
}

#[test]
fn an_app_without_filters_costs_nothing() {
    for text in ["", "[filters]", "filters = {}"] {
        assert_eq!(parse_app_file("a.toml", &format!("id = \"a\"\n{text}")).unwrap().spec.filters, None);
    }
}

#[test]
fn the_registry_names_no_files() {
    let value = br#"{"filters": {"addresses": {"deny_file": "/etc/passwd"}}}"#;
    let error = parse_app_value("app/a", value, &AppId::parse("a").unwrap()).unwrap_err().to_string();
    assert!(error.contains("filters.addresses.deny_file: only app files may name files"), "{error}");
}

#[test]
fn mistakes_name_the_key_and_the_fix() {
    for (text, wanted) in [
        ("[filters.cros]", "a.toml:2: filters.cros: unknown key; did you mean \"cors\"?"),
        (
            "[filters.addresses]\nallow = [\"10.0.0.0/33\"]",
            "a.toml:3: filters.addresses.allow[0]: \"10.0.0.0/33\" is no network; write an address",
        ),
        ("[filters.addresses]\nallow = []", "filters.addresses.allow: is empty; nobody could ever ask"),
        ("[filters.addresses]", "filters.addresses: decides nothing; write allow"),
        (
            "[[filters.rate_limits]]\nname = \"a\"\nby = \"app\"\nrequests = 0",
            "a.toml:5: filters.rate_limits[0].requests: must be an integer from 1",
        ),
        (
            "[[filters.rate_limits]]\nname = \"a\"\nby = \"header\"\nrequests = 1",
            "filters.rate_limits[0].header: is missing; write the field",
        ),
        (
            "[[filters.rate_limits]]\nname = \"a\"\nby = \"app\"\nrequests = 1\n[[filters.rate_limits]]\nname = \"a\"\nby = \"app\"\nrequests = 1",
            "filters.rate_limits[1].name: \"a\" is another limit's name already",
        ),
        (
            "[filters.cors]\norigins = [\"*\"]\ncredentials = true",
            "filters.cors.credentials: no browser takes it together with origins = [\"*\"]",
        ),
        ("[filters.cors]\norigins = [\"example.com/\"]", "is no origin; write https://app.example.com"),
        (
            "[filters.request_headers]\nset = { Content_Length = \"1\" }",
            "Content_Length cannot be changed here: it says where the message ends",
        ),
        ("[filters.request_headers]\nset = { \"a b\" = \"1\" }", "\"a b\" is no field name"),
        ("[filters.request_headers]\nset = { A = \"x\\r\\nB: c\" }", "A: is no field value"),
        (
            "[filters.request_headers]\nset = { A = \"{nope}\" }",
            "{nope} is not known; write one of {client_ip}",
        ),
        (
            "[filters.response_headers]\nremove = [\"Strict-Transport-Security\"]",
            "cannot be changed here: it is set with a listener's hsts",
        ),
        (
            "[[filters.redirects]]\nfrom = \"/a\"\nto = \"//evil.example\"",
            "filters.redirects[0].to: \"//evil.example\" is no destination",
        ),
        ("[[filters.redirects]]\nfrom = \"/a\"\nto = \"/b\"\nstatus = 304", "304 is no redirect; write 301"),
        (
            "[filters.api_keys]\nheader = \"X-Key\"",
            "filters.api_keys: has no keys, so nobody could ask; write",
        ),
        (
            "[[filters.api_keys.keys]]\nname = \"a\"\nsha256 = \"12\"",
            "filters.api_keys.keys[0].sha256: is no SHA-256; write the 64 digits",
        ),
        (
            "[filters.basic_auth]\nusers = [\"bob:$apr1$x$y\"]",
            "filters.basic_auth.users[0]: bob: only bcrypt hashes are taken; write the line that `htpasswd -nB bob`",
        ),
        (
            "[filters.basic_auth]\nusers = [\"bob:$2y$20$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\"]",
            "bob: a cost of 20 takes too long; write one of at most 14",
        ),
        (
            "[[match]]\nname = \"m\"\nuser = { header = \"x_consumer\", percent = 5 }\n\
             [filters.basic_auth]\nusers = [\"a:$2y$05$bvIG6Lmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe\"]",
            "match: m: x_consumer is told to endpoints by a filter of this app",
        ),
        (
            "[[filters.rate_limits]]\nname = \"l\"\nby = \"header\"\nheader = \"X-User\"\nrequests = 1\n\
             [filters.jwt]\njwks = \"{}\"\nclaims = { sub = \"x-user\" }",
            "filters.rate_limits: l: header: X-User is told to endpoints",
        ),
        ("[filters.jwt]", "filters.jwt: needs one source of keys; write jwks, jwks_file or jwks_url"),
        (
            "[filters.jwt]\njwks = \"{}\"\n[filters.basic_auth]\nfile = \"x\"",
            "filters.jwt: its token and basic_auth's password would both be in Authorization",
        ),
        (
            "[filters.jwt]\njwks_url = \"ftp://x\"",
            "filters.jwt.jwks_url: \"ftp://x\" is no URL; write https://",
        ),
        (
            "[filters.forward_auth]\npath = \"/x\"",
            "filters.forward_auth.app: is missing; write app = \"auth\"",
        ),
        (
            "[filters.forward_auth]\napp = \"a\"\ncopy = [\"Host\"]",
            "filters.forward_auth.copy[0]: Host cannot be changed here",
        ),
        ("[filters.rewrite]\nstrip_prefix = \"/\"", "filters.rewrite.strip_prefix: \"/\" is no prefix"),
    ] {
        let shown = mistake(text);
        assert!(shown.contains(wanted), "{shown}\n  should say: {wanted}");
    }
}

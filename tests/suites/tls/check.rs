//! Mistakes that `sluice check` finds.

use tempfile::TempDir;
use tests::{DEADLINE, Finished, finish, sluice};

use crate::pki::{Authority, PAST};

fn check(files: &[(&str, &str)]) -> Finished {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    for (path, contents) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("the folder is ours");
        std::fs::write(path, contents).expect("the folder is ours");
    }
    let config = folder.path().join("sluice.toml");
    finish(sluice().args(["check", "--config"]).arg(config), "", DEADLINE)
}

fn config(listener: &str, rest: &str) -> String {
    format!(
        "[gateway]\nid = \"gw\"\n\n[[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         protocol = \"http\"\n{listener}\n\n{rest}\n[apps]\nfiles = [\"apps/*.toml\"]\n"
    )
}

#[test]
fn keys_that_cannot_be_meant_are_named_with_their_line() {
    let profile = "[[gateway.upstream_tls]]\nname = \"internal\"\n";
    let tls = "tls = { certificates = [\"*.pem\"]";
    for (listener, rest, words) in [
        (format!("{tls}, min_version = \"1.1\" }}"), "", &[":8:", "tls.min_version", "RFC 8996"][..]),
        (format!("{tls}, min_version = \"2\" }}"), "", &[":8:", "tls.min_version", "\"1.3\""]),
        (format!("{tls}, client_auth = \"required\" }}"), "", &[":8:", "tls.client_auth", "client_ca"]),
        (format!("{tls}, client_ca = \"c\", client_auth = \"maybe\" }}"), "", &["client_auth", "optional"]),
        (format!("{tls}, cipher = \"x\" }}"), "", &[":8:", "tls.cipher", "unknown key"]),
        ("tls = {}".into(), "", &[":8:", "tls.certificates", "is missing"]),
        ("https_redirect = \"yes\"".into(), "", &[":8:", "https_redirect", "true or false"]),
        ("https_port = 0".into(), "", &[":8:", "https_port", "from 1"]),
        ("hsts = \"365d\"".into(), "", &[":8:", "hsts", "listeners with tls"]),
        (format!("{tls} }}\nhsts = \"1y\""), "", &[":9:", "hsts", "no duration"]),
        (format!("{tls} }}\nhsts = \"4000d\""), "", &[":9:", "hsts", "out of range"]),
        (format!("{tls} }}\nhttps_redirect = true"), "", &[":9:", "https_redirect", "without tls"]),
        (format!("{tls} }}\nhttps_port = 8443"), "", &[":9:", "https_port", "without tls"]),
        (
            String::new(),
            "[[gateway.upstream_tls]]\nca = \"c\"",
            &[":10:", "upstream_tls[0].name", "is missing"],
        ),
        (String::new(), &format!("{profile}{profile}"), &[":13:", "upstream_tls[1].name", "above already"]),
        (String::new(), &format!("{profile}verify = false"), &[":12:", "verify", "cannot be switched"]),
        (String::new(), &format!("{profile}server_name = \"a/b\""), &[":12:", "server_name", "no name"]),
    ] {
        let report = check(&[("sluice.toml", &config(&listener, rest))]);
        let text = report.text();
        let told = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(report.code == Some(1) && told, "{words:?} for {listener} {rest}:\n{text}");
    }
    let tcp = "[gateway]\nid = \"gw\"\n[[gateway.listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\n\
               protocol = \"tcp\"\napp = \"db\"\nhsts = \"1d\"\n";
    let text = check(&[("sluice.toml", tcp)]).text();
    assert!(text.contains(":8: gateway.listener[0].hsts: is for protocol = \"http\" only"), "{text}");
}

#[test]
fn files_that_a_start_would_not_like_are_named() {
    let ca = Authority::new();
    let good = ca.issue("a.test");
    let old = ca.issue_for("old", "old.test", PAST, "ec");
    let listener = "tls = { certificates = [\"tls/*.pem\"], client_ca = \"clients.crt\" }";
    let profile =
        "[[gateway.upstream_tls]]\nname = \"internal\"\nca = \"roots.crt\"\ncertificate = \"client.pem\"\n";
    let text = config(listener, profile);
    let pem = ca.pem();
    let mut files = vec![
        ("sluice.toml", text.as_str()),
        ("tls/a.pem", &good),
        ("clients.crt", &pem),
        ("roots.crt", &pem),
        ("client.pem", &good),
    ];
    let report = check(&files);
    assert_eq!(report.code, Some(0), "{}", report.text());
    files.extend([
        ("tls/old.pem", old.as_str()),
        ("tls/a.ocsp", "nothing of use"),
        ("clients.crt", "nothing of use"),
        ("client.pem", &pem),
    ]);
    let report = check(&files);
    let text = report.text();
    assert_eq!(report.code, Some(1), "{text}");
    for words in [
        ["listener[0].tls.certificates", "old.pem", "expired at 2002-01-01T00:00:00Z"],
        ["listener[0].tls.certificates", "a.ocsp", "no OCSP response"],
        ["listener[0].tls.client_ca", "clients.crt", "has no certificate"],
        ["upstream_tls[0]", "client.pem", "has no usable private key"],
    ] {
        let told = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "{words:?} in:\n{text}");
    }
}

#[test]
fn an_apps_tls_is_checked_against_the_profiles_there_are() {
    let ca = Authority::new();
    let text = config("", "[[gateway.upstream_tls]]\nname = \"internal\"\nca = \"roots.crt\"\n");
    for (app, words) in [
        ("hosts = [\"a.test\"]\ntls = { profile = \"internal\" }", ""),
        (
            "hosts = [\"a.test\"]\ntls = { profile = \"other\" }",
            "no [[gateway.upstream_tls]] named \"other\"; it has internal",
        ),
        ("hosts = [\"*.a.test\"]\ntls = { profile = \"internal\" }", "tls.server_name: is missing"),
        ("tls = { profile = \"internal\", server_name = \"*.a\" }", "tls.server_name: is no name"),
        ("tls = {}", "tls.profile: is missing"),
        ("client_certificate = \"optional\"", "write \"required\""),
        ("https_only = 1", "must be true or false"),
    ] {
        let app = format!("id = \"a\"\n{app}\n");
        let report = check(&[("sluice.toml", &text), ("roots.crt", &ca.pem()), ("apps/a.toml", &app)]);
        let text = report.text();
        assert_eq!(report.code, Some(i32::from(!words.is_empty())), "{app}: {text}");
        assert!(text.contains(words), "{words} in {text}");
    }
}

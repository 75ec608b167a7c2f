//! Signed tokens, made by openssl.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Reply, eventually, finish};

use crate::{config, curl, field, status};

/// Private keys in a folder of their own.
struct Keys(TempDir);

/// Algorithm, key id, what openssl makes the key of, how it signs.
const KINDS: [(&str, &[&str]); 3] = [
    ("RS256", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("ES256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("EdDSA", &["ED25519"]),
];

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().expect("a temporary folder can be made"));
        for (algorithm, kind) in KINDS {
            let mut command = Command::new("openssl");
            command.args(["genpkey", "-algorithm"]).args(kind).arg("-out").arg(keys.path(algorithm));
            run(&mut command);
        }
        keys
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// The public keys, and a secret.
    fn set(&self) -> String {
        let key = |algorithm: &str| {
            let out = self.path("public");
            let mut command = Command::new("openssl");
            command
                .args(["pkey", "-pubout", "-outform", "DER", "-in"])
                .arg(self.path(algorithm))
                .arg("-out")
                .arg(&out);
            run(&mut command);
            let der = read(&out);
            match algorithm {
                "RS256" => {
                    let modulus = run(Command::new("openssl")
                        .args(["rsa", "-modulus", "-noout", "-in"])
                        .arg(self.path(algorithm)));
                    let digits = modulus.trim().trim_start_matches("Modulus=").as_bytes();
                    let digit = |byte: &u8| (*byte as char).to_digit(16).expect("hexadecimal") as u8;
                    let bytes: Vec<u8> =
                        digits.chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect();
                    format!(r#"{{"kty":"RSA","kid":"RS256","n":"{}","e":"AQAB"}}"#, encode(&bytes))
                }
                "ES256" => {
                    let (x, y) = der[der.len() - 64..].split_at(32);
                    format!(
                        r#"{{"kty":"EC","crv":"P-256","kid":"ES256","x":"{}","y":"{}"}}"#,
                        encode(x),
                        encode(y)
                    )
                }
                _ => {
                    let x = &der[der.len() - 32..];
                    format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"EdDSA","x":"{}"}}"#, encode(x))
                }
            }
        };
        let public: Vec<_> = KINDS.iter().map(|(algorithm, _)| key(algorithm)).collect();
        format!(
            r#"{{"keys":[{},{{"kty":"oct","kid":"HS256","k":"{}"}}]}}"#,
            public.join(","),
            encode(b"secret")
        )
    }

    fn sign(&self, algorithm: &str, claims: &str) -> String {
        self.sign_as(algorithm, algorithm, claims)
    }

    /// `key` is the id that the token names.
    fn sign_as(&self, algorithm: &str, key: &str, claims: &str) -> String {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{key}"}}"#);
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let (input, out) = (self.path("message"), self.path("signature"));
        std::fs::write(&input, &message).expect("the folder is ours");
        let mut command = Command::new("openssl");
        match algorithm {
            "HS256" => command.args(["dgst", "-sha256", "-hmac", "secret", "-binary"]),
            "EdDSA" => {
                command.args(["pkeyutl", "-sign", "-rawin", "-inkey"]).arg(self.path(algorithm)).arg("-in")
            }
            _ => command.args(["dgst", "-sha256", "-sign"]).arg(self.path(algorithm)),
        };
        if algorithm == "EdDSA" {
            command.arg(&input).arg("-out").arg(&out);
        } else {
            command.arg("-out").arg(&out).arg(&input);
        }
        run(&mut command);
        let signature = read(&out);
        let signature = if algorithm == "ES256" { fixed(&signature) } else { signature };
        format!("{message}.{}", encode(&signature))
    }
}

/// Both numbers of a DER sequence, 32 bytes each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        out.resize(out.len() + 32 - number.len(), 0);
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let report = finish(command, "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    report.stdout
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("openssl wrote it")
}

/// RFC 4648 section 5, without padding.
pub fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        (0..=chunk.len()).for_each(|at| out.push(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63] as char));
    }
    out
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

/// Good for an hour, with these claims more.
fn claims(more: &str) -> String {
    format!(r#"{{"iss":"https://id.test","aud":["shop","x"],"exp":{}{more}}}"#, now() + 3_600)
}

const JWT: &str = "[filters.jwt]\nissuer = \"https://id.test\"\naudience = [\"shop\"]\n\
    claims = { sub = \"X-User\", roles = \"X-Roles\" }\n";

fn ask(gateway: &Gateway, token: &str, more: &[&str]) -> String {
    let bearer = format!("Authorization: Bearer {token}");
    curl(gateway, "/", &[&["-H", &bearer], more].concat())
}

#[test]
fn tokens_of_every_kind_are_verified_and_their_claims_told() {
    let (keys, endpoint) = (Keys::new(), Endpoint::start("c1"));
    let filters = format!("{JWT}jwks_file = \"keys.json\"");
    let gateway = Gateway::start(
        &config(&endpoint, &filters).file("apps/keys.json", &keys.set()).access_log("log", "json"),
    );
    for algorithm in ["RS256", "ES256", "EdDSA", "HS256"] {
        let token = keys.sign(algorithm, &claims(r#","sub":"jörg\r\nX-Roles: admin","roles":["a","b"]"#));
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = ask(&gateway, &token, &[version, "-H", "X-User: root", "-H", "X_Roles: root"]);
            assert_eq!(status(&answer), 200, "{algorithm}: {answer}");
            let seen = endpoint.last().fields;
            assert_eq!(seen.all("x-user"), ["j%C3%B6rg%0D%0AX-Roles: admin"]);
            assert_eq!((seen.all("x-roles"), seen.get("x_roles")), (vec!["a b"], None));
        }
        let (start, signature) = token.rsplit_once('.').expect("three parts");
        let forged = format!("{start}.{}A{}", &signature[..10], &signature[11..]);
        let forged = if forged == token {
            format!("{start}.{}B{}", &signature[..10], &signature[11..])
        } else {
            forged
        };
        let answer = ask(&gateway, &forged, &[]);
        assert_eq!(
            (status(&answer), field(&answer, "x-sluice-reason")),
            (401, vec!["credentials_invalid"]),
            "{algorithm}"
        );
    }
    let log = || std::fs::read_to_string(gateway.folder().join("log")).unwrap_or_default();
    eventually(DEADLINE, "subjects are logged", || log().contains(r#""consumer":"j%C3%B6rg%0D%0A"#));
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let (keys, endpoint) = (Keys::new(), Endpoint::start("c1"));
    let filters = format!("{JWT}leeway = \"5s\"\njwks = '''{}'''", keys.set());
    let gateway = Gateway::start(&config(&endpoint, &filters));
    let base =
        |exp: u64, more: &str| format!(r#"{{"iss":"https://id.test","aud":"shop","exp":{exp}{more}}}"#);
    let later = now() + 3_600;
    for (claims, wanted) in [
        (base(now() - 60, ""), "the token has expired"),
        (base(later, &format!(",\"nbf\":{}", now() + 600)), "the token is not valid yet"),
        (base(later, "").replace("id.test", "evil.test"), "the token is of another issuer"),
        (base(later, "").replace("shop", "other"), "the token is for another audience"),
        (r#"{"iss":"https://id.test","aud":"shop"}"#.to_owned(), "the token lacks a claim"),
        (format!(r#"{{"iss":"https://id.test","exp":{later}}}"#), "the token lacks a claim"),
    ] {
        let answer = ask(&gateway, &keys.sign("HS256", &claims), &[]);
        assert_eq!(status(&answer), 401, "{claims}");
        let told = field(&answer, "www-authenticate");
        assert!(told[0].contains(wanted), "{told:?} should say {wanted}");
    }
    let good = base(later, "");
    assert_eq!(status(&ask(&gateway, &keys.sign("HS256", &good), &[])), 200);
    let none = format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(good.as_bytes()));
    assert_eq!(status(&ask(&gateway, &none, &[])), 401);
    // A public key is no secret, whatever the token says that it is.
    let confused = keys.sign_as("HS256", "RS256", &good);
    let answer = ask(&gateway, &confused, &[]);
    assert_eq!(
        field(&answer, "www-authenticate"),
        ["Bearer error=\"invalid_token\", error_description=\"the token is signed with an unknown key\""]
    );
    let answer = curl(&gateway, "/", &[]);
    assert_eq!((status(&answer), field(&answer, "www-authenticate")), (401, vec!["Bearer"]));
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn keys_are_fetched_kept_and_fetched_again() {
    let (keys, endpoint) = (Keys::new(), Endpoint::start("c1"));
    let set = keys.set();
    let provider = Endpoint::behaving("id", move |request| match request.target.as_str() {
        "/keys" => Reply::ok(set.clone()),
        _ => Reply::Answer(500, Vec::new(), Vec::new()),
    });
    let filters = format!(
        "{JWT}jwks_url = \"http://{}/keys\"\njwks_refresh = \"5s\"\ncookie = \"token\"",
        provider.address()
    );
    let gateway = Gateway::start(&config(&endpoint, &filters).gateway(r#"jwks_networks = ["127.0.0.0/8"]"#));
    let cookie = format!("Cookie: a=b; token={}", keys.sign("ES256", &claims("")));
    let ask = || status(&curl(&gateway, "/", &["-H", &cookie]));
    eventually(DEADLINE, "the keys are there", || ask() == 200);
    assert_eq!(gateway.metrics().count("sluice_config_rejects", &[("app", "all")]), 0);
    provider.stop();
    eventually(DEADLINE, "it is noticed that they cannot be fetched", || {
        gateway.metrics().count("sluice_config_rejects", &[("app", "all")]) == 1
    });
    assert_eq!(ask(), 200, "the last good ones stay");
}

#[test]
fn keys_of_this_machine_are_not_fetched_unless_its_operator_says_so() {
    let (keys, endpoint) = (Keys::new(), Endpoint::start("c1"));
    let set = keys.set();
    let inside = Endpoint::behaving("inside", move |_| Reply::ok(set.clone()));
    let address = inside.address();
    let apps = [
        ("literal", format!("http://{address}/keys")),
        ("name", format!("http://localhost:{}/keys", address.port())),
        ("mapped", format!("http://[::ffff:127.0.0.1]:{}/keys", address.port())),
        ("metadata", "http://169.254.169.254/latest/meta-data".to_owned()),
    ];
    let with_apps = |config: Config| {
        apps.iter().fold(config, |config, (id, url)| {
            let app = App::new(id).host(&format!("{id}.test")).line(&format!("{JWT}jwks_url = \"{url}\""));
            config.app(&app.endpoint("v1", "c1", endpoint.address()))
        })
    };
    let gateway = Gateway::start(&with_apps(Config::new()));
    let rejects = |app| gateway.metrics().count("sluice_config_rejects", &[("app", app)]);
    for (id, _) in &apps {
        eventually(DEADLINE, "it is said why there are no keys", || rejects(id) == 1);
        let told = gateway.admin_json(&format!("/v1/apps?app={id}")).to_string();
        assert!(told.contains("filters.jwt.jwks_url: ") && told.contains("gateway.jwks_networks"), "{told}");
        let answer =
            curl(&gateway, "/", &["-H", &format!("Host: {id}.test"), "-H", "Authorization: Bearer x"]);
        assert_eq!(status(&answer), 503, "{answer}");
    }
    assert_eq!((inside.requests(), inside.accepted()), (0, 0));
    drop(gateway);
    let gateway = Gateway::start(&with_apps(Config::new().gateway(r#"jwks_networks = ["127.0.0.0/8"]"#)));
    let token = format!("Authorization: Bearer {}", keys.sign("HS256", &claims("")));
    for id in ["literal", "name", "mapped"] {
        let host = format!("Host: {id}.test");
        eventually(DEADLINE, "its keys are there", || {
            status(&curl(&gateway, "/", &["-H", &host, "-H", &token])) == 200
        });
    }
}

#[test]
fn a_provider_that_sends_us_elsewhere_is_not_followed() {
    let (keys, endpoint) = (Keys::new(), Endpoint::start("c1"));
    let set = keys.set();
    let inside = Endpoint::behaving("inside", move |_| Reply::ok(set.clone()));
    let target = format!("http://{}/keys", inside.address());
    let provider =
        Endpoint::behaving("id", move |_| Reply::Answer(302, vec![("Location", target.clone())], Vec::new()));
    let filters = format!("{JWT}jwks_url = \"http://{}/keys\"", provider.address());
    let gateway = Gateway::start(&config(&endpoint, &filters).gateway(r#"jwks_networks = ["127.0.0.0/8"]"#));
    eventually(DEADLINE, "it is said that there are none", || {
        gateway.admin_json("/v1/apps?app=all").to_string().contains("answered with 302")
    });
    assert_eq!(inside.accepted(), 0);
}

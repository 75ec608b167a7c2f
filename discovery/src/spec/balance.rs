//! `balance`: a word, or a table for those that have settings.

use std::sync::Arc;
use std::time::Duration;

use topology::{Balance, HashAlgorithm, HashKey, Hashing};

use super::matching::{COOKIE, FIELD, token};
use crate::document::{Table, pick};

/// Shorter than the requests of most apps there would be nothing to remember.
const MIN_DECAY: Duration = Duration::from_millis(100);
/// What an endpoint was like ten minutes ago says nothing of it.
const MAX_DECAY: Duration = Duration::from_secs(600);
/// In hundredths of the mean load. Nearer to it nearly every request would go to its second choice.
const MIN_BOUND: u32 = 105;
/// With more an endpoint is over long before the bound is.
const MAX_BOUND: u32 = 1_000;

const EXAMPLE: &str = "balance = { kind = \"hash\", key = \"cookie:session\" }";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RoundRobin,
    Random,
    LeastRequests,
    PeakEwma,
    Hash,
}

const KINDS: [(&str, Kind); 5] = [
    ("round_robin", Kind::RoundRobin),
    ("random", Kind::Random),
    ("least_requests", Kind::LeastRequests),
    ("peak_ewma", Kind::PeakEwma),
    ("hash", Kind::Hash),
];

/// Which kind each setting belongs to.
const SETTINGS: [(&str, Kind); 4] =
    [("decay", Kind::PeakEwma), ("key", Kind::Hash), ("algorithm", Kind::Hash), ("bounded_load", Kind::Hash)];

pub(super) fn read_balance(spec: &Table<'_>) -> Option<Balance> {
    if !spec.is_table("balance") {
        return match spec.parsed("balance", |given| pick(given, &KINDS))? {
            Kind::RoundRobin => Some(Balance::RoundRobin),
            Kind::Random => Some(Balance::Random),
            Kind::LeastRequests => Some(Balance::LeastRequests),
            Kind::PeakEwma => Some(Balance::PeakEwma { decay: Balance::DEFAULT_DECAY }),
            Kind::Hash => {
                spec.mistake("balance", format!("\"hash\" needs a key; write {EXAMPLE}"));
                None
            }
        };
    }
    let table = spec.table("balance")?;
    let kind = table.required("kind", table.choice("kind", &KINDS), "kind = \"least_requests\"");
    let decay = table.duration("decay", MIN_DECAY..=MAX_DECAY);
    let key = table.parsed("key", hash_key);
    let algorithms = [HashAlgorithm::Maglev, HashAlgorithm::Ketama].map(|one| (one.as_str(), one));
    let algorithm = table.choice("algorithm", &algorithms).unwrap_or_default();
    let bounded_load = table.hundredths("bounded_load", MIN_BOUND..=MAX_BOUND);
    if let Some(kind) = kind {
        for (setting, of) in SETTINGS {
            if of != kind && table.has(setting) {
                let word = word_of(of);
                table.mistake(setting, format!("is a setting of kind = {word:?}; remove it"));
            }
        }
    }
    let read = match kind {
        Some(Kind::RoundRobin) => Some(Balance::RoundRobin),
        Some(Kind::Random) => Some(Balance::Random),
        Some(Kind::LeastRequests) => Some(Balance::LeastRequests),
        Some(Kind::PeakEwma) => Some(Balance::PeakEwma { decay: decay.unwrap_or(Balance::DEFAULT_DECAY) }),
        Some(Kind::Hash) => table
            .required("key", key, "key = \"cookie:session\"")
            .map(|key| Balance::Hash(Arc::new(Hashing { key, algorithm, bounded_load }))),
        None => None,
    };
    table.finish();
    read
}

fn word_of(kind: Kind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word)
}

fn hash_key(text: &str) -> Result<HashKey, String> {
    match text.split_once(':') {
        None if text == "client" => Ok(HashKey::Client),
        None if text == "path" => Ok(HashKey::Path),
        None if text == "uri" => Ok(HashKey::Uri),
        Some(("header", name)) => {
            token(name, FIELD).map(|name| HashKey::Header(name.to_ascii_lowercase().into()))
        }
        Some(("cookie", name)) => token(name, COOKIE).map(|name| HashKey::Cookie(name.into())),
        _ => Err("is no key; write client, path, uri, header:NAME or cookie:NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use topology::AppId;

    use super::*;
    use crate::spec::{parse_app_file, parse_app_value};

    fn read(line: &str) -> Result<Balance, String> {
        let read = parse_app_file("shop.toml", &format!("id = \"shop\"\n{line}\n"));
        read.map(|app| app.spec.balance.clone()).map_err(|mistakes| mistakes.to_string())
    }

    fn hash(key: HashKey, bounded_load: Option<u32>) -> Balance {
        Balance::Hash(Arc::new(Hashing { key, algorithm: HashAlgorithm::Maglev, bounded_load }))
    }

    #[test]
    fn words_tables_and_sections_are_read() {
        let ewma = |millis| Balance::PeakEwma { decay: Duration::from_millis(millis) };
        for (line, wanted) in [
            ("", Balance::RoundRobin),
            ("balance = \"round_robin\"", Balance::RoundRobin),
            ("balance = \"random\"", Balance::Random),
            ("balance = { kind = \"least_requests\" }", Balance::LeastRequests),
            ("balance = \"peak_ewma\"", ewma(10_000)),
            ("[balance]\nkind = \"peak_ewma\"\ndecay = \"500ms\"", ewma(500)),
            ("balance = { kind = \"hash\", key = \"client\" }", hash(HashKey::Client, None)),
            ("[balance]\nkind = \"hash\"\nkey = \"path\"\nbounded_load = 2", hash(HashKey::Path, Some(200))),
            (
                "balance = { kind = \"hash\", key = \"cookie:Sid\", bounded_load = 1.25 }",
                hash(HashKey::Cookie("Sid".into()), Some(125)),
            ),
            (
                "balance = { kind = \"hash\", key = \"header:X-User\" }",
                hash(HashKey::Header("x-user".into()), None),
            ),
            ("balance = { kind = \"hash\", key = \"uri\" }", hash(HashKey::Uri, None)),
        ] {
            assert_eq!(read(line).as_ref(), Ok(&wanted), "{line}");
        }
        let ring = Hashing { key: HashKey::Uri, algorithm: HashAlgorithm::Ketama, bounded_load: None };
        let line = r#"balance = { kind = "hash", key = "uri", algorithm = "ketama" }"#;
        assert_eq!(read(line), Ok(Balance::Hash(Arc::new(ring))));
    }

    #[test]
    fn the_registry_writes_them_alike() {
        let json = br#"{"balance": {"kind": "hash", "key": "cookie:sid", "bounded_load": 1.25}}"#;
        let spec = parse_app_value("app/shop", json, &AppId::parse("shop").unwrap()).unwrap();
        assert_eq!(spec.balance, hash(HashKey::Cookie("sid".into()), Some(125)));
        let json = br#"{"balance": "least_requests"}"#;
        let spec = parse_app_value("app/shop", json, &AppId::parse("shop").unwrap()).unwrap();
        assert_eq!(spec.balance, Balance::LeastRequests);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (line, wanted) in [
            (
                "balance = \"least_request\"",
                "2: balance: \"least_request\" is none of round_robin, random, least_requests, peak_ewma, hash; \
                 did you mean \"least_requests\"?",
            ),
            (
                "balance = \"hash\"",
                "2: balance: \"hash\" needs a key; write balance = { kind = \"hash\", key = \"cookie:session\" }",
            ),
            ("balance = 1", "2: balance: must be a string, not the integer 1"),
            ("balance = {}", "2: balance.kind: is missing; write kind = \"least_requests\""),
            ("balance = { kind = \"hash\" }", "2: balance.key: is missing; write key = \"cookie:session\""),
            (
                "balance = { kind = \"hash\", key = \"session\" }",
                "2: balance.key: is no key; write client, path, uri, header:NAME or cookie:NAME",
            ),
            (
                "balance = { kind = \"hash\", key = \"header:\" }",
                "2: balance.key: is no field's name; write a token such as X-Canary",
            ),
            (
                "balance = { kind = \"hash\", key = \"client\", bounded_load = 1 }",
                "2: balance.bounded_load: must be a number from 1.05 to 10, not the integer 1",
            ),
            (
                "balance = { kind = \"peak_ewma\", decay = \"1ms\" }",
                "2: balance.decay: \"1ms\" is out of range; write 100ms to 10m",
            ),
            (
                "balance = { kind = \"hash\", key = \"uri\", algorithm = \"ring\" }",
                "2: balance.algorithm: \"ring\" is none of maglev, ketama",
            ),
            (
                "balance = { kind = \"random\", key = \"client\" }",
                "2: balance.key: is a setting of kind = \"hash\"; remove it",
            ),
            (
                "balance = { kind = \"hash\", key = \"client\", decays = \"1s\" }",
                "2: balance.decays: unknown key; did you mean \"decay\"?",
            ),
        ] {
            assert_eq!(read(line), Err(format!("shop.toml:{wanted}")), "{line}");
        }
    }
}

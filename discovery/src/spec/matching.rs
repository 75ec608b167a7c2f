//! The `[[match]]` sections.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use topology::{
    Condition, MatchEffect, Named, PathMatch, RequestMatch, UserCondition, UserGroup, UserId, ValueMatch,
    VersionId,
};

use super::app::{distinct, read_split_at};
use crate::document::Table;

/// They are tried one after the other, for every request of the app.
const MAX_MATCHES: usize = 64;
/// Of one kind (headers, cookies, parameters) in one match.
const MAX_NAMED: usize = 8;
/// As in [`super::app`]: the registry of methods has fewer.
const MAX_METHODS: usize = 16;
const MAX_PATHS: usize = 64;
/// Compared one by one: what takes more belongs in a list of its own, not into a match.
const MAX_NETWORKS: usize = 64;
/// It becomes a metric label.
const MAX_MATCH_NAME_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 128;
/// A token or an id; whole documents are not compared per request.
const MAX_VALUE_BYTES: usize = 256;

const METHOD: &str = "is no method; write a token such as GET";
pub(super) const FIELD: &str = "is no field's name; write a token such as X-Canary";
pub(super) const COOKIE: &str = "is no cookie's name; write a token such as canary";

pub(super) fn read_matches(spec: &Table<'_>) -> Option<Arc<[RequestMatch]>> {
    let sections = spec.tables("match", MAX_MATCHES);
    let mut names = HashSet::new();
    let mut matches = Vec::with_capacity(sections.len());
    for section in sections {
        let read = read_match(&section);
        if let Some(read) = read {
            if !names.insert(read.name.clone()) {
                section.mistake("name", format!("{:?} is the name of an earlier match already", read.name));
            }
            matches.push(read);
        }
        section.finish();
    }
    (!matches.is_empty()).then(|| matches.into())
}

fn read_match(section: &Table<'_>) -> Option<RequestMatch> {
    let name = section.required("name", section.parsed("name", match_name), "name = \"testers\"");
    let mut conditions = Vec::new();
    let methods = section.list("method", MAX_METHODS, |text| token(text, METHOD).map(Arc::from));
    section.refuse_empty("method", "write [\"GET\"], or leave it out");
    conditions.extend(methods.map(distinct).filter(|list| !list.is_empty()).map(Condition::Method));
    let paths = section.list("path", MAX_PATHS, PathMatch::parse);
    section.refuse_empty("path", "write [\"/\"], or leave it out, for every path");
    conditions.extend(paths.map(distinct).filter(|list| !list.is_empty()).map(Condition::Path));
    let networks = section.list("client", MAX_NETWORKS, network);
    section.refuse_empty("client", "write [\"10.0.0.0/8\"], or leave it out");
    conditions.extend(networks.map(distinct).filter(|list| !list.is_empty()).map(Condition::Client));
    let header = |text: &str| token(text, FIELD).map(|name| name.to_ascii_lowercase());
    conditions.extend(read_named(section, "header", header, field_value).into_iter().map(Condition::Header));
    let cookie = |text: &str| token(text, COOKIE).map(str::to_owned);
    conditions.extend(read_named(section, "cookie", cookie, cookie_value).into_iter().map(Condition::Cookie));
    conditions.extend(read_named(section, "query", parameter, any_value).into_iter().map(Condition::Query));
    conditions.extend(read_user(section).map(Condition::User));
    let has_any = ["method", "path", "client", "header", "cookie", "query", "user"];
    if !has_any.iter().any(|key| section.has(key)) {
        section
            .mistake_here("takes every request; write a condition such as header = { name = \"X-Canary\" }");
    }
    let effect = read_effect(section);
    Some(RequestMatch { name: name?, conditions, effect: effect? })
}

/// What of `version`, `split` and `refuse` is there; one at most.
fn read_effect(section: &Table<'_>) -> Option<MatchEffect> {
    let strict = section.boolean("strict");
    let version = section.parsed("version", VersionId::parse);
    let split = read_split_at(section);
    let refuse = section.boolean("refuse").unwrap_or(false);
    let given = [section.has("version"), section.has("split"), refuse];
    if given.iter().filter(|given| **given).count() > 1 {
        section.mistake_here("has more than one of version, split and refuse; keep one");
        return None;
    }
    if strict.is_some() && !section.has("version") && !section.has("split") {
        section.mistake("strict", "says nothing without a version or a split; remove it");
    }
    let strict = strict.unwrap_or(false);
    match (version, split) {
        (Some(version), _) => Some(MatchEffect::Version { version, strict }),
        (None, Some(split)) => Some(MatchEffect::Split { split, strict }),
        (None, None) if given[0] || given[1] => None,
        (None, None) if refuse => Some(MatchEffect::Refuse),
        (None, None) => Some(MatchEffect::Default),
    }
}

/// The table or tables at `key`: a name, and what its value must be.
fn read_named(
    section: &Table<'_>,
    key: &'static str,
    name: impl Fn(&str) -> Result<String, String>,
    value: impl Fn(&str) -> Result<Arc<str>, String>,
) -> Vec<Named> {
    let mut found = Vec::new();
    for table in section.one_or_more(key, MAX_NAMED) {
        let given = table.required("name", table.parsed("name", &name), "name = \"canary\"");
        let wanted = read_value(&table, &value);
        if let (Some(name), Some(value)) = (given, wanted) {
            found.push(Named { name: name.into(), value });
        }
        table.finish();
    }
    found
}

/// One of `equals`, `prefix` and `present`; none of them is `present = true`.
fn read_value(table: &Table<'_>, value: impl Fn(&str) -> Result<Arc<str>, String>) -> Option<ValueMatch> {
    let equals = table.parsed("equals", &value);
    let prefix = table.parsed("prefix", |text| match text {
        "" => Err("is empty; write present = true for any value".to_owned()),
        text => value(text),
    });
    let present = table.boolean("present");
    let given = ["equals", "prefix", "present"].into_iter().filter(|key| table.has(key)).count();
    if given > 1 {
        table.mistake_here("has more than one of equals, prefix and present; keep one");
        return None;
    }
    match (equals, prefix, present) {
        (Some(text), ..) => Some(ValueMatch::Equals(text)),
        (_, Some(text), _) => Some(ValueMatch::Prefix(text)),
        (.., Some(false)) => Some(ValueMatch::Absent),
        (.., Some(true)) => Some(ValueMatch::Present),
        _ => (given == 0).then_some(ValueMatch::Present),
    }
}

fn read_user(section: &Table<'_>) -> Option<UserCondition> {
    let table = section.table("user")?;
    let header = table.parsed("header", |text| token(text, FIELD));
    let cookie = table.parsed("cookie", |text| token(text, COOKIE));
    let range = table.ordered_pair("range", "[0, 999]");
    let percent = table.integer("percent", 1..=100u8);
    let ids = [table.has("header"), table.has("cookie")];
    let groups = [table.has("range"), table.has("percent")];
    if ids == [true, true] || ids == [false, false] {
        table.mistake_here("needs either header or cookie, which holds the user's id");
    }
    if groups == [true, true] || groups == [false, false] {
        table.mistake_here("needs either range = [0, 999] or percent = 5");
    }
    table.finish();
    let header = header.map(|name| UserId::Header(name.to_ascii_lowercase().into()));
    let id = header.or_else(|| cookie.map(|name| UserId::Cookie(name.into())))?;
    let range = range.map(|(first, last)| UserGroup::Range(first, last));
    Some(UserCondition { id, group: range.or(percent.map(UserGroup::Percent))? })
}

fn match_name(text: &str) -> Result<Arc<str>, String> {
    let is_label = (1..=MAX_MATCH_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let message = || format!("is no name; write 1 to {MAX_MATCH_NAME_BYTES} of a-z A-Z 0-9 . _ -");
    is_label.then(|| Arc::from(text)).ok_or_else(message)
}

/// RFC 9110 section 5.6.2; `message` says what it would have been.
pub(super) fn token<'t>(text: &'t str, message: &str) -> Result<&'t str, String> {
    let is_token = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if is_token { Ok(text) } else { Err(message.to_owned()) }
}

/// What a query can say once it is decoded: anything.
fn parameter(text: &str) -> Result<String, String> {
    let message = || format!("is no parameter's name; write 1 to {MAX_NAME_BYTES} bytes");
    (1..=MAX_NAME_BYTES).contains(&text.len()).then(|| text.to_owned()).ok_or_else(message)
}

fn any_value(text: &str) -> Result<Arc<str>, String> {
    if text.len() > MAX_VALUE_BYTES {
        return Err(format!("has {} bytes; the limit is {MAX_VALUE_BYTES}", text.len()));
    }
    Ok(Arc::from(text))
}

/// White space around a field's value is no part of it (RFC 9110 section 5.5).
fn field_value(text: &str) -> Result<Arc<str>, String> {
    if text.trim_matches([' ', '\t']) != text || text.contains(char::is_control) {
        return Err("is no field's value; remove white space at its ends, and control characters".to_owned());
    }
    any_value(text)
}

/// RFC 6265 section 4.1.1, without the quotes that may surround it.
fn cookie_value(text: &str) -> Result<Arc<str>, String> {
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    if text.bytes().all(is_octet) {
        any_value(text)
    } else {
        Err("is no cookie's value; write visible ASCII without \" , ; and \\".to_owned())
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let read = text.parse::<IpNet>().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    read.map(|network| network.trunc())
        .map_err(|_| "is no network; write 10.0.0.0/8, 2001:db8::/32 or one address".to_owned())
}

#[cfg(test)]
mod tests {
    use topology::AppId;

    use crate::spec::{parse_app_file, parse_app_value};

    const FILE: &str = r#"id = "shop"
[[match]]
name = "testers"
method = ["GET", "HEAD"]
path = ["/cart", "=/login"]
client = ["10.1.2.3/8", "::1"]
header = [{ name = "X-Canary", equals = "yes" }, { name = "x-debug" }]
cookie = { name = "canary", prefix = "v" }
query = { name = "no\"n \u0007", present = false }
user = { cookie = "uid", range = [0, 999] }
version = "v2"
strict = true
[[match]]
name = "some"
user = { header = "X-User", percent = 5 }
split = { v1 = 1, v2 = 1 }
[[match]]
name = "writes"
method = ["POST"]
[[match]]
name = "nobody"
header = { name = "x-old", present = true }
refuse = true
"#;

    #[test]
    fn what_is_shown_of_a_match_is_what_was_written() {
        let spec = parse_app_file("shop.toml", FILE).unwrap().spec;
        let matches = spec.matches.as_ref().unwrap();
        let shown: Vec<_> = matches[0].conditions.iter().map(ToString::to_string).collect();
        let wanted = [
            r#"method = ["GET", "HEAD"]"#,
            r#"path = ["/cart", "=/login"]"#,
            r#"client = ["10.0.0.0/8", "::1/128"]"#,
            r#"header = { name = "x-canary", equals = "yes" }"#,
            r#"header = { name = "x-debug", present = true }"#,
            r#"cookie = { name = "canary", prefix = "v" }"#,
            r#"query = { name = "no\"n \u0007", present = false }"#,
            r#"user = { cookie = "uid", range = [0, 999] }"#,
        ];
        assert_eq!(shown, wanted);
        let effects: Vec<_> = matches.iter().map(|entry| entry.effect.to_string()).collect();
        let wanted =
            [r#"version = "v2", strict = true"#, r#"split = { "v1" = 1, "v2" = 1 }"#, "", "refuse = true"];
        assert_eq!(effects, wanted);
    }

    #[test]
    fn the_registry_writes_them_alike() {
        let json = br#"{"match": [{"name": "some", "user": {"header": "X-User", "percent": 5}, "split": {"v1": 1, "v2": 1}}]}"#;
        let spec = parse_app_value("app/shop", json, &AppId::parse("shop").unwrap()).unwrap();
        let file = parse_app_file("shop.toml", FILE).unwrap().spec;
        assert_eq!(spec.matches.unwrap()[0], file.matches.as_ref().unwrap()[1]);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (lines, wanted) in [
            ("method = [\"GET\"]", "2: match[0].name: is missing; write name = \"testers\""),
            (
                "name = \"a b\"\nmethod = [\"GET\"]",
                "3: match[0].name: is no name; write 1 to 64 of a-z A-Z 0-9 . _ -",
            ),
            (
                "name = \"a\"",
                "2: match[0]: takes every request; write a condition such as header = { name = \"X-Canary\" }",
            ),
            ("name = \"a\"\nmethod = []", "4: match[0].method: is empty; write [\"GET\"], or leave it out"),
            (
                "name = \"a\"\nmethod = [\"G T\"]",
                "4: match[0].method[0]: is no method; write a token such as GET",
            ),
            (
                "name = \"a\"\nclient = [\"10.0.0.0/33\"]",
                "4: match[0].client[0]: is no network; write 10.0.0.0/8, 2001:db8::/32 or one address",
            ),
            (
                "name = \"a\"\nheader = { name = \"x y\" }",
                "4: match[0].header.name: is no field's name; write a token such as X-Canary",
            ),
            (
                "name = \"a\"\nheader = { name = \"x\", equal = \"1\" }",
                "4: match[0].header.equal: unknown key; did you mean \"equals\"?",
            ),
            (
                "name = \"a\"\nheader = { name = \"x\", equals = \"1\", present = true }",
                "4: match[0].header: has more than one of equals, prefix and present; keep one",
            ),
            (
                "name = \"a\"\ncookie = { name = \"x\", equals = \"a;b\" }",
                "4: match[0].cookie.equals: is no cookie's value; write visible ASCII without \" , ; and \\",
            ),
            (
                "name = \"a\"\nquery = [{ equals = \"1\" }]",
                "4: match[0].query[0].name: is missing; write name = \"canary\"",
            ),
            (
                "name = \"a\"\nuser = { cookie = \"u\" }",
                "4: match[0].user: needs either range = [0, 999] or percent = 5",
            ),
            (
                "name = \"a\"\nuser = { percent = 5 }",
                "4: match[0].user: needs either header or cookie, which holds the user's id",
            ),
            (
                "name = \"a\"\nuser = { cookie = \"u\", range = [2, 1] }",
                "4: match[0].user.range: must be two integers in order, such as [0, 999], not a list",
            ),
            (
                "name = \"a\"\nuser = { cookie = \"u\", percent = 0 }",
                "4: match[0].user.percent: must be an integer from 1 to 100, not the integer 0",
            ),
            (
                "name = \"a\"\nmethod = [\"GET\"]\nversion = \"v1\"\nrefuse = true",
                "2: match[0]: has more than one of version, split and refuse; keep one",
            ),
            (
                "name = \"a\"\nmethod = [\"GET\"]\nstrict = true",
                "5: match[0].strict: says nothing without a version or a split; remove it",
            ),
            (
                "name = \"a\"\nmethod = [\"GET\"]\nsplit = { v1 = 0 }",
                "5: match[0].split: a split must give at least one version a share above 0",
            ),
            (
                "name = \"a\"\nmethod = [\"GET\"]\n[[match]]\nname = \"a\"\nmethod = [\"PUT\"]",
                "6: match[1].name: \"a\" is the name of an earlier match already",
            ),
        ] {
            let text = format!("id = \"shop\"\n[[match]]\n{lines}\n");
            let said = parse_app_file("shop.toml", &text).unwrap_err().to_string();
            assert_eq!(said, format!("shop.toml:{wanted}"), "{lines}");
        }
    }
}

//! `[filters.api_keys]`, `[filters.basic_auth]`, `[filters.jwt]` and `[filters.forward_auth]`.

use std::sync::Arc;
use std::time::Duration;

use topology::filters::{
    ApiKey, ApiKeyPlace, ApiKeys, BasicAuth, Claim, Filters, ForwardAuth, Jwks, Jwt, RateKey, Scope,
    TokenPlace,
};
use topology::{AppId, Condition, PathMatch, RequestMatch, UserId};

use super::headers::REQUEST;
use super::{Place, headers, is_token_byte, read_file, word};
use crate::document::Table;

/// More belong in a file.
const MAX_INLINE: usize = 1_000;
/// Each is compared with a request's path in turn.
const MAX_PATHS: usize = 100;
/// A key set of a large provider has five.
const MAX_JWKS_BYTES: usize = 64 << 10;
const MAX_CLAIMS: usize = 20;
/// Clocks that are kept by NTP are apart by less.
const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
const MAX_LEEWAY: Duration = Duration::from_secs(600);
/// Providers publish a new key hours before they use it.
const DEFAULT_JWKS_REFRESH: Duration = Duration::from_secs(300);
const MIN_JWKS_REFRESH: Duration = Duration::from_secs(5);
const MAX_JWKS_REFRESH: Duration = Duration::from_secs(24 * 3600);
/// A decision is on the way of every request.
const DEFAULT_AUTH_TIMEOUT: Duration = Duration::from_secs(2);
const MIN_AUTH_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_AUTH_TIMEOUT: Duration = Duration::from_secs(60);

fn read_scope(table: &Table<'_>) -> Scope {
    let paths = |key| table.list(key, MAX_PATHS, PathMatch::parse).unwrap_or_default();
    let scope = Scope { paths: paths("paths"), except: paths("except") };
    table.refuse_empty("paths", "leave it out for every path");
    scope
}

/// A field that only the gateway says.
fn told(name: &str) -> Result<Arc<str>, String> {
    headers::ours(name, REQUEST)
}

pub(super) fn read_api_keys(filters: &Table<'_>, place: Place<'_>) -> Option<ApiKeys> {
    let table = filters.table("api_keys")?;
    let scope = read_scope(&table);
    let header = table.parsed("header", told);
    let query = table.parsed("query", word);
    if table.has("header") && table.has("query") {
        table.mistake("query", "a key is looked for in one place; write header or query");
    }
    let keys = read_keys(&table);
    let file = read_file(&table, "file", place);
    if !table.has("keys") && !table.has("file") {
        table.mistake_here("has no keys, so nobody could ask; write [[filters.api_keys.keys]] or file");
    }
    let consumer_header = table.parsed("consumer_header", told).unwrap_or_else(|| "X-Consumer".into());
    table.finish();
    let place = match query {
        Some(query) => ApiKeyPlace::Query(query),
        None => ApiKeyPlace::Header(header.unwrap_or_else(|| "X-Api-Key".into())),
    };
    Some(ApiKeys { scope, place, keys, file, consumer_header })
}

fn read_keys(table: &Table<'_>) -> Vec<ApiKey> {
    let mut keys = Vec::new();
    for key in table.tables("keys", MAX_INLINE) {
        let name = key.required("name", key.parsed("name", word), "name = \"alice\"");
        let example = "sha256 = \"…\", what `printf %s KEY | sha256sum` prints";
        let sha256 = key.required("sha256", key.parsed("sha256", sha256), example);
        key.finish();
        if let (Some(name), Some(sha256)) = (name, sha256) {
            keys.push(ApiKey { name, sha256 });
        }
    }
    keys
}

/// 64 hexadecimal digits.
pub fn sha256(text: &str) -> Result<[u8; 32], &'static str> {
    const WANTED: &str = "is no SHA-256; write the 64 digits that `printf %s KEY | sha256sum` prints";
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 64).ok_or(WANTED)?;
    Ok(std::array::from_fn(|at| digits[2 * at] << 4 | digits[2 * at + 1]))
}

/// A consumer's name, for files that name them.
pub fn consumer(text: &str) -> Result<Arc<str>, String> {
    word(text)
}

pub(super) fn read_basic_auth(filters: &Table<'_>, place: Place<'_>) -> Option<BasicAuth> {
    let table = filters.table("basic_auth")?;
    let scope = read_scope(&table);
    let realm = table.parsed("realm", |text| {
        let is_plain = (1..=128).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte));
        is_plain
            .then(|| Arc::<str>::from(text))
            .ok_or("is no realm; write at most 128 characters without quotes")
    });
    let users = table.list("users", MAX_INLINE, |text| user(text).map(|_| Arc::<str>::from(text)));
    let file = read_file(&table, "file", place);
    if !table.has("users") && !table.has("file") {
        table.mistake_here("has no users, so nobody could ask; write users or file");
    }
    let consumer_header = table.parsed("consumer_header", told).unwrap_or_else(|| "X-Consumer".into());
    table.finish();
    let realm = realm.unwrap_or_else(|| "restricted".into());
    Some(BasicAuth { scope, realm, users: users.unwrap_or_default(), file, consumer_header })
}

/// Costs above it keep a thread busy for more than a second; the usual ones are 5 to 12.
const MAX_BCRYPT_COST: u32 = 14;

/// A line of htpasswd: name and bcrypt hash.
pub fn user(line: &str) -> Result<(&str, &str), String> {
    let wanted = "is no user; write the line that `htpasswd -nB NAME` prints";
    let (name, hash) = line.split_once(':').ok_or(wanted)?;
    word(name)?;
    let mut parts = hash.split('$').skip(1);
    let (version, cost, rest) = (parts.next(), parts.next(), parts.next());
    if !matches!(version, Some("2a" | "2b" | "2y")) {
        return Err(format!(
            "{name}: only bcrypt hashes are taken; write the line that `htpasswd -nB {name}` prints"
        ));
    }
    match cost.and_then(|cost| cost.parse().ok()) {
        Some(4..=MAX_BCRYPT_COST) if rest.is_some_and(|rest| rest.len() == 53) => Ok((name, hash)),
        Some(cost) if cost > MAX_BCRYPT_COST => {
            Err(format!("{name}: a cost of {cost} takes too long; write one of at most {MAX_BCRYPT_COST}"))
        }
        _ => Err(wanted.to_owned()),
    }
}

pub(super) fn read_jwt(filters: &Table<'_>, place: Place<'_>) -> Option<Jwt> {
    let table = filters.table("jwt")?;
    let scope = read_scope(&table);
    let header = table.parsed("header", told).map(TokenPlace::Header);
    let cookie = table.parsed("cookie", |name| {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_token_byte);
        is_name.then(|| TokenPlace::Cookie(name.into())).ok_or("is no cookie's name")
    });
    if table.has("header") && table.has("cookie") {
        table.mistake("cookie", "a token is looked for in one place; write header or cookie");
    }
    let keys = read_jwks(&table, place);
    let string = |key| table.parsed(key, short_text);
    let issuer = string("issuer");
    let audience = table.list("audience", MAX_CLAIMS, short_text).unwrap_or_default();
    table.refuse_empty("audience", "leave it out to take tokens for anybody");
    let leeway = table.duration("leeway", Duration::ZERO..=MAX_LEEWAY).unwrap_or(DEFAULT_LEEWAY);
    let consumer_claim = string("consumer_claim").unwrap_or_else(|| "sub".into());
    let claims = read_claims(&table);
    table.finish();
    let place = header.or(cookie).unwrap_or(TokenPlace::Bearer);
    Some(Jwt { scope, place, keys: keys?, issuer, audience, leeway, claims, consumer_claim })
}

fn short_text(text: &str) -> Result<Arc<str>, &'static str> {
    let is_short = (1..=1024).contains(&text.len()) && !text.contains(char::is_control);
    is_short.then(|| text.into()).ok_or("must be 1 to 1024 characters")
}

fn read_jwks(table: &Table<'_>, place: Place<'_>) -> Option<Jwks> {
    let inline = table.parsed("jwks", |text| {
        let fits = text.len() <= MAX_JWKS_BYTES;
        fits.then(|| Jwks::Inline(text.into()))
            .ok_or_else(|| format!("is longer than {MAX_JWKS_BYTES} bytes"))
    });
    let file = read_file(table, "jwks_file", place).map(Jwks::File);
    let refresh = table.duration("jwks_refresh", MIN_JWKS_REFRESH..=MAX_JWKS_REFRESH);
    let refresh = refresh.unwrap_or(DEFAULT_JWKS_REFRESH);
    let url = table.parsed("jwks_url", url).map(|url| Jwks::Url { url, refresh });
    let given = ["jwks", "jwks_file", "jwks_url"].into_iter().filter(|key| table.has(key)).count();
    if given != 1 {
        table.mistake_here("needs one source of keys; write jwks, jwks_file or jwks_url");
    }
    inline.or(file).or(url)
}

fn url(text: &str) -> Result<Arc<str>, String> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_url = text.len() <= 1024
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && rest.is_some_and(|rest| {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            !host.is_empty() && topology::normalize_host(host.as_bytes()).is_some()
        });
    is_url
        .then(|| text.into())
        .ok_or_else(|| format!("{text:?} is no URL; write https://id.example.com/.well-known/jwks.json"))
}

fn read_claims(jwt: &Table<'_>) -> Vec<Claim> {
    let Some(table) = jwt.table("claims") else { return Vec::new() };
    if table.names().len() > MAX_CLAIMS {
        table.mistake_here(format!("has {} claims; the limit is {MAX_CLAIMS}", table.names().len()));
    }
    let claim = |name| table.parsed(name, told).map(|header| Claim { name: name.into(), header });
    table.names().filter_map(claim).collect()
}

pub(super) fn read_forward_auth(filters: &Table<'_>) -> Option<ForwardAuth> {
    const MAX_COPIED: usize = 20;
    let table = filters.table("forward_auth")?;
    let scope = read_scope(&table);
    let app = table.required("app", table.parsed("app", AppId::parse), "app = \"auth\", the id of an app");
    let path = table.parsed("path", |text| {
        let is_path = text.starts_with('/')
            && text.len() <= 1024
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        is_path.then(|| Arc::<str>::from(text)).ok_or("is no path; write one such as /check")
    });
    let timeout = table.duration("timeout", MIN_AUTH_TIMEOUT..=MAX_AUTH_TIMEOUT);
    let copy = table.list("copy", MAX_COPIED, told).unwrap_or_default();
    table.finish();
    Some(ForwardAuth {
        scope,
        app: app?,
        path: path.unwrap_or_else(|| "/".into()),
        timeout: timeout.unwrap_or(DEFAULT_AUTH_TIMEOUT),
        copy,
    })
}

/// What contradicts itself among the filters that say who the client is.
pub(super) fn check(filters: &Table<'_>, read: &Filters) {
    let bears = read.jwt.as_ref().is_some_and(|jwt| jwt.place == TokenPlace::Bearer);
    if bears && read.basic_auth.is_some() {
        filters.mistake("jwt", "its token and basic_auth's password would both be in Authorization, which is there once; write header or cookie");
    }
}

/// Matches and limits look at a request before it is known who its client is: a field that only says so
/// afterwards would be whatever the client writes.
pub(super) fn check_heeded(spec: &Table<'_>, filters: &Table<'_>, read: &Filters, matches: &[RequestMatch]) {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let is_told = |name: &&str| read.told().any(|told| told.bytes().map(fold).eq(name.bytes().map(fold)));
    let why = |name: &str| {
        format!(
            "{name} is told to endpoints by a filter of this app that asks later who the client is, and is not heeded \
             before that; take another field"
        )
    };
    for limit in &read.rate_limits {
        let RateKey::Header(name) = &limit.key else { continue };
        if is_told(&&**name) {
            filters.mistake("rate_limits", format!("{}: header: {}", limit.name, why(name)));
        }
    }
    for one in matches {
        let named = one.conditions.iter().filter_map(|condition| match condition {
            Condition::Header(named) => Some(&*named.name),
            Condition::User(user) => match &user.id {
                UserId::Header(name) => Some(&**name),
                UserId::Cookie(_) => None,
            },
            _ => None,
        });
        named.filter(is_told).for_each(|name| spec.mistake("match", format!("{}: {}", one.name, why(name))));
    }
}
